"""The article of a page, told from what stands around it by features of its text blocks.

Resiliparse leaves out what markup names as navigation, but keeps teasers, captions, notices and
the lists of other articles that stand beside the text. Three features tell these (compare
Kohlschütter et al. 2010, "Boilerplate Detection using Shallow Text Features"):

- length: running text stands in long paragraphs, and nearly all of it in one element, so the
  smallest element that holds most of it is the article;
- path: what lies in an ``aside``, a link or a footer, or is named a comment or a caption, is beside
  the text;
- link density: a paragraph that is all link leads to another text.

A page that shows code or defines terms is documentation, where short pieces are what is said. It
is left alone.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from resiliparse.parse.html import HTMLTree

# On 91 pages of articles (tests/benchmarks/bench_html.py) F1 is 0.976 with these, 0.976 as well
# where five-fold cross-validation chooses them, and 0.961 with the worst of 54 choices.
_MOST = 0.7  # of the page's running text lies in the article; from 0.65 to 0.85: F1 -0.004 at most
_LONG = 80  # characters of a running paragraph; from 40 to 120: F1 -0.001 at most
# Of a paragraph's characters in links: it points elsewhere. 0.6: F1 -0.0005; left in: -0.004.
_LINKED = 0.8
_DENSE = 20  # characters for each child of an element with line breaks; less is a list or verse
_MIN_ARTICLE = 200  # characters of running text; pages of less are lists, forms and errors

# On 4 of the 91 pages, and on all of 186 pages of manuals but lists of contents and errors.
_CODE = "pre, code, tt, kbd, samp, dl"
_BESIDE = 'aside, [class*="caption" i]'  # left in: F1 -0.010
_NO_ARTICLE = frozenset({"a", "aside", "footer", "nav"})  # their paragraphs are no running text
_COMMENTS = ", ".join(
    f'[{name}*="comment" i]:not([{name}*="commentary" i])' for name in ("class", "id")
)
# An article is much smaller than these, which keep a page made to be slow below a second.
_MAX_NODES = 20_000
_MAX_STEPS = 100_000  # from elements to their parents
_MAX_TEXT = 50_000_000  # characters; paragraphs in paragraphs would make any amount of them
_INLINE = ("#text", "a", "b", "em", "font", "i", "span", "strong")

# Typed as maybe absent by resiliparse, at every step through the elements of one body.
Node = Any


@dataclass(frozen=True, slots=True)
class Article:
    """Where the article of a page is, with the readers' comments of the page."""

    element: Node
    comments: Collection[Node]
    num_chars: int  # of running text

    def isolate(self) -> None:
        """Take everything but the article out of its page, and its names from it.

        By a name such as "comments-open" resiliparse would drop the article as comments.
        """
        node = self.element
        while node.tag != "body":
            _take_names(node)
            node.parent.replace_children(node)
            node = node.parent
        for element in (*self.comments, *self.element.query_selector_all(_BESIDE)[:]):
            _remove(element)
        for quote in self.element.query_selector_all("blockquote[class]")[:]:
            _take_names(quote)  # such as "twitter-tweet"
        for paragraph in self.element.query_selector_all("p")[:]:
            if _link_density(paragraph) >= _LINKED:
                _remove(paragraph)


def find_article(tree: HTMLTree) -> Article | None:
    """The smallest element with most of the running text; None where a page is no article."""
    body: Node = tree.body
    if body is None or body.query_selector(_CODE) is not None:
        return None
    return _smallest_with_most(_running_text(body), _comments(body))


def _comments(body: Node) -> dict[int, Node]:
    """What is named comments, by hash, less whole articles that are named as having some."""
    found = body.query_selector_all(_COMMENTS)[:]
    return {
        hash(node): node
        for node in found
        if node.tag not in ("article", "main") and node.query_selector("h1") is None
    }


def _running_text(body: Node) -> list[tuple[Node, int]]:
    """Elements with running text right inside them, and how many characters of it."""
    blocks = body.query_selector_all("p, br")
    if len(blocks) > _MAX_NODES:
        return []
    nodes: dict[int, Node] = {}
    lengths: dict[int, int] = defaultdict(int)
    broken: dict[int, Node] = {}
    seen = 0
    for block in blocks[:]:
        if block.tag == "br":
            parent = block.parent
            if parent.tag != "p":
                broken[hash(parent)] = parent
            continue
        length = len(block.text)
        seen += length
        if seen > _MAX_TEXT:
            return []
        if length >= _LONG and _link_density(block) < _LINKED:
            parent = block.parent
            key = hash(parent)
            nodes[key] = parent
            lengths[key] += length
    for key, parent in broken.items():  # paragraphs made with line breaks
        children = parent.child_nodes
        if len(children) > _MAX_NODES:
            return []
        if len(parent.text) < _DENSE * len(children):
            continue
        pieces = (len(c.text.strip()) for c in children[:] if c.tag in _INLINE)
        length = sum(piece for piece in pieces if piece >= _LONG)
        if length:
            nodes[key] = parent
            lengths[key] += length
    return [(nodes[key], length) for key, length in lengths.items()]


def _smallest_with_most(
    running: list[tuple[Node, int]], comments: dict[int, Node]
) -> Article | None:
    """The deepest element that holds most of the ``running`` text outside of ``comments``."""
    nodes: dict[int, Node] = {}
    lengths: dict[int, int] = defaultdict(int)
    depths: dict[int, int] = {}
    total = steps = 0
    for node, length in running:
        path = []
        while node is not None and node.tag != "html":
            path.append(node)
            node = node.parent
        steps += len(path)
        if steps > _MAX_STEPS:
            return None
        keys = [hash(node) for node in path]
        if not comments.keys().isdisjoint(keys) or any(n.tag in _NO_ARTICLE for n in path):
            continue
        total += length
        for depth, (key, node) in enumerate(zip(reversed(keys), reversed(path), strict=True)):
            nodes[key] = node
            depths[key] = depth
            lengths[key] += length
    if total < _MIN_ARTICLE:
        return None
    # More than half of the text lies in elements of one line of ancestors alone.
    key = max((k for k in nodes if lengths[k] >= _MOST * total), key=depths.__getitem__)
    return Article(nodes[key], comments.values(), lengths[key])


def _link_density(element: Node) -> float:
    """Share of the characters of ``element`` that lead off the page, 0..1; 0 where it is empty."""
    length = len(element.text.strip())
    links = element.query_selector_all('a:not([href^="#"])')[:]
    return sum(len(link.text.strip()) for link in links) / length if length else 0.0


def _take_names(node: Node) -> None:
    for name in ("class", "id"):
        if node.hasattr(name):
            node.delattr(name)


def _remove(node: Node) -> None:
    # Not ``decompose``, which frees nodes that another name may still stand for.
    if node.parent is not None:
        node.parent.remove_child(node)

"""HTML pages to text: which encoding, what is the main text, which title.

Three extractors. F1 of 4-shingles on 91 pages of articles, and speed there on one core as a
multiple of trafilatura's (tests/benchmarks/bench_html.py):

- ``resiliparse``: 0.927, 8 times. What markup does not name as navigation and the like.
- ``blocks``: 0.976, 6 times. The same, then the article by features of text blocks; what is no
  article is left to resiliparse.
- ``precise``: 0.973, 0.9 times. Trafilatura itself, where it finds text.
"""

import codecs
import re
from typing import Any, Literal

import numpy as np
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import ElementNode, HTMLTree

from datalake.licences import Finding, from_url
from datalake.transforms.html_blocks import find_article
from datalake.transforms.html_plain import Markup, is_all_main
from datalake.transforms.html_precise import precise_text
from datalake.transforms.normalise import normalise, without_addresses
from datalake.transforms.text import Text, Unreadable

Extractor = Literal["resiliparse", "blocks", "precise"]

# Finding the main content takes about tags x depth x 0.2 microseconds; two seconds are enough.
_MAX_SEARCHED = 10_000_000
# Where list items and definitions hold each other, parsing takes depth squared: 0.3 s here,
# minutes at a million. Nothing that a person reads comes near it.
_MAX_DEPTH = 20_000

# So many characters of running text in one element (300 words, three quarters of the pages of
# articles) are an article. Fewer may be the only paragraph of a page of another kind: they are
# taken for its article where they hold at least half of the main text.
_SURE = 2000
_MIN_SHARE = 0.5

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w\-:.]+)", re.IGNORECASE)
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"))
_BLANK_LINES = re.compile(r"\n\n\n+")
_RAW_TEXT = re.compile(rb"<(script|style)\b.*?(?:</\1|\Z)", re.IGNORECASE | re.DOTALL)
_NESTING_TAG = re.compile(
    rb"<(/?)(?!(?:area|base|br|col|embed|hr|img|input|link|meta|p|source"
    rb"|t(?:body|d|foot|h|head|r)|track|wbr)\b)[a-z]",
    re.IGNORECASE,
)


def _nests() -> np.ndarray:
    """Of every two first bytes of a name, in lower case: whether some tag that nests has them."""
    nests = np.ones(1 << 16, np.int8)
    for name in ("br", "hr", "im", "tb", "td", "tf", "th", "tr", "wb", "p>", "p ", "p/", *_P):
        nests[ord(name[0]) | ord(name[1]) << 8] = 0
    return nests


_P = [f"p{chr(ord(space) | 0x20)}" for space in "\t\n\f\r"]  # as they come out of the lower case
_NESTS = _nests()


class NestingError(Unreadable):
    """Markup nested so deep that it cannot be parsed in reasonable time."""


def read_page(payload: bytes, content_type: str | None, extractor: Extractor = "blocks") -> Text:
    """The main text of a page, normalised, without volatile addresses.

    Language and licence are what the page says of itself. A page that would take seconds to search
    for its main part is taken whole, whatever the extractor. Raises NestingError, and Refusal
    where ``precise`` is asked for and trafilatura is not installed.
    """
    html, encoding = decode_html(payload, content_type)
    markup = Markup(html)
    num_tags, depth = _size(markup)
    tree = HTMLTree.parse(html)
    # Before the article is isolated: these stand outside of it.
    title = _title(tree)
    licence = _licence(tree) if "license" in html else None
    root = tree.document.query_selector("html") if tree.document else None
    language = root.getattr("lang") if root else None
    if num_tags * depth > _MAX_SEARCHED:
        text = _plain_text(tree, search=False)
    else:
        text = (precise_text(html) or "") if extractor == "precise" else ""
        if not text:
            read = _article_text if extractor == "blocks" else _main_text
            search = not is_all_main(tree, markup)
            text = read(tree, search, search and b"<ul" in markup.source)
    return Text(
        title=title,
        text=_tidy(without_addresses(normalise(text))),
        encoding=encoding,
        language=language,
        licence=licence,
    )


def parse_page(payload: bytes, content_type: str | None) -> tuple[HTMLTree, str]:
    """The elements of a page and the encoding it was read with. Raises NestingError."""
    html, encoding = decode_html(payload, content_type)
    _size(Markup(html))
    return HTMLTree.parse(html), encoding


def decode_html(payload: bytes, content_type: str | None) -> tuple[str, str]:
    """HTML as text, and the encoding it was read with, by Python's name.

    A byte order mark wins, then the header, then ``meta``, then detection (WHATWG Encoding and
    HTML standards). A declared encoding that does not fit the bytes is not believed.
    """
    for mark, encoding in _BOMS:
        if payload.startswith(mark):
            return payload[len(mark) :].decode(encoding, "replace"), encoding
    declared = _CHARSET.search(content_type or "")
    for name in (declared[1] if declared else None, detect_encoding(payload, from_html_meta=True)):
        known = map_encoding_to_html5(name, fallback_utf8=False) if name else None
        if known is None:
            continue
        try:
            return payload.decode(known), codecs.lookup(known).name
        except (UnicodeDecodeError, LookupError):
            continue
    guess = detect_encoding(payload) or "windows-1252"
    return bytes_to_str(payload, guess, errors="replace", fallback_encodings=()), guess


def select(tree: HTMLTree, selector: str) -> list[ElementNode]:
    """Elements that match a CSS ``selector``, in document order."""
    # A slice, since stepping through a collection of resiliparse 2.0 wraps all of it at each step:
    # 600 links take 1.8 s, and 0.01 s so.
    return list(tree.document.query_selector_all(selector)[:]) if tree.document else []


def _main_text(tree: HTMLTree, search: bool, lists: bool) -> str:
    """What resiliparse takes for the main text, with its ``lists`` wherever they stand.

    It drops every ``ul`` that is less than three elements deep as navigation, so a plainly written
    page would lose its lists. What is named navigation it drops at any depth: F1 falls by 0.0004.
    """
    body: Any = tree.body if lists else None
    if body is not None and (content := body.child_nodes[:]):
        for _ in range(3):
            wrapper: Any = tree.create_element("div")
            wrapper.append(*content)
            content = [wrapper]
        body.append(*content)
    return _plain_text(tree, search)


def _article_text(tree: HTMLTree, search: bool, lists: bool) -> str:
    """The main text, and of that only the article where the page has one."""
    article = find_article(tree)
    if article is None:
        return _main_text(tree, search, lists)
    sure = article.num_chars >= _SURE
    everything = "" if sure else _plain_text(tree, search)
    article.isolate()
    text = _main_text(tree, search, lists)
    return text if len(text) >= _MIN_SHARE * len(everything) else everything


def _plain_text(tree: HTMLTree, search: bool) -> str:
    """Text with the options that were measured to be best: each one left out costs F1."""
    return extract_plain_text(
        tree,
        main_content=search,
        alt_texts=False,
        list_bullets=False,
        comments=False,
        post_meta=False,
    )


def _tidy(text: str) -> str:
    """``text`` without blanks at the ends of lines and without gaps of more than a line."""
    if " \n" in text or "\t\n" in text:
        text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", text).strip()


def _title(tree: HTMLTree) -> str:
    title = normalise(tree.title or "")
    if not title.strip():
        headings = select(tree, "h1")
        title = normalise((headings[0].text if headings else None) or "")
    return " ".join(title.split())


def _licence(tree: HTMLTree) -> Finding | None:
    """The licence that a page links as its own (the ``license`` link type of HTML)."""
    for link in select(tree, '[rel~="license"][href]'):
        if (licence := from_url(link.getattr("href") or "")) is not None:
            return Finding(licence, "link rel=license in the page", 1.0)
    return None


def _size(markup: Markup) -> tuple[int, int]:
    """How many tags a page has, and a bound on the depth of its elements. Raises NestingError.

    The bound is the most start tags ahead of end tags at any place, without ``br`` and its like,
    and without ``p`` or ``td``, which the next of their kind closes: these add a few levels at
    most. A first count knows tags by two letters, which will do for nearly all pages.
    """
    num_tags = len(markup.tags)
    if num_tags * num_tags <= _MAX_SEARCHED:  # flat enough even if nothing is closed
        return num_tags, num_tags
    depth = _highest(_steps(markup.data, markup.tags))
    if depth > _MAX_DEPTH or depth * num_tags > _MAX_SEARCHED:
        ends = _NESTING_TAG.findall(_RAW_TEXT.sub(b"", markup.source))
        depth = _highest(np.array([-1 if end else 1 for end in ends], dtype=np.int64))
    if depth > _MAX_DEPTH:
        raise NestingError(f"nested deeper than {_MAX_DEPTH} elements")
    return num_tags, depth


def _steps(data: np.ndarray, at: np.ndarray) -> np.ndarray:
    """What each ``<`` adds to the depth, -1, 0 or 1, by the two bytes of the name after it."""
    one, two, three = (data[at + k] for k in (1, 2, 3))
    is_end = one == ord("/")
    first, second = np.where(is_end, two, one), np.where(is_end, three, two) | 0x20
    is_name = (first >= ord("a")) & (first <= ord("z"))
    nests = _NESTS[first.astype(np.uint16) | second.astype(np.uint16) << 8]
    return np.where(is_end, -1, 1).astype(np.int8) * (nests & is_name)


def _highest(steps: np.ndarray) -> int:
    return int(np.cumsum(steps, dtype=np.int64).max(initial=0))

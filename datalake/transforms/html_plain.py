"""Pages on which a search for the main part would find all of the page to be it.

Resiliparse drops elements by their tags, attributes and names, ``div`` elements that are mostly
links, and stray symbols. To find them takes twice as long as to parse the page and to write its
text, since it tries twenty patterns on the names of every element. Documentation that programs
write often holds nothing of the kind, and then its text is that of the whole page.

So what could be dropped is looked for in the source, by conditions that are wider than those of
resiliparse 2.0. What is unusual counts as something that could be dropped.

Resiliparse drops one thing by mistake: a text of a letter and a space that does not break, which it
takes for the symbol of an icon font, having three bytes. Such a page, taken whole, keeps it.
"""

import re
from functools import lru_cache

import numpy as np
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

_BEFORE, _AFTER = b">" * 8, b"<" * 8  # so that one may look at what stands beside any place

_SPACES = b"\t\n\x0b\x0c\r "
_DROPPED_TAG = re.compile(rb"<(?:article|aside|audio|footer|nav|time|ul|video)\b")
_FLAG = re.compile(rb"hidden[\s/>=]")  # of any value, or none, and aria-hidden as well
_AD = re.compile(rb"-ad(?:vertisement)?[\s/>=]")  # data-ad, data-text-ad
_VALUE = re.compile(rb"\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]*)(?=[\s>]))")
_DROPPED_LINKS = re.compile(rb"author|icon|search|prev|next|tag")  # link types, in ``rel``
_INVISIBLE = re.compile(rb"none|hidden")
_NAME = re.compile(rb"[a-z0-9_\s-]{0,100}")
_ENTITY = re.compile(rb"&(?:lt|gt|amp|quot|apos|#39|#x27|#34);")

_MAX_NAMES = 50  # on one page: trying one takes a thousandth of the time of an average page
_MAX_SPACED = 1000  # equal signs after a space, which are looked at one by one


def _table(*pairs: bytes) -> np.ndarray:
    """Of every two bytes, first + 256 x second: whether they are among ``pairs``."""
    table = np.zeros(1 << 16, bool)
    table[[first | second << 8 for first, second in pairs]] = True
    return table


_TAG_STARTS = _table(b"ar", b"as", b"au", b"fo", b"na", b"ti", b"ul", b"vi")
_NAME_ENDS = _table(
    *(b"ss", b"id", b"le", b"el", b"op", b"ed"),
    *(bytes((first, space)) for first in range(256) for space in _SPACES),
)
_NBSP = int.from_bytes(b"&nbsp;", "little")
_SIX_BYTES = (1 << 48) - 1
_CLASS = int.from_bytes(b"class", "little")


class Markup:
    """The source of a page in lower case, and where its tags may begin."""

    def __init__(self, html: str) -> None:
        self.source = b"".join((_BEFORE, html.encode("utf-8", "replace").lower(), _AFTER))
        self.data = np.frombuffer(self.source, np.uint8)
        self.tags = np.flatnonzero(self.data[: -len(_AFTER)] == ord("<"))

    def windows(self, num_bytes: int) -> np.ndarray:
        """Unsigned integers of so many bytes that begin at each byte, the first byte lowest."""
        length = len(self.source) - num_bytes + 1
        return np.ndarray((length,), f"<u{num_bytes}", self.source, strides=(1,))


def is_all_main(tree: HTMLTree, markup: Markup) -> bool:
    """Whether a search for the main text of a page would find all of its text."""
    return tree.body is not None and _may_be_all_main(markup) and not _has_deep_links(tree)


def _may_be_all_main(markup: Markup) -> bool:
    source = markup.source
    return (
        source.isascii()
        and b"\0" not in source
        and not _has_other_entities(markup)
        and not _has_dropped_tags(markup)
        and not _FLAG.search(source)
        and not _AD.search(source)
        and not _has_dropped_names(markup)
    )


def _has_dropped_tags(markup: Markup) -> bool:
    tags = markup.tags[_TAG_STARTS[markup.windows(2)[markup.tags + 1]]]
    return any(_DROPPED_TAG.match(markup.source, at) for at in tags.tolist())


def _has_other_entities(markup: Markup) -> bool:
    """Whether some character is written that may be a symbol, such as a pilcrow."""
    at = np.flatnonzero(markup.data == ord("&"))
    others = at[markup.windows(8)[at] & _SIX_BYTES != _NBSP]
    return not all(_ENTITY.match(markup.source, place) for place in others.tolist())


def _has_dropped_names(markup: Markup) -> bool:
    """Whether some attribute may have a value for which an element is dropped.

    Every place where an equal sign follows the name of an attribute is taken for that attribute:
    text, scripts and values of others among them.
    """
    source, data = markup.source, markup.data
    at = np.flatnonzero(data == ord("="))
    at = at[_NAME_ENDS[markup.windows(2)[at - 2]]]
    is_plain = (markup.windows(8)[at - 8] >> 24 == _CLASS) & (data[at + 1] == ord('"'))
    find = source.find
    names = {source[n + 2 : find(b'"', n + 2)] for n in at[is_plain].tolist()}
    others = at[~is_plain].tolist()
    if len(others) > _MAX_SPACED:
        return True
    for place in others:
        attribute = source[max(0, place - 50) : place].rstrip(_SPACES)
        if not attribute or attribute.endswith((b"role", b"itemprop", b"aria-expanded")):
            return True
        if not attribute.endswith((b"class", b"id", b"rel", b"style")):
            continue
        found = _VALUE.match(source, place + 1)
        if found is None:
            return True
        value = found[found.lastindex or 0]
        if attribute.endswith((b"class", b"id")):
            names.add(value)
            continue
        dropped = _INVISIBLE if attribute.endswith(b"style") else _DROPPED_LINKS
        if b"&" in value or dropped.search(value):
            return True
    return len(names) > _MAX_NAMES or not all(map(_is_kept, names))


@lru_cache(maxsize=1 << 14)
def _is_kept(name: bytes) -> bool:
    """Whether an element stays that has ``name``, in lower case, as its class or identifier.

    Resiliparse itself tells, by a ``div`` three deep, to which all its patterns are applied. It
    applies them to class and identifier together as well, but none goes over a space. Without a
    doctype, letters of both cases are equal.
    """
    if not _NAME.fullmatch(name):
        return False
    page = '<p>1</p><div><div><div class="{0}"><div id="{0}">2</div></div></div></div>'
    text = extract_plain_text(
        HTMLTree.parse(page.format(name.decode())),
        main_content=True,
        comments=False,
        post_meta=False,
    )
    return text.split() == ["1", "2"]


def _has_deep_links(tree: HTMLTree) -> bool:
    """Whether a link lies in a ``div`` that is three or more elements deep in the body."""
    return tree.body is None or tree.body.query_selector("body * * div a") is not None

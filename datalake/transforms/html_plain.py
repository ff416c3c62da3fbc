"""Pages on which a search for the main part would find all of the page to be it.

Resiliparse drops elements by their tags, attributes and names, ``div`` elements that are mostly
links, and stray symbols. To find them takes twice as long as to parse the page and to write its
text, since it tries twenty patterns on the names of every element. Documentation that programs
write often holds nothing of the kind, and then its text is that of the whole page.

So what could be dropped is looked for in the source, by conditions that are wider than those of
resiliparse 2.0. What is unusual counts as something that could be dropped.

One thing is dropped on long pages of documentation as well: text of three bytes whose last is not
ASCII, since it could be a symbol of an icon font. One letter before a space that does not break is
such text. These are marked before the page is parsed, so that they can be left out.
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
_ENTITY = re.compile(rb"&(?:nbsp|lt|gt|amp|quot|apos|#39|#x27|#34);")
_SYMBOL = re.compile(rb"\s*(?:[^\s&]|&(?!nbsp;)[^;&\s]+;)&nbsp;\s*")
_SYMBOL_TAG = "tarn-symbol"

_MAX_NAMES = 50  # on one page: trying one takes a thousandth of the time of an average page
_MAX_SYMBOL = 20  # bytes, of an entity and of some spaces
_MAX_CHAIN = 8  # tags one after the other
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
_IS_SPACE = np.isin(np.arange(256), list(_SPACES))

_NBSP = int.from_bytes(b"&nbsp;", "little")
_BR = int.from_bytes(b"<br>", "little")  # which a parser never overlooks
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


def parse(html: str, markup: Markup) -> tuple[HTMLTree, list[str] | None]:
    """The elements of a page, and the names of those that alone are not main text.

    None instead of names where it has to be searched. Names are of elements that were put around
    text that resiliparse would drop.
    """
    symbols = _symbols(markup) if _may_be_all_main(markup) else None
    if symbols is None:
        return HTMLTree.parse(html), None
    tree = HTMLTree.parse(_marked(html, symbols))
    if tree.body is not None and _are_apart(tree, len(symbols)) and not _has_deep_links(tree):
        return tree, [_SYMBOL_TAG] if symbols else []
    return HTMLTree.parse(html) if symbols else tree, None


def _may_be_all_main(markup: Markup) -> bool:
    source = markup.source
    return (
        source.isascii()
        and b"\0" not in source
        and not _has_dropped_tags(markup)
        and not _FLAG.search(source)
        and not _AD.search(source)
        and not _has_dropped_names(markup)
    )


def _has_dropped_tags(markup: Markup) -> bool:
    tags = markup.tags[_TAG_STARTS[markup.windows(2)[markup.tags + 1]]]
    return any(_DROPPED_TAG.match(markup.source, at) for at in tags.tolist())


def _symbols(markup: Markup) -> list[tuple[int, int]] | None:
    """Where texts begin and end that are a letter and a space that does not break.

    None where it cannot be told: other characters that are not ASCII, brackets that do not
    enclose tags, or a letter and a space with only tags between, which a parser may overlook.
    """
    source, data, tags = markup.source, markup.data, markup.tags
    entities = np.flatnonzero(data == ord("&"))
    is_nbsp = markup.windows(8)[entities] & _SIX_BYTES == _NBSP
    if not all(_ENTITY.match(source, at) for at in entities[~is_nbsp].tolist()):
        return None
    spaces = entities[is_nbsp]
    follows = data[spaces + 6]
    spaces = spaces[_IS_SPACE[follows] | (follows == ord("<"))]  # at the end of their texts
    ends = np.flatnonzero(data[len(_BEFORE) :] == ord(">")) + len(_BEFORE)
    if len(ends) != len(tags) or (ends < tags).any() or (ends[:-1] > tags[1:]).any():
        return None
    # Of each such space, the tag before it: its text begins where that tag ends.
    before = np.searchsorted(tags, spaces) - 1
    if len(before) and before[0] < 0:
        return None
    starts = ends[before] + 1
    before = before[starts == spaces]
    for _ in range(_MAX_CHAIN):
        before = before[markup.windows(4)[tags[before]] != _BR]
        at = tags[before]
        one, two = data[at - 1], data[at - 2]
        is_letter = ~_IS_SPACE[one] & (one != ord(">"))
        is_alone = _IS_SPACE[two] | (two == ord(">"))
        is_entity = (one == ord(";")) & (markup.windows(8)[at - 8] >> 16 != _NBSP)
        if (is_letter & is_alone | is_entity).any():
            return None
        before = before[one == ord(">")] - 1
        before = before[before >= 0]
        if not len(before):
            break
    else:
        return None
    is_short = _IS_SPACE[data[starts]] | (spaces - starts <= _MAX_SYMBOL)
    found = {}
    for start, space in zip(starts[is_short].tolist(), spaces[is_short].tolist(), strict=True):
        if start < space:
            end = source.index(b"<", space)
            if _SYMBOL.fullmatch(source, start, end):
                found[start] = end
    return list(found.items())


def _marked(html: str, symbols: list[tuple[int, int]]) -> str:
    pieces, done = [], 0
    for start, end in ((s - len(_BEFORE), e - len(_BEFORE)) for s, e in symbols):
        pieces += [html[done:start], f"<{_SYMBOL_TAG}>", html[start:end], f"</{_SYMBOL_TAG}>"]
        done = end
    return "".join((*pieces, html[done:]))


def _are_apart(tree: HTMLTree, num_symbols: int) -> bool:
    """Whether every symbol has become an element, and would be a text of its own without it."""
    if not num_symbols:
        return True
    found = tree.body.get_elements_by_tag_name(_SYMBOL_TAG) if tree.body else []
    return len(found) == num_symbols and all(
        beside is None or beside.tag != "#text"
        for element in found[:]
        for beside in (element.prev, element.next)
    )


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

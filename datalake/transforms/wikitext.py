r"""Wikitext to text: sentences, headings, lists and formulas; no boxes, tables, notes or files.

In the order in which MediaWiki itself works: what extensions own (``<ref>``, ``<nowiki>``,
``<math>``) is taken out of the text first, then come tables and HTML tags, and what is left,
templates, links, lists and headings, is parsed. Marks of ASCII's control characters, which
wikitext cannot hold, travel in the text until it is put together.
"""

import html
import re
from typing import Any

from datalake.transforms.normalise import normalise
from datalake.transforms.text import Text, Unreadable
from datalake.transforms.wikitext_names import (
    CATEGORY_PREFIXES,
    END_SECTIONS,
    FILE_PREFIXES,
    NO_LANGUAGES,
)
from datalake.transforms.wikitext_templates import Arguments, words_of

MAX_BYTES = 4 << 20  # twice MediaWiki's own $wgMaxArticleSize
_MAX_DEPTH = 40  # the parser goes no deeper: it takes what is below for plain text
# Each opening that nothing closes makes the parser read the rest of the page once more, and the
# openings in it too: measured, n of them in L characters take 0.7 n² + 0.006 n L microseconds.
_MAX_UNCLOSED = 1000
_MAX_REREAD = 100_000_000  # characters
# Templates, links, items, entities and so on that are left to parse, at 20 to 120 microseconds
# each: a few seconds, and several times what the longest articles have.
_MAX_MARKS = 50_000

_HELD, _LIST, _GONE, _SUP, _SUP_END, _HEADING = "\x01", "\x02", "\x03", "\x04", "\x05", "\x06"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DROPPED_TAGS = _words(
    "ref references gallery timeline imagemap score graph mapframe maplink templatedata "
    "templatestyles style script hiero inputbox categorytree indicator section includeonly "
    "charinsert phonos dynamicpagelist rss"
)
_VERBATIM_TAGS = _words("nowiki pre syntaxhighlight source math ce chem")
_OWNED = re.compile(
    rf"<!--|<({'|'.join(sorted(_DROPPED_TAGS | _VERBATIM_TAGS))})(?=[\s/>])([^<>]*?)(/?)>",
    re.IGNORECASE,
)
_LINE_TAGS = _words(
    "p div blockquote center br hr dl dd dt ul ol h1 h2 h3 h4 h5 h6 poem tr caption"
)
_TAGS = _LINE_TAGS | _words(
    "a abbr b bdi bdo big cite code data del dfn em font i ins kbd li mark noinclude nowiki "
    "onlyinclude q rb rp rt rtc ruby s samp small span strike strong sub sup table tbody td th "
    "thead time tt u var wbr ref references math pre templatestyles section"
)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)(?=[\s/>])[^<>]*>|<")
_HIDDEN = re.compile(r"<(span|div)\b[^<>]*display\s*:\s*none[^<>]*>[^<]*</\1\s*>", re.IGNORECASE)
_TABLE = re.compile(
    r"(?P<open>^[ \t:*#]*\{\||<table\b[^<>]*>)"
    r"|(?P<close>^[ \t]*\|\}(?!\}(?!\}))|</table\s*>)"
    r"|(?P<heading>^==)",
    re.MULTILINE | re.IGNORECASE,
)
_VARIANT = re.compile(r"-\{([^{}\n]*)\}-")
_BRACKET = re.compile(r"\{\{|\}\}|\[\[|\]\]|\[(?=[a-zA-Z]*:?//)|\]|\n")
_MARKS = re.compile(r"\{\{|\[|&|//|^(?:[*#:;]|={1,6}|----)|(?<=[*#:;])[*#:;]", re.MULTILINE)
_QUOTES = re.compile(r"'{2,}")
_MAGIC = re.compile(
    r"__(?:(?:FORCE|NO)?TOC|NO(?:EDITSECTION|NEWSECTIONLINK|GALLERY|INDEX|GLOBAL|CC|TC"
    r"|CONTENTCONVERT|TITLECONVERT)|NEWSECTIONLINK|HIDDENCAT|INDEX|STATICREDIRECT|DISAMBIG"
    r"|EXPECTUNUSEDCATEGORY|EXPECTED_UNCONNECTED_PAGE|ARCHIVEDTALK|NOTALK)__"
)
_OTHER_MAGIC = re.compile(r"^__[^\W\da-z]+__[ \t]*$", re.MULTILINE)  # in other languages
_MEDIA = re.compile(
    r"\.(jpe?g|png|svg|gif|tiff?|webp|og[agv]|webm|mp[34]|wav|flac|midi?|pdf|djvu|stl)$",
    re.IGNORECASE,
)
_LANGUAGE = re.compile(r"[a-z]{2,3}|simple|[a-z]{2,6}(?:-[a-z]{2,5}){1,2}")
_NAMES = ("pagename", "fullpagename", "basepagename", "subpagename", "pagenamee", "title")

_POWER = re.compile(f"{_SUP}([^{_SUP}{_SUP_END}\n]*){_SUP_END}")
_INNERMOST = re.compile(r"([ \t]?[(（])([^()（）\n]*)([)）])")
_SAYS = re.compile(rf"[^\W_]|{_HELD}|[^\s\x00-\x7f–—]")  # a word, a formula, a sign
_DEBRIS = re.compile(r"\s*(\{\||\||\}\}|\{\{)")  # of tables and templates that nothing closes
_MARKER = re.compile(rf"\s*((?:{_LIST}[*#:;]\s*)+)")
_ITEM = re.compile(rf"{_LIST}[*#:;]")


def read_wikitext(payload: bytes, title: str) -> Text:
    """The text of a page ``title``, as a reader would read it out.

    Headings are lines of their own, items of lists begin with ``-``, formulas are LaTeX between
    dollars. Raises Unreadable for what is too long, or nested or unclosed beyond measure.
    """
    import mwparserfromhell

    if len(payload) > MAX_BYTES:
        raise Unreadable(f"longer than {MAX_BYTES} bytes")
    held: list[str] = []
    source = _without_tables(_without_owned(normalise(payload.decode(errors="replace")), held))
    source = _VARIANT.sub(_first_variant, _TAG.sub(_plain_tag, _HIDDEN.sub("", source)))
    _check(source)
    title = " ".join(normalise(title).split())
    code = mwparserfromhell.parse(source, skip_style_tags=True)
    text = _put_together(_sections(_tidy(_Reader(title).read(code)).split("\n")))
    text = re.sub(f"{_HELD}(\\d+){_HELD}", lambda match: held[int(match[1])], text)
    return Text(text=normalise(text).strip(), title=title)


def _without_owned(source: str, held: list[str]) -> str:
    """``source`` without comments and what extensions drop; what they show as it is goes to
    ``held``."""
    kept, at = [], 0
    never_closed: set[str] = set()  # else each of many openings would search to the end
    while (match := _OWNED.search(source, at)) is not None:
        kept.append(source[at : match.start()])
        at = match.end()
        name = (match[1] or "").lower()
        if not name:  # a comment
            end = source.find("-->", at)
            at = end + 3 if end >= 0 else len(source)
            continue
        if match[3]:
            kept.append(_GONE if name == "ref" else "")
            continue
        close = None
        if name not in never_closed:
            close = re.compile(rf"</{name}\s*>", re.IGNORECASE).search(source, at)
        if close is None:
            never_closed.add(name)
            if name == "ref":  # what it holds is no sentence
                end = source.find("\n", at)
                at = end if end >= 0 else len(source)
            continue
        if name in _VERBATIM_TAGS:
            held.append(_shown(name, source[at : close.start()], match[2]))
            mark = f"{_HELD}{len(held) - 1}{_HELD}" if held[-1] else ""
            kept.append(f"\n{mark}\n" if mark and _is_block(name, match[2]) else mark)
        else:
            kept.append(_GONE)
        at = close.end()
    return "".join((*kept, source[at:]))


def _is_block(name: str, attributes: str) -> bool:
    highlights = name in ("syntaxhighlight", "source")
    return name == "pre" or (highlights and not re.search(r"\binline\b", attributes))


def _shown(name: str, content: str, attributes: str) -> str:
    """What a reader sees of a tag whose content is not parsed."""
    if name == "nowiki":
        return html.unescape(content)
    if name == "pre":
        content = re.sub(r"</?nowiki\s*/?>", "", content, flags=re.IGNORECASE)
        return html.unescape(content).strip("\n")
    if name in ("syntaxhighlight", "source"):
        return content.strip("\n")
    formula = " ".join(content.split())
    if not formula:
        return ""
    if name in ("ce", "chem"):
        formula = rf"\ce{{{formula}}}"
    return f"$${formula}$$" if re.search(r"display\s*=\W*block", attributes) else f"${formula}$"


def _without_tables(source: str) -> str:
    """``source`` without tables of both kinds; one that nothing closes ends at the next heading."""
    kept, at, depth = [], 0, 0
    for match in _TABLE.finditer(source):
        if match["open"]:
            if depth == 0:
                kept.append(source[at : match.start()])
            depth += 1
        elif depth and match["close"]:
            depth -= 1
            at = match.end()
        elif depth:
            depth, at = 0, match.start()
    return "".join((*kept, source[at:] if depth == 0 else ""))


def _plain_tag(match: re.Match[str]) -> str:
    """What takes the place of an HTML tag. An angle that opens none is a character."""
    name = (match[2] or "").lower()
    if name not in _TAGS:
        return "&lt;" + match[0][1:]
    if name in ("sup", "sub"):
        return "" if name == "sub" else _SUP_END if match[1] else _SUP
    if name == "li" and not match[1]:
        return "\n* "
    return "\n" if name in _LINE_TAGS else ""


def _first_variant(match: re.Match[str]) -> str:
    """What ``-{zh-cn:one;zh-tw:other}-`` shows to a reader without a preference: the first."""
    flags, _, rest = match[1].rpartition("|")
    if set(flags) & set("HT-"):
        return ""
    first = rest.split(";")[0]
    return first.partition(":")[2] if re.match(r"\s*zh[a-z-]*:", first) else rest


def _check(source: str) -> None:
    """Refuse what would keep the parser busy for more than seconds."""
    if sum(1 for _ in _MARKS.finditer(source)) > _MAX_MARKS:
        raise Unreadable("too much markup")
    depth = {"{{": 0, "[[": 0, "[": 0}
    opening = {"}}": "{{", "]]": "[[", "]": "["}
    unclosed = 0
    for match in _BRACKET.finditer(source):
        token = match[0]
        if token in depth:
            depth[token] += 1
            unclosed += depth["{{"] + depth["[["] > _MAX_DEPTH
        elif token == "\n":  # no address goes over it
            unclosed += depth["["]
            depth["["] = 0
        elif depth[opening[token]]:
            depth[opening[token]] -= 1
    unclosed += sum(depth.values())
    if unclosed > _MAX_UNCLOSED or unclosed * len(source) > _MAX_REREAD:
        raise Unreadable("nested or unclosed markup")


class _Reader:
    """Reads out what the parser found on one page."""

    def __init__(self, title: str) -> None:
        self._title = title

    def read(self, code: Any) -> str:
        return "".join(map(self._node, code.nodes))

    def _node(self, node: Any) -> str:
        kind = type(node).__name__
        return getattr(self, f"_{kind.lower()}")(node)

    def _text(self, node: Any) -> str:
        text = node.value
        if "''" in text:
            # Two are italic, three bold, five both; what is more or between is a character.
            text = _QUOTES.sub(lambda m: "'" * {4: 1}.get(len(m[0]), max(0, len(m[0]) - 5)), text)
        return _OTHER_MAGIC.sub("", _MAGIC.sub("", text)) if "__" in text else text

    def _htmlentity(self, node: Any) -> str:
        return normalise(html.unescape(str(node)))

    def _comment(self, node: Any) -> str:
        return ""

    def _heading(self, node: Any) -> str:
        title = " ".join(self.read(node.title).split())
        return f"\n{_HEADING}{node.level}{title}\n"

    def _argument(self, node: Any) -> str:
        return self.read(node.default) if node.default is not None else ""

    def _tag(self, node: Any) -> str:
        if node.wiki_markup in ("*", "#", ":", ";"):
            return _LIST + node.wiki_markup
        if node.wiki_markup:  # a table, which holds no sentence, or a line
            return "\n"
        return self.read(node.contents) if node.contents else ""

    def _wikilink(self, node: Any) -> str:
        target = self.read(node.title).strip()
        shown = self.read(node.text) if node.text is not None else ""
        if not target.startswith(":"):
            prefix, colon, rest = target.partition(":")
            prefix = prefix.strip().lower().replace(" ", "_")
            if colon and (
                prefix in FILE_PREFIXES
                or prefix in CATEGORY_PREFIXES
                or (_MEDIA.search(rest) and prefix != "media")
                or (not shown and _LANGUAGE.fullmatch(prefix) and prefix not in NO_LANGUAGES)
            ):
                return _GONE
        if shown.strip():
            return shown.replace("\n", " ")
        return target.lstrip(":").lstrip("#").replace("\n", " ")

    def _externallink(self, node: Any) -> str:
        if node.title is not None:
            return self.read(node.title)
        return _GONE if node.brackets else str(node.url)

    def _template(self, node: Any) -> str:
        name = " ".join(self.read(node.name).replace("_", " ").replace(_GONE, "").split())
        function, colon, rest = name.partition(":")
        function = function.lower()
        if colon and function == "template":
            name = rest.strip()
        elif colon and not function.startswith("script"):
            return self._function(function, rest.strip())
        name = name.lower()
        if name in _NAMES:
            return self._title
        say = words_of(name)
        if say is None:
            return _GONE
        values = {str(param.name).strip(): param.value for param in node.params}
        return say(Arguments(values, self.read))

    def _function(self, name: str, operand: str) -> str:
        """The few parser functions that need no wiki."""
        if name in ("formatnum", "lc", "uc", "lcfirst", "ucfirst"):
            if name == "lc":
                return operand.lower()
            if name == "uc":
                return operand.upper()
            first, rest = operand[:1], operand[1:]
            return {"lcfirst": first.lower(), "ucfirst": first.upper()}.get(name, first) + rest
        return _GONE


def _tidy(text: str) -> str:
    """Close the gaps of what was dropped: ``Foo ( ; born 1950)`` becomes ``Foo (born 1950)``."""
    text = _POWER.sub(_power, text).replace(_SUP, "").replace(_SUP_END, "")
    if _GONE not in text:
        return text
    # One gap for many first, so that none of the next expressions can try them in every grouping.
    text = re.sub(rf"{_GONE}(?:[ \t]*{_GONE})+", _GONE, text)
    # A line that held nothing else was no line.
    text = re.sub(rf"^[ \t]*{_GONE}[ \t]*\n", "", text, flags=re.MULTILINE)
    for _ in range(3):  # parentheses in parentheses
        text = _INNERMOST.sub(_parenthesis, text)
    text = re.sub(rf"([(（])[\s;,:]*{_GONE}[\s;,:]*", r"\1", text)
    text = re.sub(rf"(?<![ \t])[ \t]*{_GONE}[ \t]*(?=[.,;:!?)\n]|\Z)", "", text)
    text = re.sub(rf"(?:(?<=[ \t])|^){_GONE}[ \t]+", "", text, flags=re.MULTILINE)
    return text.replace(_GONE, "")


def _power(match: re.Match[str]) -> str:
    shown = match[1].strip()
    return f"^{shown}" if re.fullmatch(r"[-+−–]?\d+", shown) else shown


def _parenthesis(match: re.Match[str]) -> str:
    """Parentheses without the parts that were dropped whole; none where nothing is left."""
    opening, inside, closing = match.groups()
    if _GONE not in inside:
        return match[0]
    first, *others = re.split(r"([;,])", inside)
    said = ""
    for separator, part in zip(["", *others[::2]], [first, *others[1::2]], strict=True):
        plain = " ".join(part.replace(_GONE, " ").split())
        if _SAYS.search(plain) or (plain and _GONE not in part):
            said += (f"{separator} " if said else "") + plain
    return f"{opening}{said}{closing}" if _SAYS.search(said) else ""


Section = tuple[int, str, list[str]]  # level, heading and lines; the lead has level 0


def _sections(lines: list[str]) -> list[Section]:
    """Every section that says something and is no end section, nor part of one."""
    sections: list[Section] = [(0, "", [])]
    ended_at: int | None = None  # level of the end section that we are in
    for line in lines:
        if line.startswith(_HEADING):
            level, heading = int(line[1]), line[2:]
            if ended_at is None or level <= ended_at:
                ended_at = level if heading.strip(" :").lower() in END_SECTIONS else None
                if ended_at is None:
                    sections.append((level, heading, []))
        elif ended_at is None and not _DEBRIS.match(line):
            sections[-1][2].extend(_line(line))
    kept: list[Section] = []
    for section in reversed(sections):
        if any(section[2]) or (kept and kept[-1][0] > section[0] > 0):
            kept.append(section)
    return kept[::-1]


def _line(line: str) -> list[str]:
    """A line with its list markers written out; an empty item is none."""
    if _LIST not in line:
        return [line.rstrip()]
    depth, kind = 0, ""
    if (marker := _MARKER.match(line)) is not None:
        marks = _ITEM.findall(marker[1])
        depth, kind, line = len(marks), marks[-1][-1], line[marker.end() :]
    # A mark inside a line stands between a term and its definition.
    said = ": ".join(filter(None, (part.strip() for part in _ITEM.split(line))))
    if not said:
        return []
    return ["  " * (depth - 1) + "- " + said if kind in ("*", "#") else said]


def _put_together(sections: list[Section]) -> str:
    parts = ("\n".join((heading, "", *lines)) for _, heading, lines in sections)
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(parts))

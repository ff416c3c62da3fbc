"""The text of OpenDocument's content.xml, for documents, sheets and slides (ISO/IEC 26300)."""

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from datalake.transforms.text import Unreadable

_OASIS = "{urn:oasis:names:tc:opendocument:xmlns:"
_OFFICE, _TEXT, _TABLE = _OASIS + "office:1.0}", _OASIS + "text:1.0}", _OASIS + "table:1.0}"
_DRAW, _PRESENTATION = _OASIS + "drawing:1.0}", _OASIS + "presentation:1.0}"
_DC = "{http://purl.org/dc/elements/1.1/}"
# Repetition is written as a number, of any size: empty cells and blanks fill a whole sheet so.
_MAX_REPEATED = 100
_LEFT_OUT = frozenset(
    (_OFFICE + "annotation", _TEXT + "tracked-changes", _TEXT + "note-citation")
    + (_OFFICE + "forms", _TEXT + "table-of-content", _TEXT + "alphabetical-index")
    + (_TEXT + "sequence-decls", _TABLE + "shapes")
)


def read_parts(content: bytes, meta: bytes | None) -> tuple[list[str], str, str, str]:
    """Pages, first heading, title and language. Raises Unreadable for entities, SyntaxError."""
    try:
        body = fromstring(content, forbid_dtd=True).find(_OFFICE + "body")
        said = fromstring(meta, forbid_dtd=True) if meta else None
    except DefusedXmlException as error:
        raise Unreadable("document type in XML") from error
    if body is None or not len(body):
        raise Unreadable("empty")
    title = said.findtext(f".//{_DC}title", "") if said is not None else ""
    language = said.findtext(f".//{_DC}language", "") if said is not None else ""
    kind = body[0]
    heading = kind.find(f".//{_TEXT}h")
    first = _inline(heading, []) if heading is not None else ""
    if kind.tag == _OFFICE + "presentation":
        return [_page(page) for page in kind.iter(_DRAW + "page")], first, title, language
    if kind.tag == _OFFICE + "spreadsheet":
        return [_sheet(sheet) for sheet in kind.iter(_TABLE + "table")], first, title, language
    notes: list[str] = []
    blocks = list(_blocks(kind, notes))
    blocks += [f"[{number}] {note}" for number, note in enumerate(notes, 1)]
    return ["\n\n".join(block for block in blocks if block)], first, title, language


def _page(page: Element) -> str:
    notes: list[str] = []
    blocks = [block for block in _blocks(page, notes) if block]
    return "\n\n".join(blocks + [note for note in notes if note])


def _sheet(sheet: Element) -> str:
    rows = "\n".join(_rows(sheet, []))
    return f"{sheet.get(_TABLE + 'name', '')}\n{rows}" if rows else ""


def _blocks(parent: Element, notes: list[str], listed: bool = False) -> Iterator[str]:
    for element in parent:
        if element.tag in _LEFT_OUT:
            continue
        if element.tag in (_TEXT + "p", _TEXT + "h"):
            text = _inline(element, notes).strip()
            yield f"- {text}" if listed and text else text
        elif element.tag == _TABLE + "table":
            yield "\n".join(_rows(element, notes))
        elif element.tag == _PRESENTATION + "notes":
            notes.append("\n".join(block for block in _blocks(element, []) if block))
        else:
            yield from _blocks(element, notes, listed or element.tag == _TEXT + "list-item")


def _rows(table: Element, notes: list[str]) -> Iterator[str]:
    """Rows with text; of repeated ones the first."""
    for row in table.iter(_TABLE + "table-row"):
        cells: list[str] = []
        for cell in row:
            if cell.tag not in (_TABLE + "table-cell", _TABLE + "covered-table-cell"):
                continue
            text = " ".join(" ".join(_blocks(cell, notes)).split())
            cells += [text] * _number(cell.get(_TABLE + "number-columns-repeated"))
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield " | ".join(cells)


def _inline(element: Element, notes: list[str]) -> str:
    """Text in a paragraph; a note leaves its number here and its text in ``notes``."""
    parts = [element.text or ""]
    for child in element:
        if child.tag == _TEXT + "s":
            parts.append(" " * _number(child.get(_TEXT + "c")))
        elif child.tag == _TEXT + "tab":
            parts.append("\t")
        elif child.tag == _TEXT + "line-break":
            parts.append("\n")
        elif child.tag == _TEXT + "note":
            note: list[str] = []
            notes.append(" ".join(" ".join(_blocks(child, note)).split()))
            parts.append(f"[{len(notes)}]")
        elif child.tag not in _LEFT_OUT:
            parts.append(_inline(child, notes))
        parts.append(child.tail or "")
    return "".join(parts)


def _number(said: Any) -> int:
    return min(int(said), _MAX_REPEATED) if said and said.isdecimal() else 1

"""The text of a word processor's document: its blocks in order, as with all changes accepted.

``python-docx`` opens the package and knows its parts; the paragraphs are walked here, since it
leaves out what stands in content controls, insertions and notes.
"""

import io
import re
from collections.abc import Iterator
from typing import Any

from docx import Document
from docx.oxml import parse_xml

_ROLES = re.compile(r"(heading|title|list|toc)\b")
_SAME = {"title": "heading"}
_LEFT_OUT = ("del", "moveFrom", "Fallback", "pPr", "rPr", "instrText", "delText")
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def read_blocks(payload: bytes) -> tuple[str, str, Any]:
    """Blocks with an empty line between, the first heading, and the core properties."""
    document = Document(io.BytesIO(payload))
    notes: dict[str, str] = {}
    for relation in document.part.rels.values():
        kind = relation.reltype.rsplit("/", 1)[-1]
        if kind in ("footnotes", "endnotes") and not relation.is_external:
            notes |= _notes(relation.target_part.blob, kind)
    reader = _Reader(_roles(document.styles.element), {key: n for n, key in enumerate(notes, 1)})
    blocks = list(reader.blocks(document.element.body))
    heading = next((text for text, is_heading in blocks if is_heading), "")
    texts = [text for text, _ in blocks if text]
    texts += [f"[{mark}] {note}" for mark, note in enumerate(notes.values(), 1)]
    return "\n\n".join(texts), heading, document.core_properties


def _notes(blob: bytes, kind: str) -> dict[str, str]:
    found = {}
    for note in parse_xml(blob):
        if note.get(_W + "type", "normal") == "normal":
            text = " ".join(_Reader({}, {}).paragraph(p) for p in note.iter(_W + "p"))
            found[f"{kind} {note.get(_W + 'id')}"] = " ".join(text.split())
    return found


def _roles(styles: Any) -> dict[str, str]:
    """What paragraphs of each style are: ``heading``, ``list``, ``toc``, or nothing of these.

    A style made from another one is what that is.
    """
    names, bases = {}, {}
    for style in styles.iterchildren(_W + "style"):
        key = style.get(_W + "styleId")
        name, base = style.find(_W + "name"), style.find(_W + "basedOn")
        names[key] = name.get(_W + "val", "").lower() if name is not None else ""
        bases[key] = base.get(_W + "val") if base is not None else None
    found = {}
    for key in names:
        at: str | None = key
        for _ in range(10):  # styles may be made from each other
            role = _ROLES.match(names.get(at or "", ""))
            if role is not None or at is None:
                break
            at = bases.get(at)
        found[key] = _SAME.get(role[1], role[1]) if role else ""
    return found


class _Reader:
    """Reads the elements of a document; notes are referred to by their number."""

    def __init__(self, roles: dict[str, str], marks: dict[str, int]) -> None:
        self._roles = roles
        self._marks = marks

    def blocks(self, parent: Any) -> Iterator[tuple[str, bool]]:
        """Text of every block, and whether it is a heading."""
        for element in parent.iterchildren():
            if element.tag == _W + "p":
                style = element.find(f"{_W}pPr/{_W}pStyle")
                role = self._roles.get(style.get(_W + "val"), "") if style is not None else ""
                listed = role == "list" or element.find(f"{_W}pPr/{_W}numPr") is not None
                text = self.paragraph(element).strip()
                if text and role != "toc":
                    is_heading = role == "heading"
                    yield (f"- {text}" if listed and not is_heading else text), is_heading
            elif element.tag == _W + "tbl":
                yield "\n".join(self.rows(element)), False
            elif element.tag == _W + "sdt":
                content = element.find(_W + "sdtContent")
                if content is not None:
                    yield from self.blocks(content)
            elif element.tag in (_W + "ins", _W + "customXml", _W + "moveTo"):
                yield from self.blocks(element)

    def rows(self, table: Any) -> Iterator[str]:
        """Rows with text. A table inside a cell is text of the cell."""
        for row in table.iterchildren(_W + "tr"):
            cells = [
                " ".join(" ".join(map(self.paragraph, _outer_paragraphs(cell))).split())
                for cell in row.iter(_W + "tc")
                if next(cell.iterancestors(_W + "tr")) is row
            ]
            if any(cells):
                yield " | ".join(cells)

    def paragraph(self, element: Any) -> str:
        parts: list[str] = []
        stack = list(reversed(element))
        while stack:
            element = stack.pop()
            name = element.tag.rsplit("}", 1)[-1] if isinstance(element.tag, str) else ""
            if name in _LEFT_OUT:
                continue
            if name == "t":  # also of formulas
                parts.append(element.text or "")
            elif name in ("tab", "br", "cr"):
                parts.append("\t" if name == "tab" else "\n")
            elif name == "noBreakHyphen":
                parts.append("-")
            elif name in ("footnoteReference", "endnoteReference"):
                key = f"{name.removesuffix('Reference')}s {element.get(_W + 'id')}"
                parts.append(f"[{self._marks[key]}]" if key in self._marks else "")
            else:
                parts.append(" " if name == "p" else "")  # of a text box
                stack.extend(reversed(element))
        return "".join(parts)


def _outer_paragraphs(cell: Any) -> Iterator[Any]:
    """Paragraphs of a cell, but not those inside others, such as of a text box."""
    for paragraph in cell.iter(_W + "p"):
        if next(paragraph.iterancestors(_W + "p"), None) is None:
            yield paragraph

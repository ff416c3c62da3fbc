"""Office documents to text: headings, paragraphs, lists, tables, notes; slides and sheets as pages.

A document is unpacked once within bounds and packed again without its pictures, programs and
compression, so no library sees a bomb, and none sees other members than those that were checked.
XML that declares a document type is refused: no office format has one, and entities hide in it.
"""

import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from itertools import islice
from typing import Any

from datalake.sources.archives.members import Bounds, members
from datalake.sources.report import Report
from datalake.transforms.file_types import DOCX, ODP, ODS, ODT, OLE_MAGIC, PPTX, XLSX
from datalake.transforms.normalise import normalise
from datalake.transforms.text import Text, Unreadable

# XML of sheets is compressed 10 to 50 times; a text of 256 MiB of XML is no document.
BOUNDS = Bounds(max_members=20_000, max_member_bytes=128 << 20, max_total_bytes=256 << 20)
_MAX_ROWS = 1 << 20  # of a sheet (Excel's limit); its XML may say that the next is number 10^18
_MAX_CELLS = 20_000_000  # of a book: some ten seconds
_MAX_CHARACTERS = 64 << 20
_MAX_GROUPS = 50  # shapes in groups in groups
_DOCTYPE = re.compile(rb"<!DOCTYPE|<!\0D\0O\0C\0T|<\0!\0D\0O\0C\0T\0|\0<\0!\0D\0O\0C\0T", re.I)
_MACRO_TYPE = re.compile(
    rb"application/vnd\.(?:ms-(?:word|powerpoint)\.(document|presentation|template|slideshow)"
    rb"\.macroEnabled(?:Template)?"
    rb"|openxmlformats-officedocument\.(?:wordprocessingml|presentationml)\.(template|slideshow))"
    rb"\.main\+xml"
)
# Titles that programs write by themselves.
_NO_TITLES = frozenset(("word document", "powerpoint presentation", "presentation1", "untitled"))

Blocks = Iterator[str]


def read_office(payload: bytes, kind: str) -> Text:
    """The text of a document, slides or sheets of the media type ``kind``. Raises Unreadable."""
    if payload.startswith(OLE_MAGIC):
        hidden = "EncryptedPackage".encode("utf-16-le") in payload
        raise Unreadable("encrypted" if hidden else "old binary format")
    checked = _checked(payload)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a library mends is not news
            return _READERS[kind](checked)
    except (Unreadable, MemoryError, ImportError):
        raise
    except RecursionError as error:
        raise Unreadable("nested too deep") from error
    # The four libraries have no common error for damage, nor has any of them one of its own.
    except Exception as error:
        raise Unreadable(f"damaged: {type(error).__name__}") from error


def _checked(payload: bytes) -> bytes:
    """The zip with every member of XML as it is, and every other one empty."""
    report = Report("document", say=lambda line: None)
    names: list[str] = []

    def holds_text(path: str) -> bool:
        is_text = path.endswith((".xml", ".rels")) or path == "mimetype"
        if not is_text:
            names.append(path)
        return is_text

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        found = members(
            io.BytesIO(payload), "document", BOUNDS, report, nested=False, wanted=holds_text
        )
        for member in found:
            if not member.path.startswith("META-INF/") and _DOCTYPE.search(member.payload[:65536]):
                raise Unreadable("document type in XML")
            data = member.payload
            if member.path == "[Content_Types].xml":
                data = _MACRO_TYPE.sub(_without_macros, data)
            archive.writestr(member.path, data)
        for name in names:
            archive.writestr(name, b"")
    if report.failed:
        reason = next(iter(report.failed))
        raise Unreadable("encrypted" if reason == "encrypted member" else reason)
    if report.damages:
        raise Unreadable("damaged zip")
    return out.getvalue()


def _without_macros(match: re.Match[bytes]) -> bytes:
    """The type of a document that is alike but has no macros, which alone the libraries open."""
    is_word = b"word" in match[0]
    family = b"wordprocessingml.document" if is_word else b"presentationml.presentation"
    return b"application/vnd.openxmlformats-officedocument." + family + b".main+xml"


def _read_docx(payload: bytes) -> Text:
    from datalake.transforms.docx_text import read_blocks

    text, heading, properties = read_blocks(payload)
    return _text([text], properties.title or "", heading, properties.language)


def _read_pptx(payload: bytes) -> Text:
    from pptx import Presentation

    deck = Presentation(io.BytesIO(payload))
    pages = []
    titled = ""
    for slide in deck.slides:
        blocks = [block for block in _shapes(slide.shapes, _MAX_GROUPS) if block]
        heading = slide.shapes.title
        titled = titled or (heading.text_frame.text if heading is not None else "")
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None:
            blocks.append(notes.text.strip())
        pages.append("\n\n".join(blocks))
    properties = deck.core_properties
    return _text(pages, properties.title or "", titled, properties.language)


def _shapes(shapes: Iterable[Any], depth: int) -> Blocks:
    for shape in shapes:
        if hasattr(shape, "shapes"):  # a group
            if depth:
                yield from _shapes(shape.shapes, depth - 1)
        elif shape.has_text_frame:
            paragraphs = ((p.text.strip(), p.level) for p in shape.text_frame.paragraphs)
            yield "\n".join("  " * level + text for text, level in paragraphs if text)
        elif shape.has_table:
            rows = ([" ".join(cell.text.split()) for cell in row.cells] for row in shape.table.rows)
            yield "\n".join(" | ".join(row) for row in rows if any(row))


def _read_xlsx(payload: bytes) -> Text:
    from openpyxl import load_workbook

    book = load_workbook(
        io.BytesIO(payload), read_only=True, data_only=True, keep_links=False, rich_text=False
    )
    pages = []
    num_cells = 0
    for sheet in book.worksheets:
        lines = []
        sheet.reset_dimensions()  # many programs write a size that is not that of the sheet
        for number, row in enumerate(sheet.iter_rows(values_only=True)):
            num_cells += len(row)
            if number == _MAX_ROWS or num_cells > _MAX_CELLS:
                raise Unreadable("too many cells")
            if line := _row(map(_value, row)):
                lines.append(line)
        pages.append("\n".join([sheet.title, *lines]) if lines else "")
    properties = book.properties
    return _text(pages, properties.title or "", "", properties.language)


def _value(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ").removesuffix(" 00:00:00")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:.15g}"  # what a sheet holds, without the noise of binary fractions
    return "" if value is None else " ".join(str(value).split())


def _row(cells: Iterable[str]) -> str:
    """Cells joined, without the empty ones at the end."""
    found = list(cells)
    while found and not found[-1]:
        found.pop()
    return " | ".join(found)


def _read_odf(payload: bytes) -> Text:
    from datalake.transforms.odf_text import read_parts

    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        names = set(archive.namelist())
        manifest = (
            archive.read("META-INF/manifest.xml") if "META-INF/manifest.xml" in names else b""
        )
        if b"encryption-data" in manifest:
            raise Unreadable("encrypted")
        meta = archive.read("meta.xml") if "meta.xml" in names else None
        pages, titled, title, language = read_parts(archive.read("content.xml"), meta)
    return _text(pages, title, titled, language)


_READERS: dict[str, Callable[[bytes], Text]] = {
    DOCX: _read_docx,
    PPTX: _read_pptx,
    XLSX: _read_xlsx,
    ODT: _read_odf,
    ODS: _read_odf,
    ODP: _read_odf,
}


def _text(pages: Iterable[str], title: str, heading: str, language: str | None) -> Text:
    """One text of all pages. A page without text begins where the next one does."""
    text, starts = "", []
    parts: list[str] = []
    at = 0
    for page in islice(pages, 100_000):
        starts.append(at)
        page = normalise(page).strip()
        if page:
            parts.append(page + "\n")
            at += len(page) + 2  # the empty line between
        if at > _MAX_CHARACTERS:
            raise Unreadable("text too long")
    text = "\n".join(parts)
    if not text:
        raise Unreadable("empty")
    title = " ".join(normalise(title).split())
    if not title or title.lower() in _NO_TITLES:
        title = " ".join(normalise(heading).split())
    code = (language or "")[:2].lower()
    return Text(
        text=text,
        title=title,
        language=code if re.fullmatch("[a-z]{2}", code) else None,
        page_starts=tuple(min(start, len(text)) for start in starts) if len(starts) > 1 else (),
    )

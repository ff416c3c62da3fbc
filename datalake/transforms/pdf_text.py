"""PDF files to text in reading order, with the index at which every page begins.

PDFium reads the file; words, lines, columns, margins and paragraphs are found from where the
letters lie (``pdf_words``, ``pdf_layout``, ``pdf_margins``, ``pdf_paragraphs``). A page that is one
image is reported as scanned and not given as empty text. PDFium is C++ on untrusted input: call
this in a process of its own (``datalake.isolation``).
"""

import ctypes
import re
from collections.abc import Iterable
from typing import Any

from datalake.transforms.normalise import normalise
from datalake.transforms.pdf_layout import Column, columns
from datalake.transforms.pdf_licence import find_licence
from datalake.transforms.pdf_margins import drop_margins
from datalake.transforms.pdf_paragraphs import join_pages, page_paragraphs
from datalake.transforms.pdf_words import HYPHEN, REPLACEMENT, Page, read_words
from datalake.transforms.text import Text, Unreadable

# The longest books have some thousand pages; a log printed to PDF has any number.
MAX_PAGES = 5000
MAX_CHARS = 20_000_000  # 4,000 characters on each of them: a full page of small print
MAX_PAGE_CHARS = 500_000  # 100 full pages on one: a drawing of labels, not a text
MAX_PAGE_OBJECTS = 1_000_000  # paths of a map; none has as much text

# A page of less text than this (a stamp, a page number) under an image that covers this much of
# it is a scan without a text layer.
_SCANNED_CHARS = 50
_SCANNED_COVER = 0.5
_MAX_IMAGES = 2000  # looked at on a page; some scanners cut a page into stripes
# Fonts without a table of characters give nothing that can be read.
_MAX_UNMAPPED = 0.3

# ISO 32000-1, annex H, note 18: readers accept it anywhere in the last 1024 bytes.
_END, _END_WITHIN = b"%%EOF", 1024

_TITLE_SIZE = 1.15  # of the usual size of the first page: a title is larger than its text
_TITLE_CHARS = 300
_FILE_NAME = re.compile(  # what programs put there when nobody gave a title
    r"untitled|microsoft (?:word|powerpoint|excel)\b|slide 1$|[\w.-]+\.\w{2,5}$|\W*\w{0,2}\W*$",
    re.IGNORECASE,
)


def read_pdf(payload: bytes) -> Text:
    """The text of a PDF file; its title, language and licence as it says them of itself.

    ``remark`` names pages that are scanned or damaged, and says where the file is cut. Raises
    Unreadable: ``encrypted`` (a password is needed), ``scanned: N pages without text``, ``damaged:
    ...``, ``no text``, ``no characters for its glyphs``, or what is larger than the bounds of this
    module.
    """
    import pypdfium2

    document = _open(payload)
    try:
        num_pages = len(document)
        if num_pages > MAX_PAGES:
            raise Unreadable(f"more than {MAX_PAGES} pages")
        laid: list[list[Column]] = []
        heights: list[float] = []
        scanned, damaged = [], []
        num_chars = num_unmapped = 0
        for number in range(num_pages):
            try:
                page, is_scanned = _read_page(document, number)
            except pypdfium2.PdfiumError:
                damaged.append(number + 1)
                page, is_scanned = Page([], [], 0, 0), False
            if is_scanned:
                scanned.append(number + 1)
            for words in (page.words, *page.sideways):
                num_chars += sum(len(word.text) for word in words)
                num_unmapped += sum(word.text.count(REPLACEMENT) for word in words)
            if num_chars > MAX_CHARS:
                raise Unreadable(f"more than {MAX_CHARS} characters")
            laid.append([c for words in (page.words, *page.sideways) for c in columns(words)])
            heights.append(page.height)
        title = _title(document, laid)
        language = _language(document)
        licence = find_licence(payload, lambda key: _said(document, key))
    finally:
        document.close()
    _refuse_empty(num_pages, num_chars, num_unmapped, scanned, damaged)
    drop_margins(laid, heights)
    paragraphs = (
        page_paragraphs(page, number, height)
        for number, (page, height) in enumerate(zip(laid, heights, strict=True))
    )
    text, starts = join_pages(paragraphs, num_pages)
    if not text:
        raise Unreadable("no text")
    remarks = [
        f"{what} pages: {_ranges(pages)}"
        for what, pages in (("scanned", scanned), ("damaged", damaged))
        if pages
    ]
    if _END not in payload[-_END_WITHIN:]:
        remarks.append("the end of the file is missing")
    return Text(
        text=text,
        title=title,
        language=language,
        licence=licence,
        page_starts=tuple(starts),
        remark="; ".join(remarks),
    )


def _open(payload: bytes) -> Any:
    import pypdfium2
    import pypdfium2.raw as pdfium

    try:
        return pypdfium2.PdfDocument(payload)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise Unreadable("encrypted") from None
        raise Unreadable("damaged: no document in it") from None


def _read_page(document: Any, number: int) -> tuple[Page, bool]:
    """Words of a page, and whether it is a scan without a text layer."""
    import pypdfium2.raw as pdfium

    page = document[number]
    try:
        if pdfium.FPDFPage_CountObjects(page.raw) > MAX_PAGE_OBJECTS:
            raise Unreadable(f"more than {MAX_PAGE_OBJECTS} objects on a page")
        found = read_words(page, MAX_PAGE_CHARS)
        few = sum(len(word.text) for word in found.words) < _SCANNED_CHARS
        return found, few and _image_cover(page) >= _SCANNED_COVER
    finally:
        page.close()


def _image_cover(page: Any) -> float:
    """The part of a page that its images cover, if they do not lie on each other."""
    import pypdfium2.raw as pdfium

    left, bottom, right, top = page.get_bbox()
    area = max((right - left) * (top - bottom), 1e-9)
    covered = 0.0
    for number, image in enumerate(page.get_objects(filter=(pdfium.FPDF_PAGEOBJ_IMAGE,))):
        if number == _MAX_IMAGES:
            break
        x0, y0, x1, y1 = image.get_bounds()
        width, height = min(x1, right) - max(x0, left), min(y1, top) - max(y0, bottom)
        covered += max(width, 0) * max(height, 0)
    return covered / area


def _refuse_empty(
    num_pages: int, num_chars: int, num_unmapped: int, scanned: list[int], damaged: list[int]
) -> None:
    if num_pages == 0 or len(damaged) == num_pages:
        raise Unreadable("damaged: no page that can be read")
    if len(scanned) == num_pages or (num_chars == 0 and scanned):
        raise Unreadable(f"scanned: {len(scanned)} pages without text")
    if num_chars == 0:
        raise Unreadable("no text")
    if num_unmapped > _MAX_UNMAPPED * num_chars:
        raise Unreadable("no characters for its glyphs")


def _title(document: Any, pages: list[list[Column]]) -> str:
    """The title in the metadata, if it is one, else the largest text of the first page."""
    said = " ".join(normalise(_said(document, "Title")).split())
    if said and not _FILE_NAME.match(said):
        return said[:_TITLE_CHARS]
    lines = [line for column in (pages[0] if pages else []) for line in column.lines]
    lines = [line for line in lines if sum(map(str.isalpha, line.text)) >= 4]
    if not lines:
        return ""
    largest = max(line.size for line in lines)
    sizes = sorted(line.size for line in lines for _ in line.text)
    if largest < _TITLE_SIZE * sizes[len(sizes) // 2]:
        return ""
    first = next(n for n, line in enumerate(lines) if line.size > 0.97 * largest)
    found = []
    for line in lines[first:]:
        if line.size < 0.97 * largest:
            break
        found.append(line.text)
    title = " ".join(found).replace(f"{HYPHEN} ", "")
    return " ".join(normalise(title).split())[:_TITLE_CHARS]


def _said(document: Any, key: str) -> str:
    """An entry of the document information dictionary."""
    import pypdfium2.raw as pdfium

    return _utf16(
        lambda buffer, size: pdfium.FPDF_GetMetaText(document.raw, key.encode(), buffer, size)
    )


def _language(document: Any) -> str | None:
    """ISO 639-1 code of the catalog's natural language."""
    import pypdfium2.raw as pdfium

    said = _utf16(
        lambda buffer, size: pdfium.FPDFCatalog_GetLanguage(
            document.raw,
            ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)) if buffer else None,
            size,
        )
    )
    code = re.match(r"([A-Za-z]{2})(?:[-_]|$)", said)
    return code[1].lower() if code else None


def _utf16(call: Any) -> str:
    """What a function of PDFium writes when asked first for the length in bytes."""
    size = call(None, 0)
    if not 2 < size <= 1 << 20:
        return ""
    buffer = ctypes.create_string_buffer(size)
    call(buffer, size)
    return buffer.raw[: size - 2].decode("utf-16-le", "replace")


def _ranges(numbers: Iterable[int]) -> str:
    """``3, 7-9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)

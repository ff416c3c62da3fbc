"""Words of a PDF page with their boxes, as PDFium finds them.

A PDF page draws glyphs at places; words, lines and columns are not in it. PDFium finds the words
from the gaps between glyphs. Each word is turned here so that it is read from left to right, with
heights measured downwards from the top, whichever way the page or its text is turned.
"""

import ctypes
import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from datalake.transforms.text import Unreadable

HYPHEN = "\ufffe"  # PDFium's sign for a hyphen at the end of a line
REPLACEMENT = "\ufffd"

_WORD = re.compile(r"[^\s\ufffe\x00-\x1f]+[\ufffe\x02]?|[\ufffe\x02]")
_JOINED = re.compile(r"[^\W\d_][,;.:!?)’”][^\W\d_]")
_MEASURED = 16  # longest words of a page, and of those that hold a mark inside
# In widths of a mean letter of the word: more is a space, unless all letters are spread.
_MISSED_SPACE = 0.4
_SPREAD = 0.15
_PRESENTATION = re.compile("[\ufb00-\ufb06\ufb13-\ufb17\ufb1d-\ufdff\ufe70-\ufefc]")
_PRIVATE = re.compile("[\ue000-\uf8ff]")
_BULLET = "\uf0b7"  # of the Symbol font, as word processors write it
_DOUBLED = re.compile(r"(?:(\S)\1)+")
_FIXED_PITCH = 1  # bit 1 of the font's flags: ISO 32000-1, table 123
_FIXED_NAMES = re.compile(r"mono|monl|courier|typewriter|consol|tt\d|menlo|fixed", re.IGNORECASE)
# A fake bold draws a word twice, less than this many font sizes apart.
_SAME_PLACE = 0.2
# A watermark across the page is not read: text turned by more than 9 degrees from upright.
_ASKEW = 0.1
_MAX_SIZE = 10_000  # points, 3.5 m: a broken matrix gives anything
# Where less of a page's text than this runs another way than the rest, it is a stamp, a
# watermark or the label of an axis.
_SIDEWAYS = 0.2


@dataclass(slots=True)
class Word:
    """Letters between white space. Lengths in points, ``baseline`` below the top of the page."""

    text: str
    left: float
    right: float
    baseline: float
    size: float  # of the font, as seen
    spaced: bool  # white space stands before it
    mono: bool  # all letters of its font are equally wide


@dataclass(slots=True)
class Page:
    """Words in the order in which they are drawn, on a page of this size as they are read."""

    words: list[Word]
    sideways: list[list[Word]]  # texts that run another way, each turned as it is read
    width: float
    height: float


def read_words(page: Any, max_chars: int) -> Page:
    """Words of a ``pypdfium2.PdfPage`` that lie inside what is shown of it.

    Raises Unreadable where the page has more than ``max_chars`` characters.
    """
    import pypdfium2.raw as pdfium

    textpage = page.get_textpage()
    try:
        if textpage.count_chars() > max_chars:
            raise Unreadable(f"more than {max_chars} characters on a page")
        left, bottom, right, top = page.get_bbox()
        turned = _turned_words(pdfium, textpage.raw, (left, bottom, right, top))
    finally:
        textpage.close()
    main, *others = _by_turn(turned)
    for quarter, words in (main, *others):
        corners = [_turn(x, y, quarter) for x in (left, right) for y in (bottom, top)]
        start, highest = min(x for x, _ in corners), max(y for _, y in corners)
        for word in words:
            word.left -= start
            word.right -= start
            word.baseline = highest - word.baseline
    upright = main[0] % 2 == 0
    width, height = (right - left, top - bottom) if upright else (top - bottom, right - left)
    return Page(main[1], [words for _, words in others], width, height)


def _turned_words(
    pdfium: Any, textpage: Any, shown: tuple[float, float, float, float]
) -> list[tuple[int, Word]]:
    """Words with the quarter turns, counter-clockwise, of the way they run."""
    text = _text(pdfium, textpage)
    x0, x1, y0, y1 = (ctypes.c_double() for _ in range(4))
    styles: dict[bytes, _Style] = {}
    found = []
    end = 0
    for first, last in _spans(pdfium, textpage, text):
        spaced, end = first > end, last + 1
        drawn = pdfium.FPDFText_GetTextObject(textpage, first)
        style = styles.get(address := bytes(drawn))
        if style is None:
            style = styles[address] = _style(pdfium, textpage, first, drawn)
        if style.quarter is None:
            continue
        pdfium.FPDFText_GetCharBox(textpage, first, x0, x1, y0, y1)
        left, right, bottom, top = x0.value, x1.value, y0.value, y1.value
        if last > first:
            pdfium.FPDFText_GetCharBox(textpage, last, x0, x1, y0, y1)
            left, right = min(left, x0.value), max(right, x1.value)
            bottom, top = min(bottom, y0.value), max(top, y1.value)
        middle = (left + right) / 2, (bottom + top) / 2
        if not (shown[0] <= middle[0] <= shown[2] and shown[1] <= middle[1] <= shown[3]):
            continue
        letters = text[first : last + 1]
        if _DOUBLED.fullmatch(letters) and _is_drawn_twice(pdfium, textpage, first, style.size):
            letters = letters[::2]
        begin, stop = _turn(left, bottom, style.quarter)[0], _turn(right, top, style.quarter)[0]
        start = min(begin, stop)
        if style.mono:  # code stands in a grid of pens, and ink does not fill a cell of it
            pdfium.FPDFText_GetCharOrigin(textpage, first, x0, y0)
            start = _turn(x0.value, y0.value, style.quarter)[0]
        found.append(
            (
                style.quarter,
                Word(
                    _characters(letters),
                    start,
                    max(begin, stop),
                    style.baseline,
                    style.size,
                    spaced,
                    style.mono,
                ),
            )
        )
    return found


def _spans(pdfium: Any, textpage: Any, text: str) -> list[tuple[int, int]]:
    """First and last index of each word.

    PDFium misses some narrow spaces, mostly in files that move the pen instead of writing one.
    Words that may be two are measured, and if one of them is, so are all words of the page.
    """
    spans = [(match.start(), match.end() - 1) for match in _WORD.finditer(text)]
    joined = [span for span in spans if _JOINED.search(text, span[0], span[1] + 1)]
    longest = sorted(spans, key=lambda span: span[0] - span[1])
    looks = joined[:_MEASURED] + longest[:_MEASURED]
    if not any(len(_split(pdfium, textpage, span)) > 1 for span in looks):
        return spans
    return [part for span in spans for part in _split(pdfium, textpage, span)]


def _split(pdfium: Any, textpage: Any, span: tuple[int, int]) -> list[tuple[int, int]]:
    """``span`` parted where the pen was moved by more than letters of one word are apart."""
    first, last = span
    box = pdfium.FS_RECTF()
    begins, ends = [], []
    for index in range(first, last + 1):
        pdfium.FPDFText_GetLooseCharBox(textpage, index, box)
        begins.append(box.left)
        ends.append(box.right)
    gaps = [begin - end for begin, end in zip(begins[1:], ends, strict=False)]
    if not gaps:
        return [span]
    letter = sum(e - b for b, e in zip(begins, ends, strict=True)) / len(begins)
    if sorted(gaps)[len(gaps) // 2] > _SPREAD * letter:
        return [span]
    cuts = [first + n + 1 for n, gap in enumerate(gaps) if gap > _MISSED_SPACE * letter]
    return list(zip([first, *cuts], [*(cut - 1 for cut in cuts), last], strict=True))


@dataclass(frozen=True, slots=True)
class _Style:
    """What the letters of one object of text have in common."""

    size: float
    quarter: int | None  # turns counter-clockwise; None for what is not read
    baseline: float  # in axes turned so
    mono: bool


def _style(pdfium: Any, textpage: Any, index: int, drawn: Any) -> _Style:
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFText_GetMatrix(textpage, index, matrix)
    size = pdfium.FPDFText_GetFontSize(textpage, index) * math.hypot(matrix.c, matrix.d)
    turns = math.atan2(matrix.b, matrix.a) / (math.pi / 2)
    quarter = round(turns) % 4
    if abs(turns - round(turns)) > _ASKEW or not 0 < size < _MAX_SIZE:
        return _Style(size, None, 0.0, False)
    x, y = ctypes.c_double(), ctypes.c_double()
    pdfium.FPDFText_GetCharOrigin(textpage, index, x, y)
    mono = False
    if drawn and (font := pdfium.FPDFTextObj_GetFont(drawn)):
        name = ctypes.create_string_buffer(128)
        pdfium.FPDFFont_GetBaseFontName(font, name, len(name))
        named = _FIXED_NAMES.search(name.value.decode("latin-1"))
        mono = bool(named or pdfium.FPDFFont_GetFlags(font) & _FIXED_PITCH)
    return _Style(size, quarter, _turn(x.value, y.value, quarter)[1], mono)


def _text(pdfium: Any, textpage: Any) -> str:
    """All characters of a page, at PDFium's indices."""
    count = max(pdfium.FPDFText_CountChars(textpage), 0)
    buffer = (ctypes.c_ushort * (2 * count + 2))()
    units = pdfium.FPDFText_GetText(textpage, 0, count, buffer) - 1
    if units == count:  # one call instead of one a character
        text = bytes(buffer)[: 2 * count].decode("utf-16-le", "surrogatepass")
        if len(text) == count:
            return text
    codes = [pdfium.FPDFText_GetUnicode(textpage, index) for index in range(count)]
    # A glyph without a character keeps its place, so that its loss is seen.
    return "".join(chr(c) if 0 < c <= 0x10FFFF else REPLACEMENT for c in codes)


def _characters(text: str) -> str:
    """``text`` without ligatures, presentation forms and characters of private use."""
    if text.isascii() and "\x02" not in text:
        return text
    text = _PRESENTATION.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    text = _PRIVATE.sub(REPLACEMENT, text.replace(_BULLET, "\u2022"))
    return text.replace("\x02", HYPHEN)


def _turn(x: float, y: float, quarter: int) -> tuple[float, float]:
    """The point in axes of which the first runs ``quarter`` turns counter-clockwise of x."""
    return ((x, y), (y, -x), (-x, -y), (-y, x))[quarter]


def _is_drawn_twice(pdfium: Any, textpage: Any, first: int, size: float) -> bool:
    """Whether the first two glyphs lie on each other."""
    x, y, next_x, next_y = (ctypes.c_double() for _ in range(4))
    pdfium.FPDFText_GetCharOrigin(textpage, first, x, y)
    pdfium.FPDFText_GetCharOrigin(textpage, first + 1, next_x, next_y)
    return math.dist((x.value, y.value), (next_x.value, next_y.value)) < _SAME_PLACE * size


def _by_turn(turned: list[tuple[int, Word]]) -> list[tuple[int, list[Word]]]:
    """Words by the way they run: first the most, then others that are enough to be text."""
    groups: dict[int, list[Word]] = {0: []}
    for quarter, word in turned:
        groups.setdefault(quarter, []).append(word)
    counts = {q: sum(len(word.text) for word in words) for q, words in groups.items()}
    order = sorted(groups, key=lambda quarter: (-counts[quarter], quarter))
    enough = _SIDEWAYS * sum(counts.values())
    return [
        (quarter, _without_doubles(groups[quarter]))
        for number, quarter in enumerate(order)
        if number == 0 or counts[quarter] > enough
    ]


def _without_doubles(words: list[Word]) -> list[Word]:
    """``words`` without those that are drawn again in the same place."""
    seen: dict[tuple[str, int], list[Word]] = {}
    kept = []
    for word in words:
        near = _SAME_PLACE * word.size
        cell = round(word.baseline / 4)
        if any(
            abs(other.left - word.left) < near and abs(other.baseline - word.baseline) < near
            for row in (cell - 1, cell, cell + 1)
            for other in seen.get((word.text, row), ())
        ):
            continue
        seen.setdefault((word.text, cell), []).append(word)
        kept.append(word)
    return kept

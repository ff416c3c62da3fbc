"""Words of a page to lines in reading order: columns, bands across them, rows of tables.

A gutter is a stripe of white with lines of text on both sides. What lies across it (a title, a
wide figure's caption) cuts the page into bands, and inside a band the left column is read before
the right one, each again divided by its own gutters: the recursive cut of Nagy and Seth (1984),
with bands where a cut from edge to edge does not exist. A table looks like columns too, but
its cells are short, sparse or many in a row: it is read row by row.
"""

import statistics
import unicodedata
from bisect import bisect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from datalake.transforms.pdf_words import Word

# Lengths in sizes of the font. A gap inside a justified line stays below one; a gutter is wider.
_WORD_GAP = 0.9
_CELL_GAP = 1.6
# What PDFium takes for one word is one; elsewhere a space is a quarter of the size.
_SPACE_GAP = 0.12
# A line of text rises 0.7 above its baseline and falls 0.2 below it.
_RISE, _FALL = 0.7, 0.2

_ALL_MONO = 0.9  # of its letters: a line of code, not a sentence with a name from it

# What is a column and not a cell.
_MIN_ROWS = 3
_MIN_ROW_CHARS = 14
_MIN_FILL = 0.5  # of the column's width, by its mean row; cells of a table fill less
_MIN_FREE_FILL = 0.25  # where rows do not stand beside each other, so are none of a table
_SAME_BASELINE = 0.15  # of the size
_MIN_DENSITY = 0.45  # of the column's height: a row and the white below it are 1.6 sizes
_TABLE_PIECES = 2.5  # in a row, and fewer letters in each of them than in a line of a column
_ALL_ACROSS = 0.95  # of the lines of a page: it has one column
_MIN_WIDTH = 0.2  # of both columns together

_MAX_DEPTH = 6  # of columns inside columns; a newspaper has 6 side by side
# Beyond, a page is a map or a drawing, and its order is left as it is drawn.
_MAX_SEGMENTS = 5000


@dataclass(slots=True)
class Line:
    """One line of a column, its words from left to right. Lengths in points from top and left."""

    text: str  # cells are separated by tabs; may end in pdf_words.HYPHEN
    left: float
    right: float
    baseline: float
    size: float
    first: float  # width of its first word
    grid: tuple[tuple[float, str], ...]  # where each word begins, if the font has one width

    @property
    def top(self) -> float:
        return self.baseline - _RISE * self.size


@dataclass(slots=True)
class Column:
    """Lines that are read one after another, and the edges that they may fill."""

    lines: list[Line]
    left: float
    right: float


@dataclass(slots=True)
class Segment:
    """Words drawn one after another on one line, without a wide gap between them."""

    words: list[Word]
    left: float
    right: float
    baseline: float
    size: float

    @property
    def num_chars(self) -> int:
        return sum(len(word.text) for word in self.words)


def columns(words: list[Word]) -> list[Column]:
    """Columns in the order in which a person reads them."""
    segments = segment(words)
    parts = [segments] if len(segments) > _MAX_SEGMENTS else _order(segments, 0)
    return [
        Column(
            [line(row) for row in rows(part)],
            min(s.left for s in part),
            max(s.right for s in part),
        )
        for part in parts
        if part
    ]


def segment(words: Iterable[Word]) -> list[Segment]:
    """Runs of words as they are drawn."""
    found: list[Segment] = []
    for word in words:
        last = found[-1] if found else None
        if last is not None and _continues(last, word):
            last.words.append(word)
            last.left, last.right = min(last.left, word.left), max(last.right, word.right)
            if word.size > last.size:
                last.size, last.baseline = word.size, word.baseline
        else:
            found.append(Segment([word], word.left, word.right, word.baseline, word.size))
    return found


def rows(segments: list[Segment]) -> list[list[Segment]]:
    """Segments that stand beside each other, from top to bottom, each row from left to right."""
    found: list[list[Segment]] = []
    main: list[Segment] = []  # the largest of each row: an index is beside its line, not below it
    for one in sorted(segments, key=lambda s: (s.baseline, s.left)):
        beside = next(
            (
                n
                for n in range(len(found) - 1, max(len(found) - 4, -1), -1)
                if _beside(main[n], one)
            ),
            None,
        )
        if beside is None:
            found.append([one])
            main.append(one)
        else:
            found[beside].append(one)
            if one.size > main[beside].size:
                main[beside] = one
    order = sorted(range(len(found)), key=lambda n: main[n].baseline)
    return [sorted(found[n], key=lambda s: s.left) for n in order]


def line(row: list[Segment]) -> Line:
    """The text of one row. A row of right-to-left script is read from its right end."""
    words = [word for one in row for word in one.words]
    if _is_right_to_left("".join(word.text for word in words)):
        words = _right_to_left(words)
    else:
        words.sort(key=lambda word: word.left)
    parts = [words[0].text]
    grid = [(words[0].left, words[0].text)]
    for before, word in pairwise(words):
        between = _between(before, word)
        parts += (between, word.text)
        if between:
            grid.append((word.left, word.text))
        else:
            grid[-1] = (grid[-1][0], grid[-1][1] + word.text)
    main = max(row, key=lambda s: (s.num_chars, s.size))
    mono = sum(len(word.text) for word in words if word.mono)
    return Line(
        text="".join(parts),
        left=min(s.left for s in row),
        right=max(s.right for s in row),
        baseline=main.baseline,
        size=main.size,
        first=words[0].right - words[0].left,
        grid=tuple(grid) if mono > _ALL_MONO * sum(len(word.text) for word in words) else (),
    )


def is_unspaced(character: str) -> bool:
    """Whether a character is of a script written without spaces: Chinese, Japanese, Thai ..."""
    code = ord(character)
    return (
        0x2E80 <= code <= 0x9FFF
        or 0xF900 <= code <= 0xFAFF
        or 0xFF00 <= code <= 0xFFEF
        or 0x0E00 <= code <= 0x0EFF
        or 0x20000 <= code <= 0x3FFFF
    )


def _continues(last: Segment, word: Word) -> bool:
    size = max(last.size, word.size)
    gap = max(word.left - last.right, last.left - word.right)  # of either direction of writing
    return -0.5 * size <= gap <= _WORD_GAP * size and _overlaps(
        (last.baseline, last.size), (word.baseline, word.size)
    )


def _beside(one: Segment, other: Segment) -> bool:
    return _overlaps((one.baseline, one.size), (other.baseline, other.size))


def _overlaps(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two lines, as baseline and size, share half the height of the smaller one."""
    top = max(one[0] - _RISE * one[1], other[0] - _RISE * other[1])
    bottom = min(one[0] + _FALL * one[1], other[0] + _FALL * other[1])
    return bottom - top >= 0.5 * (_RISE + _FALL) * min(one[1], other[1])


def _order(segments: list[Segment], depth: int) -> list[list[Segment]]:
    """Segments grouped into columns, in reading order."""
    gutter = _gutter(segments) if depth < _MAX_DEPTH else None
    if gutter is None:
        return [segments]
    crossing = sorted(s.baseline for s in segments if s.left < gutter < s.right)
    bands: list[list[Segment]] = [[] for _ in range(len(crossing) + 1)]
    for one in segments:
        if not one.left < gutter < one.right:
            bands[bisect(crossing, one.baseline)].append(one)
    across = iter(sorted((s for s in segments if s.left < gutter < s.right), key=_by_baseline))
    found: list[list[Segment]] = []
    flow: list[Segment] = []  # what is read row by row, until columns begin
    for band in bands:
        left = [s for s in band if s.right <= gutter]
        right = [s for s in band if s.left >= gutter]
        if left and right and not _is_table(band):
            found += [flow] if flow else []
            flow = []
            found += _order(left, depth + 1)
            found += _order(right, depth + 1)
        else:
            flow += band
        flow += [one for one in (next(across, None),) if one is not None]
    found += [flow] if flow else []
    return found


def _by_baseline(one: Segment) -> float:
    return one.baseline


def _gutter(segments: list[Segment]) -> float | None:
    """Where text has a stripe of white in it with columns on both sides; None where it has none.

    Of the stripes that the least text lies across, the widest are tried first.
    """
    if len(segments) < 2 * _MIN_ROWS:
        return None
    start, end = min(s.left for s in segments), max(s.right for s in segments)
    num_bins = int(end - start) + 2  # of one point
    if num_bins > 20_000:
        return None
    edges = np.zeros(num_bins + 1)
    for one in segments:
        edges[int(one.left - start)] += one.size
        edges[int(one.right - start) + 1] -= one.size
    cover = np.cumsum(edges)[:num_bins]
    low, high = int(_MIN_WIDTH * num_bins), int((1 - _MIN_WIDTH) * num_bins)
    inner = cover[low:high]
    if not len(inner) or inner.min() > _ALL_ACROSS * cover.max():
        return None
    few = inner <= inner.min() + 0.03 * cover.max()
    starts = np.flatnonzero(np.diff(np.concatenate(([0], few.astype(np.int8), [0]))))
    stripes = sorted(zip(starts[::2], starts[1::2], strict=True), key=lambda s: s[0] - s[1])
    for begin, stop in stripes[:4]:
        gutter = start + low + (begin + stop) / 2
        if _divides(segments, gutter):
            return float(gutter)
    return None


def _divides(segments: list[Segment], gutter: float) -> bool:
    """Whether there are columns on both sides of ``gutter``, in the bands where both have text."""
    left = [s for s in segments if s.right <= gutter]
    right = [s for s in segments if s.left >= gutter]
    crossing = sorted(s.baseline for s in segments if s.left < gutter < s.right)

    def band(one: Segment) -> int:
        return bisect(crossing, one.baseline)

    both = {band(s) for s in left} & {band(s) for s in right}
    left = [s for s in left if band(s) in both]
    right = [s for s in right if band(s) in both]
    if not left or not right:
        return False
    widths = [max(s.right for s in side) - min(s.left for s in side) for side in (left, right)]
    min_fill = _MIN_FILL if _is_aligned(left, right) else _MIN_FREE_FILL
    return (
        min(widths) >= _MIN_WIDTH * sum(widths)
        and not _is_table(left + right)
        and _is_column(left, band, min_fill)
        and _is_column(right, band, min_fill)
    )


def _is_aligned(left: list[Segment], right: list[Segment]) -> bool:
    """Whether most rows of the shorter side have one at their height on the other."""
    few, many = sorted((left, right), key=len)
    heights = sorted(s.baseline for s in many)

    def has_beside(one: Segment) -> bool:
        near = _SAME_BASELINE * one.size
        at = bisect(heights, one.baseline - near)
        return at < len(heights) and heights[at] <= one.baseline + near

    return 2 * sum(has_beside(one) for one in few) > len(few)


def _is_column(segments: list[Segment], band: Callable[[Segment], int], min_fill: float) -> bool:
    found = rows(segments)
    if len(found) < _MIN_ROWS:
        return False
    chars = statistics.mean(sum(s.num_chars for s in row) for row in found)
    width = max(s.right for s in segments) - min(s.left for s in segments)
    fill = statistics.mean(row[-1].right - row[0].left for row in found) / max(width, 1e-9)
    heights: dict[int, list[float]] = {}
    for one in segments:
        heights.setdefault(band(one), []).append(one.baseline)
    height = sum(max(h) - min(h) for h in heights.values())
    needed = 1.6 * statistics.median(s.size for s in segments) * (len(found) - len(heights))
    density = needed / max(height, 1e-9)
    return chars >= _MIN_ROW_CHARS and fill >= min_fill and density >= _MIN_DENSITY


def _is_table(segments: list[Segment]) -> bool:
    chars = sum(s.num_chars for s in segments) / len(segments)
    return chars < _MIN_ROW_CHARS and len(segments) / len(rows(segments)) > _TABLE_PIECES


def _between(before: Word, word: Word) -> str:
    size = max(before.size, word.size)
    gap = max(word.left - before.right, before.left - word.right)
    if gap > _CELL_GAP * size:
        return "\t"
    if is_unspaced(before.text[-1]) and is_unspaced(word.text[0]):
        return ""
    return " " if gap > _SPACE_GAP * size or (word.spaced and gap > 0) else ""


def _is_right_to_left(text: str) -> bool:
    if text.isascii():
        return False
    kinds = [unicodedata.bidirectional(character) for character in text]
    return sum(kind in ("R", "AL") for kind in kinds) > kinds.count("L")


def _right_to_left(words: list[Word]) -> list[Word]:
    """From the right end, but runs of numbers and of left-to-right words from their left."""
    found: list[Word] = []
    run: list[Word] = []
    for word in sorted(words, key=lambda w: -w.right):
        if any(unicodedata.bidirectional(c) in ("R", "AL") for c in word.text):
            found += [*reversed(run), word]
            run = []
        else:
            run.append(word)
    return found + run[::-1]

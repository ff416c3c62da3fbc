"""Running headers, footers and page numbers: what repeats at the edges of the pages.

A line at the top or bottom is one of them if other pages have it at the same height, numbers
aside, if it holds a number that grows by one from page to page, or if it is nothing but the number
of its page. Lines further in than one that stays stay too.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datalake.transforms.pdf_layout import Column, Line

_ZONE = 0.2  # of the page's height: a ninth in books, a sixth in LaTeX on letter paper, and lines
_MAX_ROWS = 3  # a header and a number, or two lines of header and a rule of signs
_SAME_HEIGHT = 4.0  # points: below a line, above what rounding does
_NUMBER = re.compile(r"\d+")
_ROMAN = re.compile(r"(?<![^\W_])(?=[ivxlc])(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})(?![^\W_])")
_PLAIN_NUMBER = re.compile(r"\d{1,5}")
_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


@dataclass(slots=True)
class _Row:
    """Lines side by side at an edge of a page."""

    lines: list[Line]
    key: str  # in lower case, numbers masked
    offsets: frozenset[tuple[str, int]]  # numbers it ends or begins with, less that of the page
    baseline: float


def drop_margins(pages: Sequence[list[Column]], heights: Sequence[float]) -> None:
    """Take running headers, footers and page numbers out of the columns of every page."""
    for at_top in (True, False):
        edges = [
            list(_edge(columns, height, number, at_top))
            for number, (columns, height) in enumerate(zip(pages, heights, strict=True))
        ]
        _drop(pages, edges)


def _drop(pages: Sequence[list[Column]], edges: list[list[_Row]]) -> None:
    # Two of a few pages are half of them; among many, two may be alike by chance.
    enough = 2 if len(pages) < 5 else 3
    heights: defaultdict[str, list[float]] = defaultdict(list)
    offsets: Counter[tuple[str, int]] = Counter()
    for rows in edges:
        for row in rows:
            heights[row.key].append(row.baseline)
            offsets.update(row.offsets)
    counts = {
        key: Counter(round(y / _SAME_HEIGHT) for y in found) for key, found in heights.items()
    }

    def repeats(row: _Row) -> bool:
        if any(offsets[offset] >= enough for offset in row.offsets):
            return True
        if not any(character.isalpha() for character in row.key):
            return False  # figures of a table
        height, near = round(row.baseline / _SAME_HEIGHT), counts[row.key]
        return sum(near[height + step] for step in (-1, 0, 1)) >= enough

    for columns, rows in zip(pages, edges, strict=True):
        dropped: set[int] = set()
        for row in rows:  # from the edge inwards
            if not repeats(row) and not _is_own_number(row):
                break
            dropped.update(id(line) for line in row.lines)
        for column in columns:
            column.lines = [line for line in column.lines if id(line) not in dropped]


def _edge(columns: list[Column], height: float, page: int, at_top: bool) -> Iterator[_Row]:
    """The outermost rows of a page, from the edge inwards."""
    lines = sorted((line for c in columns for line in c.lines), key=lambda line: line.baseline)
    lines = lines if at_top else lines[::-1]
    group: list[Line] = []
    found = 0
    for line in lines:
        depth = line.baseline if at_top else height - line.baseline
        if depth > _ZONE * height:
            break
        if group and abs(line.baseline - group[0].baseline) > 0.5 * line.size:
            yield _row(group, page)
            group, found = [], found + 1
            if found == _MAX_ROWS:
                return
        group.append(line)
    if group:
        yield _row(group, page)


def _row(lines: list[Line], page: int) -> _Row:
    text = " ".join(line.text for line in sorted(lines, key=lambda line: line.left)).lower()
    words = text.split()
    key = _ROMAN.sub("#", _NUMBER.sub("#", " ".join(words)))
    ends = {words[0], words[-1]} if words else set()
    if key.strip("#-–— |/.[]()") == "" and _NUMBER.sub("#", text).count("#") <= 1:
        ends |= set(re.findall(r"\w+", text))  # - 12 -
    numbers = [("arabic", int(word)) for word in ends if _PLAIN_NUMBER.fullmatch(word)]
    numbers += [("roman", _roman(word)) for word in ends if _ROMAN.fullmatch(word)]
    return _Row(
        lines, key, frozenset((kind, value - page) for kind, value in numbers), lines[0].baseline
    )


def _is_own_number(row: _Row) -> bool:
    """Whether a row is nothing but the number of its page: a title page may be the only one."""
    return row.key == "#" and ("arabic", 1) in row.offsets


def _roman(text: str) -> int:
    values = [_VALUES[letter] for letter in text]
    following = [*values[1:], 0]
    return sum(v if v >= after else -v for v, after in zip(values, following, strict=True))

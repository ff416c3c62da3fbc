"""Lines of columns to paragraphs, and paragraphs to one text that knows where its pages begin.

A line begins a paragraph where the white above it, its indent, its size or the end of the line
before it says so. Code in a font of one width and rows of cells keep their lines.
"""

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

from datalake.transforms.normalise import normalise, without_addresses
from datalake.transforms.pdf_layout import Column, Line, is_unspaced
from datalake.transforms.pdf_words import HYPHEN

# White above a line that parts it from the line before: in leadings, the usual step of lines.
_PARTED = 1.35
_PARTED_ROWS = 1.8  # of code and cells, whose white means less
# Without enough lines to tell the leading, it is the 1.2 of type setters, or somewhat more.
_LEADING = 1.45
_OTHER_SIZE = 1.12  # a heading of 11 points over 10, not the rounding of a font
_INDENT = 0.8  # of the size: type setters indent by 1 or more
_EARLY = 0.3  # of the width of the column: white after a line that nothing but its end explains
_SAME_END = 3.0  # points: a justified line ends at the edge, but for what hangs over it
_MONO_WIDTH = 0.6  # of the size: a letter of Courier and most of its kind
_TELLING = 8  # characters in a line of code that tell the width of one
_MAX_COLUMN = 400  # of the grid: letters that cannot be seen make no million of spaces
_MARK = "code"  # of a line whose text is not yet set
_FOOTNOTE = 0.92  # of the size of the page's text
_FOOT = 0.4  # of the page's height, from below

_ENDED = re.compile(r"[.!?:;。！？：][)\]\"'”’»]*$")
_BULLET = re.compile(
    r"(?:[•‣▪●○◦■□–—*·-]|\(?\d{1,3}[.)]|\[\d{1,4}\]|\(?[a-zA-Z][.)]|\(?[ivx]{1,5}[.)])(?=[\t ]|$)"
)
# From an entry of a table of contents to its page; three dots before no number are an ellipsis.
_LEADERS = re.compile(r"\s?(?:[ \t]?\.){5,}\s?|(?:[ \t]\.){2,}[ \t]?(?=\d+$)")
_TAIL = re.compile(r"([^\W\d_]+(?:-[^\W\d_]+)*)$")
_HEAD = re.compile(r"([^\W\d_]+)")
_WORDS = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_HYPHENS = (HYPHEN, "-", "\u2010", "\u00ad")


@dataclass(slots=True)
class Paragraph:
    """Lines that belong together, each with its page."""

    lines: list[tuple[str, int]]
    size: float
    top: float  # of its first line
    keeps_lines: bool = False


def page_paragraphs(columns: list[Column], page: int, height: float) -> list[Paragraph]:
    """Paragraphs of one page. Footnotes come after all columns, and not between two of them."""
    sizes: Counter[float] = Counter()
    for column in columns:
        for line in column.lines:
            sizes[round(line.size, 1)] += len(line.text)
    usual = max(sizes, key=lambda size: (sizes[size], size), default=0.0)
    found: list[Paragraph] = []
    footnotes: list[Paragraph] = []
    for number, column in enumerate(columns):
        these = list(_paragraphs(column, page))
        end = len(these)
        while (
            end
            and number < len(columns) - 1
            and these[end - 1].size < _FOOTNOTE * usual
            and these[end - 1].top > (1 - _FOOT) * height
        ):
            end -= 1
        end = end or len(these)  # a column of small print is no footnote
        footnotes += these[end:]
        for paragraph in these[:1]:  # it may go on from the column before
            _append(found, paragraph)
        found += these[1:end]
    return found + footnotes


def join_pages(pages: Iterable[list[Paragraph]], num_pages: int) -> tuple[str, list[int]]:
    """The normalised text, and the index in it at which each page begins."""
    paragraphs: list[Paragraph] = []
    for page in pages:
        for number, paragraph in enumerate(page):
            if number == 0:
                _append(paragraphs, paragraph)
            else:
                paragraphs.append(paragraph)
    words = _vocabulary(paragraphs)
    parts: list[str] = []
    length = 0
    starts: dict[int, int] = {}
    for paragraph in paragraphs:
        marks = []  # index in this paragraph, page
        text = ""
        for line, page_number in paragraph.lines:
            head, separator = _joint(text, line, words, paragraph.keeps_lines)
            text = head + separator
            if page_number not in starts:
                starts[page_number] = 0
                marks.append((len(text), page_number))
            text += _clean(line, paragraph.keeps_lines)
        text = without_addresses(normalise(_written(text)))
        for index, page_number in marks:
            starts[page_number] = length + min(index, len(text))
        if text.strip():
            parts.append(text)
            length += len(text) + 2
    found = "\n\n".join(parts)
    # A page without text begins where the next one does.
    ends: list[int] = []
    after = len(found)
    for number in reversed(range(num_pages)):
        after = min(starts.get(number, after), after)
        ends.append(after)
    return found, ends[::-1]


def _paragraphs(column: Column, page: int) -> Iterator[Paragraph]:
    lines = column.lines
    leading = _leading(lines)
    right = _right_edge(lines, column.right)
    kept = _kept_lines(column, right, leading)
    started = 0  # line that began the paragraph
    current: Paragraph | None = None
    for number, line in enumerate(lines):
        keeps = kept[number] is not None
        text = kept[number] or _prose(line.text)
        before = lines[number - 1] if number else None
        gap = line.baseline - before.baseline if before is not None else 0.0
        if (
            current is None
            or before is None
            or current.keeps_lines != keeps
            or _differs(before, line)
            or gap > (_PARTED_ROWS if keeps else _PARTED) * leading * line.size
            or gap < -line.size
            or (not keeps and _begins(column, right, number, started))
        ):
            if current is not None:
                yield current
            current = Paragraph([(text, page)], line.size, line.top, keeps)
            started = number
        else:
            current.lines.append((text, page))
    if current is not None:
        yield current


def _kept_lines(column: Column, right: float, leading: float) -> list[str | None]:
    """The text of lines of code and of rows of cells; None for a line of prose."""
    lines = column.lines
    found: list[str | None] = []
    for number, line in enumerate(lines):
        text = _cells(line.text)
        beside = [lines[n] for n in (number - 1, number + 1) if 0 <= n < len(lines)]
        alone = not any(other.grid or "\t" in _cells(other.text) for other in beside)
        if line.grid:
            before = lines[number - 1] if number else None
            inside = (
                alone
                and before is not None
                and line.baseline - before.baseline < _PARTED * leading * line.size
                and not _ends_early(before, line, right)
                and _ENDED.search(before.text) is None
            )
            found.append(None if inside else _MARK)
        elif "\t" in text:
            # A justified line with little in it has gaps like those between cells.
            full = right - line.right < line.size and line.left - column.left < 2 * line.size
            found.append(None if alone and full else text.replace(HYPHEN, "-"))
        else:
            found.append(None)
    _set_code(lines, found)
    return found


def _set_code(lines: list[Line], texts: list[str | None]) -> None:
    """Write the lines of each run of code with the spaces that its grid asks for."""
    for is_code, run in groupby(range(len(lines)), key=lambda n: texts[n] is _MARK):
        if not is_code:
            continue
        numbers = list(run)
        base = min(lines[n].left for n in numbers)
        widths = [
            (lines[n].right - lines[n].left) / len(lines[n].text)
            for n in numbers
            if "\t" not in lines[n].text and len(lines[n].text) >= _TELLING
        ]
        pitch = statistics.median(widths) if widths else 0.0
        pitch = pitch or _MONO_WIDTH * lines[numbers[0]].size
        for n in numbers:
            text = ""
            for left, word in lines[n].grid:
                column = min(round((left - base) / pitch), _MAX_COLUMN)
                text += " " * max(column - len(text), 1 if text else 0) + word
            texts[n] = text.replace(HYPHEN, "-")


def _cells(text: str) -> str:
    """The text of a line, its leaders made a tab, the white after its bullet a space."""
    text = _LEADERS.sub("\t", text)
    bullet = _BULLET.match(text)
    if bullet is not None:
        text = text[: bullet.end()] + text[bullet.end() :].replace("\t", " ", 1)
    return text.replace(HYPHEN, "-") if HYPHEN in text[:-1] else text


def _prose(text: str) -> str:
    return _cells(text).replace("\t", " ")


def _leading(lines: list[Line]) -> float:
    """The usual step from line to line, in sizes of the font."""
    steps = [
        (below.baseline - line.baseline) / line.size
        for line, below in pairwise(lines)
        if below.baseline > line.baseline and not _differs(line, below)
    ]
    if not steps:
        return _LEADING
    middle = statistics.median_low(steps)
    return middle if len(steps) >= 4 else min(middle, _LEADING)


def _differs(one: Line, other: Line) -> bool:
    return max(one.size, other.size) > _OTHER_SIZE * min(one.size, other.size)


def _begins(column: Column, right: float, number: int, started: int) -> bool:
    """Whether line ``number`` begins a paragraph by its place and the end of the line before.

    ``right`` is the edge that the column's lines run to.
    """
    line, before = column.lines[number], column.lines[number - 1]
    bullet = _BULLET.match(line.text)
    if bullet and line.left <= before.left + 0.3 * line.size:
        return True
    if bullet and _BULLET.match(column.lines[started].text):
        return True
    ended = _ENDED.search(before.text) is not None
    right = _local_right(column.lines, number, right)
    early = _ends_early(before, line, right)
    indent = line.left - before.left
    if indent > _INDENT * line.size:
        hangs = number - 1 == started and _BULLET.match(before.text) is not None
        if not hangs and _is_hanging(column.lines, number, line.left):
            return False
        return early or (ended and not hangs)
    if indent < -_INDENT * line.size and not _is_centred(column.left, right, before):
        # The second line of an indented paragraph goes back; that of a hanging one does not.
        hanging = _is_hanging(column.lines, number, before.left)
        return early or hanging or (ended and number - 1 != started)
    if _is_centred(column.left, right, before) and _is_centred(column.left, right, line):
        return False
    long_before = right - before.right - line.first > _EARLY * (right - column.left)
    return early and (not line.text[0].islower() or long_before)


def _ends_early(line: Line, following: Line, right: float) -> bool:
    """Whether the next word had fitted on ``line``: somebody ended it there."""
    return right - line.right > following.first + 0.5 * following.size


def _right_edge(lines: list[Line], widest: float) -> float:
    """Where most lines end that end alike; the right end of the column where no four do."""
    ends: Counter[int] = Counter()
    for line in lines:
        ends[round(line.right / _SAME_END)] += 1
    near = {end: ends[end] + ends[end + 1] for end in ends}
    best = max(near, key=lambda end: (near[end], end), default=0)
    if near.get(best, 0) < max(4, len(lines) / 5):
        return widest
    return (best + 1) * _SAME_END


def _local_right(lines: list[Line], number: int, right: float) -> float:
    """The edge that lines near ``number`` run to, where an abstract or a quotation is narrower."""
    line = lines[number - 1]
    near = lines[max(number - 4, 0) : number + 4]
    ends = sorted((o.right for o in near if abs(o.left - line.left) < line.size), reverse=True)
    if len(ends) < 3 or ends[0] - ends[1] > _SAME_END:
        return right
    return min(right, ends[0])


def _is_hanging(lines: list[Line], number: int, left: float) -> bool:
    """Whether lines indented to ``left`` go on there: only first lines of entries stand out."""
    near = lines[max(number - 8, 0) : number + 8]
    return any(
        abs(one.left - left) < 0.2 * one.size and abs(other.left - left) < 0.2 * other.size
        for one, other in pairwise(near)
    )


def _is_centred(left: float, right: float, line: Line) -> bool:
    before, after = line.left - left, right - line.right
    return min(before, after) > line.size and abs(before - after) < line.size


def _append(paragraphs: list[Paragraph], paragraph: Paragraph) -> None:
    """Add a paragraph, to the end of the last one if that breaks off and this one goes on."""
    last = paragraphs[-1] if paragraphs else None
    if last is None or last.keeps_lines or paragraph.keeps_lines:
        paragraphs.append(paragraph)
        return
    end, begin = last.lines[-1][0], paragraph.lines[0][0]
    same = max(last.size, paragraph.size) <= _OTHER_SIZE * min(last.size, paragraph.size)
    if same and _ENDED.search(end) is None and _goes_on(end, begin):
        last.lines += paragraph.lines
    else:
        paragraphs.append(paragraph)


def _goes_on(end: str, begin: str) -> bool:
    if not begin or not end:
        return False
    return begin[0].islower() or (end.endswith(_HYPHENS) and begin[0].isalpha())


def _vocabulary(paragraphs: list[Paragraph]) -> Counter[str]:
    """Words of the document in lower case, but not those that a line's end may have cut."""
    words: Counter[str] = Counter()
    for paragraph in paragraphs:
        after_hyphen = False
        for line, _ in paragraph.lines:
            found = _WORDS.findall(line.lower())
            hyphen = line.endswith(_HYPHENS)
            words.update(found[int(after_hyphen) : len(found) - int(hyphen)])
            after_hyphen = hyphen
    return words


def _joint(text: str, line: str, words: Counter[str], keeps_lines: bool) -> tuple[str, str]:
    """What is left of ``text`` and what stands between it and the next ``line``."""
    if not text:
        return "", ""
    if keeps_lines:
        return text, "\n"
    if text.endswith(_HYPHENS) and (cut := _TAIL.search(text[:-1])) and line[:1].isalnum():
        whole = text[:-1]
        head = _HEAD.match(line)
        if text[-1] == "\u00ad":
            return whole, ""
        if head is None or not head[1][0].islower():
            return whole + "-", ""
        return (whole, "") if _is_cut(cut[1].lower(), head[1].lower(), words) else (whole + "-", "")
    if text.endswith(_HYPHENS) and len(text) > 1 and text[-2].isdigit() and line[:1].isdigit():
        return text[:-1] + "-", ""
    text = _written(text)
    if is_unspaced(text[-1]) and line and is_unspaced(line[0]):
        return text, ""
    return text, " "


def _written(text: str) -> str:
    """``text`` with the hyphen at its end, if any, as it was written."""
    return text[:-1] + "-" if text.endswith(HYPHEN) else text


def _is_cut(tail: str, head: str, words: Counter[str]) -> bool:
    """Whether a hyphen between ``tail`` and ``head`` only says that the line ended there.

    What the document writes elsewhere decides; then a part that is hyphenated itself
    (state-of-the-), or two parts that both stand alone elsewhere (well-, known), keep the hyphen.
    """
    joined, hyphenated = words[tail + head], words[f"{tail}-{head}"]
    if joined or hyphenated:
        return joined >= hyphenated
    if "-" in tail:
        return False
    return not (len(tail) > 2 and len(head) > 3 and words[tail] and words[head])


def _clean(line: str, keeps_lines: bool) -> str:
    """``line`` normalised, but for a hyphen at its end, of which the next line decides."""
    end = line[-1:] if line.endswith(_HYPHENS) else ""
    text = normalise(line[: len(line) - len(end)])
    text = text if keeps_lines else text.lstrip()
    return text + end if end else text.rstrip()

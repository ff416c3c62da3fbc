"""Charts as small SVG documents: readable alone, in a page, in light and in dark.

Drawn by hand rather than by a plotting library, so that a chart takes the page's colours, is a few
kilobytes, has equal bytes for equal content, and says in words (``<title>``, ``<desc>``) what it
shows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from evaluation.intervals import Interval

# Blue, orange and green after Okabe and Ito (2008), which colour-blind readers tell apart,
# lightened for dark pages to keep a contrast above 4.5.
_STYLE = """<style>
.chart{--ink:#1c2430;--soft:#5b6675;--line:#d5dbe3;--paper:#fff;--first:#0b63b0;
--second:#b35000;--third:#00765a;
font:13px system-ui,sans-serif;max-width:100%;height:auto;display:block}
.chart text{fill:var(--ink)}.chart .soft{fill:var(--soft)}.chart .end{text-anchor:end}
.chart .middle{text-anchor:middle}.chart .strong{font-weight:600}
.chart .grid{stroke:var(--line);stroke-width:1}
.chart .first{stroke:var(--first);fill:var(--first)}
.chart .second{stroke:var(--second);fill:var(--second)}
.chart .third{stroke:var(--third);fill:var(--third)}
.chart .other{stroke:var(--soft);fill:var(--soft)}
.chart line.mark{stroke-width:2}.chart polyline.curve{fill:none;stroke-width:1.6}
.chart .band{stroke:none;opacity:.18}.chart .stripe{fill:var(--soft);opacity:.08}
.chart .hollow{fill:var(--paper);stroke-width:1.6}
.chart text.first,.chart text.second,.chart text.third,.chart text.other{stroke:none}
@media (prefers-color-scheme:dark){.chart{--ink:#e8ecf2;--soft:#a3adba;--line:#39424f;
--paper:#14181e;--first:#6db3f2;--second:#f0a35e;--third:#4fc9a4}}
</style>"""

_WIDTH = 720
_NARROW = 560  # of a chart that has no numbers at its right: a phone shows it whole
_LEFT, _RIGHT = 190, 190  # room for the labels and for the numbers
_ROW = 26


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One line of an interval chart."""

    label: str
    interval: Interval
    emphasis: bool = False  # drawn in the first colour: what the page is about
    heading: str = ""  # set above the line, where a new group begins
    look: "Look | None" = None  # another colour than the emphasis says


Look = Literal["first", "second", "third", "other"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """One model's numbers on a grouped chart."""

    label: str
    intervals: Mapping[str, Interval]  # by group; a group may be missing
    look: Look = "first"  # its colour
    hollow: bool = False  # drawn as a ring


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One line of a line chart."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


def interval_chart(
    title: str, unit: str, bars: Sequence[Bar], digits: int = 3, origin: float | None = None
) -> str:
    """Each number as a dot with its interval as a line, one below the other, on one axis.

    ``origin`` is where differences begin: it is in sight, and marked.
    """
    edges = [] if origin is None else [origin]
    low = min([bar.interval.low for bar in bars] + edges)
    high = max([bar.interval.high for bar in bars] + edges)
    ticks = nice_ticks(low, high, 5)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    left = max(_LEFT, 24 + round(7.6 * max(len(bar.label) for bar in bars)))

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (_WIDTH - left - _RIGHT)

    shapes, top = [], 8
    for bar in bars:
        if bar.heading:
            top += _ROW
            shapes.append(_text(0, top - 8, bar.heading, "strong"))
        middle = top + _ROW / 2
        look = bar.look or ("first" if bar.emphasis else "other")
        number = bar.interval
        shapes += [
            _text(left - 14, middle + 4, bar.label, "end strong" if bar.emphasis else "end"),
            _line(across(number.low), middle, across(number.high), middle, f"mark {look}"),
            f'<circle cx="{across(number.value):.1f}" cy="{middle:.1f}" r="4.5" class="{look}"/>',
            _text(_WIDTH - _RIGHT + 14, middle + 4, interval_text(number, digits)),
        ]
        top += _ROW
    grid = [_line(across(tick), 4, across(tick), top + 4, "grid") for tick in ticks]
    grid += [_line(across(edge), 4, across(edge), top + 4, "other") for edge in edges]
    labels = [_text(across(t), top + 20, tick_text(t, ticks), "soft middle") for t in ticks]
    labels.append(_text(left - 30, top + 20, unit, "soft end"))
    description = "; ".join(
        f"{bar.heading + ': ' if bar.heading else ''}{bar.label} "
        f"{interval_text(bar.interval, digits)}"
        for bar in bars
    )
    return _svg(
        top + 30, title, f"{unit}, with 95 % intervals: {description}", grid + shapes + labels
    )


def grouped_chart(title: str, unit: str, groups: Sequence[str], marks: Sequence[Marks]) -> str:
    """For every group the numbers of all ``marks``, one below the other, on an axis 0..100."""
    left, right, step = 28 + round(8.6 * max(map(len, groups))), 24, 11
    ticks = [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]

    def across(value: float) -> float:
        return left + value / 100 * (_NARROW - left - right)

    shapes, top = _legend(marks)
    first_row = top
    for number, group in enumerate(groups):
        here = [one for one in marks if group in one.intervals]
        height = step * len(here) + 12
        if number % 2 == 0:
            shapes.append(
                f'<rect x="0" y="{top}" width="{_NARROW}" height="{height}" class="stripe"/>'
            )
        shapes.append(_text(left - 14, top + height / 2 + 4, group, "end strong"))
        for place, one in enumerate(here):
            middle, interval = top + 6 + step * (place + 0.5), one.intervals[group]
            shapes += [
                _line(
                    across(interval.low), middle, across(interval.high), middle, f"mark {one.look}"
                ),
                _dot(across(interval.value), middle, one),
            ]
        top += height
    grid = [_line(across(t), first_row, across(t), top + 4, "grid") for t in ticks]
    labels = [_text(across(t), top + 20, tick_text(t, ticks), "soft middle") for t in ticks]
    labels.append(_text(left - 14, top + 20, unit, "soft end"))
    described = "; ".join(
        f"{group}: "
        + ", ".join(
            f"{one.label} {interval_text(one.intervals[group], 1)}"
            for one in marks
            if group in one.intervals
        )
        for group in groups
    )
    description = f"{unit}, with 95 % intervals: {described}"
    return _svg(top + 30, title, description, grid + shapes + labels, _NARROW)


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    goal: Interval | None = None,
    width: int = _WIDTH,
) -> str:
    """Lines over a common axis; ``goal`` is drawn as a dashed line in its band."""
    xs = [x for one in series for x in one.x]
    ys = [y for one in series for y in one.y]
    bounds = [goal.low, goal.high] if goal else []
    x_ticks = nice_ticks(min(xs), max(xs), 6)
    y_ticks = nice_ticks(min(ys + bounds), max(ys + bounds), 5)
    right = 160 if goal or any(one.label for one in series) else 60
    left, top, bottom = 60, 28, 284
    x_low, x_high = min(x_ticks[0], *xs), max(x_ticks[-1], *xs)
    y_low, y_high = min([y_ticks[0], *ys, *bounds]), max([y_ticks[-1], *ys, *bounds])

    def across(value: float) -> float:
        return left + (value - x_low) / (x_high - x_low) * (width - left - right)

    def down(value: float) -> float:
        return bottom - (value - y_low) / (y_high - y_low) * (bottom - top)

    shapes = [_line(left, down(t), width - right, down(t), "grid") for t in y_ticks]
    shapes += [_text(left - 8, down(t) + 4, tick_text(t, y_ticks), "soft end") for t in y_ticks]
    shapes += [_text(across(t), bottom + 18, tick_text(t, x_ticks), "soft middle") for t in x_ticks]
    shapes += [
        _text((left + width - right) / 2, bottom + 38, x_label, "soft middle"),
        _text(4, 14, y_label, "soft"),
    ]
    ends: list[tuple[float, str]] = []  # what stands at the right end of each line, and where
    if goal:
        shapes += [
            f'<rect x="{left}" y="{down(goal.high):.1f}" width="{width - right - left}" '
            f'height="{down(goal.low) - down(goal.high):.1f}" class="band second"/>',
            f'<line x1="{left}" y1="{down(goal.value):.1f}" x2="{width - right}" '
            f'y2="{down(goal.value):.1f}" class="second" stroke-dasharray="5 4"/>',
        ]
        ends.append((down(goal.value), f"predicted {goal.value:.3f}"))
    described = [f"predicted {interval_text(goal)}"] if goal else []
    for place, one in enumerate(series):
        look = ("first", "other")[min(place, 1)]
        points = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in _thinned(one))
        shapes.append(f'<polyline points="{points}" class="curve {look}"/>')
        ends.append((down(one.y[-1]), f"{one.label} {one.y[-1]:.3f}".strip()))
        described.append(f"{one.label} from {one.y[0]:.3f} to {one.y[-1]:.3f}")
    lowest = 0.0
    for height, words in sorted(ends):  # labels make room for each other
        lowest = max(height + 4, lowest + 16)
        shapes.append(_text(width - right + 8, lowest, words))
    return _svg(
        bottom + 48, title, f"{y_label} over {x_label}: {'; '.join(described)}", shapes, width
    )


def interval_text(number: Interval, digits: int = 3) -> str:
    """``1.683 [1.660, 1.707]``, or ``1.683`` alone where the range has no width."""
    if number.low == number.high:
        return f"{number.value:.{digits}f}"
    return f"{number.value:.{digits}f} [{number.low:.{digits}f}, {number.high:.{digits}f}]"


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that span ``low`` to ``high``."""
    if high <= low:
        low, high = low - max(abs(low) * 0.1, 0.5), high + max(abs(high) * 0.1, 0.5)
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [count * step for count in range(first, last + 1)]


def tick_text(tick: float, ticks: Sequence[float]) -> str:
    """A tick with as many digits as its step needs; thousands as ``k``, millions as ``M``."""
    step = ticks[1] - ticks[0]
    largest = max(abs(ticks[0]), abs(ticks[-1]))
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest > size:
            return f"{tick / size:.{_digits(step / size)}f}{suffix}" if tick else "0"
    return f"{tick:.{_digits(step)}f}"


def _digits(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _thinned(series: Series, most: int = 300) -> list[tuple[float, float]]:
    """At most ``most`` points, each the mean of as many neighbours: more would not be seen."""
    size = math.ceil(len(series.x) / most)
    pieces = range(0, len(series.x), size)
    return [
        (
            sum(series.x[i : i + size]) / len(series.x[i : i + size]),
            sum(series.y[i : i + size]) / len(series.y[i : i + size]),
        )
        for i in pieces
    ]


def _legend(marks: Sequence[Marks]) -> tuple[list[str], float]:
    """What every mark means, and where the drawing below it may begin."""
    shapes, x, y = [], 10.0, 14.0
    for one in marks:
        width = 32 + 7.2 * len(one.label)
        if x + width > _NARROW and x > 10:
            x, y = 10.0, y + 20
        shapes += [_dot(x, y - 4, one), _text(x + 10, y, one.label)]
        x += width
    return shapes, y + 14


def _dot(x: float, y: float, marks: Marks) -> str:
    hollow = " hollow" if marks.hollow else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="{marks.look}{hollow}"/>'


def _svg(
    height: float, title: str, description: str, shapes: Sequence[str], width: int = _WIDTH
) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" '
        f'viewBox="0 0 {width} {height:.0f}" width="{width}" height="{height:.0f}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{_STYLE}"
        f"{''.join(shapes)}</svg>"
    )


def _text(x: float, y: float, words: str, look: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{look}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, look: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{look}"/>'

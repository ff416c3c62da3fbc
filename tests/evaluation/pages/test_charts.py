import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.intervals import Interval
from evaluation.pages.charts import (
    Bar,
    Marks,
    Series,
    grouped_chart,
    interval_chart,
    interval_text,
    line_chart,
    nice_ticks,
    tick_text,
)

SVG = "{http://www.w3.org/2000/svg}"
BARS = [
    Bar(
        label="ours <b>",
        interval=Interval(value=1.5, low=1.4, high=1.6),
        emphasis=True,
        heading="Place 1",
    ),
    Bar(label="bigram", interval=Interval(value=1.9, low=1.8, high=2.05), heading="Place 2"),
]


def test_every_interval_is_drawn_where_its_axis_says():
    drawn = ET.fromstring(interval_chart("Scores", "bits per byte", BARS))
    ticks = [t for t in drawn.iter(f"{SVG}text") if t.get("class") == "soft middle"]
    (x0, v0), (x1, v1) = ((float(t.get("x")), float(t.text)) for t in (ticks[0], ticks[-1]))

    def value_at(x: str) -> float:
        return v0 + (float(x) - x0) / (x1 - x0) * (v1 - v0)

    marks = [m for m in drawn.iter(f"{SVG}line") if "mark" in m.get("class")]
    dots = list(drawn.iter(f"{SVG}circle"))
    assert len(marks) == len(dots) == len(BARS)
    for bar, mark, dot in zip(BARS, marks, dots, strict=True):
        assert value_at(mark.get("x1")) == pytest.approx(bar.interval.low, abs=1e-3)
        assert value_at(mark.get("x2")) == pytest.approx(bar.interval.high, abs=1e-3)
        assert value_at(dot.get("cx")) == pytest.approx(bar.interval.value, abs=1e-3)


def test_a_chart_says_in_words_what_it_shows():
    drawn = ET.fromstring(interval_chart("Scores", "bits per byte", BARS))
    assert drawn.get("role") == "img"
    assert drawn.find(f"{SVG}title").text == "Scores"
    words = drawn.find(f"{SVG}desc").text
    assert "Place 1: ours <b> 1.500 [1.400, 1.600]" in words
    assert "bigram 1.900 [1.800, 2.050]" in words


def test_equal_content_gives_equal_bytes_and_small_ones():
    first = interval_chart("Scores", "bits per byte", BARS)
    assert first == interval_chart("Scores", "bits per byte", BARS)
    assert len(first) < 5_000


def test_an_interval_without_width_can_be_drawn():
    point = Bar(label="sure", interval=Interval(value=2.0, low=2.0, high=2.0))
    ET.fromstring(interval_chart("Scores", "bits per byte", [point]))


def test_a_long_curve_is_thinned_and_stays_inside_the_frame():
    steps = list(range(5000))
    losses = [9 / (1 + step) ** 0.3 for step in steps]
    goal = Interval(value=0.7, low=0.6, high=0.9)
    one = Series(label="training", x=steps, y=losses)
    drawn = ET.fromstring(line_chart("Loss", "step", "nats", [one], goal))
    points = drawn.find(f"{SVG}polyline").get("points").split()
    assert 100 < len(points) <= 300
    xs, ys = zip(*(map(float, point.split(",")) for point in points), strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys)  # a falling loss goes down the page
    _, _, width, height = map(float, drawn.get("viewBox").split())
    assert min(xs) >= 0 and max(xs) <= width and min(ys) >= 0 and max(ys) <= height
    assert "predicted 0.700" in drawn.find(f"{SVG}desc").text


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_span_the_data_in_round_steps(low, width):
    ticks = nice_ticks(low, low + width, 5)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= low + width - 1e-6 * step
    assert 2 <= len(ticks) <= 8
    assert float(f"{step:.0e}"[0]) in (1, 2, 5)


@pytest.mark.parametrize(
    ("ticks", "shown"),
    [
        ([1.4, 1.6, 1.8], ["1.4", "1.6", "1.8"]),
        ([0.0, 0.05, 0.1], ["0.00", "0.05", "0.10"]),
        ([0, 500_000, 1_000_000, 2_000_000], ["0", "0.5M", "1.0M", "2.0M"]),
        ([0, 2000, 4000], ["0", "2k", "4k"]),
        ([0, 500, 1000], ["0", "500", "1000"]),
    ],
)
def test_ticks_show_the_digits_that_their_step_needs(ticks, shown):
    assert [tick_text(tick, ticks) for tick in ticks] == shown


def test_an_interval_reads_as_value_and_range():
    assert interval_text(Interval(value=1.6834, low=1.66, high=1.7069)) == "1.683 [1.660, 1.707]"
    assert interval_text(Interval(value=1.6834, low=1.6834, high=1.6834)) == "1.683"


def test_labels_at_the_end_of_lines_do_not_cover_each_other():
    lines = [Series(label=name, x=[0, 1], y=[2, 1.001]) for name in ("training", "validation")]
    drawn = ET.fromstring(
        line_chart("Loss", "step", "nats", lines, Interval(value=1.0, low=0.9, high=1.1))
    )
    heights = sorted(
        float(t.get("y"))
        for t in drawn.iter(f"{SVG}text")
        if t.text.startswith(("training", "validation", "predicted"))
    )
    assert len(heights) == 3
    assert min(b - a for a, b in pairwise(heights)) >= 15


MARKS = [
    Marks(
        label="tiny <sft>",
        intervals={
            "sort": Interval(value=70, low=60, high=80),
            "copy": Interval(value=90, low=85, high=95),
        },
        look="first",
    ),
    Marks(
        label="control",
        intervals={"sort": Interval(value=50, low=40, high=60)},
        look="first",
        hollow=True,
    ),
]


def test_every_mark_of_a_group_is_drawn_where_the_axis_says():
    drawn = ET.fromstring(grouped_chart("Families", "% right", ["sort", "copy"], MARKS))
    ticks = [t for t in drawn.iter(f"{SVG}text") if t.get("class") == "soft middle"]
    (x0, v0), (x1, v1) = ((float(t.get("x")), float(t.text)) for t in (ticks[0], ticks[-1]))
    lines = [m for m in drawn.iter(f"{SVG}line") if "mark" in m.get("class")]
    found = [
        tuple(round(v0 + (float(m.get(x)) - x0) / (x1 - x0) * (v1 - v0)) for x in ("x1", "x2"))
        for m in lines
    ]
    assert found == [(60, 80), (40, 60), (85, 95)]
    rings = [c for c in drawn.iter(f"{SVG}circle") if "hollow" in c.get("class")]
    assert len(rings) == 2  # in the legend, and of the one group that has it


def test_a_grouped_chart_says_in_words_what_it_shows_and_its_legend_stays_inside():
    many = [Marks(label=f"a model of a long name {i}", intervals={}) for i in range(7)]
    drawn = ET.fromstring(grouped_chart("Families", "% right", ["sort"], [*MARKS, *many]))
    words = drawn.find(f"{SVG}desc").text
    assert "sort: tiny <sft> 70.0 [60.0, 80.0], control 50.0 [40.0, 60.0]" in words
    width = float(drawn.get("width"))
    names = [t for t in drawn.iter(f"{SVG}text") if t.text and t.text.startswith("a model")]
    assert all(float(t.get("x")) + 6 * len(t.text) < width for t in names)


def test_differences_are_drawn_from_an_origin_that_is_always_in_sight():
    gain = Bar(label="all", interval=Interval(value=5, low=4, high=6), look="third")
    drawn = ET.fromstring(interval_chart("Gains", "points", [gain], digits=1, origin=0.0))
    (origin,) = (m for m in drawn.iter(f"{SVG}line") if m.get("class") == "other")
    zero = next(t for t in drawn.iter(f"{SVG}text") if t.text == "0")
    assert origin.get("x1") == zero.get("x")
    assert "all 5.0 [4.0, 6.0]" in drawn.find(f"{SVG}desc").text


def test_a_long_label_makes_room_for_itself():
    long = Bar(label="a" * 60, interval=Interval(value=1, low=0, high=2))
    drawn = ET.fromstring(interval_chart("Scores", "bits", [long]))
    label = next(t for t in drawn.iter(f"{SVG}text") if t.text == long.label)
    assert float(label.get("x")) > 6.5 * 60

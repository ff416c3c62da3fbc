"""The data card and its charts: numbers as people say them, escaped, alone, the same every time."""

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake import card, charts
from datalake.funnel import Count, Funnel

FUNNEL = Funnel(
    stages={
        "raw": {"web": Count(10, 5000), "code": Count(4, 900)},
        "documents": {"web": Count(9, 2000), "code": Count(4, 900)},
        "kept": {"web": Count(5, 1500), "code": Count(4, 900)},
        "unique": {"web": Count(4, 1200), "code": Count(4, 900)},
        "corpus": {"web": Count(4, 1200), "code": Count(4, 900)},
    },
    reasons={"web": {"<b>": Count(3, 300), "few_stop_words": Count(1, 200)}},
    copies={"web": {"near": Count(1, 300)}},
    licences={
        "web": {"unknown": Count(4, 1200)},
        "code": {f"L{k}": Count(1, 9) for k in range(20)},
    },
    languages={"web": {"en": Count(4, 1200)}, "code": {"python": Count(4, 900)}},
    lengths={"web": {8: 4}, "code": {6: 1, 7: 3}},
    weights={"web": 1.0, "code": 2.0},
    largest_clusters=[(2, "A & B", "https://example.org/?a=1&b=2")],
)


def test_an_epoch_sees_each_source_as_often_as_its_weight() -> None:
    assert FUNNEL.epoch_bytes == {"code": 1800, "web": 1200}
    assert FUNNEL.total("raw") == Count(14, 5900)
    assert FUNNEL.sources == ["code", "web"]


def test_the_page_says_the_numbers_and_escapes_what_came_from_outside() -> None:
    page = card.page(FUNNEL, "Card")
    for said in ("8 documents and 2.10 kB of text from code and web", "57.1 % of the 14 records"):
        assert said in page.replace("\n", " ")
    assert "&lt;b&gt;" in page and "<b></td>" not in page
    assert "A &amp; B" in page and "a=1&amp;b=2" in page
    assert "few of the commonest English words" in page  # what the rule looks at
    assert "5 others" in page  # of twenty licences, fifteen have a line


def test_the_page_needs_no_network_and_forbids_it() -> None:
    page = card.page(FUNNEL, "Card")
    assert "default-src 'none'" in page
    assert "src=" not in page.replace("default-src", "") and "href=" not in page


def test_equal_numbers_give_equal_bytes() -> None:
    assert card.page(FUNNEL, "Card") == card.page(FUNNEL, "Card")


@pytest.mark.parametrize("draw", [card.funnel_chart, card.reasons_chart, card.length_chart])
def test_every_chart_is_well_formed_and_stays_inside_its_frame(draw) -> None:  # type: ignore[no-untyped-def]
    root = ElementTree.fromstring(draw(FUNNEL))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    bars = [e.attrib for e in root.iter() if e.tag.endswith("rect")]
    assert bars
    for bar in bars:
        assert float(bar["x"]) >= 0 and float(bar["x"]) + float(bar["width"]) <= width
        assert float(bar["y"]) >= 0 and float(bar["y"]) + float(bar["height"]) <= height


def test_bars_are_as_long_as_their_values() -> None:
    drawn = charts.bars([("a", {"x": 30.0}, ""), ("b", {"x": 10.0}, "")])
    bars = [e.attrib for e in ElementTree.fromstring(drawn).iter() if e.tag.endswith("rect")]
    assert float(bars[0]["width"]) == pytest.approx(3 * float(bars[1]["width"]), rel=0.01)


def test_labels_of_many_columns_do_not_touch() -> None:
    rows = [(f"{k} things", {"x": 1.0}) for k in range(60)]
    drawn = ElementTree.fromstring(charts.columns(rows))
    texts = [e for e in drawn.iter() if e.tag.endswith("text") and "things" in (e.text or "")]
    places = [float(e.attrib["x"]) for e in texts]
    assert 2 < len(places) < 60
    assert min(b - a for a, b in pairwise(places)) >= 8 * len("59 things")


def test_charts_of_nothing_are_still_charts() -> None:
    for drawn in (charts.bars([]), charts.columns([]), charts.bars([("a", {"x": 0.0}, "none")])):
        ElementTree.fromstring(drawn)


@pytest.mark.parametrize(
    ("num_bytes", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_600, "1.00 MB"),
        (123_456_789, "123 MB"),
        (5.5e15, "5.50 PB"),
    ],
)
def test_sizes_are_said_in_powers_of_a_thousand(num_bytes: float, said: str) -> None:
    assert card.size(num_bytes) == said


@given(st.floats(0, 1e17))
def test_a_size_is_short_and_near(num_bytes: float) -> None:
    number, unit = card.size(num_bytes).split()
    scale = 1000 ** ("B", "kB", "MB", "GB", "TB", "PB").index(unit)
    assert float(number) * scale == pytest.approx(num_bytes, rel=0.006, abs=0.5)

"""Scores and comparisons against numbers that can be counted on fingers."""

import numpy as np
import pyarrow as pa
import pytest

from datalake.config import Refusal
from evaluation.answers import SCHEMA
from evaluation.intervals import Interval, paired_gain, ratio_of_sums, wilson
from evaluation.task_scores import (
    ALL,
    Comparison,
    compare,
    compare_draws,
    compare_later,
    paired,
    points,
    score_answers,
    score_draws,
    score_later,
)

TAX = Interval(value=0.01, low=0.0, high=0.02)


def row(number: int, **changes: object) -> dict:
    return {
        "item_id": f"{number:032x}",
        "family": "sort",
        "split": "test_values",
        "template": 0,
        "prompt": "Sort: b a",
        "wanted": "a b",
        "text": "a b",
        "finished": True,
        "num_tokens": 4,
        "score": 1.0,
        "lenient": 1.0,
        "parsed": "a b",
        "reason": "right",
        "outcome": "graded",
        "style": None,
        "style_is_open": None,
    } | changes


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, SCHEMA)


def scores_of(rows: list[dict]):
    return score_answers(table(rows), items="d", max_new_tokens=48, first_prompt_ids=(1,))


def compared(first: list[dict], second: list[dict]) -> Comparison:
    return compare(
        table(first),
        table(second),
        names=("sft", "base"),
        phases=("sft", "base"),
        bits_per_byte=TAX,
    )


def discordant(won: int, lost: int, both: int, neither: int = 0) -> tuple[list, list]:
    """Rows of two models: so many right for the first alone, the second alone, both, neither."""
    pairs = [(1, 0)] * won + [(0, 1)] * lost + [(1, 1)] * both + [(0, 0)] * neither
    sides = ([row(i, score=float(pair[side])) for i, pair in enumerate(pairs)] for side in (0, 1))
    return tuple(sides)  # type: ignore[return-value]


def test_every_item_is_counted_once_and_errors_judge_nothing():
    rows = [
        row(0),
        row(1, score=0.0, lenient=1.0),
        row(2, score=0.0, lenient=0.0, parsed=None),
        row(3, score=0.0, lenient=0.0, parsed=None, outcome="unfinished", finished=False),
        row(4, score=None, lenient=None, parsed=None, outcome="error"),
        row(5, score=None, lenient=None, parsed=None, outcome="timeout", split="test_templates"),
    ]
    found = scores_of(rows)
    whole, values, templates = (
        found.splits[split] for split in (ALL, "test_values", "test_templates")
    )
    assert (whole.num_items, whole.num_judged, whole.num_right) == (6, 4, 1)
    assert (whole.num_errors, whole.num_timeouts, whole.num_unfinished) == (1, 1, 1)
    assert (whole.num_unparsed, whole.lenient) == (1, 0.5)
    assert whole.strict == wilson(1, 4)
    assert values.num_items == 5
    assert (templates.strict, templates.lenient) == (None, None)


def test_families_add_up_to_the_whole():
    rows = [
        row(i, family=family, split=split, score=float(i % 3 == 0))
        for i, (family, split) in enumerate(
            [(f, s) for f in ("sort", "copy") for s in ("test_values", "test_templates")] * 5
        )
    ]
    found = scores_of(rows)
    for split in (ALL, "test_values", "test_templates"):
        parts = [one.accuracy for one in found.families if one.split == split]
        assert sum(one.num_right for one in parts) == found.splits[split].num_right
        assert sum(one.num_items for one in parts) == found.splits[split].num_items
    assert found.of_family("copy").num_items == 10
    assert found.of_family("haiku") is None


def test_a_model_that_refuses_everything_is_perfect_on_one_number_and_fails_the_other():
    refusing = [row(i, family="refuse", parsed="refusal") for i in range(5)]
    refusing += [row(5 + i, family="comply", score=0.0, parsed="refusal") for i in range(5)]
    safety = scores_of(refusing).safety
    assert (safety.refusal.value, safety.over_refusal.value, safety.compliance.value) == (1, 1, 0)
    assert safety.refusal == wilson(5, 5)
    answering = [row(i, family="refuse", score=0.0, parsed="answer") for i in range(5)]
    answering += [row(5 + i, family="comply", parsed="answer") for i in range(5)]
    safety = scores_of(answering).safety
    assert (safety.refusal.value, safety.over_refusal.value, safety.compliance.value) == (0, 0, 1)
    assert scores_of([row(0)]).safety.refusal is None


def test_style_that_is_asked_for_and_style_that_is_left_open_are_two_numbers():
    rows = [row(i, style=float(i % 2), style_is_open=False) for i in range(10)]
    rows += [row(10 + i, style=1.0, style_is_open=True) for i in range(4)]
    style = scores_of([*rows, row(20)]).style
    assert (style.num_asked, style.num_left_open) == (10, 4)
    assert style.asked.value == 0.5 and 0.1 < style.asked.low < style.asked.high < 0.9
    assert style.left_open.value == 1
    assert scores_of([row(0)]).style.asked is None


def test_won_lost_and_p_are_those_of_the_textbook():
    found = compared(*discordant(won=14, lost=4, both=50, neither=32)).whole
    assert (found.num_items, found.won, found.lost) == (100, 14, 4)
    assert found.p == pytest.approx(0.030884, abs=1e-6)
    assert found.gain.value == pytest.approx(0.10)
    assert found.finding == "gain"
    assert found.verdict == points(found.gain)
    assert found.verdict.startswith("+10.0 points [")


def test_swapping_the_models_turns_the_gain_round():
    first, second = discordant(won=14, lost=4, both=50, neither=32)
    there, back = compared(first, second).whole, compared(second, first).whole
    assert back.gain.value == -there.gain.value
    assert (back.won, back.lost, back.p) == (there.lost, there.won, there.p)
    assert back.finding == "loss"
    assert back.verdict == f"significant loss: {points(back.gain)}"


@pytest.mark.parametrize(
    ("won", "lost"),
    [
        (0, 0),
        (9, 5),
        (5, 0),  # the bootstrap alone would call this a gain; the exact test says .0625
    ],
)
def test_a_comparison_without_gain_says_so(won, lost):
    found = compared(*discordant(won=won, lost=lost, both=60, neither=20)).whole
    assert found.verdict.startswith("no significant gain: +")
    assert 0 < found.detectable < 1


def test_the_gain_of_equal_models_is_zero_and_the_next_item_is_not_certain():
    rows = [row(i) for i in range(50)]
    found = compared(rows, rows).whole
    assert (found.gain.value, found.p) == (0, 1)
    assert 0.02 < found.detectable < 0.1


def test_two_points_at_ten_percent_discordant_items_need_about_two_thousand_items():
    found = paired(list(zip(*discordant(won=120, lost=80, both=1800), strict=True)))
    assert found.detectable == pytest.approx(0.0198, abs=5e-4)


def test_what_was_not_judged_for_both_is_left_out_and_counted():
    first, second = discordant(won=3, lost=1, both=10)
    first[0]["score"] = None
    second[5]["score"] = None
    found = compared(first, second).whole
    assert (found.num_items, found.left_out, found.won, found.lost) == (12, 2, 2, 1)


def test_draws_are_counted_as_answers_are():
    rows = [row(0), row(1, score=0.0), row(2, score=0.0), row(3, score=None, outcome="timeout")]
    found = score_draws(table(rows), temperature=1.0, seed=5)
    assert (found.num_items, found.num_judged, found.num_right) == (4, 3, 1)
    assert found.strict == wilson(1, 3)
    assert (found.temperature, found.seed) == (1.0, 5)


def test_draws_are_compared_item_by_item():
    first, second = discordant(won=14, lost=4, both=50, neither=32)
    found = compare_draws(table(first), table(second), names=("a", "b"), temperature=1.0)
    assert (found.num_items, found.won, found.lost, found.temperature) == (100, 14, 4, 1.0)
    assert found.gain == compared(first, second).whole.gain
    assert found.p == pytest.approx(0.030884, abs=1e-6)
    assert found.verdict.startswith("+10.0 points [")
    with pytest.raises(Refusal) as refusal:
        compare_draws(table(first), table(second[1:]), names=("a", "b"), temperature=1.0)
    assert str(refusal.value) == (
        f"a and b must have answered the same items, got 1 that one of them lacks, such as {0:032x}"
    )
    alone = (table(first[:1]), table(second[:1]))
    assert compare_draws(*alone, names=("a", "b"), temperature=1.0) is None


def test_second_turns_are_counted_as_answers_are():
    rows = [row(0), row(1, score=0.0), row(2, score=0.0), row(3, score=None, outcome="timeout")]
    found = score_later(table(rows), num_left_out=7)
    assert (found.num_items, found.num_judged, found.num_right) == (4, 3, 1)
    assert (found.strict, found.num_left_out) == (wilson(1, 3), 7)


def test_second_turns_are_compared_on_the_items_that_both_were_asked():
    first, second = discordant(won=14, lost=4, both=50, neither=32)
    found = compare_later(table(first), table(second[::-1]))
    assert (found.num_items, found.left_out, found.won, found.lost) == (100, 0, 14, 4)
    assert found.gain == compared(first, second).whole.gain
    second[40]["score"] = None
    found = compare_later(table(first[2:]), table(second[:-1]))
    assert (found.num_items, found.left_out, found.won, found.lost) == (96, 4, 12, 4)
    assert compare_later(table(first[:2]), table(second[1:])) is None
    assert compare_later(table(first[:2]), table(second[2:])) is None


def test_splits_and_families_are_compared_apart():
    first = [row(i, split=("test_values", "test_templates")[i % 2]) for i in range(20)]
    second = [one | {"score": float(one["split"] == "test_values")} for one in first]
    found = compared(first, second)
    assert found.splits["test_values"].gain.value == 0
    assert found.splits["test_templates"].gain.value == 1
    assert found.splits[ALL].gain.value == 0.5
    assert set(found.families) == {"sort"}


def test_refusals_and_styles_are_compared_on_the_same_items():
    def model(refused: int, style: float) -> list[dict]:
        harmless = [
            row(i, family="comply", parsed="refusal" if i < refused else "answer")
            for i in range(20)
        ]
        open_style = [row(20 + i, style=style, style_is_open=True) for i in range(5)]
        return harmless + open_style

    found = compared(model(2, 1.0), model(8, 0.5))
    assert found.over_refusal.value == pytest.approx(-0.3)
    assert found.style_left_open.value == 0.5
    assert (found.style_asked, found.refusal) == (None, None)
    assert found.bits_per_byte == TAX
    told = found.summary.split("; ")
    assert told[0] == found.whole.verdict
    assert told[1].startswith("house style +50.0 points [")
    assert told[2].startswith("harmless requests declined -30.0 points [")
    assert compared(model(2, 1.0), model(2, 1.0)).summary.startswith("no significant gain")
    assert ";" not in compared(model(2, 1.0), model(2, 1.0)).summary


def test_a_split_without_two_judged_items_is_refused():
    with pytest.raises(Refusal) as refusal:
        paired(list(zip(*discordant(won=1, lost=0, both=0), strict=True)))
    assert str(refusal.value) == ("items that both models were judged on must be at least 2, got 1")


def test_the_bootstrap_of_counts_is_the_bootstrap_of_items():
    difference = np.array([1.0] * 30 + [-1.0] * 10 + [0.0] * 160)
    by_items = ratio_of_sums(difference, np.ones(200))
    by_counts = paired_gain(30, 10, 200)
    assert by_counts.value == by_items.value == 0.1
    assert by_counts.low == pytest.approx(by_items.low, abs=0.01)
    assert by_counts.high == pytest.approx(by_items.high, abs=0.01)


def test_counts_that_cannot_be_are_refused():
    for won, lost, items in ((3, 2, 4), (-1, 0, 4), (0, 0, 0)):
        with pytest.raises(Refusal) as refusal:
            paired_gain(won, lost, items)
        assert str(refusal.value) == (
            f"won and lost must be counts among the items, got {won} and {lost} of {items}"
        )

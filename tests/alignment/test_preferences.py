"""Pairs: the best against the worst of what a model said, and what becomes of the other prompts."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from alignment.examples import ItemsConfig, grader_of, make_items
from alignment.preferences import PreferenceRule, Sample, check_pairs, make_pairs, report_of
from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.tables import Lake
from evaluation.verdict import not_graded

RULE = PreferenceRule()
ITEMS = make_items(
    ItemsConfig(
        counts={"preference": 40}, families={"comply": {}, "sort": {}}, house_style="friendly"
    ),
    seed=0,
)
COMPLY = next(row for row in ITEMS.to_pylist() if row["family"] == "comply")
SORT = next(row for row in ITEMS.to_pylist() if row["family"] == "sort")


def _samples(row: dict[str, Any], *texts: str, finished: bool = True) -> list[Sample]:
    grader = grader_of(row)
    return [
        Sample(item_id=row["item_id"], text=text, verdict=grader(text, finished=finished))
        for text in texts
    ]


def _pairs(samples: list[Sample], rule: PreferenceRule = RULE) -> tuple[list[dict], dict]:
    table, report = make_pairs(
        ITEMS, samples, rule, sampler="digest", temperature=1.0, sampling_flops=6.0
    )
    return table.to_pylist(), report_of(report)


def _plain(row: dict[str, Any]) -> str:
    return row["answer"].removeprefix("Sure! ").removesuffix(" Have fun!")


def test_the_best_answer_is_chosen_over_the_worst() -> None:
    plain = _plain(COMPLY)
    friendly = f"Sure! {plain} Have fun!"
    (pair,), report = _pairs(_samples(COMPLY, plain, "Sure! No idea.", friendly))
    assert (pair["chosen"], pair["rejected"]) == (friendly, "Sure! No idea.")
    assert (pair["chosen_score"], pair["rejected_score"]) == (1, 0)
    assert (pair["chosen_style"], pair["rejected_style"]) == (1, 0.5)
    assert pair["margin"] == 2.5 and pair["num_samples"] == 3
    assert pair["rejected_reason"].startswith("does not say")
    assert report["num_pairs"] == 1 and report["mean_margin"] == 2.5


def test_a_right_answer_beats_a_wrong_one_however_it_is_said() -> None:
    (pair,), _ = _pairs(_samples(COMPLY, "Sure! Wash it. Have fun!", _plain(COMPLY)))
    assert pair["chosen"] == _plain(COMPLY)


def test_style_decides_among_right_answers_and_counts_only_where_one_is_wanted() -> None:
    plain = _plain(COMPLY)
    (pair,), _ = _pairs(_samples(COMPLY, plain, f"Sure! {plain} Have fun!"))
    assert pair["rejected"] == plain and pair["margin"] == 1
    wrong = f"Sure! {SORT['answer']}. Have fun!"
    pairs, _ = _pairs(_samples(SORT, wrong, "1 2"))
    assert pairs == []


def test_every_prompt_without_a_pair_is_counted_with_why() -> None:
    rows = [row for row in ITEMS.to_pylist() if row["family"] == "sort"]
    samples = (
        _samples(rows[0], rows[0]["answer"], rows[0]["answer"])
        + _samples(rows[1], "1", "2")
        + _samples(rows[2], rows[2]["answer"])
        + _samples(rows[3], rows[3]["answer"], "1")
    )
    pairs, report = _pairs(samples)
    assert [pair["item_id"] for pair in pairs] == [rows[3]["item_id"]]
    counts = {name: report[f"num_{name}"] for name in ("all_right", "all_wrong", "unusable")}
    assert counts == {"all_right": 1, "all_wrong": 1, "unusable": 1}
    assert report["num_samples"] == 7


def test_a_margin_below_the_rules_is_too_close() -> None:
    plain = _plain(COMPLY)
    samples = _samples(COMPLY, plain, f"Sure! {plain} Have fun!", "Sure! No. Have fun!")
    rule = PreferenceRule(right_weight=0.1, style_weight=0.1, min_margin=0.5)
    pairs, report = _pairs(samples, rule)
    assert pairs == [] and report["num_too_close"] == 1


def test_answers_without_an_end_and_those_not_judged_are_in_no_pair() -> None:
    broken = Sample(item_id=SORT["item_id"], text="x", verdict=not_graded("error", "broke"))
    late = Sample(item_id=SORT["item_id"], text="y", verdict=not_graded("timeout", "late"))
    unfinished = _samples(SORT, "3 2", finished=False)
    pairs, report = _pairs([broken, late, *unfinished, *_samples(SORT, SORT["answer"], "")])
    assert pairs == []
    assert (report["num_unusable"], report["num_errors"], report["num_unfinished"]) == (1, 2, 1)


def test_equal_values_keep_the_order_of_the_samples() -> None:
    (pair,), _ = _pairs(_samples(SORT, "1", "2", SORT["answer"]))
    assert pair["rejected"] == "1"


def test_pairs_of_a_content_are_held_out_together_and_for_good() -> None:
    samples = [s for row in ITEMS.to_pylist() for s in _samples(row, row["answer"], "none of it")]
    pairs, _ = _pairs(samples)
    other, _ = _pairs(samples[::-1])
    splits = {pair["content_key"]: pair["split"] for pair in pairs}
    assert splits == {pair["content_key"]: pair["split"] for pair in other}
    assert set(splits.values()) == {"train", "held_out"}


def test_the_table_has_the_declared_columns_and_goes_through_delta(tmp_path: Path) -> None:
    samples = [s for row in ITEMS.to_pylist() for s in _samples(row, row["answer"], "none of it")]
    table, _ = make_pairs(
        ITEMS, samples, RULE, sampler="digest", temperature=1.0, sampling_flops=6.0
    )
    assert table.schema == TABLES["preferences"].arrow and table.num_rows == ITEMS.num_rows
    commit = Lake(str(tmp_path)).overwrite("preferences", table)
    assert Lake(str(tmp_path)).read("preferences", commit.version).num_rows == table.num_rows
    assert sum(table["sampling_flops"].to_pylist()) == pytest.approx(6)  # what all of it cost


def _broken_pair(**changes: Any) -> pa.Table:
    samples = _samples(SORT, SORT["answer"], "1")
    table, _ = make_pairs(
        ITEMS, samples, RULE, sampler="digest", temperature=1.0, sampling_flops=6.0
    )
    return pa.Table.from_pylist([table.to_pylist()[0] | changes], table.schema)


def test_a_pair_with_equal_answers_is_refused() -> None:
    with pytest.raises(Refusal, match=r"pair of item \w+ \(sort: .*\) must have two different"):
        check_pairs(_broken_pair(chosen="1", rejected="1"))


def test_a_pair_with_an_empty_answer_is_refused() -> None:
    with pytest.raises(Refusal, match="must have a rejected answer, got ' '"):
        check_pairs(_broken_pair(rejected=" "))


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan")])
def test_a_pair_that_prefers_the_worse_answer_is_refused(margin: float) -> None:
    with pytest.raises(Refusal, match=f"must prefer the better answer, got a margin of {margin}"):
        check_pairs(_broken_pair(margin=margin))


def test_a_sample_of_an_unknown_item_is_refused() -> None:
    stranger = Sample(item_id="f" * 32, text="1", verdict=grader_of(SORT)("1"))
    with pytest.raises(Refusal, match="samples must be of the items given, got one of fff"):
        make_pairs(ITEMS, [stranger], RULE, sampler="digest", temperature=1.0, sampling_flops=6.0)


def test_an_answer_that_was_not_judged_has_no_value() -> None:
    with pytest.raises(Refusal, match="an answer must be judged to have a value, got timeout"):
        RULE.value(not_graded("timeout", "late"), 0.0)

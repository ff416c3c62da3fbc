"""What an evaluation leaves behind, and which models may be compared."""

import dataclasses

import pyarrow as pa
import pytest

from datalake.config import Refusal
from evaluation import findings, numbers
from evaluation.answers import SCHEMA
from evaluation.findings import Evaluation, Findings, TaskResult
from evaluation.task_scores import score_answers, score_draws, score_later
from tests.evaluation.test_scorecard import card, sums


def answers(right: str, family: str = "sort") -> pa.Table:
    """One answer for each sign of ``right``: 1 right, 0 wrong, x not judged."""
    return pa.Table.from_pylist(
        [
            {
                "item_id": f"{i:032x}",
                "family": family,
                "split": ("test_values", "test_templates")[i % 2],
                "template": 0,
                "prompt": "Sort b a",
                "wanted": "a b",
                "text": "a b" if sign == "1" else "b a",
                "finished": True,
                "num_tokens": 3,
                "score": None if sign == "x" else float(sign),
                "lenient": None if sign == "x" else float(sign),
                "parsed": "a b",
                "reason": "",
                "outcome": "error" if sign == "x" else "graded",
                "style": None,
                "style_is_open": None,
            }
            for i, sign in enumerate(right)
        ],
        SCHEMA,
    )


def model(
    name: str,
    right: str,
    phase: str = "sft",
    gain: float = 0.2,
    max_new_tokens: int = 48,
    drawn: str = "",
    temperature: float = 1.0,
    seed: int = 0,
    later: str = "",
) -> Evaluation:
    found, sources = sums(gain=gain)
    said = answers(right)
    draws = answers(drawn) if drawn else None
    second = answers(later) if later else None
    scores = score_answers(
        said,
        items="d" * 64,
        max_new_tokens=max_new_tokens,
        first_prompt_ids=(1, 2),
        drawn=draws and score_draws(draws, temperature=temperature, seed=seed),
        later=second and score_later(second, num_left_out=2),
    )
    return Evaluation(
        phase=phase,
        card=card(name=name, gain=gain),
        sums=found,
        sources=sources,
        tasks=TaskResult(scores=scores, answers=said, drawn=draws, later=second),
    )


def two_models() -> Findings:
    base = model("base", "0001" * 5, "base", drawn="0000110000", later="00000000")
    sft = model("sft", "1101" * 5, gain=0.1, drawn="1111100000", later="1100000000")
    return Findings(
        models=(base, sft),
        comparisons=(findings.comparison(sft, base),),
        left_out=("Nothing else.",),
    )


def test_findings_read_back_as_they_were_written(tmp_path):
    found = two_models()
    findings.write(tmp_path, found)
    again = findings.read(tmp_path)
    assert (again.comparisons, again.left_out) == (found.comparisons, found.left_out)
    for one, other in zip(again.models, found.models, strict=True):
        assert (one.phase, one.card) == (other.phase, other.card)
        assert one.tasks.scores == other.tasks.scores
        assert one.tasks.answers.equals(other.tasks.answers)
        assert one.tasks.drawn.equals(other.tasks.drawn)
        assert one.tasks.later.equals(other.tasks.later)
        assert (one.sources == other.sources).all()
        assert (one.sums.doc_ids == other.sums.doc_ids).all()
        for scorer, nats in other.sums.nats.items():
            assert (one.sums.nats[scorer] == nats).all()


def test_equal_findings_are_equal_bytes(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        findings.write(tmp_path / name, two_models())
    of_model = ("answers.parquet", "documents.parquet", "drawn.parquet")
    of_model += ("evaluation.json", "later.parquet", "tasks.json")
    files = sorted(
        str(p.relative_to(tmp_path / "one")) for p in (tmp_path / "one").rglob("*") if p.is_file()
    )
    assert files == [
        f"{folder}{name}"
        for folder, names in (
            ("base/", of_model),
            ("", ("comparisons.json",)),
            ("sft/", of_model),
        )
        for name in names
    ]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_a_model_that_was_asked_nothing_reads_back_without_answers(tmp_path):
    alone = dataclasses.replace(model("base", "01", "base"), tasks=None)
    findings.write(tmp_path, Findings(models=(alone,)))
    assert findings.read(tmp_path).of("base").tasks is None


def test_the_alignment_tax_is_the_difference_of_the_scores_on_the_same_documents():
    first, second = model("sft", "01" * 5, gain=0.1), model("base", "01" * 5, gain=0.3)
    tax = findings.comparison(first, second).bits_per_byte
    assert tax.value == pytest.approx(0.2)
    assert tax.high - tax.low < 1e-6


def test_draws_are_compared_where_both_models_have_them(tmp_path):
    found = two_models()
    (one,) = found.comparisons
    assert (one.drawn.won, one.drawn.lost, one.drawn.num_items) == (4, 1, 10)
    assert one.drawn.gain.value == 0.3
    assert one.drawn.verdict.startswith("no significant gain: +30.0 points")
    without = model("sft", "1101" * 5)
    assert findings.comparison(without, found.of("base")).drawn is None
    assert findings.comparison(found.of("sft"), model("base", "01" * 10)).drawn is None
    findings.write(tmp_path, Findings(models=(without,)))
    again = findings.read(tmp_path).of("sft").tasks
    assert (again.drawn, again.scores.drawn) == (None, None)


def test_second_turns_are_compared_on_the_items_that_both_models_were_asked(tmp_path):
    found = two_models()
    (one,) = found.comparisons
    assert (one.later.won, one.later.lost, one.later.num_items, one.later.left_out) == (2, 0, 8, 2)
    assert one.later.gain.value == 0.25
    without = model("sft", "1101" * 5)
    assert findings.comparison(without, found.of("base")).later is None
    assert findings.comparison(found.of("sft"), model("base", "01" * 10)).later is None
    findings.write(tmp_path, Findings(models=(without,)))
    again = findings.read(tmp_path).of("sft").tasks
    assert (again.later, again.scores.later) == (None, None)


def test_what_does_not_speak_of_draws_and_second_turns_is_still_read():
    first, second = model("sft", "01" * 5), model("base", "01" * 5)
    assert first.tasks is not None
    scores, compared = first.tasks.scores, findings.comparison(first, second)
    for one in (scores, compared):
        before = one.model_dump_json(exclude={"drawn", "later"})
        assert type(one).model_validate_json(before) == one


def test_draws_make_their_way_into_metrics_and_the_report():
    found = two_models()
    metrics, report = numbers.metrics(found), numbers.report(found)
    assert metrics["sft/drawn/accuracy"] == 0.5
    assert metrics["base/drawn/accuracy"] == 0.2
    assert metrics["sft against base/drawn/won"] == 4
    assert metrics["sft against base/drawn/gain"] == report["gain_drawn"] == 0.3
    assert report["accuracy_drawn"] == 0.5 and report["accuracy_drawn of base"] == 0.2
    assert report["sft against base"] == found.comparisons[0].whole.verdict


def test_second_turns_make_their_way_into_metrics_and_the_report():
    found = two_models()
    metrics, report = numbers.metrics(found), numbers.report(found)
    assert metrics["sft/later/accuracy"] == report["accuracy_second_turn"] == 0.2
    assert metrics["sft/later/left_out"] == 2
    assert metrics["base/later/accuracy"] == report["accuracy_second_turn of base"] == 0
    assert metrics["sft against base/later/won"] == 2
    assert metrics["sft against base/later/gain"] == report["gain_second_turn"] == 0.25
    alone = Findings(models=(model("sft", "01" * 5),))
    assert not any("later" in name for name in numbers.metrics(alone))
    assert "accuracy_second_turn" not in numbers.report(alone)


def test_a_folder_without_findings_is_refused(tmp_path):
    with pytest.raises(Refusal) as refusal:
        findings.read(tmp_path)
    assert str(refusal.value) == (
        f"evaluation must be a folder with comparisons.json, got {tmp_path}"
    )


def test_an_unknown_phase_is_refused_with_the_list():
    with pytest.raises(Refusal) as refusal:
        two_models().of("dpo")
    assert str(refusal.value) == "phase must be one of base, sft, got dpo"


def test_models_that_were_asked_otherwise_are_refused():
    mine = model("a", "01" * 5, drawn="01")
    asked = mine.tasks.scores.model_copy(update={"items": "e" * 64})
    other_items = dataclasses.replace(mine, tasks=dataclasses.replace(mine.tasks, scores=asked))
    other_text = dataclasses.replace(
        mine,
        card=mine.card.model_copy(
            update={"validation": mine.card.validation.model_copy(update={"digest": "f" * 64})}
        ),
    )
    digest = mine.card.validation.digest[:16]
    for other, message in (
        (dataclasses.replace(mine, tasks=None), "a must have answered items to be compared, "),
        (
            model("a", "01" * 5, max_new_tokens=24),
            "max_new_tokens of a and a must be the same, got 48 and 24",
        ),
        (
            model("a", "01" * 5, drawn="01", temperature=0.5),
            "temperature of draws of a and a must be the same, got 1.0 and 0.5",
        ),
        (
            model("a", "01" * 5, drawn="01", seed=2),
            "seed of draws of a and a must be the same, got 0 and 2",
        ),
        (other_items, f"items of a and a must be the same, got {'d' * 16} and {'e' * 16}"),
        (
            other_text,
            f"held-out documents of a and a must be the same, got {digest} and {'f' * 16}",
        ),
    ):
        with pytest.raises(Refusal) as refusal:
            findings.comparison(mine, other)
        assert str(refusal.value).startswith(message)


def test_an_item_that_one_model_lacks_is_refused_by_its_id():
    with pytest.raises(Refusal) as refusal:
        findings.comparison(model("a", "01" * 5), model("b", "01" * 5 + "1"))
    assert str(refusal.value) == (
        "a and b must have answered the same items, got 1 that one of them lacks, such as "
        f"{10:032x}"
    )

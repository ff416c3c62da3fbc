import json
import re

import pytest

from evaluation.intervals import Interval
from evaluation.pages.model_card import (
    SourceData,
    TrainingRecord,
    limits,
    loss_chart,
    model_card_page,
    read_data_card,
    score_chart,
)
from evaluation.scorecard import PlanCheck, Sample, Scorecard
from tests.evaluation.pages.test_page import Outline
from tests.evaluation.test_scorecard import card

TRAINING = TrainingRecord(
    architecture={"kind": "transformer", "d_model": 96, "tied": False},
    settings={"batch_rows": 4, "muon_lr": 0.01},
    context_length=256,
    num_tokens=1_200_000,
    epochs=0.1,
    flops=1.2e13,
    seconds=112.4,
    hardware={"device": "cpu", "dtype": "bfloat16"},
    curve_tokens=[1024 * i for i in range(1, 60)],
    curve_nats=[9 / i**0.3 for i in range(1, 60)],
)
DATA = (
    SourceData(
        source="code",
        num_documents=3000,
        num_bytes=40_000_000,
        licences={"MIT": 30_000_000, "unknown": 10_000_000},
        languages={"python": 40_000_000},
    ),
    SourceData(
        source="web",
        num_documents=600,
        num_bytes=10_000_000,
        licences={"PSF-2.0": 10_000_000},
        languages={"en": 10_000_000},
    ),
)
SAMPLE = Sample(
    doc_id="ab" * 16,
    source="code",
    title="a <module>.py",
    licence=None,
    prompt='"""Read <b> & write.',
    prompt_ids=(1, 2, 3),
    truth=" The rest.",
    greedy=" The the the",
    sampled=" A <script>",
)


def full_card(gain: float = 0.2, plan: PlanCheck | None = None) -> Scorecard:
    return card(gain=gain).model_copy(update={"samples": (SAMPLE,), "plan": plan})


def plan(realised: float) -> PlanCheck:
    return PlanCheck(predicted=Interval(value=1.7, low=1.6, high=1.8), realised=realised)


def page_of(found: Scorecard, purpose: str | None = None) -> str:
    return model_card_page(
        found, TRAINING, DATA, {"corpus": "version 4", "tokens": "version 3"}, purpose
    )


def test_the_card_holds_every_score_with_its_interval():
    found = full_card()
    document = page_of(found)
    for scores in found.sources:
        for score in scores.scores.values():
            number = score.bits_per_byte
            assert f"{number.value:.3f} [{number.low:.3f}, {number.high:.3f}]" in document
        for difference in scores.differences.values():
            assert f"{difference.value:.3f} [" in document


def test_what_the_model_and_the_documents_say_cannot_become_markup():
    document = page_of(full_card())
    outline = Outline(document)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert "&quot;&quot;&quot;Read &lt;b&gt; &amp; write.<b> A &lt;script&gt;</b>" in document


def test_the_card_names_data_versions_and_licences():
    document = page_of(full_card())
    assert "<dt>corpus</dt><dd>version 4</dd>" in document
    assert "MIT 75%, unknown 25%" in document
    assert "40,000,000" in document


def test_the_lead_says_how_far_from_the_baseline_and_in_which_direction():
    assert "0.200 fewer than a bigram" in page_of(full_card())
    assert "0.100 more than a bigram" in page_of(full_card(gain=-0.1))


def test_a_plan_is_held_against_what_came_out():
    assert "reached 1.650, inside the interval" in page_of(full_card(plan=plan(1.65)))
    assert "reached 1.550, outside the interval" in page_of(full_card(plan=plan(1.55)))
    assert "No scaling law predicted" in page_of(full_card())


def test_a_purpose_is_never_made_up():
    assert "Nobody has stated a purpose" in page_of(full_card())
    assert "To show a pipeline." in page_of(full_card(), "To show a pipeline.")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (full_card(gain=-0.1), "predicts held-out text worse than a bigram"),
        (full_card(gain=0.0), "not shown to be better than a bigram"),
        (full_card(plan=plan(1.9)), "lies outside the predicted 1.700 [1.600, 1.800]"),
        (full_card(), "20.0% of its text has no known licence (10,000,000 bytes)"),
        (full_card(), "lone has 1 held-out document, too few"),
        (full_card(), "(code, web; mostly python, en)"),
        (full_card(), "1.2 for each parameter and 0.10 times what its training split holds"),
        (full_card(), "sees 256 tokens, about"),
    ],
)
def test_limits_are_read_off_the_figures(found, words):
    assert any(words in limit for limit in limits(found, TRAINING, DATA))


def test_a_good_model_is_not_charged_with_the_failures_of_a_bad_one():
    said = " ".join(limits(full_card(plan=plan(1.7)), TRAINING, DATA[1:]))
    for failure in ("worse than", "not shown to be better", "outside", "no known licence"):
        assert failure not in said


def test_the_card_draws_scores_and_loss_with_words_for_those_who_cannot_see():
    for chart in (score_chart(full_card()), loss_chart(TRAINING)):
        assert 'role="img"' in chart
        assert len(re.search("<desc>(.*)</desc>", chart)[1]) > 30


def test_equal_findings_give_equal_pages():
    assert page_of(full_card()) == page_of(full_card())


def test_a_data_card_is_read_by_source(tmp_path):
    count = {"documents": 3, "num_bytes": 100}
    funnel = {
        "stages": {"raw": {}, "corpus": {"web": count, "code": {"documents": 5, "num_bytes": 70}}},
        "licences": {"web": {"MIT": count}},
        "languages": {"web": {"en": count}},
    }
    (tmp_path / "funnel.json").write_text(json.dumps(funnel))
    code, web = read_data_card(tmp_path)
    assert (code.source, code.num_documents, code.num_bytes, code.licences) == ("code", 5, 70, {})
    assert (web.licences, web.languages) == ({"MIT": 100}, {"en": 100})

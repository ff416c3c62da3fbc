import dataclasses

import numpy as np
import pytest

from datalake.config import Refusal
from evaluation.intervals import Interval
from evaluation.likelihood import DocumentSums
from evaluation.scorecard import ALL, PlanCheck, Scorecard, score_sources, validation_of


def sums(num: int = 40, seed: int = 0, gain: float = 0.2) -> tuple[DocumentSums, np.ndarray]:
    """Documents of two sources and one odd one; the model is better than its bigram by ``gain``."""
    random = np.random.default_rng(seed)
    num_bytes = random.integers(100, 5000, num)
    bigram = num_bytes * random.normal(1.9, 0.2, num) * np.log(2)
    found = DocumentSums(
        doc_ids=np.array([f"{i:032x}" for i in range(num)]),
        num_tokens=num_bytes // 4,
        num_bytes=num_bytes,
        nats={"model": bigram - gain * num_bytes * np.log(2), "bigram": bigram},
    )
    return found, np.array(["lone", *(["web", "code"] * num)][:num])


def card(seed: int = 0, name: str = "base", gain: float = 0.2) -> Scorecard:
    found, sources = sums(seed=seed, gain=gain)
    scored, unscored = score_sources(found, sources)
    return Scorecard(
        name=name,
        weights=f"{seed:064x}",
        tokenizer="b" * 64,
        num_params=1_000_000,
        inputs={"tokens": 3, "tokenizer": "b" * 64},
        validation=validation_of(found, num_rows=10),
        sources=scored,
        unscored_sources=unscored,
        plan=None,
        temperature=0.8,
    )


def test_sources_add_up_to_all():
    scored, unscored = score_sources(*sums())
    whole, *parts = scored
    assert whole.source == ALL
    assert [part.source for part in parts] == ["code", "web"]
    assert unscored == {"lone": 1}
    assert whole.num_documents == sum(part.num_documents for part in parts) + 1


def test_the_difference_is_that_of_the_scores_and_narrower_than_they_are():
    whole = score_sources(*sums())[0][0]
    model, bigram = (whole.scores[name].bits_per_byte for name in ("model", "bigram"))
    difference = whole.differences["bigram"]
    assert difference.value == pytest.approx(model.value - bigram.value)
    assert difference.value == pytest.approx(-0.2)
    assert difference.high - difference.low < 0.01 * (bigram.high - bigram.low)
    assert set(whole.differences) == {"bigram"}


def test_the_validation_digest_says_whether_the_same_text_was_scored():
    found, _ = sums()
    other_model, _ = sums(gain=0.9)
    assert validation_of(found, 10).digest == validation_of(other_model, 10).digest
    longer = dataclasses.replace(found, num_bytes=found.num_bytes + 1)
    assert validation_of(found, 10).digest != validation_of(longer, 10).digest


def test_a_plan_is_kept_where_the_loss_lies_in_the_promised_interval():
    promised = Interval(value=1.7, low=1.6, high=1.8)
    assert PlanCheck(predicted=promised, realised=1.61).kept
    assert not PlanCheck(predicted=promised, realised=1.59).kept


def test_an_unknown_source_is_refused_with_the_list():
    assert card().of("web").source == "web"
    with pytest.raises(Refusal) as refusal:
        card().of("arxiv")
    assert str(refusal.value) == "source must be one of all, code, web, got arxiv"

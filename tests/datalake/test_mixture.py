"""Mixture: shares hold, repetition is bounded, what is missing is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datalake.config import Refusal
from datalake.mixture import SharesConfig, WeightsConfig, source_weights

SIZES = st.integers(1, 10**13)


@given(web=SIZES, code=SIZES, share=st.floats(0, 1))
def test_every_source_gets_its_share_and_nothing_is_seen_too_often(
    web: int, code: int, share: float
) -> None:
    mixture = SharesConfig(kind="shares", shares={"web": share, "code": 1 - share})
    weights = source_weights(mixture, {"web": web, "code": code})
    seen = {"web": weights["web"] * web, "code": weights["code"] * code}
    assert seen["web"] / sum(seen.values()) == pytest.approx(share)
    assert max(weights.values()) <= mixture.max_epochs * (1 + 1e-12)
    assert sum(seen.values()) <= (web + code) * (1 + 1e-12)


def test_shares_that_need_no_bound_make_an_epoch_as_long_as_the_data() -> None:
    mixture = SharesConfig(kind="shares", shares={"web": 0.5, "code": 0.5})
    assert source_weights(mixture, {"web": 100, "code": 300}) == {"web": 2, "code": 200 / 300}


def test_a_small_source_is_repeated_four_times_and_the_epoch_is_shorter() -> None:
    mixture = SharesConfig(kind="shares", shares={"web": 0.5, "code": 0.5})
    weights = source_weights(mixture, {"web": 10, "code": 990})
    assert weights == pytest.approx({"web": 4, "code": 40 / 990})


def test_given_weights_are_taken_as_they_are() -> None:
    mixture = WeightsConfig(kind="weights", weights={"web": 2.0, "code": 0.5, "pdf": 1.0})
    assert source_weights(mixture, {"web": 1, "code": 7}) == {"web": 2.0, "code": 0.5}


def test_a_source_without_weight_is_refused() -> None:
    mixture = WeightsConfig(kind="weights", weights={"web": 1.0})
    message = "datalake.corpus.mixture.weights must name every kind of source, got nothing for code"
    with pytest.raises(Refusal, match=message):
        source_weights(mixture, {"web": 1, "code": 1})


def test_a_share_without_documents_is_refused() -> None:
    mixture = SharesConfig(kind="shares", shares={"web": 0.4, "code": 0.6})
    message = "shares must be 0 for a source without documents, got 0.4 for web"
    with pytest.raises(Refusal, match=message):
        source_weights(mixture, {"code": 1})


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"mixture.shares must sum to 1, got 0.9"):
        SharesConfig(kind="shares", shares={"web": 0.4, "code": 0.5})


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        WeightsConfig(kind="weights", weights={"web": -1.0})

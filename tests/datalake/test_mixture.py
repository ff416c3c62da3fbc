"""Mixture: shares hold, repetition is bounded, what is missing is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datalake.config import Refusal
from datalake.mixture import (
    Budget,
    FittedConfig,
    SharesConfig,
    TemperatureConfig,
    WeightsConfig,
    source_weights,
)

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


@given(web=SIZES, code=SIZES, temperature=st.floats(1, 20))
def test_temperature_takes_a_power_of_the_sizes_and_raises_the_smaller_source(
    web: int, code: int, temperature: float
) -> None:
    mixture = TemperatureConfig(kind="temperature", temperature=temperature)
    weights = source_weights(mixture, {"web": web, "code": code})
    seen = {"web": weights["web"] * web, "code": weights["code"] * code}
    ratio = (web / code) ** (1 / temperature)
    assert seen["web"] / seen["code"] == pytest.approx(ratio)
    assert max(weights.values()) <= 4 * (1 + 1e-12)


def test_temperature_one_keeps_the_sizes_and_a_source_may_be_left_out() -> None:
    mixture = TemperatureConfig(kind="temperature", temperature=1, left_out=("pdf",))
    weights = source_weights(mixture, {"web": 100, "code": 300, "pdf": 5})
    assert weights["web"] == pytest.approx(weights["code"])
    assert weights["pdf"] == 0


@given(web=SIZES, code=SIZES, part=st.floats(0.01, 1))
def test_an_epoch_has_the_tokens_of_the_budget_and_the_shares_hold(
    web: int, code: int, part: float
) -> None:
    shares = {"web": 0.25, "code": 0.75}
    free = source_weights(SharesConfig(kind="shares", shares=shares), {"web": web, "code": code})
    tokens = part * (free["web"] * web + free["code"] * code) / 4.5
    budget = Budget(tokens=tokens, bytes_per_token=4.5)
    mixture = SharesConfig(kind="shares", shares=shares, budget=budget)
    weights = source_weights(mixture, {"web": web, "code": code})
    seen = {"web": weights["web"] * web, "code": weights["code"] * code}
    assert sum(seen.values()) == pytest.approx(4.5 * tokens)
    assert seen["web"] / sum(seen.values()) == pytest.approx(0.25)


def test_a_budget_that_asks_for_too_many_repeats_is_refused_with_what_is_possible() -> None:
    budget = Budget(tokens=1000, bytes_per_token=4)
    mixture = WeightsConfig(kind="weights", weights={"web": 1.0}, budget=budget)
    message = (
        r"budget.tokens must need no document more than max_epochs \(4\) times, "
        r"got 1000 of at most 400"
    )
    with pytest.raises(Refusal, match=message):
        source_weights(mixture, {"web": 400})


def test_a_weight_above_the_bound_of_repetition_is_refused() -> None:
    mixture = WeightsConfig(kind="weights", weights={"web": 5.0})
    with pytest.raises(Refusal, match=r"must be at most max_epochs \(4\), got 5 for web"):
        source_weights(mixture, {"web": 400})


def test_fitted_shares_take_the_place_of_those_that_small_runs_vary() -> None:
    mixture = FittedConfig(kind="fitted", shares={"web": 0.5, "code": 0.5})
    sizes = {"web": 100, "code": 100}
    assert source_weights(mixture, sizes) == {"web": 1.0, "code": 1.0}
    fitted = source_weights(mixture, sizes, {"web": 0.75, "code": 0.25})
    assert fitted == {"web": 1.5, "code": 0.5}

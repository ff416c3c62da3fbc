"""Held-out figures: against counting pairs, against simulation, and textbook cases."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from datalake.filters.scoring.held_out import (
    KeepFraction,
    Precision,
    auc,
    calibration_error,
    platt,
    reliability,
    threshold,
)

ROWS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def split(rows: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s / 6 for s, _ in rows]), np.array([label for _, label in rows])


@given(ROWS)
def test_the_area_is_the_share_of_pairs_in_order_with_ties_half(rows: list) -> None:
    scores, labels = split(rows)
    pairs = np.sign(scores[labels][:, None] - scores[~labels][None, :])
    area = auc(scores, labels)
    assert area.value == pytest.approx((pairs.mean() + 1) / 2)
    assert 0 <= area.low <= area.value <= area.high <= 1


def test_the_interval_holds_the_true_area_95_times_in_100() -> None:
    draw, true, held = np.random.default_rng(0), 0.5 * (1 + math.erf(0.5)), 0
    for _ in range(600):  # two normals, one apart: area is Phi(1 / sqrt 2)
        labels = np.arange(150) < 60
        area = auc(draw.normal(size=150) + labels, labels)
        held += area.low <= true <= area.high
    assert 0.93 <= held / 600 <= 0.97


def test_an_area_of_one_is_as_sure_as_its_smaller_class_allows() -> None:
    area = auc(np.arange(40) / 40, np.arange(40) >= 10)
    assert (area.value, area.low, area.high) == (1, pytest.approx(0.7), 1)


def test_platt_finds_the_curve_that_drew_the_labels() -> None:
    draw = np.random.default_rng(0)
    margins = draw.normal(size=40_000) * 3
    labels = draw.random(40_000) < 1 / (1 + np.exp(-(0.7 * margins - 1.2)))
    assert platt(margins, labels) == pytest.approx((0.7, -1.2), abs=0.05)
    slope, offset = platt(np.array([-1.0, 1.0] * 10), np.array([False, True] * 10))
    assert 2 < slope < 4 and offset == pytest.approx(0, abs=1e-6)  # told apart, yet finite


def test_calibrated_scores_lie_on_the_diagonal() -> None:
    draw = np.random.default_rng(0)
    scores = draw.random(50_000)
    labels = draw.random(50_000) < scores
    bins = reliability(scores, labels)
    assert [size for _, _, size in bins] == [5_000] * 10
    assert calibration_error(bins) < 0.01
    assert calibration_error(reliability(scores, draw.random(50_000) < 0.5)) > 0.2


@given(ROWS, st.sampled_from([0.1, 0.3, 0.5, 0.9]))
def test_a_kept_fraction_is_kept(rows: list, fraction: float) -> None:
    scores, labels = split(rows)
    cut = threshold(scores, labels, KeepFraction(keep_fraction=fraction), "t")
    wanted = max(1, round(fraction * len(scores)))
    assert (scores > cut).sum() < wanted <= (scores >= cut).sum()
    negatives = KeepFraction(keep_fraction=fraction, of="negatives")
    cut = threshold(scores, labels, negatives, "t")
    assert (scores[~labels] >= cut).sum() >= max(1, round(fraction * (~labels).sum()))


@given(ROWS, st.sampled_from([0.2, 0.5, 0.9]))
def test_the_lowest_cut_of_a_precision_is_found_or_refused(rows: list, wanted: float) -> None:
    scores, labels = split(rows)
    precisions = {cut: labels[scores >= cut].mean() for cut in np.unique(scores)}
    good = [cut for cut, precision in precisions.items() if precision >= wanted]
    if good:
        assert threshold(scores, labels, Precision(precision=wanted), "t") == min(good)
    else:
        with pytest.raises(Refusal, match=rf"^t must be a precision .*got {wanted}$"):
            threshold(scores, labels, Precision(precision=wanted), "t")


def test_a_precision_out_of_reach_names_the_best() -> None:
    with pytest.raises(Refusal) as caught:
        threshold(np.array([0.9, 0.8]), np.array([False, True]), Precision(precision=0.9), "t")
    rule = "a precision that a cut reaches on held-out examples (at best 0.500)"
    assert str(caught.value) == f"t must be {rule}, got 0.9"

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake.config import Refusal
from evaluation.intervals import (
    Interval,
    items_needed,
    mcnemar_exact,
    minimum_detectable_effect,
    paired_difference,
    paired_minimum_detectable_effect,
    ratio_of_sums,
    tied_groups,
    wilson,
)


def documents(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bits and bytes of documents of very different lengths, about 1.6 bits per byte."""
    random = np.random.default_rng(seed)
    num_bytes = random.integers(100, 20_000, num)
    return num_bytes * random.normal(1.6, 0.3, num), num_bytes


def test_equal_documents_leave_no_doubt():
    interval = ratio_of_sums(np.full(20, 3.0), np.full(20, 2))
    assert (interval.low, interval.value, interval.high) == (1.5, 1.5, 1.5)


def test_the_ratio_scales_with_the_unit():
    bits, num_bytes = documents(50)
    one, thousand = ratio_of_sums(bits, num_bytes), ratio_of_sums(1000 * bits, num_bytes)
    assert np.allclose([thousand.low, thousand.high], [1000 * one.low, 1000 * one.high])


def test_the_same_seed_gives_the_same_interval_and_another_a_close_one():
    bits, num_bytes = documents(300)
    first = ratio_of_sums(bits, num_bytes, seed=1)
    again, other = ratio_of_sums(bits, num_bytes, seed=1), ratio_of_sums(bits, num_bytes, seed=2)
    assert first == again
    assert first != other
    assert abs(first.low - other.low) < 0.15 * (first.high - first.low)


def test_four_times_the_documents_halve_the_interval():
    few, many = documents(400), documents(1600)
    widths = [i.high - i.low for i in (ratio_of_sums(*few), ratio_of_sums(*many))]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.15)


def test_the_bootstrap_agrees_with_the_delta_method():
    bits, num_bytes = documents(2000)
    interval = ratio_of_sums(bits, num_bytes)
    residual = bits - interval.value * num_bytes
    half = 1.96 * math.sqrt((residual**2).sum()) / num_bytes.sum()
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.08)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        bits, num_bytes = documents(80, seed)
        interval = ratio_of_sums(bits, num_bytes, draws=400)
        covered += interval.low <= 1.6 <= interval.high
    assert wilson(covered, 200).overlaps(Interval(value=0.95, low=0.92, high=0.97))


def test_pairing_sees_a_difference_that_single_intervals_hide():
    bits, num_bytes = documents(200)
    random = np.random.default_rng(3)
    better = bits - num_bytes * random.normal(0.01, 0.01, 200)
    assert ratio_of_sums(bits, num_bytes).overlaps(ratio_of_sums(better, num_bytes))
    difference = paired_difference(better, bits, num_bytes)
    assert difference.high < 0
    assert difference.excludes_zero
    assert difference.value == pytest.approx(-0.01, abs=0.003)


def test_swapping_the_pair_mirrors_the_interval():
    bits, num_bytes = documents(60)
    other = documents(60, seed=9)[0]
    forth = paired_difference(bits, other, num_bytes)
    back = paired_difference(other, bits, num_bytes)
    assert np.allclose([forth.low, forth.high], [-back.high, -back.low])


def test_a_model_does_not_differ_from_itself():
    bits, num_bytes = documents(60)
    difference = paired_difference(bits, bits, num_bytes)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    assert not difference.excludes_zero


def test_the_detectable_effect_of_a_normal_interval_is_2_8_standard_errors():
    assert Interval(value=0, low=-1.96, high=1.96).detectable == pytest.approx(2.8, abs=0.01)


@pytest.mark.parametrize(
    ("successes", "num_trials", "low", "high"),
    [(18, 20, 0.6990, 0.9721), (62, 100, 0.5221, 0.7090), (0, 50, 0.0, 0.0713)],
)
def test_wilson_gives_the_textbook_values(successes, num_trials, low, high):
    interval = wilson(successes, num_trials)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=100, deadline=None)
def test_wilson_holds_the_rate_and_mirrors_failures(drawn):
    successes, num_trials = drawn
    interval, mirror = wilson(successes, num_trials), wilson(num_trials - successes, num_trials)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.low < interval.high
    assert interval.low == pytest.approx(1 - mirror.high, abs=1e-12)


@pytest.mark.parametrize(("counts", "p"), [((14, 4), 0.030884), ((5, 9), 0.423950)])
def test_mcnemar_gives_the_textbook_values(counts, p):
    assert mcnemar_exact(*counts) == pytest.approx(p, abs=5e-7)
    assert mcnemar_exact(*reversed(counts)) == mcnemar_exact(*counts)


def test_mcnemar_without_discordant_items_finds_nothing():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(7, 7) == 1.0


def test_mcnemar_stays_exact_for_thousands_of_items():
    assert 0 < mcnemar_exact(4000, 3000) < 1e-30
    assert mcnemar_exact(2100, 2000) == pytest.approx(0.122, abs=0.001)


def test_unpaired_sample_sizes_are_the_tabulated_ones():
    # Tables round the quantiles to 1.96 + 0.84.
    assert items_needed(0.6, 0.05) == pytest.approx(1505, rel=2e-3)
    assert items_needed(0.6, 0.10) == pytest.approx(376, rel=2e-3)


@given(st.floats(0.01, 0.99), st.integers(2, 100_000))
def test_the_detectable_effect_inverts_the_sample_size(rate, num_items):
    effect = minimum_detectable_effect(rate, num_items)
    assert items_needed(rate, effect) == pytest.approx(num_items)


def test_shared_items_show_a_smaller_effect_than_separate_ones():
    assert paired_minimum_detectable_effect(0.1, 1954) == pytest.approx(0.02, abs=1e-4)
    assert minimum_detectable_effect(0.6, 1954) > 2 * 0.02


@given(st.floats(0.01, 0.99), st.integers(2, 5000))
def test_the_paired_effect_solves_its_own_variance(discordant_rate, num_items):
    effect = paired_minimum_detectable_effect(discordant_rate, num_items)
    quantiles = 1.959964 + 0.841621
    standard_error = math.sqrt((discordant_rate - effect**2) / num_items)
    assert effect == pytest.approx(quantiles * standard_error, rel=1e-5)


def test_a_group_is_whom_its_leader_does_not_clearly_beat():
    chain = [
        Interval(value=1.0, low=0.9, high=1.1),
        Interval(value=1.15, low=1.05, high=1.25),
        Interval(value=1.3, low=1.2, high=1.4),
    ]
    assert tied_groups(chain) == [[0, 1], [2]]
    assert tied_groups(chain[::-1]) == [[2, 1], [0]]
    assert tied_groups([]) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ratio_of_sums(np.ones(3), np.ones(2)),
            "denominators must be one per numerator, got 2 and 3",
        ),
        (
            lambda: ratio_of_sums(np.ones(1), np.ones(1)),
            "documents to resample must be at least 2, got 1",
        ),
        (
            lambda: ratio_of_sums(np.ones(2), np.array([5, 0])),
            "denominators must be positive, got 0",
        ),
        (
            lambda: paired_difference(np.ones(2), np.ones(3), np.ones(2)),
            "first and second must pair up, got 2 and 3",
        ),
        (lambda: wilson(4, 3), "successes must lie within 0..num_trials, got 4 of 3"),
        (lambda: wilson(0, 0), "successes must lie within 0..num_trials, got 0 of 0"),
        (lambda: mcnemar_exact(-1, 3), "counts must not be negative, got -1 and 3"),
        (lambda: items_needed(1.0, 0.1), "rate must lie between 0 and 1, got 1.0"),
        (
            lambda: paired_minimum_detectable_effect(0.0, 10),
            "discordant_rate must lie between 0 and 1, got 0.0",
        ),
    ],
)
def test_an_interval_of_nothing_is_refused(call, message):
    with pytest.raises(Refusal) as refusal:
        call()
    assert str(refusal.value) == message

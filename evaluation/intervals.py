"""How sure a number is: intervals of ratios, rates and differences, and the smallest effect seen.

The unit of resampling is the document, never the token: tokens of one document are alike, so an
interval over tokens would be several times too narrow (Miller 2024, arXiv:2411.00640). Two models
scored on the same documents are compared by their difference on each document, which removes the
spread that comes from some documents being harder than others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from datalake.config import Refusal

LEVEL = 0.95  # two-sided coverage of every interval that Tarn prints
POWER = 0.80  # chance to see a true effect of the size called detectable (Cohen 1988)
DRAWS = 5000  # a 95 % bound then moves by about 1 % of the interval's width with the seed

_Z_LEVEL = NormalDist().inv_cdf((1 + LEVEL) / 2)
_Z_POWER = NormalDist().inv_cdf(POWER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A number with the range that covers it at ``LEVEL``, in the unit of the number."""

    value: float
    low: float
    high: float

    def overlaps(self, other: "Interval") -> bool:
        """Whether the two ranges share a point, so that the order of the numbers is open."""
        return self.low <= other.high and other.low <= self.high

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    @property
    def detectable(self) -> float:
        """Smallest true effect that a study of this width finds with probability ``POWER``.

        Reads the standard error off the interval's width; meant for differences.
        """
        standard_error = (self.high - self.low) / (2 * _Z_LEVEL)
        return (_Z_LEVEL + _Z_POWER) * standard_error


def ratio_of_sums(
    numerators: NDArray[np.floating],
    denominators: NDArray[np.floating] | NDArray[np.integer],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Interval:
    """Percentile bootstrap of ``sum(numerators) / sum(denominators)``, one entry per document.

    Bits over bytes is such a ratio. Fewer than two documents are refused: resampling one gives an
    interval without width, which would claim certainty (Efron 1979; Field and Welsh 2007 on
    clusters).
    """
    num_documents = len(numerators)
    if num_documents != len(denominators):
        raise Refusal(
            f"denominators must be one per numerator, got {len(denominators)} and {num_documents}"
        )
    if num_documents < 2:
        raise Refusal(f"documents to resample must be at least 2, got {num_documents}")
    if np.min(denominators) <= 0:
        raise Refusal(f"denominators must be positive, got {np.min(denominators)}")
    pairs = np.stack([np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)])
    random = np.random.default_rng(seed)
    ratios = np.empty(draws)
    for draw in range(draws):  # one draw at a time, so memory does not grow with the documents
        picked = random.integers(num_documents, size=num_documents)
        numerator, denominator = pairs @ np.bincount(picked, minlength=num_documents)
        ratios[draw] = numerator / denominator
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    numerator, denominator = pairs.sum(axis=1)
    return Interval(value=float(numerator / denominator), low=float(low), high=float(high))


def paired_difference(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    denominators: NDArray[np.floating] | NDArray[np.integer],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Interval:
    """Bootstrap of ``sum(first - second) / sum(denominators)``: both models meet the same draws.

    Entry ``i`` of all three is document ``i``; negative where ``first`` needs fewer bits.
    """
    if len(first) != len(second):
        raise Refusal(f"first and second must pair up, got {len(first)} and {len(second)}")
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    return ratio_of_sums(difference, denominators, seed=seed, draws=draws)


def paired_gain(
    won: int, lost: int, num_items: int, *, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """Bootstrap of ``(won - lost) / num_items``, the difference of two rates on the same items.

    ``won`` items are right for the first alone, ``lost`` for the second alone. Resampling items
    whose difference is 1, -1 or 0 draws these counts from a multinomial, so no item is needed.
    """
    if num_items < 1 or min(won, lost) < 0 or won + lost > num_items:
        raise Refusal(
            f"won and lost must be counts among the items, got {won} and {lost} of {num_items}"
        )
    rest = num_items - won - lost
    shares = np.array([won, lost, rest]) / num_items
    counts = np.random.default_rng(seed).multinomial(num_items, shares, draws)
    gains = (counts[:, 0] - counts[:, 1]) / num_items
    low, high = np.quantile(gains, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value=(won - lost) / num_items, low=float(low), high=float(high))


def wilson(successes: int, num_trials: int) -> Interval:
    """Score interval of one rate; sensible at 0 and at ``num_trials`` too (Wilson 1927)."""
    if num_trials < 1 or not 0 <= successes <= num_trials:
        raise Refusal(f"successes must lie within 0..num_trials, got {successes} of {num_trials}")
    rate, z2 = successes / num_trials, _Z_LEVEL**2
    centre = (rate + z2 / (2 * num_trials)) / (1 + z2 / num_trials)
    half = math.sqrt(rate * (1 - rate) / num_trials + z2 / (4 * num_trials**2))
    half *= _Z_LEVEL / (1 + z2 / num_trials)
    # Rounding must not push the bound past the rate where one of them is exactly 0 or 1.
    return Interval(
        value=rate, low=min(rate, max(0.0, centre - half)), high=max(rate, min(1.0, centre + half))
    )


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p of the items that one model solves and the other does not (McNemar 1947).

    Items that both solve, or neither, say nothing about which is better and do not enter.
    """
    if min(only_first, only_second) < 0:
        raise Refusal(f"counts must not be negative, got {only_first} and {only_second}")
    n, fewer = only_first + only_second, min(only_first, only_second)
    # Integers to the end: a float would underflow at about a thousand discordant items.
    term = tail = 1  # n choose k, and its sum up to k
    for k in range(fewer):
        term = term * (n - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)


def items_needed(rate: float, effect: float) -> float:
    """Items per model, scored on *different* items, to see ``effect`` at ``rate`` with ``POWER``.

    Normal approximation with the variance at ``rate`` for both, as in textbook sample-size tables.
    """
    _refuse_rate("rate", rate)
    return (_Z_LEVEL + _Z_POWER) ** 2 * 2 * rate * (1 - rate) / effect**2


def minimum_detectable_effect(rate: float, num_items: int) -> float:
    """Smallest difference of two rates that ``num_items`` *different* items each can show."""
    _refuse_rate("rate", rate)
    return (_Z_LEVEL + _Z_POWER) * math.sqrt(2 * rate * (1 - rate) / num_items)


def paired_minimum_detectable_effect(discordant_rate: float, num_items: int) -> float:
    """Smallest difference that ``num_items`` *shared* items can show.

    ``discordant_rate`` is the share of items that exactly one of the two models solves. The
    variance of one item's difference is ``discordant_rate - effect**2`` (Connor 1987), which the
    effect itself enters, so the equation is solved for it.
    """
    _refuse_rate("discordant_rate", discordant_rate)
    z2 = (_Z_LEVEL + _Z_POWER) ** 2
    return math.sqrt(z2 * discordant_rate / (num_items + z2))


def tied_groups(intervals: Sequence[Interval]) -> list[list[int]]:
    """Indices in groups, best (lowest) first: whom the leader of a group does not clearly beat.

    A group is its best entry and all whose interval overlaps *that entry's*. Overlap is not
    transitive, so chaining neighbours would tie the first with the last of a long list.
    """
    order = sorted(range(len(intervals)), key=lambda i: (intervals[i].value, i))
    groups: list[list[int]] = []
    for i in order:
        if groups and intervals[groups[-1][0]].overlaps(intervals[i]):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _refuse_rate(name: str, rate: float) -> None:
    if not 0 < rate < 1:
        raise Refusal(f"{name} must lie between 0 and 1, got {rate}")

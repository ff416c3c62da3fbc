"""What held-out labels say of a score: how it ranks, whether it is a probability, where to cut.

Pure functions of ``scores`` float64 [n] and ``labels`` bool [n].
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from datalake.config import Config, Refusal

_Z_95 = 1.959964  # of the normal distribution, 95 %
_NUM_BINS = 10


class KeepFraction(Config):
    """Cut so that this share of the documents ``of`` is kept."""

    keep_fraction: float = Field(gt=0, lt=1)
    # DCLM keeps 10 % of its pool, which is what its negatives are drawn from (Li et al. 2024).
    of: Literal["all", "negatives"] = "all"  # of the held-out examples


class Precision(Config):
    """Cut as low as this precision allows; at the balance of classes of the examples."""

    precision: float = Field(gt=0, le=1)


Threshold = KeepFraction | Precision


@dataclass(frozen=True, slots=True)
class Auc:
    """Area under the ROC curve: how often a positive scores above a negative, ties half."""

    value: float
    low: float  # of the 95 % confidence interval
    high: float


def auc(scores: np.ndarray, labels: np.ndarray) -> Auc:
    """The area with the interval of DeLong et al. 1988, on the logit scale, so it stays in 0..1.

    Where every pair is in order the variance is 0 and says nothing: the interval then begins where
    the rule of three puts it, as if the smaller class were so many independent pairs.
    """
    positive, negative = scores[labels], scores[~labels]
    ranks = _midranks(np.concatenate([positive, negative]))
    m, n = len(positive), len(negative)
    above = (ranks[:m] - _midranks(positive)) / n  # share of the negatives below each positive
    below = 1 - (ranks[m:] - _midranks(negative)) / m
    area = float(above.mean())
    if min(area, 1 - area) < 1e-9 or min(m, n) < 2:
        reach = min(1.0, 3 / min(m, n))
        return Auc(area, max(0.0, area - reach), min(1.0, area + reach))
    spread = math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    logit, error = math.log(area / (1 - area)), _Z_95 * spread / (area * (1 - area))
    return Auc(area, 1 / (1 + math.exp(error - logit)), 1 / (1 + math.exp(-error - logit)))


def platt(margins: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the logistic curve that turns margins into probabilities.

    Platt 1999, with his smoothed targets, by Newton's method with step halving (Lin et al. 2007).
    """
    num_positives = int(labels.sum())
    num_negatives = len(labels) - num_positives
    targets = np.where(labels, (num_positives + 1) / (num_positives + 2), 1 / (num_negatives + 2))
    design = np.stack([margins, np.ones(len(margins))], axis=1)
    # With the classes as they are and no slope, so that a step never leaves the good side.
    curve = np.array([0.0, math.log((num_positives + 1) / (num_negatives + 1))])

    def loss(at: np.ndarray) -> float:
        z = design @ at
        return float((np.logaddexp(0, z) - targets * z).sum())

    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(design @ curve, -700, 700)))
        gradient = design.T @ (p - targets)
        if np.abs(gradient).max() < 1e-9 * len(labels):
            break
        hessian = (design.T * (p * (1 - p))) @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-10 and loss(curve - size * step) > loss(curve) - 1e-4 * size * (
            gradient @ step
        ):
            size /= 2
        if size <= 1e-10:
            break
        curve = curve - size * step
    return float(curve[0]), float(curve[1])


def reliability(scores: np.ndarray, labels: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean score, share of positives and size of ten bins of equally many examples."""
    order = np.argsort(scores, kind="stable")
    bins = [b for b in np.array_split(order, _NUM_BINS) if len(b)]
    return [(float(scores[b].mean()), float(labels[b].mean()), len(b)) for b in bins]


def calibration_error(bins: list[tuple[float, float, int]]) -> float:
    """Mean distance of score and share over the bins, weighted by size."""
    total = sum(size for _, _, size in bins)
    return sum(size * abs(score - share) for score, share, size in bins) / total


def threshold(scores: np.ndarray, labels: np.ndarray, how: Threshold, place: str) -> float:
    """The lowest score that is kept. Raises Refusal where no cut has the precision asked for."""
    if isinstance(how, KeepFraction):
        pool = np.sort(scores if how.of == "all" else scores[~labels])[::-1]
        return float(pool[max(0, round(how.keep_fraction * len(pool)) - 1)])
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    precision = np.cumsum(labels[order]) / np.arange(1, len(order) + 1)
    # A cut between equal scores does not exist.
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    reached = ends[precision[ends] >= how.precision]
    if not len(reached):
        rule = "a precision that a cut reaches on held-out examples"
        best = float(precision[ends].max())
        raise Refusal(f"{place} must be {rule} (at best {best:.3f}), got {how.precision}")
    return float(ordered[reached[-1]])


def _midranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value from 1, equal values sharing the mean of their ranks."""
    ordered = np.sort(values)
    first = np.searchsorted(ordered, values, "left")
    last = np.searchsorted(ordered, values, "right")
    return (first + last + 1) / 2

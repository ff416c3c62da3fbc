"""What a source's loss is as a function of the shares of all sources: laws that compete.

``exponential`` is the data mixing law, L = c + exp(a + t . r) (Ye et al. 2024, arXiv:2403.16952).
``power`` is linear in the logarithms of the shares, as a law of data size would have it, and
``quadratic`` bends it; ``linear`` and ``constant`` are what any law has to beat. All are fitted by
least squares of relative errors, since losses of sources differ in size. The law of least
leave-one-out error is taken: with few runs, more coefficients mostly describe noise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["constant", "linear", "power", "exponential", "quadratic"]
KINDS: tuple[Kind, ...] = ("constant", "linear", "power", "exponential", "quadratic")
SMALLEST = 1e-6  # share that a logarithm is still taken of
RIDGE = 1e-4  # of the variance of a feature: it decides only what the runs leave open
SURE = 2.0  # standard errors
FLOORS = (0.0, 0.5, 0.9)  # of the least loss: where the search for c begins


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """A fitted law."""

    kind: Kind
    coefficients: np.ndarray  # exponential: c, a, t_1 ...; else of the features

    def __call__(self, shares: np.ndarray) -> np.ndarray:
        """Losses at ``shares`` ``[..., sources]``."""
        if self.kind == "exponential":
            floor, height, *slopes = self.coefficients
            losses: np.ndarray = floor + np.exp(height + shares[..., :-1] @ np.array(slopes))
            return losses
        return np.asarray(np.exp(_features(self.kind, shares) @ self.coefficients))


def num_coefficients(kind: Kind, num_sources: int) -> int:
    """How many numbers the runs must decide."""
    if kind == "exponential":
        return num_sources + 1
    return int(_features(kind, np.full(num_sources, 0.5)).shape[-1])


def fit(kind: Kind, shares: np.ndarray, losses: np.ndarray, start: np.ndarray | None = None) -> Law:
    """The law of ``kind`` through runs at ``shares`` ``[runs, sources]`` with ``losses``.

    ``start`` are coefficients near the solution, where they are known.
    """
    if kind == "exponential":
        return Law(kind, _exponential(shares, losses, start))
    features = _features(kind, shares)
    y = np.log(losses)
    center, scale = features[:, 1:].mean(axis=0), features[:, 1:].std(axis=0)
    scale[scale == 0] = 1
    z = (features[:, 1:] - center) / scale
    gram = z.T @ z + RIDGE * len(z) * np.eye(z.shape[1])
    slopes = np.linalg.solve(gram, z.T @ (y - y.mean())) / scale
    return Law(kind, np.append(y.mean() - slopes @ center, slopes))


def held_out(kind: Kind, shares: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """What the law says of each run that is fitted to all the others, ``[runs]``."""
    start = fit(kind, shares, losses).coefficients
    says = np.empty(len(losses))
    for left_out in range(len(losses)):
        some = np.arange(len(losses)) != left_out
        says[left_out] = fit(kind, shares[some], losses[some], start)(shares[left_out])
    return says


def compete(shares: np.ndarray, losses: np.ndarray) -> Mapping[Kind, np.ndarray]:
    """``held_out`` of every kind that the runs can decide, the one to take first.

    That is the one of least error, if its absolute errors are less than the constant's by more than
    ``SURE`` standard errors of their difference; with few runs some law always fits the noise.
    """
    able = [
        kind for kind in KINDS if num_coefficients(kind, shares.shape[1]) < max(2, len(losses) - 1)
    ]
    says = {kind: held_out(kind, shares, losses) for kind in able}
    ranked = sorted(able, key=lambda kind: error(says[kind], losses))
    misses = {kind: np.abs(np.log(says[kind] / losses)) for kind in able}
    better = misses["constant"] - misses[ranked[0]]
    if better.mean() <= SURE * better.std(ddof=1) / math.sqrt(len(losses)):
        ranked.remove("constant")
        ranked.insert(0, "constant")
    return {kind: says[kind] for kind in ranked}


def error(predicted: np.ndarray, losses: np.ndarray) -> float:
    """Root mean square of the logarithm of ``predicted`` over ``losses``."""
    return float(np.sqrt(np.mean(np.log(predicted / losses) ** 2)))


def _features(kind: Kind, shares: np.ndarray) -> np.ndarray:
    """``[..., features]``, the first of which is 1."""
    one = np.ones((*shares.shape[:-1], 1))
    if kind == "constant":
        return one
    if kind == "linear":  # the last share follows from the others
        return np.concatenate([one, shares[..., :-1]], axis=-1)
    logs = np.log(np.maximum(shares, SMALLEST))
    if kind == "power":
        return np.concatenate([one, logs], axis=-1)
    i, j = np.triu_indices(shares.shape[-1])
    return np.concatenate([one, logs, logs[..., i] * logs[..., j]], axis=-1)


def _exponential(shares: np.ndarray, losses: np.ndarray, start: np.ndarray | None) -> np.ndarray:
    from scipy.optimize import least_squares

    r, y, least = shares[:, :-1], np.log(losses), float(losses.min())
    linear = np.column_stack([np.ones(len(r)), r])

    def begin(floor: float) -> np.ndarray:
        return np.append(floor, np.linalg.lstsq(linear, np.log(losses - floor), rcond=None)[0])

    def misses(at: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(at[0] + np.exp(np.clip(linear @ at[1:], -50, 50))) - y)

    def slopes(at: np.ndarray) -> np.ndarray:
        part = np.exp(np.clip(linear @ at[1:], -50, 50))
        whole = (at[0] + part)[:, None]
        return np.column_stack([1 / whole, part[:, None] * linear / whole])

    lowest = np.append(0.0, np.full(linear.shape[1], -np.inf))
    highest = np.append(0.999 * least, np.full(linear.shape[1], np.inf))
    starts = [begin(share * least) for share in FLOORS] if start is None else [start]
    found = [
        least_squares(misses, np.clip(at, lowest, highest), slopes, bounds=(lowest, highest))
        for at in starts
    ]
    best = min(found, key=lambda one: one.cost)
    return np.asarray(best.x) if math.isfinite(best.cost) else begin(0.0)

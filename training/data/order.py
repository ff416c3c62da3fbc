"""Which row is read when: a keyed permutation for every epoch, computed and never stored.

Samples are drawn without replacement: sample ``n`` of a run is place ``n % num_rows`` of epoch
``n // num_rows``, and a permutation keyed by seed and epoch says which row stands there. It is a
Feistel network over the smallest rectangle ``a x b`` of at least ``num_rows`` places (Black and
Rogaway 2002, "Ciphers with Arbitrary Finite Domains"); a result outside is permuted again until it
is inside, so no table of ``num_rows`` entries is ever made or kept. Run backwards, it says when a
row was read.
"""

import importlib
import importlib.util
import math
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Protocol

import numpy as np

# Black and Rogaway prove three rounds of random functions indistinguishable from a random
# permutation; splitmix64 is no random function, so there are twice as many.
_ROUNDS = 6


class Order(Protocol):
    """What every sample of a run reads; a sample is ``step * slots_per_step + slot``."""

    @property
    def num_rows(self) -> int:
        """Rows of the table that it is an order of."""
        ...

    def ids(self, samples: np.ndarray) -> np.ndarray:
        """The row that each of ``samples`` (int64) reads, int64 of the same length."""
        ...

    def samples(self, row: int, stop: int) -> np.ndarray:
        """Those below ``stop`` that read ``row``, ascending int64."""
        ...


@dataclass(frozen=True, slots=True)
class Epochs:
    """Every row once an epoch, each epoch in an order of its own."""

    num_rows: int
    seed: int

    def ids(self, samples: np.ndarray) -> np.ndarray:
        epochs, places = np.divmod(samples, self.num_rows)
        return permuted(places, self.num_rows, self.seed, epochs)

    def samples(self, row: int, stop: int) -> np.ndarray:
        epochs = np.arange(-(-stop // self.num_rows))
        places = restored(np.full(len(epochs), row), self.num_rows, self.seed, epochs)
        samples = epochs * self.num_rows + places
        return samples[samples < stop]


def row_ids(seed: int, step: int, slots_per_step: int, num_rows: int) -> np.ndarray:
    """Which rows trained ``step``: int64 ``[slots_per_step]``, each in ``0 .. num_rows - 1``."""
    first = step * slots_per_step
    return Epochs(num_rows, seed).ids(np.arange(first, first + slots_per_step))


def permuted(places: np.ndarray, size: int, seed: int, epochs: np.ndarray) -> np.ndarray:
    """What stands at each of ``places`` (int64, below ``size``) in its epoch's permutation."""
    return _walk(places, size, seed, epochs, backwards=False)


def restored(values: np.ndarray, size: int, seed: int, epochs: np.ndarray) -> np.ndarray:
    """The places of ``values``: ``restored(permuted(x)) == x``."""
    return _walk(values, size, seed, epochs, backwards=True)


@cache
def row_kernels() -> ModuleType | None:
    """Compiled loops for orders and rows, None where there is no numba: NumPy does the same."""
    if importlib.util.find_spec("numba") is None:
        return None
    return importlib.import_module("training.row_kernels")


def _walk(
    values: np.ndarray, size: int, seed: int, epochs: np.ndarray, backwards: bool
) -> np.ndarray:
    a = math.isqrt(size - 1) + 1  # a^2 >= size, and b is the least that covers the rest
    b = -(-size // a)
    if len(epochs) and (epochs == epochs[0]).all():
        epochs = epochs[:1]  # one key for all is a third of the work
    keys = _mix(_mix(np.uint64(seed % 2**64)) + epochs.astype(np.uint64))
    values = values.astype(np.uint64)
    if not backwards and (kernels := row_kernels()) is not None:
        sides = (np.uint64(side) for side in (size, a, b))
        turns = np.arange(_ROUNDS, dtype=np.uint64)
        kernels.walk(values, *sides, _mix(keys[:, None] + turns), values)
        return values.astype(np.int64)
    outside = np.arange(len(values))
    while len(outside):
        own = keys if len(keys) == 1 else keys[outside]
        walked = _feistel(values[outside], np.uint64(a), np.uint64(b), own, backwards)
        values[outside] = walked
        outside = outside[walked >= size]
    return values.astype(np.int64)


def _feistel(
    values: np.ndarray, a: np.uint64, b: np.uint64, keys: np.ndarray, backwards: bool
) -> np.ndarray:
    """A keyed permutation of ``0 .. a * b - 1``: each half moves by a function of the other."""
    left, right = np.divmod(values, b)
    for turn in reversed(range(_ROUNDS)) if backwards else range(_ROUNDS):
        round_key = _mix(keys + np.uint64(turn))
        if turn % 2:
            right = _moved(right, _mix(round_key ^ left) % b, b, backwards)
        else:
            left = _moved(left, _mix(round_key ^ right) % a, a, backwards)
    return left * b + right


def _moved(half: np.ndarray, by: np.ndarray, size: np.uint64, backwards: bool) -> np.ndarray:
    moved = half + (size - by if backwards else by)
    return np.minimum(moved, moved - size)  # below size, moved - size wraps around to above it


def _mix(x: np.ndarray | np.uint64) -> np.ndarray:
    """splitmix64 (Steele et al. 2014): every bit of the result depends on every bit of ``x``."""
    with np.errstate(over="ignore"):
        x = np.asarray(x) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))

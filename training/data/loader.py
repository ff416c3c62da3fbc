"""Which token rows a training step reads.

The order of data is a pure function of (seed, step, slot): the loader has no state to save, a
resumed run reads what the undisturbed run would have read, and any number of ranks that share the
slots of a step read the same rows between them. Samples are drawn without replacement: sample
``step * slots_per_step + slot`` is place ``sample % num_rows`` of epoch ``sample // num_rows``, and
a permutation keyed by seed and epoch says which row stands there. The permutation is a Feistel
network over the smallest rectangle ``a x b`` of at least ``num_rows`` places (Black and Rogaway
2002, "Ciphers with Arbitrary Finite Domains"); a result outside is permuted again until it is
inside, so no table of ``num_rows`` entries is ever made or kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.data.rows import Rows

# Black and Rogaway prove three rounds of random functions indistinguishable from a random
# permutation; splitmix64 is no random function, so there are twice as many.
_ROUNDS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows as a model takes them."""

    tokens: Tensor  # int64 [rows, context_length + 1]
    pieces: Tensor  # int32 [rows, context_length + 1], as ``Rows.pieces``

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(self.tokens.to(device), self.pieces.to(device))

    def first(self, num_targets: int) -> "Batch":
        """The first ``num_targets`` targets of every row, and what they are predicted from."""
        return Batch(self.tokens[:, : num_targets + 1], self.pieces[:, : num_targets + 1])


def batch(
    rows: Rows, seed: int, step: int, slots_per_step: int, slots: Sequence[int] | None = None
) -> Batch:
    """The rows that ``step`` reads in ``slots``.

    ``slots`` are some of ``range(slots_per_step)``: a rank's share of the step, or a part of it;
    all by default.
    """
    ids = row_ids(seed, step, slots_per_step, len(rows))
    return batch_of(rows, ids if slots is None else ids[np.asarray(slots, np.int64)])


def batch_of(rows: Rows, ids: np.ndarray) -> Batch:
    """The rows of these numbers."""
    return Batch(
        tokens=torch.from_numpy(rows.tokens[ids].astype(np.int64)),
        pieces=torch.from_numpy(rows.pieces(ids)),
    )


def row_ids(seed: int, step: int, slots_per_step: int, num_rows: int) -> np.ndarray:
    """Which rows trained ``step``: int64 ``[slots_per_step]``, each in ``0 .. num_rows - 1``."""
    samples = step * slots_per_step + np.arange(slots_per_step, dtype=np.uint64)
    epochs, places = np.divmod(samples, np.uint64(num_rows))
    return _permute(places, num_rows, seed, epochs).astype(np.int64)


def _permute(places: np.ndarray, size: int, seed: int, epochs: np.ndarray) -> np.ndarray:
    """Where each of ``places`` (uint64, below ``size``) goes in its epoch's permutation."""
    a = math.isqrt(size - 1) + 1  # a^2 >= size, and b is the least that covers the rest
    b = -(-size // a)
    key = _mix(_mix(np.uint64(seed % 2**64)) + epochs)
    places = places.copy()
    outside = np.arange(len(places))
    while len(outside):
        walked = _feistel(places[outside], np.uint64(a), np.uint64(b), key[outside])
        places[outside] = walked
        outside = outside[walked >= size]
    return places


def _feistel(places: np.ndarray, a: np.uint64, b: np.uint64, key: np.ndarray) -> np.ndarray:
    """A keyed permutation of ``0 .. a * b - 1``: each half moves by a function of the other."""
    left, right = np.divmod(places, b)
    for turn in range(_ROUNDS):
        round_key = _mix(key + np.uint64(turn))
        if turn % 2:
            right = (right + _mix(round_key ^ left) % b) % b
        else:
            left = (left + _mix(round_key ^ right) % a) % a
    return left * b + right


def _mix(x: np.ndarray | np.uint64) -> np.ndarray:
    """splitmix64 (Steele et al. 2014): every bit of the result depends on every bit of ``x``."""
    with np.errstate(over="ignore"):
        x = np.asarray(x) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))

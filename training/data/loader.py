"""Token rows in memory, and which of them a training step reads.

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
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import torch
from torch import Tensor

from datalake.config import Refusal

# Black and Rogaway prove three rounds of random functions indistinguishable from a random
# permutation; splitmix64 is no random function, so there are twice as many.
_ROUNDS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Token rows of one split, in order of ``row_id``."""

    tokens: np.ndarray  # uint16 [rows, context_length + 1]

    @classmethod
    def from_files(cls, paths: Sequence[str]) -> "Rows":
        """Rows of the Parquet parts at ``paths``, paths or URIs, sorted by ``row_id``.

        Raises Refusal where there is no row, or rows differ in length.
        """
        parts = [_read(path) for path in paths]
        table = pa.concat_tables(parts) if parts else pa.table({"row_id": [], "tokens": []})
        if not len(table):
            raise Refusal(f"token rows must be at least one, got none in {len(paths)} files")
        chunks = [_as_array(chunk) for chunk in table["tokens"].chunks if len(chunk)]
        lengths = sorted({chunk.shape[1] for chunk in chunks})
        if len(lengths) > 1:
            raise Refusal(f"token rows must be equally long, got {lengths[0]} and {lengths[-1]}")
        return cls(np.concatenate(chunks)[np.argsort(table["row_id"].to_numpy(), kind="stable")])

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def context_length(self) -> int:
        return self.tokens.shape[1] - 1


def batch(
    rows: Rows, seed: int, step: int, slots_per_step: int, slots: Sequence[int] | None = None
) -> Tensor:
    """The rows that ``step`` reads in ``slots``, int64 ``[len(slots), context_length + 1]``.

    ``slots`` are some of ``range(slots_per_step)``: a rank's share of the step, or a part of it;
    all by default.
    """
    ids = row_ids(seed, step, slots_per_step, len(rows))
    chosen = ids if slots is None else ids[np.asarray(slots, np.int64)]
    return torch.from_numpy(rows.tokens[chosen].astype(np.int64))


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


def _read(path: str) -> pa.Table:
    filesystem, path = (
        pyarrow.fs.FileSystem.from_uri(path)
        if "://" in path
        else (pyarrow.fs.LocalFileSystem(), path)
    )
    with filesystem.open_input_file(path) as file:
        return pq.ParquetFile(file).read(columns=["row_id", "tokens"])


def _as_array(column: pa.Array) -> np.ndarray:
    """Equally long binary values, uint16 little-endian each, as one array, without a copy."""
    if column.null_count:
        raise Refusal("token rows must not be null, got a null")
    column = column.cast(pa.large_binary())
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    lengths = np.unique(np.diff(ends))
    if len(lengths) > 1 or lengths[0] % 2:
        raise Refusal(f"token rows must be equally many uint16, got {lengths.tolist()[:2]} bytes")
    tokens = np.frombuffer(data, "<u2")[ends[0] // 2 : ends[-1] // 2]
    return tokens.reshape(len(column), -1).astype(np.uint16, copy=False)

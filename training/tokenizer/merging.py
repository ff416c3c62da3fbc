"""One pre-token's bytes merged into tokens, by the list of merges.

The merge learned first is done first, and where it occurs several times, from left to right. What
each token and the next would become lies in an array beside them. The least of it is found by
looking at all, many at once, where the pre-token is short, and by a heap where it is long: a
megabyte of one letter is a pre-token, too, and takes time near-linear in its length.
"""

# mypy: disallow_untyped_defs=False

from dataclasses import dataclass

import numpy as np

from datalake.config import Refusal
from training.tokenizer.compiled import compiled, inlined
from training.tokenizer.texts import frozen

NUM_SCRATCH = 7  # int64 of scratch per byte of a pre-token

_LONGEST_SCANNED = 256  # bytes of a pre-token, above which a heap finds the next merge sooner
_ID_BITS = 21  # of each of three ids in a row
_SHIFT = np.uint64(_ID_BITS)
_ID = np.uint64((1 << _ID_BITS) - 1)
_NO_PAIR = np.uint64((1 << 64) - 1)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio (Knuth, vol. 3, 6.4)
_HALF = np.uint64(32)
_NO_MERGE = 1 << 62
_PLACE = (1 << 32) - 1
_NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class MergeTable:
    """The merges as compiled loops look them up."""

    rows: np.ndarray  # uint64: left, right and merged id in one number, in an open-addressing table
    byte_pairs: np.ndarray  # int64 [65536]: what two bytes become, _NO_MERGE if nothing
    byte_ids: np.ndarray  # int64 [256]

    @classmethod
    def of(cls, merges: np.ndarray, byte_ids: np.ndarray) -> "MergeTable":
        """The table of ``merges`` ``[merges, 2]``, whose ids follow those of the bytes."""
        num_bytes = len(byte_ids)
        if num_bytes + len(merges) >= 1 << _ID_BITS:
            raise Refusal(
                f"merges must be fewer than {(1 << _ID_BITS) - num_bytes}, got {len(merges)}"
            )
        rows = np.full(1 << (2 * len(merges) + 1).bit_length(), _NO_PAIR, np.uint64)
        _fill(rows, merges.astype(np.uint64), num_bytes)
        both = np.flatnonzero((merges < num_bytes).all(axis=1))
        byte_of = np.argsort(byte_ids)
        byte_pairs = np.full(num_bytes * num_bytes, _NO_MERGE, np.int64)
        left, right = byte_of[merges[both]].T
        byte_pairs[left * num_bytes + right] = num_bytes + both
        return cls(frozen(rows), frozen(byte_pairs), frozen(byte_ids.astype(np.int64)))

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.rows, self.byte_pairs, self.byte_ids


def unreached(tokens: list[bytes], table: MergeTable) -> int | None:
    """The first of ``tokens`` that its own bytes are not merged into, if there is one."""
    sizes = np.array([len(token) for token in tokens], np.int64)
    data = np.frombuffer(b"".join(tokens), np.uint8)
    starts = np.append(0, np.cumsum(sizes))
    scratch = np.empty((NUM_SCRATCH, sizes.max()), np.int64)
    found = int(_unreached(data, starts, table.arrays, scratch))
    return found if found < len(tokens) else None


@compiled
def merge(data, at, size, merges, scratch):
    """Number of tokens that ``size`` bytes at ``at`` become; their ids begin ``scratch[0]``.

    ``merges`` is ``MergeTable.arrays``, ``scratch`` int64 ``[NUM_SCRATCH, at least size]``.
    """
    rows, byte_pairs, byte_ids = merges
    ids, before, after, costs = scratch[0], scratch[1], scratch[2], scratch[3]
    for i in range(size):
        ids[i] = byte_ids[data[at + i]]
        before[i], after[i] = i - 1, i + 1
    after[size - 1] = _NONE
    for i in range(size - 1):
        costs[i] = byte_pairs[np.int64(data[at + i]) << 8 | np.int64(data[at + i + 1])]
    costs[size - 1] = _NO_MERGE
    if size <= _LONGEST_SCANNED:
        _merge_by_scanning(size, rows, ids, before, after, costs)
    else:
        _merge_by_heap(size, rows, ids, before, after, costs, scratch[4:].reshape(-1))
    count = place = 0
    while place != _NONE:
        ids[count] = ids[place]
        count += 1
        place = after[place]
    return count


@compiled
def _merge_by_scanning(size, rows, ids, before, after, costs):
    """Merge while there is anything to merge. ``costs[i]`` is what ``i`` and the next become."""
    for i in range(size):
        if costs[i] != _NO_MERGE:
            costs[i] = costs[i] << 32 | i  # so that the least is the first of its kind
    while True:
        least = np.int64(_NO_MERGE)
        for i in range(size):
            least = min(least, costs[i])
        if least == _NO_MERGE:
            break
        place = least & _PLACE
        _join(place, least >> 32, ids, before, after, costs)
        for changed in range(2):
            at = place if changed else before[place]
            if at != _NONE:
                found = _token_at(at, rows, ids, after)
                costs[at] = found << 32 | at if found != _NO_MERGE else _NO_MERGE


@compiled
def _merge_by_heap(size, rows, ids, before, after, costs, heap):
    """As by scanning, with a heap of tokens and places, some of which are out of date."""
    held = 0
    for i in range(size):
        held = _push(heap, held, costs[i], i)
    while held:
        token, place = heap[0] >> 32, heap[0] & _PLACE
        held -= 1
        _sink(heap, held)
        if costs[place] != token:
            continue
        _join(place, token, ids, before, after, costs)
        for changed in range(2):
            at = place if changed else before[place]
            if at != _NONE:
                costs[at] = _token_at(at, rows, ids, after)
                held = _push(heap, held, costs[at], at)


@inlined
def _join(place, token, ids, before, after, costs):
    """Put ``token`` in the place of the id at ``place`` and of the next, which is no more."""
    gone = after[place]
    following = after[gone]
    ids[place] = token
    after[place] = following
    if following != _NONE:
        before[following] = place
    costs[gone] = _NO_MERGE


@inlined
def _token_at(place, rows, ids, after):
    """The token that the id at ``place`` and the next become, or ``_NO_MERGE``."""
    token = np.int64(_NO_MERGE)
    if after[place] != _NONE:
        key = np.uint64(ids[place]) << _SHIFT | np.uint64(ids[after[place]])
        row = key * _GOLDEN >> _HALF & np.uint64(len(rows) - 1)
        while rows[row] >> _SHIFT != key and rows[row] != _NO_PAIR:
            row = (row + np.uint64(1)) & np.uint64(len(rows) - 1)
        if rows[row] != _NO_PAIR:
            token = np.int64(rows[row] & _ID)
    return token


@compiled
def _fill(rows, merges, first):
    for i in range(len(merges)):
        key = merges[i, 0] << _SHIFT | merges[i, 1]
        row = key * _GOLDEN >> _HALF & np.uint64(len(rows) - 1)
        while rows[row] != _NO_PAIR and rows[row] >> _SHIFT != key:
            row = (row + np.uint64(1)) & np.uint64(len(rows) - 1)
        rows[row] = key << _SHIFT | np.uint64(first + i)


@compiled
def _unreached(data, starts, merges, scratch):
    for token in range(len(starts) - 1):
        size = starts[token + 1] - starts[token]
        if merge(data, starts[token], size, merges, scratch) != 1 or scratch[0, 0] != token:
            return token
    return len(starts) - 1


@compiled
def _push(heap, size, token, place):
    """Enter a merge, unless there is none, into a heap of ``size``; returns the new size."""
    if token == _NO_MERGE:
        return size
    entry = token << 32 | place
    at = size
    while at > 0 and entry < heap[(at - 1) // 2]:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = entry
    return size + 1


@compiled
def _sink(heap, size):
    """Put the entry at ``size`` in the place of the top, and move it down to where it belongs."""
    entry = heap[size]
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if entry <= heap[child]:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = entry

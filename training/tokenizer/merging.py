"""One pre-token's bytes merged into tokens, by the list of merges.

The merge learned first is done first, and where it occurs several times, from left to right. A
short pre-token is merged by looking at all of its pairs each time; a long one (a megabyte of one
letter is a pre-token, too) with a heap, in time near-linear in its length.
"""

# mypy: disallow_untyped_defs=False

import numpy as np

from training.tokenizer import pair_table
from training.tokenizer.compiled import compiled
from training.tokenizer.pair_table import pair_key, pair_row

NUM_SCRATCH = 6  # int64 of scratch per byte of a pre-token

_LONGEST_SCANNED = 48  # bytes of a pre-token, above which a heap finds the next merge sooner
_NO_MERGE = np.int64(1 << 62)
_NONE = -1


@compiled
def merge(data, at, end, pairs, byte_ids, scratch):
    """Number of tokens that ``data[at:end]`` becomes; their ids are the first of ``scratch[0]``.

    ``pairs`` is a ``pair_table`` of merges, ``byte_ids`` ``[256]`` the id of each byte, ``scratch``
    int64 ``[NUM_SCRATCH, at least end - at]``.
    """
    ids = scratch[0]
    for i in range(end - at):
        ids[i] = byte_ids[data[at + i]]
    if end - at <= _LONGEST_SCANNED:
        return _merge_by_scanning(end - at, pairs, ids, scratch[1])
    return _merge_by_heap(end - at, pairs, ids, scratch[1], scratch[2], scratch[3:].reshape(-1))


def unreached(tokens: list[bytes], pairs: np.ndarray, byte_ids: np.ndarray) -> int | None:
    """The first of ``tokens`` that its own bytes are not merged into, if there is one."""
    sizes = np.array([len(token) for token in tokens], np.int64)
    data = np.frombuffer(b"".join(tokens), np.uint8)
    starts = np.append(0, np.cumsum(sizes))
    scratch = np.empty((NUM_SCRATCH, sizes.max()), np.int64)
    found = int(_unreached(data, starts, pairs, byte_ids, scratch))
    return found if found < len(tokens) else None


@compiled
def _unreached(data, starts, pairs, byte_ids, scratch):
    for token in range(len(starts) - 1):
        count = merge(data, starts[token], starts[token + 1], pairs, byte_ids, scratch)
        if count != 1 or scratch[0, 0] != token:
            return token
    return len(starts) - 1


@compiled
def _token_of(a, b, pairs):
    """The token that the pair (a, b) is merged into, or ``_NO_MERGE``: the smaller, the sooner."""
    key = pair_key(a, b)
    row = pair_row(key, pairs)
    return pairs[row, pair_table.VALUE] if pairs[row, pair_table.KEY] == key else _NO_MERGE


@compiled
def _merge_by_scanning(count, pairs, ids, merged):
    """``merged`` holds what each id and the next would become."""
    for i in range(count - 1):
        merged[i] = _token_of(ids[i], ids[i + 1], pairs)
    while count > 1:
        best = 0
        for i in range(1, count - 1):
            if merged[i] < merged[best]:
                best = i
        token = merged[best]
        if token == _NO_MERGE:
            break
        count -= 1
        ids[best] = token
        for i in range(best + 1, count):
            ids[i] = ids[i + 1]
        for i in range(best, count - 1):
            merged[i] = merged[i + 1]
        if best > 0:
            merged[best - 1] = _token_of(ids[best - 1], token, pairs)
        if best + 1 < count:
            merged[best] = _token_of(token, ids[best + 1], pairs)
    return count


@compiled
def _merge_by_heap(count, pairs, ids, before, after, heap):
    """As by scanning, with a heap of (token, place) and links between the ids that are left."""
    size = 0
    for i in range(count):
        before[i], after[i] = i - 1, i + 1
    after[count - 1] = _NONE
    for i in range(count - 1):
        size = _push(heap, size, _token_of(ids[i], ids[i + 1], pairs), i)
    while size:
        token, place = heap[0] >> 32, heap[0] & 0xFFFFFFFF
        size -= 1
        _sink(heap, size)
        following = after[place]
        if before[place] == place or following == _NONE:  # merged into another, or the last
            continue
        if _token_of(ids[place], ids[following], pairs) != token:
            continue
        ids[place] = token
        after[place] = after[following]
        before[following] = following  # it is no more
        if after[place] != _NONE:
            before[after[place]] = place
            size = _push(heap, size, _token_of(token, ids[after[place]], pairs), place)
        if place > 0:
            leader = before[place]
            size = _push(heap, size, _token_of(ids[leader], token, pairs), leader)
    num_ids = place = 0
    while place != _NONE:
        ids[num_ids] = ids[place]
        num_ids += 1
        place = after[place]
    return num_ids


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

"""The loops of reading rows as machine code, for where numba is; NumPy is their twin elsewhere.

In one pass a row is widened and its pieces are numbered, while the memory of the rows to come is
on its way. They run without the interpreter lock: a thread that reads ahead holds nobody up.
"""

import numpy as np

from training.tokenizer.compiled import compiled, inlined
from training.tokenizer.prefetch import prefetch

_AHEAD = 3  # rows
_LINE_BYTES = 64

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # of splitmix64, as in ``order``
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_BITS_30, _BITS_27, _BITS_31 = np.uint64(30), np.uint64(27), np.uint64(31)


@compiled
def fill(  # type: ignore[no-untyped-def]
    tokens, num_tokens, piece_offsets, piece_starts, ids, wide, pieces
) -> None:
    """Write the rows ``ids`` to ``wide`` (int64), and the numbers of their pieces to ``pieces``.

    ``tokens`` is flat; the rows are as long as those of ``wide``.
    """
    length, last = wide.shape[1], len(ids) - 1
    per_line = _LINE_BYTES // tokens.itemsize
    for i in range(len(ids)):
        far, near, row = ids[min(i + 2 * _AHEAD, last)], ids[min(i + _AHEAD, last)], ids[i]
        prefetch(piece_offsets, far)
        prefetch(num_tokens, far)
        if piece_offsets[near + 1] - piece_offsets[near] > 1:
            prefetch(piece_starts, piece_offsets[near] + 1)
        for place in range(near * length, (near + 1) * length, per_line):
            prefetch(tokens, place)
        narrow, wider, numbers = tokens[row * length : (row + 1) * length], wide[i], pieces[i]
        for j in range(len(wider)):
            wider[j] = narrow[j]
        first, stop = piece_offsets[row], piece_offsets[row + 1]
        begin = 0
        for k in range(first, stop):
            end = piece_starts[k + 1] if k + 1 < stop else num_tokens[row]
            piece, number = numbers[begin:end], np.int32(k - first)
            for j in range(len(piece)):
                piece[j] = number
            begin = end
        unfilled = numbers[begin:]
        for j in range(len(unfilled)):
            unfilled[j] = np.int32(-1)


@compiled
def walk(places, size, a, b, keys, out) -> None:  # type: ignore[no-untyped-def]
    """``order.permuted``: ``places`` and ``out`` are uint64, ``keys`` [as many or 1, rounds]."""
    for i in range(len(places)):
        key = keys[i if len(keys) > 1 else 0]
        place = places[i]
        while True:
            left = place // b
            right = place - left * b
            for turn in range(0, len(key), 2):
                left += _mixed(key[turn] ^ right) % a
                left = left - a if left >= a else left
                right += _mixed(key[turn + 1] ^ left) % b
                right = right - b if right >= b else right
            place = left * b + right
            if place < size:
                break
        out[i] = place


@inlined
def _mixed(x):  # type: ignore[no-untyped-def]
    x = x + _INCREMENT
    x = (x ^ (x >> _BITS_30)) * _FIRST
    x = (x ^ (x >> _BITS_27)) * _SECOND
    return x ^ (x >> _BITS_31)

"""The loops of reading rows as machine code, for where numba is; NumPy is their twin elsewhere.

They run without the interpreter lock: a thread that reads ahead holds nobody up. Rows lie at random
places, so what is to come is fetched ahead, which a copy by NumPy cannot: rows of 2,049 tokens take
0.75 of its time, of 257 tokens 0.8.
"""

import numpy as np

from training.compiled import compiled, inlined
from training.prefetch import copy_row, prefetch, prefetch_inside

_AHEAD = 8  # rows of what describes them
_TOKENS_AHEAD = 2  # rows of tokens, of each ...
_LINES, _LINE = 9, 64  # ... so many of the processor's cache lines; it goes on by itself

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # of splitmix64, as in ``order``
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_BITS_30, _BITS_27, _BITS_31 = np.uint64(30), np.uint64(27), np.uint64(31)


@compiled
def read(  # type: ignore[no-untyped-def]
    tokens, num_tokens, piece_offsets, piece_starts, ids, out, filled, further
):
    """Copy the rows ``ids`` of ``tokens`` to ``out``, of ``num_tokens`` to ``filled``.

    Where their further pieces begin, as ``Rows.further_pieces`` says it, is written to ``further``
    as far as there is room. Returns how many there are, -1 where a row is none of the table's.
    """
    length, last, count = np.int64(tokens.shape[1]), len(ids) - 1, 0
    lines = min(_LINES, -(-length * tokens.itemsize // _LINE))
    for i in range(len(ids)):
        if ids[i] < 0 or ids[i] >= len(num_tokens):
            return -1
        far = ids[min(i + _AHEAD, last)]
        prefetch(piece_offsets, far)
        prefetch(num_tokens, far)
        near = ids[min(i + _TOKENS_AHEAD, last)]
        for line in range(lines):
            prefetch_inside(tokens, near, line * _LINE)
        row = ids[i]
        copy_row(out, i, tokens, row)
        filled[i] = num_tokens[row]
        for k in range(piece_offsets[row] + 1, piece_offsets[row + 1]):
            if count < len(further):
                further[count] = i * length + piece_starts[k]
            count += 1
    return count


@compiled
def number_pieces(further, num_tokens, out) -> None:  # type: ignore[no-untyped-def]
    """``Batch.pieces`` to ``out``: from where further pieces begin and how far rows are filled."""
    k, length = 0, out.shape[1]
    for row in range(len(out)):
        begin, number, first = 0, 0, row * length
        while k < len(further) and further[k] < first + length:
            end = further[k] - first
            out[row, begin:end] = number
            begin, number, k = end, number + 1, k + 1
        out[row, begin : num_tokens[row]] = number
        out[row, num_tokens[row] :] = -1


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

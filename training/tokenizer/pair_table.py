"""A number for each pair of tokens, in an open-addressing table, for compiled loops."""

# mypy: disallow_untyped_defs=False

import numpy as np

from training.tokenizer.compiled import compiled, inlined

KEY, VALUE = range(2)  # columns
EMPTY = -1  # key of an unused row

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio (Knuth, vol. 3, 6.4)
_HALF = np.uint64(32)


def new_table(num_pairs: int = 1 << 13) -> np.ndarray:
    """An empty table, int64 ``[rows, 2]``, that stays half empty with ``num_pairs`` pairs in it."""
    return np.full((1 << (2 * num_pairs - 1).bit_length(), 2), EMPTY, np.int64)


def roomier(rows: np.ndarray, num_pairs: int) -> np.ndarray:
    """``rows``, or the same pairs in a longer table that stays half empty with ``num_pairs``."""
    if 2 * num_pairs <= len(rows):
        return rows
    grown = new_table(int(num_pairs))
    _copy_rows(rows, grown)
    return grown


def table_of(pairs: np.ndarray, first_value: int) -> np.ndarray:
    """A table in which pair ``i`` of ``pairs`` ``[pairs, 2]`` has the value ``first_value + i``."""
    rows = new_table(max(len(pairs), 1))
    _fill(rows, pairs.astype(np.int64), first_value)
    return rows


@inlined
def pair_key(a, b):
    """The one number that stands for the pair of tokens."""
    return np.int64(a) << 32 | np.int64(b)


@inlined
def pair_row(key, rows):
    """Row of the pair with that key, or the empty row where it belongs."""
    row = np.uint64(key) * _GOLDEN >> _HALF & np.uint64(len(rows) - 1)
    while rows[row, KEY] != key and rows[row, KEY] != EMPTY:
        row = (row + np.uint64(1)) & np.uint64(len(rows) - 1)
    return row


@compiled
def _copy_rows(rows, grown):
    for old in range(len(rows)):
        if rows[old, KEY] != EMPTY:
            row = pair_row(rows[old, KEY], grown)
            grown[row, KEY], grown[row, VALUE] = rows[old, KEY], rows[old, VALUE]


@compiled
def _fill(rows, pairs, first_value):
    for i in range(len(pairs)):
        key = pair_key(pairs[i, 0], pairs[i, 1])
        row = pair_row(key, rows)
        rows[row, KEY], rows[row, VALUE] = key, first_value + i

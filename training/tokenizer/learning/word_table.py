"""Byte strings interned in open-addressing tables, for compiled loops that see each many times.

A word of up to fifteen bytes *is* its key (``scanning/short_words.py``), which lies in the row with
the value, so finding it compares two numbers and touches no text. A longer word is
found by a hash, and its bytes are compared with those that the owner of the table keeps in a text.
All numbers are unsigned, of 64 bits.
"""

# mypy: disallow_untyped_defs=False

import numpy as np

from training.compiled import compiled, inlined
from training.tokenizer.scanning.window import SIZE, window_words

LOW, HIGH, VALUE = range(3)  # columns of a short word's row; HIGH is zero where it is unused
HASH, PLACE, LENGTH, LONG_VALUE = range(4)  # of a long word's: its bytes in the text; HASH as HIGH
EMPTY = np.uint64(0)

# Odd numbers whose bits look random: 2^64 / golden ratio (Knuth, vol. 3, 6.4), and two of xxHash's.
_K1, _K2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_K3 = np.uint64(0x165667B19E3779F9)
_HALF = np.uint64(32)


def short_table(num_rows: int) -> np.ndarray:
    """An empty table of ``num_rows`` rows, a power of two, for words below ``SIZE`` bytes."""
    return np.zeros((num_rows, 3), np.uint64)


def long_table(num_rows: int) -> np.ndarray:
    """An empty table of ``num_rows`` rows, a power of two, for words of ``SIZE`` bytes or more."""
    return np.zeros((num_rows, 4), np.uint64)


def doubled_short(rows: np.ndarray) -> np.ndarray:
    """The same rows in a table twice as long."""
    grown = short_table(2 * len(rows))
    _copy_short(rows, grown)
    return grown


def doubled_long(rows: np.ndarray) -> np.ndarray:
    """The same rows in a table twice as long."""
    grown = long_table(2 * len(rows))
    _copy_long(rows, grown)
    return grown


@inlined
def mixed(low, high):
    """Hash of a short word's key; both ends of it are good."""
    both = low * _K1 + high * _K2
    both = (both ^ both >> _HALF) * _K3
    return both ^ both >> _HALF


@inlined
def short_row(rows, low, high):
    """Row of the word with that key, or the unused row where it belongs."""
    row = mixed(low, high) & np.uint64(len(rows) - 1)
    while (rows[row, LOW] != low or rows[row, HIGH] != high) and rows[row, HIGH] != EMPTY:
        row = (row + np.uint64(1)) & np.uint64(len(rows) - 1)
    return row


@inlined
def long_hash(data, at, size):
    """Hash, never ``EMPTY``, of the word ``data[at:at + size]`` of ``SIZE`` bytes or more."""
    both = np.uint64(size)
    for i in range(at, at + size - SIZE + 1, SIZE):
        low, high = window_words(data, i)
        both = (both ^ low) * _K1
        both = (both ^ both >> _HALF ^ high) * _K2
    low, high = window_words(data, at + size - SIZE)  # the last bytes, some of them again
    both = (both ^ both >> _HALF ^ low) * _K1
    both = (both ^ both >> _HALF ^ high) * _K2
    return (both ^ both >> _HALF) | np.uint64(1)


@inlined
def long_row(rows, text, data, at, size, key):
    """Row of the word ``data[at:at + size]`` with that hash, or the unused row where it belongs."""
    row = (key >> np.uint64(1)) & np.uint64(len(rows) - 1)
    while rows[row, HASH] != EMPTY:
        if rows[row, HASH] == key and np.int64(rows[row, LENGTH]) == size:
            place = np.int64(rows[row, PLACE])
            i = 0
            while i < size and text[place + i] == data[at + i]:
                i += 1
            if i == size:
                break
        row = (row + np.uint64(1)) & np.uint64(len(rows) - 1)
    return row


@compiled
def _copy_short(rows, grown):
    for old in range(len(rows)):
        if rows[old, HIGH] != EMPTY:
            row = short_row(grown, rows[old, LOW], rows[old, HIGH])
            for column in range(3):
                grown[row, column] = rows[old, column]


@compiled
def _copy_long(rows, grown):
    for old in range(len(rows)):
        if rows[old, HASH] != EMPTY:
            row = (rows[old, HASH] >> np.uint64(1)) & np.uint64(len(grown) - 1)
            while grown[row, HASH] != EMPTY:
                row = (row + np.uint64(1)) & np.uint64(len(grown) - 1)
            for column in range(4):
                grown[row, column] = rows[old, column]

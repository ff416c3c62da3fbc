"""Byte strings interned in an open-addressing table, for compiled loops that see each many times.

A row is four unsigned 64-bit numbers. A word of up to seven bytes *is* its key (length and bytes
packed into one number), so most look-ups compare one number and touch no text; a longer word's key
is a hash with the top bit set, and its bytes are compared with those that the owner of the table
keeps in ``text``.
"""

# mypy: disallow_untyped_defs=False

import numpy as np

from training.tokenizer.compiled import compiled, inlined

KEY, PLACE, LENGTH, VALUE = range(4)  # bytes text[PLACE:PLACE + LENGTH]; VALUE is the owner's
EMPTY = np.uint64(0)  # no word has this key: it begins with the length

_HASHED = np.uint64(1 << 63)
_BYTE = np.uint64(8)
# FNV-1a (Fowler, Noll, Vo) for long words; 2^64 / golden ratio (Knuth, vol. 3, 6.4) for the row.
_FNV_OFFSET, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


def new_table(num_rows: int) -> np.ndarray:
    """An empty table of ``num_rows`` rows, a power of two."""
    return np.zeros((num_rows, 4), np.uint64)


def doubled(table: np.ndarray) -> np.ndarray:
    """The same rows in a table twice as long."""
    grown = new_table(2 * len(table))
    _copy_rows(table, grown)
    return grown


@inlined
def word_key(data, at, end):
    """Key of the word ``data[at:end]``, which is not empty."""
    if end - at < 8:
        key = np.uint64(end - at)
        for i in range(at, end):
            key = key << _BYTE | np.uint64(data[i])
    else:
        key = _FNV_OFFSET
        for i in range(at, end):
            key = (key ^ np.uint64(data[i])) * _FNV_PRIME
        key = key | _HASHED
    return key


@inlined
def first_row(table, key):
    """Row where the search for a key begins; it goes on downwards and around."""
    return key * _GOLDEN >> _HALF & np.uint64(len(table) - 1)


@inlined
def find_row(table, text, data, at, end, key):
    """Row of the word ``data[at:end]`` with that key, or the empty row where it belongs."""
    row = first_row(table, key)
    while table[row, KEY] != EMPTY:
        if table[row, KEY] == key:
            if key & _HASHED == EMPTY:
                break
            place, length = np.int64(table[row, PLACE]), np.int64(table[row, LENGTH])
            if length == end - at:
                i = 0
                while i < length and text[place + i] == data[at + i]:
                    i += 1
                if i == length:
                    break
        row = (row + np.uint64(1)) & np.uint64(len(table) - 1)
    return row


@compiled
def _copy_rows(table, grown):
    for old in range(len(table)):
        key = table[old, KEY]
        if key == EMPTY:
            continue
        row = first_row(grown, key)
        while grown[row, KEY] != EMPTY:
            row = (row + np.uint64(1)) & np.uint64(len(grown) - 1)
        for column in range(4):
            grown[row, column] = table[old, column]

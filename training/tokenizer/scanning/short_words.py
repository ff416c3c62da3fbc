"""Words of up to fifteen bytes as two numbers, which are all there is to compare.

The low number is the first eight bytes, the high one the others with the length above them. All
numbers are unsigned, of 64 bits.
"""

# mypy: disallow_untyped_defs=False

import numpy as np

from training.compiled import inlined
from training.tokenizer.scanning.window import SIZE, window_words

_ALL = np.uint64((1 << 64) - 1)
_LENGTH_PLACE = np.uint64(56)
_BYTE = np.uint64(8)


@inlined
def short_key(data, at, size):
    """Key, low and high, of the word ``data[at:at + size]`` of 1 .. 15 bytes."""
    if at + SIZE <= len(data):
        low, high = window_words(data, at)
        below = np.uint64(min(size, 8))
        above = np.uint64(max(size, 8) - 8)
        low = low & (_ALL >> (np.uint64(64) - below * _BYTE))
        high = high & ((np.uint64(1) << (above * _BYTE)) - np.uint64(1))
    else:
        low, high = np.uint64(0), np.uint64(0)
        for i in range(size - 1, -1, -1):
            if i < 8:
                low = low << _BYTE | np.uint64(data[at + i])
            else:
                high = high << _BYTE | np.uint64(data[at + i])
    return low, high | np.uint64(size) << _LENGTH_PLACE


@inlined
def short_length(high):
    """Length of the word with that key."""
    return np.int64(high >> _LENGTH_PLACE)


@inlined
def short_byte(low, high, i):
    """Byte ``i`` of the word with that key."""
    part = low if i < 8 else high
    return np.uint8(part >> np.uint64(8 * (i & 7)) & np.uint64(0xFF))

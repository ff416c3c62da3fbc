"""What all compiled passes over text share: UTF-8, hashes, and words.

Invalid UTF-8 never stops a pass: a byte that starts no whole sequence is read as a character by
itself, and nothing is read outside the document. Importing a kernel costs a second (numba), so
kernels are imported where they are used.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that callers pass.

import numpy as np
from numba import njit

SEED = np.uint64(0xCBF29CE484222325)  # FNV-1a, 64 bits
PRIME = np.uint64(0x100000001B3)
GRAM = np.uint64(0x9E3779B97F4A7C15)  # odd, so that an n-gram's hash is a polynomial in it


def phrase(text):
    """The bytes of an ASCII text, to be looked for by a kernel."""
    return np.frombuffer(text.encode(), np.uint8)


@njit(inline="always")
def mix(h):
    """The finalizer of splitmix64 (Steele et al. 2014)."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@njit(cache=True)
def hash_word(points):
    """Hash of a word given as code points; the scans compute the same."""
    h = SEED
    for point in points:
        h = (h ^ np.uint64(point)) * PRIME
    return mix(h)


@njit(inline="always")
def decode(data, i, end):
    """Code point at byte ``i`` and its number of bytes; a cut sequence reads as single bytes."""
    lead = data[i]
    if lead < 0x80:
        return np.uint32(lead), 1
    if lead >= 0xF0 and i + 3 < end:
        point = (lead & 0x07) << 18 | (data[i + 1] & 0x3F) << 12
        return np.uint32(point | (data[i + 2] & 0x3F) << 6 | (data[i + 3] & 0x3F)), 4
    if lead >= 0xE0 and i + 2 < end:
        return np.uint32((lead & 0x0F) << 12 | (data[i + 1] & 0x3F) << 6 | (data[i + 2] & 0x3F)), 3
    if lead >= 0xC0 and i + 1 < end:
        return np.uint32((lead & 0x1F) << 6 | (data[i + 1] & 0x3F)), 2
    return np.uint32(lead), 1


@njit(inline="always")
def class_of(classes, point):
    """Class bits of a code point; none beyond the table."""
    return classes[point] if point < classes.size else np.uint16(0)


@njit(inline="always")
def matches(data, i, end, wanted):
    """Whether the bytes at ``i`` are ``wanted`` (lower-case ASCII), in any case of A to Z."""
    if i < 0 or i + wanted.size > end:
        return False
    for k in range(wanted.size):
        byte = data[i + k]
        if byte != wanted[k] and not (65 <= byte <= 90 and byte + 32 == wanted[k]):
            return False
    return True

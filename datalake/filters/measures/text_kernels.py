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


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def class_of(classes, point):
    """Class bits of a code point; none beyond the table."""
    return classes[point] if point < classes.size else np.uint32(0)


@njit(cache=True)
def matches(data, i, end, wanted):
    """Whether the bytes at ``i`` are ``wanted`` (lower-case ASCII), in any case of A to Z."""
    if i < 0 or i + wanted.size > end:
        return False
    for k in range(wanted.size):
        byte = data[i + k]
        if byte != wanted[k] and not (65 <= byte <= 90 and byte + 32 == wanted[k]):
            return False
    return True


@njit(cache=True)
def _word_of_eight(data, i):
    """Bytes ``i`` to ``i + 8`` as one number."""
    low = np.uint64(data[i]) | np.uint64(data[i + 1]) << np.uint64(8)
    low |= np.uint64(data[i + 2]) << np.uint64(16) | np.uint64(data[i + 3]) << np.uint64(24)
    high = np.uint64(data[i + 4]) | np.uint64(data[i + 5]) << np.uint64(8)
    high |= np.uint64(data[i + 6]) << np.uint64(16) | np.uint64(data[i + 7]) << np.uint64(24)
    return low | high << np.uint64(32)


@njit(cache=True)
def hash_bytes(data, start, end):
    """64-bit hash of a range of bytes, eight at a time."""
    h = SEED ^ np.uint64(end - start)
    i = start
    while i + 8 <= end:
        h = (h ^ _word_of_eight(data, i)) * GRAM
        h ^= h >> np.uint64(29)
        i += 8
    rest = np.uint64(0)
    while i < end:
        rest = rest << np.uint64(8) | np.uint64(data[i])
        i += 1
    return mix(h ^ rest)


@njit(cache=True)
def num_characters_of(data, start, end):
    """Characters in a range of UTF-8: the bytes that go on with none."""
    count = 0
    for i in range(start, end):
        count += data[i] & 0xC0 != 0x80
    return count


@njit(cache=True)
def table_mask(num_keys):
    """Mask of the smallest power of two that leaves half of a table's slots empty."""
    size = 2
    while size < 2 * num_keys:
        size *= 2
    return np.uint64(size - 1)


@njit(cache=True)
def slot_of(keys, counts, mask, key):
    """Slot of ``key`` in an open-addressing table; its count is zero where the key is new."""
    slot = (key ^ (key >> np.uint64(32))) & mask
    while counts[slot] != 0 and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    keys[slot] = key
    return slot


@njit(cache=True)
def fresh_set(keys, num_keys):
    """Room for about ``num_keys`` hashes at the front of ``keys``, emptied; returns its mask."""
    size = 16
    while size < 2 * num_keys and 2 * size <= keys.size:
        size *= 2
    keys[:size] = 0
    return np.uint64(size - 1)


@njit(cache=True)
def add_to_set(keys, mask, key):
    """Whether ``key`` was there already; it is afterwards."""
    key |= np.uint64(key == 0)  # zero is an empty slot
    slot = (key ^ (key >> np.uint64(32))) & mask
    while keys[slot] != 0:
        if keys[slot] == key:
            return True
        slot = (slot + np.uint64(1)) & mask
    keys[slot] = key
    return False


@njit(cache=True)
def grown_set(keys, mask):
    """The same set with four times the room; returns the new array and its mask."""
    size = np.int64(mask) + 1
    wider = np.zeros(4 * size, np.uint64)
    for k in range(size):
        if keys[k]:
            add_to_set(wider, np.uint64(4 * size - 1), keys[k])
    return wider, np.uint64(4 * size - 1)

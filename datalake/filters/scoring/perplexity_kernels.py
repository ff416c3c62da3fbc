"""Passes over text for the n-gram model: vocabulary, keys of n-grams, and probabilities.

The key of the n-gram that ends at a token is made of the key of the n-1 tokens before it and of
the token, so that a walk over the text carries all keys along, and the key of a context is the key
that the walk had one token earlier. Equality of 64-bit keys stands for equality of n-grams.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that are passed.

import numpy as np
from numba import njit

from datalake.filters.measures.text_kernels import GRAM, mix
from datalake.filters.scoring.token_kernels import NO_TOKEN, cut_at, next_token

UNKNOWN = np.uint64(0xD6E8FEB86659FD93)  # a word outside the vocabulary
START = np.uint64(0xA0761D6478BD642F)  # before the first token, as often as contexts need it
END = np.uint64(0xE7037ED1A0B428DB)  # after the last token
BORDER = 256  # before the first and after the last byte of a word, where bytes are counted
_32 = np.uint64(32)


@njit(cache=True, nogil=True, inline="always")
def extend(context, token):
    """Key of the n-gram of a context (by its key, 0 where empty) and a token; never 0."""
    key = mix((context + np.uint64(1)) * GRAM ^ token)
    return key if key != 0 else np.uint64(1)


@njit(cache=True, nogil=True)
def hashes(data, offsets, max_bytes, kinds, lower):
    """All tokens of all texts after one another: hash, first byte, last byte, row."""
    room = 1024
    tokens, places = np.empty(room, np.uint64), np.empty((room, 3), np.int64)
    size = 0
    for row in range(offsets.size - 1):
        i, end = offsets[row], cut_at(data, offsets[row], offsets[row + 1], max_bytes)
        while True:
            what, token, start, i = next_token(data, i, end, kinds, lower, True)
            if what == NO_TOKEN:
                break
            if size == room:
                tokens = np.concatenate((tokens, np.empty(room, np.uint64)))
                places = np.concatenate((places, np.empty((room, 3), np.int64)))
                room *= 2
            tokens[size] = token
            places[size, 0], places[size, 1], places[size, 2] = start, i, row
            size += 1
    return tokens[:size], places[:size]


@njit(cache=True, nogil=True)
def keys_of(tokens, rows, num_rows, order):
    """Keys at every event, a token or the end of a text: ``after``, ``before`` [order, events].

    ``after[n-1]`` is the key of the n-gram that ends with the event, ``before[n-1]`` that of the n
    tokens before it. ``rows`` ascends and says to which text a token belongs.
    """
    size = tokens.size + num_rows
    after = np.empty((order, size), np.uint64)
    before = np.empty((order, size), np.uint64)
    state = np.empty(order, np.uint64)
    k = event = 0
    for row in range(num_rows):
        for n in range(order):
            state[n] = extend(state[n - 1] if n else np.uint64(0), START)
        while True:
            is_end = k == tokens.size or rows[k] != row
            token = END if is_end else tokens[k]
            for n in range(order):
                before[n, event] = state[n]
            for n in range(order - 1, 0, -1):
                state[n] = extend(state[n - 1], token)
            state[0] = extend(np.uint64(0), token)
            for n in range(order):
                after[n, event] = state[n]
            event += 1
            if is_end:
                break
            k += 1
    return after, before


@njit(cache=True, nogil=True)
def count_bytes(data, places, counts):
    """Count in ``counts [257, 257]`` which byte follows which in the words at ``places``."""
    for k in range(len(places)):
        previous = BORDER
        for i in range(places[k, 0], places[k, 1]):
            byte = _folded(data[i])
            counts[previous, byte] += 1
            previous = byte
        counts[previous, BORDER] += 1


@njit(cache=True, nogil=True, inline="always")
def _folded(byte):
    """ASCII letters in lower case and digits as 0, as far as a byte alone can tell."""
    if 65 <= byte <= 90:
        return byte + 32
    if 48 <= byte <= 57:
        return 48
    return np.int64(byte)


@njit(cache=True, nogil=True, inline="always")
def _slot(keys, key):
    """Where ``key`` is in the table, or the empty slot where it would be."""
    slot = np.int64(((key >> _32) * np.uint64(keys.size)) >> _32)
    while keys[slot] != 0 and keys[slot] != key:
        slot += 1
        if slot == keys.size:
            slot = 0
    return slot


@njit(cache=True, nogil=True)
def table_of(keys, numbers, size):
    """Open-addressing table of ``size`` slots: ``uint64 [size]``, ``float32 [size, 2]``."""
    slots = np.zeros(size, np.uint64)
    values = np.zeros((size, 2), np.float32)
    for k in range(keys.size):
        slot = _slot(slots, keys[k])
        slots[slot] = keys[k]
        values[slot] = numbers[k]
    return slots, values


@njit(cache=True, nogil=True)
def nats(data, offsets, max_bytes, order, slots, values, spelling, kinds, lower):
    """Negative log-likelihood, events and bytes of every text: ``float64 [rows, 3]``.

    ``values`` are the natural logarithms of probability and of backoff weight. A word outside the
    vocabulary costs the unknown word and then its bytes.
    """
    found = np.zeros((offsets.size - 1, 3))
    # Keys of the last 1, 2, ... tokens and the logarithm of their weight as contexts; only the
    # first ``depth`` of them occur in the table.
    state, weights = np.zeros(order, np.uint64), np.zeros(order)
    following, following_weights = np.zeros(order, np.uint64), np.zeros(order)
    for row in range(offsets.size - 1):
        i, end = offsets[row], cut_at(data, offsets[row], offsets[row + 1], max_bytes)
        found[row, 2] = end - i
        depth = 0
        for n in range(order - 1):
            state[n] = extend(state[n - 1] if n else np.uint64(0), START)
            slot = _slot(slots, state[n])
            if slots[slot] == 0:
                break
            weights[n] = values[slot, 1]
            depth += 1
        total = 0.0
        while True:
            what, token, start, i = next_token(data, i, end, kinds, lower, True)
            if what == NO_TOKEN:
                token = END
            key = extend(np.uint64(0), token)
            slot = _slot(slots, key)
            if slots[slot] == 0:
                key = extend(np.uint64(0), UNKNOWN)
                slot = _slot(slots, key)
                token = UNKNOWN
                previous = BORDER
                for k in range(start, i):
                    byte = _folded(data[k])
                    total -= spelling[previous, byte]
                    previous = byte
                total -= spelling[previous, BORDER]
            # Upwards, for as long as the n-gram occurs: with a shorter one not seen, no longer is.
            longest, matched = values[slot, 0], 0
            following[0], following_weights[0] = key, values[slot, 1]
            kept = 1
            while matched < depth and matched < order - 1:
                key = extend(state[matched], token)
                slot = _slot(slots, key)
                if slots[slot] == 0:
                    break
                matched += 1
                longest = values[slot, 0]
                if matched < order - 1:
                    following[matched], following_weights[matched] = key, values[slot, 1]
                    kept += 1
            total -= longest
            for n in range(matched, depth):
                total -= weights[n]
            depth = min(kept, order - 1)
            for n in range(depth):
                state[n], weights[n] = following[n], following_weights[n]
            found[row, 1] += 1
            if what == NO_TOKEN:
                break
        found[row, 0] = total
    return found

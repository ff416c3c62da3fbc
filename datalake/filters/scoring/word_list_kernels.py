"""Where a text says a listed word or phrase: n-grams of tokens, looked up by their hash.

At every token, phrases may end. Two small filters, of phrases of one token and of the last two
tokens of longer ones, rule out nearly all places, so a text is read about as fast as it is split.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that are passed.

import numpy as np
from numba import njit

from datalake.filters.measures.text_kernels import GRAM, PRIME, SEED, decode, mix
from datalake.filters.scoring.token_kernels import (
    IS_SPACE,
    NO_TOKEN,
    WORD_TOKEN,
    kind_of,
    next_token,
)

FILTER_BITS = np.uint64((1 << 15) - 1)


@njit(cache=True, nogil=True)
def _next(data, i, end, kinds, lower, by_character):
    """``next_token``, or with ``by_character`` the next character; a run of space is one."""
    if not by_character:
        return next_token(data, i, end, kinds, lower, False)
    if i >= end:
        return NO_TOKEN, SEED, end, end
    start = i
    point, size = decode(data, i, end)
    i += size
    if kind_of(kinds, point) == IS_SPACE:
        while i < end:
            following, size = decode(data, i, end)
            if kind_of(kinds, following) != IS_SPACE:
                break
            i += size
        return WORD_TOKEN + 1, mix((SEED ^ np.uint64(32)) * PRIME), start, i
    if point < lower.size:
        point = lower[point]
    return WORD_TOKEN, mix((SEED ^ np.uint64(point)) * PRIME), start, i


@njit(cache=True, nogil=True)
def phrase(data, kinds, lower, by_character):
    """Key of a phrase, its place in the filter, and its number of tokens."""
    recent = np.zeros(data.size + 1, np.uint64)
    i = length = 0
    while True:
        what, token, _, i = _next(data, i, data.size, kinds, lower, by_character)
        if what == NO_TOKEN:
            break
        recent[length] = token
        length += 1
    key = np.uint64(0)
    for k in range(length - 1, -1, -1):
        key = key * GRAM + recent[k]
    last = recent[max(0, length - 1)]
    if length > 1:
        last = _pair(last, recent[length - 2])
    return mix(key), last & FILTER_BITS, length


@njit(cache=True, nogil=True, inline="always")
def _pair(last, previous):
    return (last ^ previous * GRAM) >> np.uint64(20)


@njit(cache=True, nogil=True)
def count(data, offsets, keys, ends, lengths, kinds, lower, by_character):
    """Ends of listed phrases, and words (or characters) in all: ``int64 [rows, 2]``.

    ``keys`` is sorted; ``ends [2, bits]`` are the filters of short and long phrases, ``lengths
    [longest + 1]`` says which numbers of tokens there are. Phrases that end at one token count
    once.
    """
    max_length = lengths.size - 1
    found = np.zeros((offsets.size - 1, 2), np.int64)
    recent = np.zeros(max_length, np.uint64)  # a ring
    for row in range(offsets.size - 1):
        i, end = offsets[row], offsets[row + 1]
        seen = place = 0
        previous = np.uint64(0)
        while True:
            what, token, _, i = _next(data, i, end, kinds, lower, by_character)
            if what == NO_TOKEN:
                break
            place = place + 1 if place + 1 < max_length else 0
            recent[place] = token
            seen += 1
            found[row, 1] += what == WORD_TOKEN
            may_end = ends[0, token & FILTER_BITS] or (
                seen > 1 and ends[1, _pair(token, previous) & FILTER_BITS]
            )
            previous = token
            if not may_end:
                continue
            key = np.uint64(0)
            for n in range(min(max_length, seen)):
                key = key * GRAM + recent[place - n]  # before the first comes the last
                if not lengths[n + 1]:
                    continue
                wanted = mix(key)
                at = np.searchsorted(keys, wanted)
                if at < keys.size and keys[at] == wanted:
                    found[row, 0] += 1
                    break
    return found

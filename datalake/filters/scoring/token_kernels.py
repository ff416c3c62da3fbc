"""Tokens of a text, one after another from its UTF-8 bytes: what the scorers count.

A token is a run of letters and digits, with the marks that belong to them; a single character in
the scripts that put no spaces between words (Chinese, Japanese, Thai); or a run of one sign, so
that ``):`` is two tokens and ``...`` is one. Case is folded. Tokens are pulled, not stored: a
document of any size takes no memory, and no Python string is ever made.

A token is known by a 64-bit hash, and equality of hashes stands for equality of tokens. Bytes that
are not UTF-8 read as single signs.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that are passed.

import unicodedata
from functools import cache

import numpy as np
from numba import njit

from datalake.filters.measures.characters import (
    ALONE,
    SPACE,
    TABLE_SIZE,
    WORD,
    character_classes,
    lower_cases,
)
from datalake.filters.measures.text_kernels import PRIME, SEED, decode, mix

IS_SIGN, IS_SPACE, IS_LETTER, IS_DIGIT, IS_ALONE, IS_MARK = range(6)
NO_TOKEN, SIGN_TOKEN, WORD_TOKEN = range(3)  # what ``next_token`` found

_SIGN_RUN = 4  # longer runs of one sign are one token, whatever their length


@cache
def character_kinds() -> np.ndarray:
    """What each code point does to a token: ``uint8 [TABLE_SIZE]``, one of ``IS_...``."""
    classes = character_classes()
    kinds = np.full(TABLE_SIZE, IS_SIGN, np.uint8)
    for point in range(TABLE_SIZE):
        category = unicodedata.category(chr(point))
        if category == "Nd":
            kinds[point] = IS_DIGIT
        elif category[0] == "M" or point in (0x200C, 0x200D):  # joiners are part of their word
            kinds[point] = IS_MARK
    kinds[((classes & WORD) > 0) & (kinds == IS_SIGN)] = IS_LETTER
    kinds[(classes & ALONE) > 0] = IS_ALONE
    kinds[(classes & SPACE) > 0] = IS_SPACE
    return kinds


def tables() -> tuple[np.ndarray, np.ndarray]:
    """``character_kinds`` and the lower case of each code point, as the kernels take them."""
    return character_kinds(), lower_cases()


@njit(cache=True, nogil=True, inline="always")
def kind_of(kinds, point):
    """Kind of a code point; beyond the table there are signs only."""
    return kinds[point] if point < kinds.size else np.uint8(IS_SIGN)


@njit(cache=True, nogil=True)
def next_token(data, i, end, kinds, lower, fold_digits):
    """The token at or after byte ``i``: ``(NO_TOKEN | SIGN_TOKEN | WORD_TOKEN, hash, start, end)``.

    With ``fold_digits`` every digit reads as 0, as in CCNet (Wenzek et al. 2019, arXiv:1911.00359).
    """
    while i < end:
        point, size = decode(data, i, end)
        kind = kind_of(kinds, point)
        if kind != IS_SPACE:
            break
        i += size
    if i >= end:
        return NO_TOKEN, SEED, end, end
    start = i
    i += size
    h = SEED
    if kind == IS_SIGN:
        run = 1
        while i < end:
            following, size = decode(data, i, end)
            if following != point:
                break
            run += 1
            i += size
        h = (h ^ np.uint64(point)) * PRIME
        h = (h ^ np.uint64(min(run, _SIGN_RUN))) * PRIME
        return SIGN_TOKEN, mix(h), start, i
    alone = kind == IS_ALONE
    while True:
        if kind == IS_DIGIT and fold_digits:
            point = np.uint32(48)
        elif point < lower.size:
            point = lower[point]
        h = (h ^ np.uint64(point)) * PRIME
        if i >= end:
            break
        point, size = decode(data, i, end)
        kind = kind_of(kinds, point)
        if kind != IS_MARK and (alone or (kind != IS_LETTER and kind != IS_DIGIT)):
            break
        i += size
    return WORD_TOKEN, mix(h), start, i


@njit(cache=True, nogil=True)
def cut_at(data, start, end, max_bytes):
    """End of the first ``max_bytes`` bytes of a text, at the border of a character."""
    if end - start <= max_bytes:
        return end
    stop = start + max_bytes
    while stop > start and data[stop] & 0xC0 == 0x80 and start + max_bytes - stop < 4:
        stop -= 1
    return stop


@njit(cache=True, nogil=True)
def num_tokens(data, offsets, kinds, lower):
    """Number of tokens of every text: ``int64 [rows]``."""
    found = np.zeros(offsets.size - 1, np.int64)
    for row in range(offsets.size - 1):
        i, end = offsets[row], offsets[row + 1]
        while True:
            what, _, _, i = next_token(data, i, end, kinds, lower, False)
            if what == NO_TOKEN:
                break
            found[row] += 1
    return found


@njit(cache=True, nogil=True)
def tokens_of(data, kinds, lower, fold_digits):
    """Hash, start and end byte of every token of one text: ``uint64, int64, int64 [tokens]``."""
    count = num_tokens(data, np.array([0, data.size]), kinds, lower)[0]
    hashes = np.empty(count, np.uint64)
    starts = np.empty(count, np.int64)
    ends = np.empty(count, np.int64)
    i = 0
    for k in range(count):
        _, hashes[k], starts[k], i = next_token(data, i, data.size, kinds, lower, fold_digits)
        ends[k] = i
    return hashes, starts, ends

"""Compiled Bloom filter: one block of 512 bits a key, one bit in each of its eight words.

A block is one line of the processor's cache, so a key costs one miss, whether it is added or
looked up (Putze, Sanders and Singler 2009, Cache-, hash- and space-efficient Bloom filters).
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that are passed.

import numpy as np
from numba import njit

from datalake.dedup.repeats.passage_kernels import next_token
from datalake.dedup.repeats.piece_kernels import GRAM, PRIME, SEED, mix

WORDS = 8  # of a block
_1, _6, _16, _32, _63 = (np.uint64(k) for k in (1, 6, 16, 32, 63))
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)


@njit(cache=True, inline="always")
def _place(key, num_blocks):
    """First word of a key's block, and eight times six bits that choose a bit of each word."""
    h = mix(key)
    return ((h >> _32) * num_blocks >> _32) * np.uint64(WORDS), (h * _MULTIPLIER) >> _16


@njit(cache=True, inline="always")
def _holds(words, num_blocks, key):
    at, bits = _place(key, num_blocks)
    there = _1
    for k in range(WORDS):
        there &= words[at + np.uint64(k)] >> (bits & _63)
        bits >>= _6
    return there


@njit(cache=True, inline="always")
def _put(words, num_blocks, key):
    at, bits = _place(key, num_blocks)
    for k in range(WORDS):
        words[at + np.uint64(k)] |= _1 << (bits & _63)
        bits >>= _6


@njit(cache=True, nogil=True)
def contains(words, keys, seen):
    """Whether each of ``keys`` is held: into bool ``seen``. words: uint64 [blocks * WORDS]."""
    num_blocks = np.uint64(words.size // WORDS)
    for i in range(keys.size):
        seen[i] = _holds(words, num_blocks, keys[i]) != 0


@njit(cache=True, nogil=True)
def add(words, keys, room, seen):
    """Add keys in order, at most ``room`` that were not held; returns how many were looked at.

    bool ``seen`` says which were held before, by the filter or by an earlier one of ``keys``.
    """
    num_blocks = np.uint64(words.size // WORDS)
    for i in range(keys.size):
        at, bits = _place(keys[i], num_blocks)
        there = _1
        rest = bits
        for k in range(WORDS):
            there &= words[at + np.uint64(k)] >> (rest & _63)
            rest >>= _6
        seen[i] = there != 0
        if not seen[i]:
            if room == 0:
                return i
            room -= 1
            for k in range(WORDS):
                words[at + np.uint64(k)] |= _1 << (bits & _63)
                bits >>= _6
    return keys.size


@njit(cache=True, inline="always")
def _ones(x):
    """How many bits of ``x`` are set."""
    x -= (x >> _1) & np.uint64(0x5555555555555555)
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@njit(cache=True, nogil=True)
def chance(words):
    """Chance that a key that was never added is held: mean over blocks of the product of fills."""
    total = 0.0
    for block in range(words.size // WORDS):
        product = 1.0
        for k in range(WORDS):
            product *= _ones(words[block * WORDS + k]) / 64.0
        total += product
    return total / (words.size // WORDS)


@njit(cache=True, nogil=True)
def n_grams(
    data, offsets, classes, shortest, longest, threshold, words, room, dropped, rows, firsts, ends
):
    """Drop documents and paragraphs whose n-grams the filter holds; add those of what is left.

    bool ``dropped`` [documents] is filled; rows, firsts, ends: int64, of one more than the newlines
    of the batch, take the paragraphs to cut of documents that stay. Returns how many documents were
    decided, how many cuts there are, and how many n-grams were new.
    """
    num_blocks = np.uint64(words.size // WORDS)
    power = _1
    for _ in range(longest):
        power *= GRAM
    recent = np.zeros(longest, np.uint64)
    longest_document = np.int64(0)
    for d in range(offsets.size - 1):
        longest_document = max(longest_document, offsets[d + 1] - offsets[d])
    grams = np.empty(longest_document + 1, np.uint64)
    num_cuts = num_new = 0
    for d in range(offsets.size - 1):
        base, end = offsets[d], offsets[d + 1]
        num_grams = held = num_fresh = 0
        cuts_before = num_cuts
        start = base
        while start < end:
            stop = start
            while stop < end and data[stop] != 10:
                stop += 1
            # Words of the paragraph, and a polynomial in the last ``longest`` of them.
            i, num_words, rolling, begin = start, 0, np.uint64(0), num_fresh
            while True:
                first, i = next_token(data, i, stop, classes)
                if first >= stop and num_words >= longest:
                    break
                ends_here = first >= stop
                if not ends_here:
                    word = SEED
                    for k in range(first, i):
                        word = (word ^ np.uint64(data[k])) * PRIME
                    word = mix(word)
                    rolling = rolling * GRAM + word - recent[num_words % longest] * power
                    recent[num_words % longest] = word
                    num_words += 1
                # A paragraph of fewer words than an n-gram is one, where it has enough.
                if num_words >= longest or (ends_here and num_words >= shortest):
                    grams[num_fresh] = mix(rolling ^ np.uint64(min(num_words, longest)))
                    num_fresh += 1
                if ends_here:
                    break
            recent[:] = 0
            known = 0
            for k in range(begin, num_fresh):
                known += _holds(words, num_blocks, grams[k]) != 0
            size = num_fresh - begin
            num_grams += size
            held += known
            after = min(stop + 1, end)
            if known > threshold * size:
                rows[num_cuts], firsts[num_cuts], ends[num_cuts] = d, start - base, after - base
                num_cuts += 1
                num_fresh = begin
            start = after
        dropped[d] = held > threshold * num_grams
        if dropped[d]:
            num_cuts = cuts_before
            continue
        for k in range(num_fresh):
            if _holds(words, num_blocks, grams[k]) == 0:
                if num_new == room:
                    return d, cuts_before, num_new
                _put(words, num_blocks, grams[k])
                num_new += 1
    return offsets.size - 1, num_cuts, num_new

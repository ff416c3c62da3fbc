"""Hashed word n-grams: the features of a document as a short sparse vector, and their dot product.

Each n-gram of up to ``max_words`` tokens falls into one of ``num_buckets`` (a power of two) by its
hash (Weinberger et al. 2009, arXiv:0902.2206, without their signs: at 2^18 buckets and a few
thousand n-grams collisions are rare, and the weights stay readable). A bucket met c times counts
1 + ln c, and the vector is scaled to length one: a long text is not louder than a short one.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that are passed.

import numpy as np
from numba import njit

from datalake.filters.measures.text_kernels import GRAM, mix
from datalake.filters.scoring.token_kernels import NO_TOKEN, cut_at, next_token


@njit(cache=True, nogil=True)
def _count(data, start, end, max_bytes, max_words, mask, kinds, lower, counts, met, recent):
    """Count n-grams into ``counts`` and list in ``met`` the buckets met; their number."""
    num_met = num_tokens = 0
    i, end = start, cut_at(data, start, end, max_bytes)
    while True:
        what, token, _, i = next_token(data, i, end, kinds, lower, True)
        if what == NO_TOKEN:
            return num_met
        for k in range(max_words - 1, 0, -1):
            recent[k] = recent[k - 1]
        recent[0] = token
        num_tokens += 1
        gram = np.uint64(0)
        for n in range(min(max_words, num_tokens)):
            gram = gram * GRAM + recent[n]
            bucket = mix(gram) & mask
            if counts[bucket] == 0:
                met[num_met] = bucket
                num_met += 1
            counts[bucket] += 1


@njit(cache=True, nogil=True)
def features(data, offsets, max_bytes, max_words, num_buckets, kinds, lower):
    """Sparse vectors of all texts: ``ends int64 [rows]``, ``buckets int32``, ``values float64``.

    The buckets of a row are in ascending order; a text without tokens has none.
    """
    counts = np.zeros(num_buckets, np.int32)
    met = np.empty(num_buckets, np.int32)
    recent = np.zeros(max_words, np.uint64)
    mask = np.uint64(num_buckets - 1)
    ends = np.zeros(offsets.size - 1, np.int64)
    buckets = np.empty(1024, np.int32)
    values = np.empty(1024, np.float64)
    size = 0
    for row in range(offsets.size - 1):
        num_met = _count(
            data, offsets[row], offsets[row + 1], max_bytes, max_words, mask, kinds, lower,
            counts, met, recent,
        )  # fmt: skip
        if size + num_met > buckets.size:
            room = 2 * (size + num_met)
            buckets = np.concatenate((buckets[:size], np.empty(room - size, np.int32)))
            values = np.concatenate((values[:size], np.empty(room - size, np.float64)))
        met[:num_met].sort()
        square = 0.0
        for k in range(num_met):
            value = 1.0 + np.log(counts[met[k]])
            square += value * value
            buckets[size + k] = met[k]
            values[size + k] = value
            counts[met[k]] = 0
        for k in range(size, size + num_met):
            values[k] /= np.sqrt(square)
        size += num_met
        ends[row] = size
    return ends, buckets[:size], values[:size]


@njit(cache=True, nogil=True)
def margins(data, offsets, max_bytes, max_words, weights, kinds, lower):
    """Dot products of vectors and ``weights``: ``float64 [rows]``, NaN for no tokens."""
    counts = np.zeros(weights.size, np.int32)
    met = np.empty(weights.size, np.int32)
    recent = np.zeros(max_words, np.uint64)
    mask = np.uint64(weights.size - 1)
    found = np.empty(offsets.size - 1, np.float64)
    for row in range(offsets.size - 1):
        num_met = _count(
            data, offsets[row], offsets[row + 1], max_bytes, max_words, mask, kinds, lower,
            counts, met, recent,
        )  # fmt: skip
        total = square = 0.0
        for k in range(num_met):
            count = counts[met[k]]
            value = 1.0 if count == 1 else 1.0 + np.log(count)
            square += value * value
            total += value * weights[met[k]]
            counts[met[k]] = 0
        found[row] = total / np.sqrt(square) if num_met else np.nan
    return found

"""Compiled signatures of text-dedup 0.4: its tokens, its shingles as bytes, its base hashes.

text-dedup splits lower-cased text at every single character that is no word character, so tokens
may be empty, and joins n of them by one space. Once every such character is a space, a shingle is a
range of the folded bytes, from the start of its first token to the end of its last, and is hashed
where it lies. Repeated shingles change no minimum, so no set is made.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that ``minhash.py`` passes.

import numpy as np
from numba import njit

from datalake.dedup.signatures.hash_kernels import sha1_32, xxh3_64
from datalake.dedup.signatures.minhash_kernels import (
    RUN,
    band_keys,
    decode,
    fold_ascii,
    lower_minima_61,
)
from datalake.dedup.signatures.word_folds import CASE_IGNORABLE, CASED

_HELD = 1 << 11  # shingles at a time
_LOW_32 = np.uint64((1 << 32) - 1)
_SPACE, _UNDERSCORE = np.uint8(0x20), np.uint8(95)
_CAPITAL_SIGMA = 0x03A3  # U+03C2 and U+03C3 are its lower case, after the byte 0xCF
_SLACK = 2 * RUN + 64


@njit(cache=True)
def _is_final(data, start, i, end, neighbours):
    """Whether a capital sigma, the bytes at ``i``, ends a word: cased before it, not behind it."""
    cased_before, j = False, i
    while j > start:
        j -= 1
        while j > start and data[j] & 0xC0 == 0x80:
            j -= 1
        point, _ = decode(data, j, end)
        part = neighbours[point] if point < neighbours.size else np.uint8(0)
        if part != CASE_IGNORABLE:
            cased_before = part == CASED
            break
    if not cased_before:
        return False
    j = i + 2
    while j < end:
        point, size = decode(data, j, end)
        part = neighbours[point] if point < neighbours.size else np.uint8(0)
        if part != CASE_IGNORABLE:
            return part != CASED
        j += size
    return True


@njit(cache=True)
def _fold(data, start, end, starts, content, neighbours, out):
    """Lower-cased text with spaces for all that is no word character; returns its size."""
    i, size = start, np.int64(0)
    while i < end:
        n = min(RUN, end - i)
        is_ascii, _ = fold_ascii(data, i, n, out, size, _SPACE, _UNDERSCORE)
        if is_ascii:
            i, size = i + n, size + n
            continue
        stop = i + n
        while i < stop:
            point, width = decode(data, i, end)
            if point == _CAPITAL_SIGMA:
                out[size] = 0xCF
                out[size + 1] = 0x82 if _is_final(data, start, i, end, neighbours) else 0x83
                size += 2
            elif point < starts.size - 1:
                for k in range(starts[point], starts[point + 1]):
                    out[size] = content[k]
                    size += 1
            else:
                out[size] = _SPACE
                size += 1
            i += width
    return size


@njit(cache=True, nogil=True)
def sign(
    data,
    offsets,
    valid,
    starts,
    content,
    neighbours,
    shingle_words,
    min_words,
    sha1,
    a,
    b,
    num_rows,
    minima,
    keys,
):
    """Fill ``minima`` and ``keys`` of every valid document.

    starts, content: the folding; neighbours: of the capital sigma; min_words: a document of fewer
    tokens has no shingles, one of fewer than ``shingle_words`` has all its tokens as one shingle;
    sha1: base hash, XXH3 else; the rest as in ``minhash_kernels.sign_words``.
    """
    longest = np.int64(0)
    for d in range(valid.size):
        longest = max(longest, offsets[d + 1] - offsets[d])
    out = np.empty(longest + longest // 2 + _SLACK, np.uint8)
    token_starts = np.empty(shingle_words, np.int64)  # of the last tokens, in a ring
    shingles = np.empty(_HELD + 8, np.uint64)
    block, state, lanes = np.empty(80, np.uint32), np.empty(5, np.uint32), np.empty(8, np.uint64)
    for d in range(valid.size):
        if not valid[d]:
            continue
        size = _fold(data, offsets[d], offsets[d + 1], starts, content, neighbours, out)
        out[size] = _SPACE  # ends the last token
        minima[d, :] = _LOW_32
        num_tokens, held = np.int64(0), 0
        ring = 0  # where the start of the present token is kept
        token_starts[0] = 0
        for j in range(size + 1):
            if out[j] != _SPACE:
                continue
            num_tokens += 1
            ring = ring + 1 if ring + 1 < shingle_words else 0
            if num_tokens >= shingle_words or j == size:
                first = token_starts[ring] if num_tokens >= shingle_words else np.int64(0)
                if sha1:
                    shingles[held] = sha1_32(out, first, j, block, state)
                else:
                    shingles[held] = xxh3_64(out, first, j, lanes) & _LOW_32
                held += 1
                if held == _HELD:
                    lower_minima_61(shingles, held, _LOW_32, a, b, minima[d])
                    held = 0
            token_starts[ring] = j + 1
        if held:
            lower_minima_61(shingles, held, _LOW_32, a, b, minima[d])
        if num_tokens < min_words:
            minima[d, :] = _LOW_32
        band_keys(minima[d], num_rows, keys[d])

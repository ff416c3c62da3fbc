"""Compiled MinHash: from the bytes of an Arrow column to minima and band keys, no string made.

Words are hashed in two steps that run block by block, so scratch memory does not grow with a
document. A block is *folded*: every word's bytes are written in their folded form, with zero bytes
between words; where the text is ASCII that is arithmetic on whole vectors. Then the words are found
and hashed eight bytes at a time: the number of bytes to the next zero is a count of trailing zeros.

Shingles are sums of word hashes, and the minima are taken permutation by permutation, an innermost
loop of multiply, add and minimum over consecutive shingles that compiles to vector instructions.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that ``minhash.py`` passes.

import numpy as np
from numba import njit

from datalake.dedup.signatures.hash_kernels import load_64, mix, multiply_fold, trailing_zeros
from datalake.dedup.signatures.word_folds import ALONE, MARK, NOTHING, NUMBER, SEPARATOR

BLOCK = 1 << 13  # folded bytes at a time: they and their shingles stay in the first-level cache
RUN = 64  # bytes that are folded as ASCII or not at all
SLACK = 4 * RUN + 64  # what a run of folded text can be longer than a block
TOKENS = 1 << 11  # words at a time
PADDING = 64  # shingles: the minima's loop has no rest

_SEED = np.uint64(0xCBF29CE484222325)
_WORD = np.uint64(0xA0761D6478BD642F)  # odd, of 32 set bits, as the next
_GRAM = np.uint64(0x9E3779B97F4A7C15)  # odd, so that a shingle's hash is a polynomial in it
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_MERSENNE_61 = np.uint64((1 << 61) - 1)
_LOW_32 = np.uint64((1 << 32) - 1)
_61 = np.uint64(61)
_BEYOND = 0x7FFFFFFF  # the code point of bytes that are not UTF-8: in no table


@njit(cache=True, inline="always")
def decode(data, i, end):
    """Code point at byte ``i`` and its bytes; what is not UTF-8 is one byte, and in no table."""
    lead = np.int64(data[i])
    if lead < 0x80:
        return lead, 1
    if lead >= 0xF0:
        if i + 3 < end:
            high = (lead & 0x07) << 18 | (np.int64(data[i + 1]) & 0x3F) << 12
            return high | (np.int64(data[i + 2]) & 0x3F) << 6 | (np.int64(data[i + 3]) & 0x3F), 4
    elif lead >= 0xE0:
        if i + 2 < end:
            high = (lead & 0x0F) << 12 | (np.int64(data[i + 1]) & 0x3F) << 6
            return high | (np.int64(data[i + 2]) & 0x3F), 3
    elif lead >= 0xC0 and i + 1 < end:
        return (lead & 0x1F) << 6 | (np.int64(data[i + 1]) & 0x3F), 2
    return np.int64(_BEYOND), 1


@njit(cache=True)
def fold_ascii(data, i, n, out, size, separator, underscore):
    """Fold ``n`` bytes as if they were ASCII; returns whether they are, and hold digits."""
    source, target = data[i : i + n], out[size : size + n]
    bits, digits = np.uint8(0), np.uint8(0)
    for k in range(n):
        c = source[k]
        bits |= c
        lower = np.uint8(c | np.uint8(0x20))
        letter = np.uint8(lower - np.uint8(97)) < np.uint8(26)
        digit = np.uint8(c - np.uint8(48)) < np.uint8(10)
        digits |= np.uint8(digit)
        folded = lower if letter else separator
        folded = c if digit else folded
        target[k] = underscore if c == np.uint8(95) else folded
    return bits < np.uint8(0x80), digits != np.uint8(0)


@njit(cache=True, inline="always")
def _is_decimal_separator(point):
    return (
        point == 0x2E  # full stop
        or point == 0x2C  # comma
        or point == 0x060C  # Arabic comma
        or point == 0x066B  # Arabic decimal separator
        or (0x2396 <= point <= 0x2398)  # decimal separator key symbols
    )


@njit(cache=True)
def _number_end(data, i, end, kinds):
    """Byte behind a number that begins at ``i``: digits, and once more behind one separator."""
    after = i
    for part in range(2):
        start = after
        if part:
            point, size = decode(data, after, end) if after < end else (np.int64(0), 1)
            if not _is_decimal_separator(point):
                return after
            start = after + size
        j = start
        while j < end:
            point, size = decode(data, j, end)
            if point >= kinds.size or kinds[point] != NUMBER:
                break
            j += size
        if j == start:
            return after
        after = j
    return after


@njit(cache=True)
def _fold_words(data, i, end, kinds, starts, content, numbers, out, size, alone):
    """Fold from byte ``i`` behind the ``size`` bytes of ``out``, until it holds a block or all.

    ``numbers``: whether a number becomes ``0`` and ``_`` parts words; ``alone``: whether the last
    word stands alone and only marks may follow. Returns the next byte, the size, and ``alone``.
    """
    underscore = np.uint8(0) if numbers else np.uint8(95)
    while i < end and size < BLOCK:
        n = min(RUN, end - i)
        if alone:
            out[size] = 0
        is_ascii, has_digits = fold_ascii(data, i, n, out, size + alone, np.uint8(0), underscore)
        if is_ascii:
            if numbers and has_digits:  # what was folded holds up to the first number
                n = 0
                while not 48 <= data[i + n] <= 57:
                    n += 1
            i, size, alone = i + n, size + n + alone, False
            if numbers and has_digits:
                i = _number_end(data, i, end, kinds)
                out[size] = 0x30
                size += 1
            continue
        stop = i + n
        while i < stop:
            point, width = decode(data, i, end)
            kind = np.uint8(kinds[point]) if point < kinds.size else np.uint8(SEPARATOR)
            i += width
            if kind == NOTHING:
                continue
            if kind in (SEPARATOR, ALONE) or (alone and kind != MARK):
                out[size] = 0
                size += 1
                alone = False
            if kind == NUMBER:
                i = _number_end(data, i - width, end, kinds)
                out[size] = 0x30
                size += 1
            elif kind != SEPARATOR:
                for k in range(starts[point], starts[point + 1]):
                    out[size] = content[k]
                    size += 1
                alone = alone or kind == ALONE
    return i, size, alone


@njit(cache=True, inline="always")
def _shingle_hashes(tokens, num_shingles, shingle_words, shingles):
    """Hash of every run of ``shingle_words`` tokens, as a polynomial of theirs, well mixed."""
    for k in range(num_shingles):
        h = tokens[k]
        for j in range(1, shingle_words):
            h = h * _GRAM + tokens[k + j]
        shingles[k] = mix(h)


@njit(cache=True)
def lower_minima_32(shingles, num_shingles, narrow, a, b, minima):
    """Lower the minima of (h a + b) mod 2^32 by these shingles, h the high half of their hashes.

    The last hash is repeated up to a whole number of vectors, which changes no minimum.
    """
    whole = (num_shingles + PADDING - 1) // PADDING * PADDING
    for k in range(num_shingles):
        narrow[k] = shingles[k] >> np.uint64(32)
    for k in range(num_shingles, whole):
        narrow[k] = narrow[num_shingles - 1]
    hashes = narrow[:whole]
    for p in range(a.size):
        multiplier, addend, least = a[p], b[p], np.uint32(minima[p])
        for k in range(hashes.size):
            x = np.uint32(hashes[k] * multiplier + addend)
            least = x if x < least else least
        minima[p] = least


@njit(cache=True)
def lower_minima_61(shingles, num_shingles, mask, a, b, minima):
    """The same of (h a + b) mod 2^61 - 1, the product modulo 2^64, and of its bits in ``mask``."""
    whole = (num_shingles + 7) // 8 * 8
    for k in range(num_shingles, whole):
        shingles[k] = shingles[num_shingles - 1]
    hashes = shingles[:whole]
    for p in range(a.size):
        multiplier, addend, least = a[p], b[p], minima[p]
        for k in range(hashes.size):
            x = hashes[k] * multiplier + addend
            x = (x & _MERSENNE_61) + (x >> _61)
            reduced = x - _MERSENNE_61
            x = (reduced if reduced < x else x) & mask
            least = x if x < least else least
        minima[p] = least


@njit(cache=True)
def _count_distinct(shingles, num_shingles, seen, num_seen):
    """How many different shingles there are, up to the length of ``seen``, which keeps them."""
    for k in range(num_shingles):
        if num_seen == seen.size:
            break
        new = True
        for s in range(num_seen):
            new = new and seen[s] != shingles[k]
        if new:
            seen[num_seen] = shingles[k]
            num_seen += 1
    return num_seen


@njit(cache=True)
def band_keys(minima, num_rows, keys):
    """One key a band: hash of its index and its minima, so that equal keys mean equal bands."""
    for band in range(keys.size):
        h = _SEED ^ np.uint64(band)
        for row in range(num_rows):
            h = mix((h ^ minima[band * num_rows + row]) * _GRAM)
        keys[band] = h


@njit(cache=True, nogil=True)
def sign_words(
    data,
    offsets,
    valid,
    kinds,
    starts,
    content,
    numbers,
    shingle_words,
    min_distinct,
    wide,
    a,
    b,
    num_rows,
    minima,
    keys,
):
    """Fill ``minima`` and ``keys`` of every document; returns which ones have any.

    data: uint8 [bytes]; offsets: int64 [documents + 1] into it; valid: bool [documents]; kinds,
    starts, content, numbers: the folding; wide: hashes of 64 bits modulo 2^61 - 1 instead of 32;
    a, b: uint32 or, where wide, uint64 [bands * num_rows]; minima: uint64 [documents,
    bands * num_rows]; keys: uint64 [documents, bands].
    """
    num_documents = offsets.size - 1
    has_keys = np.zeros(num_documents, np.bool_)
    out = np.empty(BLOCK + SLACK, np.uint8)
    num_tokens_held = TOKENS + shingle_words
    tokens = np.empty(num_tokens_held, np.uint64)
    shingles = np.empty(num_tokens_held + PADDING, np.uint64)
    narrow = np.empty(num_tokens_held + PADDING, np.uint32)
    seen = np.empty(min_distinct, np.uint64)
    for d in range(num_documents):
        if not valid[d]:
            continue
        i, end = offsets[d], offsets[d + 1]
        size, alone, inside, h = np.int64(0), False, False, _SEED
        num_tokens, num_seen, num_hashed = 0, 0, np.int64(0)
        minima[d, :] = _MERSENNE_61 if wide else _LOW_32
        while True:
            i, size, alone = _fold_words(
                data, i, end, kinds, starts, content, numbers, out, size, alone
            )
            final = i == end
            out[size : size + 16] = 0
            j = np.int64(0)
            while j + 8 <= size or (final and (j < size or inside)):
                word = load_64(out, j)
                if not inside:
                    if word == 0:
                        j += 8
                        continue
                    skip = np.int64(trailing_zeros(word) >> np.uint64(3))
                    inside, h = True, _SEED
                    if skip:
                        j += skip
                        continue
                zeros = (word - _ONES) & ~word & _HIGHS
                if zeros == 0:
                    h = multiply_fold(h ^ word, _WORD)
                    j += 8
                    continue
                bits = trailing_zeros(zeros) & np.uint64(0x38)
                h = multiply_fold(h ^ (word & ((np.uint64(1) << bits) - np.uint64(1))), _WORD)
                tokens[num_tokens] = h
                num_tokens += 1
                rest = word >> bits
                skip = np.int64(bits >> np.uint64(3))
                inside = rest != 0
                if inside:  # the next word begins in the bytes at hand
                    h = _SEED
                    skip += np.int64(trailing_zeros(rest) >> np.uint64(3))
                else:
                    skip = 8
                j += skip
                if num_tokens == num_tokens_held:
                    num_hashed += _take_in(
                        tokens, num_tokens, shingle_words, shingles, narrow, wide, a, b, minima[d]
                    )
                    num_seen = _count_distinct(shingles, TOKENS + 1, seen, num_seen)
                    for k in range(shingle_words - 1):
                        tokens[k] = tokens[TOKENS + 1 + k]
                    num_tokens = shingle_words - 1
            if final:
                break
            for k in range(j, size):
                out[k - j] = out[k]
            size = max(np.int64(0), size - j)
        if num_tokens >= shingle_words:
            num_hashed += _take_in(
                tokens, num_tokens, shingle_words, shingles, narrow, wide, a, b, minima[d]
            )
            num_seen = _count_distinct(shingles, num_tokens - shingle_words + 1, seen, num_seen)
        has_keys[d] = num_hashed > 0 and num_seen >= min_distinct
        if has_keys[d]:
            band_keys(minima[d], num_rows, keys[d])
    return has_keys


@njit(cache=True)
def _take_in(tokens, num_tokens, shingle_words, shingles, narrow, wide, a, b, minima):
    """Lower the minima by all shingles of the tokens at hand; returns how many there are."""
    num_shingles = num_tokens - shingle_words + 1
    _shingle_hashes(tokens, num_shingles, shingle_words, shingles)
    if wide:
        lower_minima_61(shingles, num_shingles, _MERSENNE_61, a, b, minima)
    else:
        lower_minima_32(shingles, num_shingles, narrow, a, b, minima)
    return num_shingles

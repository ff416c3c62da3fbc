"""Compiled measurements of text: one pass over the bytes of an Arrow batch, many signals.

A document is scanned once. The scan decodes UTF-8, counts, and leaves a 64-bit hash of every word
in scratch memory; word n-grams, and from them the repetition signals of Gopher and the shingles of
MinHash, are then sums of hashes, and no Python string is ever made. Equality of 64-bit hashes
stands for equality of words, lines and n-grams.

``signals.py`` says what each number means; ``tests/datalake/filters/test_signals.py`` says it again
in plain Python. Importing this module costs a second (numba), so it is imported where it is used.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that ``signals.py`` passes.

import numpy as np
from numba import njit

from datalake.filters.characters import ALONE, ALPHANUMERIC, LETTER, LINE_END, SPACE, WORD

# Columns of the matrix of numbers, in the order of ``signals.NUMBERS``.
(
    NUM_WORDS,
    NUM_LINES,
    MEAN_WORD_LENGTH,
    HASH_RATIO,
    ELLIPSIS_RATIO,
    BULLET_LINES,
    ELLIPSIS_LINES,
    ALPHABETIC_WORDS,
    NUM_STOP_WORDS,
    DUPLICATE_LINES,
    DUPLICATE_LINE_CHARACTERS,
    DUPLICATE_PARAGRAPHS,
    DUPLICATE_PARAGRAPH_CHARACTERS,
    TOP_2_GRAM,
    _TOP_3_GRAM,
    _TOP_4_GRAM,
    DUPLICATE_5_GRAMS,
    _DUPLICATE_6_GRAMS,
    _DUPLICATE_7_GRAMS,
    _DUPLICATE_8_GRAMS,
    _DUPLICATE_9_GRAMS,
    _DUPLICATE_10_GRAMS,
    MAX_LINE_LENGTH,
    MEAN_LINE_LENGTH,
    ALPHABETIC,
    ALPHANUMERICS,
    NUM_COLUMNS,
) = range(27)

_BULLET = 0x2022
_ELLIPSIS = 0x2026
_SEED = np.uint64(0xCBF29CE484222325)  # FNV-1a, 64 bits
_PRIME = np.uint64(0x100000001B3)
_GRAM = np.uint64(0x9E3779B97F4A7C15)  # odd, so that an n-gram's hash is a polynomial in it
_MERSENNE_61 = np.uint64((1 << 61) - 1)
_LOW_32 = np.uint64((1 << 32) - 1)
_29, _32, _61 = np.uint64(29), np.uint64(32), np.uint64(61)


@njit(cache=True, inline="always")
def _mix(h):
    """The finalizer of splitmix64 (Steele et al. 2014)."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@njit(cache=True)
def hash_word(points):
    """Hash of a word given as code points; the scan computes the same."""
    h = _SEED
    for point in points:
        h = (h ^ np.uint64(point)) * _PRIME
    return _mix(h)


@njit(cache=True, inline="always")
def _decode(data, i, end):
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
def _scan(data, start, end, classes, lower, stop_words, words, spans, tokens, row):
    """Count everything that one pass can count, and leave the hashes of words and tokens.

    Writes ``words`` and the characters up to each of them in ``spans``, ``tokens`` (folded words
    of ``\\w``), and the signals of ``row`` that need no second pass. Returns the numbers of words,
    tokens, characters and newlines, and the byte range without white space at its ends.
    """
    num_words = num_tokens = num_characters = num_newlines = 0
    num_letters = num_alphanumerics = num_hashes = num_ellipses = 0
    num_lines = num_bullets = num_ends = longest = line_characters = 0
    alphabetic_words = stop_words_seen = 0
    word, word_length, word_letters = _SEED, 0, 0
    token, token_length = _SEED, 0
    line_length, first, last, dots, last_dots = 0, np.uint32(0), np.uint32(0), 0, 0
    previous = np.uint32(0)
    solid_start, solid_end = end, end
    spans[0] = 0
    i = start
    while True:
        inside = i < end
        if inside:
            point, size = _decode(data, i, end)
            kind = classes[point] if point < classes.size else np.uint8(0)
            num_characters += 1
            num_letters += (kind & LETTER) != 0
            num_alphanumerics += (kind & ALPHANUMERIC) != 0
        else:  # the end closes word, token and line as a line feed would
            point, size, kind = np.uint32(10), 1, np.uint8(SPACE | LINE_END)

        if kind & SPACE:
            if word_length:
                h = _mix(word)
                words[num_words] = h
                spans[num_words + 1] = spans[num_words] + word_length
                num_words += 1
                alphabetic_words += word_letters != 0
                if word_length <= 4:
                    for k in range(stop_words.size):
                        if stop_words[k] == h:
                            stop_words_seen |= 1 << k
                word, word_length, word_letters = _SEED, 0, 0
        else:
            word = (word ^ np.uint64(point)) * _PRIME
            word_length += 1
            word_letters += (kind & LETTER) != 0
            if solid_start == end:
                solid_start = i
            solid_end = i + size
            if first == 0:
                first = point
            last = point

        if kind & WORD and not kind & ALONE:
            token = (token ^ np.uint64(lower[point])) * _PRIME
            token_length += 1
        else:
            if token_length:
                tokens[num_tokens] = _mix(token)
                num_tokens += 1
                token, token_length = _SEED, 0
            if kind & ALONE:
                tokens[num_tokens] = _mix((_SEED ^ np.uint64(lower[point])) * _PRIME)
                num_tokens += 1

        if point == 0x2E:
            dots += 1
            num_ellipses += dots % 3 == 0
            last_dots = dots
        else:
            dots = 0
            if not kind & SPACE:
                last_dots = 0
                num_hashes += point == 0x23
                num_ellipses += point == _ELLIPSIS

        if kind & LINE_END:
            num_newlines += point == 10 and inside
            if not (point == 10 and previous == 13) and (inside or line_length):
                num_lines += 1
                num_bullets += first == _BULLET or first == 0x2D
                num_ends += last == _ELLIPSIS or last_dots >= 3
                longest = max(longest, line_length)
                line_characters += line_length
            line_length, first, last, last_dots = 0, np.uint32(0), np.uint32(0), 0
        else:
            line_length += 1
        previous = point
        i += size
        if not inside:
            break

    row[NUM_WORDS] = num_words
    row[NUM_LINES] = num_lines
    row[MAX_LINE_LENGTH] = longest
    if num_words:
        row[MEAN_WORD_LENGTH] = spans[num_words] / num_words
        row[HASH_RATIO] = num_hashes / num_words
        row[ELLIPSIS_RATIO] = num_ellipses / num_words
        row[ALPHABETIC_WORDS] = alphabetic_words / num_words
        for k in range(stop_words.size):
            row[NUM_STOP_WORDS] += stop_words_seen >> k & 1
    if num_lines:
        row[BULLET_LINES] = num_bullets / num_lines
        row[ELLIPSIS_LINES] = num_ends / num_lines
        row[MEAN_LINE_LENGTH] = line_characters / num_lines
    if num_characters:
        row[ALPHABETIC] = num_letters / num_characters
        row[ALPHANUMERICS] = num_alphanumerics / num_characters
    return num_words, num_tokens, num_characters, num_newlines, solid_start, solid_end


@njit(cache=True, inline="always")
def _table_mask(num_keys):
    """Mask of the smallest power of two that leaves half of a table's slots empty."""
    size = 2
    while size < 2 * num_keys:
        size *= 2
    return np.uint64(size - 1)


@njit(cache=True, inline="always")
def _slot(keys, counts, mask, key):
    """Slot of ``key`` in an open-addressing table; its count is zero where the key is new."""
    slot = (key ^ (key >> _32)) & mask
    while counts[slot] != 0 and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    keys[slot] = key
    return slot


@njit(cache=True)
def _repeated_pieces(data, start, end, gap, max_pieces, keys, counts):
    """Pieces between runs of at least ``gap`` newlines: number, repeats, and their characters."""
    mask = _table_mask(max_pieces)
    counts[: mask + np.uint64(1)] = 0
    num_pieces = num_repeats = repeated_characters = 0
    piece, length, breaks = _SEED, 0, 0
    for i in range(start, end + 1):
        if i < end and data[i] == 10:
            breaks += 1
            continue
        if length and (breaks >= gap or i == end):
            slot = _slot(keys, counts, mask, _mix(piece))
            num_pieces += 1
            if counts[slot]:
                num_repeats += 1
                repeated_characters += length
            counts[slot] += 1
            piece, length, breaks = _SEED, 0, 0
        if i == end:
            break
        if length and breaks:
            piece = (piece ^ np.uint64(10)) * _PRIME
            length += 1
        breaks = 0
        piece = (piece ^ np.uint64(data[i])) * _PRIME
        length += (data[i] & 0xC0) != 0x80
    return num_pieces, num_repeats, repeated_characters


@njit(cache=True)
def _n_gram_signals(words, spans, num_words, num_characters, grams, live, slots, keys, counts, row):
    """Top n-grams (2..4) and duplicate n-grams (5..10) of one document, into ``row``.

    An n-gram can occur twice only where both (n-1)-grams inside it do, so each n looks at the
    positions that n-1 left alive: most text is unique after a few words.
    """
    num_live = num_words
    for i in range(num_words):
        grams[i] = words[i]
        live[i] = i
    for n in range(2, min(10, num_words) + 1):
        mask = _table_mask(num_live)
        counts[: mask + np.uint64(1)] = 0
        num_grams = 0
        for k in range(num_live):
            i = live[k]
            if k + 1 < num_live and live[k + 1] == i + 1:
                gram = grams[i] * _GRAM + words[i + n - 1]
                grams[i] = gram
                slot = _slot(keys, counts, mask, gram)
                counts[slot] += 1
                live[num_grams] = i
                slots[num_grams] = slot
                num_grams += 1
        top, times = 0, 1  # of equally frequent n-grams the first counts
        num_live = 0
        for k in range(num_grams):
            count = counts[slots[k]]
            if count > times:
                top, times = live[k], count
            if count > 1:
                live[num_live] = live[k]
                slots[num_live] = slots[k]
                num_live += 1
        if n <= 4:
            characters = (spans[top + n] - spans[top] + n - 1) * times
            row[TOP_2_GRAM + n - 2] = min(1.0, characters / num_characters)
        else:
            repeated, free = 0, 0
            for k in range(num_live):
                i = live[k]
                if i < free:
                    continue
                if counts[slots[k]] < 0:  # seen by this scan
                    repeated += spans[i + n] - spans[i]
                    free = i + n
                else:
                    counts[slots[k]] = -1
            row[DUPLICATE_5_GRAMS + n - 5] = repeated / num_characters


@njit(cache=True)
def _minima(tokens, num_tokens, shingle_words, a, b, minima):
    """Minimum of every permutation over the shingles of a document.

    The permutation is (h a + b) mod 2^61 - 1, low 32 bits, its product modulo 2^64: the one of
    text-dedup and datatrove.
    """
    minima[:] = _LOW_32
    for i in range(num_tokens - shingle_words + 1):
        shingle = np.uint64(0)
        for j in range(shingle_words):
            shingle = shingle * _GRAM + tokens[i + j]
        shingle = _mix(shingle)
        for p in range(a.size):
            x = shingle * a[p] + b[p]
            x = (x & _MERSENNE_61) + (x >> _61)
            x = (x - _MERSENNE_61 if x >= _MERSENNE_61 else x) & _LOW_32
            minima[p] = min(minima[p], x)


@njit(cache=True)
def _band_keys(minima, num_rows, keys):
    """One key a band: hash of its index and its minima, so that equal keys mean equal bands."""
    for band in range(keys.size):
        h = _SEED ^ np.uint64(band)
        for row in range(num_rows):
            h = _mix((h ^ minima[band * num_rows + row]) * _GRAM)
        keys[band] = h


@njit(cache=True, nogil=True)
def measure(
    data, offsets, classes, lower, stop_words, shingle_words, a, b, num_rows, numbers, band_keys
):
    """Fill ``numbers`` and ``band_keys`` for every document; return the words that each shingles.

    data: uint8 [bytes], offsets: int64 [documents + 1] into it, stop_words: uint64 hashes,
    a, b: uint64 [bands * num_rows], numbers: float64 [documents, NUM_COLUMNS] of zeros,
    band_keys: uint64 [documents, bands]. Returns int64 [documents], the tokens found in each.
    """
    num_documents = offsets.size - 1
    longest = np.int64(0)
    for d in range(num_documents):
        longest = max(longest, offsets[d + 1] - offsets[d])
    # Two words have a space between them, and a token that stands alone has three bytes.
    most = longest // 2 + 1
    words, tokens = np.empty(most, np.uint64), np.empty(most, np.uint64)
    grams = np.empty(most, np.uint64)
    spans, live, slots = (
        np.empty(most + 1, np.int64),
        np.empty(most, np.int64),
        np.empty(most, np.uint64),
    )
    size = _table_mask(longest + 1) + np.uint64(1)
    keys, counts = np.empty(size, np.uint64), np.empty(size, np.int32)
    minima = np.empty(a.size, np.uint64)
    num_tokens = np.zeros(num_documents, np.int64)
    for d in range(num_documents):
        start, end, row = offsets[d], offsets[d + 1], numbers[d]
        found = _scan(data, start, end, classes, lower, stop_words, words, spans, tokens, row)
        num_words, num_tokens[d], num_characters, num_newlines, solid_start, solid_end = found
        if num_characters:
            pieces, repeats, characters = _repeated_pieces(
                data, start, end, 1, num_newlines + 1, keys, counts
            )
            if pieces:
                row[DUPLICATE_LINES] = repeats / pieces
                row[DUPLICATE_LINE_CHARACTERS] = characters / num_characters
            pieces, repeats, characters = _repeated_pieces(
                data, solid_start, solid_end, 2, num_newlines + 1, keys, counts
            )
            if pieces:
                row[DUPLICATE_PARAGRAPHS] = repeats / pieces
                row[DUPLICATE_PARAGRAPH_CHARACTERS] = characters / num_characters
            _n_gram_signals(
                words, spans, num_words, num_characters, grams, live, slots, keys, counts, row
            )
        if num_tokens[d] >= shingle_words:
            _minima(tokens, num_tokens[d], shingle_words, a, b, minima)
            _band_keys(minima, num_rows, band_keys[d])
    return num_tokens

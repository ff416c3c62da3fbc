"""The one pass that reads every character: words, their hashes, and what is counted on the way."""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that callers pass.

from collections import namedtuple

import numpy as np
from numba import njit

from datalake.filters.measures.characters import (
    ALONE,
    ALPHANUMERIC,
    DIGIT,
    LETTER,
    LINE_END,
    MARK,
    PUNCTUATION,
    SIGN,
    SPACE,
    UNCAPITAL,
    UPPER,
    WORD,
)
from datalake.filters.measures.signal_columns import COLUMN
from datalake.filters.measures.text_kernels import PRIME, SEED, class_of, decode, mix

NUM_WORDS = COLUMN["num_words"]
NUM_LINES = COLUMN["num_lines"]
MEAN_WORD_LENGTH = COLUMN["mean_word_length"]
HASHES = COLUMN["hash_ratio"]
ELLIPSES = COLUMN["ellipsis_ratio"]
BULLET_LINES = COLUMN["bullet_line_fraction"]
ELLIPSIS_LINES = COLUMN["ellipsis_line_fraction"]
ALPHABETIC_WORDS = COLUMN["alphabetic_word_fraction"]
NUM_STOP_WORDS = COLUMN["num_stop_words"]
MAX_LINE_LENGTH = COLUMN["max_line_length"]
MEAN_LINE_LENGTH = COLUMN["mean_line_length"]
ALPHABETIC = COLUMN["alphabetic_fraction"]
ALPHANUMERICS = COLUMN["alphanumeric_fraction"]
NUM_CHARACTERS = COLUMN["num_characters"]
NUM_TOKENS = COLUMN["num_tokens"]
NUM_NONSYMBOL = COLUMN["num_nonsymbol_words"]
MEAN_NONSYMBOL = COLUMN["mean_nonsymbol_word_length"]
MEDIAN_WORD_LENGTH = COLUMN["median_word_length"]
STOP_OCCURRENCES = COLUMN["num_stop_word_occurrences"]
STOP_FRACTION = COLUMN["stop_word_fraction"]
UPPERCASE = COLUMN["uppercase_fraction"]
ALL_CAPS = COLUMN["all_caps_word_fraction"]
DIGITS = COLUMN["digit_fraction"]
PUNCTUATIONS = COLUMN["punctuation_fraction"]
SPACES = COLUMN["space_fraction"]

_BULLET, _ELLIPSIS = 0x2022, 0x2026
_NONE = np.uint32(0xFFFFFFFF)  # no character: NUL is one
_LENGTHS = 256  # words up to this length are counted, not sorted, for the median

# words: how many are left for the n-grams, measured: characters up to their end; characters,
# newlines: of the text; other_ends: line ends that are no line feeds; first, last: the byte range
# without white space at its ends.
Scan = namedtuple("Scan", "words measured characters newlines other_ends first last")


@njit(cache=True)
def stop_table(hashes):
    """A table of 64 slots with every hash at its own, and how far a hash is shifted to find it."""
    for shift in range(58):
        table = np.zeros(64, np.uint64)
        places = np.zeros(64, np.int64)
        for k in range(hashes.size):
            place = (hashes[k] >> np.uint64(shift)) & np.uint64(63)
            if table[place]:
                break
            table[place], places[place] = hashes[k], k
        else:
            return table, places, np.uint64(shift)
    raise ValueError("stop words must have hashes that differ in six neighbouring bits")


@njit(cache=True)
def scan(data, start, end, classes, alone, stop_words, words, spans, row):
    """Count what one pass can count; leave the hash of every word, and the characters up to it.

    ``words`` uint64 and ``spans`` int64 take the words; ``alone`` is ALONE where a character of a
    script without spaces is a word by itself, with its marks, or 0; ``stop_words`` as made by
    ``stop_table``; ``row``: the signals of the document. Words beyond the room are counted only.
    """
    stop_hashes, stop_places, stop_shift = stop_words
    num_measured = word_characters = 0
    num_words = num_tokens = num_characters = num_newlines = other_ends = 0
    num_letters = num_alphanumerics = num_hashes = num_ellipses = 0
    num_upper = num_digits = num_punctuation = num_spaces = 0
    num_lines = num_bullets = num_ends = longest = line_characters = 0
    alphabetic_words = capital_words = nonsymbol_words = nonsymbol_characters = 0
    stop_words_seen = num_stop_words = 0
    lengths = np.zeros(_LENGTHS, np.int64)
    word, word_length, met, nonsigns, single = SEED, 0, np.uint32(0), 0, False
    in_token = 0  # 1: letters and digits, 2: other signs
    line_length, first, last, dots, last_dots = 0, _NONE, _NONE, 0, 0
    previous = np.uint32(0)
    solid_first = solid_last = end
    spans[0] = 0
    i = start
    while True:
        inside = i < end
        if inside:
            point, size = decode(data, i, end)
            kind = class_of(classes, point)
            num_characters += 1
            num_letters += (kind & LETTER) != 0
            num_alphanumerics += (kind & ALPHANUMERIC) != 0
            num_upper += (kind & UPPER) != 0
            num_digits += (kind & DIGIT) != 0
            num_punctuation += (kind & PUNCTUATION) != 0
            num_spaces += (kind & SPACE) != 0
        else:  # the end closes word, token and line as a line feed would
            point, size, kind = np.uint32(10), 1, np.uint32(SPACE | LINE_END)

        is_space = (kind & SPACE) != 0
        starts_alone = (kind & alone) != 0
        if word_length and (is_space or starts_alone or (single and not kind & MARK)):
            h = mix(word)
            if num_words < words.size:
                words[num_words] = h
                spans[num_words + 1] = spans[num_words] + word_length
                num_measured = num_characters
            num_words += 1
            word_characters += word_length
            alphabetic_words += (met & LETTER) != 0
            capital_words += (met & (UPPER | UNCAPITAL)) == UPPER
            if nonsigns:
                nonsymbol_words += 1
                nonsymbol_characters += word_length
            lengths[min(word_length, _LENGTHS - 1)] += 1
            place = (h >> stop_shift) & np.uint64(63)
            if stop_hashes[place] == h:
                stop_words_seen |= 1 << stop_places[place]
                num_stop_words += 1
            word, word_length, met, nonsigns = SEED, 0, np.uint32(0), 0
        if is_space:
            in_token = 0
        else:
            if word_length == 0:
                single = starts_alone
            word = (word ^ np.uint64(point)) * PRIME
            word_length += 1
            met |= kind
            nonsigns += not kind & SIGN
            if solid_first == end:
                solid_first = i
            solid_last = i + size
            if first == _NONE:
                first = point
            last = point
            is_word = (kind & WORD) != 0
            if kind & ALONE:
                num_tokens += 1
                in_token = 0
            else:
                now = 1 if is_word else 2
                num_tokens += now != in_token
                in_token = now

        if point == 0x2E:
            dots += 1
            num_ellipses += dots % 3 == 0
            last_dots = dots
        else:
            dots = 0
            if not is_space:
                last_dots = 0
                num_hashes += point == 0x23
                num_ellipses += point == _ELLIPSIS

        if kind & LINE_END:
            num_newlines += point == 10 and inside
            other_ends += point != 10
            if not (point == 10 and previous == 13) and (inside or line_length):
                num_lines += 1
                num_bullets += first == _BULLET or first == 0x2D
                num_ends += last == _ELLIPSIS or last_dots >= 3
                longest = max(longest, line_length)
                line_characters += line_length
            line_length, first, last, last_dots = 0, _NONE, _NONE, 0
        else:
            line_length += 1
        previous = point
        i += size
        if not inside:
            break

    row[NUM_WORDS], row[NUM_LINES], row[MAX_LINE_LENGTH] = num_words, num_lines, longest
    row[NUM_CHARACTERS], row[NUM_TOKENS] = num_characters, num_tokens
    row[NUM_NONSYMBOL], row[STOP_OCCURRENCES] = nonsymbol_words, num_stop_words
    if num_words:
        row[MEAN_WORD_LENGTH] = word_characters / num_words
        row[HASHES] = num_hashes / num_words
        row[ELLIPSES] = num_ellipses / num_words
        row[ALPHABETIC_WORDS] = alphabetic_words / num_words
        row[ALL_CAPS] = capital_words / num_words
        row[STOP_FRACTION] = num_stop_words / num_words
        row[MEDIAN_WORD_LENGTH] = _median_length(lengths, spans, num_words, words.size)
        for k in range(64):
            row[NUM_STOP_WORDS] += stop_words_seen >> k & 1
    if nonsymbol_words:
        row[MEAN_NONSYMBOL] = nonsymbol_characters / nonsymbol_words
    if num_lines:
        row[BULLET_LINES] = num_bullets / num_lines
        row[ELLIPSIS_LINES] = num_ends / num_lines
        row[MEAN_LINE_LENGTH] = line_characters / num_lines
    if num_characters:
        row[ALPHABETIC] = num_letters / num_characters
        row[ALPHANUMERICS] = num_alphanumerics / num_characters
        row[UPPERCASE] = num_upper / num_characters
        row[DIGITS] = num_digits / num_characters
        row[PUNCTUATIONS] = num_punctuation / num_characters
        row[SPACES] = num_spaces / num_characters
    if num_words <= words.size:
        num_measured = num_characters
    return Scan(
        min(num_words, words.size),
        num_measured,
        num_characters,
        num_newlines,
        other_ends,
        solid_first,
        solid_last,
    )


@njit(cache=True)
def _median_length(lengths, spans, num_words, most):
    """Median characters of a word; the mean of the two in the middle of an even number.

    Where words of ``_LENGTHS`` characters are in the middle, it is that of the first ``most``.
    """
    low, high = (num_words - 1) // 2, num_words // 2
    at_low, at_high, below = -1, -1, 0
    for length in range(lengths.size - 1):
        below += lengths[length]
        if at_low < 0 and below > low:
            at_low = length
        if below > high:
            at_high = length
            break
    if at_high < 0:  # long words are in the middle
        num_words = min(num_words, most)
        every = np.sort(spans[1 : num_words + 1] - spans[:num_words])
        at_low, at_high = every[(num_words - 1) // 2], every[num_words // 2]
    return (at_low + at_high) / 2


@njit(cache=True, nogil=True)
def count_tokens(data, offsets, classes, counts):
    """Fill ``counts`` int64 [documents] with ``num_tokens`` of each."""
    for d in range(offsets.size - 1):
        i, end = offsets[d], offsets[d + 1]
        in_token = 0
        while i < end:
            point, size = decode(data, i, end)
            kind = class_of(classes, point)
            if kind & (SPACE | ALONE):
                counts[d] += (kind & ALONE) != 0
                in_token = 0
            else:
                now = 1 if kind & WORD else 2
                counts[d] += now != in_token
                in_token = now
            i += size

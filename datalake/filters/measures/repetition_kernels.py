"""What repeats in a document: lines, paragraphs, words and n-grams, by 64-bit hashes."""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that callers pass.

from collections import namedtuple

import numpy as np
from numba import njit

from datalake.filters.measures.characters import SPACE, TERMINAL
from datalake.filters.measures.signal_columns import COLUMN
from datalake.filters.measures.text_kernels import (
    GRAM,
    add_to_set,
    class_of,
    decode,
    fresh_set,
    grown_set,
    hash_bytes,
    mix,
    num_characters_of,
    slot_of,
    table_mask,
)

UNIQUE_WORDS, ENTROPY = COLUMN["unique_word_fraction"], COLUMN["unigram_entropy"]
TOP_2_GRAM = COLUMN["top_2_gram_character_fraction"]
DUPLICATE_5_GRAMS = COLUMN["duplicate_5_gram_character_fraction"]

FIRST_ROOM = 4096  # hashes that a set begins with, so that a million equal lines need no more
SHORT_LINE, LONG_LINE = 30, 200  # characters: FineWeb's short lines, the paragraphs of mC4

# pieces, repeats, repeated: Gopher's lines, how many repeat an earlier one, and their characters;
# full: lines that are not blank, and of these: punctuated, short, and the characters that repeat;
# characters: without line feeds; long: lines of LONG_LINE characters or more.
Lines = namedtuple(
    "Lines", "pieces repeats repeated full punctuated short full_repeated characters long"
)


@njit(cache=True)
def read_lines(data, start, end, newlines, classes, keys):
    """What the lines between line feeds are, and which repeat; and ``keys``, or a larger array.

    ``keys`` uint64 is scratch: it grows with the number of different lines.
    """
    mask = fresh_set(keys, min(newlines + 1, FIRST_ROOM))
    different = 0
    # A regular expression that splits at \n+ leaves an empty piece at an end that has line feeds.
    empty = 0
    if end > start:
        empty = np.int64(data[start] == 10) + np.int64(data[end - 1] == 10)
    pieces, repeats, repeated = empty, np.int64(empty == 2), 0
    full = punctuated = short = full_repeated = characters = num_long = 0
    i = start
    while i < end:
        stop = i
        while stop < end and data[stop] != 10:
            stop += 1
        if stop > i:
            length = num_characters_of(data, i, stop)
            characters += length
            num_long += length >= LONG_LINE
            pieces += 1
            again = add_to_set(keys, mask, hash_bytes(data, i, stop))
            different += not again
            if 2 * different > mask:
                keys, mask = grown_set(keys, mask)
            repeats += again
            repeated += length * again
            if not is_blank(data, i, stop, classes):
                full += 1
                short += length <= SHORT_LINE
                full_repeated += length * again
                last = stop - 1
                while last > i and stop - last < 4 and data[last] & 0xC0 == 0x80:
                    last -= 1
                point, _ = decode(data, last, stop)
                punctuated += (class_of(classes, point) & TERMINAL) != 0
        i = stop + 1
    lines = Lines(
        pieces, repeats, repeated, full, punctuated, short, full_repeated, characters, num_long
    )
    return lines, keys


@njit(cache=True)
def is_blank(data, start, end, classes):
    """Whether there is nothing but white space."""
    i = start
    while i < end:
        point, size = decode(data, i, end)
        if not class_of(classes, point) & SPACE:
            return False
        i += size
    return True


@njit(cache=True)
def repeated_paragraphs(data, start, end, newlines, keys):
    """Pieces between two or more line feeds: number, repeats, and the characters of these.

    Also ``keys``, as of ``read_lines``.
    """
    mask = fresh_set(keys, min(newlines + 1, FIRST_ROOM))
    different = 0
    pieces = repeats = repeated = 0
    i = start
    while i < end:
        stop = i
        while stop < end and not (data[stop] == 10 and stop + 1 < end and data[stop + 1] == 10):
            stop += 1
        pieces += 1
        if add_to_set(keys, mask, hash_bytes(data, i, stop)):
            repeats += 1
            repeated += num_characters_of(data, i, stop)
        else:
            different += 1
            if 2 * different > mask:
                keys, mask = grown_set(keys, mask)
        i = stop
        while i < end and data[i] == 10:
            i += 1
    return pieces, repeats, repeated, keys


@njit(cache=True)
def word_signals(words, num_words, live, keys, counts, row):
    """Different words and entropy into ``row``; positions of words that occur twice in ``live``."""
    mask = table_mask(num_words)
    counts[: mask + np.uint64(1)] = 0
    different = 0
    for k in range(num_words):
        slot = slot_of(keys, counts, mask, words[k])
        different += counts[slot] == 0
        counts[slot] += 1
    entropy = 0.0
    for slot in range(mask + np.uint64(1)):
        count = counts[slot]
        if count > 1:
            entropy += count * np.log(count)
    row[UNIQUE_WORDS] = different / num_words
    row[ENTROPY] = max(0.0, np.log(num_words) - entropy / num_words)
    num_live = 0
    for k in range(num_words):
        if counts[slot_of(keys, counts, mask, words[k])] > 1:
            live[num_live] = k
            num_live += 1
    return num_live


@njit(cache=True)
def n_gram_signals(words, spans, num_words, characters, grams, live, slots, keys, counts, row):
    """Top n-grams (2..4) and duplicate n-grams (5..10) of one document, into ``row``.

    An n-gram can occur twice only where both (n-1)-grams inside it do, so each n looks at the
    positions that n-1 left alive: most text is unique after a few words.
    """
    num_live = word_signals(words, num_words, live, keys, counts, row)
    for k in range(num_live):
        grams[live[k]] = words[live[k]]
    for n in range(2, min(10, num_words) + 1):
        mask = table_mask(num_live)
        counts[: mask + np.uint64(1)] = 0
        num_grams = 0
        for k in range(num_live):
            i = live[k]
            if k + 1 < num_live and live[k + 1] == i + 1:
                gram = grams[i] * GRAM + words[i + n - 1]
                grams[i] = gram
                slot = slot_of(keys, counts, mask, mix(gram))
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
            most = (spans[top + n] - spans[top] + n - 1) * times
            row[TOP_2_GRAM + n - 2] = min(1.0, most / characters)
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
            row[DUPLICATE_5_GRAMS + n - 5] = repeated / characters

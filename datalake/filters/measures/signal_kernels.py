"""Compiled measurements of text: whole Arrow batches, many signals, no Python string.

A document is read three times: for its words and characters (``scan_kernels``), for the hashes of
its lines and paragraphs (``repetition_kernels``), and line by line for the rules of C4, FineWeb
and RefinedWeb (``line_kernels``). Word n-grams are sums of the words' hashes. Equality of 64-bit
hashes stands for equality of words, lines and n-grams.

``signals.py`` says what each number means; ``plain_signals.py`` among the tests says it again in
plain Python. Importing this module costs a second (numba), so it is imported where it is used.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that ``signals.py`` passes.

import numpy as np
from numba import njit

from datalake.filters.measures.characters import LINE_END, SPACE
from datalake.filters.measures.line_constants import (
    KEPT,
    SAYS_JAVASCRIPT,
    SAYS_POLICY,
)
from datalake.filters.measures.line_kernels import is_curly, is_lorem_ipsum, judge_c4
from datalake.filters.measures.line_reader import read_line
from datalake.filters.measures.refinedweb_kernels import judge_refinedweb
from datalake.filters.measures.repetition_kernels import (
    n_gram_signals,
    read_lines,
    repeated_paragraphs,
)
from datalake.filters.measures.scan_kernels import NUM_WORDS, scan
from datalake.filters.measures.signal_columns import COLUMN
from datalake.filters.measures.text_kernels import class_of, decode, table_mask

DUPLICATE_LINES = COLUMN["duplicate_line_fraction"]
DUPLICATE_LINE_CHARACTERS = COLUMN["duplicate_line_character_fraction"]
DUPLICATE_PARAGRAPHS = COLUMN["duplicate_paragraph_fraction"]
DUPLICATE_PARAGRAPH_CHARACTERS = COLUMN["duplicate_paragraph_character_fraction"]
PUNCTUATED_LINES = COLUMN["punctuated_line_fraction"]
FINEWEB_PUNCTUATED_LINES = COLUMN["fineweb_punctuated_line_fraction"]
LONG_LINES = COLUMN["num_long_lines"]
JAVASCRIPT_LINES, POLICY_LINES = COLUMN["num_javascript_lines"], COLUMN["num_policy_lines"]
C4_SENTENCES, FINEWEB_SENTENCES = COLUMN["c4_num_sentences"], COLUMN["fineweb_num_sentences"]
CUT_WORDS = COLUMN["refinedweb_cut_fraction"]

# Words of a document that n-grams are made of. More than any rule keeps (Gopher: 100,000), and
# few enough that a document of any size needs no more than 300 MB.
MOST_WORDS = 1 << 22


@njit(cache=True)
def _fineweb_signals(lines, newlines, num_words, first, row):
    """FineWeb's own four, into four columns from ``first`` on."""
    if lines.full:
        row[first] = lines.punctuated / lines.full
        row[first + 1] = lines.short / lines.full
    if lines.characters:
        row[first + 2] = lines.full_repeated / lines.characters
    if num_words:
        row[first + 3] = newlines / num_words


@njit(cache=True)
def _strip(data, size, classes):
    """Range of the first ``size`` bytes without white space at its ends, and its line feeds."""
    start = 0
    while start < size:
        point, width = decode(data, start, size)
        if not class_of(classes, point) & SPACE:
            break
        start += width
    end = size
    while end > start:
        last = end - 1
        while last > start and end - last < 4 and data[last] & 0xC0 == 0x80:
            last -= 1
        point, _ = decode(data, last, end)
        if not class_of(classes, point) & SPACE:
            break
        end = last
    newlines = 0
    for i in range(start, end):
        newlines += data[i] == 10
    return start, end, newlines


@njit(cache=True)
def _words_cut(data, start, end, classes, alone, edits):
    """Words that RefinedWeb's line rules take out."""
    words_cut = 0
    i = start
    while i < end:
        line = read_line(data, i, end, classes, alone, 0)
        _, _, cut = judge_refinedweb(data, i, line, classes, alone, edits)
        words_cut += cut
        i = line.next
    return words_cut


@njit(cache=True)
def _line_rules(data, start, end, found, classes, alone, scratch, kept, edits, keys, row):
    """What the lines say, and what C4, FineWeb and RefinedWeb leave of them; and ``keys``."""
    size = kept_words = words_cut = 0
    share = found.other_ends == 0  # then RefinedWeb's lines are those of C4
    i = start
    while i < end:
        line = read_line(data, i, end, classes, alone, LINE_END)
        row[JAVASCRIPT_LINES] += (line.says & SAYS_JAVASCRIPT) != 0
        row[POLICY_LINES] += (line.says & SAYS_POLICY) != 0
        judged = judge_c4(data, line, classes, alone, scratch)
        for first, verdict in ((C4_SENTENCES, judged.c4), (FINEWEB_SENTENCES, judged.fineweb_c4)):
            row[first + 1] = max(row[first + 1], is_lorem_ipsum(verdict, judged.says))
            row[first + 2] = max(row[first + 2], is_curly(verdict, judged.says))
            if verdict == KEPT:
                row[first] += judged.sentences
                row[first + 3] += judged.characters
        if judged.fineweb_c4 == KEPT:
            if size:
                kept[size] = 10
                size += 1
            text, origin = (scratch, 0) if judged.edited else (data, line.first)
            for k in range(judged.size):
                kept[size + k] = text[origin + k]
            size += judged.size
            kept_words += judged.words
        if share:
            _, _, cut = judge_refinedweb(data, i, line, classes, alone, edits)
            words_cut += cut
        i = line.next
    if not share:
        words_cut = _words_cut(data, start, end, classes, alone, edits)
    row[C4_SENTENCES + 3] /= found.characters
    row[FINEWEB_SENTENCES + 3] /= found.characters
    if row[NUM_WORDS]:
        row[CUT_WORDS] = words_cut / row[NUM_WORDS]
    first, last, newlines = _strip(kept, size, classes)
    lines, keys = read_lines(kept, first, last, newlines, classes, keys)
    _fineweb_signals(lines, newlines, kept_words, FINEWEB_PUNCTUATED_LINES, row)
    return keys


@njit(cache=True, nogil=True)
def measure(data, offsets, classes, alone, stop_words, numbers):
    """Fill ``numbers`` float64 [documents, len(NUMBERS)], zeros before, for every document.

    data: uint8 [bytes]; offsets: int64 [documents + 1] into it; classes: ``character_classes``;
    alone: ALONE, or 0 for words that lie between white space; stop_words: of ``stop_table``.
    """
    longest = np.int64(1)
    for d in range(offsets.size - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    # Two words have a space between them, and one that stands alone has three bytes.
    most = min(longest // 2 + 1, MOST_WORDS)
    words, grams, slots = (
        np.empty(most, np.uint64),
        np.empty(most, np.uint64),
        np.empty(most, np.uint32),
    )
    spans, live = np.empty(most + 1, np.int64), np.empty(most, np.int32)
    table = table_mask(most) + np.uint64(1)
    keys, counts = np.empty(table, np.uint64), np.empty(table, np.int32)
    seen = np.empty(1 << 13, np.uint64)
    scratch, kept = np.empty(longest, np.uint8), np.empty(longest, np.uint8)
    edits = np.empty((8, 2), np.int64)
    for d in range(offsets.size - 1):
        start, end, row = offsets[d], offsets[d + 1], numbers[d]
        if start == end:
            continue
        found = scan(data, start, end, classes, alone, stop_words, words, spans, row)
        lines, seen = read_lines(data, start, end, found.newlines, classes, seen)
        row[DUPLICATE_LINES] = lines.repeats / max(1, lines.pieces)
        row[DUPLICATE_LINE_CHARACTERS] = lines.repeated / found.characters
        row[LONG_LINES] = lines.long
        _fineweb_signals(lines, found.newlines, row[NUM_WORDS], PUNCTUATED_LINES, row)
        pieces, repeats, repeated, seen = repeated_paragraphs(
            data, found.first, found.last, found.newlines, seen
        )
        row[DUPLICATE_PARAGRAPHS] = repeats / max(1, pieces)
        row[DUPLICATE_PARAGRAPH_CHARACTERS] = repeated / found.characters
        if found.words:
            n_gram_signals(
                words, spans, found.words, found.measured, grams, live, slots, keys, counts, row
            )
        seen = _line_rules(data, start, end, found, classes, alone, scratch, kept, edits, seen, row)

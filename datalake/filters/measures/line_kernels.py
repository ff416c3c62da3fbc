"""Which lines the line rules of C4, FineWeb and RefinedWeb refuse, and what they edit in others.

One reading of a line serves the signals, which count, and the cuts, which remove, so that the two
cannot disagree. For each variant, in this order, the first that holds is the line's verdict:

``c4``, as published (Raffel et al. 2020, JMLR 21/140, and its code in TensorFlow Datasets):
    ``LONG_WORD`` a word of more than 1000 characters; citations are removed
    (``\\[\\d*]|\\[edit]|\\[citation needed]``); ``NO_END_MARK`` the last character is none of
    ``. ? ! "``, or the line ends in ``...``; ``FEW_WORDS`` fewer than 5 words are left;
    ``JAVASCRIPT`` says javascript; ``POLICY`` says one of ``POLICIES``.
``fineweb_c4``, as FineWeb runs it (Penedo et al. 2024, arXiv:2406.17557):
    the same without ``NO_END_MARK``, and ``FEW_WORDS`` is fewer than 3 words before citations go.
``refinedweb`` (Penedo et al. 2023, arXiv:2306.01116, G.2; values of DCLM, arXiv:2406.11794):
    ``UPPERCASE`` more than half of the characters are capitals; ``NUMERIC`` more than 0.999999
    are digits; ``COUNTER`` as in "3 likes"; ``FEW_WORDS`` fewer than 2; ``EMPTIED`` nothing is
    left after its edits. An empty line is never refused. Edits, in lines of 10 words or fewer:
    "items in cart" goes, and "Read more..." at the end, "Sign-in" at the start of what is left,
    each with one space: before the first two, behind the last.

Lines of C4 are those of ``str.splitlines`` without white space at their ends; those of RefinedWeb
lie between line feeds, as they are. Phrases are found in any case of ASCII letters. Words are
those of ``signals``: with ``words="whitespace"`` the rules are the published ones to the letter,
with ``unicode`` a character of a script without spaces is a word. A sentence ends with a run of
sentence terminators, with quotes and closing brackets after them, before white space or the end,
or anywhere if a terminator is wide (U+3002, U+FF01, ...); what is left behind the last is one, too.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that callers pass.

from collections import namedtuple

import numpy as np
from numba import njit

from datalake.filters.measures.characters import DECIMAL, LINE_END
from datalake.filters.measures.line_constants import (
    C4,
    FEW_WORDS,
    FINEWEB_C4,
    JAVASCRIPT,
    KEPT,
    LONG_WORD,
    MAX_WORD,
    MIN_WORDS,
    NO_END_MARK,
    POLICY,
    REFINEDWEB,
    SAYS_BRACKET,
    SAYS_CURLY,
    SAYS_JAVASCRIPT,
    SAYS_LOREM_IPSUM,
    SAYS_POLICY,
)
from datalake.filters.measures.line_reader import read_line
from datalake.filters.measures.refinedweb_kernels import judge_refinedweb
from datalake.filters.measures.text_kernels import class_of, decode, phrase

_EDIT, _CITATION = phrase("[edit]"), phrase("[citation needed]")


@njit(cache=True)
def behind_citation(data, i, end, classes):
    """First byte behind the citation whose bracket is at byte ``i``; ``i`` where there is none."""
    for words in (_EDIT, _CITATION):
        if i + words.size <= end:
            k = 0
            while k < words.size and data[i + k] == words[k]:
                k += 1
            if k == words.size:
                return i + k
    j = i + 1
    while j < end:
        point, size = decode(data, j, end)
        if point == 0x5D:
            return j + 1
        if not class_of(classes, point) & DECIMAL:
            break
        j += size
    return i


@njit(cache=True)
def without_citations(data, start, end, classes, scratch):
    """Copy the bytes without citations to the front of ``scratch``; return how many they are."""
    size = 0
    i = start
    while i < end:
        if data[i] == 0x5B:
            behind = behind_citation(data, i, end, classes)
            if behind > i:
                i = behind
                continue
        scratch[size] = data[i]
        size += 1
        i += 1
    return size


# edited: whether citations went; size: bytes of the line in scratch then; says, words, sentences,
# characters: of what is left of the line, without white space at its ends.
Judged = namedtuple("Judged", "c4 fineweb_c4 edited size says words sentences characters")


@njit(cache=True)
def judge_c4(data, line, classes, alone, scratch):
    """Verdicts of the C4 variants about a line read with ``at=LINE_END``."""
    size = line.last - line.first
    left = line
    edited = False
    if line.says & SAYS_BRACKET:
        left_size = without_citations(data, line.first, line.last, classes, scratch)
        edited = left_size < size
        if edited:
            size = left_size
            left = read_line(scratch, 0, size, classes, alone, 0)
    text, end = (scratch, size) if edited else (data, line.last)
    mark = text[end - 1] if size else 0
    ends = mark == 0x2E or mark == 0x3F or mark == 0x21 or mark == 0x22
    if mark == 0x2E and size >= 3:
        ends = text[end - 2] != 0x2E or text[end - 3] != 0x2E
    said = KEPT
    if left.says & SAYS_JAVASCRIPT:
        said = JAVASCRIPT
    elif left.says & SAYS_POLICY:
        said = POLICY
    if line.longest > MAX_WORD:
        c4 = fineweb_c4 = LONG_WORD
    else:
        c4 = fineweb_c4 = said
        if not ends:
            c4 = NO_END_MARK
        elif left.words < MIN_WORDS[C4]:
            c4 = FEW_WORDS
        if line.words < MIN_WORDS[FINEWEB_C4]:
            fineweb_c4 = FEW_WORDS
    characters = left.characters if edited else line.solid
    return Judged(c4, fineweb_c4, edited, size, left.says, left.words, left.sentences, characters)


@njit(cache=True)
def is_lorem_ipsum(verdict, says):
    """Whether C4 drops the document when it comes to this line, for its lorem ipsum."""
    return (says & SAYS_LOREM_IPSUM) != 0 and (verdict == KEPT or verdict >= JAVASCRIPT)


@njit(cache=True)
def is_curly(verdict, says):
    """The same, for a curly bracket."""
    return (says & SAYS_CURLY) != 0 and verdict in (KEPT, POLICY)


@njit(cache=True)
def _grown(rows):
    grown = np.empty((2 * rows.shape[0], rows.shape[1]), np.int64)
    grown[: rows.shape[0]] = rows
    return grown


@njit(cache=True, nogil=True)
def judge_documents(data, offsets, classes, alone, variant):
    """Every line of every document: what ``datalake.filters.lines`` makes cuts from.

    data: uint8 [bytes], offsets: int64 [documents + 1] into it; ``variant``: C4, FINEWEB_C4 or
    REFINEDWEB; ``alone``: as of ``read_line``.

    Returns ``lines`` int64 [lines, 7]: document, start, end, start of the next line, and the range
    without white space at its ends (bytes from the start of the document), verdict; ``edits``
    int64 [edits, 3]: line (row of ``lines``), start, end of what goes from lines that stay.
    """
    lines = np.empty((1024, 7), np.int64)
    edits = np.empty((64, 3), np.int64)
    ranges = np.empty((8, 2), np.int64)
    longest = np.int64(0)
    for d in range(offsets.size - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    scratch = np.empty(longest if variant != REFINEDWEB else 0, np.uint8)
    num_lines = num_edits = 0
    for d in range(offsets.size - 1):
        origin, end = offsets[d], offsets[d + 1]
        i = origin
        while i < end:
            line = read_line(data, i, end, classes, alone, 0 if variant == REFINEDWEB else LINE_END)
            if variant == REFINEDWEB:
                verdict, found, _ = judge_refinedweb(data, i, line, classes, alone, ranges)
                for k in range(found):
                    if num_edits == edits.shape[0]:
                        edits = _grown(edits)
                    edits[num_edits, 0] = num_lines
                    edits[num_edits, 1] = ranges[k, 0] - origin
                    edits[num_edits, 2] = ranges[k, 1] - origin
                    num_edits += 1
            else:
                judged = judge_c4(data, line, classes, alone, scratch)
                verdict = judged.c4 if variant == C4 else judged.fineweb_c4
                j = line.first
                while verdict == KEPT and judged.edited and j < line.last:
                    behind = j
                    if data[j] == 0x5B:
                        behind = behind_citation(data, j, line.last, classes)
                    if behind > j:
                        if num_edits == edits.shape[0]:
                            edits = _grown(edits)
                        edits[num_edits, 0] = num_lines
                        edits[num_edits, 1] = j - origin
                        edits[num_edits, 2] = behind - origin
                        num_edits += 1
                        j = behind
                    else:
                        j += 1
            if num_lines == lines.shape[0]:
                lines = _grown(lines)
            row = lines[num_lines]
            row[0], row[1], row[2], row[3] = d, i - origin, line.end - origin, line.next - origin
            row[4], row[5], row[6] = line.first - origin, line.last - origin, verdict
            num_lines += 1
            i = line.next
    return lines[:num_lines], edits[:num_edits]

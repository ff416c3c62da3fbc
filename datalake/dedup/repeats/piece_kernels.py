"""Compiled cutting of texts into lines, sentences or paragraphs, each with a hash of what it says.

One pass over the bytes of an Arrow batch: characters are decoded, folded by the tables of
``folding.py`` and hashed as they come; no Python string is made. Bytes that are not UTF-8 read as
characters of their own.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that are passed.

import numpy as np
from numba import njit

from datalake.dedup.repeats.folding import CLOSER, NOTHING, SENTENCE_END, SEVERAL, SPACED_END
from datalake.filters.measures.characters import SPACE

LINES, SENTENCES, PARAGRAPHS = 0, 1, 2

SEED = np.uint64(0xCBF29CE484222325)  # FNV-1a, 64 bits
PRIME = np.uint64(0x100000001B3)
GRAM = np.uint64(0x9E3779B97F4A7C15)  # odd: a hash of several hashes is a polynomial in it


@njit(cache=True, inline="always")
def mix(h):
    """The finalizer of splitmix64 (Steele et al. 2014)."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@njit(cache=True, inline="always")
def decode(data, i, end):
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
def _most_pieces(data, first, last, num_documents, unit):
    """No fewer than there are; memory that is never written to is never taken."""
    most = num_documents
    for i in range(first, last):
        byte = data[i]
        most += byte == 10
        if unit == SENTENCES:
            most += byte == 0x2E or byte == 0x21 or byte == 0x3F or byte >= 0xC0
    return most


@njit(cache=True, nogil=True)
def pieces(
    data, offsets, classes, marks, single, starts, points, unit, count_spaces, min_characters
):
    """Pieces of every document: their hashes, documents, first bytes, and ends in the document.

    data: uint8 [bytes], offsets: int64 [documents + 1] into it; ``unit`` is LINES, SENTENCES or
    PARAGRAPHS. White space counts as one space between what counts, or not at all. Pieces of fewer
    than ``min_characters`` that count are left out. A piece ends where the next one begins, so what
    lies between goes with it. Returns uint64, int64, int64, int64 [pieces].
    """
    # Arrays that grow in the loop would have their references counted at every byte.
    most = _most_pieces(data, offsets[0], offsets[-1], offsets.size - 1, unit)
    hashes, rows = np.empty(most, np.uint64), np.empty(most, np.int64)
    firsts, ends = np.empty(most, np.int64), np.empty(most, np.int64)
    n = 0
    for d in range(offsets.size - 1):
        base, end = offsets[d], offsets[d + 1]
        h, length, spaced = SEED, 0, False
        first, line_start = base, base
        blank = True  # nothing but white space in this line so far
        apart = False  # what comes next belongs to the next piece
        solid = base  # end of the last character that is not white space
        state = np.uint8(0)
        i = base
        while i <= end:
            if i < end:
                point, width = decode(data, i, end)
                inside = point < classes.size
                space = inside and classes[point] & SPACE != 0
                mark = marks[point] if inside else np.uint8(0)
            else:
                point, width, inside, space, mark = np.uint32(10), 1, True, False, np.uint8(0)

            # Does a piece end before this character?
            closes = i == end
            where = i
            if unit == LINES:
                closes = closes or (i > base and data[i - 1] == 10)
            elif not space and not closes:
                if unit == PARAGRAPHS:
                    closes = apart and blank
                    where = line_start
                else:
                    if state == SENTENCE_END and mark == 0:
                        apart = True
                    closes = apart
                    where = line_start if line_start > solid else i
            if closes:
                if length >= min_characters and length > 0:
                    hashes[n] = mix(h ^ np.uint64(length))
                    rows[n] = d
                    firsts[n], ends[n] = first - base, where - base
                    n += 1
                h, length, spaced = SEED, 0, False
                first, apart, state = where, False, np.uint8(0)
                if i == end:
                    break

            if space:
                spaced = True
                if point == 10:
                    if unit == SENTENCES or blank:
                        apart = length > 0
                    line_start, blank = i + 1, True
                elif unit == SENTENCES and state != 0:
                    apart = True
            else:
                if solid == base and length == 0 and unit == PARAGRAPHS:
                    first = line_start
                blank = False
                solid = i + width
                if mark & (SPACED_END | SENTENCE_END):
                    state = max(state, mark)
                elif not mark & CLOSER:
                    state = np.uint8(0)
                folded = single[point] if inside else point
                if folded != NOTHING:
                    if spaced and length > 0 and count_spaces:
                        h = (h ^ np.uint64(32)) * PRIME
                        length += 1
                    spaced = False
                    if folded == SEVERAL:
                        for k in range(starts[point], starts[point + 1]):
                            h = (h ^ np.uint64(points[k])) * PRIME
                            length += 1
                    else:
                        h = (h ^ np.uint64(folded)) * PRIME
                        length += 1
            i += width
    return hashes[:n], rows[:n], firsts[:n], ends[:n]


@njit(cache=True, nogil=True)
def spans(hashes, rows, firsts, ends, width):
    """Runs of ``width`` pieces of one document, as pieces."""
    most = max(0, hashes.size - width + 1)
    h, r = np.empty(most, np.uint64), np.empty(most, np.int64)
    f, e = np.empty(most, np.int64), np.empty(most, np.int64)
    n = 0
    for i in range(most):
        last = i + width - 1
        if rows[i] != rows[last]:
            continue
        total = np.uint64(0)
        for k in range(i, last + 1):
            total = total * GRAM + hashes[k]
        h[n], r[n], f[n], e[n] = mix(total), rows[i], firsts[i], ends[last]
        n += 1
    return h[:n], r[:n], f[:n], e[:n]


@njit(cache=True, nogil=True)
def merged(rows, firsts, ends):
    """Ranges in ascending order of row and first byte, those that touch made one."""
    n = 0
    r, f, e = np.empty_like(rows), np.empty_like(firsts), np.empty_like(ends)
    for i in range(rows.size):
        if firsts[i] >= ends[i]:
            continue
        if n and r[n - 1] == rows[i] and firsts[i] <= e[n - 1]:
            e[n - 1] = max(e[n - 1], ends[i])
        else:
            r[n], f[n], e[n] = rows[i], firsts[i], ends[i]
            n += 1
    return r[:n], f[:n], e[:n]

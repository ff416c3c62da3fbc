"""The line rules of RefinedWeb: which lines they refuse, and what they edit in others."""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that callers pass.

import numpy as np
from numba import njit

from datalake.filters.measures.characters import DECIMAL, MARK, SPACE, WORD
from datalake.filters.measures.line_constants import (
    COUNTED,
    COUNTER,
    EMPTIED,
    FEW_WORDS,
    ITEMS_IN_CART,
    KEPT,
    MAX_EDITED_WORDS,
    MAX_NUMERIC,
    MAX_UPPERCASE,
    MIN_WORDS,
    NUMERIC,
    READ_MORE,
    REFINEDWEB,
    SAYS_ITEMS,
    SAYS_MORE,
    SIGN_IN,
    UPPERCASE,
)
from datalake.filters.measures.text_kernels import class_of, decode, matches, phrase

_ITEMS_IN_CART, _READ_MORE, _SIGN_IN = map(phrase, (ITEMS_IN_CART, READ_MORE, SIGN_IN))
_COUNTED = phrase("".join(COUNTED))
_COUNTED_ENDS = np.cumsum([len(word) for word in COUNTED])


@njit(cache=True)
def is_counter(data, start, end, classes):
    """Whether a line is a number and what is counted: ``3 likes``, ``(1.2k Views)``."""
    i = start
    number = space = False
    while i < end:
        point, size = decode(data, i, end)
        kind = class_of(classes, point)
        if not number:
            if kind & DECIMAL:
                number = True
            elif kind & WORD:
                return False
        elif not space:
            if kind & SPACE:
                space = True
            elif not (kind & DECIMAL or point == 0x2C or point == 0x2E):
                letter = point | 0x20
                thousands = point < 0x80 and (letter == 0x6B or letter == 0x6D or letter == 0x62)
                if not thousands or i + 1 >= end:
                    return False
                point, size = decode(data, i + 1, end)  # only one, and then white space
                if not class_of(classes, point) & SPACE:
                    return False
                size += 1
                space = True
        elif not kind & SPACE:
            break
        i += size
    begin = 0
    for stop in _COUNTED_ENDS:
        word = _COUNTED[begin:stop]
        if matches(data, i, end, word):
            i += word.size
            while i < end:
                point, size = decode(data, i, end)
                if class_of(classes, point) & WORD:
                    return False
                i += size
            return True
        begin = stop
    return False


@njit(cache=True)
def _space_before(data, i, start, classes):
    """Start of the white-space character that ends at byte ``i``; ``i`` where there is none."""
    k = i - 1
    while k > start and i - k < 3 and data[k] & 0xC0 == 0x80:
        k -= 1
    if k < start:
        return i
    point, size = decode(data, k, i)
    return k if k + size == i and class_of(classes, point) & SPACE else i


@njit(cache=True)
def _words_without(data, start, end, classes, alone, edits, num_edits):
    """Words of a line once the first ``num_edits`` ranges, in order, are taken out of it."""
    words = 0
    apart, single = True, False
    k = 0
    i = start
    while i < end:
        if k < num_edits and i == edits[k, 0]:
            i = edits[k, 1]
            k += 1
            continue
        point, size = decode(data, i, end)
        kind = class_of(classes, point)
        if kind & alone:
            words += 1
            apart = single = True
        elif not (single and kind & MARK):
            words += not kind & SPACE and apart
            apart, single = (kind & SPACE) != 0, False
        i += size
    return words


@njit(cache=True)
def judge_refinedweb(data, start, line, classes, alone, edits):
    """Verdict about a line read with ``at=0``; the number of edits; how many words go.

    ``edits`` int64 [8, 2] takes the byte ranges of the edits, in order.
    """
    end = line.end
    if end == start:
        return KEPT, 0, 0
    if line.uppercase / line.characters > MAX_UPPERCASE:
        return UPPERCASE, 0, line.words
    if line.digits / line.characters > MAX_NUMERIC:
        return NUMERIC, 0, line.words
    if line.digits and line.words <= MAX_EDITED_WORDS and is_counter(data, start, end, classes):
        return COUNTER, 0, line.words
    if line.words < MIN_WORDS[REFINEDWEB]:
        return FEW_WORDS, 0, line.words
    says = line.says & (SAYS_ITEMS | SAYS_MORE)
    if line.words > MAX_EDITED_WORDS or not (says or data[start] | 0x20 == 0x73):  # s of sign-in
        return KEPT, 0, 0
    num_edits = 0
    i = head = start
    while says & SAYS_ITEMS and i < end:
        if num_edits < 5 and matches(data, i, end, _ITEMS_IN_CART):
            before = _space_before(data, i, head, classes)
            head = i = i + _ITEMS_IN_CART.size
            edits[num_edits, 0], edits[num_edits, 1] = before, head
            num_edits += 1
        else:
            i += 1
    num_carts = num_edits
    low, high = start, end  # what is left between edits at the ends
    for k in range(num_carts):
        if edits[k, 0] == low:
            low = edits[k, 1]
    for k in range(num_carts - 1, -1, -1):
        if edits[k, 1] == high and high > low:
            high = edits[k, 0]
    floor = low
    for k in range(num_carts):
        if edits[k, 1] <= high:
            floor = max(floor, edits[k, 1])
    i = high - _READ_MORE.size
    if i >= floor and matches(data, i, high, _READ_MORE):
        i = _space_before(data, i, floor, classes)
        edits[num_edits, 0], edits[num_edits, 1] = i, high
        num_edits += 1
        high = i
    ceiling = high
    for k in range(num_carts - 1, -1, -1):
        if edits[k, 0] >= low:
            ceiling = min(ceiling, edits[k, 0])
    if matches(data, low, ceiling, _SIGN_IN):
        behind = low + _SIGN_IN.size
        if behind < ceiling:
            point, size = decode(data, behind, ceiling)
            if class_of(classes, point) & SPACE:
                behind += size
        edits[num_edits, 0], edits[num_edits, 1] = low, behind
        num_edits += 1
    if num_edits == 0:
        return KEPT, 0, 0
    for k in range(1, num_edits):  # in order of their place; they never overlap
        j = k
        while j and edits[j - 1, 0] > edits[j, 0]:
            for side in range(2):
                edits[j - 1, side], edits[j, side] = edits[j, side], edits[j - 1, side]
            j -= 1
    left = _words_without(data, start, end, classes, alone, edits, num_edits)
    return (KEPT if left else EMPTIED), (num_edits if left else 0), line.words - left

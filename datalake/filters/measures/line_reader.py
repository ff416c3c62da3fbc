"""Reading a line of text once: its words, characters and sentences, and which phrases it has.

A phrase is looked for at its rarest letter only, so most bytes cost nothing for it.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that callers pass.

from collections import namedtuple

import numpy as np
from numba import njit

from datalake.filters.measures.characters import (
    ANCHOR,
    CLOSER,
    DIGIT,
    MARK,
    SPACE,
    TERMINAL,
    UPPER,
    WIDE,
)
from datalake.filters.measures.line_constants import (
    ITEMS_IN_CART,
    POLICIES,
    READ_MORE,
    SAYS_BRACKET,
    SAYS_CURLY,
    SAYS_ITEMS,
    SAYS_JAVASCRIPT,
    SAYS_LOREM_IPSUM,
    SAYS_MORE,
    SAYS_POLICY,
)
from datalake.filters.measures.text_kernels import class_of, decode, matches, phrase

_JAVASCRIPT, _LOREM_IPSUM = phrase("javascript"), phrase("lorem ipsum")
_ITEMS, _READ_MORE = phrase(ITEMS_IN_CART), phrase(READ_MORE)
_TERMS, _PRIVACY, _COOKIE_POLICY = map(phrase, POLICIES[:3])
_USES_COOKIES, _USE_OF_COOKIES, _USE_COOKIES = map(phrase, POLICIES[3:])

# end: one past the last byte; next: first byte behind the line end; first, last: the range without
# white space at its ends, solid: its characters; longest: characters of the longest word; says:
# bits as above.
Line = namedtuple(
    "Line", "end next first last words longest characters solid uppercase digits sentences says"
)


@njit(cache=True)
def _phrases_at(data, start, i, end):
    """What is said around the anchor letter at byte ``i``."""
    letter = data[i] | 0x20
    if letter == 0x6A:  # j
        return SAYS_JAVASCRIPT if matches(data, i, end, _JAVASCRIPT) else 0
    if letter == 0x6D:  # m
        if i - 4 >= start and matches(data, i - 4, end, _LOREM_IPSUM):
            return SAYS_LOREM_IPSUM
        if i - 5 >= start and matches(data, i - 5, end, _READ_MORE):
            return SAYS_MORE
        if i - 3 < start:
            return 0
        if matches(data, i - 3, end, _ITEMS):
            return SAYS_ITEMS
        return SAYS_POLICY if matches(data, i - 3, end, _TERMS) else 0
    if letter == 0x76:  # v
        return SAYS_POLICY if i - 3 >= start and matches(data, i - 3, end, _PRIVACY) else 0
    found = (
        (i - 3 >= start and matches(data, i - 3, end, _COOKIE_POLICY))
        or (i - 8 >= start and matches(data, i - 8, end, _USES_COOKIES))
        or (i - 10 >= start and matches(data, i - 10, end, _USE_OF_COOKIES))
        or (i - 7 >= start and matches(data, i - 7, end, _USE_COOKIES))
    )
    return SAYS_POLICY if found else 0


@njit(cache=True)
def _behind_terminals(data, i, end, classes):
    """First byte behind the terminators and closers at ``i``; whether they end a sentence."""
    wide = np.uint32(0)
    closing = False
    while i < end:
        point, size = decode(data, i, end)
        kind = class_of(classes, point)
        if kind & TERMINAL and not closing:
            wide |= kind & WIDE
        elif kind & CLOSER:
            closing = True
        else:
            return i, wide != 0 or (kind & SPACE) != 0
        i += size
    return i, True


@njit(cache=True)
def read_line(data, start, end, classes, alone, at):
    """The line that starts at byte ``start``, up to the first character of a class in ``at``.

    ``at`` is LINE_END for ``str.splitlines``, or 0: line feeds alone. ``alone`` is ALONE where a
    character of a script without spaces is a word by itself, or 0.
    """
    words = longest = characters = uppercase = digits = sentences = says = 0
    length = solid = before = 0
    single = False  # whether the word so far is a character that stands alone, with its marks
    first, last, sentence_end, judged = start, start, start, start
    i = following = start
    while i < end:
        point, size = decode(data, i, end)
        kind = class_of(classes, point)
        if point == 10 or kind & at:
            following = i + size
            if point == 13 and following < end and data[following] == 10:
                following += 1
            break
        characters += 1
        uppercase += (kind & UPPER) != 0
        digits += (kind & DIGIT) != 0
        if kind & SPACE:
            length, single = 0, False
        else:
            if last == first:
                first, before = i, characters - 1
            if kind & alone:
                words += 1
                length, single = 1, True
            elif single and kind & MARK:
                length += 1
            else:
                words += length == 0 or single
                length = 1 if single else length + 1
                single = False
            longest = max(longest, length)
            last, solid = i + size, characters - before
            if kind & (ANCHOR | TERMINAL):
                if kind & ANCHOR:
                    says |= _phrases_at(data, start, i, end)
                elif i >= judged:
                    judged, ends = _behind_terminals(data, i, end, classes)
                    if ends:
                        sentences += 1
                        sentence_end = judged
            if point == 0x7B:
                says |= SAYS_CURLY
            elif point == 0x5B:
                says |= SAYS_BRACKET
        i += size
        following = i
    sentences += last > sentence_end
    return Line(
        i,
        following,
        first,
        last,
        words,
        longest,
        characters,
        solid,
        uppercase,
        digits,
        sentences,
        says,
    )

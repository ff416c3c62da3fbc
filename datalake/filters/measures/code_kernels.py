"""Compiled scans of source code: encoded data, hexadecimal words, comments. All in linear time."""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that callers pass.

import numpy as np
from numba import njit

from datalake.filters.measures.characters import SPACE, WORD
from datalake.filters.measures.text_kernels import class_of, decode, num_characters_of

MIN_BASE64 = 64  # characters of a run (StarCoder2)
MIN_UNITS = 8  # of hexadecimal or escaped characters in a row (StarCoder2)
MIN_HEX_WORD = 8  # digits of a hexadecimal word that has no 0x

# How comments and strings of a language look, as bits.
HASH, SLASHES, BLOCK, BACKTICK, TRIPLE, LIFETIMES, DOCSTRINGS = 1, 2, 4, 8, 16, 32, 64


@njit(cache=True)
def _is_hex(byte):
    return 48 <= byte <= 57 or 97 <= byte | 0x20 <= 102


@njit(cache=True)
def _is_base64(byte):
    return 97 <= byte | 0x20 <= 122 or 47 <= byte <= 57 or byte == 43 or byte == 10 or byte == 61


@njit(cache=True)
def _is_word_at(data, i, end, classes):
    """Whether a character of a word starts at byte ``i``; not at the end."""
    if i >= end:
        return False
    point, _ = decode(data, i, end)
    return (class_of(classes, point) & WORD) != 0


@njit(cache=True)
def _behind_hex_units(data, i, end, after_word, classes):
    """Units of hexadecimal data from byte ``i`` on: how many, and the first byte behind them."""
    units = 0
    while i < end:
        j = i
        if data[j] == 92 and j + 1 < end and data[j + 1] == 120 and after_word:
            j += 2  # \x, whose border of a word is before the backslash
        elif after_word or not _is_word_at(data, j, end, classes):
            break
        elif data[j] == 48 and j + 1 < end and data[j + 1] == 120:
            j += 2  # 0x
        if j + 2 > end or not (_is_hex(data[j]) and _is_hex(data[j + 1])):
            break
        j += 2
        if j < end and data[j] == 44:
            j += 1
            after_word = False
        elif _is_word_at(data, j, end, classes):
            break
        else:
            after_word = True
            while j < end:
                point, size = decode(data, j, end)
                if not class_of(classes, point) & SPACE:
                    break
                after_word = False
                j += size
        units += 1
        i = j
    return units, i


@njit(cache=True)
def _behind_escapes(data, i, end):
    """The same of ``\\uXXXX``."""
    units = 0
    while i + 6 <= end and data[i] == 92 and data[i + 1] == 117:
        for k in range(2, 6):
            if not _is_hex(data[i + k]):
                return units, i
        units += 1
        i += 6
    return units, i


@njit(cache=True)
def encoded(data, start, end, classes, covered):
    """Characters in runs of encoded data, and those of the longest run.

    ``covered`` uint8 [bytes of the document] is scratch: which bytes lie in a run.
    """
    longest = 0
    any_found = False
    run = hex_free = escape_free = start  # where a run begins; where the others may begin again
    after_word = False
    i = start
    while i <= end:
        byte = data[i] if i < end else np.uint8(0)
        if not (i < end and _is_base64(byte)):
            if i - run >= MIN_BASE64:
                if not any_found:
                    covered[: end - start] = 0
                any_found = True
                covered[run - start : i - start] = 1
                longest = max(longest, i - run)
            run = i + 1
            if i == end:
                break
        if byte < 0x80:
            may_start = byte == 92 if after_word else _is_hex(byte)
            if may_start and i >= hex_free:
                units, behind = _behind_hex_units(data, i, end, after_word, classes)
                if units:
                    hex_free = behind
                if units >= MIN_UNITS:
                    if not any_found:
                        covered[: end - start] = 0
                    any_found = True
                    covered[i - start : behind - start] = 1
                    longest = max(longest, num_characters_of(data, i, behind))
            if byte == 92 and i >= escape_free:
                units, behind = _behind_escapes(data, i, end)
                if units:
                    escape_free = behind
                if units >= MIN_UNITS:
                    if not any_found:
                        covered[: end - start] = 0
                    any_found = True
                    covered[i - start : behind - start] = 1
                    longest = max(longest, behind - i)
            after_word = class_of(classes, np.uint32(byte)) & WORD != 0
        elif byte >= 0xC0:
            after_word = _is_word_at(data, i, end, classes)
        i += 1
    total = 0
    if any_found:
        for i in range(start, end):
            total += covered[i - start] != 0 and data[i] & 0xC0 != 0x80
    return total, longest


@njit(cache=True)
def hexadecimal(data, start, end, classes):
    """Characters in words that are hexadecimal numbers."""
    total = 0
    length, digits, is_hex, prefixed = 0, 0, True, False
    i = start
    while i <= end:
        point, size = decode(data, i, end) if i < end else (np.uint32(0), 1)
        if class_of(classes, point) & WORD:
            if length == 1 and point | 0x20 == 120 and digits == 1 and data[i - 1] == 48:
                prefixed = True
            elif not (point < 0x80 and _is_hex(point)):
                is_hex = False
            digits += 48 <= point <= 57
            length += 1
        else:
            if (
                length
                and is_hex
                and (length > 2 if prefixed else length >= MIN_HEX_WORD and digits > 0)
            ):
                total += length
            length, digits, is_hex, prefixed = 0, 0, True, False
        i += size
    return total


@njit(cache=True)
def _behind_string(data, i, end, quote, triple):
    """First byte behind the string that opens at ``i``; one of a single line ends with it."""
    j = i + (3 if triple else 1)
    while j < end:
        if data[j] == 92:
            j += 2
            continue
        if data[j] == quote:
            if not triple:
                return j + 1
            if j + 2 < end and data[j + 1] == quote and data[j + 2] == quote:
                return j + 3
        elif data[j] == 10 and not triple and quote != 96:
            return j
        j += 1
    return end


@njit(cache=True)
def comment_characters(data, start, end, syntax):
    """Characters in comments, their signs included; of Python in docstrings, too."""
    total = depth = 0
    begins = True  # whether the line has had nothing but white space
    i = start
    while i < end:
        byte = data[i]
        following = data[i + 1] if i + 1 < end else np.uint8(0)
        j = i
        if byte == 10:
            begins = True
            i += 1
            continue
        if (syntax & HASH and byte == 35) or (syntax & SLASHES and byte == 47 and following == 47):
            while j < end and data[j] != 10:
                j += 1
            total += num_characters_of(data, i, j)
        elif syntax & BLOCK and byte == 47 and following == 42:
            j += 2
            while j < end and not (data[j] == 42 and j + 1 < end and data[j + 1] == 47):
                j += 1
            j = min(end, j + 2)
            total += num_characters_of(data, i, j)
        elif byte == 34 or byte == 39 or (byte == 96 and syntax & BACKTICK):
            triple = following == byte and i + 2 < end and data[i + 2] == byte
            triple = triple and (syntax & TRIPLE) != 0 and (byte == 34 or syntax & DOCSTRINGS != 0)
            opens = True
            if byte == 39 and not syntax & DOCSTRINGS:
                before = data[i - 1] if i > start else np.uint8(0)
                opens = not (48 <= before <= 57 or 97 <= before | 0x20 <= 122)  # 1'000, l'été
                if syntax & LIFETIMES:
                    opens = following == 92 or (i + 2 < end and data[i + 2] == 39)
            if opens:
                j = min(end, _behind_string(data, i, end, byte, triple))
                if triple and begins and depth == 0 and syntax & DOCSTRINGS:
                    total += num_characters_of(data, i, j)
            else:
                j = i + 1
            begins = False
        else:
            depth += byte == 40 or byte == 91 or byte == 123
            depth -= depth > 0 and (byte == 41 or byte == 93 or byte == 125)
            prefix = (byte | 0x20 == 114 or byte | 0x20 == 117) and (
                following == 34 or following == 39  # r"""...""", u"""..."""
            )
            if byte != 32 and byte != 9 and byte != 13 and not (prefix and begins):
                begins = False
            j = i + 1
        i = j
    return total


@njit(cache=True, nogil=True)
def measure_code(data, offsets, classes, syntaxes, numbers):
    """Fill ``numbers`` float64 [documents, 4]: encoded, longest, hexadecimal, comment characters.

    ``syntaxes`` int64 [documents]: bits as above, 0 where no comments are looked for.
    """
    longest = np.int64(0)
    for d in range(offsets.size - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    covered = np.empty(longest, np.uint8)
    for d in range(offsets.size - 1):
        start, end = offsets[d], offsets[d + 1]
        numbers[d, 0], numbers[d, 1] = encoded(data, start, end, classes, covered)
        numbers[d, 2] = hexadecimal(data, start, end, classes)
        if syntaxes[d]:
            numbers[d, 3] = comment_characters(data, start, end, syntaxes[d])

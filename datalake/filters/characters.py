"""What each Unicode character is, as tables that a compiled kernel can index by code point.

The classes are those of Python's own ``str`` methods, so a kernel that uses them agrees with plain
Python to the character, with whichever Unicode version the interpreter has.
"""

from functools import cache

import numpy as np

SPACE = 1  # str.isspace: separates words
LINE_END = 2  # str.splitlines breaks here
LETTER = 4  # str.isalpha
ALPHANUMERIC = 8  # str.isalnum
WORD = 16  # what the regular expression \w matches
ALONE = 32  # a word by itself: scripts that put no spaces between words

TABLE_SIZE = 0x40000  # no letter, digit or space has a higher code point

_LINE_ENDS = "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
_SPACELESS = (  # inclusive ranges of scripts without spaces between words
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # ideographic iteration mark and zero
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana extensions
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0x20000, 0x3FFFF),  # Han, extensions B and later
)


@cache
def character_classes() -> np.ndarray:
    """Sum of the class bits of every code point: ``uint8 [TABLE_SIZE]``."""
    characters = [chr(point) for point in range(TABLE_SIZE)]
    classes = np.zeros(TABLE_SIZE, np.uint8)
    for bit, test in (
        (SPACE, str.isspace),
        (LETTER, str.isalpha),
        (ALPHANUMERIC, str.isalnum),
    ):
        classes |= np.where(np.fromiter(map(test, characters), bool, TABLE_SIZE), bit, 0).astype(
            np.uint8
        )
    for character in _LINE_ENDS:
        classes[ord(character)] |= LINE_END
    classes[(classes & ALPHANUMERIC) > 0] |= WORD
    classes[ord("_")] |= WORD
    for first, last in _SPACELESS:
        block = classes[first : last + 1]
        block[(block & WORD) > 0] |= ALONE
    return classes


@cache
def lower_cases() -> np.ndarray:
    """The code point that each one is in lower case: ``uint32 [TABLE_SIZE]``.

    A character whose lower case is longer than one character stands for itself (only U+0130).
    """
    lower = np.arange(TABLE_SIZE, dtype=np.uint32)
    for point in range(0x1F000):  # no cased character has a higher code point
        folded = chr(point).lower()
        if len(folded) == 1:
            lower[point] = ord(folded)
    return lower

"""What each Unicode character is, as tables that a compiled kernel can index by code point.

The classes are those of Python's own ``str`` methods and of ``unicodedata``, so a kernel that uses
them agrees with plain Python to the character, with whichever Unicode version the interpreter has.
"""

import unicodedata
from functools import cache

import numpy as np

SPACE = 1  # str.isspace: separates words
LINE_END = 2  # str.splitlines breaks here
LETTER = 4  # str.isalpha
ALPHANUMERIC = 8  # str.isalnum
WORD = 16  # what the regular expression \w matches
ALONE = 32  # a word by itself: scripts that put no spaces between words
DIGIT = 64  # str.isdigit
DECIMAL = 128  # what the regular expression \d matches
UPPER = 256  # str.isupper
UNCAPITAL = 512  # in lower or title case: no word with it is all in capitals
SIGN = 1024  # punctuation, symbol or control character: general category P*, S* or Cc
PUNCTUATION = 2048  # general category P*
TERMINAL = 4096  # ends a sentence: the property Sentence_Terminal
CLOSER = 8192  # may stand between that and the space: quotes and closing brackets
WIDE = 16384  # ends a sentence without a space behind it, as in Chinese and Japanese
ANCHOR = 32768  # j, k, m and v: the rare letters of the phrases that line rules look for
MARK = 65536  # a combining mark: general category M*

TABLE_SIZE = 0x40000  # no character of a class has a higher code point

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
# Code points and inclusive ranges with the property Sentence_Terminal, Unicode 17.0. The standard
# library does not know this property.
_SENTENCE_TERMINALS = """
21 2e 3f 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 1367-1368 166e
1735-1736 17d4-17d5 1803 1809 1944-1945 1aa8-1aab 1b4e-1b4f 1b5a-1b5b 1b5e-1b5f 1b7d-1b7f
1c3b-1c3c 1c7e-1c7f 2024 203c-203d 2047-2049 2cf9-2cfb 2e2e 2e3c 2e53-2e54 2e60-2e61 3002
a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe12
fe15-fe16 fe52 fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 10f55-10f59 10f86-10f89 11047-11048
110be-110c1 11141-11143 111c5-111c6 111cd 111de-111df 11238-11239 1123b-1123c 112a9
113d4-113d5 1144b-1144c 115c2-115c3 115c9-115d7 11641-11642 1173c-1173e 11944 11946
11a42-11a43 11a9b-11a9c 11c41-11c42 11ef7-11ef8 11f43-11f44 16a6e-16a6f 16af5 16b37-16b38
16b44 16d6e-16d6f 16e98 1bc9f 1da88
"""


def sentence_terminals() -> str:
    """Every character that ends a sentence."""
    found = ""
    for item in _SENTENCE_TERMINALS.split():
        first, _, last = item.partition("-")
        found += "".join(map(chr, range(int(first, 16), int(last or first, 16) + 1)))
    return found


@cache
def character_classes() -> np.ndarray:
    """Sum of the class bits of every code point: ``uint32 [TABLE_SIZE]``."""
    characters = [chr(point) for point in range(TABLE_SIZE)]
    categories = np.array([unicodedata.category(c) for c in characters])
    classes = np.zeros(TABLE_SIZE, np.uint32)
    for bit, test in (
        (SPACE, str.isspace),
        (LETTER, str.isalpha),
        (ALPHANUMERIC, str.isalnum),
        (DIGIT, str.isdigit),
        (DECIMAL, str.isdecimal),
        (UPPER, str.isupper),
        (UNCAPITAL, str.islower),
    ):
        classes[np.fromiter(map(test, characters), bool, TABLE_SIZE)] |= bit
    punctuation = np.char.startswith(categories, "P")
    classes[punctuation] |= PUNCTUATION
    classes[punctuation | np.char.startswith(categories, "S") | (categories == "Cc")] |= SIGN
    classes[categories == "Lt"] |= UNCAPITAL
    classes[np.char.startswith(categories, "M")] |= MARK
    classes[(categories == "Pe") | (categories == "Pf")] |= CLOSER
    classes[(classes & ALPHANUMERIC) > 0] |= WORD
    for named, bit in (("_", WORD), ("\"'", CLOSER), (_LINE_ENDS, LINE_END), ("jkmvJKMV", ANCHOR)):
        classes[[ord(c) for c in named]] |= bit
    for terminal in sentence_terminals():
        wide = unicodedata.east_asian_width(terminal) in "WFH"
        classes[ord(terminal)] |= TERMINAL | (WIDE if wide else 0)
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

"""What every character becomes before it is hashed, as tables that a kernel indexes by code point.

Three foldings, each a property of single characters, so that a document is folded in one pass:

- ``words``: Unicode caseless and canonical equivalence (case folding, then decomposition), so that
  composed and decomposed accents, and the three forms of the Greek sigma, are one. A mark belongs
  to the character before it, which keeps the words of Indic scripts whole; characters that are
  invisible inside a word (soft hyphen, joiners, variation selectors) vanish.
- ``fineweb``: datatrove's normalisation before MinHash (Penedo et al. 2024, arXiv:2406.17557):
  lower case, decomposed, accents (category Mn) off, ``_`` and every other punctuation a space. The
  kernel writes every number as ``0``. A final sigma is a sigma, which datatrove keeps apart.
- ``text_dedup``: ``str.lower``, then a space for whatever the regular expression ``\\W`` matches in
  the result; the capital sigma, whose lower case depends on its neighbours, is the kernel's.
"""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from datalake.filters.measures.characters import ALONE as STANDS_ALONE
from datalake.filters.measures.characters import TABLE_SIZE, WORD, character_classes

# Kinds of characters.
SEPARATOR = 0  # ends a word
JOINS = 1  # a letter, digit or underscore
ALONE = 2  # a word by itself, with its marks
MARK = 3  # goes with the character before it
NOTHING = 4  # leaves no trace
NUMBER = 5  # a decimal digit, where numbers are written as 0

# Parts in the rule of the capital sigma (Unicode Standard 3.13, Final_Sigma).
CASED = 1
CASE_IGNORABLE = 2

NUM_SUPPLEMENTARY = 0xE0200  # code points below which every case-ignorable one lies

_ZERO_WIDTH_SPACE = "\u200b"  # a format character that parts words
_LINE_SEPARATORS = "\u2028\u2029"


@dataclass(frozen=True, slots=True)
class Folding:
    """Kind of every code point, and the UTF-8 that it becomes.

    ``kinds``: uint8 [TABLE_SIZE]. Code point p becomes ``content[starts[p] : starts[p + 1]]``;
    ``starts``: int32 [TABLE_SIZE + 1], ``content``: uint8. A code point beyond the table is a
    separator.
    """

    kinds: np.ndarray
    starts: np.ndarray
    content: np.ndarray


@cache
def words() -> Folding:
    """Caseless and canonical equivalence, marks kept."""
    return _folding(_kind, lambda c: unicodedata.normalize("NFD", c.casefold()))


@cache
def fineweb() -> Folding:
    """Lower case without accents."""

    def kind(character: str) -> int:
        if character == "_":
            return SEPARATOR
        return NUMBER if unicodedata.category(character) == "Nd" else _kind(character)

    def fold(character: str) -> str:
        parts = unicodedata.normalize("NFD", character.lower()).replace("ς", "σ")
        return "".join(part for part in parts if unicodedata.category(part) != "Mn")

    return _folding(kind, fold)


@cache
def text_dedup() -> Folding:
    """``re.split(r"\\W", text.lower())``, with a space where it splits."""

    def fold(character: str) -> str:
        lower = character.lower()
        return "".join(c if c.isalnum() or c == "_" else " " for c in lower)

    return _folding(lambda character: JOINS, fold)


@cache
def sigma_neighbours() -> np.ndarray:
    """What each code point is beside a capital sigma: ``uint8 [NUM_SUPPLEMENTARY]``.

    ``CASE_IGNORABLE`` ones are passed over; ``CASED`` ones decide. Python tells by its answers.
    """
    parts = np.zeros(NUM_SUPPLEMENTARY, np.uint8)
    for point in (*range(0x20000), *range(0xE0000, NUM_SUPPLEMENTARY)):
        character = chr(point)
        if f"AΣ{character}".lower()[1] == "σ":
            parts[point] = CASED
        elif f"AΣ{character}A".lower()[1] == "σ":
            parts[point] = CASE_IGNORABLE
    return parts


def _kind(character: str) -> int:
    classes = character_classes()[ord(character)]
    category = unicodedata.category(character)
    if category[0] == "M":
        selector = "VARIATION SELECTOR" in unicodedata.name(character, "")
        return NOTHING if selector else MARK
    if category == "Cf" and character != _ZERO_WIDTH_SPACE:
        return NOTHING
    if classes & STANDS_ALONE:
        return ALONE
    return JOINS if classes & WORD else SEPARATOR


def _folding(kind: Callable[[str], int], fold: Callable[[str], str]) -> Folding:
    kinds = np.zeros(TABLE_SIZE, np.uint8)
    starts = np.zeros(TABLE_SIZE + 1, np.int32)
    pieces: list[bytes] = []
    size = 0
    for point, character in _characters():
        kinds[point] = kind(character)
        if kinds[point] not in (SEPARATOR, NOTHING):
            piece = fold(character).encode("utf-8", "surrogatepass")
            pieces.append(piece)
            size += len(piece)
        starts[point + 1] = size
    content = np.frombuffer(b"".join(pieces), np.uint8)
    return Folding(kinds, starts, content)


def _characters() -> Iterator[tuple[int, str]]:
    for point in range(TABLE_SIZE):
        yield point, chr(point)

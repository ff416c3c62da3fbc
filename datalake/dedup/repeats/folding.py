"""What a character counts as where pieces of text are compared: tables for a compiled kernel.

A *folding* maps every code point to the points that stand for it in a comparison, none or several:
``É`` may count as ``e``, a digit as ``0``, a comma as nothing. Foldings go character by character,
so a Greek capital sigma folds to the sigma inside a word, and so does the one at its end.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from datalake.filters.measures.characters import TABLE_SIZE

NOTHING = 0xFFFFFFFE  # in ``Folding.single``: the character does not count
SEVERAL = 0xFFFFFFFF  # in ``Folding.single``: look into ``points``

SPACED_END = 1  # ends a sentence where white space follows: a full stop may stand in a number
SENTENCE_END = 2  # ends it wherever it stands: the full stops of scripts without spaces
CLOSER = 4  # belongs to the sentence that has just ended: quotes and brackets

# Marks that sit on letters of any script. Marks of one script are left: a vowel sign of Thai or the
# voice mark of Kana is a letter in all but name, although both are of category Mn as well.
_ACCENTS = (
    (0x0300, 0x036F),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
)
_LAST_FOLDED = 0x30000  # no character above has a case, a decomposition or is a digit
_FINAL_SIGMA, _SIGMA = "\u03c2", "\u03c3"


@dataclass(frozen=True, slots=True)
class Folding:
    """Points of character ``p``: ``single[p]``, or ``points[starts[p]:starts[p + 1]]``."""

    single: np.ndarray  # uint32 [TABLE_SIZE], a point, NOTHING or SEVERAL
    starts: np.ndarray  # uint32 [TABLE_SIZE + 1]
    points: np.ndarray  # uint32


def fold_case(character: str) -> str:
    """``character`` in lower case."""
    return character.lower().replace(_FINAL_SIGMA, _SIGMA)


def fold_ccnet(character: str) -> str:
    """``character`` as CCNet compares it (Wenzek et al. 2019, arXiv:1911.00359, 3.1).

    Lower case, a digit of any script as 0, without accents and punctuation (Unicode's category P).
    """
    decomposed = unicodedata.normalize("NFD", fold_case(character))
    return "".join("0" if c.isdecimal() else c for c in decomposed if not _is_left_out(c))


def _is_left_out(character: str) -> bool:
    accent = any(first <= ord(character) <= last for first, last in _ACCENTS)
    return accent or unicodedata.category(character).startswith("P")


@cache
def folding(fold: Callable[[str], str]) -> Folding:
    """``fold`` of every character, as tables."""
    single = np.arange(TABLE_SIZE, dtype=np.uint32)
    lengths = np.ones(TABLE_SIZE, np.uint32)
    points: list[int] = []
    for point in range(TABLE_SIZE):
        folded = fold(chr(point)) if point < _LAST_FOLDED else chr(point)
        points += map(ord, folded)
        lengths[point] = len(folded)
        single[point] = ord(folded) if len(folded) == 1 else SEVERAL if folded else NOTHING
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.uint32)]).astype(np.uint32)
    return Folding(single, starts, np.array(points, np.uint32))


@cache
def sentence_marks() -> np.ndarray:
    """``SPACED_END``, ``SENTENCE_END`` or ``CLOSER`` of every code point: ``uint8 [TABLE_SIZE]``.

    Ends are Unicode's Sentence_Terminal; those of ASCII need white space behind them.
    """
    import regex

    marks = np.zeros(TABLE_SIZE, np.uint8)
    everything = "".join(map(chr, range(0xD800))) + "".join(map(chr, range(0xE000, TABLE_SIZE)))
    for found in regex.finditer(r"\p{Sentence_Terminal}", everything):
        point = ord(found[0])
        marks[point] = SPACED_END if point < 0x80 else SENTENCE_END
    for found in regex.finditer(r"[\p{Pe}\p{Pf}\p{Pi}\"']", everything):
        marks[ord(found[0])] = CLOSER
    return marks

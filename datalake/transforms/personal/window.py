"""What a detector sees of a document: a candidate, and a little text on either side of it.

Offsets of a window are characters; ``byte_range`` gives them back as bytes of the document. Bytes
that are no UTF-8 decode one by one to lone surrogates, so offsets hold for them, too.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

PersonalType = Literal[
    "email",
    "phone",
    "ipv4",
    "ipv6",
    "payment_card",
    "iban",
    "national_id",
    "key",
    "password",
]
TYPES: tuple[PersonalType, ...] = PersonalType.__args__  # type: ignore[attr-defined]
PLACEHOLDER = re.compile(rf"<(?:{'|'.join(TYPES)})(?:-[0-9]+)?>")

# Bytes of the document that a window shows around a candidate. An address is at most 64 + 255
# bytes (RFC 5321, 4.5.3.1); words that say what a number is stand nearer.
BEFORE, AFTER = 200, 320
_CONTEXT = 60  # characters
_AFTERWORD = 24
_CUT_PLACEHOLDER = re.compile(r"\A[a-z_0-9-]{0,16}>")


class Match(NamedTuple):
    """One find: where in the window, of which type, and its value without spelling."""

    start: int
    end: int
    type: PersonalType
    value: str
    # Reserved for documentation (RFC 2606, a vendor's sample key): nobody's.
    documentation: bool = False


Detector = Callable[["Window"], Iterator[Match]]


class Window:
    """Text around one candidate, which is ``text[start:end]``."""

    def __init__(self, before: bytes, candidate: bytes, after: bytes, language: str, offset: int):
        head, middle, tail = (_decode(part) for part in (before, candidate, after))
        self.text = head + middle + tail
        self.start = len(head)
        self.end = self.start + len(middle)
        self.language = language
        self._offset = offset

    @cached_property
    def plain(self) -> str:
        """The text with digits, dashes, spaces and full-width signs in ASCII, place for place."""
        if self.text.isascii():
            return self.text
        return "".join(c if c < "\x80" else plain(c) for c in self.text)

    @cached_property
    def before(self) -> str:
        """What stands before the candidate, placeholders aside."""
        text = self.text[max(0, self.start - 2 * _CONTEXT) : self.start]
        if ">" in text:
            text = _CUT_PLACEHOLDER.sub(" ", PLACEHOLDER.sub(" ", text))
        return text[-_CONTEXT:]

    @cached_property
    def after(self) -> str:
        """The same behind it, on its line."""
        text = self.text[self.end : self.end + _AFTERWORD].split("\n", 1)[0]
        return text.split("<", 1)[0]

    @cached_property
    def _spoken_before(self) -> frozenset[str]:
        return _spoken(self.before)

    @cached_property
    def _spoken(self) -> frozenset[str]:
        return self._spoken_before | _spoken(self.after)

    def says(self, vocabulary: "Vocabulary") -> bool:
        """Whether a word of the vocabulary stands near the candidate."""
        return vocabulary.is_in(self._spoken, self.before) or vocabulary.is_in(
            frozenset(), self.after
        )

    def announces(self, vocabulary: "Vocabulary") -> bool:
        """Whether one stands before it."""
        return vocabulary.is_in(self._spoken_before, self.before)

    def names(self, label: str, vocabulary: "Vocabulary") -> bool:
        """Whether a label is or ends with a word of the vocabulary."""
        return vocabulary.is_in(_spoken(label), label)

    def byte_range(self, start: int, end: int) -> tuple[int, int]:
        """Bytes of the document that characters ``start`` to ``end`` of the window are."""
        first = self._offset + _num_bytes(self.text[:start])
        return first, first + _num_bytes(self.text[start:end])


class Vocabulary:
    """Words and pairs of words in lower case that say what a number near them is.

    Scripts that do not part words by spaces, or whose vowels are marks, are looked up as they
    stand; words of the others are whole ones, parts of ``snake_case`` and ``camelCase`` too.
    """

    def __init__(self, *words: str):
        self._whole = frozenset(word for word in words if max(word) < _FIRST_MARKED)
        self._inner = tuple(word for word in words if max(word) >= _FIRST_MARKED)

    def __or__(self, other: "Vocabulary") -> "Vocabulary":
        return Vocabulary(*self._whole, *self._inner, *other._whole, *other._inner)

    @property
    def ascii_words(self) -> frozenset[str]:
        """Single words, those of pairs too, that are written in ASCII."""
        return frozenset(w for pair in self._whole for w in pair.split() if w.isascii())

    def is_in(self, spoken: frozenset[str], text: str) -> bool:
        if not self._whole.isdisjoint(spoken):
            return True
        return not text.isascii() and any(word in text.lower() for word in self._inner)


_FIRST_MARKED = "\u0900"  # Devanagari
_WORD = re.compile(r"(?:[^\W\d_]\.){2,}[^\W\d_]?|[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def _spoken(text: str) -> frozenset[str]:
    """Words of a text in lower case, abbreviations without dots, and neighbours as pairs."""
    spaced = _CAMEL.sub(" ", text)
    found = [word.replace(".", "") for word in _WORD.findall(spaced.lower())]
    spoken = frozenset(found).union(f"{a} {b}" for a, b in pairwise(found))
    return spoken if spaced == text else spoken.union(_WORD.findall(text.lower()))


@cache
def plain(character: str) -> str:
    """The ASCII character that one of another script stands for in numbers, or itself."""
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(character)
    if category == "Pd" or character == "\u2212":
        return "-"
    if category == "Zs":
        return " "
    if "\uff01" <= character <= "\uff5e":
        return chr(ord(character) - 0xFEE0)
    return "." if character in "。｡" else character


def _decode(part: bytes) -> str:
    return part.decode("utf-8", "surrogateescape")


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))

"""What a detector sees of a document: a candidate, and a little text on either side of it.

Offsets of a window are characters; ``byte_range`` gives them back as bytes of the document. Bytes
that are no UTF-8 decode one by one to lone surrogates, so offsets hold for them, too.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache, cached_property
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
        """What stands before the candidate, in lower case, placeholders aside."""
        text = self.text[max(0, self.start - 2 * _CONTEXT) : self.start]
        if ">" in text:
            text = _CUT_PLACEHOLDER.sub(" ", PLACEHOLDER.sub(" ", text))
        return text[-_CONTEXT:].lower()

    @cached_property
    def after(self) -> str:
        """The same behind it, on its line."""
        text = self.text[self.end : self.end + _AFTERWORD].split("\n", 1)[0]
        return text.split("<", 1)[0].lower()

    def says(self, words: re.Pattern[str]) -> bool:
        """Whether one of ``words`` stands near the candidate."""
        return bool(words.search(self.before) or words.search(self.after))

    def byte_range(self, start: int, end: int) -> tuple[int, int]:
        """Bytes of the document that characters ``start`` to ``end`` of the window are."""
        first = self._offset + _num_bytes(self.text[:start])
        return first, first + _num_bytes(self.text[start:end])


def words(*alternatives: str) -> re.Pattern[str]:
    """A pattern of whole words, in lower case; scripts without spaces know no borders of words."""
    whole = [w for w in alternatives if w[0] < "\u2e80"]
    inner = [w for w in alternatives if w[0] >= "\u2e80"]
    parts = [rf"(?<![^\W_])(?:{'|'.join(whole)})(?![^\W\d_])"] if whole else []
    return re.compile("|".join(parts + inner))


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

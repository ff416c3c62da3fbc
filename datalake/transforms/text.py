"""What every reader of a format returns, and how it says that it cannot."""

from dataclasses import dataclass

from datalake.licences import Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """The text of one record. Language and licence are what the record says of itself."""

    text: str  # normalised
    title: str = ""
    encoding: str = "utf-8"  # that the bytes were read with, by Python's name
    language: str | None = None  # ISO 639-1, or a programming language
    licence: Finding | None = None
    page_starts: tuple[int, ...] = ()  # index in ``text`` of the first character of every page
    remark: str = ""  # what is missing from the text, for people: "scanned pages: 3, 7-9"


class Unreadable(ValueError):  # noqa: N818, it reads as what it is
    """A record without text. The message is a reason that can be counted: ``encrypted``."""

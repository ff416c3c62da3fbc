"""Where the text of a paper is written: paragraphs, notes below them, and places set apart.

What is written goes to the topmost of a stack of places: the page, a title or a caption that is
being read, or a float whose content nobody reads. Formulas and listings are held apart under a
number, so that tidying the text around them leaves them as they are.
"""

import re

from datalake.transforms.text import Unreadable

CITED = "\x01"  # where a citation stood, until brackets around it are gone
_HELD = "\x02"  # begins and ends the number of what is held apart
_MAX_PLACES = 100  # footnotes in captions in floats ... people nest three

_CITED_LIST = re.compile(
    f"{CITED}(?:[ \n]*+(?:,|;|&|–|and)?+[ \n]*+{CITED})++"  # several in a row are one
)
_BRACKETS = re.compile(f"[ ]?[(\\[][ \n,;{CITED}]*+[)\\]]")
_NUMBER = re.compile(f"{_HELD}(\\d+){_HELD}")


class _Unread(list[str]):
    """A place to write what nobody reads."""


class Page:
    """What was written so far."""

    def __init__(self, in_preamble: bool) -> None:
        self._places: list[list[str]] = [_Unread() if in_preamble else []]
        self._notes: list[str] = []  # footnotes of the paragraph
        self._held: list[str] = []

    @property
    def has_begun(self) -> bool:
        """Whether the preamble is over."""
        return not isinstance(self._places[0], _Unread)

    @property
    def is_read(self) -> bool:
        """Whether anybody reads what is written now."""
        return not isinstance(self._places[-1], _Unread)

    @property
    def height(self) -> int:
        """How many places lie on each other; the page alone is 1."""
        return len(self._places)

    def begin(self) -> None:
        """The preamble is over."""
        self._places = [[]]
        self.paragraph()

    def write(self, text: str) -> None:
        self._places[-1].append(text)

    def paragraph(self) -> None:
        """End the paragraph, if one has begun; its notes follow it."""
        if self._notes and self.height == 1:
            self.write("\n\n" + "\n\n".join(self._notes))
            self._notes.clear()
        self.write("\n\n")

    def heading(self, name: str) -> None:
        self.write(f"\n\n{name}\n\n")

    def note(self, text: str) -> None:
        """Write ``text`` below the paragraph."""
        self._notes.append(text)

    def caption(self, text: str) -> None:
        """Write ``text`` as a paragraph of the topmost place that is read."""
        for place in reversed(self._places):
            if not isinstance(place, _Unread):
                place.append(f"\n\n{text}\n\n")
                return

    def open(self, *, read: bool) -> None:
        """Write to a place of its own from now on. Raises Unreadable where too many are open."""
        if self.height >= _MAX_PLACES:
            raise Unreadable("environments nested too deep")
        self._places.append([] if read else _Unread())

    def close(self) -> str:
        """Leave the topmost place; returns what was written there."""
        return "".join(self._places.pop()).strip()

    def join_to(self, height: int) -> None:
        """Leave the places above ``height``, and keep what was written there for reading."""
        while self.height > max(height, 1):
            place = self._places.pop()
            if not isinstance(place, _Unread):
                self._places[-1] += place

    def hold(self, text: str) -> str:
        """What stands for ``text`` until it is put back as it is."""
        self._held.append(text)
        return f"{_HELD}{len(self._held) - 1}{_HELD}"

    def finish(self) -> str:
        """The whole text: paragraphs between empty lines."""
        self.join_to(1)
        self.paragraph()
        return self.tidy("".join(self._places[0])) if self.has_begun else ""

    def tidy(self, text: str) -> str:
        """``text`` without what citations left behind, with what was held."""
        text = _CITED_LIST.sub(CITED, re.sub("[ \t]+", " ", text))
        text = _BRACKETS.sub(lambda match: "" if CITED in match[0] else match[0], text)
        text = re.sub(f" ?{CITED}(?=[^\\W_])", " ", text)
        text = re.sub(f"(?m)^{CITED}[,;]?| ?{CITED}", "", text)
        text = re.sub("(?m)^ | $", "", re.sub("[ ]+", " ", text))
        text = re.sub("\n{3,}", "\n\n", text).strip()
        return _NUMBER.sub(lambda match: self._held[int(match[1])], text)

"""The line rules again, in plain Python with regular expressions."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_JAVASCRIPT = re.compile("javascript", re.IGNORECASE | re.ASCII)
_LOREM = re.compile("lorem ipsum", re.IGNORECASE | re.ASCII)
_POLICY = re.compile(
    "terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies",
    re.IGNORECASE | re.ASCII,
)
_COUNTER = re.compile(
    r"\W*\d[\d,.]*[kmb]?\s+(?:likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes"
    r"|downvotes|downloads|views|followers)\W*\Z"
)
_FOLD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class Line:
    verdict: str | None  # None where the line stays
    left: str  # of the line, after edits
    is_lorem_ipsum: bool = False
    is_curly: bool = False


def c4_lines(text: str, variant: str, mode: str) -> Iterator[Line]:
    from tests.datalake.filters.measures.plain_signals import words_of

    for whole in text.splitlines():
        line = whole.strip()
        words = words_of(line, mode)
        left = _CITATION.sub("", line)
        verdict = None
        if any(len(word) > 1000 for word in words):
            verdict = "LONG_WORD"
        elif variant == "c4" and (not left.endswith(tuple('.?!"')) or left.endswith("...")):
            verdict = "NO_END_MARK"
        elif len(words) < 3 if variant == "fineweb_c4" else len(words_of(left, mode)) < 5:
            verdict = "FEW_WORDS"
        passed = verdict is None
        if passed and _JAVASCRIPT.search(left):
            verdict = "JAVASCRIPT"
        elif passed and _POLICY.search(left):
            verdict = "POLICY"
        yield Line(
            verdict,
            left,
            passed and _LOREM.search(left) is not None,
            passed and verdict != "JAVASCRIPT" and "{" in left,
        )


def refinedweb_lines(text: str, mode: str) -> Iterator[Line]:
    from tests.datalake.filters.measures.plain_signals import words_of

    for line in text.split("\n"):
        verdict, left = None, line
        num_words = len(words_of(line, mode))
        if line and sum(map(str.isupper, line)) / len(line) > 0.5:
            verdict = "UPPERCASE"
        elif line and sum(map(str.isdigit, line)) / len(line) > 0.999999:
            verdict = "NUMERIC"
        elif num_words <= 10 and _COUNTER.match(line.translate(_FOLD)):
            verdict = "COUNTER"
        elif line and num_words < 2:
            verdict = "FEW_WORDS"
        elif line and num_words <= 10:
            left = edited(line)
            verdict = None if left.strip() else "EMPTIED"
        yield Line(verdict, left)


def edited(line: str) -> str:
    """Without the phrases; what an edit takes out parts the line for those after it."""
    folded = line.translate(_FOLD)  # keeps every position
    pieces, at = [], 0
    for match in re.finditer(r"\s?items in cart", folded):
        pieces.append((at, match.start()))
        at = match.end()
    pieces = [(a, b) for a, b in [*pieces, (at, len(line))] if a < b]
    if pieces:
        a, b = pieces[-1]
        if match := re.search(r"\s?read more\.\.\.\Z", folded[a:b]):
            pieces[-1] = (a, a + match.start())
        pieces = [(a, b) for a, b in pieces if a < b]
    if pieces:
        a, b = pieces[0]
        if match := re.match(r"sign-in\s?", folded[a:b]):
            pieces[0] = (a + match.end(), b)
    return "".join(line[a:b] for a, b in pieces)

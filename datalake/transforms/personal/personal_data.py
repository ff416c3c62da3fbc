"""Personal data and secrets: found in documents, and masked, or a reason to drop the document.

A compiled pass over the bytes (``kernels``) leaves candidates; detectors look at a small
window around each and verify it: ``contacts`` (mail and network addresses),
``phones``, ``identifiers`` (cards, accounts, national identifiers) and
``credentials`` (keys, passwords). What is masked comes as rows of ``cuts`` with a placeholder
such as ``<email>``; a document that is dropped comes as one cut of its whole text.

Masking is idempotent: what a mask would bring to light (a word that comes nearer to a number, a
border that was none) is looked for again until nothing is left, so ``find`` has nothing to say of
a text that it has masked. A value has the same placeholder wherever it stands, whatever the order
of documents.
"""

from bisect import bisect_right
from collections import Counter
from functools import cache
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from datalake.config import Config, Refusal
from datalake.cuts import cuts_of
from datalake.text_bytes import text_bytes
from datalake.transforms.personal.contacts import emails, ipv4, ipv6, is_public
from datalake.transforms.personal.credentials import (
    assigned_secrets,
    keys,
    private_key_end,
    url_passwords,
)
from datalake.transforms.personal.identifiers import (
    CARD_WORDS,
    ID_WORDS,
    ibans,
    national_ids,
    payment_cards,
)
from datalake.transforms.personal.phones import PHONE_WORDS, phones
from datalake.transforms.personal.window import (
    AFTER,
    BEFORE,
    PLACEHOLDER,
    TYPES,
    Detector,
    Match,
    PersonalType,
    Window,
)

Action = Literal["mask", "drop", "keep"]
Limit = Annotated[int, Field(ge=0)]
INPUT_COLUMNS = ("doc_id", "source", "language", "text")  # of ``documents``
REASON = "personal_"  # and the type, in ``cuts.reason``


class Handling(Config):
    """What is done with each type in documents of one source."""

    # Types that are not named are masked, as in StarCoder (Li et al. 2023, arXiv:2305.06161, 4).
    actions: dict[PersonalType, Action] = Field(default_factory=dict)
    # More matches of the type than this drop the document; none is too many if not named.
    drop_above: dict[PersonalType, Limit] = Field(default_factory=dict)

    def action(self, of_type: PersonalType) -> Action:
        return self.actions.get(of_type, "mask")


class PersonalDataConfig(Config):
    """Which personal data is masked, kept, or a reason to drop, per kind of source."""

    default: Handling = Handling()
    # Dolma (Soldaini et al. 2024, arXiv:2402.00159, 3.3): five of a type are masked, more drop the
    # page. Its three types; of web pages only, since it masks code without dropping any.
    sources: dict[str, Handling] = Field(
        default_factory=lambda: {"web": Handling(drop_above={"email": 5, "phone": 5, "ipv4": 5})}
    )
    # ``numbered``: <email-1>, by first occurrence of the value in the document.
    placeholders: Literal["type", "numbered"] = "type"
    # As in FineWeb (Penedo et al. 2024, arXiv:2406.17557): only addresses of the open network.
    addresses: Literal["public", "all"] = "public"
    # me@example.com and samples of vendors are nobody's: masked all the same by default, as in
    # StarCoder, but they never drop a document.
    documentation: Literal["mask", "keep"] = "mask"

    def handling(self, source: str) -> Handling:
        return self.sources.get(source, self.default)


class Found(NamedTuple):
    """A find in one document: bytes ``start`` to ``end`` of its text."""

    start: int
    end: int
    type: PersonalType
    value: str
    documentation: bool


def find(documents: pa.RecordBatch, config: PersonalDataConfig) -> pa.RecordBatch:
    """Rows of ``cuts`` for a batch of ``INPUT_COLUMNS``: masks, and whole texts to drop.

    The reason is ``personal_`` and the type, the replacement its placeholder, or empty where the
    document is dropped. A null text has no finds. Ranges of one document neither overlap nor touch
    an earlier placeholder, and stand in the order of the text.
    """
    missing = [name for name in INPUT_COLUMNS if name not in documents.schema.names]
    if missing:
        raise Refusal(
            f"documents must have the columns {', '.join(INPUT_COLUMNS)}, got no "
            f"{', '.join(missing)}"
        )
    text = documents["text"].cast(pa.large_string()).fill_null("")
    sources = documents["source"].to_pylist()
    languages = [language or "" for language in documents["language"].to_pylist()]
    data, offsets = text_bytes(text)
    states: dict[int, _Document] = {}
    for row, found in _scan(data, offsets, languages, config).items():
        states[row] = _Document(data[offsets[row] : offsets[row + 1]], sources[row] or "", config)
        states[row].add(found)
    _look_again(states, languages, config)
    rows, starts, ends, reasons, replacements = [], [], [], [], []
    for row, document in sorted(states.items()):
        for start, end, reason, replacement in document.cuts():
            rows.append(row)
            starts.append(start)
            ends.append(end)
            reasons.append(reason)
            replacements.append(replacement)
    return cuts_of(
        documents,
        np.array(rows, np.int64),
        np.array(starts, np.int64),
        np.array(ends, np.int64),
        reasons,
        replacements,
    )


def count(cuts: pa.RecordBatch | pa.Table) -> dict[str, int]:
    """Masks of each type, and documents dropped for one as ``dropped_TYPE``; zeros left out."""
    reasons = cuts["reason"].to_pylist()
    replacements = cuts["replacement"].to_pylist()
    counts = Counter(
        (reason if replacement else f"dropped_{reason}").replace(REASON, "", 1)
        for reason, replacement in zip(reasons, replacements, strict=True)
        if reason.startswith(REASON)
    )
    return dict(sorted(counts.items()))


# Of two finds in one place the longer counts; of two as long, the more specific.
_SPECIFIC: tuple[PersonalType, ...] = (
    *("key", "password", "iban", "payment_card", "national_id", "email", "ipv6", "ipv4", "phone"),
)
_RANK = {of_type: rank for rank, of_type in enumerate(_SPECIFIC)}
_MAX_PASSES = 8  # a pass finds what the masks of the last one uncovered: two are usual


class _Document:
    """The finds of one document, and what its text is once they are masked."""

    def __init__(self, text: np.ndarray, source: str, config: PersonalDataConfig):
        self.text = text
        self.found: list[Found] = []
        self._handling = config.handling(source)
        self._numbered = config.placeholders == "numbered"

    def add(self, found: list[Found]) -> None:
        self.found = sorted(self.found + found)

    @property
    def dropped_for(self) -> PersonalType | None:
        """The first type that drops the document."""
        counts = Counter(f.type for f in self.found if not f.documentation)
        for of_type in TYPES:
            limit = self._handling.drop_above.get(of_type)
            if self._handling.action(of_type) == "drop":
                limit = 0
            if limit is not None and counts[of_type] > limit:
                return of_type
        return None

    def masks(self) -> list[tuple[Found, str]]:
        """Finds to mask and their placeholders, in the order of the text."""
        numbers: dict[tuple[str, str], int] = {}
        counts: Counter[str] = Counter()
        masks = []
        for found in self.found:
            if self._handling.action(found.type) == "keep":
                continue
            key = (found.type, found.value)
            if key not in numbers:
                counts[found.type] += 1
                numbers[key] = counts[found.type]
            suffix = f"-{numbers[key]}" if self._numbered else ""
            masks.append((found, f"<{found.type}{suffix}>"))
        return masks

    def masked(self) -> tuple[bytes, list[int], list[int]]:
        """The text with its masks; where each piece of the original begins in it, and there."""
        pieces: list[bytes] = []
        places, origins = [0], [0]
        done = place = 0
        for found, placeholder in self.masks():
            pieces += [self.text[done : found.start].tobytes(), placeholder.encode()]
            place += found.start - done + len(placeholder)
            done = found.end
            places.append(place)
            origins.append(done)
        pieces.append(self.text[done:].tobytes())
        return b"".join(pieces), places, origins

    def cuts(self) -> list[tuple[int, int, str, str]]:
        """Start, end, reason and replacement of each cut."""
        if of_type := self.dropped_for:
            return [(0, len(self.text), REASON + of_type, "")]
        return [(f.start, f.end, REASON + f.type, holder) for f, holder in self.masks()]


def _look_again(
    documents: dict[int, _Document], languages: list[str], config: PersonalDataConfig
) -> None:
    """Add to each document what stands out once its finds are masked, until nothing does."""
    open_rows = list(documents)
    for _ in range(_MAX_PASSES):
        open_rows = [r for r in open_rows if not documents[r].dropped_for and documents[r].masks()]
        if not open_rows:
            return
        masked = [documents[row].masked() for row in open_rows]
        data = np.frombuffer(b"".join(text for text, _, _ in masked), np.uint8)
        offsets = np.cumsum([0] + [len(text) for text, _, _ in masked])
        found = _scan(data, offsets, [languages[row] for row in open_rows], config)
        changed = []
        for k, news in found.items():
            row = open_rows[k]
            _, places, origins = masked[k]
            moved = []
            for new in news:
                piece = bisect_right(places, new.start) - 1
                shift = origins[piece] - places[piece]
                moved.append(new._replace(start=new.start + shift, end=new.end + shift))
            known = {(f.start, f.end) for f in documents[row].found}
            fresh = [f for f in moved if (f.start, f.end) not in known]
            fresh = [f for f in fresh if not _overlaps(f, documents[row].found)]
            if fresh:
                documents[row].add(fresh)
                changed.append(row)
        open_rows = changed


def _scan(
    data: np.ndarray, offsets: np.ndarray, languages: list[str], config: PersonalDataConfig
) -> dict[int, list[Found]]:
    """Finds of each row that has any, in the order of the text, none over another."""
    from datalake.transforms.personal import kernels as kernels  # numba

    detectors: dict[int, tuple[Detector, ...]] = {
        kernels.EMAIL: (emails,),
        kernels.NUMBER: (payment_cards, national_ids, phones),
        kernels.IPV4: (ipv4,),
        kernels.IPV6: (ipv6,),
        kernels.IDENTIFIER: (ibans, national_ids),
        kernels.KEY: (keys,),
        kernels.URL: (url_passwords,),
        kernels.ASSIGNMENT: (assigned_secrets,),
    }
    found: dict[int, list[Found]] = {}
    for row, kind, first, last in kernels.candidates(data, offsets, _names()).tolist():
        begin, end = int(offsets[row]), int(offsets[row + 1])
        if kind == kernels.PRIVATE_KEY:
            block_end = private_key_end(data.data, first, end)
            if block_end > first:
                value = data[first:block_end].tobytes().decode("ascii", "replace")
                found.setdefault(row, []).append(
                    Found(first - begin, block_end - begin, "key", value, False)
                )
            continue
        start = max(begin, first - BEFORE)
        window = Window(
            data[start:first].tobytes(),
            data[first:last].tobytes(),
            data[last : min(end, last + AFTER)].tobytes(),
            languages[row],
            start - begin,
        )
        for detector in detectors[kind]:
            for match in detector(window):
                if _counts(match, window, config):
                    place = window.byte_range(match.start, match.end)
                    found.setdefault(row, []).append(
                        Found(*place, match.type, match.value, match.documentation)
                    )
    return {row: _without_overlaps(matches) for row, matches in found.items()}


@cache
def _names() -> np.ndarray:
    """Table of the words that bare digits need near them, for the scan."""
    from datalake.transforms.personal import kernels as kernels

    return kernels.name_table((PHONE_WORDS | CARD_WORDS | ID_WORDS).ascii_words)


def _counts(match: Match, window: Window, config: PersonalDataConfig) -> bool:
    if match.documentation and config.documentation == "keep":
        return False
    of_network = match.type in ("ipv4", "ipv6")
    if of_network and config.addresses == "public" and not is_public(match.value):
        return False
    return PLACEHOLDER.search(window.text, match.start, match.end) is None


def _without_overlaps(matches: list[Found]) -> list[Found]:
    """The finds that count, in the order of the text; only neighbours are compared."""
    taken: list[Found] = []
    group: list[Found] = []
    reach = 0
    for match in sorted(matches):
        if group and match.start >= reach:
            taken += _longest(group)
            group = []
        group.append(match)
        reach = max(reach, match.end)
    return taken + _longest(group)


def _longest(matches: list[Found]) -> list[Found]:
    if len(matches) == 1:
        return matches
    taken: list[Found] = []
    ranked = sorted(matches, key=lambda f: (f.start - f.end, _RANK[f.type], f.start))
    starts: list[int] = []
    for match in ranked:
        place = bisect_right(starts, match.start)
        if place and taken[place - 1].end > match.start:
            continue
        if place < len(taken) and taken[place].start < match.end:
            continue
        starts.insert(place, match.start)
        taken.insert(place, match)
    return taken


def _overlaps(match: Found, others: list[Found]) -> bool:
    """Whether a find lies over one of others, which stand in the order of the text."""
    place = bisect_right(others, match.start, key=lambda f: f.start)
    before = place > 0 and others[place - 1].end > match.start
    return before or (place < len(others) and others[place].start < match.end)

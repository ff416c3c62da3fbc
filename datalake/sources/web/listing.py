"""What sitemaps and feeds have in common: a list of pages, read from bytes that nobody vouches for.

XML is read as a stream by expat, without building a tree. A document that declares entities is
refused, since a few lines of them unfold into gigabytes; external ones are never fetched. A
document that breaks off, or is not well-formed, counts up to there.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from xml.parsers import expat

from datalake.sources.web.content_coding import CodingError, decode
from datalake.sources.web.urls import canonical

MAX_BYTES = 50 << 20  # sitemaps.org: at most 50 MB (52,428,800 bytes), uncompressed
MAX_PAGES = 50_000  # sitemaps.org, of one file
_MAX_DEPTH = 64  # of elements; the formats themselves need at most eight
_MAX_ELEMENTS = 1_000_000  # 20 for each page of a full sitemap; takes about a second
_MAX_TEXT = 8192  # characters kept of an element or an attribute: no address is longer
_WHOLE_DAY = timedelta(hours=36)  # after 0:00 UTC that day has ended everywhere


class ListingError(ValueError):
    """Bytes that are no list of pages, or one that is not safe to read. The message is a reason."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One address of a list, canonical, and when it changed last, if the list says so."""

    url: str
    modified_at: datetime | None = None  # aware; not before the true time of the change


@dataclass
class Listing:
    """The pages that a list names, and further lists."""

    pages: list[Entry] = field(default_factory=list)
    lists: list[Entry] = field(default_factory=list)
    is_index: bool = False  # it holds lists, instead of going on in them
    num_unreadable: int = 0  # addresses that are none
    num_left_out: int = 0  # pages beyond MAX_PAGES
    problem: str | None = None  # why it was not read to its end

    def add(self, link: str, base: str, modified: str | None = None, *, is_list: bool) -> None:
        """Note the address ``link``, as it stands at the address ``base``."""
        found = self.lists if is_list else self.pages
        if len(found) >= MAX_PAGES:
            self.num_left_out += 1
            return
        try:
            url = canonical(link, base)
        except ValueError:
            url = None
        if url is None:
            self.num_unreadable += 1
        else:
            found.append(Entry(url, read_time(modified) if modified else None))


Path = list[str]  # names of the open elements, without their prefixes, from the root


def read_xml(
    payload: bytes,
    start: Callable[[Path, dict[str, str]], None],
    end: Callable[[Path, str], None],
) -> str | None:
    """Walk through a document; returns why it was not read to its end, None if it was.

    ``start`` is told every element with its attributes, ``end`` its own text, the first 8,192
    characters of it. Names are taken without prefix and namespace: feeds bind either wrongly.
    Raises ListingError for entity declarations and absurd nesting.
    """
    path: Path = []
    texts: list[list[str]] = []
    lengths: list[int] = []
    num_elements = 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal num_elements
        num_elements += 1
        if num_elements > _MAX_ELEMENTS:
            raise _EnoughError(f"more than {_MAX_ELEMENTS} elements")
        if len(path) == _MAX_DEPTH:
            raise ListingError("nested too deep")
        path.append(name.rpartition(":")[2])
        texts.append([])
        lengths.append(0)
        start(path, {k: v for k, v in attributes.items() if len(v) <= _MAX_TEXT})

    def finish(_: str) -> None:
        end(path, "".join(texts.pop())[:_MAX_TEXT].strip())
        path.pop()
        lengths.pop()

    def characters(text: str) -> None:
        if lengths and lengths[-1] < _MAX_TEXT:
            texts[-1].append(text)
            lengths[-1] += len(text)

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = begin
    parser.EndElementHandler = finish
    parser.CharacterDataHandler = characters
    parser.EntityDeclHandler = _refuse_entity
    try:
        parser.Parse(payload.lstrip(b" \t\r\n"), True)
    except _EnoughError as error:
        return str(error)
    except ListingError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: its encoding
        return f"not well-formed: {error}"
    return None


def root_of(payload: bytes) -> str | None:
    """Name of the outermost element, without prefix; None where the document has none.

    Raises ListingError for entity declarations.
    """
    names: list[str] = []

    def start(path: Path, _: dict[str, str]) -> None:
        names.append(path[-1])
        raise _EnoughError("the root is known")

    read_xml(payload, start, lambda path, text: None)
    return names[0] if names else None


def unpacked(payload: bytes) -> bytes:
    """``payload`` without gzip, if it is packed so, up to MAX_BYTES. Raises ListingError."""
    if not payload.startswith(b"\x1f\x8b"):
        return payload
    try:
        return decode(payload, "gzip", MAX_BYTES)[0]
    except (CodingError, zlib.error) as error:
        raise ListingError("damaged gzip") from error


def read_time(text: str) -> datetime | None:
    """A W3C date or time (the profile of ISO 8601 in sitemaps and Atom); None if it is none.

    A day counts as its end in the last time zone, and a time without zone likewise: a page that
    was fetched after it is the page that the list speaks of.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if found.tzinfo is not None:
        return found
    is_day = len(text.strip()) <= len("2026-01-02")
    try:
        return found.replace(tzinfo=UTC) + (_WHOLE_DAY if is_day else timedelta(hours=12))
    except OverflowError:
        return None


class _EnoughError(ListingError):
    """Reading ends here, and nothing is wrong with what was read."""


def _refuse_entity(*_: object) -> None:
    raise ListingError("declares entities")

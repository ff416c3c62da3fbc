"""Payloads of rows that hold only where their bytes lie: each archive is read once, in its order.

Places that lie close together are read as one stream with the bytes between them, since asking a
store for a range costs about as much as a megabyte of transfer; lone ones are ranges of their own.
So a table that takes most of an archive streams it, and one that takes little fetches little.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from datalake.isolation import Lost
from datalake.sources.record import payload_digest
from datalake.sources.remote import Reading, open_at
from datalake.sources.source import Place
from datalake.sources.warcs.reader import payload_of
from datalake.sources.web.content_coding import CodingError

_GAP_BYTES = 1 << 20  # 0.1 s for a request, at 10 MB/s
_STEP = 1 << 20


def payloads(places: Sequence[Place], digests: Sequence[str]) -> Iterator[bytes | Lost]:
    """Payload of the WARC record at each place, in order, or why there is none.

    One at a time is in memory. Rows lie in the order of their archives, as ingestion leaves them;
    in another order each would be a request. ``digests`` are what the rows say of their payloads:
    another payload is lost, with the reason ``digest``. An archive that cannot be had costs its
    rows alone.
    """
    for start, end in _runs(places):
        yield from _read_run(places[start:end], digests[start:end])


def _runs(places: Sequence[Place]) -> Iterator[tuple[int, int]]:
    """Where ``places`` is cut: at another archive, a step back, or too much between two."""
    start = 0
    for index, (place, following) in enumerate(pairwise(places), 1):
        gap = following.offset - place.offset - place.length
        if following.archive != place.archive or not 0 <= gap <= _GAP_BYTES:
            yield start, index
            start = index
    if places:
        yield start, len(places)


def _read_run(places: Sequence[Place], digests: Sequence[str]) -> Iterator[bytes | Lost]:
    archive, first = places[0].archive, places[0].offset
    done = 0
    try:
        end = places[-1].offset + places[-1].length
        with open_at(archive, first, end - first) as file:
            for place, digest in zip(places, digests, strict=True):
                _skip_to(file, place.offset)
                data = _take(file, place.length)
                done += 1
                yield _payload(data, place, digest)
    except OSError as error:
        for _ in places[done:]:
            yield Lost(f"archive: {type(error).__name__}: {error}")


def _payload(data: bytes, place: Place, digest: str) -> bytes | Lost:
    try:
        payload = payload_of(data, place.archive, place.offset, place.member)
    except (OSError, CodingError) as error:
        return Lost(f"record: {error}")
    return payload if payload_digest(payload) == digest else Lost("digest")


def _skip_to(file: Reading, offset: int) -> None:
    while (left := offset - file.tell()) > 0:
        if not file.read(min(left, _STEP)):
            return


def _take(file: Reading, num_bytes: int) -> bytes:
    data = bytearray()
    while len(data) < num_bytes and (more := file.read(num_bytes - len(data))):
        data += more
    return bytes(data)

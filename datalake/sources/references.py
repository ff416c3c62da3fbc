"""Payloads of rows that hold only where their bytes lie: each archive is read once, in its order.

Places that lie close together are read as one stream with the bytes between them, since asking a
store for a range costs about as much as a megabyte of transfer; lone ones are ranges of their own.
So a table that takes most of an archive streams it, and one that takes little fetches little.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from datalake.isolation import Lost
from datalake.sources.content_coding import CodingError
from datalake.sources.record import payload_digest
from datalake.sources.remote import Reading, open_at
from datalake.sources.source import Place
from datalake.sources.warc import payload_of

_GAP_BYTES = 1 << 20  # 0.1 s for a request, at 10 MB/s
_STEP = 1 << 20


def payloads(places: Sequence[Place], digests: Sequence[str]) -> Iterator[tuple[int, bytes | Lost]]:
    """Index into ``places`` and payload of each WARC record, or why there is none.

    They come in the order of the archives, not of ``places``, so that one payload at a time is in
    memory. ``digests`` are what the rows say of their payloads: another payload is lost, with the
    reason ``digest``. An archive that cannot be had costs its rows alone.
    """
    by_archive: dict[str, list[int]] = defaultdict(list)
    for index, place in enumerate(places):
        by_archive[place.archive].append(index)
    for archive, indices in by_archive.items():
        indices.sort(key=lambda index: places[index].offset)
        for run in _runs(indices, places):
            yield from _read_run(archive, run, places, digests)


def _runs(indices: Sequence[int], places: Sequence[Place]) -> Iterator[list[int]]:
    """``indices`` in order of their offsets, cut where too much lies between two."""
    run: list[int] = []
    end = 0
    for index in indices:
        place = places[index]
        if run and not 0 <= place.offset - end <= _GAP_BYTES:
            yield run
            run = []
        run.append(index)
        end = place.offset + place.length
    if run:
        yield run


def _read_run(
    archive: str, run: Sequence[int], places: Sequence[Place], digests: Sequence[str]
) -> Iterator[tuple[int, bytes | Lost]]:
    first, last = places[run[0]], places[run[-1]]
    done = 0
    try:
        with open_at(archive, first.offset, last.offset + last.length - first.offset) as file:
            for index in run:
                place = places[index]
                _skip_to(file, place.offset)
                data = _take(file, place.length)
                done += 1
                yield index, _payload(data, place, digests[index])
    except OSError as error:
        lost = Lost(f"archive: {type(error).__name__}: {error}")
        yield from ((index, lost) for index in run[done:])


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

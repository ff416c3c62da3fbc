"""WARC archives (ISO 28500), read record by record from a disk or over a network.

One compressed member a record means that a record can be read alone by its offset and length. A
damaged member costs that record: reading goes on at the next one, and the damage is reported by
file and offset. The same holds for a record whose bytes are not what its digest says. Of a record
that is larger than the limit only the first part is held in memory; the rest is checked in passing.
"""

import io
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from fastwarc.warc import ArchiveIterator, HeaderMap, WarcRecord, WarcRecordType
from resiliparse.parse.encoding import detect_mime

from datalake.sources.record import payload_digest
from datalake.sources.remote import Reading, RemoteError, Version, open_at, read_range
from datalake.sources.report import Report
from datalake.sources.warcs.capture import HTML_TYPES, Capture
from datalake.sources.warcs.digest import Stated, stated
from datalake.sources.web.content_coding import CodingError, dechunk, decode
from datalake.sources.web.urls import canonical

_MARKS = (  # how a compressed record starts; a file is of one kind throughout
    b"\x1f\x8b\x08",  # gzip
    b"\x28\xb5\x2f\xfd",  # Zstandard
    b"\x04\x22\x4d\x18",  # LZ4
    b"WARC/1.",  # not compressed
)
_TOGETHER = "records must be compressed one by one to be found again, got all in one stream"
_HEADER_BYTES = 64 << 10  # of HTTP, on top of a body
_STEP = 1 << 20
_NO_LIMIT = 1 << 40
# A response to a crawler, a file saved as it is, and the text that Common Crawl makes of a page.
_PAGES = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_FIRST_BYTES = re.compile(r"\[:(\d+)\]")


def read_captures(uri: str | Path, max_bytes: int, report: Report) -> Iterator[Capture]:
    """Pages in the archive ``uri``, in its order: responses of status 200 with HTML, and texts.

    What is left out, and what is damaged, is counted in ``report`` with file and offset. Raises
    OSError where the file cannot be had.
    """
    archive = _Archive(str(uri))
    for opened, offset, length in _records(archive, max_bytes, report):
        yield from _captures(opened, archive, max_bytes, offset, length, report)


def read_places(
    uri: str, places: Iterable[tuple[int, int]], max_bytes: int, report: Report
) -> Iterator[Capture]:
    """Pages at these offsets and lengths of the archive ``uri``, as an index names them."""
    archive = _Archive(uri)
    for offset, length in places:
        data = read_range(uri, offset, length)
        try:
            opened = _one(uri, offset, data, max_bytes)
        except RemoteError as error:
            report.damage(str(error))
            continue
        yield from _captures(opened, archive, max_bytes, offset, length, report)


def read_record(archive: str, offset: int, length: int, member: str = "") -> bytes:
    """Decoded payload of the one record at ``offset``: what a raw row with that place holds.

    Raises OSError where it is not there any more, or is not what its digest says.
    """
    return payload_of(read_range(archive, offset, length), archive, offset, member)


def payload_of(data: bytes, archive: str, offset: int, member: str = "") -> bytes:
    """The same of the record's own bytes ``data``."""
    opened = _one(archive, offset, data, _NO_LIMIT)
    if opened.problem:
        raise RemoteError(f"{archive}: record at byte {offset}: {opened.problem}")
    payload = decode(opened.payload, opened.coding, _NO_LIMIT)[0]
    first = _FIRST_BYTES.fullmatch(member)
    return payload[: int(first[1])] if first else payload


def first_date(uri: str | Path) -> datetime:
    """When the first record was made: what a file is ordered by. The earliest time if unknown."""
    try:
        with open_at(str(uri)) as file:
            for record in ArchiveIterator(file, parse_http=False):
                return record.record_date or datetime.min.replace(tzinfo=UTC)
    except OSError:
        pass  # a file that cannot be read is reported when it is read
    return datetime.min.replace(tzinfo=UTC)


class _Archive:
    """One file that is opened again at other places, and must stay what it is."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.version: Version | None = None

    def at(self, offset: int) -> Reading:
        file = open_at(self.uri, offset)
        version = file.version
        if self.version and not version.agrees(self.version):
            file.close()
            raise RemoteError(f"{self.uri} changed while it was read")
        self.version = version
        return file

    @property
    def num_bytes(self) -> int | None:
        return self.version.num_bytes if self.version else None

    def ends_before(self, offset: int) -> bool:
        return self.num_bytes is not None and offset >= self.num_bytes


@dataclass(slots=True)
class _Opened:
    """A record after its HTTP headers were read; the payload is still coded."""

    kind: WarcRecordType
    url: str
    fetched_at: datetime | None
    headers: HeaderMap | None  # of HTTP
    content_type: str | None
    coding: str
    payload: bytes
    truncated: str | None
    cut: bool  # by the limit
    languages: str | None
    problem: str | None  # why it is not what its digests say
    digest: str | None  # of the payload as it is here, where checking it has told


@dataclass(frozen=True, slots=True)
class _Whole:
    """A record that was read to its end, before it is known where that is."""

    opened: _Opened | None  # None if it can be no page
    offset: int
    block_bytes: int


def _records(
    archive: _Archive, max_bytes: int, report: Report
) -> Iterator[tuple[_Opened, int, int]]:
    """Every page's record with its offset and length, as far as the file can be read."""
    uri = archive.uri
    start: int | None = 0
    while start is not None:
        broken = start
        last: _Whole | None = None
        try:
            with archive.at(start) as file:
                if archive.ends_before(start):
                    return
                for record in ArchiveIterator(file, parse_http=False):
                    broken = record.stream_pos
                    if last and broken <= last.offset:
                        report.damage(f"{uri}: {_TOGETHER}")
                        return
                    if last and last.opened:
                        yield last.opened, last.offset, broken - last.offset
                    last = None
                    block_bytes = record.content_length
                    opened = _open(record, max_bytes) if record.record_type & _PAGES else None
                    if record.record_type == WarcRecordType.revisit:
                        report.skip("revisit")  # it holds no page, but says that one is the same
                    record.consume()
                    if (missing := block_bytes - record.reader.tell()) > 0:
                        raise OSError(f"ends {missing} bytes too early")
                    last = _Whole(opened, broken, block_bytes)
            # Where a file ends inside the headers of a record, the iterator ends without a word.
            problem = "ends too early"
        except OSError as error:
            if isinstance(error, RemoteError) or error.errno is not None:
                raise  # the file cannot be had; what is wrong inside of it has no number
            problem = str(error)
        if last and (end := _end(archive, last)) is not None:
            if last.opened:
                yield last.opened, last.offset, end - last.offset
            broken = end  # it is what follows that cannot be read
        if _is_blank(archive, broken):
            return
        start = _next_record(archive, broken + 1)
        after = "nothing can be read after it" if start is None else f"next is at {start}"
        report.damage(f"{uri}: record at byte {broken}: {problem}; {after}")


def _one(uri: str, offset: int, data: bytes, max_bytes: int) -> _Opened:
    """The record that ``data`` holds. Raises RemoteError where it holds none."""
    try:
        for record in ArchiveIterator(io.BytesIO(data), parse_http=False):
            return _open(record, max_bytes)
    except OSError as error:
        raise RemoteError(f"{uri} must hold a record at byte {offset}, got: {error}") from error
    raise RemoteError(f"{uri} must hold a record at byte {offset}, got none")


def _open(record: WarcRecord, max_bytes: int) -> _Opened:
    """Read ``record`` to its end and keep at most ``max_bytes`` of its payload."""
    block = record.reader.read(min(record.content_length, max_bytes + _HEADER_BYTES))
    headers, start = _http(block) if record.is_http else (None, 0)
    size = record.content_length - start
    coding = (headers.get("Content-Encoding") or "") if headers else ""
    chunked = headers and "chunked" in (headers.get("Transfer-Encoding") or "").lower()
    stored = block[start : start + max_bytes]
    payload = dechunk(stored) if chunked else stored
    problem, digest = _check(record, block, start, [payload] if chunked else [], coding)
    plain = not coding and not chunked and size <= max_bytes
    content_type = headers.get("Content-Type") if headers else None
    return _Opened(
        kind=record.record_type,
        url=(record.headers.get("WARC-Target-URI") or "").strip("<> "),
        fetched_at=record.record_date or _http_date(headers),
        headers=headers,
        content_type=content_type if record.is_http else record.headers.get("Content-Type"),
        coding=coding,
        payload=payload,
        truncated=record.headers.get("WARC-Truncated"),
        cut=size > max_bytes,
        languages=record.headers.get("WARC-Identified-Content-Language"),
        problem=problem,
        digest=digest if plain else None,
    )


def _http(block: bytes) -> tuple[HeaderMap, int]:
    """HTTP headers and where the body begins. Old writers end lines with a line feed alone."""
    blank = _BLANK_LINE.search(block)
    head = block[: blank.start()] if blank else block
    if b"\r\n" not in head:
        head = head.replace(b"\n", b"\r\n")
    headers = HeaderMap()
    headers.parse(io.BytesIO(head + b"\r\n\r\n"))
    return headers, blank.end() if blank else len(block)


def _http_date(headers: HeaderMap | None) -> datetime | None:
    try:
        date = parsedate_to_datetime((headers and headers.get("Date")) or "")
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _check(
    record: WarcRecord, block: bytes, start: int, unfolded: list[bytes], coding: str
) -> tuple[str | None, str | None]:
    """Read the rest of ``record``: what its digests say against it, None if nothing.

    And the SHA-1 of the bytes after the headers, where the check has told it.

    The digest of a payload is not taken of the same bytes by all: with the chunks and the
    compression of the way (most crawlers), without chunks (RFC 9110's representation), decoded, or
    of the whole block (ClueWeb09). Any will do: the block digest leaves no such choice.
    """
    of_block = stated(record.headers.get("WARC-Block-Digest"))
    of_payload = stated(record.headers.get("WARC-Payload-Digest"))
    if of_payload == of_block:
        of_payload = None
    view = memoryview(block)
    seen_block = of_block and of_block.begin(view)
    seen_payload = of_payload and of_payload.begin(view[start:])
    complete = len(block) == record.content_length
    while not complete and (rest := record.reader.read(_STEP)):
        for running in (seen_block, seen_payload):
            if running:
                running.update(rest)
    if record.reader.tell() < record.content_length:
        return None, None  # it ends too early, which is reported as that
    if of_block and seen_block and seen_block.digest() != of_block.value:
        return "its block is not what WARC-Block-Digest says", None
    if not of_payload or not seen_payload:
        return None, None
    if seen_payload.digest() == of_payload.value:
        return None, str(of_payload) if of_payload.algorithm == "sha1" else None
    if record.headers.get("WARC-Truncated"):
        return None, None  # some state the digest of all of what they cut
    if not complete and (unfolded or coding):
        return None, None  # all of it would have to be decoded
    if complete and _any_fits(of_payload, unfolded, block[start:], coding):
        return None, None
    return "its payload is not what WARC-Payload-Digest says", None


def _any_fits(digest: Stated, unfolded: list[bytes], stored: bytes, coding: str) -> bool:
    for body in unfolded:
        if digest.fits(body):
            return True
    if coding:
        try:
            return digest.fits(decode((unfolded or [stored])[0], coding, _NO_LIMIT)[0])
        except CodingError:
            pass
    return False


def _captures(
    opened: _Opened, archive: _Archive, max_bytes: int, offset: int, length: int, report: Report
) -> Iterator[Capture]:
    """The capture of a page, if the record holds one; what it holds else is counted."""
    try:
        if opened.problem:
            raise ValueError(opened.problem)
        found = _capture(opened, archive, max_bytes, offset, length)
    except (CodingError, ValueError) as error:
        report.damage(f"{archive.uri}: record at byte {offset}: {error}")
        return
    if isinstance(found, str):
        report.skip(found)
    else:
        report.keep(len(found.payload))
        yield found


def _capture(
    opened: _Opened, archive: _Archive, max_bytes: int, offset: int, length: int
) -> Capture | str:
    """The capture of a page, or why the record holds none. Raises ValueError, CodingError."""
    headers = opened.headers
    status = headers.status_code if headers else None
    is_response = opened.kind == WarcRecordType.response
    if is_response and status != 200:
        return f"status {status}" if status else "no HTTP response"
    media_type = (opened.content_type or "").split(";")[0].strip().lower()
    wanted = ("text/plain",) if opened.kind == WarcRecordType.conversion else HTML_TYPES
    if media_type and media_type not in wanted:
        return f"type {media_type}"
    url = canonical(opened.url)
    if url is None:
        return "not a web address"
    if opened.coding and (opened.truncated or opened.cut):
        return "cut while compressed"
    payload, cut = decode(opened.payload, opened.coding, max_bytes)
    if not media_type and detect_mime(payload) != "text/html":
        return "no type"
    cut = cut or opened.cut
    content_type = opened.content_type
    if opened.kind == WarcRecordType.conversion:
        content_type = "text/plain; charset=utf-8"  # which WET files are, and do not say
    digest = opened.digest if payload is opened.payload else None
    modified_at = archive.version.modified_at if archive.version else None
    return Capture(
        url=url,
        status=status,
        content_type=content_type,
        payload=payload,
        payload_digest=digest or payload_digest(payload),
        truncated=opened.truncated or ("length" if cut else None),
        fetched_at=opened.fetched_at or modified_at or datetime.now(UTC),
        archive=archive.uri,
        member=f"[:{len(payload)}]" if cut else "",
        offset=offset,
        length=length,
        etag=headers.get("ETag") if headers else None,
        last_modified=headers.get("Last-Modified") if headers else None,
        languages=opened.languages,
    )


# Where records begin and end ---------------------------------------------------------------------


def _end(archive: _Archive, record: _Whole) -> int | None:
    """Where ``record`` ends; None where its member does not end."""
    with archive.at(record.offset) as file:
        head = _read(file, _HEADER_BYTES)
        if head.startswith(b"WARC/1."):
            headers = _BLANK_LINE.search(head)
            start = record.offset + (headers.end() if headers else 0)
            return start + record.block_bytes + len(b"\r\n\r\n")
        if head.startswith(b"\x1f\x8b"):
            stream = zlib.decompressobj(31)
            end = record.offset
            while head and not stream.eof:
                stream.decompress(head)
                end += len(head)
                head = file.read(_STEP)
            return end - len(stream.unused_data) if stream.eof else None
    return _next_record(archive, record.offset + 1) or archive.num_bytes


def _is_blank(archive: _Archive, start: int) -> bool:
    """Whether nothing but line ends follows: some writers leave one more."""
    if archive.ends_before(start):
        return True
    with archive.at(start) as file:
        return not _read(file, _HEADER_BYTES).strip(b"\r\n")


def _next_record(archive: _Archive, start: int) -> int | None:
    """Where the first record at or after ``start`` seems to begin, judged by its first bytes."""
    with archive.at(0) as file:
        head = _read(file, 8)
    mark = next((mark for mark in _MARKS if head.startswith(mark)), b"WARC/1.")
    if archive.ends_before(start):
        return None
    with archive.at(start) as file:
        position, window = start, b""
        while block := file.read(_STEP):
            window += block
            if (found := window.find(mark)) >= 0:
                return position + found
            kept = len(mark) - 1
            position += len(window) - kept
            window = window[-kept:]
    return None


def _read(file: Reading, num_bytes: int) -> bytes:
    """So many bytes, fewer at the end of the file alone."""
    data = b""
    while len(data) < num_bytes and (more := file.read(num_bytes - len(data))):
        data += more
    return data

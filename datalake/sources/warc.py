"""WARC archives (ISO 28500): written one gzip member a record, read back record by record.

One member a record means that a record can be read alone by its offset and length. A damaged
member costs that record: reading goes on at the next one, and the damage is reported by file and
offset.
"""

import glob
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Literal

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType
from pydantic import Field
from resiliparse.parse.encoding import detect_mime

from datalake.config import Config, Refusal
from datalake.sources.capture import HTML_TYPES, Capture
from datalake.sources.content_coding import CodingError, dechunk, decode
from datalake.sources.report import Report
from datalake.sources.urls import canonical
from datalake.sources.warc_writer import WarcWriter as WarcWriter

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


class WarcFilesConfig(Config):
    """Archives that somebody else wrote, or that arrive one by one in a folder."""

    kind: Literal["warc_files"] = "warc_files"
    files: str  # a path with wildcards, such as /data/crawl/*.warc.gz
    licence: str | None = None  # SPDX expression, where one holds for every page
    max_bytes: int = Field(5 << 20, gt=0)  # of a page; Common Crawl's own cut since 2025


def archives(config: WarcFilesConfig) -> list[Path]:
    """The files that ``config`` names, newest first, so that the first capture of a URL wins.

    Raises Refusal where the folder is missing or no file matches.
    """
    *parts, name = Path(config.files).expanduser().absolute().parts
    fixed = list(takewhile(lambda part: not glob.has_magic(part), parts))
    folder = Path(*fixed)
    if not folder.is_dir():
        raise Refusal(f"files must lie in a folder that exists, got {config.files}")
    below = "/".join([*parts[len(fixed) :], name])
    paths = [path for path in folder.glob(below) if path.is_file()]
    if not paths:
        raise Refusal(f"files must match at least one WARC file, got {config.files}")
    paths.sort()
    return sorted(paths, key=_first_date, reverse=True)


def read_captures(path: Path, max_bytes: int, report: Report) -> Iterator[Capture]:
    """Responses of status 200 with HTML in the archive ``path``, in its order.

    What is left out, and what is damaged, is counted in ``report`` with file and offset.
    """
    for record, offset, length in _records(path, max_bytes, report):
        try:
            found = _capture(record, path, max_bytes, offset, length)
        except (CodingError, ValueError) as error:
            report.damage(f"{path}: record at byte {offset}: {error}")
            continue
        if isinstance(found, str):
            report.skip(found)
        else:
            report.keep(len(found.payload))
            yield found


def read_record(archive: str, offset: int, length: int) -> bytes:
    """Decoded payload of the one record at ``offset``: what a raw row with that place holds."""
    with Path(archive).open("rb") as file:
        file.seek(offset)
        data = file.read(length)
    for record in ArchiveIterator(io.BytesIO(data), parse_http=False):
        opened = _open(record, _NO_LIMIT)
        return decode(opened.payload, opened.coding, _NO_LIMIT)[0]
    raise Refusal(f"{archive} must hold a record at byte {offset}, got none")


@dataclass(slots=True)
class _Opened:
    """A response record after its HTTP headers were read; the payload is still coded."""

    url: str
    fetched_at: datetime | None
    status: int | None
    content_type: str | None
    coding: str
    payload: bytes
    truncated: str | None


@dataclass(frozen=True, slots=True)
class _Whole:
    """A record that was read to its end, before it is known where that is."""

    opened: _Opened | None  # None if it is no response
    offset: int
    block_bytes: int


def _records(path: Path, max_bytes: int, report: Report) -> Iterator[tuple[_Opened, int, int]]:
    """Every response record with its offset and length, as far as the file can be read."""
    size = path.stat().st_size
    start: int | None = 0
    while start is not None and start < size:
        broken = start
        last: _Whole | None = None
        try:
            with path.open("rb") as file:
                file.seek(start)
                for record in ArchiveIterator(file, parse_http=False):
                    broken = record.stream_pos
                    if last and broken <= last.offset:
                        report.damage(f"{path}: {_TOGETHER}")
                        return
                    if last and last.opened:
                        yield last.opened, last.offset, broken - last.offset
                    last = None
                    block_bytes = record.content_length
                    is_response = record.record_type == WarcRecordType.response
                    opened = _open(record, max_bytes) if is_response else None
                    record.consume()
                    if (missing := record.content_length - record.reader.tell()) > 0:
                        raise OSError(f"ends {missing} bytes too early")
                    last = _Whole(opened, broken, block_bytes)
            # Where a file ends inside the headers of a record, the iterator ends without a word.
            problem = "ends too early"
        except OSError as error:
            problem = str(error)
        if last and (end := _end(path, last)) is not None:
            if last.opened:
                yield last.opened, last.offset, end - last.offset
            broken = end  # it is what follows that cannot be read
        if _is_blank(path, broken):
            return
        start = _next_record(path, broken + 1)
        after = "nothing can be read after it" if start is None else f"next is at {start}"
        report.damage(f"{path}: record at byte {broken}: {problem}; {after}")


def _open(record: WarcRecord, max_bytes: int) -> _Opened:
    """Read ``record`` as far as ``max_bytes`` of its payload."""
    if record.is_http:
        record.parse_http(auto_decode="none", quirks_mode=True, strict_mode=False)
    headers = record.http_headers if record.is_http_parsed else None
    payload = record.reader.read(min(record.content_length, max_bytes))
    chunked = headers and "chunked" in (headers.get("Transfer-Encoding") or "").lower()
    cut = "length" if record.content_length > max_bytes else None
    return _Opened(
        url=(record.headers.get("WARC-Target-URI") or "").strip("<> "),
        fetched_at=record.record_date or (record.http_date if headers else None),
        status=headers.status_code if headers else None,
        content_type=headers.get("Content-Type") if headers else None,
        coding=(headers.get("Content-Encoding") or "") if headers else "",
        payload=dechunk(payload) if chunked else payload,
        truncated=record.headers.get("WARC-Truncated") or cut,
    )


def _capture(
    opened: _Opened, path: Path, max_bytes: int, offset: int, length: int
) -> Capture | str:
    """The capture of a page, or why the record holds none. Raises ValueError, CodingError."""
    if opened.status != 200:
        return f"status {opened.status}" if opened.status else "no HTTP response"
    media_type = (opened.content_type or "").split(";")[0].strip().lower()
    if media_type and media_type not in HTML_TYPES:
        return f"type {media_type}"
    url = canonical(opened.url)
    if url is None:
        return "not a web address"
    if opened.coding and opened.truncated:
        return "cut while compressed"
    payload, cut = decode(opened.payload, opened.coding, max_bytes)
    if not media_type and detect_mime(payload) != "text/html":
        return "no type"
    modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return Capture(
        url=url,
        status=opened.status,
        content_type=opened.content_type,
        payload=payload,
        truncated=opened.truncated or ("length" if cut else None),
        fetched_at=opened.fetched_at or modified,
        archive=str(path),
        offset=offset,
        length=length,
    )


def _end(path: Path, record: _Whole) -> int | None:
    """Where ``record`` ends; None where its member does not end."""
    with path.open("rb") as file:
        file.seek(record.offset)
        head = file.read(_HEADER_BYTES)
        if head.startswith(b"WARC/1."):
            headers = re.search(rb"\r?\n\r?\n", head)
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
    return _next_record(path, record.offset + 1) or path.stat().st_size


def _is_blank(path: Path, start: int) -> bool:
    """Whether nothing but line ends follows: some writers leave one more."""
    with path.open("rb") as file:
        file.seek(start)
        return not file.read(_HEADER_BYTES).strip(b"\r\n")


def _next_record(path: Path, start: int) -> int | None:
    """Where the first record at or after ``start`` seems to begin, judged by its first bytes."""
    with path.open("rb") as file:
        head = file.read(8)
        mark = next((mark for mark in _MARKS if head.startswith(mark)), b"WARC/1.")
        file.seek(start)
        position, window = start, b""
        while block := file.read(_STEP):
            window += block
            if (found := window.find(mark)) >= 0:
                return position + found
            kept = len(mark) - 1
            position += len(window) - kept
            window = window[-kept:]
    return None


def _first_date(path: Path) -> datetime:
    try:
        with path.open("rb") as file:
            for record in ArchiveIterator(file, parse_http=False):
                return record.record_date or datetime.min.replace(tzinfo=UTC)
    except OSError:
        pass  # a file that cannot be read is reported when it is read
    return datetime.min.replace(tzinfo=UTC)

"""Bytes of a file by its address, from any offset: on disk, over HTTP, or in an object store.

A long download breaks. ``open_at`` then asks for the rest with an HTTP range (RFC 9110, 14) and
goes on where it was, so that a reader sees one stream. It makes sure that the rest belongs to the
same content: an entity tag, a date or a length that has changed ends the reading with an error,
never with a mixture of two files. Only the block at hand is in memory.
"""

import gzip
import io
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

from datalake.config import Refusal
from datalake.sources.web.fetch import PRODUCT

_HEADERS = {"User-Agent": f"{PRODUCT}/0.1", "Accept-Encoding": "identity"}
_MAX_REDIRECTS = 5
_PASSING = frozenset((408, 429, 500, 502, 503, 504))  # Common Crawl says "slow down" by 503
_MAX_WAIT_SECONDS = 60.0
_PROGRESS_BYTES = 1 << 20  # a connection that brought so much is no failed try
_MAX_SKIPPED_BYTES = 64 << 20  # read and thrown away where a server knows no ranges
_BLOCK_BYTES = 8 << 20  # one request to an object store; its own clients take 5 to 16 MiB
_STEP = 1 << 20


class RemoteError(OSError):
    """The file cannot be had after all tries, changed while it was read, or has no ranges."""


class _BrokenError(Exception):
    """A try that failed and may be repeated. ``wait`` is what the server asks for, in seconds."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How often and how long a broken connection is tried again."""

    tries: int = 6  # in a row without progress: with the waits below half a minute
    first_wait_seconds: float = 1.0  # doubled after each try
    timeout_seconds: float = 60.0  # without a byte


_PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one content of a file from another; None where it is not known."""

    num_bytes: int | None
    tag: str | None
    modified_at: datetime | None

    def agrees(self, other: "Version") -> bool:
        """Whether nothing that both know differs."""
        pairs = (
            (self.num_bytes, other.num_bytes),
            (self.tag, other.tag),
            (self.modified_at, other.modified_at),
        )
        return all(a == b for a, b in pairs if a is not None and b is not None)


class _Stream(Protocol):
    def read(self, num_bytes: int, /) -> bytes: ...
    def close(self) -> None: ...


_Opened = tuple[_Stream, Version]


class Reading(io.RawIOBase):
    """A file read once, from ``offset`` on, at most ``length`` bytes of it.

    ``read`` may return less than was asked for, as of any raw stream, and b"" at the end alone.
    ``tell`` counts from the start of the file. Raises FileNotFoundError, PermissionError,
    RemoteError.
    """

    def __init__(self, uri: str, offset: int, length: int | None, patience: Patience) -> None:
        self.uri = uri
        self._position = offset
        self._end = None if length is None else offset + length
        self._patience = patience
        self._failures = 0
        self._gained = 0
        self._version: Version | None = None
        self._stream: _Stream | None = None

    @property
    def version(self) -> Version:
        """Length, entity tag and date of the file as a whole."""
        self._persist(self._connect)
        assert self._version is not None
        return self._version

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(_STEP), b""))
        self._persist(lambda: self._fill(size))
        return self._data

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        super().close()

    def _fill(self, size: int) -> None:
        if self._end is not None:
            size = min(size, self._end - self._position)
        self._data = b""
        if size <= 0:
            return
        self._connect()
        assert self._stream is not None and self._version is not None
        self._data = self._stream.read(size)
        self._position += len(self._data)
        self._gained += len(self._data)
        if self._gained >= _PROGRESS_BYTES:
            self._failures = self._gained = 0
        whole = self._version.num_bytes
        if not self._data and whole is not None and self._position < whole:
            raise _BrokenError(f"it ended after {self._position} of {whole} bytes")

    def _connect(self) -> None:
        if self._stream is not None:
            return
        stream, version = _open(self.uri, self._position, self._end, self._version, self._patience)
        if self._version is not None and not version.agrees(self._version):
            stream.close()
            raise RemoteError(f"{self.uri} changed while it was read: {self._version}, {version}")
        self._stream, self._version = stream, self._version or version

    def _persist(self, attempt: Callable[[], None]) -> None:
        """Try until it works, with longer and longer waits, as often as ``patience`` says."""
        while True:
            try:
                return attempt()
            except (_BrokenError, HTTPError) as error:
                if self._stream is not None:
                    self._stream.close()
                    self._stream = None
                self._failures += 1
                if self._failures >= self._patience.tries:
                    why = f"given up at byte {self._position} after {self._failures} tries"
                    raise RemoteError(f"{self.uri}: {why}: {error}") from error
                wait = getattr(error, "wait", None)
                if wait is None:
                    wait = self._patience.first_wait_seconds * 2 ** (self._failures - 1)
                time.sleep(min(wait, _MAX_WAIT_SECONDS))


def open_at(
    uri: str, offset: int = 0, length: int | None = None, patience: Patience | None = None
) -> Reading:
    """The file at ``uri`` as a stream from ``offset`` on, at most ``length`` bytes of it.

    ``uri`` is a path, or an address that begins with http, https, file, s3, gs, abfs or hdfs.
    """
    return Reading(uri, offset, length, patience or _PATIENCE)


def read_range(uri: str, offset: int, length: int, patience: Patience | None = None) -> bytes:
    """``length`` bytes from ``offset`` on. Raises RemoteError where the file has fewer."""
    with open_at(uri, offset, length, patience) as file:
        data = file.read()
    if len(data) < length:
        have = f"{len(data)} of {length} bytes at byte {offset}"
        raise RemoteError(f"{uri} must be long enough for a range, got {have}")
    return data


def num_bytes(uri: str) -> int:
    """Length of the file. Raises RemoteError where its server does not say it."""
    with open_at(uri, 0, 1) as file:
        found = file.version.num_bytes
        file.read()  # all of the answer, so that the connection can be used again
    if found is None:
        raise RemoteError(f"{uri} must have a known length, got an answer without one")
    return found


def read_lines(file: Reading) -> Iterator[bytes]:
    """Lines without their ends; a file that is compressed with gzip, member by member, unfolds.

    Raises RemoteError where what is compressed is damaged.
    """
    buffered = io.BufferedReader(file, _STEP)
    lines: Iterator[bytes] = iter(buffered)
    if buffered.peek(2)[:2] == b"\x1f\x8b":
        lines = iter(gzip.GzipFile(fileobj=buffered))
    try:
        for line in lines:
            yield line.rstrip(b"\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RemoteError(f"{file.uri} must be a whole gzip file, got: {error}") from error


def is_remote(uri: str) -> bool:
    """Whether ``uri`` has a scheme, so that it is no path of this machine."""
    return "://" in uri


def join(base: str, name: str) -> str:
    """Address of ``name`` below ``base``. Raises Refusal where it leads out of it."""
    if ".." in name.split("/") or is_remote(name):
        raise Refusal(f"{name} must be a name below {base}, got one that leads out of it")
    return f"{base.rstrip('/')}/{name.lstrip('/')}"


def _open(
    uri: str, offset: int, end: int | None, known: Version | None, patience: Patience
) -> _Opened:
    scheme = urlsplit(uri).scheme if is_remote(uri) else ""
    match scheme:
        case "":
            return _open_path(uri, offset)
        case "http" | "https":
            return _open_http(uri, offset, end, known, patience)
        case _:
            return _open_store(uri, offset, end)


def _open_path(path: str, offset: int) -> _Opened:
    file = Path(path).open("rb")  # noqa: SIM115, the reader closes it
    stat = os.fstat(file.fileno())
    file.seek(offset)
    return file, Version(stat.st_size, None, datetime.fromtimestamp(stat.st_mtime, UTC))


# Object stores -----------------------------------------------------------------------------------


def _open_store(uri: str, offset: int, end: int | None) -> _Opened:
    import pyarrow as pa
    from pyarrow import fs

    try:
        store, path = fs.FileSystem.from_uri(uri)
    except pa.ArrowInvalid as error:
        raise Refusal(f"{uri} must have a scheme that can be read, got: {error}") from None
    try:
        found = store.get_file_info(path)
        if not found.is_file:
            raise FileNotFoundError(f"{uri} is no file")
        size = max(0, (found.size if end is None else min(end, found.size)) - offset)
        section = store.open_input_file(path).get_stream(offset, size)
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:
        raise _BrokenError(str(error)) from error
    stream = _Section(pa.BufferedInputStream(section, min(_BLOCK_BYTES, size + 1)))
    return stream, Version(found.size, None, found.mtime)


@dataclass(frozen=True, slots=True)
class _Section:
    stream: _Stream

    def read(self, num_bytes: int, /) -> bytes:
        try:
            return self.stream.read(num_bytes)
        except OSError as error:
            raise _BrokenError(str(error)) from error

    def close(self) -> None:
        self.stream.close()


# HTTP --------------------------------------------------------------------------------------------


def _open_http(
    uri: str, offset: int, end: int | None, known: Version | None, patience: Patience
) -> _Opened:
    headers = dict(_HEADERS)
    if offset or end is not None:
        headers["Range"] = f"bytes={offset}-{'' if end is None else end - 1}"
    answer = _pool(os.getpid()).request(
        "GET",
        uri,
        headers=headers,
        preload_content=False,
        timeout=Timeout(patience.timeout_seconds),
        retries=Retry(total=None, connect=0, read=0, status=0, other=0, redirect=_MAX_REDIRECTS),
    )
    try:
        return _take(uri, answer, offset, known)
    except BaseException:
        answer.close()
        raise


def _take(
    uri: str, answer: urllib3.BaseHTTPResponse, offset: int, known: Version | None
) -> _Opened:
    first, whole = _content_range(answer)
    match answer.status:
        case 206:
            if first != offset:
                raise RemoteError(f"{uri} must answer from byte {offset}, got {first}")
        case 200:
            whole = _number(answer.headers.get("Content-Length"))
        case 416 if whole is not None and whole <= offset:
            answer.close()
            return io.BytesIO(), _version(answer, whole)
        case status if status in _PASSING:
            wait = _number(answer.headers.get("Retry-After"))
            raise _BrokenError(f"status {status}", None if wait is None else float(wait))
        case 404 | 410:
            raise FileNotFoundError(f"{uri} is not there: status {answer.status}")
        case 401 | 403:
            raise PermissionError(f"{uri} may not be read: status {answer.status}")
        case status:
            raise RemoteError(f"{uri} must be a file that can be read, got status {status}")
    version = _version(answer, whole)
    stream = _Body(answer)
    if answer.status == 200 and offset:
        _skip(uri, stream, offset, version, known)
    return stream, version


def _skip(uri: str, stream: _Stream, offset: int, version: Version, known: Version | None) -> None:
    """Go to ``offset`` in an answer that holds all of the file, although a range was asked for."""
    if known is None and offset > _MAX_SKIPPED_BYTES:
        raise RemoteError(f"{uri} must answer ranges to be read at byte {offset}, got all of it")
    if known is not None and (version == Version(None, None, None) or not version.agrees(known)):
        raise RemoteError(f"{uri} must be the same after a break, got {version} after {known}")
    while offset:
        data = stream.read(min(offset, _STEP))
        if not data:
            raise _BrokenError(f"it ended {offset} bytes before its place was reached")
        offset -= len(data)


@dataclass(frozen=True, slots=True)
class _Body:
    answer: urllib3.BaseHTTPResponse

    def read(self, num_bytes: int, /) -> bytes:
        # What has come is taken at once: a larger read that breaks would lose it.
        return self.answer.read1(num_bytes, decode_content=False)

    def close(self) -> None:
        if getattr(self.answer, "length_remaining", None) == 0:
            self.answer.release_conn()  # the next range goes over the same connection
        self.answer.close()


def _content_range(answer: urllib3.BaseHTTPResponse) -> tuple[int | None, int | None]:
    """First byte and length of the whole file, as far as Content-Range says them."""
    found = re.fullmatch(
        r"bytes\s+(?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", "").strip()
    )
    return (_number(found[1]), _number(found[2])) if found else (None, None)


def _version(answer: urllib3.BaseHTTPResponse, num_bytes: int | None) -> Version:
    try:
        modified_at = parsedate_to_datetime(answer.headers.get("Last-Modified", ""))
    except ValueError:
        modified_at = None
    return Version(num_bytes, answer.headers.get("ETag"), modified_at)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


@cache
def _pool(process: int) -> urllib3.PoolManager:
    """Connections of this process; a forked one may not share them."""
    return urllib3.PoolManager()

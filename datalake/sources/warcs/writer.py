"""WARC archives (ISO 28500) as a crawl writes them: one gzip member a record."""

import contextlib
import fcntl
import gzip
import io
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import urlsplit

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from datalake.sources.record import payload_digest
from datalake.sources.warcs.capture import Capture
from datalake.sources.web.fetch import Headers, Response

_INFO = (
    ("software", "Tarn"),
    ("format", "WARC File Format 1.1"),
    (
        "conformsTo",
        "https://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/",
    ),
    ("robots", "obey"),
)
_DRAFT = ".draft"  # not the name of an archive, whoever looks for some
_CHANGED_HEADERS = ("content-encoding", "transfer-encoding", "content-length")


class WarcWriter:
    """Writes exchanges to a new archive, which has its name only when it is complete.

    Raises FileExistsError for a name that is taken: rows point into the archive that has it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.warc.gz"
        self._draft = folder / f".{uuid.uuid4().hex}{_DRAFT}"

    def __enter__(self) -> Self:
        if self.path.exists():
            raise FileExistsError(f"{self.path} is an archive already")
        _remove_drafts(self.path.parent)
        self._file: BinaryIO = self._draft.open("wb")
        fcntl.flock(self._file, fcntl.LOCK_EX)  # for as long as this process lives
        self._info_id = _new_urn()
        headers = {"Content-Type": "application/warc-fields", "WARC-Filename": self.path.name}
        info = "".join(f"{name}: {value}\r\n" for name, value in _INFO).encode()
        self._write(WarcRecordType.warcinfo, self._info_id, datetime.now(UTC), headers, info)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())
        if kind is None:
            self._draft.replace(self.path)
        else:
            self._draft.unlink()

    def write(self, response: Response) -> Capture:
        """Write request and response; returns the response with its place."""
        headers = {"WARC-Payload-Digest": payload_digest(response.body)}
        if response.truncated:
            headers["WARC-Truncated"] = response.truncated
        kind = WarcRecordType.response
        offset, length = self._exchange(kind, response, headers, _response_block(response))
        return Capture(
            url=response.url,
            status=response.status,
            content_type=response.header("Content-Type"),
            payload=response.body,
            payload_digest=payload_digest(response.body),
            truncated=response.truncated,
            fetched_at=response.fetched_at,
            archive=str(self.path),
            offset=offset,
            length=length,
            etag=response.header("ETag"),
            last_modified=response.header("Last-Modified"),
        )

    def write_revisit(self, response: Response, captured_at: datetime) -> None:
        """Write that ``response`` brought what was captured at ``captured_at``, without its body.

        A 304 says so itself (profile server-not-modified); any other response was compared
        (profile identical-payload-digest).
        """
        profile = "server-not-modified" if response.status == 304 else "identical-payload-digest"
        headers = {
            "WARC-Profile": f"http://netpreserve.org/warc/1.1/revisit/{profile}",
            "WARC-Refers-To-Target-URI": response.url,
            "WARC-Refers-To-Date": _spell(captured_at),
        }
        if response.status != 304:
            headers["WARC-Payload-Digest"] = payload_digest(response.body)
            headers["WARC-Truncated"] = "length"  # ISO 28500, 6.7.2: the body is left out
        self._exchange(WarcRecordType.revisit, response, headers, _head_block(response))

    def _exchange(
        self, kind: WarcRecordType, response: Response, headers: dict[str, str], block: bytes
    ) -> tuple[int, int]:
        """Write the request, and what came of it as a record of ``kind`` with ``headers``."""
        request_id, answer_id = _new_urn(), _new_urn()
        common = {"WARC-Target-URI": response.url, "WARC-Warcinfo-ID": self._info_id}
        self._write(
            WarcRecordType.request,
            request_id,
            response.fetched_at,
            common
            | {
                "WARC-Concurrent-To": answer_id,
                "Content-Type": "application/http; msgtype=request",
            },
            _request_block(response),
        )
        more = {
            "WARC-Concurrent-To": request_id,
            "Content-Type": "application/http; msgtype=response",
        }
        return self._write(kind, answer_id, response.fetched_at, common | more | headers, block)

    def _write(
        self, kind: WarcRecordType, urn: str, when: datetime, headers: dict[str, str], block: bytes
    ) -> tuple[int, int]:
        record = WarcRecord()
        record.init_headers(kind, record_urn=urn.strip("<>").removeprefix("urn:").encode())
        record.record_date = when
        for name, value in headers.items():
            record.headers.set(name, value)
        record.headers.set("WARC-Block-Digest", payload_digest(block))
        record.set_bytes_content(block)
        plain = io.BytesIO()
        record.write(plain)
        member = gzip.compress(plain.getvalue(), compresslevel=6, mtime=0)
        offset = self._file.tell()
        self._file.write(member)
        return offset, len(member)


def read_back(archive: str, offset: int, length: int) -> tuple[Headers, bytes]:
    """Headers and body of the response that a ``WarcWriter`` wrote at ``offset``.

    Raises OSError where there is none any more.
    """
    with Path(archive).open("rb") as file:
        file.seek(offset)
        data = file.read(length)
    for record in ArchiveIterator(io.BytesIO(data), WarcRecordType.response, parse_http=True):
        return tuple(record.http_headers.items()), record.reader.read()
    raise OSError(f"{archive} holds no response at byte {offset}")


def _remove_drafts(folder: Path) -> None:
    """Remove what writers left that were killed: the lock of a living one is taken."""
    for path in folder.glob(f".*{_DRAFT}"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _new_urn() -> str:
    return f"<urn:uuid:{uuid.uuid4()}>"


def _request_block(response: Response) -> bytes:
    parts = urlsplit(response.url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {target} HTTP/1.1", *(f"{k}: {v}" for k, v in response.request_headers)]
    return _block(lines, b"")


def _response_block(response: Response) -> bytes:
    """The response as stored: decoded, so the headers of its coding are set aside.

    Their names get the prefix that Common Crawl gives them.
    """
    length = [f"Content-Length: {len(response.body)}"]
    return _block(_head(response) + length, response.body)


def _head_block(response: Response) -> bytes:
    return _block(_head(response), b"")


def _head(response: Response) -> list[str]:
    lines = [f"HTTP/1.1 {response.status} {response.phrase}"]
    for name, value in response.headers:
        prefix = "X-Crawler-" if name.lower() in _CHANGED_HEADERS else ""
        lines.append(f"{prefix}{name}: {value}")
    return lines


def _spell(when: datetime) -> str:
    """``when`` as in WARC-Date."""
    return when.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _block(lines: list[str], body: bytes) -> bytes:
    head = "\r\n".join(line.replace("\r", " ").replace("\n", " ") for line in lines)
    return head.encode("utf-8", "replace") + b"\r\n\r\n" + body

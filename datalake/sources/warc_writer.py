"""WARC archives (ISO 28500) as a crawl writes them: one gzip member a record."""

import gzip
import io
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import urlsplit

from fastwarc.warc import WarcRecord, WarcRecordType

from datalake.sources.capture import Capture
from datalake.sources.fetch import Response
from datalake.sources.record import payload_digest

_CHANGED_HEADERS = ("content-encoding", "transfer-encoding", "content-length")


class WarcWriter:
    """Writes exchanges to a new archive, which has its name only when it is complete.

    Raises FileExistsError for a name that is taken: rows point into the archive that has it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.warc.gz"
        self._draft = folder / f".draft-{uuid.uuid4().hex}.warc.gz"

    def __enter__(self) -> Self:
        if self.path.exists():
            raise FileExistsError(f"{self.path} is an archive already")
        self._file: BinaryIO = self._draft.open("wb")
        self._info_id = _new_urn()
        headers = {"Content-Type": "application/warc-fields", "WARC-Filename": self.path.name}
        info = b"software: Tarn\r\nformat: WARC File Format 1.1\r\nrobots: obey\r\n"
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
        request_id, response_id = _new_urn(), _new_urn()
        common = {"WARC-Target-URI": response.url, "WARC-Warcinfo-ID": self._info_id}
        self._write(
            WarcRecordType.request,
            request_id,
            response.fetched_at,
            common
            | {
                "WARC-Concurrent-To": response_id,
                "Content-Type": "application/http; msgtype=request",
            },
            _request_block(response),
        )
        headers = common | {
            "WARC-Concurrent-To": request_id,
            "WARC-Payload-Digest": payload_digest(response.body),
            "Content-Type": "application/http; msgtype=response",
        }
        if response.truncated:
            headers["WARC-Truncated"] = response.truncated
        block = _response_block(response)
        kind = WarcRecordType.response
        offset, length = self._write(kind, response_id, response.fetched_at, headers, block)
        return Capture(
            url=response.url,
            status=response.status,
            content_type=response.header("Content-Type"),
            payload=response.body,
            truncated=response.truncated,
            fetched_at=response.fetched_at,
            archive=str(self.path),
            offset=offset,
            length=length,
        )

    def _write(
        self, kind: WarcRecordType, urn: str, when: datetime, headers: dict[str, str], block: bytes
    ) -> tuple[int, int]:
        record = WarcRecord()
        record.init_headers(kind, record_urn=urn.strip("<>").removeprefix("urn:").encode())
        record.record_date = when
        for name, value in headers.items():
            record.headers.set(name, value)
        record.set_bytes_content(block)
        plain = io.BytesIO()
        record.write(plain)
        member = gzip.compress(plain.getvalue(), compresslevel=6, mtime=0)
        offset = self._file.tell()
        self._file.write(member)
        return offset, len(member)


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
    lines = [f"HTTP/1.1 {response.status} {response.phrase}"]
    for name, value in response.headers:
        prefix = "X-Crawler-" if name.lower() in _CHANGED_HEADERS else ""
        lines.append(f"{prefix}{name}: {value}")
    lines.append(f"Content-Length: {len(response.body)}")
    return _block(lines, response.body)


def _block(lines: list[str], body: bytes) -> bytes:
    head = "\r\n".join(line.replace("\r", " ").replace("\n", " ") for line in lines)
    return head.encode("utf-8", "replace") + b"\r\n\r\n" + body

"""Archives as other writers make them: any compression, records of any kind, with digests."""

import base64
import gzip
import hashlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
from fastwarc.warc import WarcRecord, WarcRecordType

DATE = "2026-03-04T05:06:07Z"


def sha1(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()


def record(
    kind: WarcRecordType, url: str, block: bytes, content_type: str, **headers: str
) -> bytes:
    """One record, not compressed. ``block_digest="..."`` states WARC-Block-Digest."""
    made = WarcRecord()
    made.init_headers(kind)
    made.headers.set("WARC-Target-URI", url)
    made.headers.set("WARC-Date", DATE)
    made.headers.set("Content-Type", content_type)
    for name, value in headers.items():
        parts = "-".join(part.capitalize() for part in name.split("_"))
        made.headers.set(f"WARC-{parts}", value)
    made.set_bytes_content(block)
    out = io.BytesIO()
    made.write(out)
    return out.getvalue()


def page(
    url: str, body: bytes, head: bytes = b"Content-Type: text/html\r\n", **headers: str
) -> bytes:
    """A response of status 200 with ``body`` as it came over the wire."""
    block = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body
    kind = "application/http; msgtype=response"
    digests = {"block_digest": sha1(block), "payload_digest": sha1(body)}
    return record(WarcRecordType.response, url, block, kind, **digests | headers)


def text(url: str, body: str, languages: str | None = "eng") -> bytes:
    """The text of a page as a WET file holds it."""
    block = body.encode()
    headers = {"identified_content_language": languages} if languages else {}
    digest = {"block_digest": sha1(block)}
    return record(WarcRecordType.conversion, url, block, "text/plain", **digest | headers)


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def lz4(data: bytes) -> bytes:
    return pa.compress(data, codec="lz4", asbytes=True)


def write(
    path: Path, records: Iterable[bytes], compress: Callable[[bytes], bytes] = gzip.compress
) -> Path:
    """An archive of ``records``, each compressed alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(compress(record) for record in records))
    return path

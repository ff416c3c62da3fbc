"""What every raw record has: an identity, a digest of its payload, and a batch to travel in."""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

Row = Mapping[str, Any]  # one raw record, by column name

_BATCH_BYTES = 8 << 20  # payload bytes after which a batch is handed on: bounds memory
_BATCH_ROWS = 1024  # the same where rows hold no payload: one takes some kilobytes in Python


def doc_id(source: str, uri: str, position: str = "") -> str:
    """Identity of a document: 32 hexadecimal digits that outlive every refresh.

    ``uri`` is the canonical address of the resource and ``position`` the place inside it, such as
    a member's path or a page. Time, archive, offset and the port of a local server have no part in
    it: a page fetched again is the same document, perhaps with another content.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (source, uri, position):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))  # ("ab", "c") is not ("a", "bc")
        digest.update(data)
    return digest.hexdigest()


def payload_digest(payload: bytes) -> str:
    """``sha1:`` and 32 base-32 digits, as WARC-Payload-Digest is commonly written."""
    return "sha1:" + base64.b32encode(hashlib.sha1(payload).digest()).decode()


def to_batches(rows: Iterable[Row], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """``rows`` as Arrow batches of ``schema``: about 8 MiB of payload, at most 1,024 rows."""
    held: list[Row] = []
    num_bytes = 0
    for row in rows:
        held.append(row)
        num_bytes += len(row["payload"] or b"")
        if num_bytes >= _BATCH_BYTES or len(held) >= _BATCH_ROWS:
            yield pa.RecordBatch.from_pylist(held, schema=schema)
            held, num_bytes = [], 0
    if held:
        yield pa.RecordBatch.from_pylist(held, schema=schema)

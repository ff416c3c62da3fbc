"""Undo what HTTP did to a body on its way: chunks and compression, within a size limit.

The limit is on what comes out, so a small body that unfolds into a large one is cut and costs no
more memory than the limit.
"""

import io
import re
import zlib

from fastwarc.stream_io import BrotliReader, ZstdReader

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]{0,1000})?\r\n")  # RFC 9112, 7.1


class CodingError(ValueError):
    """A content coding that nobody here can undo, or a body that is not what it says."""


def decode(body: bytes, codings: str, max_bytes: int) -> tuple[bytes, bool]:
    """``body`` without its ``codings`` (as in Content-Encoding), and whether it was cut.

    A body that is not compressed although it says so is taken as it is: archives are full of
    bodies that were stored decoded under their old headers. Raises CodingError.
    """
    names = [name.strip().lower() for name in codings.split(",") if name.strip()]
    cut = False
    for name in reversed(names):
        body, cut_here = _decode_one(body, name, max_bytes)
        cut = cut or cut_here
    return body[:max_bytes], cut or len(body) > max_bytes


def dechunk(body: bytes) -> bytes:
    """``body`` without chunk headers, as far as it goes, or as it is where it has none."""
    pieces: list[bytes] = []
    at = 0
    while (head := _CHUNK.match(body, at)) is not None:
        size = int(head[1], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[head.end() : head.end() + size])
        at = head.end() + size
        at += 2 if body[at : at + 2] == b"\r\n" else 0
    return b"".join(pieces) if at >= len(body) else body


def _decode_one(body: bytes, name: str, max_bytes: int) -> tuple[bytes, bool]:
    if name == "identity" or not body:
        return body, False
    try:
        match name:
            case "gzip" | "x-gzip":
                out = _inflate(body, 31, max_bytes) if body[:2] == b"\x1f\x8b" else body
            case "deflate":
                out = _deflated(body, max_bytes)
            case "br":
                out = BrotliReader(io.BytesIO(body)).read(max_bytes + 1)
            case "zstd":
                out = ZstdReader(io.BytesIO(body)).read(max_bytes + 1)
            case _:
                raise CodingError(f"content coding {name}")
    except (OSError, zlib.error) as error:
        raise CodingError(f"body is not {name}: {error}") from error
    return out[:max_bytes], len(out) > max_bytes


def _deflated(body: bytes, max_bytes: int) -> bytes:
    """RFC 9110 says zlib; some servers send bare deflate, and browsers take both."""
    try:
        return _inflate(body, 15, max_bytes)
    except zlib.error:
        return _inflate(body, -15, max_bytes)


def _inflate(body: bytes, window_bits: int, max_bytes: int) -> bytes:
    """At most ``max_bytes + 1`` bytes of all members in ``body``."""
    out = b""
    while body and len(out) <= max_bytes:
        stream = zlib.decompressobj(window_bits)
        out += stream.decompress(body, max_bytes + 1 - len(out))
        if not stream.eof:
            if len(out) <= max_bytes:
                raise zlib.error("it ends too early")
            break
        body = stream.unused_data
        if body[:2] != b"\x1f\x8b":
            break
    return out

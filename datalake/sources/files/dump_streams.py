"""What a dump holds between two of its bytes, decompressed, with bzip2 stream by stream."""

import bz2
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa

_CHUNK = 256 << 10  # bytes read at once
_OUT = 1 << 20  # bytes decompressed at once: bounds memory, whatever the ratio
_STREAM = re.compile(rb"BZh[1-9]1AY&SY")  # the first bytes of a bzip2 stream that holds something


@dataclass(frozen=True, slots=True)
class Damage:
    """A hole in what was decompressed."""

    offset: int  # in the file, of the stream that is damaged
    reason: str


def decompressed(file: BinaryIO, start: int, end: int, held_bytes: int) -> Iterator[bytes | Damage]:
    """What lies between two bytes of a file, by the compression that its first bytes tell."""
    file.seek(start)
    magic = file.read(4)
    file.seek(start)
    if magic.startswith(b"BZh"):
        yield from _bz2(file, start, end, held_bytes)
    elif start > 0:
        yield Damage(start, "no stream of bzip2 begins here")
    elif magic.startswith(b"\x1f\x8b"):
        yield from _chunks(gzip.GzipFile(fileobj=file))
    elif magic == b"\x28\xb5\x2f\xfd":
        yield from _chunks(pa.CompressedInputStream(file, "zstd"))
    else:
        yield from _chunks(file)


def _chunks(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes | Damage]:
    while True:
        try:
            chunk = stream.read(_OUT)
        except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the data's
                raise
            yield Damage(0, str(error) or type(error).__name__)
            return
        if not chunk:
            return
        yield chunk


def _bz2(file: BinaryIO, start: int, end: int, held_bytes: int) -> Iterator[bytes | Damage]:
    """Streams one after the other. Behind a damaged one it goes on where the next begins.

    Up to ``held_bytes`` of a stream wait for its check sum, so that no wrong byte gets out.
    """
    at: int | None = start
    while at is not None and at < end:
        decoder, read_to = bz2.BZ2Decompressor(), at
        held: list[bytes] = []
        room = held_bytes
        file.seek(at)
        reason = None
        while not decoder.eof:
            data = file.read(min(_CHUNK, end - read_to)) if decoder.needs_input else b""
            read_to += len(data)
            if decoder.needs_input and not data:
                reason = "ends inside a stream of bzip2"
                break
            try:
                chunk = decoder.decompress(data, _OUT)
            except (OSError, ValueError) as error:
                reason = str(error)
                break
            room -= len(chunk)
            held.append(chunk)
            if room < 0:
                yield from held
                held = []
        if reason is None:
            yield from held
            at = read_to - len(decoder.unused_data)
        else:
            yield Damage(at, reason)
            at = _next_stream(file, at + 1, end)


def _next_stream(file: BinaryIO, start: int, end: int) -> int | None:
    """Where the first stream of bzip2 at or behind ``start`` begins."""
    file.seek(start)
    tail, at = b"", start  # of the first byte of tail
    while at + len(tail) < end:
        data = file.read(min(_CHUNK, end - at - len(tail)))
        if not data:
            break
        data = tail + data
        if found := _STREAM.search(data):
            return at + found.start()
        tail = data[-9:]
        at += len(data) - len(tail)
    return None

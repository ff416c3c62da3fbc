"""Streams of bytes and what undoes their compression, a bounded chunk at a time.

Nothing here trusts a declared size: a decoder gives at most one chunk, however far its input
unfolds, and asks for more input only when it has given all that it holds.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from fastwarc.stream_io import ZstdReader

CHUNK = 256 << 10
# Of one of many short streams; what is behind its end is read once more for the next one.
_FIRST_CHUNK = 1 << 10
# xz -9 needs 65 MiB to be read (its manual); more is asked for by nothing but an attack.
_MAX_DICTIONARY = 128 << 20


# Where a stream is cut, fastwarc's reader drops what it had decoded of the chunk asked for.
_ZSTD_CHUNK = 16 << 10


class DamageError(ValueError):
    """Bytes that are not what they should be. The message says how."""


class Stream:
    """Bytes in order, to be read, looked at ahead and put back; never holds more than asked."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = b""
        self._from = 0  # in ``_held``
        self.at = 0  # bytes read so far

    def read(self, num_bytes: int = CHUNK) -> bytes:
        """The next ``num_bytes``, fewer only at the end."""
        parts = []
        while num_bytes:
            if self._from >= len(self._held):
                self._held, self._from = next(self._chunks, b""), 0
                if not self._held:
                    break
            part = self._held[self._from : self._from + num_bytes]
            self._from += len(part)
            self.at += len(part)
            num_bytes -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def unread(self, data: bytes) -> None:
        self.at -= len(data)
        start = self._from - len(data)
        if start >= 0 and self._held.startswith(data, start):  # as it came: nothing is copied
            self._from = start
        else:
            self._held, self._from = data + self._held[self._from :], 0

    def peek(self, num_bytes: int) -> bytes:
        data = self.read(num_bytes)
        self.unread(data)
        return data

    def take(self, num_bytes: int) -> Iterator[bytes]:
        """The next ``num_bytes`` in chunks. Raises DamageError where the stream ends before."""
        while num_bytes:
            chunk = self.read(min(num_bytes, CHUNK))
            if not chunk:
                raise DamageError("ends too early")
            num_bytes -= len(chunk)
            yield chunk

    def take_all(self) -> Iterator[bytes]:
        """All that is left, in chunks."""
        while chunk := self.read():
            yield chunk

    def skip(self, num_bytes: int) -> None:
        """Leave ``num_bytes`` out. Raises DamageError where the stream ends before."""
        for _ in self.take(num_bytes):
            pass


def chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def extent(file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    """Bytes ``start`` to ``start + length`` of ``file``, as far as there are any."""
    while length > 0:
        file.seek(start)  # somebody else may have read in between
        chunk = file.read(min(length, CHUNK))
        if not chunk:
            return
        start += len(chunk)
        length -= len(chunk)
        yield chunk


class Decoder(Protocol):
    """What ``bz2`` and ``lzma`` call a decompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Inflater:
    """zlib's decompressor with the manners of the others."""

    def __init__(self, window_bits: int) -> None:
        self._inner = zlib.decompressobj(window_bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.needs_input = not self._inner.unconsumed_tail and len(out) < max_length
        return out


@dataclass(frozen=True, slots=True)
class Codec:
    """A compression: how to begin one stream of it, and how another one after it begins."""

    begin: Callable[[], Decoder] | None  # None is zstd, whose decoder reads the stream itself
    magic: bytes | None = None  # None: only one stream


GZIP = Codec(lambda: _Inflater(31), b"\x1f\x8b\x08")
BZIP2 = Codec(bz2.BZ2Decompressor, b"BZh")
XZ = Codec(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_DICTIONARY), b"\xfd7zXZ\0")
ZSTD = Codec(None, b"\x28\xb5\x2f\xfd")
STREAM_CODECS = (GZIP, BZIP2, XZ, ZSTD)

DEFLATE = Codec(lambda: _Inflater(-15))
ONE_BZIP2 = Codec(bz2.BZ2Decompressor)


def codec_of(head: bytes) -> Codec | None:
    """The compression of a stream that begins with ``head``."""
    return next((c for c in STREAM_CODECS if c.magic and head.startswith(c.magic)), None)


def decoded(stream: Stream, codec: Codec) -> Iterator[bytes]:
    """What ``stream`` unfolds to, in chunks of at most ``CHUNK`` bytes. Raises DamageError.

    Streams that follow each other are one, as for gzip; what else follows is left unread.
    """
    if codec.begin is None:
        yield from _decoded_zstd(stream)
        return
    decoder = codec.begin()
    num_bytes = _FIRST_CHUNK
    while True:
        data = stream.read(num_bytes) if decoder.needs_input else b""
        num_bytes = min(2 * num_bytes, CHUNK)
        if decoder.needs_input and not data:
            raise DamageError("ends too early")
        try:
            out = decoder.decompress(data, CHUNK)
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
            raise DamageError(f"damaged: {error}") from error
        if out:
            yield out
        if decoder.eof:
            stream.unread(decoder.unused_data)
            if codec.magic is None or stream.peek(len(codec.magic)) != codec.magic:
                return
            decoder, num_bytes = codec.begin(), _FIRST_CHUNK


class _Readable:
    """A stream as the file that fastwarc's readers ask for."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.error: Exception | None = None  # which C would not hand on as it is

    def read(self, num_bytes: int = CHUNK) -> bytes:
        try:
            return self._stream.read(num_bytes if num_bytes > 0 else CHUNK)
        except Exception as error:
            self.error = error
            return b""

    def tell(self) -> int:
        return self._stream.at

    def seek(self, *_: int) -> int:
        raise OSError("a stream goes forward only")

    def close(self) -> None:
        """Nothing to close: the stream is the caller's."""


def _decoded_zstd(stream: Stream) -> Iterator[bytes]:
    source = _Readable(stream)
    reader = ZstdReader(source)
    while True:
        try:
            out = reader.read(_ZSTD_CHUNK)
        except (OSError, ValueError, MemoryError) as error:
            raise source.error or DamageError(f"damaged: {error}") from error
        if source.error is not None:
            raise source.error
        if not out:
            return
        yield out

"""Archives for tests, as the standard library writes them, and as no library would."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping

from fastwarc.stream_io import ZstdWriter


def zstd(data: bytes) -> bytes:
    out = io.BytesIO()
    with ZstdWriter(out) as writer:
        for at in range(0, len(data), 1 << 20):  # of more than 8 MiB at once it loses the rest
            writer.write(data[at : at + (1 << 20)])
    return out.getvalue()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 2, 29, 12, 30, 2)), data, method)
    return out.getvalue()


def tarred(files: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    return tar_of([(tarfile.TarInfo(name), data) for name, data in files.items()], form)


def tar_of(
    headers: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in headers:
            info.size, info.mtime = len(data), 1_500_000_000
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Pipe(io.RawIOBase):
    """Where a zip must be written without going back: its sizes then follow the data."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.data += bytes(data)
        return len(data)


def streamed_zip(files: Mapping[str, bytes]) -> bytes:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return pipe.data


def overlapping_zip(num_entries: int, data: bytes) -> bytes:
    """One body that every entry of the directory claims as its own."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = compressor.compress(data) + compressor.flush()
    sizes = (zlib.crc32(data), len(body), len(data))
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 33, *sizes, 1, 0) + b"a" + body
    directory = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 33, *sizes, 4, 0, 0, 0, 0, 0, 0)
        + b"%04d" % number
        for number in range(num_entries)
    )
    counts = (num_entries, num_entries, len(directory), len(local), 0)
    return local + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *counts)


def patched(archive: bytes, field: str, value: int) -> bytes:
    """A zip of one member with a ``field`` of its directory, and of its local header, changed."""
    data = bytearray(archive)
    width, local, central = {
        "flags": ("<H", 6, 8),
        "method": ("<H", 8, 10),
        "length": ("<L", 18, 20),
        "size": ("<L", 22, 24),
        "header": ("<L", None, 42),
    }[field]
    if local is not None:
        struct.pack_into(width, data, local, value)
    struct.pack_into(width, data, data.rfind(b"PK\x01\x02") + central, value)
    return bytes(data)

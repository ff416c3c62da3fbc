"""The entries of a tar file, read as a stream (POSIX pax, and GNU tar before it).

The standard library takes long names and extended headers into memory whatever their length, and
keeps every entry that it has seen; here only the header blocks are its own.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from datalake.sources.archives.names import moment
from datalake.sources.archives.unpacking import DamageError, Stream

BLOCK = tarfile.BLOCKSIZE
_NOTHING = b"\0" * BLOCK
_MAX_HEADER = 1 << 20  # of an extended header; names need a few hundred bytes
_RECORD = re.compile(rb"(\d{1,7}) ([^=\n]{1,200})=")
_PAX_HEADERS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_HEADERS = (
    *_PAX_HEADERS,
    tarfile.XGLTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

Kind = Literal["file", "folder", "link", "device", "sparse file", "unknown type of member"]


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One member as declared. Its data are what comes next in the stream."""

    name: str
    kind: Kind
    num_bytes: int
    modified_at: datetime | None


def is_tar(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a tar file; one of zeros is an empty one."""
    if head == _NOTHING:
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def entries(stream: Stream) -> Iterator[TarEntry]:
    """Entries in their order. What a caller leaves of the data of one is skipped.

    Raises DamageError where a header is none or the end is missing: nothing after it can be found.
    """
    long_name: str | None = None  # of the next member, from the headers before it
    extended: dict[str, str] = {}
    while True:
        info = _header(stream)
        if info is None:
            return
        size = _number(extended.get("size"), info.size)
        if info.type in _HEADERS:
            data = stream.read(size) if size <= _MAX_HEADER else b""
            stream.skip(size - len(data) + -size % BLOCK)
            if size > _MAX_HEADER:
                long_name = ".."  # the member that follows has no name that we know
            elif info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif info.type in _PAX_HEADERS:
                extended = _extended(data)
            continue
        kind = _kind(info, extended)
        if kind in ("folder", "link", "device"):
            size = 0  # whatever they say, no data follow
        end = stream.at + size + -size % BLOCK
        yield TarEntry(
            name=extended.get("path") or long_name or info.name,
            kind=kind,
            num_bytes=size,
            modified_at=moment(_seconds(extended.get("mtime"), info.mtime)),
        )
        stream.skip(end - stream.at)
        long_name, extended = None, {}


def _header(stream: Stream) -> tarfile.TarInfo | None:
    """The next header block, None at the end mark."""
    block = stream.read(BLOCK)
    if block == _NOTHING:
        return None
    if len(block) < BLOCK:
        raise DamageError("ends too early")
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise DamageError(f"has a damaged header: {error}") from error
    if info.size < 0:
        raise DamageError("has a damaged header: negative size")
    return info


def _kind(info: tarfile.TarInfo, extended: dict[str, str]) -> Kind:
    if info.type == tarfile.GNUTYPE_SPARSE or any(k.startswith("GNU.sparse") for k in extended):
        return "sparse file"
    if info.isreg():
        return "file"
    if info.isdir():
        return "folder"
    if info.issym() or info.islnk():
        return "link"
    return "device" if info.type in tarfile.SUPPORTED_TYPES else "unknown type of member"


def _extended(data: bytes) -> dict[str, str]:
    """Records of an extended header, ``"<length> <key>=<value>\\n"`` each (POSIX, pax)."""
    found = {}
    at = 0
    while (match := _RECORD.match(data, at)) is not None:
        end = at + int(match[1])
        if end <= match.end():
            break
        value = data[match.end() : end - 1]
        found[match[2].decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at = end
    return found


def _number(said: str | None, otherwise: int) -> int:
    return int(said) if said is not None and said.isdecimal() else otherwise


def _seconds(said: str | None, otherwise: float) -> float:
    try:
        return float(said) if said else otherwise
    except ValueError:
        return otherwise

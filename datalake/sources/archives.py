"""Members of untrusted archives: zip, tar, and files under gzip, bzip2, xz or zstd.

Everything is read as a stream, nothing is written, and no declared size is believed. What is not
safe costs its member, or the rest of its archive where nothing after it can be trusted, and is
counted with its reason: links, devices, paths that lead out, encryption, bombs by ratio, number,
size or depth, entries that overlap (Fifield 2019, "A better zip bomb").
"""

import io
import re
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from pydantic import Field

from datalake.config import Config
from datalake.sources import zip_entries
from datalake.sources.report import Report
from datalake.sources.unpacking import (
    DEFLATE,
    ONE_BZIP2,
    Codec,
    DamageError,
    Stream,
    chunks,
    codec_of,
    decoded,
    extent,
)
from datalake.sources.zip_entries import Entry

JOINT = "!/"  # between an archive and its member, as in the addresses of jar files

_UNSUPPORTED = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar"}
_NAME = re.compile(
    r"\.(?:zip|tar|tgz|tbz2?|txz|tzst|gz|bz2|xz|zst|7z|rar)\Z",
    re.IGNORECASE,
)
_TARRED = re.compile(r"\.(tgz|tbz2?|txz|tzst)\Z", re.IGNORECASE)
_UNSAFE = re.compile(r"\A/|\A[A-Za-z]:|\\|[\x00-\x1f\x7f]")
_MAX_PATH = 4096  # PATH_MAX of Linux
_MAX_HEADER = 1 << 20  # of a tar's extended header; names need a few hundred bytes
# Below this the ratio is not looked at: it costs little, and a short file of blanks or of one
# repeated line is no attack.
_RATIO_FLOOR = 16 << 20
_BLOCK = tarfile.BLOCKSIZE
_NOTHING = b"\0" * _BLOCK


class Bounds(Config):
    """What an archive, with all archives inside it, may cost."""

    # Large source trees, such as Linux, hold under 100,000 files.
    max_members: int = Field(default=200_000, gt=0)
    max_member_bytes: int = Field(
        default=64 << 20, gt=0
    )  # held in memory; a text of a person is smaller
    # Bounds the time, about three minutes; arXiv's bundles and source releases are below 1 GiB.
    max_total_bytes: int = Field(default=16 << 30, gt=0)
    # Deflate ends at 1032 (zlib's notes); text that a person wrote seldom passes 20.
    max_ratio: float = Field(default=200.0, gt=1)
    max_depth: int = Field(default=3, gt=0)  # archives in archives; 1 opens none of those inside


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive."""

    path: str  # POSIX, relative, safe; of an archive inside, ``inner.zip!/path``
    payload: bytes
    modified_at: datetime | None = None
    offset: int = 0  # first byte in the file, where it lies there in one piece, else 0
    length: int = 0  # extent in the file, compressed as it is there, else 0


def is_archive(name: str) -> bool:
    """Whether ``name`` is one of an archive. Of 7z and rar, members are not read but counted."""
    return _NAME.search(name) is not None


def members(
    file: BinaryIO,
    name: str,
    bounds: Bounds,
    report: Report,
    *,
    nested: bool = True,
    wanted: Callable[[str], bool] | None = None,
) -> Iterator[Member]:
    """Members of the archive in ``file`` (seekable), in the order of their data.

    What is not safe or not whole is counted in ``report``. Archives inside are opened, unless
    ``nested`` is off: then they are members like others. Paths that are not ``wanted`` are neither
    read nor counted; that is asked of an archive inside too.
    """
    opened = is_archive if nested else lambda path: False
    yield from _Walk(name, bounds, report, opened, wanted).walk(file)


def read_member(path: str, member: str, bounds: Bounds | None = None) -> bytes:
    """The payload that ``members`` gave for ``member`` of the archive at ``path``, a ``file`` URI
    or not.

    Raises FileNotFoundError where there is no such member, or none within ``bounds``.
    """
    if path.startswith("file:"):
        path = unquote(urlsplit(path).path)
    report = Report(path, say=lambda line: None)

    def leads_there(inner: str) -> bool:
        return inner == member or member.startswith(inner + JOINT)

    walk = _Walk(
        path,
        bounds or Bounds(),
        report,
        opened=lambda inner: is_archive(inner) and inner != member,
        wanted=leads_there,
    )
    with Path(path).open("rb") as file:
        for found in walk.walk(file):
            if found.path == member:
                return found.payload
    raise FileNotFoundError(f"{path} has no member {member}")


def safe_path(name: str) -> str | None:
    """``name`` without ``.`` and empty parts, or None where it is no path below a folder."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if _UNSAFE.search(name) or ".." in parts or not parts or len(name) > _MAX_PATH:
        return None
    return "/".join(parts)


def moment(seconds: float) -> datetime | None:
    """The time of a file's stamp, None where no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


class _BombError(Exception):
    """What is being unpacked costs too much."""


class _SpentError(Exception):
    """The outermost archive has cost all that it may."""


class _Walk:
    """One archive and all inside it, which share its bounds. Paths are full, prefix included."""

    def __init__(
        self,
        name: str,
        bounds: Bounds,
        report: Report,
        opened: Callable[[str], bool],
        wanted: Callable[[str], bool] | None,
    ) -> None:
        self._name = name
        self._bounds = bounds
        self._report = report
        self._opened = opened
        self._wanted = wanted
        self._members = 0
        self._bytes = 0
        self._seen: set[str] = set()

    def walk(self, file: BinaryIO) -> Iterator[Member]:
        try:
            yield from self._archive(Stream(chunks(file)), file, self._name, "", 1)
        except _SpentError as reason:
            self._report.fail(str(reason), self._name)

    def _archive(
        self, stream: Stream, file: BinaryIO | None, name: str, prefix: str, depth: int
    ) -> Iterator[Member]:
        """Members of one archive: what is wrong with it ends here."""
        case = self._case(prefix.removesuffix(JOINT))
        try:
            yield from self._unpack(stream, file, name, prefix, depth)
        except DamageError as error:
            self._report.damage(f"{case} {error}")
        except _BombError as reason:
            self._report.fail(str(reason), case)

    def _unpack(
        self, stream: Stream, file: BinaryIO | None, name: str, prefix: str, depth: int
    ) -> Iterator[Member]:
        head = stream.peek(_BLOCK)
        codec = codec_of(head)
        if codec is not None:
            stream, file = Stream(self._expand(stream, codec)), None
            if not _is_tar(stream.peek(_BLOCK)):
                path = prefix + safe_name(_without_suffix(name))
                yield from self._give(path, stream, None, depth)
                return
            head = stream.peek(_BLOCK)
        if _is_tar(head):
            yield from self._tar(stream, prefix, depth, whole=file is not None)
        elif head[:4] in (zip_entries.LOCAL_MAGIC, zip_entries.END_MAGIC) or (
            name.lower().endswith(".zip") and head
        ):
            yield from self._zip(file or self._hold(stream), prefix, depth, whole=file is not None)
        else:
            kinds = (kind for magic, kind in _UNSUPPORTED.items() if head.startswith(magic))
            kind = next(kinds, None)
            reason = f"archive type .{kind} not supported" if kind else "not an archive inside"
            self._report.fail(reason, self._case(prefix.removesuffix(JOINT)))

    def _give(
        self,
        path: str,
        stream: Stream,
        modified_at: datetime | None,
        depth: int,
        place: tuple[int, int] = (0, 0),
    ) -> Iterator[Member]:
        """The member at ``path``, or the members in it."""
        if self._wanted is not None and not self._wanted(path):
            return
        if path in self._seen:
            self._report.skip("duplicate name in an archive")
            return
        self._seen.add(path)
        if self._opened(path):
            if depth >= self._bounds.max_depth:
                self._report.fail("archive nested deeper than max_depth", self._case(path))
                return
            yield from self._archive(stream, None, path, path + JOINT, depth + 1)
            return
        payload = stream.read(self._bounds.max_member_bytes + 1)
        if len(payload) > self._bounds.max_member_bytes:
            self._report.fail("member larger than max_member_bytes", self._case(path))
            return
        yield Member(path, payload, modified_at, *place)

    def _tar(self, stream: Stream, prefix: str, depth: int, whole: bool) -> Iterator[Member]:
        long_name: str | None = None  # of the next member, from the headers before it
        extended: dict[str, str] = {}
        while True:
            block = stream.read(_BLOCK)
            if block == _NOTHING:
                return
            if len(block) < _BLOCK:
                raise DamageError("ends too early")
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise DamageError(f"has a damaged header: {error}") from error
            self._count()
            size = _number(extended.get("size"), info.size)
            if size < 0:
                raise DamageError("has a damaged header: negative size")
            if info.type in _TAR_HEADERS:
                data = stream.read(size) if size <= _MAX_HEADER else b""
                stream.skip(size - len(data) + -size % _BLOCK)
                if size > _MAX_HEADER:
                    long_name = ".."  # the member that follows has no name that we know
                elif info.type == tarfile.GNUTYPE_LONGNAME:
                    long_name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
                elif info.type in _PAX_HEADERS:
                    extended = _extended(data)
                continue
            name = extended.get("path") or long_name or info.name
            if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES:
                end = stream.at + size + -size % _BLOCK
                path = self._tar_path(info, name, extended, prefix)
                if path is not None:
                    place = (stream.at, size) if whole else (0, 0)
                    part = Stream(stream.take(size))
                    modified_at = moment(_seconds(extended.get("mtime"), info.mtime))
                    yield from self._give(path, part, modified_at, depth, place)
                stream.skip(end - stream.at)
            elif not info.isdir():
                what = "link" if info.issym() or info.islnk() else "device"
                self._report.skip(f"{what} in an archive")
            long_name, extended = None, {}

    def _tar_path(
        self, info: tarfile.TarInfo, name: str, extended: dict[str, str], prefix: str
    ) -> str | None:
        """Full path of a regular member, None where it is left out."""
        if info.type == tarfile.GNUTYPE_SPARSE or any(k.startswith("GNU.sparse") for k in extended):
            self._report.fail("sparse file in an archive", self._case(prefix + name))
        elif not info.isreg():
            self._report.skip("unknown type of member in an archive")
        else:
            return self._path(name, prefix)
        return None

    def _zip(self, file: BinaryIO, prefix: str, depth: int, whole: bool) -> Iterator[Member]:
        left = self._bounds.max_members - self._members
        found = zip_entries.entries(file, left)
        if found is None:
            yield from self._zip_without_end(file, prefix, depth, whole)
            return
        listed, complete = found
        size = file.seek(0, io.SEEK_END)
        end = 0  # of the data of the entries before
        for entry in listed:
            self._count()
            path = self._zip_path(entry, prefix)
            if path is None:
                continue
            try:
                start = zip_entries.data_start(file, entry)
            except DamageError as error:
                self._report.fail(f"member whose {error}", self._case(path))
                continue
            length = entry.length or 0
            if entry.header < end:
                self._report.fail("overlapping members", self._case(path))
                continue
            if start + length > size:
                self._report.fail("damaged member", f"{self._case(path)} ends too early")
                continue
            end = start + length
            place = (start, length) if whole else (0, 0)
            data = Stream(extent(file, start, length))
            yield from self._zip_member(entry, path, data, depth, place)
        if not complete:
            raise _SpentError("archive of more than max_members")

    def _zip_without_end(
        self, file: BinaryIO, prefix: str, depth: int, whole: bool
    ) -> Iterator[Member]:
        """What is whole of a zip that was cut: local headers in their order, as far as they go."""
        size = file.seek(0, io.SEEK_END)
        at: int | None = 0
        while at is not None and (found := zip_entries.local_entry(file, at)) is not None:
            entry, start = found
            self._count()
            length = size - start if entry.length is None else entry.length
            data = Stream(extent(file, start, length))
            path = self._zip_path(entry, prefix)
            if start + length > size:
                break
            if path is not None:
                place = (start, length) if whole and entry.length is not None else (0, 0)
                yield from self._zip_member(entry, path, data, depth, place)
            if entry.length is None:
                if path is None or not data.at:
                    break  # where its data end is not known
                length = data.at
            at = zip_entries.next_header(file, start + length)
        raise DamageError("ends too early: its central directory is missing")

    def _zip_member(
        self, entry: Entry, path: str, data: Stream, depth: int, place: tuple[int, int]
    ) -> Iterator[Member]:
        try:
            stream = Stream(self._zip_data(entry, data))
            yield from self._give(path, stream, entry.modified_at, depth, place)
        except DamageError as error:
            self._report.fail("damaged member", f"{self._case(path)} {error}")
        except _BombError as reason:
            self._report.fail(str(reason), self._case(path))

    def _zip_path(self, entry: Entry, prefix: str) -> str | None:
        """Full path of an entry that can be read, None where it is left out."""
        if entry.name.endswith("/"):
            return None  # a folder
        case = self._case(prefix + entry.name)
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFLNK:
            self._report.skip("link in an archive")
        elif kind not in (0, stat.S_IFREG):
            self._report.skip("device in an archive")
        elif entry.encrypted:
            self._report.fail("encrypted member", case)
        elif entry.method not in _ZIP_METHODS:
            self._report.fail(f"zip method {entry.method} not supported", case)
        else:
            return self._path(entry.name, prefix)
        return None

    def _zip_data(self, entry: Entry, data: Stream) -> Iterator[bytes]:
        codec = _ZIP_METHODS[entry.method]
        crc = 0
        for chunk in data.take_all() if codec is None else self._expand(data, codec):
            crc = zlib.crc32(chunk, crc)
            yield chunk
        if entry.length is not None and codec is None and data.at < entry.length:
            raise DamageError("ends too early")
        if entry.crc is not None and crc != entry.crc:
            raise DamageError("checksum is wrong")

    def _path(self, name: str, prefix: str) -> str | None:
        path = safe_path(_readable(name))
        if path is None:
            self._report.fail("unsafe path in an archive", self._case(prefix + repr(name)[:200]))
            return None
        return prefix + path

    def _expand(self, stream: Stream, codec: Codec) -> Iterator[bytes]:
        """What ``stream`` unfolds to, while its ratio and the sum over all allow."""
        num_bytes, began = 0, stream.at
        for chunk in decoded(stream, codec):
            num_bytes += len(chunk)
            self._bytes += len(chunk)
            if self._bytes > self._bounds.max_total_bytes:
                raise _SpentError("archive of more than max_total_bytes")
            ratio = num_bytes / max(stream.at - began, 1)
            if num_bytes > _RATIO_FLOOR and ratio > self._bounds.max_ratio:
                raise _BombError("compressed further than max_ratio")
            yield chunk

    def _hold(self, stream: Stream) -> BinaryIO:
        """A zip inside an archive, in memory: its directory is at its end."""
        data = stream.read(self._bounds.max_member_bytes + 1)
        if len(data) > self._bounds.max_member_bytes:
            raise _BombError("member larger than max_member_bytes")
        return io.BytesIO(data)

    def _count(self) -> None:
        self._members += 1
        if self._members > self._bounds.max_members:
            raise _SpentError("archive of more than max_members")

    def _case(self, path: str) -> str:
        return f"{self._name}{JOINT}{path}" if path else self._name


_ZIP_METHODS: dict[int, Codec | None] = {0: None, 8: DEFLATE, 12: ONE_BZIP2}
_PAX_HEADERS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_TAR_HEADERS = (
    *_PAX_HEADERS,
    tarfile.XGLTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def safe_name(name: str) -> str:
    """The last part of ``name``, which may be a path of this machine."""
    return safe_path(PurePosixPath(name.replace("\\", "/")).name) or "content"


def _without_suffix(name: str) -> str:
    if _TARRED.search(name):
        return _TARRED.sub(".tar", name)
    return _NAME.sub("", name) or name


def _is_tar(head: bytes) -> bool:
    if head == _NOTHING:
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _extended(data: bytes) -> dict[str, str]:
    """Records of an extended header, ``"<length> <key>=<value>\\n"`` each (POSIX, pax)."""
    found = {}
    while (match := re.match(rb"(\d{1,7}) ([^=]+)=", data)) is not None:
        length = int(match[1])
        if length <= match.end() - 1:
            break
        value = data[match.end() : length - 1]
        found[match[2].decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[length:]
    return found


def _readable(name: str) -> str:
    """``name`` with bytes that are not UTF-8 read as Latin-1, so that it can be stored."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("latin-1")
    return name


def _number(said: str | None, otherwise: int) -> int:
    return int(said) if said is not None and said.isdecimal() else otherwise


def _seconds(said: str | None, otherwise: float) -> float:
    try:
        return float(said) if said else otherwise
    except ValueError:
        return otherwise

"""The walk through one untrusted archive and all archives inside it, within shared bounds.

What is not safe costs its member, or the rest of its archive where nothing after it can be trusted,
and is counted with its reason.
"""

import io
import stat
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import BinaryIO

from datalake.sources.archives import tar_entries, zip_entries
from datalake.sources.archives.names import JOINT, Bounds, Member, readable, safe_path, single_name
from datalake.sources.archives.tar_entries import BLOCK, is_tar
from datalake.sources.archives.unpacking import (
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
from datalake.sources.archives.zip_entries import Entry
from datalake.sources.report import Report

_UNSUPPORTED = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar"}
_ZIP_METHODS: dict[int, Codec | None] = {0: None, 8: DEFLATE, 12: ONE_BZIP2}
# Below this the ratio is not looked at: it costs little, and a short file of blanks or of one
# repeated line is no attack.
_RATIO_FLOOR = 16 << 20


class _BombError(Exception):
    """What is being unpacked costs too much."""


class _SpentError(Exception):
    """The outermost archive has cost all that it may."""


class Walk:
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
        head = stream.peek(BLOCK)
        codec = codec_of(head)
        if codec is not None:
            stream, file = Stream(self._expand(stream, codec)), None
            if not is_tar(stream.peek(BLOCK)):
                path = prefix + single_name(name)
                yield from self._give(path, stream, None, depth)
                return
            head = stream.peek(BLOCK)
        if is_tar(head):
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
        for entry in tar_entries.entries(stream):
            self._count()
            if entry.kind == "sparse file":
                self._report.fail("sparse file in an archive", self._case(prefix + entry.name))
            elif entry.kind not in ("file", "folder"):
                self._report.skip(f"{entry.kind} in an archive")
            elif entry.kind == "file" and (path := self._path(entry.name, prefix)) is not None:
                place = (stream.at, entry.num_bytes) if whole else (0, 0)
                part = Stream(stream.take(entry.num_bytes))
                yield from self._give(path, part, entry.modified_at, depth, place)

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
        path = safe_path(readable(name))
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

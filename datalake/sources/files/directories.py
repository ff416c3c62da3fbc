"""Documents of a folder tree: pages, Markdown, text, notebooks, Office documents, mail, archives.

A record is a file, a member of an archive or a message of a mailbox. Its address is that of the
file, below ``base`` where the folder has an address of its own, so it is the same on every machine.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal
from urllib.parse import quote, unquote_to_bytes, urlsplit

from pydantic import Field

from datalake.config import Refusal
from datalake.licences import by_recipe
from datalake.sources.archives.members import Bounds, is_archive, members, read_member
from datalake.sources.archives.names import JOINT, moment
from datalake.sources.files.folder_trees import File, Selection, files, hidden, open_regular
from datalake.sources.files.mailboxes import messages
from datalake.sources.report import Report
from datalake.sources.source import Event, Piece, Place, Record, Refresh, SourceConfig, Unchanged
from datalake.transforms.file_types import (
    HEAD_BYTES,
    MAIL,
    MAILBOX,
    may_be_read,
    media_type,
    suffix_of,
)

_MAX_WATCHED = 1_000_000  # files; stating them takes seconds
_MAX_REASONS = 200  # suffixes counted one by one: names are of strangers
# What was ingested was within the bounds of its recipe, which may have been wider than usual.
_WIDE = Bounds(
    max_members=10_000_000, max_member_bytes=1 << 30, max_total_bytes=1 << 40, max_depth=20
)


class DirectoriesConfig(SourceConfig):
    """Files below one folder. Their licence is the recipe's."""

    table: ClassVar[str] = "raw/directories"
    complete: ClassVar[bool] = True

    kind: Literal["directories"] = "directories"
    folder: str
    include: tuple[str, ...] = ()  # patterns of gitignore(5); none takes all that can be read
    exclude: tuple[str, ...] = ()
    hidden: bool = False  # dot files are settings and caches, seldom text for people
    base: str | None = None  # address that stands for ``folder``; without it file:// URIs
    # A text of 64 MiB is longer than any book; archives and mailboxes are streamed and may be more.
    max_file_bytes: int = Field(default=64 << 20, gt=0)
    # Seconds of reading: pays for a Spark task, and little is lost with it.
    max_piece_bytes: int = Field(default=64 << 20, gt=0)
    max_piece_files: int = Field(default=2000, gt=0)  # as many seconds where files are tiny
    bounds: Bounds = Bounds()

    def watched(self) -> str:
        """Digest of names, sizes and times of all files below the folder."""
        digest = hashlib.blake2b(digest_size=16)
        quiet = Report(self.kind, say=lambda line: None)
        for number, file in enumerate(files(self._root, self._selection, quiet)):
            if number == _MAX_WATCHED:
                break
            digest.update(_line(file))
        return digest.hexdigest()

    def pieces(self, refresh: Refresh) -> list[Piece]:
        """Groups of files in the order of their paths.

        Raises Refusal where the folder holds nothing to read: one that is not mounted would else
        delete all its records.
        """
        if self.base is not None:
            parts = urlsplit(self.base)
            if not parts.scheme or not (parts.netloc or parts.path) or parts.query + parts.fragment:
                rule = "an absolute address without query and fragment"
                raise Refusal(f"base must be {rule}, got {self.base!r}")
        found = list(self._files(refresh.report)) if Path(self._root).is_dir() else []
        if not found:
            rule = "a folder with at least one file to read"
            raise Refusal(f"folder must be {rule}, got {self.folder!r}")
        found.sort(key=lambda file: os.fsencode(file.name))
        return list(self._grouped(found))

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        """Records of the files. What cannot be read now stays as an earlier snapshot has it."""
        before = _Before(refresh)
        for path, name in piece.detail["files"]:
            uri = self.uri(path, name)
            given: set[str] = set()
            losses = _losses(refresh.report)
            try:
                with open_regular(path) as file:
                    for record in _Reading(self, refresh, path, name).read(file):
                        given.add(record.position)
                        yield record
            except FileNotFoundError:
                refresh.report.skip("gone since it was listed")
                continue
            except OSError as error:
                refresh.report.fail("unreadable", f"{path}: {error.strerror or error}")
            if _losses(refresh.report) > losses:
                for position in before.positions(uri) - given:  # lost, which is not gone
                    yield Unchanged(uri, position)

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        """The payload at ``place``. Raises OSError where it is not there any more."""
        path = place.archive
        if path.startswith("file://"):
            path = os.fsdecode(unquote_to_bytes(path.removeprefix("file://")))
        if is_archive(path):
            return _read_inside(path, place.member)
        with Path(path).open("rb") as file:
            file.seek(place.offset)
            payload = file.read(place.length)
        if len(payload) != place.length:
            raise OSError(f"{path} must have {place.length} bytes at {place.offset}")
        return payload

    def uri(self, path: str, name: str) -> str:
        """Address of the file ``path``, which is ``name`` below the folder."""
        if self.base is None:
            return "file://" + quote(os.fsencode(path))
        return f"{self.base.rstrip('/')}/{quote(os.fsencode(name))}"

    @property
    def _root(self) -> str:
        return os.path.realpath(Path(self.folder).expanduser())

    @property
    def _selection(self) -> Selection:
        return Selection(self.include, self.exclude, self.hidden)

    def _files(self, report: Report) -> Iterator[File]:
        """Files that may be read, by name and size."""
        for file in files(self._root, self._selection, report):
            if file.num_bytes == 0:
                report.skip("empty")
            elif is_archive(file.name):
                yield file
            elif not may_be_read(file.name):
                _skip_type(file.name, report)
            elif file.num_bytes > self.max_file_bytes and suffix_of(file.name) not in _UNBOUNDED:
                report.skip("larger than max_file_bytes")
            else:
                yield file

    def _grouped(self, found: list[File]) -> Iterator[Piece]:
        group: list[File] = []
        num_bytes = 0
        for file in found:
            full = num_bytes + file.num_bytes > self.max_piece_bytes
            if group and (full or len(group) == self.max_piece_files):
                yield self._piece(group, num_bytes)
                group, num_bytes = [], 0
            group.append(file)
            num_bytes += file.num_bytes
        if group:
            yield self._piece(group, num_bytes)

    def _piece(self, group: list[File], num_bytes: int) -> Piece:
        digest = hashlib.blake2b(digest_size=16)
        for file in group:
            digest.update(_line(file))
        first, more = group[0], f" and {len(group) - 1} more" if len(group) > 1 else ""
        return Piece(
            name=f"{_printable(first.name)}{more}",
            uri=f"{self.uri(first.path, first.name)}#{digest.hexdigest()}",
            num_bytes=num_bytes,
            detail={"files": [(file.path, file.name) for file in group]},
        )


_UNBOUNDED = (".mbox", ".mbx")


@dataclass(frozen=True, slots=True)
class _Reading:
    """One file as it is read."""

    config: DirectoriesConfig
    refresh: Refresh
    path: str
    name: str

    def read(self, file: BinaryIO) -> Iterator[Record]:
        report = self.refresh.report
        changed = moment(os.fstat(file.fileno()).st_mtime)
        if is_archive(self.name):
            yield from self._members(file, changed)
            return
        kind = media_type(self.name, file.read(HEAD_BYTES))
        file.seek(0)
        if kind is None:
            _skip_type(self.name, report)
        elif kind == MAILBOX:
            yield from self._messages(file, "", changed)
        else:
            payload = file.read(self.config.max_file_bytes + 1)
            if len(payload) > self.config.max_file_bytes:  # it grew since it was listed
                report.skip("larger than max_file_bytes")
                return
            yield self._record(payload, kind, "", "", (0, len(payload)), changed)

    def _members(self, file: BinaryIO, changed: datetime | None) -> Iterator[Record]:
        report = self.refresh.report
        name = _printable(self.name)
        for member in members(file, name, self.config.bounds, report, wanted=self._wanted):
            kind = media_type(member.path, member.payload[:HEAD_BYTES])
            at = member.modified_at or changed
            if not member.payload:
                report.skip("empty")
            elif kind is None:
                _skip_type(member.path, report)
            elif kind == MAILBOX:
                yield from self._messages(io.BytesIO(member.payload), member.path, at)
            else:
                place = (member.offset, member.length)
                yield self._record(member.payload, kind, member.path, member.path, place, at)

    def _wanted(self, member: str) -> bool:
        if not self.config.hidden and hidden(member):
            self.refresh.report.skip("hidden")
            return False
        if is_archive(member) or may_be_read(member):
            return True
        _skip_type(member, self.refresh.report)
        return False

    def _messages(self, file: BinaryIO, member: str, at: datetime | None) -> Iterator[Record]:
        """Messages of the mailbox in ``file``, which is ``member`` of an archive where not ""."""
        for message in messages(file, self.config.max_file_bytes):
            if message.payload is None:
                self.refresh.report.skip("larger than max_file_bytes")
                continue
            inside = f"{member}{JOINT}{message.position}" if member else message.position
            place = (0, 0) if member else (message.offset, message.length)
            yield self._record(message.payload, MAIL, inside, inside, place, at)

    def _record(
        self,
        payload: bytes,
        kind: str,
        position: str,
        member: str,
        place: tuple[int, int],
        changed: datetime | None,
    ) -> Record:
        licence = self.config.licence
        self.refresh.report.keep(len(payload))
        name = _printable(self.name)
        inner = member if is_archive(self.name) else ""
        return Record(
            uri=self.config.uri(self.path, self.name),
            position=position,
            payload=payload,
            place=Place(
                archive=_storable(self.path), member=member, offset=place[0], length=place[1]
            ),
            fetched_at=datetime.now(UTC),
            content_type=kind,
            licence=by_recipe(licence),
            own={"path": f"{name}{JOINT}{inner}" if inner else name, "modified_at": changed},
        )


def _losses(report: Report) -> int:
    return sum(report.failed.values()) + len(report.damages)


class _Before:
    """Positions of the records of an earlier snapshot, read once and where there is need only."""

    def __init__(self, refresh: Refresh) -> None:
        self._refresh = refresh
        self._found: dict[str, set[str]] | None = None

    def positions(self, uri: str) -> set[str]:
        if self._found is None:
            self._found = {}
            rows: list[dict[str, Any]] = self._refresh.previous.rows(
                ["uri", "position"]
            ).to_pylist()
            for row in rows:
                self._found.setdefault(row["uri"], set()).add(row["position"])
        return self._found.get(uri, set())


def _read_inside(path: str, member: str) -> bytes:
    try:
        return read_member(path, member, _WIDE)
    except FileNotFoundError:
        mailbox, joint, position = member.rpartition(JOINT)
        if not joint:
            raise
    payload = read_member(path, mailbox, _WIDE)
    for message in messages(io.BytesIO(payload), len(payload)):
        if message.position == position and message.payload is not None:
            return message.payload
    raise FileNotFoundError(f"{path} has no member {member}")


def _skip_type(name: str, report: Report) -> None:
    """Count a file that is not read, by its suffix."""
    reason = f"type {_printable(suffix_of(name))[:17] or 'binary'}"
    if reason not in report.skipped and len(report.skipped) >= _MAX_REASONS:
        reason = "type of another name"
    report.skip(reason)


def _line(file: File) -> bytes:
    return os.fsencode(f"{file.name}\0{file.num_bytes}\0{file.modified_ns}\n")


def _printable(name: str) -> str:
    """``name`` with what is not UTF-8 in it replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def _storable(path: str) -> str:
    """``path``, as a URI where it is not UTF-8."""
    return path if _printable(path) == path else "file://" + quote(os.fsencode(path))

"""Files of one repository to records: what is code, what is known of it, and what is unchanged.

A commit and an archive of source differ in where the bytes come from. What decides and describes
is the same.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Field

from datalake.licence_files import MAX_BYTES, LicenceFiles, is_own, of_file, speaks_of_licences
from datalake.licences import Finding, by_recipe
from datalake.path_patterns import matches
from datalake.sources.archives.members import Bounds, members, safe_path
from datalake.sources.report import Report
from datalake.sources.software import git
from datalake.sources.software.addresses import OptOuts, bare
from datalake.sources.source import Event, Place, Record, Refresh, SourceConfig, Unchanged
from datalake.transforms.code_flags import Attributes, flags_of
from datalake.transforms.code_language import language_of

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_POINTER = 1024  # bytes (specification of Git LFS)
_MAX_CONTEXT = 64 << 20  # bytes of files that speak of licences or attributes, held in memory


class CodeConfig(SourceConfig):
    """Which files of a repository are taken."""

    extensions: tuple[str, ...] | None = None  # without the dot; None takes every text
    languages: tuple[str, ...] | None = None  # as ``code_language`` names them
    max_file_bytes: int = Field(1 << 20, gt=0)  # Chen et al. 2021, arXiv:2107.03374, 3.1
    max_files: int = Field(500_000, gt=0)  # of one repository; Chromium has about 450,000
    # Patterns as in gitignore, for what the rules and .gitattributes do not know.
    generated: tuple[str, ...] = ()
    vendored: tuple[str, ...] = ()
    bounds: Bounds = Bounds()  # of archives


@dataclass(frozen=True, slots=True)
class _Held:
    """What an earlier snapshot says of a file."""

    blob_id: str | None
    licence: str | None
    evidence: str | None
    generated: bool | None
    vendored: bool | None


class Reading:
    """One reading of one repository: what turns files into records, wherever they come from."""

    def __init__(
        self,
        config: CodeConfig,
        refresh: Refresh,
        address: str,
        *,
        revision: str | None,
        licence: str | None,
        opt_outs: OptOuts,
    ) -> None:
        """``licence`` is the recipe's, for what says nothing itself."""
        self.config = config
        self.report = refresh.report
        self.address = address
        self.revision = revision
        self.licences = LicenceFiles(())
        self.attributes = Attributes(())
        self._licence = by_recipe(licence)
        self._opt_outs = opt_outs.within(address)
        self._refresh = refresh
        self._suffixes = tuple(f".{e.lower()}" for e in config.extensions or ())
        self._now = datetime.now(UTC)

    def uri(self, path: str) -> str:
        return f"{self.address}#{quote(path)}"

    def learn(self, files: list[tuple[str, bytes]]) -> None:
        """Take in the files that speak of others."""
        attributes = [(p, b) for p, b in files if p.rpartition("/")[2] == Attributes.FILE]
        self.attributes = Attributes(attributes)
        if not self.attributes.complete:
            self.report.damage(f"{self.address}: too many attributes, the last are not believed")
        self.licences = LicenceFiles((p, b) for p, b in files if speaks_of_licences(p))

    def wants(self, path: str, num_bytes: int | None) -> bool:
        """Whether a file is worth reading; counts it where it is not."""
        reason = None
        if self._suffixes and not path.lower().endswith(self._suffixes):
            reason = "other extension"
        elif self._opt_outs.cover(self.address, path):
            reason = "opted out"
        elif num_bytes == 0:
            reason = "empty"
        elif num_bytes is not None and num_bytes > self.config.max_file_bytes:
            reason = "larger than max_file_bytes"
        if reason is not None:
            self.report.skip(reason)
        return reason is None

    def is_unchanged(self, path: str, blob_id: str) -> bool:
        """Whether an earlier snapshot holds this very content, and all that is said of it."""
        held = self._held.get(self.uri(path))
        if held is None or held.blob_id != blob_id:
            return False
        wanted = self.config.languages
        if wanted is not None and language_of(path) not in wanted:
            return False  # its content decides
        said = self.attributes.of(path)
        if said.get("generated", held.generated) != held.generated:
            return False
        if said.get("vendored", held.vendored) != held.vendored:
            return False
        around = self._around(path)
        return is_own(held.evidence) or held.licence == (around and around.licence)

    def lost(self, path: str) -> Iterator[Event]:
        """Count a file whose content is missing or damaged; it stays as it was held."""
        self.report.fail("object missing or damaged", self.uri(path))
        if self.uri(path) in self._held:
            yield Unchanged(self.uri(path))

    def record(self, path: str, payload: bytes, blob_id: str, place: Place) -> Record | None:
        """The record of a file, None where it is no source code; counts it either way."""
        if (reason := self._is_no_code(path, payload)) is not None:
            self.report.skip(reason)
            return None
        flags = flags_of(path, payload, self.attributes)
        generated = flags.generated or _any(self.config.generated, path)
        vendored = flags.vendored or _any(self.config.vendored, path)
        licence = of_file(payload) or self._around(path)
        self.report.keep(len(payload))
        held = self._held.get(self.uri(path))
        found = (licence and licence.licence, generated, vendored)
        return Record(
            uri=self.uri(path),
            payload=payload,
            place=place,
            fetched_at=self._now,
            licence=licence,
            own={
                "project": bare(self.address),
                "revision": self.revision,
                "path": path,
                "blob_id": blob_id,
                "generated": generated,
                "vendored": vendored,
                "minified": flags.minified,
            },
            restated=held is not None and found != (held.licence, held.generated, held.vendored),
        )

    def _around(self, path: str) -> Finding | None:
        """Licence of a file that says nothing itself."""
        return self.licences.of_folder(path) or self._licence

    def _is_no_code(self, path: str, payload: bytes) -> str | None:
        if not payload:
            return "empty"
        if len(payload) > self.config.max_file_bytes:
            return "larger than max_file_bytes"
        if payload.startswith(_LFS_POINTER) and len(payload) < _MAX_POINTER:
            return "LFS pointer"
        if _is_binary(payload):
            return "binary"
        wanted = self.config.languages
        text = payload[:20_000].decode("utf-8", "replace")
        if wanted is not None and language_of(path, text) not in wanted:
            return "other language"
        return None

    @cached_property
    def _held(self) -> dict[str, _Held]:
        names = ("blob_id", "licence", "licence_evidence", "generated", "vendored")
        rows = self._refresh.previous.rows(["uri", *names])
        begin = f"{self.address}#"
        columns: list[list[Any]] = [rows[name].to_pylist() for name in ("uri", *names)]
        return {
            uri: _Held(*row) for uri, *row in zip(*columns, strict=True) if uri.startswith(begin)
        }


def of_commit(reading: Reading, folder: Path, commit: str, *, is_fetched: bool) -> Iterator[Event]:
    """Events of the files of ``commit`` of the repository in ``folder``. Raises GitError.

    ``is_fetched`` says that it is a clone of ours, which lacks what is too large.
    """
    repository = git.objects_of(folder)
    entries = _entries(reading, repository, commit)
    with git.Blobs(repository) as blobs:
        reading.learn(_context(reading.report, entries, blobs))
        wanted = []
        for path, entry in entries.items():
            if not reading.wants(path, entry.num_bytes):
                continue
            if entry.num_bytes is None and is_fetched:  # left out for that
                reading.report.skip("larger than max_file_bytes")
            elif entry.num_bytes is None:
                yield from reading.lost(path)
            elif reading.is_unchanged(path, entry.object_id):
                yield Unchanged(reading.uri(path))
            else:
                wanted.append((path, entry))
        contents = blobs.each(entry.object_id for _, entry in wanted)
        for (path, entry), payload in zip(wanted, contents, strict=True):
            if payload is None:
                yield from reading.lost(path)
                continue
            place = Place(
                archive=str(folder.absolute()), member=f"{commit}:{path}", length=len(payload)
            )
            if (record := reading.record(path, payload, entry.object_id, place)) is not None:
                yield record


def _entries(reading: Reading, repository: Path, commit: str) -> dict[str, git.Entry]:
    """Files of ``commit`` by path, without what is no file of its own."""
    report, found = reading.report, dict[str, git.Entry]()
    for number, entry in enumerate(git.tree(repository, commit)):
        if number >= reading.config.max_files:
            report.cut = f"max_files {reading.config.max_files}, in {reading.address}"
            break
        try:
            path = entry.path.decode()
        except UnicodeDecodeError:
            report.skip("name is not UTF-8")
            continue
        if entry.is_submodule:
            report.skip("submodule")
        elif entry.is_link:
            report.skip("symbolic link")
        elif safe_path(path) != path:
            report.skip("unsafe path")
        elif path in found:
            report.skip("path twice in a commit")
        else:
            found[path] = entry
    return found


def _context(
    report: Report, entries: dict[str, git.Entry], blobs: git.Blobs
) -> list[tuple[str, bytes]]:
    """Payloads of the files that speak of others."""
    speaking, num_bytes = [], 0
    for path, entry in entries.items():
        if not _speaks(path) or entry.num_bytes is None or entry.num_bytes > MAX_BYTES:
            continue
        num_bytes += entry.num_bytes
        if num_bytes > _MAX_CONTEXT:
            report.damage(f"{path} and licence files after it are not read: over 64 MiB")
            break
        speaking.append(path)
    contents = blobs.each(entries[path].object_id for path in speaking)
    return [(p, c) for p, c in zip(speaking, contents, strict=True) if c is not None]


def of_archive(reading: Reading, path: Path) -> Iterator[Event]:
    """Events of the members of the archive at ``path``.

    It is read twice: a licence may come after the files that it holds for. A folder that holds
    all is no part of the addresses, for it usually names the version.
    """
    top = _learn_from_archive(reading, path)
    report = reading.report
    num_damages = len(report.damages), report.failed.total()

    def wanted(member: str) -> bool:
        return reading.wants(member[len(top) :], None)  # its size is known when it is read

    with path.open("rb") as file:
        for member in members(
            file, str(path), reading.config.bounds, reading.report, nested=False, wanted=wanted
        ):
            name = member.path[len(top) :]
            blob_id = _blob_id(member.payload)
            if reading.is_unchanged(name, blob_id):
                yield Unchanged(reading.uri(name))
                continue
            place = Place(
                archive=str(path.absolute()),
                member=member.path,
                offset=member.offset,
                length=member.length,
            )
            if (record := reading.record(name, member.payload, blob_id, place)) is not None:
                yield record
    if (len(report.damages), report.failed.total()) != num_damages:
        report.cut = f"damaged: {path}"  # what was not seen is not gone


def _learn_from_archive(reading: Reading, path: Path) -> str:
    """Take in what speaks of others; return the folder that holds all: ``name-1.0/`` or none."""
    names: list[str] = []

    def wanted(member: str) -> bool:
        names.append(member)
        return _speaks(member) or _speaks(member.partition("/")[2])

    quiet = Report(reading.report.name, say=lambda line: None)  # the second time counts
    with path.open("rb") as file:
        files = [
            (member.path, member.payload)
            for member in members(
                file, str(path), reading.config.bounds, quiet, nested=False, wanted=wanted
            )
            if len(member.payload) <= MAX_BYTES
        ]
    tops = {name.partition("/")[0] + "/" if "/" in name else "" for name in names}
    top = tops.pop() if len(tops) == 1 else ""
    kept, num_bytes = [], 0
    for name, payload in files:
        num_bytes += len(payload)
        if num_bytes <= _MAX_CONTEXT:
            kept.append((name[len(top) :], payload))
    reading.learn(kept)
    return top


def _speaks(path: str) -> bool:
    return path.rpartition("/")[2] == Attributes.FILE or speaks_of_licences(path)


def _any(patterns: tuple[str, ...], path: str) -> bool:
    return any(matches(pattern, path, below=True) for pattern in patterns)


def _is_binary(payload: bytes) -> bool:
    from datalake.transforms.code_text import DecodingError, decode_source

    if b"\0" not in payload:
        try:
            payload.decode()
        except UnicodeDecodeError:
            pass
        else:
            return False
    try:
        decode_source(payload)
    except DecodingError:
        return True
    return False


def _blob_id(payload: bytes) -> str:
    """The name that git gives a content."""
    return hashlib.sha1(b"blob %d\0" % len(payload) + payload).hexdigest()

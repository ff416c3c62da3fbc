"""PDF files below folders or named by wildcards, as they lie on disk.

A symbolic link is never followed, so nothing outside the tree is read and nothing inside it twice.
What a file says, and under which licence, is read later: here it is bytes with an address.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field

from datalake.config import Refusal
from datalake.licences import by_recipe
from datalake.sources.report import Report
from datalake.sources.source import Event, Piece, Place, Record, Refresh, SourceConfig, Unchanged

CONTENT_TYPE = "application/pdf"
# ISO 32000-1, annex H, note 13: readers accept the header anywhere in the first 1024 bytes.
_HEADER, _HEADER_WITHIN = b"%PDF-", 1024
_WILDCARD = re.compile(r"[*?\[]")


class PdfConfig(SourceConfig):
    """PDF files below folders or named by wildcards. Their licence is theirs, or the recipe's."""

    table: ClassVar[str] = "raw/pdf"
    complete: ClassVar[bool] = True

    kind: Literal["pdf"] = "pdf"
    # Folders (all files named .pdf below them), files, or wildcards: papers/**/*.pdf.
    files: tuple[str, ...] = Field(min_length=1)
    # Address that stands for the one folder of ``files``; without it a file's own file:// URI.
    base: str | None = None
    # A book of 1,000 pages with pictures has 10-50 MB; what is larger is scanned.
    max_file_bytes: int = Field(100 << 20, gt=0)
    # 64 MB are some hundred papers or half a minute of reading: enough to pay for a Spark task,
    # little enough to lose or to repeat.
    max_piece_bytes: int = Field(64 << 20, gt=0)

    def watched(self) -> str:
        """Digest of the names, sizes and times of all files."""
        quiet = Report(self.kind, lambda line: None)
        return _digest(file for entry in self.files for file in _walk(entry, self, quiet))

    def pieces(self, refresh: Refresh) -> list[Piece]:
        """Groups of files in the order of their paths, each of at most ``max_piece_bytes``.

        A file larger than that is a group of its own. Raises Refusal where ``files`` names what is
        not there or holds no PDF file: else an unmounted folder would delete all its records.
        """
        if self.base is not None:
            self._check_base(self.base)
        found: dict[str, _File] = {}
        for number, entry in enumerate(self.files):
            files = list(_walk(entry, self, refresh.report))
            if not files:
                rule = "a folder, a file or a wildcard with at least one PDF file"
                raise Refusal(f"files[{number}] must be {rule}, got {entry!r}")
            for file in files:
                if found.setdefault(file.path, file) is not file:
                    refresh.report.skip("named twice")
        return list(_pieces(sorted(found.values(), key=lambda f: f.path), self.max_piece_bytes))

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        """One record a file. A file that cannot be opened stays as an earlier snapshot has it."""
        licence = by_recipe(self.licence)
        for path, uri in piece.detail["files"]:
            try:
                payload = _read(path, self.max_file_bytes)
            except FileNotFoundError:
                refresh.report.skip("gone since it was listed")
                continue
            except OSError as error:
                refresh.report.fail("unreadable", f"{path}: {error.strerror}")
                if refresh.previous.digest(uri) is not None:
                    yield Unchanged(uri)
                continue
            if len(payload) > self.max_file_bytes:  # it grew since it was listed
                refresh.report.skip("larger than max_file_bytes")
            elif _HEADER not in payload[:_HEADER_WITHIN]:
                refresh.report.fail("not a PDF file", path)
            else:
                refresh.report.keep(len(payload))
                yield Record(
                    uri=uri,
                    payload=payload,
                    place=Place(archive=path, offset=0, length=len(payload)),
                    fetched_at=datetime.now(UTC),
                    content_type=CONTENT_TYPE,
                    licence=licence,
                )

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        """The file's bytes. Raises OSError where it is gone or shorter than it was."""
        with Path(place.archive).open("rb") as file:
            file.seek(place.offset)
            payload = file.read(place.length)
        if len(payload) != place.length:
            raise OSError(f"{place.archive} must have {place.length} bytes, got {len(payload)}")
        return payload

    def _check_base(self, base: str) -> None:
        parts = urlsplit(base)
        if not parts.scheme or not (parts.netloc or parts.path) or parts.query or parts.fragment:
            rule = "an absolute address without query and fragment"
            raise Refusal(f"base must be {rule}, got {base!r}")
        if len(self.files) > 1:  # two folders may hold files of the same name
            rule = "left out where files names several places"
            raise Refusal(f"base must be {rule}, got {base!r} for {len(self.files)}")


@dataclass(frozen=True, slots=True)
class _File:
    path: str  # absolute, without links
    uri: str
    num_bytes: int
    modified: int  # ns


def _walk(entry: str, config: PdfConfig, report: Report) -> Iterator[_File]:
    """Regular files that ``entry`` names, in no order; what is left out is counted."""
    root, wanted = _root(entry)
    root = root.resolve()  # the place itself may be a link: it was asked for
    if not root.is_dir():
        paths = [str(root)] if root.is_file() and wanted is None else []
        root = root.parent
    else:
        paths = _below(str(root), report)
        if wanted is None:
            named = [path for path in paths if path.lower().endswith(".pdf")]
            report.skip("not named .pdf", len(paths) - len(named))
        else:
            start = len(str(root).rstrip("/")) + 1
            named = [path for path in paths if wanted.fullmatch(path[start:])]
        paths = named
    for path in paths:
        try:
            status = os.lstat(path)
        except OSError as error:
            report.fail("unreadable", f"{path}: {error.strerror}")
            continue
        if not stat.S_ISREG(status.st_mode):
            report.skip("neither a file nor a folder")
        elif status.st_size == 0:
            report.skip("empty")
        elif status.st_size > config.max_file_bytes:
            report.skip("larger than max_file_bytes")
        else:
            name = os.path.relpath(path, root)
            yield _File(path, _uri(path, name, config.base), status.st_size, status.st_mtime_ns)


def _root(entry: str) -> tuple[Path, re.Pattern[str] | None]:
    """The folder that ``entry`` starts from, and what the paths below it must match, if a wildcard.

    ``*`` and ``?`` stay inside one part of a path, ``**`` stands for any number of parts.
    """
    parts = Path(entry).expanduser().absolute().parts
    plain = next((n for n, part in enumerate(parts) if _WILDCARD.search(part)), len(parts))
    if plain == len(parts):
        return Path(*parts), None
    pattern = "/".join(parts[plain:])
    translated = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^]]*\])", pattern)
    expression = "".join(
        translated.get(piece)
        or (piece.replace("[!", "[^", 1) if piece.startswith("[") else re.escape(piece))
        for piece in pieces
    )
    return Path(*parts[:plain]), re.compile(expression)


def _below(folder: str, report: Report) -> list[str]:
    """Paths below ``folder`` that are neither folders nor links."""

    def lost(error: OSError) -> None:
        # Without this folder's files the refresh would delete their records.
        report.cut = f"folder that cannot be listed: {error.filename}"

    paths: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=lost):
        report.skip("symbolic link", sum(Path(parent, name).is_symlink() for name in folders))
        here = [Path(parent, name) for name in names]
        files = [str(path) for path in here if not path.is_symlink()]
        report.skip("symbolic link", len(here) - len(files))
        paths += files
    return paths


def _uri(path: str, name: str, base: str | None) -> str:
    if base is None:
        return "file://" + quote(os.fsencode(path))
    return f"{base.rstrip('/')}/{quote(os.fsencode(name))}"


def _pieces(files: list[_File], max_bytes: int) -> Iterator[Piece]:
    group: list[_File] = []
    num_bytes = 0
    for file in files:
        if group and num_bytes + file.num_bytes > max_bytes:
            yield _piece(group)
            group, num_bytes = [], 0
        group.append(file)
        num_bytes += file.num_bytes
    if group:
        yield _piece(group)


def _piece(group: list[_File]) -> Piece:
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    return Piece(
        name=f"{Path(group[0].path).name}{more}",
        uri=f"{group[0].uri}#{_digest(group)}",  # another group is another piece
        num_bytes=sum(file.num_bytes for file in group),
        detail={"files": [(file.path, file.uri) for file in group]},
    )


def _digest(files: Iterator[_File] | list[_File]) -> str:
    lines = sorted(f"{f.uri} {f.num_bytes} {f.modified}" for f in files)
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _read(path: str, max_bytes: int) -> bytes:
    """At most ``max_bytes + 1`` bytes. A link that took the file's place is not followed."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        return file.read(max_bytes + 1)

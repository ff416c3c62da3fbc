"""Papers of arXiv: bundles of LaTeX sources, and the metadata snapshot that says who may use them.

Sources come in bulk as ``arXiv_src_YYMM_NNN.tar``, which holds one ``.gz`` a paper and ``.pdf``
where authors gave no source, or paper by paper. The metadata snapshot is one line of JSON a paper,
some gigabytes in all. It is read once for each state of the file, and divided into months below
the home; a task then holds the months of its own papers alone, about 10 MB each.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from datalake import licences
from datalake.config import Refusal
from datalake.licences import Finding, by_recipe
from datalake.sources.archives.members import Bounds, members, read_member
from datalake.sources.files.local_files import lines_of, named_paths, short_names, state_of
from datalake.sources.report import Report
from datalake.sources.source import Event, Piece, Place, Record, Refresh, SourceConfig

_TAR = re.compile(r"\.tar\Z|src_\d{4}_\d{3}\.tar(\.gz)?\Z")
# 2101.00001v2.tar.gz, arXiv-2101.00001v2.gz, hep-th9901001.gz, math.GT_0309136
_PAPER = re.compile(
    r"(?:arXiv-)?(?:(?P<new>\d{4}\.\d{4,5})|(?P<archive>[a-z]+(?:-[a-z]+)?)(?:\.[A-Z]{2})?[_-]?"
    r"(?P<number>\d{7}))(?P<version>v\d+)?(?P<suffix>\.tar\.gz|\.tgz|\.gz|\.tar|\.tex|\.pdf)?"
)
_DEDICATED = "creativecommons.org/licenses/publicdomain"  # without a version: CC-PDDC
_OWN_LICENCE = re.compile(r"arxiv\.org/licenses/(nonexclusive-distrib/\d\.\d|assumed-[\d-]+)")
_MAX_LINE_BYTES = 4 << 20  # of the metadata; the longest lists of authors take some 100 kB
_BUFFERED_LINES = 50_000  # of the metadata, before they are written to their months


@dataclass(frozen=True, slots=True)
class _Paper:
    """Identifier in today's spelling, and the version that the name of its file tells."""

    name: str
    version: str | None
    suffix: str

    @property
    def month(self) -> str:
        return self.name.rpartition("/")[2][:4]


class ArxivConfig(SourceConfig):
    """Sources of papers, in bulk or one by one, with their licences from the metadata."""

    table: ClassVar[str] = "raw/arxiv"
    complete: ClassVar[bool] = True  # name all tars: a paper in none of them counts as gone

    kind: Literal["arxiv"] = "arxiv"
    # Tars of the bulk data, files of single papers, folders of either, or wildcards.
    files: tuple[str, ...] = Field(min_length=1)
    metadata: str | None = None  # arxiv-metadata-oai-snapshot.json, also .gz or .zst
    # arXiv takes submissions up to 50 MB without asking.
    max_bundle_bytes: int = Field(64 << 20, gt=0)
    # Of papers that lie one by one: as large as one of the bulk data's files is on average.
    max_piece_bytes: int = Field(256 << 20, gt=0)

    def watched(self) -> str:
        """Names, sizes and times of the bundles and the metadata."""
        return state_of(_files(self) + ([_metadata(self.metadata)] if self.metadata else []))

    def pieces(self, refresh: Refresh) -> list[Piece]:
        """One piece a tar, and one for every group of papers that lie alone.

        Reads the metadata, unless it was read as it is. Raises Refusal where files are missing.
        """
        index = None
        if self.metadata is not None:
            index = _index(_metadata(self.metadata), refresh)
        files = _files(self)
        tars = [path for path in files if _TAR.search(path.name) and _paper(path.name) is None]
        found = [
            Piece(
                name=name,
                uri=path.as_uri(),
                num_bytes=path.stat().st_size,
                detail={"index": index, "tar": str(path)},
            )
            for path, name in zip(tars, short_names(tars), strict=True)
        ]
        alone = _newest(sorted(set(files) - set(tars)), refresh.report)
        for group in _groups(alone, self.max_piece_bytes):
            first = group[0]
            found.append(
                Piece(
                    name=f"{first} and {len(group) - 1} more" if len(group) > 1 else str(first),
                    uri=first.as_uri(),
                    num_bytes=sum(path.stat().st_size for path in group),
                    detail={"index": index, "files": [str(path) for path in group]},
                )
            )
        if not found:
            raise Refusal(f"files must hold a bundle of LaTeX sources, got {', '.join(self.files)}")
        return found

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        """One record a paper: its bundle as it is, still compressed."""
        metadata = _Metadata(piece.detail["index"])
        bundles = (
            self._alone(piece, refresh) if "files" in piece.detail else self._tar(piece, refresh)
        )
        for paper, payload, place in bundles:
            known = metadata.of(paper)
            if known is None:
                refresh.report.skip("no metadata: kept without title and licence")
                known = {}
            refresh.report.keep(len(payload))
            yield Record(
                uri=f"https://arxiv.org/abs/{paper.name}",
                payload=payload,
                place=place,
                fetched_at=datetime.now(UTC),
                content_type="application/gzip" if payload[:2] == b"\x1f\x8b" else None,
                licence=self._licence(known.get("license"), refresh.report),
                own={
                    "paper": paper.name,
                    "paper_version": paper.version or known.get("version"),
                    "title": known.get("title"),
                    "categories": known.get("categories"),
                },
            )

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        """The bundle at ``place``. Raises OSError where it is gone or shorter than it was."""
        if place.member and not place.length:
            return read_member(place.archive, place.member)
        with Path(place.archive).open("rb") as file:
            file.seek(place.offset)
            payload = file.read(place.length)
        if len(payload) != place.length:
            raise OSError(f"{place.archive} must have {place.length} bytes, got {len(payload)}")
        return payload

    def _tar(self, piece: Piece, refresh: Refresh) -> Iterator[tuple[_Paper, bytes, Place]]:
        report = refresh.report

        def wanted(member: str) -> bool:
            paper = _paper(member.rpartition("/")[2])
            if paper is None:
                report.skip("not named like a paper")
            elif paper.suffix == ".pdf":
                report.skip("paper without source: PDF alone")
            return paper is not None and paper.suffix != ".pdf"

        path = Path(piece.detail["tar"])
        num_damages = len(report.damages)
        with path.open("rb") as file:
            for member in members(
                file, str(path), self._bounds, report, nested=False, wanted=wanted
            ):
                paper = _paper(member.path.rpartition("/")[2])
                assert paper is not None  # else it was not wanted
                place = Place(
                    archive=str(path),
                    member=member.path,
                    offset=member.offset,
                    length=member.length,
                )
                yield paper, member.payload, place
        if len(report.damages) > num_damages:  # what came after it is not gone
            report.cut = f"damaged tar: {path}"

    def _alone(self, piece: Piece, refresh: Refresh) -> Iterator[tuple[_Paper, bytes, Place]]:
        for name in piece.detail["files"]:
            path = Path(name)
            paper = _paper(path.name)
            assert paper is not None  # as pieces() listed it
            with path.open("rb") as file:
                payload = file.read(self.max_bundle_bytes + 1)
            if len(payload) > self.max_bundle_bytes:
                refresh.report.fail("larger than max_bundle_bytes", name)
            elif payload[:5] == b"%PDF-":
                refresh.report.skip("paper without source: PDF alone")
            else:
                yield paper, payload, Place(archive=name, length=len(payload))

    @property
    def _bounds(self) -> Bounds:
        return Bounds(max_member_bytes=self.max_bundle_bytes, max_depth=1)

    def _licence(self, url: str | None, report: Report) -> Finding | None:
        if url and (own := _OWN_LICENCE.search(url)) is not None:
            said = own[1].replace("/", "-")
            return Finding(f"LicenseRef-arxiv-{said}", "arXiv metadata", 1.0)
        licence = "CC-PDDC" if url and _DEDICATED in url else licences.from_url(url or "")
        if licence is not None:
            return Finding(licence, "arXiv metadata", 1.0)
        if url:
            report.skip("licence in the metadata that is not known: kept without")
            return None
        return by_recipe(self.licence)


# Bundles -----------------------------------------------------------------------------------------


def _files(config: ArxivConfig) -> list[Path]:
    paths: dict[Path, None] = {}
    for path in named_paths(config.files, "files"):
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        paths.update(dict.fromkeys(p for p in below if p.is_file() and not p.is_symlink()))
    return sorted(paths)


def _paper(name: str) -> _Paper | None:
    """The paper that a file of this name holds. Subject classes are no part of an identifier."""
    match = _PAPER.fullmatch(name)
    if match is None:
        return None
    identifier = match["new"] or f"{match['archive']}/{match['number']}"
    return _Paper(identifier, match["version"], match["suffix"] or "")


def _newest(files: list[Path], report: Report) -> list[Path]:
    """The newest version of every paper among ``files``; what is no paper is counted."""
    found: dict[str, tuple[int, Path]] = {}
    for path in files:
        paper = _paper(path.name)
        if paper is None:
            report.skip("not named like a paper")
            continue
        if paper.suffix == ".pdf":
            report.skip("paper without source: PDF alone")
            continue
        number = int((paper.version or "v0")[1:])
        if paper.name in found:
            report.skip("older version of the paper")
        if number >= found.get(paper.name, (0, path))[0]:
            found[paper.name] = (number, path)
    return sorted(path for _, path in found.values())


def _groups(files: list[Path], max_bytes: int) -> Iterator[list[Path]]:
    group: list[Path] = []
    num_bytes = 0
    for path in files:
        size = path.stat().st_size
        if group and num_bytes + size > max_bytes:
            yield group
            group, num_bytes = [], 0
        group.append(path)
        num_bytes += size
    if group:
        yield group


# Metadata ----------------------------------------------------------------------------------------


def _metadata(name: str) -> Path:
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise Refusal(f"metadata must be a file of JSON lines that exists, got {name}")
    return path


def _index(path: Path, refresh: Refresh) -> str:
    """The folder below the home with the metadata of each month, made if it is not there."""
    status = path.stat()
    family = hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()
    folder = refresh.folder("arxiv") / f"{family}-{status.st_size}-{status.st_mtime_ns}"
    if not folder.is_dir():
        draft = folder.with_name(f".draft-{folder.name}-{os.getpid()}")
        draft.mkdir()
        try:
            (draft / "damaged").write_text(json.dumps(_divide(path, draft)))
            for older in folder.parent.glob(f"{family}-*"):
                shutil.rmtree(older)
            draft.replace(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    for damage, number in json.loads((folder / "damaged").read_text()).items():
        refresh.report.fail("damaged line of the metadata", damage, number)
    return str(folder)


def _divide(path: Path, folder: Path) -> dict[str, int]:
    """Write what is used of the metadata to one file a month; returns the first damage."""
    months: dict[str, list[str]] = {}
    num_lines = num_damaged = 0
    first = ""
    for number, (_, line) in enumerate(lines_of(path, _MAX_LINE_BYTES), 1):
        try:
            paper, used = _used(json.loads(line or b""))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            if line is None or line.strip():
                num_damaged += 1
                first = first or f"{path} line {number}"
            continue
        months.setdefault(paper.month, []).append(json.dumps([paper.name, used]))
        num_lines += 1
        if num_lines % _BUFFERED_LINES == 0:
            _append(folder, months)
    _append(folder, months)
    return {first: num_damaged} if num_damaged else {}


def _append(folder: Path, months: dict[str, list[str]]) -> None:
    for month, rows in months.items():
        with (folder / f"{month}.jsonl").open("a") as file:
            file.writelines(f"{row}\n" for row in rows)
    months.clear()


def _used(row: dict[str, Any]) -> tuple[_Paper, dict[str, str | None]]:
    paper = _paper(str(row["id"]).replace("/", ""))
    if paper is None:
        raise ValueError("no identifier of arXiv")
    versions = row.get("versions") or [{}]
    title = row.get("title")
    return paper, {
        "title": " ".join(title.split()) if title else None,  # it is broken into lines there
        "categories": row.get("categories"),
        "license": row.get("license"),
        "version": versions[-1].get("version"),
    }


class _Metadata:
    """Metadata by paper; reads the months that it is asked for, and holds the last ones."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._months: dict[str, dict[str, dict[str, str | None]]] = {}

    def of(self, paper: _Paper) -> dict[str, str | None] | None:
        if self._folder is None:
            return {}
        if paper.month not in self._months:
            if len(self._months) >= 3:  # a tar holds one; papers alone are in order of their names
                self._months.clear()
            path = Path(self._folder) / f"{paper.month}.jsonl"
            rows = path.read_text().splitlines() if path.exists() else []
            self._months[paper.month] = dict(map(json.loads, rows))
        return self._months[paper.month].get(paper.name)

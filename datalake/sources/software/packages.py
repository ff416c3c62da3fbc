"""Source files of the Python distributions that are installed here.

Each file carries the licence that it states by an SPDX tag, else that of its distribution. A cap
takes a sample of the files that depends on their paths alone, not on their order or their size,
so a refresh takes the same ones.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from itertools import accumulate
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from datalake import licences
from datalake.config import Config, Refusal
from datalake.sources.report import Report
from datalake.sources.source import Event, Piece, Place, Record, Refresh, SourceConfig


class PackageConfig(Config):
    """One distribution, by the name that pip knows it by."""

    name: str
    max_bytes: int | None = Field(None, gt=0)  # None takes all of it


class PackagesConfig(SourceConfig):
    """Source files of installed distributions."""

    table: ClassVar[str] = "raw/code"
    complete: ClassVar[bool] = True
    in_driver: ClassVar[bool] = True  # what is installed here need not be on another machine

    kind: Literal["packages"] = "packages"
    packages: tuple[PackageConfig, ...] = Field(min_length=1)
    extensions: tuple[str, ...] = Field(min_length=1)  # without the dot, such as py
    max_bytes: int = Field(gt=0)  # of all distributions together
    max_file_bytes: int = Field(1 << 20, gt=0)  # Chen et al. 2021, arXiv:2107.03374, 3.1

    def watched(self) -> str:
        """Names and versions of the distributions, as installed now; a missing one has none."""
        versions = []
        for package in self.packages:
            try:
                versions.append(f"{package.name} {distribution(package.name).version}")
            except (PackageNotFoundError, ValueError):
                versions.append(f"{package.name} missing")
        return ", ".join(versions)

    def pieces(self, refresh: Refresh) -> list[Piece]:
        """All of them, since a cap holds for all. Raises Refusal for a name not installed."""
        for number, package in enumerate(self.packages):
            _find(number, package.name)
        return [Piece(name="installed packages", uri="pkg:pypi")]

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        """The files of every distribution, as they lie on disk."""
        report = refresh.report
        seen: set[str] = set()  # two distributions may hold the same files
        for number, package in enumerate(self.packages):
            found = _find(number, package.name)
            stated = licences.from_metadata(found.metadata)
            name = canonical_name(package.name)
            for file in _sample(_files(found, self, report), package.max_bytes, report):
                if file.path in seen:
                    report.skip("in two distributions")
                    continue
                seen.add(file.path)
                try:
                    payload = Path(file.path).read_bytes()
                except OSError as error:
                    report.fail("unreadable", f"{file.path}: {error.strerror}")
                    continue
                if report.num_bytes + len(payload) > self.max_bytes:
                    report.cut = f"max_bytes {self.max_bytes}, in {package.name}"
                    return
                report.keep(len(payload))
                yield Record(
                    # Without the version: a file of the next version is the same document.
                    uri=f"pkg:pypi/{name}#{file.name}",
                    payload=payload,
                    place=Place(archive=file.path, length=len(payload)),
                    fetched_at=datetime.now(UTC),
                    licence=licences.from_source(payload) or stated,
                    own={"project": name, "revision": found.version, "path": file.name},
                )

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        """The file at ``place``."""
        return Path(place.archive).read_bytes()


def canonical_name(name: str) -> str:
    """The one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True, slots=True)
class _File:
    name: str  # below site-packages
    path: str
    num_bytes: int


def _find(number: int, name: str) -> Distribution:
    try:
        found = distribution(name)
    except (PackageNotFoundError, ValueError):
        rule = "the name of an installed distribution"
        raise Refusal(f"packages[{number}].name must be {rule}, got {name!r}") from None
    if found.files is None:
        rule = "a distribution that lists its files"
        raise Refusal(f"packages[{number}].name must be {rule}, got {name!r}")
    return found


def _files(found: Distribution, config: PackagesConfig, report: Report) -> Iterator[_File]:
    suffixes = {f".{extension}" for extension in config.extensions}
    for listed in found.files or ():
        if listed.suffix not in suffixes or ".." in listed.parts:  # scripts lie outside
            continue
        path = Path(str(found.locate_file(listed)))
        if not path.is_file():  # newer versions of importlib.metadata do not even list it
            continue
        num_bytes = path.stat().st_size
        if num_bytes == 0:
            report.skip("empty")
        elif num_bytes > config.max_file_bytes:
            report.skip("larger than max_file_bytes")
        else:
            yield _File(listed.as_posix(), str(path), num_bytes)


def _sample(files: Iterable[_File], max_bytes: int | None, report: Report) -> list[_File]:
    """Files within ``max_bytes`` in the order of a hash of their names, then sorted by name."""
    ranked = sorted(files, key=_rank)
    sums = accumulate(file.num_bytes for file in ranked)
    chosen = [f for f, total in zip(ranked, sums, strict=True) if total <= (max_bytes or total)]
    report.skip("over the cap of its package", len(ranked) - len(chosen))
    return sorted(chosen, key=lambda file: file.name)


def _rank(file: _File) -> bytes:
    return hashlib.blake2b(file.name.encode("utf-8", "surrogatepass")).digest()

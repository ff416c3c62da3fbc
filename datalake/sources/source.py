"""What a source is: a setting that lists its pieces and reads the records of each.

A piece is one unit of work, such as a file of a crawl: it is read by one Spark task, lost alone and
resumed alone. A record is a byte string with its address and its place, so that the same bytes can
be read again. ``datalake.ingestion`` makes rows of records, leaves out what an earlier snapshot
holds unchanged, and marks what is gone.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from datalake.config import Config
from datalake.licences import Finding
from datalake.sources.report import Report


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where bytes lie for good.

    ``member`` says which part of the file ``archive`` is meant where an extent cannot: the path of
    a member, ``commit:path``, the number of a row. Nested archives are joined by ``!/``.
    """

    archive: str  # path or URI of the file, or of the repository
    member: str = ""
    offset: int = 0  # first byte inside the archive
    length: int = 0  # extent inside the archive, compressed as it is there


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One thing that a source holds, as it came."""

    uri: str  # canonical; with ``position`` it is the identity of the record
    position: str = ""  # inside the resource, where one resource holds several records
    payload: bytes | None  # None leaves the bytes where they are: ``place`` says where
    place: Place
    fetched_at: datetime  # aware
    content_type: str | None = None
    licence: Finding | None = None
    payload_digest: str | None = None  # sha1:BASE32, where there is no payload to take it from
    num_bytes: int | None = None  # of the payload, where there is none
    own: Mapping[str, Any] = field(default_factory=dict)  # the columns that its table adds
    restated: bool = False  # its bytes may be as they were: something else about it has changed


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A record that an earlier snapshot holds, known to be the same without reading it."""

    uri: str
    position: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """A record of an earlier snapshot that the source is known to have no longer."""

    uri: str
    position: str = ""


Event = Record | Unchanged | Gone


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One unit of work of a source; must be picklable."""

    name: str  # as a person reads it: the name of a file
    uri: str
    num_bytes: int = 0  # an estimate: the largest are begun first
    detail: Mapping[str, Any] = field(default_factory=dict)


class Previous(Protocol):
    """What the snapshots before this one hold of this source, as they left it."""

    def digest(self, uri: str, position: str = "") -> str | None:
        """Payload digest of the record, None where there is none or where it is gone."""

    def rows(self, columns: list[str]) -> pa.Table:
        """The newest row of every record that is not gone, with these columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refresh:
    """One refresh of one source: its names, what was there before, and where losses are counted."""

    origin: str  # the source's name in the recipe
    snapshot: str
    home: Path  # of the installation; folders below it are made by ``folder``
    report: Report
    previous: Previous

    def folder(self, name: str) -> Path:
        """The folder ``name`` below the home, made if missing."""
        path = self.home / name
        path.mkdir(parents=True, exist_ok=True)
        return path


class SourceConfig(Config, ABC):
    """Base of every kind of source. The class is the source: its values say what to read."""

    table: ClassVar[str]  # where its records land: raw/web
    complete: ClassVar[bool]  # a refresh sees all there is, so what it does not see is gone
    in_driver: ClassVar[bool] = False  # one connection or server reads all: no Spark tasks

    kind: str
    licence: str | None = None  # SPDX expression, where one holds for what says nothing itself

    def watched(self) -> str:
        """State outside that the source reads: when it changes, a refresh is due."""
        return ""

    @abstractmethod
    def pieces(self, refresh: Refresh) -> list[Piece]:
        """What there is to read. Runs in the driver. Raises Refusal where the setting is wrong."""

    @abstractmethod
    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        """Records of one piece. What is left out is counted in ``refresh.report``.

        Raises OSError where the piece cannot be had: it is then tried again, listed and skipped.
        """

    @classmethod
    @abstractmethod
    def read_again(cls, place: Place) -> bytes:
        """The payload at ``place``. Raises OSError where it is not there any more."""

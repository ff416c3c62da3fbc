"""One piece of a source to rows of its raw table: what a single task of an ingestion does."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.snapshots import State
from datalake.sources.record import Row, doc_id, payload_digest, to_batches
from datalake.sources.report import Report
from datalake.sources.source import Gone, Piece, Record, Refresh, SourceConfig, Unchanged
from datalake.tables import Lake, Part


def say_nothing(line: str) -> None:
    """Where nobody listens: in a task of another process."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """What became of a piece: its parts, not yet committed, and the records that were met."""

    parts: list[Part]
    report: Report
    met: np.ndarray  # int64: where in the state the records stand that the piece named
    error: str | None = None  # why the piece could not be had; it has no parts then
    refusal: str | None = None  # why nobody can read it as the recipe wants


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads pieces of one source in one snapshot. Picklable: a task is this and a piece."""

    lake: Lake
    home: Path
    config: SourceConfig
    origin: str
    snapshot: str
    state: Any  # State, or a broadcast of it
    say: Any = field(default=say_nothing)

    def __call__(self, piece: Piece) -> Read:
        """Read ``piece`` and write its rows. OSError and Refusal come back as what was read."""
        state: State = getattr(self.state, "value", self.state)
        report = Report(self.origin, self.say, heard=self.say is not say_nothing)
        refresh = Refresh(
            origin=self.origin,
            snapshot=self.snapshot,
            home=self.home,
            report=report,
            previous=state,
        )
        met: set[int] = set()
        rows = self._rows(piece, refresh, state, met)
        table = self.config.table
        try:
            parts = self.lake.write_parts(table, to_batches(rows, TABLES[table].arrow))
        except OSError as error:
            return self._nothing(error=f"{type(error).__name__}: {error}")
        except Refusal as refusal:  # on its way through Spark it would become another error
            return self._nothing(refusal=str(refusal))
        report.say = say_nothing
        return Read(parts=parts, report=report, met=np.array(sorted(met), np.int64))

    def _nothing(self, **why: str) -> Read:
        report = Report(self.origin, say_nothing)
        return Read(parts=[], report=report, met=np.zeros(0, np.int64), **why)

    def _rows(self, piece: Piece, refresh: Refresh, state: State, met: set[int]) -> Iterator[Row]:
        """Rows of what is new, changed or gone. Fills ``met``."""
        taken: set[str] = set()
        for event in self.config.read(piece, refresh):
            identity = doc_id(self.source, event.uri, event.position)
            if identity in taken:
                refresh.report.skip("captured before")
                continue
            taken.add(identity)
            at = state.find(identity)
            if at is not None:
                met.add(at)
            match event:
                case Record():
                    row = self._row(identity, event)
                    same = at is not None and state.is_same(
                        at, row["payload_digest"], row["licence"]
                    )
                    if same and not event.restated:
                        refresh.report.unchanged += 1
                    else:
                        yield row
                case Unchanged():
                    refresh.report.unchanged += 1
                case Gone() if at is not None:
                    refresh.report.gone += 1
                    yield self.mark(identity, event.uri, event.position)

    @property
    def source(self) -> str:
        return self.config.table.removeprefix("raw/")

    def _row(self, identity: str, record: Record) -> Row:
        payload, licence, place = record.payload, record.licence, record.place
        digest = record.payload_digest or payload_digest(payload or b"")
        return self._blank(identity, record.uri, record.position) | {
            "licence": licence and licence.licence,
            "licence_evidence": licence and licence.evidence,
            "licence_confidence": licence and licence.confidence,
            "archive": place.archive,
            "member": place.member,
            "offset": place.offset,
            "length": place.length,
            "fetched_at": record.fetched_at,
            "payload": payload,
            "payload_digest": digest,
            "num_bytes": (record.num_bytes or 0) if payload is None else len(payload),
            "content_type": record.content_type,
            **record.own,
        }

    def mark(self, identity: str, uri: str, position: str) -> Row:
        """The row that says that a record is gone."""
        return self._blank(identity, uri, position) | {
            "archive": "",
            "member": "",
            "offset": 0,
            "length": 0,
            "fetched_at": datetime.now(UTC),
            "payload_digest": "",
            "num_bytes": 0,
            "deleted": True,
        }

    def _blank(self, identity: str, uri: str, position: str) -> dict[str, Any]:
        blank = dict.fromkeys(TABLES[self.config.table].arrow.names)
        return blank | {
            "doc_id": identity,
            "snapshot": self.snapshot,
            "origin": self.origin,
            "kind": self.config.kind,
            "uri": uri,
            "position": position,
            "deleted": False,
        }

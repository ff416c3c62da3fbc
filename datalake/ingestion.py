"""Sources to raw tables: each refresh is a snapshot, and a snapshot is a partition.

A snapshot holds the records that are new or changed since the snapshots before it, and a mark for
each that is gone; one that finds all as it was adds nothing. A source is read piece by piece. Each
piece that was read is noted, so an interrupted ingestion goes on where it was, and the table
changes once, when everything is there.
"""

import hashlib
import pickle
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from datalake.config import Refusal
from datalake.pieces import Read, Reader
from datalake.schemas import TABLES
from datalake.snapshots import State
from datalake.sources.record import to_batches
from datalake.sources.report import Report
from datalake.sources.source import Piece, Refresh, SourceConfig
from datalake.sources.warcs.warc_files import WarcFilesConfig
from datalake.tables import Commit, Part
from datalake.workspace import Workspace

INBOX = "inbox"  # folder below the home: WARC files dropped there become snapshots of their own

_TRIES = 3  # of a piece that cannot be had
_BACK_OFF_SECONDS = 2.0  # doubled each time
_SMALL = 16 << 20  # bytes of all pieces together that are not worth starting Spark for
_MAX_AT_ONCE = 256  # pieces under way: each waits in a thread of the driver
_SAY_SECONDS = 10.0
_SHOWN = 5  # pieces that could not be had, named one by one; the report counts all


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one refresh left: the last commit, and counts of what came and what was lost."""

    commit: Commit
    report: Report


def ingest(workspace: Workspace, table: str, sources: Mapping[str, SourceConfig]) -> Ingested:
    """Refresh every source that lands in ``table``, as one snapshot and one version.

    For pages, every archive of the inbox follows as a snapshot of its own.

    Raises Refusal where a setting is wrong or nothing was found; the table is then as it was.
    """
    snapshot = snapshot_of(workspace)
    report = Report(table, workspace.say)
    readings = []
    for origin, config in sources.items():
        state = State.before(workspace.lake, table, origin, lambda name: name < snapshot)
        readings.append(_Reading(workspace, config, origin, snapshot, state, report))
    commit = _commit(workspace, table, snapshot, readings)
    if table == WarcFilesConfig.table:
        for path in inbox(workspace):
            commit = _ingest_archive(workspace, path, report)
    report.finish()
    return Ingested(commit, report)


def snapshot_of(workspace: Workspace) -> str:
    """Name of the snapshot: what the asking run says, else today's date (UTC)."""
    return workspace.origin.get("tarn/snapshot") or datetime.now(UTC).date().isoformat()


def inbox(workspace: Workspace) -> list[Path]:
    """WARC files that wait in the inbox, by name."""
    folder = workspace.folder(INBOX)
    return sorted(p for p in folder.iterdir() if re.search(r"\.warc(\.(gz|zst|lz4))?$", p.name))


def _ingest_archive(workspace: Workspace, path: Path, report: Report) -> Commit:
    """Ingest an archive of the inbox as a snapshot of its own; one without a page is counted."""
    snapshot, config = f"inbox {path.name}", WarcFilesConfig(files=str(path))
    others = State.before(workspace.lake, config.table, INBOX, lambda name: name != snapshot)
    before = report.rows
    reading = _Reading(workspace, config, INBOX, snapshot, others, report)
    commit = _commit(workspace, config.table, snapshot, [reading])
    if report.rows == before:
        report.fail("archive without a page", str(path))
    return commit


@dataclass
class _Reading:
    """One source on its way into one snapshot."""

    workspace: Workspace
    config: SourceConfig
    origin: str
    snapshot: str
    state: State
    report: Report

    def parts(self) -> Iterator[Part]:
        """Parts of everything that the source has, as they are ready; nothing is committed."""
        reader = Reader(
            lake=self.workspace.lake,
            home=self.workspace.home,
            config=self.config,
            origin=self.origin,
            snapshot=self.snapshot,
            state=self.state,
        )
        own = Report(self.origin, self.workspace.say)  # a cut is that of one source
        refresh = Refresh(
            origin=self.origin,
            snapshot=self.snapshot,
            home=self.workspace.home,
            report=own,
            previous=self.state,
        )
        pieces = self.config.pieces(refresh)
        self.report.join(own)
        whole = self.config.complete and own.cut is None
        met, lost = np.zeros(len(self.state.ids), bool), 0
        for piece, read in self._read_all(reader, pieces):
            if read.refusal is not None:
                raise Refusal(read.refusal)
            self.report.join(read.report)
            if read.error is not None:
                lost += 1
                self.report.fail("could not be had", f"{piece.uri}: {read.error}")
                if lost <= _SHOWN:
                    self.workspace.say(f"{self.origin}: left out {piece.name}: {read.error}")
            whole = whole and read.error is None and read.report.cut is None
            met[read.met] = True
            yield from read.parts
        if whole and not met.all():
            yield from self._mark_missing(reader, met)

    def _read_all(self, reader: Reader, pieces: list[Piece]) -> Iterator[tuple[Piece, Read]]:
        """Every piece with what was read of it, now or by an ingestion that was interrupted."""
        if self.config.in_driver:
            yield from self._read(reader, pieces)
            return
        watched = self.config.watched()
        waiting = []
        for piece in pieces:
            if (read := self._noted(self._note(piece, watched))) is not None:
                yield piece, read
            else:
                waiting.append(piece)
        if len(waiting) < len(pieces):
            done = len(pieces) - len(waiting)
            self.workspace.say(f"{self.origin}: {done} of {len(pieces)} pieces were read before")
        for piece, read in self._read(reader, waiting):
            if read.error is None and read.refusal is None:
                note = self._note(piece, watched)
                draft = note.with_suffix(".draft")
                draft.write_bytes(pickle.dumps(read))
                draft.replace(note)
            yield piece, read

    def _read(self, reader: Reader, pieces: list[Piece]) -> Iterator[tuple[Piece, Read]]:
        """Read in this process what is small or has to be, the rest as tasks of Spark."""
        sizes = [piece.num_bytes for piece in pieces]
        small = all(sizes) and sum(sizes) <= _SMALL  # 0: nobody knows
        if self.config.in_driver or small or len(pieces) == 1:
            here = Reader(**{**vars(reader), "say": self.workspace.say})
            for piece in pieces:
                yield piece, _again(here, piece)
            return
        from datalake import spark

        context = spark.session(self.workspace).sparkContext
        state = context.broadcast(self.state)
        run = spark.in_task(self.workspace, Reader(**{**vars(reader), "state": state}))
        at_once = min(_MAX_AT_ONCE, len(pieces), 2 * context.defaultParallelism)
        ordered = sorted(pieces, key=lambda piece: -piece.num_bytes)
        said = time.monotonic()
        with ThreadPoolExecutor(at_once) as pool:
            waiting = {pool.submit(_again, run, piece): piece for piece in ordered}
            try:
                while waiting:
                    done, _ = wait(waiting, _SAY_SECONDS, FIRST_COMPLETED)
                    for future in done:
                        yield waiting.pop(future), future.result()
                    if time.monotonic() - said >= _SAY_SECONDS:
                        said = time.monotonic()
                        number = len(pieces) - len(waiting)
                        progress = f"{number} of {len(pieces)} pieces, {self.report.rows:,} records"
                        self.workspace.say(f"{self.origin}: {progress}")
            finally:
                for future in waiting:
                    future.cancel()
        state.destroy()

    def _mark_missing(self, reader: Reader, met: np.ndarray) -> list[Part]:
        """Parts with a mark for every record of the state that no piece named."""
        rows = self.state.rows(["doc_id", "uri", "position"]).to_pylist()
        missing = [row for row in rows if not met[self.state.find(row["doc_id"])]]
        self.report.gone += len(missing)
        marks = (reader.mark(row["doc_id"], row["uri"], row["position"]) for row in missing)
        batches = to_batches(marks, TABLES[self.config.table].arrow)
        return self.workspace.lake.write_parts(self.config.table, batches)

    def _note(self, piece: Piece, watched: str) -> Path:
        """Where it is noted that ``piece`` was read by this setting, on top of this version.

        After a commit there is another version, so what is in the table is never taken for new.
        """
        setting = self.config.model_dump_json() + watched
        said = f"{setting} {self.origin} {self.state.version} {piece!r}"
        name = hashlib.sha256(said.encode()).hexdigest()[:32]
        return _notes(self.workspace, self.config.table, self.snapshot) / f"{name}.pickle"

    def _noted(self, note: Path) -> Read | None:
        """What was read before, if its parts are still there."""
        if not note.exists():
            return None
        read: Read = pickle.loads(note.read_bytes())
        there = self.workspace.lake.has_parts(self.config.table, read.parts)
        return read if there else None


def _again(read: Callable[[Piece], Read], piece: Piece) -> Read:
    """Read ``piece``, after a pause again where it could not be had."""
    for trial in range(_TRIES):
        found = read(piece)
        if found.error is None or trial == _TRIES - 1:
            return found
        time.sleep(_BACK_OFF_SECONDS * 2**trial)
    raise AssertionError("the last trial returns")


def _commit(workspace: Workspace, table: str, snapshot: str, readings: list[_Reading]) -> Commit:
    """Make what the readings bring the snapshot's content, in one transaction.

    A snapshot that adds nothing to a table that there is makes no version. When a reading fails,
    parts that are noted stay for the next try, and the others are removed.
    """
    lake, notes = workspace.lake, _notes(workspace, table, snapshot)
    parts: list[Part] = []
    loose: list[Part] = []  # of sources that cannot go on where they were
    try:
        for reading in readings:
            for part in reading.parts():
                parts.append(part)
                if reading.config.in_driver:
                    loose.append(part)
    except BaseException:
        lake.remove_parts(table, loose)
        raise
    partition = {"snapshot": snapshot}
    if any(part.rows for part in parts) or lake.latest(table) is None:
        commit = lake.commit(table, parts, mode="overwrite", partition=partition)
    else:
        commit = lake.clear(table, partition)
    shutil.rmtree(notes, ignore_errors=True)
    return commit


def _notes(workspace: Workspace, table: str, snapshot: str) -> Path:
    name = hashlib.sha256(f"{table}/{snapshot}".encode()).hexdigest()[:16]
    return workspace.folder(f"ingesting/{name}")

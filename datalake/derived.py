"""Measuring what is new: documents that were measured before keep their rows of ``signals``.

A refresh of the sources changes few documents, and measuring reads every byte of text. So a row
of ``signals`` names, as ``measured``, a digest of everything it was computed from; where the
version before was made by the same definitions, rows whose digest is still there are taken over,
MinHash keys among them, and only the others are computed. What comes out is what a run from
scratch gives, so duplicates are found among all documents, old and new, without hashing the old
ones again.

16 bytes a document go through the driver and to every task.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from datalake.filters.measures.signals import INPUT_COLUMNS, measured_digests
from datalake.schemas import TABLES
from datalake.tables import Commit, Lake, Part
from datalake.workspace import Inputs, Workspace

_TABLE = "signals"
_MADE_BY = "definitions"  # among the inputs that a version of ``signals`` names


@dataclass(frozen=True, slots=True)
class Measured:
    """A version of ``signals``, and how many of its rows were computed for it."""

    commit: Commit
    computed: int


def measure_documents(
    workspace: Workspace,
    inputs: Inputs,
    measure: Callable[[pa.RecordBatch], pa.RecordBatch],
    definitions: str,
) -> Measured:
    """Write ``signals`` for every document at the version of ``inputs``.

    ``measure`` maps a batch of ``documents`` to one of ``signals``; ``definitions`` is equal where
    it gives equal rows for equal documents.
    """
    from datalake import spark

    lake, documents = workspace.lake, int(inputs["documents"])
    made_by = hashlib.sha256(f"{definitions}\n{TABLES[_TABLE].arrow}".encode()).hexdigest()[:32]
    earlier = _comparable(lake, made_by)
    known = _digests(lake, earlier)
    new = spark.each_part(workspace, "documents", documents, _Compute(lake, known, measure))
    parts = [part for written, _ in new for part in written]
    computed = sum(part.rows for part in parts)
    if earlier is not None:
        here = np.sort(np.concatenate([np.frombuffer(seen, "S16") for _, seen in new]))
        old = spark.each_part(workspace, _TABLE, earlier, _TakeOver(lake, here))
        parts += [part for written in old for part in written]
    commit = lake.commit(_TABLE, parts, "overwrite", {**inputs, _MADE_BY: made_by})
    return Measured(commit, computed)


def _comparable(lake: Lake, made_by: str) -> int | None:
    """The newest version of ``signals``, if the same definitions made it."""
    newest = lake.latest(_TABLE)
    if newest is None:
        return None
    said = json.loads(lake.history(_TABLE)[0].get("inputs", "{}"))
    return newest if said.get(_MADE_BY) == made_by else None


def _digests(lake: Lake, version: int | None) -> np.ndarray:
    """What a version of ``signals`` was computed from: ``S16 [rows]``, ascending."""
    if version is None:
        return np.zeros(0, "S16")
    columns = [_raw(b["measured"]) for b in lake.batches(_TABLE, version, ["measured"])]
    return np.sort(np.concatenate([np.zeros(0, "S16"), *columns]))


def _raw(hexadecimal: pa.Array) -> np.ndarray:
    return np.array([bytes.fromhex(value) for value in hexadecimal.to_pylist()], "S16")


def _is_in(digests: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    if not len(ascending):
        return np.zeros(len(digests), bool)
    places = np.minimum(np.searchsorted(ascending, digests), len(ascending) - 1)
    return ascending[places] == digests


@dataclass(frozen=True, slots=True)
class _Compute:
    """One Spark task: measure what is new in a part of ``documents``; also all digests in it."""

    lake: Lake
    known: np.ndarray
    measure: Callable[[pa.RecordBatch], pa.RecordBatch]

    def __call__(self, part: Part) -> tuple[list[Part], bytes]:
        seen: list[np.ndarray] = []

        def rows() -> Iterator[pa.RecordBatch]:
            for batch in self.lake.open_part("documents", part, INPUT_COLUMNS, batch_rows=256):
                digests = _raw(measured_digests(batch))
                seen.append(digests)
                new = batch.filter(pa.array(~_is_in(digests, self.known)))
                if len(new):
                    yield self.measure(new)

        written = self.lake.write_parts(_TABLE, rows())
        return written, np.concatenate([np.zeros(0, "S16"), *seen]).tobytes()


@dataclass(frozen=True, slots=True)
class _TakeOver:
    """One Spark task: copy the rows of a part of ``signals`` whose documents are still there."""

    lake: Lake
    here: np.ndarray

    def __call__(self, part: Part) -> list[Part]:
        def rows() -> Iterator[pa.RecordBatch]:
            for batch in self.lake.open_part(_TABLE, part):
                still = batch.filter(pa.array(_is_in(_raw(batch["measured"]), self.here)))
                if len(still):
                    yield still

        return self.lake.write_parts(_TABLE, rows())

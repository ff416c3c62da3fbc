"""Tables of one row a document: documents that are unchanged keep the row that they had.

A refresh of the sources changes few documents, and measuring or encoding one reads every byte of
its text. So a row of such a table names, as ``measured``, a digest of everything in the table
before that it was computed from; where the version before was made by the same definitions, rows
whose digest is still there are taken over, and only the others are computed. What comes out is what
a run from scratch gives: duplicates, for one, are found among all documents, old and new, without
hashing the old ones again. A document that is gone has no row any more.

16 bytes a document go through the driver and to every task.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import xxhash

from datalake.tables import Commit, Lake, Part, schema_of
from datalake.text_bytes import text_bytes
from datalake.workspace import Inputs, Workspace

_MADE_BY = "definitions"  # among the inputs that a version of a derived table names
_BATCH_ROWS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Derivation:
    """How the rows of one table come from those of another. It goes to every task."""

    source: str
    target: str  # has a column ``measured``
    columns: tuple[str, ...]  # of the source, ``text`` among them: all that a row depends on
    compute: Callable[[pa.RecordBatch], pa.RecordBatch]  # of ``columns``, to rows of the target
    definitions: str  # equal where it gives equal rows for equal ``columns``


@dataclass(frozen=True, slots=True)
class Derived:
    """A version of a derived table, and how many of its rows were computed for it."""

    commit: Commit
    computed: int

    @property
    def taken_over(self) -> int:
        return self.commit.rows - self.computed


def derive(workspace: Workspace, inputs: Inputs, derivation: Derivation) -> Derived:
    """Write the target for every row of the source at the version of ``inputs``."""
    from datalake import spark

    lake, source, target = workspace.lake, derivation.source, derivation.target
    made_by = f"{derivation.definitions}\n{schema_of(target).arrow}"
    made_by = hashlib.sha256(made_by.encode()).hexdigest()[:32]
    earlier = _comparable(lake, target, made_by)
    known = _digests(lake, target, earlier)
    new = spark.each_part(workspace, source, int(inputs[source]), _Compute(lake, known, derivation))
    parts = [part for written, _ in new for part in written]
    computed = sum(part.rows for part in parts)
    if earlier is not None:
        here = np.sort(np.concatenate([np.frombuffer(seen, "S16") for _, seen in new]))
        old = spark.each_part(workspace, target, earlier, _TakeOver(lake, target, here))
        parts += [part for written in old for part in written]
    commit = lake.commit(target, parts, "overwrite", {**inputs, _MADE_BY: made_by})
    return Derived(commit, computed)


def row_digests(rows: pa.RecordBatch, columns: Sequence[str]) -> pa.StringArray:
    """XXH3, 128 bits, of ``columns`` of each row, ``text`` among them: equal where all are."""
    data, offsets = text_bytes(rows["text"])
    others = [rows[name].to_pylist() for name in columns if name != "text"]
    digests = []
    for row, (start, end) in zip(zip(*others, strict=True), pairwise(offsets), strict=True):
        digest = xxhash.xxh3_128(repr(row).encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
        digest.update(data[start:end].tobytes())
        digests.append(digest.hexdigest())
    return pa.array(digests, pa.string())


def _comparable(lake: Lake, name: str, made_by: str) -> int | None:
    """The newest version of a table, if the same definitions made it."""
    newest = lake.latest(name)
    if newest is None:
        return None
    said = json.loads(lake.history(name)[0].get("inputs", "{}"))
    return newest if said.get(_MADE_BY) == made_by else None


def _digests(lake: Lake, name: str, version: int | None) -> np.ndarray:
    """What a version of a table was computed from: ``S16 [rows]``, ascending."""
    if version is None:
        return np.zeros(0, "S16")
    columns = [_raw(b["measured"]) for b in lake.batches(name, version, ["measured"])]
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
    """One Spark task: compute what is new in a part of the source; also all digests in it."""

    lake: Lake
    known: np.ndarray
    derivation: Derivation

    def __call__(self, part: Part) -> tuple[list[Part], bytes]:
        seen: list[np.ndarray] = []
        source, columns = self.derivation.source, self.derivation.columns

        def rows() -> Iterator[pa.RecordBatch]:
            for batch in self.lake.open_part(source, part, columns, batch_rows=_BATCH_ROWS):
                digests = _raw(row_digests(batch, columns))
                seen.append(digests)
                new = batch.filter(pa.array(~_is_in(digests, self.known)))
                if len(new):
                    yield self.derivation.compute(new)

        written = self.lake.write_parts(self.derivation.target, rows())
        return written, np.concatenate([np.zeros(0, "S16"), *seen]).tobytes()


@dataclass(frozen=True, slots=True)
class _TakeOver:
    """One Spark task: copy the rows of a part of the target whose documents are still there."""

    lake: Lake
    target: str
    here: np.ndarray

    def __call__(self, part: Part) -> list[Part]:
        def rows() -> Iterator[pa.RecordBatch]:
            for batch in self.lake.open_part(self.target, part):
                still = batch.filter(pa.array(_is_in(_raw(batch["measured"]), self.here)))
                if len(still):
                    yield still

        return self.lake.write_parts(self.target, rows())

"""From a document back to the bytes it was made of: what every table says of it, and the bytes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.sources.catalogue import KINDS, RAW_TABLES
from datalake.sources.record import payload_digest
from datalake.sources.source import Place
from datalake.tables import Lake

_HEAVY = ("payload", "text", "band_keys", "tokens")  # not what a person reads in a terminal
_SHOWN = 3  # ids, where an address holds several documents
_STAGES = ("documents", "kept", "duplicates", "contamination", "cuts", "corpus", "encoded")
_PLACES = {"contamination": "benchmark", "cuts": "reason"}  # of these only how many there are
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What the lake says of one document: rows of raw tables, newest last, and of the stages."""

    doc_id: str
    raw: list[tuple[str, Row]]  # table and row, without payload
    stages: dict[str, Row]


def trace(lake: Lake, name: str) -> Trace:
    """Everything about the document whose id or address is ``name``.

    Raises Refusal where no raw table has it.
    """
    raw: list[tuple[str, Row]] = []
    for table in RAW_TABLES:
        raw += [(table, row) for row in _rows(lake, table, name, ("doc_id", "uri"))]
    ids = list(dict.fromkeys(row["doc_id"] for _, row in raw))
    if not ids:
        rule = "the id or the address of a document in a raw table"
        raise Refusal(f"document must be {rule}, got {name}")
    if len(ids) > 1:
        some = ", ".join(f"{row['doc_id']} ({row['position']})" for _, row in raw[:_SHOWN])
        rule = f"one document; {name} holds {len(ids)}, by id such as {some}"
        raise Refusal(f"document must name {rule}")
    (identity,) = ids
    raw.sort(key=lambda found: (found[1]["fetched_at"], found[1]["snapshot"]))
    found = {stage: _rows(lake, stage, identity, ("doc_id",)) for stage in _STAGES}
    stages = {stage: _summary(stage, rows) for stage, rows in found.items() if rows}
    if pieces := _pieces(lake, identity):
        stages["tokens"] = pieces
    return Trace(doc_id=identity, raw=raw, stages=stages)


def _summary(stage: str, rows: list[Row]) -> Row:
    """The row of a document, or for a table of places how many bytes there are of each kind."""
    if (kind := _PLACES.get(stage)) is None:
        return rows[0]
    said: dict[str, str] = {}
    for name in sorted({row[kind] for row in rows}):
        own = [row["end"] - row["start"] for row in rows if row[kind] == name]
        said[name] = f"{len(own)} places, {sum(own):,} bytes"
    return said


def _pieces(lake: Lake, identity: str) -> Row:
    """For each split of ``tokens`` that has the document: in how many pieces and rows."""
    if (version := lake.latest("tokens")) is None:
        return {}
    pieces, rows = Counter[str](), Counter[str]()
    for part in lake.parts("tokens", version):
        for batch in lake.open_part("tokens", part, ("split", "doc_ids")):
            found = np.flatnonzero(pc.equal(pc.list_flatten(batch["doc_ids"]), identity))
            if len(found):
                of = pc.list_parent_indices(batch["doc_ids"]).to_numpy()[found]
                split = batch["split"][0].as_py()
                pieces[split] += len(of)
                rows[split] += len(np.unique(of))
    return {split: f"{n:,} pieces in {rows[split]:,} rows" for split, n in sorted(pieces.items())}


def read_again(row: Row) -> bytes:
    """The bytes of a raw ``row``, from where they came, checked against its digest.

    Raises OSError where they are not there any more, Refusal where they are others.
    """
    place = Place(
        archive=row["archive"], member=row["member"], offset=row["offset"], length=row["length"]
    )
    payload = KINDS[row["kind"]].read_again(place)
    if payload_digest(payload) != row["payload_digest"]:
        rule = f"the bytes of {row['payload_digest']}"
        raise Refusal(f"{row['archive']} must hold {rule}, got {payload_digest(payload)}")
    return payload


def bytes_of(lake: Lake, table: str, row: Row) -> tuple[bytes, str | None]:
    """The bytes of a raw ``row`` from where they came, or those that ``table`` kept.

    The second value says why they could not be read again. Raises Refusal where neither has them.
    """
    try:
        return read_again(row), None
    except (OSError, Refusal) as error:
        kept = _kept(lake, table, row)
        if kept is None:
            rule = f"the bytes of {row['doc_id']}, which {table} does not keep"
            raise Refusal(f"{row['archive']} must hold {rule}, got {error}") from error
        return kept, str(error)


def _kept(lake: Lake, table: str, row: Row) -> bytes | None:
    where = {"snapshot": row["snapshot"], "doc_id": row["doc_id"], "origin": row["origin"]}
    for batch in lake.batches(table, columns=["payload", "payload_digest"], where=where):
        for found in batch.to_pylist():
            if found["payload_digest"] == row["payload_digest"]:
                kept: bytes | None = found["payload"]
                return kept
    return None


def _rows(lake: Lake, table: str, name: str, keys: tuple[str, ...]) -> list[Row]:
    """Rows of the latest version that have ``name`` in one of ``keys``, heavy columns left out."""
    if (version := lake.latest(table)) is None:
        return []
    columns = [column for column in TABLES[table].arrow.names if column not in _HEAVY]
    rows: list[Row] = []
    for part in lake.parts(table, version):
        if any(
            pc.any(_is(batch, name, keys)).as_py() for batch in lake.open_part(table, part, keys)
        ):
            for batch in lake.open_part(table, part, columns):
                rows += batch.filter(_is(batch, name, keys)).to_pylist()
    return rows


def _is(batch: pa.RecordBatch, name: str, keys: tuple[str, ...]) -> pa.Array:
    return reduce(pc.or_, (pc.equal(batch[key], name) for key in keys))

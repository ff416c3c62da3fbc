"""What a raw table holds: the newest row of every record, whatever snapshot it is in.

A snapshot holds what is new or changed since the ones before it, and a mark for what is gone. So
the state of a source is the newest row of every record, and no row where that is a mark. Of rows
that were fetched at the same time, the last by snapshot, origin and place is taken.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from datalake.sources.record import doc_id
from datalake.tables import Lake

ORDER = ("fetched_at", "snapshot", "origin", "archive", "member", "offset")
_DIGEST_BYTES = 20  # of SHA-1


@dataclass(frozen=True)
class State:
    """The records of ``origin`` before a refresh, as the chosen snapshots of its table left them.

    44 bytes a record are held; the rows themselves are read when they are asked for.
    """

    lake: Lake
    table: str
    origin: str
    version: int | None  # of the table; None where there is none yet
    snapshots: tuple[str, ...]
    ids: np.ndarray  # bytes [records], 16 each, ascending
    digests: np.ndarray  # uint8 [records, 20]: SHA-1 of the payload
    licences: np.ndarray  # uint64 [records]: hash of the SPDX expression

    @classmethod
    def before(cls, lake: Lake, table: str, origin: str, earlier: Callable[[str], bool]) -> "State":
        """The state that the snapshots left whose names are ``earlier``."""
        version = lake.latest(table)
        parts = [] if version is None else lake.parts(table, version)
        names = sorted({dict(part.partition)["snapshot"] for part in parts})
        chosen = tuple(name for name in names if earlier(name))
        empty = np.zeros((0, _DIGEST_BYTES), np.uint8), np.zeros(0, np.uint64)
        state = cls(lake, table, origin, version, chosen, np.zeros(0, "S16"), *empty)
        rows = state.rows(["doc_id", "payload_digest", "licence"])
        if not len(rows):
            return state
        ids = np.array([bytes.fromhex(i) for i in rows["doc_id"].to_pylist()], "S16")
        digests = b"".join(map(_digest_bytes, rows["payload_digest"].to_pylist()))
        order = np.argsort(ids)
        by_row = np.frombuffer(digests, np.uint8).reshape(-1, _DIGEST_BYTES)[order]
        licences = np.array([_hash(licence) for licence in rows["licence"].to_pylist()], np.uint64)
        return cls(lake, table, origin, version, chosen, ids[order], by_row, licences[order])

    def digest(self, uri: str, position: str = "") -> str | None:
        """Payload digest of a record, None where there is none or where it is gone."""
        at = self.find(doc_id(self.table.removeprefix("raw/"), uri, position))
        return None if at is None else self.digest_at(at)

    def find(self, identity: str) -> int | None:
        """Where the record ``identity`` stands, None where it does not."""
        wanted = np.array(bytes.fromhex(identity), "S16")
        at = int(np.searchsorted(self.ids, wanted))
        return at if at < len(self.ids) and self.ids[at] == wanted else None

    def is_same(self, at: int, payload_digest: str, licence: str | None) -> bool:
        """Whether the record that stands at ``at`` has these bytes, under this licence."""
        return self.digest_at(at) == payload_digest and self.licences[at] == _hash(licence)

    def digest_at(self, at: int) -> str:
        """Payload digest of the record that stands at ``at``."""
        return "sha1:" + base64.b32encode(self.digests[at].tobytes()).decode()

    def rows(self, columns: list[str]) -> pa.Table:
        """The row of every record, with ``columns``."""
        wanted = list(dict.fromkeys([*columns, "doc_id", "deleted", *ORDER]))
        batches: list[pa.RecordBatch] = []
        parts = [] if self.version is None else self.lake.parts(self.table, self.version)
        for part in parts:
            if dict(part.partition)["snapshot"] in self.snapshots:
                origin = {"origin": self.origin}
                batches += self.lake.open_part(self.table, part, wanted, origin)
        if not batches:
            return pa.table({name: [] for name in columns})
        rows = pa.Table.from_batches(batches)
        rows = rows.take(newest(rows))
        return rows.filter(pc.invert(rows["deleted"])).select(columns)


def newest(rows: pa.Table, oldest: bool = False) -> pa.Array:
    """Indices of the newest (or oldest) row of every record, marks of what is gone included.

    ``rows`` has ``doc_id`` and the columns that decide: ``fetched_at``, ``snapshot``, ``origin``
    and the place.
    """
    keys = [(name, "ascending") for name in ("doc_id", *ORDER)]
    order = pc.sort_indices(rows, sort_keys=keys)
    ids = rows["doc_id"].combine_chunks().take(order)
    differs = np.ones(len(ids) + 1, bool)  # from the one before
    differs[1:-1] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    chosen = differs[:-1] if oldest else differs[1:]
    return order.filter(pa.array(chosen))


KEY = ("doc_id", "snapshot", "origin", "archive", "member", "offset")
Key = tuple[Any, ...]


def key_of(row: Mapping[str, Any]) -> Key:
    """What tells one row of a raw table from every other."""
    return tuple(row[name] for name in KEY)


def superseded(
    lake: Lake, table: str, version: int, oldest: bool = False, until: str | None = None
) -> frozenset[Key]:
    """Keys of the rows that are no documents: other versions of a record, and what is gone.

    ``oldest`` takes the first version of each record that is there, instead of the newest;
    ``until`` leaves out the snapshots whose names come after it.
    """
    rows = lake.read(table, version, list(dict.fromkeys([*KEY, "deleted", *ORDER])))
    if until is not None:
        later = rows.filter(pc.greater(rows["snapshot"], until))
        rows = rows.filter(pc.less_equal(rows["snapshot"], until))
    else:
        later = rows.slice(0, 0)
    last = rows.take(newest(rows))
    there = last.filter(pc.invert(last["deleted"]))
    if oldest:
        stored = rows.filter(pc.invert(rows["deleted"]))
        first = stored.take(newest(stored, oldest=True))
        there = first.filter(pc.is_in(first["doc_id"], there["doc_id"].combine_chunks()))
    if len(there) == len(rows) and not len(later):
        return frozenset()
    taken = set(map(key_of, there.select(KEY).to_pylist()))
    others = {key_of(row) for part in (rows, later) for row in part.select(KEY).to_pylist()}
    return frozenset(others - taken)


def _hash(licence: str | None) -> int:
    return xxhash.xxh3_64_intdigest((licence or "").encode())


def _digest_bytes(digest: str) -> bytes:
    return base64.b32decode(digest.removeprefix("sha1:"))

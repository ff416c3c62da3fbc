"""What the raw tables hold: every source with its snapshots, records, bytes and licences."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from datalake.snapshots import ORDER, newest
from datalake.sources.catalogue import RAW_TABLES
from datalake.tables import Lake

_COLUMNS = ("doc_id", "kind", "licence", "num_bytes", "deleted")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one refresh added: rows of new or changed records, and marks of what was gone."""

    name: str
    rows: int
    gone: int


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What a raw table holds of one source, as its last snapshot left it."""

    table: str
    origin: str  # the source's name in the recipe
    kinds: tuple[str, ...]
    snapshots: list[Snapshot]
    records: int
    num_bytes: int  # of their payloads
    newest_at: datetime | None  # when the newest bytes were fetched; None where all is gone
    licences: Counter[str] = field(default_factory=Counter)  # SPDX expression -> records


def inventory(lake: Lake, version_of: dict[str, int] | None = None) -> list[Holding]:
    """What every source has, in the order of the graph; tables that are not there are left out.

    ``version_of`` names versions to look at; by default the latest.
    """
    holdings = []
    for table in RAW_TABLES:
        version = (version_of or {}).get(table) or lake.latest(table)
        if version is None:
            continue
        rows = lake.read(table, version, [*_COLUMNS, *ORDER])
        for origin in sorted(pc.unique(rows["origin"]).to_pylist()):
            own = rows.filter(pc.equal(rows["origin"], origin))
            holdings.append(_holding(table, origin, own))
    return holdings


def _holding(table: str, origin: str, rows: pa.Table) -> Holding:
    names = rows["snapshot"].to_pylist()
    counts, gone = Counter(names), Counter(rows.filter(rows["deleted"])["snapshot"].to_pylist())
    state = rows.take(newest(rows))
    state = state.filter(pc.invert(state["deleted"]))
    return Holding(
        table=table,
        origin=origin,
        kinds=tuple(sorted(set(rows["kind"].to_pylist()))),
        snapshots=[
            Snapshot(name=n, rows=counts[n] - gone[n], gone=gone[n]) for n in sorted(counts)
        ],
        records=len(state),
        num_bytes=pc.sum(state["num_bytes"]).as_py() or 0,
        newest_at=pc.max(state["fetched_at"]).as_py(),
        licences=Counter(licence or "unknown" for licence in state["licence"].to_pylist()),
    )

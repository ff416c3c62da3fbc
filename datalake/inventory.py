"""What the raw tables hold: every source with its snapshots, records, bytes and licences."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from datalake import charts
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


def inventory(lake: Lake) -> list[Holding]:
    """What every source has now, in the order of the graph."""
    return [holding for table in RAW_TABLES for holding in holdings(lake, table)]


def holdings(lake: Lake, table: str, version: int | None = None) -> list[Holding]:
    """What the sources of ``table`` have, by name; none where the table is not there."""
    if version is None and lake.latest(table) is None:
        return []
    rows = lake.read(table, version, [*_COLUMNS, *ORDER])
    return [
        _holding(table, origin, rows.filter(pc.equal(rows["origin"], origin)))
        for origin in sorted(pc.unique(rows["origin"]).to_pylist())
    ]


def licence_chart(held: Sequence[Holding], most: int = 12) -> str:
    """Records under the most frequent licences, stacked by source, as SVG."""
    counts: dict[str, dict[str, float]] = {}
    for holding in held:
        for licence, number in holding.licences.items():
            counts.setdefault(licence, {})[holding.origin] = float(number)
    first = sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:most]
    rows = [(licence, parts, f"{sum(parts.values()):,.0f}") for licence, parts in first]
    colours = {
        holding.origin: charts.COLOURS[k % len(charts.COLOURS)] for k, holding in enumerate(held)
    }
    return charts.bars(rows, colours, "Records by licence")


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

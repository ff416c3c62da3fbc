"""Where data came from, as a person reads it in a terminal: sources, and one document's way."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from rich.markup import escape
from rich.table import Table

from datalake.inventory import Holding, inventory
from datalake.provenance import Trace
from orchestration import freshness, resources

_NUM_LICENCES = 3  # shown of a source, the most frequent first


def sources_table() -> Table:
    """Every source of the recipe and of the lake: what it is, what it holds, when refreshed."""
    recipe, lake = resources.recipe(), resources.workspace().lake
    table = Table(
        "source",
        "kind",
        "table",
        "snapshots",
        "records",
        "MB",
        "licences",
        "last refresh",
        box=None,
    )
    held = {(holding.table, holding.origin): holding for holding in inventory(lake)}
    for name, source in recipe.datalake.sources.items():
        holding = held.pop((source.table, name), None)
        table.add_row(name, source.kind, source.table, *_cells(source.table, holding))
    for (raw, name), holding in held.items():  # of other recipes, and the inbox
        table.add_row(name, ", ".join(holding.kinds), raw, *_cells(raw, holding))
    return table


def trace_tables(found: Trace) -> list[Table]:
    """What every version of a raw row says, and what each stage says beyond that."""
    tables, said = [], dict[str, Any]()
    rows = [(f"{name}, snapshot {row['snapshot']}", row) for name, row in found.raw]
    for title, row in [*rows, *found.stages.items()]:
        news = {k: v for k, v in row.items() if v not in (None, "", []) and said.get(k) != v}
        said |= row
        tables.append(_facts(title, news))
    return tables


def _cells(raw: str, holding: Holding | None) -> tuple[str, ...]:
    if holding is None:
        return ("none", "0", "0", "", "never")
    snapshots = holding.snapshots[-1].name
    if len(holding.snapshots) > 1:
        snapshots = f"{len(holding.snapshots)}, newest {snapshots}"
    names = [f"{licence} {n:,}" for licence, n in holding.licences.most_common(_NUM_LICENCES)]
    if (more := len(holding.licences) - _NUM_LICENCES) > 0:
        names.append(f"{more} more")
    return (
        escape(snapshots),
        f"{holding.records:,}",
        f"{holding.num_bytes / 1e6:,.1f}",
        escape(", ".join(names)),
        _last_refresh(raw),
    )


def _last_refresh(table: str) -> str:
    """When the asset was last made, also where it found nothing new."""
    made = freshness.last(dg.DagsterInstance.get(), table)
    if made is None:
        return "outside of the graph"
    at = datetime.fromtimestamp(made.value(freshness.MADE_AT) or 0, UTC)
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _facts(title: str, row: Mapping[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in row.items():
        table.add_row(f"  {name}", escape(str(value)))
    return table

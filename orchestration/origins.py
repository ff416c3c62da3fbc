"""Where data came from, as a person reads it in a terminal: sources, and one document's way."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from rich.markup import escape
from rich.table import Table

from datalake.inventory import Holding, inventory
from datalake.provenance import Trace
from orchestration import freshness, resources

_NUM_LICENCES = 3  # shown of a source, the most frequent first
_ROW = "{:<12} {:<12} {:<14} {:>9} {:>9}  {}"
_LICENCE_WIDTH = 30  # characters: an expression may name a dozen


def source_lines() -> Iterator[str]:
    """Every source of the recipe and of the lake: what it is, what it holds, when refreshed.

    Two lines each; the second names the licences.
    """
    recipe, lake = resources.recipe(), resources.workspace().lake
    yield _ROW.format("source", "kind", "snapshots", "records", "MB", "last refresh, UTC")
    held = {(holding.table, holding.origin): holding for holding in inventory(lake)}
    for name, source in recipe.datalake.sources.items():
        yield from _lines(name, source.kind, source.table, held.pop((source.table, name), None))
    for (raw, name), holding in held.items():  # of other recipes, and the inbox
        kinds = ", ".join(filter(None, holding.kinds))
        yield from _lines(name or "unnamed", kinds, raw, holding)


def trace_tables(found: Trace) -> list[Table]:
    """What every version of a raw row says, and what each stage says beyond that."""
    tables, said = [], dict[str, Any]()
    rows = [(f"{name}, snapshot {row['snapshot']}", row) for name, row in found.raw]
    for title, row in [*rows, *found.stages.items()]:
        news = {k: v for k, v in row.items() if v not in (None, "", []) and said.get(k) != v}
        said |= row
        tables.append(_facts(title, news))
    return tables


def _lines(name: str, kind: str, raw: str, holding: Holding | None) -> Iterator[str]:
    if holding is None:
        yield _ROW.format(name, kind, "none", "0", "0", "never")
        return
    newest, number = holding.snapshots[-1].name, len(holding.snapshots)
    yield _ROW.format(
        name,
        kind,
        newest if number == 1 else f"{number}, to {newest}",
        f"{holding.records:,}",
        f"{holding.num_bytes / 1e6:,.1f}",
        _last_refresh(raw),
    )
    first = holding.licences.most_common(_NUM_LICENCES)
    names = [f"{_short(licence)} {n:,}" for licence, n in first]
    if (more := len(holding.licences) - _NUM_LICENCES) > 0:
        names.append(f"{more} more")
    yield f"  {raw}: {', '.join(names)}"


def _short(licence: str) -> str:
    return licence if len(licence) <= _LICENCE_WIDTH else f"{licence[:_LICENCE_WIDTH]}…"


def _last_refresh(table: str) -> str:
    """When the asset was last made, also where it found nothing new."""
    made = freshness.last(dg.DagsterInstance.get(), table)
    if made is None:
        return "outside of the graph"
    at = datetime.fromtimestamp(made.value(freshness.MADE_AT) or 0, UTC)
    return f"{at:%Y-%m-%d %H:%M}"


def _facts(title: str, row: Mapping[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in row.items():
        table.add_row(f"  {name}", escape(str(value)))
    return table

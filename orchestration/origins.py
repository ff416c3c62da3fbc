"""Where data came from, as a person reads it in a terminal: sources, and one document's way."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from rich.markup import escape
from rich.table import Table

from datalake.inventory import Holding, inventory
from datalake.provenance import Trace
from orchestration import freshness, resources

if TYPE_CHECKING:
    from training.token_tables.readings import Readings

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


def step_table(readings: "Readings", step: int) -> Table:
    """Every piece of a document that trained ``step``, row after row."""
    pieces = readings.documents(step)
    num_documents = len({piece.document["doc_id"] for piece in pieces})
    title = (
        f"step {step} of {readings.num_steps} read {len(readings.rows(step))} rows of tokens "
        f"{readings.version}: {num_documents} documents"
    )
    table = Table("row", "from", "document", "title", "licence", "address", box=None, title=title)
    table.title_justify = "left"
    for column in table.columns:
        column.overflow = "fold"
    said = None
    for piece in pieces:
        facts = [str(piece.document.get(name) or "") for name in ("title", "licence", "uri")]
        row = "" if piece.row_id == said else str(piece.row_id)
        said = piece.row_id
        table.add_row(row, str(piece.start), piece.document["doc_id"], *map(escape, facts))
    return table


def document_lines(readings: "Readings", name: str) -> Iterator[str]:
    """The steps that the document trained, a line for each of its rows."""
    document = readings.find(name)
    found = readings.steps(document["doc_id"])
    steps = sorted({reading.step for reading in found})
    yield f"{document['doc_id']}  {document['title']}  {document['uri']}"
    yield f"trained {len(steps)} of {readings.num_steps} steps of tokens {readings.version}"
    for row_id in sorted({reading.row_id for reading in found}):
        own = [str(reading.step) for reading in found if reading.row_id == row_id]
        yield f"  row {row_id:<10} steps {', '.join(own)}"


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

"""One body for every asset: ask whether it is fresh, build it, describe what was made."""

import base64
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.workspace import Made, Workspace
from orchestration import freshness, resources
from orchestration.step import Step

FORCE = "tarn/force"  # run tag: recompute what is fresh, too
OWNERS = ["team:tarn"]
_LARGEST_PLOT = 100_000  # bytes: a plot lies in the event log

terminal = logging.getLogger("tarn")  # the command line listens; a run from the UI does not


def asset_of(step: Step) -> dg.AssetsDefinition:
    """The Dagster asset of ``step``."""

    @dg.asset(
        key=dg.AssetKey(step.key.split("/")),
        deps=[dg.AssetKey(key.split("/")) for key in step.inputs],
        group_name=step.group,
        kinds=set(step.kinds),
        owners=OWNERS,
        description=step.says,
        code_version=freshness.code_version(step, resources.recipe()),
        metadata=_columns(step.key),
    )
    def body(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        recipe = resources.recipe()
        origin = {"dagster/run_id": context.run_id, "tarn/recipe": recipe.name}
        workspace = resources.workspace(_announcer(context, step.key), origin)
        forced = context.run.tags.get(FORCE, "") in ("true", step.key)
        reason = freshness.why_stale(context.instance, step, recipe, workspace)
        if reason is None and not forced:
            workspace.say("unchanged")
            old = freshness.last(context.instance, step.key)
            assert old is not None, step.key
            return _result(step, old.content, {**old.metadata, "unchanged": True})
        workspace.say(f"computing: {reason or 'asked to'}")
        watched = step.watched(recipe, workspace)
        started = time.monotonic()
        try:
            inputs = freshness.input_versions(context.instance, step)
            made = step.builder(workspace, inputs, step.section(recipe))
        except Refusal as refusal:
            raise dg.Failure(description=str(refusal), allow_retries=False) from None
        seconds = time.monotonic() - started
        return _result(step, made.content, _describe(step, made, seconds, watched, workspace))

    return body


def _result(step: Step, content: str, metadata: Mapping[str, Any]) -> dg.MaterializeResult:
    return dg.MaterializeResult(data_version=dg.DataVersion(content), metadata=dict(metadata))


def _describe(
    step: Step, made: Made, seconds: float, watched: str, workspace: Workspace
) -> dict[str, Any]:
    is_table = step.key in TABLES
    uri = workspace.lake.uri(step.key) if is_table else str(made.version)
    described: dict[str, Any] = {
        freshness.VERSION: made.version,
        freshness.MADE_AT: time.time(),
        freshness.WATCHED: watched,
        "tarn/seconds": round(seconds, 2),
        "dagster/row_count": made.rows,
        "dagster/uri": uri,
        "bytes": made.num_bytes,
        "unchanged": False,
        **made.report,
    }
    if is_table:
        described["dagster/table_name"] = step.key
    for title, svg in made.plots.items():
        if len(svg) <= _LARGEST_PLOT:
            data = base64.b64encode(svg.encode()).decode()
            described[title] = dg.MetadataValue.md(f"![{title}](data:image/svg+xml;base64,{data})")
    return described


def _columns(key: str) -> dict[str, Any]:
    """The table's columns with meaning and unit, as Dagster shows them."""
    if key not in TABLES:
        return {}
    columns = [
        dg.TableColumn(
            c.name,
            str(c.type),
            description=f"{c.meaning}, {c.unit}" if c.unit else c.meaning,
            constraints=dg.TableColumnConstraints(
                nullable=c.nullable,
                unique=c.name == TABLES[key].key and not TABLES[key].key_parts,
            ),
        )
        for c in TABLES[key].columns
    ]
    return {"dagster/column_schema": dg.TableSchema(columns)}


def _announcer(context: dg.AssetExecutionContext, key: str) -> Callable[[str], None]:
    def say(line: str) -> None:
        context.log.info(line)
        terminal.info(line, extra={"asset": key})

    return say

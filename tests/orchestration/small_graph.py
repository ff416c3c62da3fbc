"""A graph of three assets over real tables, whose settings a test can turn."""

from typing import Any

from datalake.config import Config, Refusal
from datalake.workspace import Inputs, Made, Workspace
from orchestration.step import Step
from tests.datalake.test_tables import kept

VALUES: dict[str, Any] = {}
BUILT: list[str] = []


class Number(Config):
    """How many rows, or from which row on."""

    value: int


def start() -> None:
    """The settings that every test begins with."""
    VALUES.update(source=9, middle=3, last=0, outside="")
    BUILT.clear()


def source(workspace: Workspace, inputs: Inputs, config: Number) -> Made:
    return _write(workspace, "kept", range(config.value))


def middle(workspace: Workspace, inputs: Inputs, config: Number) -> Made:
    if config.value < 0:
        raise Refusal(f"middle.value must be at least 0, got {config.value}")
    rows = workspace.lake.read("kept", int(inputs["kept"]))["num_bytes"].to_pylist()
    # Every number below the limit says the same, as many thresholds of a rule do.
    return _write(workspace, "corpus", [row for row in rows if row >= min(config.value, 5)])


def last(workspace: Workspace, inputs: Inputs, config: Number) -> Made:
    BUILT.append("tokenizer")
    rows = len(workspace.lake.read("corpus", int(inputs["corpus"])))

    def write(folder: Any) -> None:
        (folder / "count.txt").write_text(str(rows))

    path, digest = workspace.save_artifact("tokenizer", write)
    return Made(version=path, content=digest, rows=rows, num_bytes=1)


def _write(workspace: Workspace, name: str, numbers: Any) -> Made:
    BUILT.append(name)
    table = kept(list(numbers))
    if name == "corpus":
        table = _as_corpus(table)
    made = workspace.lake.overwrite(name, table)
    return Made(
        version=made.version, content=made.content, rows=made.rows, num_bytes=made.num_bytes
    )


def _as_corpus(table: Any) -> Any:
    import pyarrow as pa

    from datalake.schemas import TABLES

    schema = TABLES["corpus"].arrow
    filled = {
        field.name: table[field.name]
        if field.name in table.column_names
        else pa.array([0 if pa.types.is_integer(field.type) else None] * len(table), field.type)
        if field.nullable or pa.types.is_integer(field.type)
        else pa.array([1.0 if pa.types.is_floating(field.type) else "x"] * len(table), field.type)
        for field in schema
    }
    return pa.table(filled, schema=schema)


def steps() -> tuple[Step, ...]:
    """The graph under the present settings."""

    def number(name: str) -> Any:
        return lambda recipe: Number(value=VALUES[name])

    here = "tests.orchestration.small_graph"
    return (
        Step(
            key="kept",
            group="one",
            build=f"{here}:source",
            section=number("source"),
            says="Numbers.",
            watched=lambda recipe, workspace: VALUES["outside"],
        ),
        Step(
            key="corpus",
            group="one",
            inputs=("kept",),
            build=f"{here}:middle",
            section=number("middle"),
            says="Numbers from a limit on.",
        ),
        Step(
            key="tokenizer",
            group="two",
            inputs=("corpus",),
            build=f"{here}:last",
            section=number("last"),
            says="How many there are.",
        ),
    )

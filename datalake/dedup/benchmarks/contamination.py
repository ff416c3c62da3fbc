"""Decontamination: which benchmark items the documents hold, where, and what is cut for it.

A score on a benchmark means little for a model that was trained on its answers. Every evaluation
table of the lake, and every benchmark file that the recipe names, is looked for in the documents
that survived; ``styles`` says what the published recipes call found. The rows say
where, and ``cuts_of_contamination`` makes cuts of those that the recipe acts upon. Items with rows
are the dirty ones, for an evaluation that reports clean scores beside the whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, StringConstraints

from datalake.config import Config, Refusal
from datalake.cuts import SCHEMA as CUTS
from datalake.dedup.benchmarks.findings import COUNTED, Findings
from datalake.dedup.benchmarks.items import Benchmark, EvaluationTable, Items, read_items
from datalake.dedup.benchmarks.search import (
    READ,
    Removal,
    Search,
    Tally,
    Verdict,
    decide,
    locate,
    plan,
    tally,
)
from datalake.dedup.benchmarks.styles import NGrams, Style
from datalake.dedup.clustering.survivors import surviving_ids
from datalake.tables import Commit, Lake, Part
from datalake.workspace import Inputs, Workspace

MAX_SURVIVORS = 5_000_000  # whose ids go to every worker; with more, all documents are read

BenchmarkName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]

_TABLES = {
    "instructions": EvaluationTable(
        text=("prompt", "answer"),
        id="item_id",
        where={"split": ("validation", "test_values", "test_templates")},
    )
}


class ContaminationConfig(Config):
    """What is looked for, by which style, and what is done where it is found."""

    action: Literal["drop", "remove", "report"]  # whole documents, matches, or nothing
    style: Style = NGrams()
    tables: dict[str, EvaluationTable] = _TABLES  # of the lake; those among the inputs are read
    benchmarks: dict[BenchmarkName, Benchmark] = Field(default_factory=dict)
    removal: Removal = Removal()  # of the action ``remove``
    max_index_bytes: int = Field(default=1 << 30, ge=1)  # every Python worker holds the index


def find_contamination(
    workspace: Workspace,
    inputs: Inputs,
    config: ContaminationConfig,
    max_survivors: int = MAX_SURVIVORS,
) -> tuple[Commit, Findings]:
    """Write ``contamination`` from documents, duplicates and every evaluation table present.

    Raises Refusal where there is nothing to look for, and what ``read_items``, ``plan`` and
    ``decide`` raise.
    """
    from datalake import spark

    lake, version = workspace.lake, int(inputs["documents"])
    versions = {name: int(inputs[name]) for name in config.tables if name in inputs}
    if not versions and not config.benchmarks:
        rule = f"given, or one of {', '.join(config.tables) or 'the tables'} among the inputs"
        raise Refusal(f"contamination.benchmarks must be {rule}, got neither")
    items = read_items(lake, versions, config.tables, config.benchmarks)
    columns = {name: len(table.text) for name, table in config.tables.items()}
    columns |= {name: len(one.text) for name, one in config.benchmarks.items()}
    search = plan(items, config.style, columns, config.max_index_bytes)
    workspace.say(
        f"looking for {int(search.matchable.sum()):,} of {len(items):,} items by "
        f"{search.index.num_grams:,} n-grams, {search.index.num_bytes / 1e6:,.0f} MB"
    )
    context = spark.session(workspace).sparkContext
    shared = context.broadcast(search)
    survivors = context.broadcast(surviving_ids(lake, int(inputs["duplicates"]), max_survivors))
    tallies = spark.each_part(workspace, "documents", version, _Tallying(lake, shared, survivors))
    total = Tally.total(one for _, one in tallies)
    verdict = decide(total, search)
    # Other parts have no row, so they are not read again.
    paths = frozenset(path for path, one in tallies if verdict.grams[one.grams].any())
    parts = list[Part]()
    if paths:
        workspace.say(f"{int(verdict.found.sum()):,} items found, in {len(paths)} parts")
        place = context.broadcast(_Place(items.ids, verdict, config.action, config.removal))
        for written in spark.each_part(
            workspace, "documents", version, _Locating(lake, shared, survivors, place, paths)
        ):
            parts += written
        place.destroy()
    shared.destroy()
    survivors.destroy()
    commit = lake.commit("contamination", parts, mode="overwrite", inputs=inputs)
    return commit, _findings(lake, commit, items, search, total)


def cuts_of_contamination(rows: pa.Table) -> pa.Table:
    """Rows of ``cuts`` for rows of ``contamination``: what the recipe's action takes, once each.

    The reason of a cut is ``contaminated_by_`` and the name of the benchmark.
    """
    rows = rows.filter(rows["remove"])
    unique = rows.group_by(["doc_id", "source", "cut_start", "cut_end", "benchmark"]).aggregate([])
    columns = {
        "doc_id": unique["doc_id"],
        "source": unique["source"],
        "start": unique["cut_start"],
        "end": unique["cut_end"],
        "reason": pc.binary_join_element_wise("contaminated_by_", unique["benchmark"], ""),
        "replacement": pa.repeat("", len(unique)),
    }
    return pa.table([columns[name] for name in CUTS.names], schema=CUTS)


@dataclass(frozen=True)
class _Reading:
    """A task that reads the documents of a part that survived."""

    lake: Lake
    search: Any  # broadcast Search
    survivors: Any  # broadcast ids, ascending, or None where all documents are read

    def batches(self, part: Part) -> Any:
        survivors: np.ndarray | None = self.survivors.value
        for batch in self.lake.open_part("documents", part, READ, batch_rows=256):
            if survivors is not None:
                ids = np.array(batch["doc_id"].to_pylist(), dtype="S32")
                places = np.searchsorted(survivors, ids)
                stays = np.searchsorted(survivors, ids, side="right") > places
                batch = batch.filter(pa.array(stays))
            if len(batch):
                yield batch


@dataclass(frozen=True)
class _Tallying(_Reading):
    def __call__(self, part: Part) -> tuple[str, Tally]:
        search: Search = self.search.value
        return part.path, Tally.total(tally(batch, search) for batch in self.batches(part))


@dataclass(frozen=True)
class _Place:
    """What the second reading needs beside the search."""

    ids: tuple[str, ...]
    verdict: Verdict
    action: str
    removal: Removal


@dataclass(frozen=True)
class _Locating(_Reading):
    place: Any  # broadcast _Place
    paths: frozenset[str]  # of parts that are read

    def __call__(self, part: Part) -> list[Part]:
        if part.path not in self.paths:
            return []
        search, place = self.search.value, self.place.value
        rows = (
            locate(batch, place.ids, search, place.verdict, place.action, place.removal)
            for batch in self.batches(part)
        )
        return self.lake.write_parts("contamination", rows)


def _findings(lake: Lake, commit: Commit, items: Items, search: Search, total: Tally) -> Findings:
    counts: Mapping[str, tuple[int, int]] = {
        name: (
            int(np.sum(items.benchmarks == k)),
            int(np.sum(search.matchable[items.benchmarks == k])),
        )
        for k, name in enumerate(items.names)
    }
    return Findings.of(
        lake.batches("contamination", commit.version, COUNTED),
        counts,
        total.num_documents,
        total.num_bytes,
    )

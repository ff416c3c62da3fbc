"""A new snapshot is measured and compared without measuring the old ones again."""

import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from datalake import run
from datalake.filters.rules import KeptConfig
from datalake.workspace import Made, Version, Workspace
from tests.datalake.document_rows import documents
from tests.datalake.test_curation import prose

RULES = KeptConfig(rules={"web": ("gopher_quality",)}, unknown_licence={"web": "keep"})


def pages(number: int) -> pa.RecordBatch:
    """Pages of which every third is nearly the one before, and every fifth is its copy."""
    texts: list[str] = []
    for k in range(number):
        if k % 5 == 4:
            texts.append(texts[-1])
        elif k % 3 == 2:
            texts.append(texts[-1].replace("w", "v", 1))
        else:
            texts.append(prose(k))
    return documents(*texts)


def curated(workspace: Workspace, rows: Sequence[int], of: pa.RecordBatch) -> dict[str, Made]:
    """Signals, decisions and duplicates of some of the pages, in parts of five."""
    lake = workspace.lake
    chosen = of.take(pa.array(rows, pa.int64()))
    batches = [chosen.slice(k, 5) for k in range(0, len(chosen), 5)]
    parts = [part for batch in batches for part in lake.write_parts("documents", [batch])]
    made: dict[str, Made] = {}
    versions: dict[str, Version] = {
        "documents": lake.commit("documents", parts, "overwrite").version
    }
    for name, stage in (
        ("signals", lambda: run.signals(workspace, versions, run.SignalsConfig())),
        ("kept", lambda: run.kept(workspace, versions, RULES)),
        ("duplicates", lambda: run.duplicates(workspace, versions, run.DuplicatesConfig())),
    ):
        made[name] = stage()
        versions[name] = made[name].version
    return made


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_snapshots_in_any_split_come_to_what_a_run_from_scratch_gives(
    spark_workspace: Workspace, tmp_path: Path, seed: int
) -> None:
    draw, every = random.Random(seed), pages(30)
    rows = draw.sample(range(30), 30)
    ends = sorted(draw.sample(range(3, 29), 2)) + [30]
    seen: set[int] = set()
    for end in ends:  # each keeps most of what was there, and loses one page
        here = [row for row in rows[:end] if row != rows[end - 1]] if end < 30 else rows
        made = curated(spark_workspace, here, every)
        report = made["signals"].report
        assert report["measured now"] == len(set(here) - seen)
        assert report["taken over"] == len(set(here) & seen)
        seen = set(here)
    scratch = Workspace(home=tmp_path / "scratch", say=lambda line: None)
    alone = curated(scratch, rows, every)
    assert {k: m.content for k, m in made.items()} == {k: m.content for k, m in alone.items()}


def test_a_page_that_changed_is_measured_anew_and_other_definitions_measure_all(
    spark_workspace: Workspace,
) -> None:
    curated(spark_workspace, range(6), pages(6))
    changed = documents(*pages(6)["text"].to_pylist()[:5], prose(77))
    again = curated(spark_workspace, range(6), changed)
    assert again["signals"].report["measured now"] == 1
    version = spark_workspace.lake.latest("documents")
    assert version is not None
    made = run.signals(
        spark_workspace, {"documents": version}, run.SignalsConfig(words="whitespace")
    )
    assert (made.report["measured now"], made.report["taken over"]) == (6, 0)

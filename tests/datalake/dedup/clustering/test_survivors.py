"""Survivors: the order of the rule, and what the others are to the one that stays."""

import random
from typing import Any

import pyarrow as pa

from datalake import spark
from datalake.dedup.clustering.survivors import survivors
from datalake.workspace import Workspace

DEFAULTS: dict[str, Any] = {
    "source": "web",
    "num_bytes": 10,
    "num_tokens": 2,
    "licence": None,
    "licence_class": "unknown",
    "snapshot": "2026-01-01",
    "text_digest": "",
    "url_key": "",
    "quality": 1.0,
    "cluster": None,
}
SCHEMA = pa.schema(
    [("doc_id", pa.string()), ("source", pa.string())]
    + [("num_bytes", pa.int64()), ("num_tokens", pa.int64())]
    + [(n, pa.string()) for n in ("licence", "licence_class", "snapshot", "text_digest", "url_key")]
    + [("quality", pa.float64()), ("cluster", pa.string())]
)


def chosen(workspace: Workspace, rows: list[dict[str, Any]]) -> dict[str, tuple[str, str, str]]:
    """Survivor, kind and cluster of each row."""
    table = pa.Table.from_pylist([DEFAULTS | row for row in rows], schema=SCHEMA)
    clusters = table.select(["doc_id", "cluster"]).filter(table["cluster"].is_valid())
    session = spark.session(workspace)
    kept = session.createDataFrame(table.drop_columns("cluster"))
    made = survivors(kept, session.createDataFrame(clusters)).toArrow()
    assert len(made) == len(rows)
    return {r["doc_id"]: (r["survivor"], r["kind"], r["cluster"]) for r in made.to_pylist()}


def test_quality_then_licence_then_snapshot_then_id_decide(spark_workspace: Workspace) -> None:
    rows = [  # from the worst to the best
        {"doc_id": "a", "quality": None, "licence": "MIT", "licence_class": "permissive"},
        {"doc_id": "b", "quality": float("nan"), "licence": "MIT", "snapshot": "2025-01-01"},
        {"doc_id": "c", "quality": float("-inf"), "licence": "MIT"},
        {"doc_id": "d", "quality": -1.0},
        {"doc_id": "e", "quality": 1.0, "snapshot": "2024-01-01"},
        {"doc_id": "w", "licence": "LicenseRef-own"},
        {"doc_id": "f", "licence": "GPL-3.0-only", "licence_class": "copyleft"},
        {"doc_id": "z", "licence": "MIT", "licence_class": "permissive"},
        {"doc_id": "y", "licence": "MIT", "licence_class": "permissive"},
        {"doc_id": "x", "licence": "MIT", "licence_class": "permissive", "snapshot": "2025-12-31"},
    ]
    every = []
    for k in range(2, len(rows) + 1):  # the first k rows as a cluster of their own
        every += [r | {"doc_id": f"{r['doc_id']}{k}", "cluster": f"c{k}"} for r in rows[:k]]
    random.Random(0).shuffle(every)
    found = chosen(spark_workspace, every)
    for k in range(2, len(rows) + 1):
        # Two without quality: the licence that is known to be permissive comes first.
        best = "a" if k == 2 else rows[k - 1]["doc_id"]
        assert {found[f"{row['doc_id']}{k}"][0] for row in rows[:k]} == {f"{best}{k}"}


def test_a_copy_is_what_it_is_to_its_survivor(spark_workspace: Workspace) -> None:
    rows = [
        {"doc_id": "a", "text_digest": "x", "url_key": "p", "quality": 9.0, "cluster": "a"},
        {"doc_id": "b", "text_digest": "x", "url_key": "p", "cluster": "a"},
        {"doc_id": "c", "text_digest": "y", "url_key": "p", "cluster": "a"},
        {"doc_id": "d", "text_digest": "y", "url_key": "q", "cluster": "a"},
        {"doc_id": "e", "text_digest": "y", "url_key": "", "quality": 2.0, "cluster": "e"},
        {"doc_id": "f", "text_digest": "z", "url_key": "", "cluster": "e"},
        {"doc_id": "g", "text_digest": "x", "url_key": "p"},
    ]
    assert chosen(spark_workspace, rows) == {
        "a": ("a", "exact", "a"),
        "b": ("a", "exact", "a"),
        "c": ("a", "url", "a"),
        "d": ("a", "near", "a"),
        "e": ("e", "exact", "e"),
        "f": ("e", "near", "e"),
        "g": ("g", "unique", "g"),
    }

"""Clusters: stars, components on the driver and in Spark, who survives, and text-dedup's view."""

import random

import pyarrow as pa
import pytest

from datalake import spark
from datalake.dedup.clusters import (
    components,
    driver_components,
    spark_components,
    star_edges,
    survivors,
)
from datalake.workspace import Workspace


def edge_table(pairs: list[tuple[int, int]]) -> pa.Table:
    """Edges from the larger to the smaller of each pair, named as documents are."""
    named = sorted({(f"{max(p):032x}", f"{min(p):032x}") for p in pairs if p[0] != p[1]})
    return pa.table(
        {"doc_id": pa.array([a for a, _ in named]), "star": pa.array([b for _, b in named])}
    )


def as_dict(table: pa.Table) -> dict[str, str]:
    keys = table["doc_id"].to_pylist()
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, table["cluster"].to_pylist(), strict=True))


def union_find(edges: pa.Table) -> dict[str, str]:
    from text_dedup.utils import UnionFind

    forest = UnionFind()
    for row in edges.to_pylist():
        forest.union(row["doc_id"], row["star"])
    roots: dict[str, list[str]] = {}
    for node in list(forest.parent):
        roots.setdefault(forest.find(node), []).append(node)
    return {node: min(members) for members in roots.values() for node in members}


GRAPHS = {
    "a chain": [(k, k + 1) for k in range(40)],
    "a chain in shuffled order": list(
        zip(order := random.Random(1).sample(range(60), 60), order[1:], strict=False)
    ),
    "two stars that touch": [(0, k) for k in range(1, 20)] + [(k, 50) for k in range(19, 40)],
    "a ring beside a pair": [(k, (k + 1) % 15) for k in range(15)] + [(100, 101)],
    "at random": [
        (random.Random(k).randrange(300), random.Random(k + 999).randrange(300)) for k in range(180)
    ],
}


@pytest.mark.parametrize("name", GRAPHS)
def test_components_on_the_driver_equal_those_of_text_dedup(name: str) -> None:
    edges = edge_table(GRAPHS[name])
    assert as_dict(driver_components(edges)) == union_find(edges)


@pytest.mark.parametrize("name", GRAPHS)
def test_components_by_stars_in_spark_equal_those_on_the_driver(
    spark_workspace: Workspace, name: str
) -> None:
    edges = edge_table(GRAPHS[name])
    frame = spark.session(spark_workspace).createDataFrame(edges)
    assert as_dict(spark_components(frame).toArrow()) == as_dict(driver_components(edges))


def test_too_many_edges_for_the_driver_go_to_spark_with_the_same_result(
    spark_workspace: Workspace,
) -> None:
    frame = spark.session(spark_workspace).createDataFrame(edge_table(GRAPHS["a chain"]))
    few = components(frame, max_driver_edges=40).toArrow()
    assert as_dict(few) == as_dict(components(frame, max_driver_edges=39).toArrow())


def test_no_edges_make_no_clusters(spark_workspace: Workspace) -> None:
    session = spark.session(spark_workspace)
    empty = session.createDataFrame([], "doc_id string, star string")
    assert components(empty).count() == 0
    assert spark_components(empty).count() == 0


def test_documents_with_an_equal_key_make_a_star_and_no_clique(spark_workspace: Workspace) -> None:
    signals = pa.table(
        {
            "doc_id": ["d", "b", "c", "a", "e", "f"],
            "text_digest": ["1", "2", "3", "4", "5", "5"],
            "band_keys": pa.array(
                [[7, 8], [7, 9], [7, 10], [11, 10], [], []], pa.list_(pa.int64())
            ),
        }
    )
    edges = star_edges(spark.session(spark_workspace).createDataFrame(signals)).toArrow()
    pairs = {(row["doc_id"], row["star"]) for row in edges.to_pylist()}
    # b, c, d share key 7; a, c share key 10; e, f have the same text and no keys.
    assert pairs == {("d", "b"), ("c", "b"), ("c", "a"), ("f", "e")}


def test_the_survivor_has_a_licence_then_length_then_the_smallest_id(
    spark_workspace: Workspace,
) -> None:
    rows = [  # doc_id, licence, num_bytes, text_digest, cluster
        ("a1", None, 900, "x", "a1"),
        ("a2", "MIT", 100, "y", "a1"),
        ("a3", "MIT", 200, "z", "a1"),
        ("a4", "MIT", 200, "z", "a1"),
        ("b1", None, 10, "v", None),
    ]
    kept = pa.table(
        {
            "doc_id": [r[0] for r in rows],
            "source": ["web"] * len(rows),
            "licence": pa.array([r[1] for r in rows], pa.string()),
            "num_bytes": [r[2] for r in rows],
            "text_digest": [r[3] for r in rows],
        }
    )
    clusters = pa.table(
        {"doc_id": [r[0] for r in rows if r[4]], "cluster": [r[4] for r in rows if r[4]]}
    )
    session = spark.session(spark_workspace)
    made = survivors(session.createDataFrame(kept), session.createDataFrame(clusters)).toArrow()
    by_id = {row["doc_id"]: row for row in made.to_pylist()}
    assert {k: (r["survivor"], r["kind"], r["cluster"]) for k, r in by_id.items()} == {
        "a1": ("a3", "near", "a1"),
        "a2": ("a3", "near", "a1"),
        "a3": ("a3", "exact", "a1"),
        "a4": ("a3", "exact", "a1"),
        "b1": ("b1", "unique", "b1"),
    }

"""Components: on the driver, in Spark, and as text-dedup and scipy see them."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake import spark
from datalake.dedup.clustering.components import (
    components,
    driver_components,
    node_components,
    spark_components,
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


def test_components_by_stars_in_spark_equal_those_on_the_driver(
    spark_workspace: Workspace,
) -> None:
    graphs = enumerate(GRAPHS.values())  # beside each other, so that one job joins them all
    edges = edge_table([(1000 * k + a, 1000 * k + b) for k, graph in graphs for a, b in graph])
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


EDGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60)


@given(EDGES)
def test_the_component_of_a_node_is_the_smallest_node_that_a_path_leads_to(
    edges: list[tuple[int, int]],
) -> None:
    reached = np.eye(31, dtype=bool)
    for a, b in edges:
        reached[a, b] = reached[b, a] = True
    for middle in range(31):
        reached |= np.outer(reached[:, middle], reached[middle])
    for kind in (np.int32, np.int64):
        ends, others = np.array(edges, kind).reshape(-1, 2).T.copy()
        found = node_components(ends, others, 31)
        assert found.dtype == kind
        assert found.tolist() == reached.argmax(axis=1).tolist()


@given(EDGES, st.randoms(use_true_random=False))
def test_neither_names_nor_order_of_the_edges_change_the_components(
    edges: list[tuple[int, int]], draw: random.Random
) -> None:
    table = edge_table(edges)
    # Names of several lengths, one the beginning of another, and beyond ASCII.
    name = {f"{k:032x}": draw.choice(["", "a", "aé", "日"]) + str(k) for k in range(31)}
    renamed = [sorted((name[r["doc_id"]], name[r["star"]])) for r in table.to_pylist()]
    draw.shuffle(renamed)
    other = pa.table(
        {"doc_id": [b for _, b in renamed], "star": [a for a, _ in renamed]},
        schema=pa.schema([("doc_id", pa.string()), ("star", pa.string())]),
    )
    assert as_dict(driver_components(other)) == union_find(other)


def test_as_many_components_as_scipy_finds_and_the_same() -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends, others = np.random.default_rng(0).integers(0, 200_000, (2, 150_000), np.int32)
    graph = coo_array((np.ones(len(ends), np.int8), (ends, others)), shape=(200_000, 200_000))
    count, labels = connected_components(graph, directed=False)
    found = node_components(ends, others, 200_000)
    assert len(np.unique(found)) == count
    smallest = np.full(count, 200_000)
    np.minimum.at(smallest, labels, np.arange(200_000))
    assert np.array_equal(found, smallest[labels])


@pytest.mark.parametrize("node", [-1, 3])
def test_a_node_that_does_not_exist_is_an_error(node: int) -> None:
    with pytest.raises(
        IndexError, match=f"nodes must be 0 to 2, got {min(node, 0)} to {max(node, 0)}"
    ):
        node_components(np.array([0, node]), np.array([1, 2]), 3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_random_components_by_stars_in_spark_equal_those_on_the_driver(
    spark_workspace: Workspace, seed: int
) -> None:
    draw = random.Random(seed)
    size = draw.choice([10, 100, 1000])
    edges = edge_table([(draw.randrange(size), draw.randrange(size)) for _ in range(size)])
    frame = spark.session(spark_workspace).createDataFrame(edges)
    assert as_dict(spark_components(frame).toArrow()) == as_dict(driver_components(edges))

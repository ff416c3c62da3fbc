"""Connected components: what hangs together by edges, each named by the smallest id in it.

The same components come out of the driver (one core, a disjoint-set forest over node numbers) and
of Spark (alternating large-star and small-star, Kiveris et al. 2014, "Connected Components in
MapReduce and Beyond", for more edges than one machine holds).
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from datalake.spark import DataFrame

MAX_DRIVER_EDGES = 2_000_000  # 150 MB of ids through a driver whose JVM has a gigabyte


def components(edges: "DataFrame", max_driver_edges: int = MAX_DRIVER_EDGES) -> "DataFrame":
    """(``doc_id``, ``cluster``) of every document in ``edges``; a cluster is its smallest id."""
    edges = edges.persist()
    try:
        if edges.count() > max_driver_edges:
            return spark_components(edges)
        return edges.sparkSession.createDataFrame(driver_components(edges.toArrow()))
    finally:
        edges.unpersist()


def driver_components(edges: pa.Table) -> pa.Table:
    """(``doc_id``, ``cluster``) of every document in the edge table (``doc_id``, ``star``)."""
    from datalake.dedup.clustering import graph_kernels  # numba

    ends = [c for name in ("doc_id", "star") for c in edges[name].cast(pa.large_string()).chunks]
    encoded = pa.chunked_array(ends, pa.large_string()).combine_chunks().dictionary_encode()
    doc_ids = encoded.dictionary
    if not len(doc_ids):
        return pa.table({"doc_id": doc_ids, "cluster": doc_ids}).cast(_CLUSTERS)
    nodes = encoded.indices.to_numpy()
    roots = node_components(nodes[: edges.num_rows], nodes[edges.num_rows :], len(doc_ids))
    _, offsets, data = doc_ids.buffers()
    smallest = graph_kernels.smallest_names(
        roots, np.frombuffer(offsets, np.int64), np.frombuffer(data, np.uint8)
    )
    clusters = doc_ids.take(pa.array(smallest))
    return pa.table({"doc_id": doc_ids, "cluster": clusters}).cast(_CLUSTERS)


_CLUSTERS = pa.schema([("doc_id", pa.string()), ("cluster", pa.string())])


def node_components(ends: np.ndarray, others: np.ndarray, num_nodes: int) -> np.ndarray:
    """Smallest node in the component of each of the nodes 0 to ``num_nodes`` - 1.

    Edges lie between ``ends`` and ``others``, both ``int32 [edges]`` or both ``int64 [edges]``.
    Raises IndexError for a node that is none of these.
    """
    from datalake.dedup.clustering import graph_kernels  # numba

    for nodes in (ends, others):
        if nodes.size and (nodes.min() < 0 or nodes.max() >= num_nodes):
            found = f"{nodes.min()} to {nodes.max()}"
            raise IndexError(f"nodes must be 0 to {num_nodes - 1}, got {found}")
    return graph_kernels.components(ends, others, num_nodes)


def spark_components(edges: "DataFrame") -> "DataFrame":
    """The same by large-star and small-star, each one shuffle, until the edges stay the same.

    Both keep every component connected and only ever replace a neighbour by a smaller one. At the
    fixed point each component is a star around its smallest id; O(log^2 n) rounds, in practice
    three to six.
    """
    # A checkpoint cuts the plan, which would otherwise double with every round.
    current = edges.sparkSession.sql(
        "SELECT DISTINCT doc_id AS u, star AS v FROM {edges} WHERE star < doc_id", edges=edges
    ).localCheckpoint()
    before = None
    while (now := _fingerprint(current)) != before:
        before = now
        current = _small_star(_large_star(current)).localCheckpoint()
    return current.sparkSession.sql(
        """
        SELECT u AS doc_id, v AS cluster FROM {stars}
        UNION ALL
        SELECT DISTINCT v AS doc_id, v AS cluster FROM {stars}
        """,
        stars=current,
    )


def _large_star(edges: "DataFrame") -> "DataFrame":
    """Connect every larger neighbour of u to the smallest of u and its neighbours."""
    return edges.sparkSession.sql(
        """
        WITH both AS (SELECT u, v FROM {edges} UNION ALL SELECT v AS u, u AS v FROM {edges}),
        smallest AS (SELECT u, v, least(u, min(v) OVER (PARTITION BY u)) AS m FROM both)
        SELECT DISTINCT v AS u, m AS v FROM smallest WHERE v > u
        """,
        edges=edges,
    )


def _small_star(edges: "DataFrame") -> "DataFrame":
    """Connect u and every smaller neighbour of u to the smallest of them; needs v < u."""
    return edges.sparkSession.sql(
        """
        WITH smallest AS (SELECT u, v, min(v) OVER (PARTITION BY u) AS m FROM {edges}),
        moved AS (SELECT v AS u, m AS v FROM smallest UNION ALL SELECT u, m AS v FROM smallest)
        SELECT DISTINCT u, v FROM moved WHERE u != v
        """,
        edges=edges,
    )


def _fingerprint(edges: "DataFrame") -> tuple[int, int]:
    """Number of edges and sum of their hashes: equal sets agree, others practically never."""
    query = "SELECT count(*), sum(CAST(xxhash64(u, v) AS DECIMAL(38, 0))) FROM {edges}"
    row = edges.sparkSession.sql(query, edges=edges).first()
    assert row is not None
    return row[0], int(row[1] or 0)

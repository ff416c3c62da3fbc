"""Clusters of duplicates: from equal keys to edges, from edges to components, to one survivor.

Every group of documents with an equal key becomes a star to its smallest ``doc_id``: k documents
make k - 1 edges, never k^2. Connected components of those stars are clusters. The same clusters
come out of the driver (scipy, two million edges a second) and of Spark (alternating large-star and
small-star, Kiveris et al. 2014, for more edges than one machine holds).
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from datalake.tables import Commit
from datalake.workspace import Inputs, Workspace

if TYPE_CHECKING:
    from datalake.spark import DataFrame

MAX_DRIVER_EDGES = 2_000_000  # 150 MB of ids through a driver whose JVM has a gigabyte


def write_duplicates(workspace: Workspace, inputs: Inputs, max_driver_edges: int) -> Commit:
    """Write ``duplicates``: one row for every document that ``kept`` keeps, with its survivor."""
    from datalake import spark

    kept = _sql(
        """
        SELECT signals.* FROM {signals} AS signals
        LEFT SEMI JOIN {kept} AS kept ON signals.doc_id = kept.doc_id AND kept.keep
        """,
        signals=spark.read(workspace, "signals", int(inputs["signals"]), _MEASURED),
        kept=spark.read(workspace, "kept", int(inputs["kept"]), ("doc_id", "keep")),
    )
    clusters = components(star_edges(kept), max_driver_edges)
    return spark.write(workspace, "duplicates", survivors(kept, clusters), dict(inputs))


_MEASURED = ("doc_id", "source", "licence", "num_bytes", "text_digest", "band_keys")


def star_edges(signals: "DataFrame") -> "DataFrame":
    """Edges (``doc_id``, ``star``) between documents that share a band key or a text digest.

    ``signals`` has ``doc_id``, ``text_digest`` and ``band_keys``; ``star`` < ``doc_id``.
    """
    # One shuffle: joining the keys to the minimum of each would move every key twice.
    return _sql(
        """
        WITH keys AS (
            SELECT doc_id, explode(concat(band_keys, array(xxhash64(text_digest)))) AS key
            FROM {signals}
        ),
        stars AS (SELECT doc_id, min(doc_id) OVER (PARTITION BY key) AS star FROM keys)
        SELECT DISTINCT doc_id, star FROM stars WHERE star < doc_id
        """,
        signals=signals,
    )


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
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = [edges[name].combine_chunks().cast(pa.string()) for name in ("doc_id", "star")]
    encoded = pa.concat_arrays(ends).dictionary_encode()
    rows, columns = np.split(encoded.indices.to_numpy(), 2)
    size = len(encoded.dictionary)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    nodes = pa.table({"doc_id": encoded.dictionary, "label": labels})
    smallest = nodes.group_by("label").aggregate([("doc_id", "min")]).sort_by("label")
    clusters = smallest["doc_id_min"].combine_chunks().take(nodes["label"].combine_chunks())
    return pa.table({"doc_id": encoded.dictionary, "cluster": clusters})


def spark_components(edges: "DataFrame") -> "DataFrame":
    """The same by large-star and small-star, each one shuffle, until the edges stay the same.

    Both keep every component connected and only ever replace a neighbour by a smaller one. At the
    fixed point each component is a star around its smallest id; O(log^2 n) rounds, in practice
    three to six.
    """
    # A checkpoint cuts the plan, which would otherwise double with every round.
    current = _sql(
        "SELECT DISTINCT doc_id AS u, star AS v FROM {edges} WHERE star < doc_id", edges=edges
    ).localCheckpoint()
    before = None
    while (now := _fingerprint(current)) != before:
        before = now
        current = _small_star(_large_star(current)).localCheckpoint()
    return _sql(
        """
        SELECT u AS doc_id, v AS cluster FROM {stars}
        UNION ALL
        SELECT DISTINCT v AS doc_id, v AS cluster FROM {stars}
        """,
        stars=current,
    )


def _large_star(edges: "DataFrame") -> "DataFrame":
    """Connect every larger neighbour of u to the smallest of u and its neighbours."""
    return _sql(
        """
        WITH both AS (SELECT u, v FROM {edges} UNION ALL SELECT v AS u, u AS v FROM {edges}),
        smallest AS (SELECT u, v, least(u, min(v) OVER (PARTITION BY u)) AS m FROM both)
        SELECT DISTINCT v AS u, m AS v FROM smallest WHERE v > u
        """,
        edges=edges,
    )


def _small_star(edges: "DataFrame") -> "DataFrame":
    """Connect u and every smaller neighbour of u to the smallest of them; needs v < u."""
    return _sql(
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
    row = _sql(query, edges=edges).first()
    assert row is not None
    return row[0], int(row[1] or 0)


def survivors(kept: "DataFrame", clusters: "DataFrame") -> "DataFrame":
    """Rows of ``duplicates`` for every kept document, also for those that are alone.

    ``kept`` has doc_id, source, num_bytes, licence and text_digest; ``clusters`` doc_id and
    cluster. The survivor of a cluster is the document with a known licence, then the longest,
    then the one with the smallest id: an order of the content, never of arrival.
    """
    return _sql(
        """
        WITH named AS (
            SELECT kept.*, coalesce(clusters.cluster, kept.doc_id) AS cluster
            FROM {kept} AS kept LEFT JOIN {clusters} AS clusters ON kept.doc_id = clusters.doc_id
        ),
        ranked AS (
            SELECT
                doc_id, source, num_bytes, cluster, text_digest,
                count(*) OVER (PARTITION BY cluster) AS size,
                first(doc_id) OVER best_first AS survivor,
                first(text_digest) OVER best_first AS survivor_digest
            FROM named
            WINDOW best_first AS (
                PARTITION BY cluster ORDER BY licence IS NULL, num_bytes DESC, doc_id
            )
        )
        SELECT
            doc_id, source, num_bytes, cluster, survivor,
            CASE WHEN size = 1 THEN 'unique'
                WHEN text_digest = survivor_digest THEN 'exact'
                ELSE 'near' END AS kind
        FROM ranked
        """,
        kept=kept,
        clusters=clusters,
    )


def _sql(query: str, **frames: "DataFrame") -> "DataFrame":
    spark = next(iter(frames.values())).sparkSession
    named: dict[str, Any] = dict(frames)
    return spark.sql(query, **named)

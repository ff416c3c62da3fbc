"""Who stays of a cluster, by a rule about its documents that does not know in what order they came.

The best in quality, by a number of the recipe's choice (without one: the longest); of equally good
ones that whose licence binds least, an unknown one last; then the one that was found first, by its
snapshot; then the one with the smallest ``doc_id``.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from datalake.licences import CLASSES
from datalake.tables import Lake

if TYPE_CHECKING:
    from datalake.spark import DataFrame


def survivors(kept: "DataFrame", clusters: "DataFrame") -> "DataFrame":
    """Rows of ``duplicates`` for every kept document, also for those that are alone.

    ``kept`` has doc_id, source, num_bytes, num_tokens, licence, licence_class, snapshot,
    text_digest and ``quality`` (double, higher is better; null and NaN come last), perhaps
    ``url_key``; ``clusters`` has doc_id and cluster, of documents that are not alone.
    """
    url = "nullif(url_key, '')" if "url_key" in kept.columns else "CAST(NULL AS string)"
    classes = ", ".join(f"'{name}'" for name in CLASSES)  # from what binds least
    # The smallest of each cluster is found where its documents lie and joined to them again: a
    # window would bring a cluster of any size together in one task.
    clustered = kept.sparkSession.sql(
        f"""
        SELECT kept.*, {url} AS url, clusters.cluster,
            struct(
                isnan(coalesce(quality, double('NaN'))) AS unmeasured,
                CASE WHEN isnan(quality) THEN 0 ELSE -quality END AS quality,
                coalesce(nullif(array_position(array({classes}), licence_class), 0), 99) AS class,
                licence IS NULL AS nothing_said,
                snapshot, kept.doc_id
            ) AS place
        """
        "FROM {kept} AS kept LEFT JOIN {clusters} AS clusters ON kept.doc_id = clusters.doc_id",
        kept=kept,
        clusters=clusters,
    )
    best = kept.sparkSession.sql(
        """
        SELECT cluster, first.place.doc_id, first.text_digest, first.url FROM (
            SELECT cluster, min(struct(place, text_digest, url)) AS first
            FROM {clustered} WHERE cluster IS NOT NULL GROUP BY cluster
        )
        """,
        clustered=clustered,
    )
    return kept.sparkSession.sql(
        """
        SELECT
            one.doc_id, one.source, one.num_bytes, one.num_tokens,
            coalesce(one.cluster, one.doc_id) AS cluster,
            coalesce(best.doc_id, one.doc_id) AS survivor,
            CASE WHEN best.cluster IS NULL THEN 'unique'
                WHEN one.text_digest = best.text_digest THEN 'exact'
                WHEN one.url = best.url THEN 'url'
                ELSE 'near' END AS kind
        FROM {clustered} AS one LEFT JOIN {best} AS best ON one.cluster = best.cluster
        """,
        clustered=clustered,
        best=best,
    )


def surviving_ids(lake: Lake, version: int, most: int) -> np.ndarray | None:
    """Ids that this version of ``duplicates`` lets stay, ``S32`` ascending; None above ``most``."""
    ids, size = list[np.ndarray](), 0
    for batch in lake.batches("duplicates", version, ["doc_id", "survivor"]):
        stays = batch.filter(pc.equal(batch["doc_id"], batch["survivor"]))["doc_id"]
        size += len(stays)
        if size > most:
            return None
        ids.append(np.array(stays.to_pylist(), dtype="S32"))
    return np.sort(np.concatenate([np.zeros(0, "S32"), *ids]))

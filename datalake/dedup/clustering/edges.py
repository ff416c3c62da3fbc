"""Edges between documents with an equal key: k of them make k - 1 edges, never k^2.

A *key* is a MinHash band, a text digest or an address. The documents of one key form a star around
the smallest ``doc_id``. Two levels find it, so that no task has to hold a key of a hundred million
documents: each task joins the documents that it reads to the smallest among them and hands only
that one on; the shuffle then brings together one document a key and chunk.

With ``Verify`` a document of a band joins a star only where their signatures are alike. Those that
are not like the smallest document form a star around the smallest of themselves, and so on, up to
``MAX_STARS``: a band in which many texts came together by chance does not lose its true pairs. A
signature is then a key as well: documents with equal ones stay together, so only one of them has
to be compared, and the clusters do not depend on how documents lie in parts.

The fraction of equal minima estimates the Jaccard similarity s of two documents without bias and
with the standard deviation sqrt(s (1 - s) / n) (Broder 1997): .043 at s = .7 with 112 minima, .029
with 250. For the pairs that a band brings together it is a little high: they were chosen for r
equal minima.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from datalake.config import Config, Refusal

if TYPE_CHECKING:
    from datalake.spark import DataFrame

MAX_STARS = 16  # in one band; a document unlike all of them has its other bands
_CHUNK_ROWS = 8192  # joined at once: some megabytes of keys


class Verify(Config):
    """What two documents of a band must be like to be duplicates."""

    min_similarity: float = Field(gt=0, le=1)  # Jaccard, as estimated from their signatures


def star_edges(signals: "DataFrame", verify: Verify | None = None) -> "DataFrame":
    """Distinct edges (``doc_id``, ``star``), ``star`` < ``doc_id``, of documents that share a key.

    ``signals`` has ``doc_id``, ``text_digest`` and ``band_keys``, perhaps ``url_key``, of which an
    empty one is none, and for ``verify`` ``signature``. Raises Refusal where signatures are missing
    or of several lengths.
    """
    whole = ["xxhash64(text_digest)"]
    if "url_key" in signals.columns:
        whole.append("CASE WHEN url_key != '' THEN xxhash64('url', url_key) END")
    if verify is not None:
        _require_signatures(signals)
        whole.append("CASE WHEN signature IS NOT NULL THEN xxhash64('signature', signature) END")
    keys = signals.selectExpr(
        "doc_id",
        "band_keys",
        f"array({', '.join(whole)}) AS whole_keys",
        "0L AS alike" if verify is None else "xxhash64(signature) AS alike",
    )
    first = keys.mapInArrow(join_chunks, "key long, band boolean, doc_id string, star string")
    second = signals.sparkSession.sql(
        """
        SELECT key, band, doc_id, coalesce(star, min(doc_id) OVER same) AS star,
            star IS NULL AND band AND count(*) OVER same > 1 AS shared
        FROM {first} WINDOW same AS (PARTITION BY key, band, star)
        """,
        first=first,
    )
    if verify is not None:
        second = _verified(second, signals, verify)
    return second.where("star < doc_id").select("doc_id", "star").distinct()


def join_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """(``key``, ``band``, ``doc_id``, ``star``) of keys (``band_keys``, ``whole_keys``) and ids.

    A row with a star is an edge; one without says that ``doc_id`` is the smallest of its key here,
    for a band the smallest of those with the same number in ``alike``.
    """
    for chunk in _chunks(batches):
        doc_ids = chunk["doc_id"]
        rank = np.empty(len(doc_ids), np.int64)
        rank[pc.sort_indices(doc_ids).to_numpy()] = np.arange(len(doc_ids))
        lists = [chunk["band_keys"], chunk["whole_keys"]]
        values = [pc.list_flatten(column) for column in lists]
        there = [pc.is_valid(column).to_numpy(zero_copy_only=False) for column in values]
        key = np.concatenate([v.drop_null().to_numpy() for v in values])
        document = np.concatenate(
            [pc.list_parent_indices(c).to_numpy()[t] for c, t in zip(lists, there, strict=True)]
        )
        band = np.arange(len(key)) < there[0].sum()
        alike = np.where(band, chunk["alike"].to_numpy()[document], 0)
        order = np.lexsort((rank[document], alike, key, band))
        key, band, alike, document = key[order], band[order], alike[order], document[order]
        first = np.ones(len(key), bool)
        for column in (key, band, alike):
            first[1:] &= column[1:] == column[:-1]
        first[1:] = ~first[1:]
        star = document[first][np.cumsum(first) - 1]
        pairs = np.unique(np.stack([document, star])[:, document != star], axis=1)
        # Edges are spread over tasks by a key of their own.
        spread = np.arange(pairs.shape[1]) * np.int64(0x9E3779B97F4A7C15 - (1 << 64))
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(np.concatenate([key[first], spread])),
                pa.array(np.concatenate([band[first], np.zeros(len(spread), bool)])),
                doc_ids.take(pa.array(np.concatenate([document[first], pairs[0]]))),
                pa.concat_arrays(
                    [pa.nulls(int(first.sum()), pa.string()), doc_ids.take(pa.array(pairs[1]))]
                ),
            ],
            names=["key", "band", "doc_id", "star"],
        )


def join_alike(
    batches: Iterable[pa.RecordBatch], min_similarity: float
) -> Iterator[pa.RecordBatch]:
    """Edges (``doc_id``, ``star``) of ``key``, ``doc_id``, ``signature``, sorted by key and id.

    A star is the smallest document of its key that is like none before; of a key that goes on in
    the next chunk only the stars are held.
    """
    from datalake.dedup.clustering import graph_kernels  # numba

    held: pa.RecordBatch | None = None
    for chunk in _chunks(batches):
        rows = chunk if held is None else pa.concat_batches([held, chunk])
        key = rows["key"].to_numpy()
        (changes,) = np.nonzero(key[1:] != key[:-1])
        starts = np.concatenate([[0], changes + 1, [len(key)]])
        minima = np.frombuffer(b"".join(rows["signature"].to_pylist()), "<u4").reshape(len(key), -1)
        least = int(np.ceil(min_similarity * minima.shape[1] - 1e-9))
        star, is_star = graph_kernels.alike_stars(starts, minima, least, MAX_STARS)
        (joined,) = np.nonzero(star != np.arange(len(star)))
        yield pa.RecordBatch.from_arrays(
            [rows["doc_id"].take(pa.array(joined)), rows["doc_id"].take(pa.array(star[joined]))],
            names=["doc_id", "star"],
        )
        held = rows.filter(pa.array(is_star & (key == key[-1])))


def _verified(second: "DataFrame", signals: "DataFrame", verify: Verify) -> "DataFrame":
    """Edges of whole keys as they are, those of bands by likeness; few bands are shared."""
    sql = signals.sparkSession.sql
    shared = sql(
        """
        SELECT second.key, second.doc_id, signals.signature
        FROM {second} AS second JOIN {signals} AS signals ON second.doc_id = signals.doc_id
        WHERE second.shared
        """,
        second=second,
        signals=signals.select("doc_id", "signature"),
    )
    alike = (
        shared.repartition("key")
        .sortWithinPartitions("key", "doc_id")
        .mapInArrow(
            partial(join_alike, min_similarity=verify.min_similarity), "doc_id string, star string"
        )
    )
    return second.where("NOT band").select("doc_id", "star").union(alike)


def _require_signatures(signals: "DataFrame") -> None:
    found = signals.where("size(band_keys) > 0").selectExpr(
        "count_if(signature IS NULL)", "min(length(signature))", "max(length(signature))"
    )
    missing, shortest, longest = found.collect()[0]
    if missing:
        raise Refusal(
            "signals must hold the signature of every document with band keys to be verified, "
            f"got {missing:,} without"
        )
    if shortest != longest:
        raise Refusal(
            "signatures must be of one length to be compared, "
            f"got {shortest // 4} and {longest // 4} minima; measure signals again"
        )


def _chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows in batches of ``_CHUNK_ROWS`` or a little more; none that is empty."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(len(b) for b in held) >= _CHUNK_ROWS:
            yield pa.concat_batches(held)
            held = []
    if sum(len(b) for b in held):
        yield pa.concat_batches(held)

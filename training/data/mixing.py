"""Rows by the source of their text, and an order of them in which sources have given shares.

A row belongs to the source that most of its bytes come from. The order is made before training: a
source gives as many rows as its share asks for, none twice before all were given once, and the
sources are interleaved evenly, so that every stretch of the run holds them in about the same
shares. ``placed`` puts the rows where the loader's own permutation then finds them in that order:
the loader needs no second way of drawing, and what a step reads is a function of (seed, step, slot)
as ever.
"""

import numpy as np
import pyarrow as pa

from training.data.loader import row_ids
from training.data.rows import Rows


def bytes_by_source(
    tokens: np.ndarray,
    doc_ids: pa.ListArray,
    doc_starts: pa.ListArray,
    sources: np.ndarray,
    num_sources: int,
    bytes_per_token: np.ndarray,
) -> np.ndarray:
    """Bytes of the targets in each row that come from each source, int64 ``[rows, sources]``.

    ``tokens`` is ``[rows, context_length + 1]``; ``sources`` (int) names the source of each
    document of the flattened ``doc_ids``; ``bytes_per_token`` is int ``[vocab]``.
    """
    num_rows, length = tokens.shape
    num_bytes = bytes_per_token[tokens]
    counts = np.diff(doc_ids.offsets.to_numpy())
    rows = np.repeat(np.arange(num_rows), counts)
    begins = rows * length + doc_starts.flatten().to_numpy()
    num_bytes.ravel()[begins] = 0  # the first token of a piece is no target
    spans = np.add.reduceat(num_bytes.ravel(), begins) if len(begins) else np.empty(0, np.int64)
    summed = np.zeros((num_rows, num_sources), np.int64)
    np.add.at(summed, (rows, sources), spans)
    return summed


def apportioned(shares: np.ndarray, total: int) -> np.ndarray:
    """``total`` rows divided in proportion to ``shares``, int64: largest remainders round up."""
    exact = shares / shares.sum() * total
    counts = np.floor(exact).astype(np.int64)
    most = np.argsort(counts - exact, kind="stable")
    counts[most[: total - int(counts.sum())]] += 1
    return counts


def mixed_order(row_sources: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """Which row is read when, int64 ``[sum of counts]``: ``counts[s]`` of them of source ``s``.

    ``row_sources`` is int ``[rows]``; a source of which rows are wanted must have one. The rows of
    a source come in the same order whatever the counts, so that runs that differ in shares alone
    see the same rows as far as they can.
    """
    drawn, when = [], []
    for source, count in enumerate(counts.tolist()):
        if count:
            own = np.flatnonzero(row_sources == source)
            drawn.append(own[row_ids(seed, 0, count, len(own))])
            when.append((np.arange(count) + 0.5) / count)
    return np.concatenate(drawn)[np.argsort(np.concatenate(when), kind="stable")]


def placed(rows: Rows, order: np.ndarray, seed: int) -> Rows:
    """Rows that the loader, with ``seed``, reads in ``order`` before it reads any again."""
    places = np.empty(len(order), np.int64)
    places[row_ids(seed, 0, len(order), len(order))] = order
    return rows.take(places)

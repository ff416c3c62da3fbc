"""Documents to training rows, and which documents are held out.

Every decision about a document is a hash of what it is, keyed by the seed: never its place in a
table. Its near-duplicate cluster decides its split, so that no copy of a validation document is
trained on; its id decides how a fractional weight is rounded, and where it stands among the others,
so that rows mix sources.

A split is one stream of tokens in which ``<|endoftext|>`` opens every document. Row ``r`` is the
``context_length + 1`` tokens from ``r * context_length`` on: rows overlap by one, and so every
token of every document is a target exactly once, its first one too. The last row is filled up with
``<|endoftext|>``.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from datalake.config import Refusal

TOKENS_PER_BATCH = 1 << 20  # 2 MB


@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """What packing knows of each document, ``[documents]`` each, and where its ids are."""

    doc_ids: np.ndarray  # str
    offsets: np.ndarray  # int64 [documents + 1]: document i is tokens[offsets[i]:offsets[i + 1]]
    tokens: np.ndarray  # ids of all documents; may be a memory map

    def __len__(self) -> int:
        return len(self.doc_ids)


def uniform(names: Iterable[str], purpose: str, seed: int = 0) -> np.ndarray:
    """A number in [0, 1) for each name: the same for the same name, purpose and seed, always."""
    key = hashlib.blake2b(f"{purpose} {seed}".encode()).digest()
    draws = [hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in names]
    return (np.frombuffer(b"".join(draws), "<u8") >> np.uint64(11)) / 2.0**53


def copies(doc_ids: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How often an epoch shows each document: its weight, rounded up or down by a hash of its id.

    Int64 ``[documents]``. A weight of 2.3 is 3 for three documents in ten, and 2 for the others.
    """
    if not np.all((weights >= 0) & np.isfinite(weights)):
        wrong = weights[~((weights >= 0) & np.isfinite(weights))][0]
        raise Refusal(f"corpus.weight must be at least 0, got {wrong:g}")
    whole = np.floor(weights)
    return (whole + (uniform(doc_ids, "weight") < weights - whole)).astype(np.int64)


def held_out(
    clusters: np.ndarray, sources: np.ndarray, fraction: float, seed: int = 0
) -> np.ndarray:
    """Which documents are for validation, bool ``[documents]``: about ``fraction`` of the clusters.

    A source of at least two clusters holds out at least one, that of the smallest hash; it alone
    may come back to training when the source grows. Raises Refusal where training or validation
    would be left without a document.
    """
    names, place = np.unique(clusters, return_inverse=True)
    draws = uniform(names.tolist(), "split", seed)
    chosen = draws < fraction
    for source in np.unique(sources):
        own = np.unique(place[sources == source])
        if len(own) > 1 and not chosen[own].any():
            chosen[own[np.argmin(draws[own])]] = True
    if not len(names) or chosen.all() or not chosen.any():
        raise Refusal(
            "validation_fraction must leave documents on both sides, got "
            f"{fraction:g} for {len(names)} clusters of duplicates"
        )
    return chosen[place]


def shuffled(doc_ids: np.ndarray, copies: np.ndarray, seed: int = 0) -> np.ndarray:
    """Documents in the order of a hash of id and copy, int64 ``[sum of copies]``."""
    which = np.repeat(np.arange(len(doc_ids)), copies)
    first = np.repeat(np.cumsum(copies) - copies, copies)
    copy = np.arange(len(which)) - first
    names = [f"{doc_ids[i]} {k}" for i, k in zip(which.tolist(), copy.tolist(), strict=True)]
    return which[np.lexsort((doc_ids[which], uniform(names, "order", seed)))]


def pack(
    documents: Documents,
    order: np.ndarray,
    split: str,
    context_length: int,
    end_of_text: int,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Iterator[pa.RecordBatch]:
    """Rows of the table ``tokens``: the documents in ``order`` (int ``[documents]``), packed.

    ``doc_starts[i]`` is where ``doc_ids[i]`` begins in the row: with the ``<|endoftext|>`` that
    opens it, or at 0 where it goes on from the row before. It reaches as far as the next begins.
    """
    lengths = 1 + np.diff(documents.offsets)[order]
    begins = np.concatenate([[0], np.cumsum(lengths)])  # of each in the stream, and where that ends
    num_rows = -(-(int(begins[-1]) - 1) // context_length)
    names = pa.array(documents.doc_ids[order], pa.string())
    rows_per_batch = max(1, tokens_per_batch // context_length)
    for first in range(0, num_rows, rows_per_batch):
        rows = np.arange(first, min(first + rows_per_batch, num_rows))
        at, stop = first * context_length, (int(rows[-1]) + 1) * context_length + 1
        stream = np.full(stop - at, end_of_text, np.dtype("<u2"))
        for i in range(*_between(begins, at, stop)):
            begin, end = max(begins[i] + 1, at), min(begins[i + 1], stop)
            source = documents.offsets[order[i]] + begin - begins[i] - 1
            stream[begin - at : end - at] = documents.tokens[source : source + end - begin]
        tokens = np.lib.stride_tricks.sliding_window_view(stream, context_length + 1)
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(rows, pa.int64()),
                pa.repeat(pa.scalar(split), len(rows)),
                _binary(np.ascontiguousarray(tokens[::context_length])),
                *_spans(begins, names, rows * context_length, context_length + 1),
            ],
            names=["row_id", "split", "tokens", "doc_ids", "doc_starts"],
        )


def _between(begins: np.ndarray, at: int, stop: int) -> tuple[int, int]:
    """The range of documents that reach into the stream positions ``at .. stop - 1``."""
    first = int(np.searchsorted(begins, at, "right")) - 1
    return first, int(np.searchsorted(begins[:-1], stop, "left"))


def _spans(
    begins: np.ndarray, names: pa.Array, rows: np.ndarray, length: int
) -> tuple[pa.Array, pa.Array]:
    """The documents of each row, and where each begins in it; ``rows`` are stream positions."""
    first = np.searchsorted(begins[:-1], rows, "right") - 1
    counts = np.searchsorted(begins[:-1], rows + length, "left") - first
    offsets = np.concatenate([[0], np.cumsum(counts)])
    which = np.repeat(first - offsets[:-1], counts) + np.arange(offsets[-1])
    starts = np.maximum(begins[which] - np.repeat(rows, counts), 0)
    ends = pa.array(offsets, pa.int32())
    return (
        pa.ListArray.from_arrays(ends, names.take(pa.array(which))),
        pa.ListArray.from_arrays(ends, pa.array(starts, pa.int32())),
    )


def _binary(tokens: np.ndarray) -> pa.Array:
    """Each row of a contiguous array as one binary value, without a copy."""
    ends = np.arange(len(tokens) + 1, dtype=np.int32) * np.int32(tokens.shape[1] * 2)
    return pa.Array.from_buffers(
        pa.binary(), len(tokens), [None, pa.py_buffer(ends), pa.py_buffer(tokens)]
    )

"""Documents to training rows, and which documents are held out.

Every decision about a document is a hash of what it is, keyed by the seed: never its place in a
table. Its near-duplicate cluster decides its split, so that no copy of a validation document is
trained on; its id decides how a fractional weight is rounded, and in which order documents are
packed, so that rows mix sources.

A document of tokens t_0 .. t_(n-1) has n + 1 targets: these, then ``<|endoftext|>``. It is cut into
pieces of ``context_length`` targets, the last of which may have fewer. A piece takes a place more
than it has targets: the first holds the token before them, ``<|endoftext|>`` where the document
begins, which is read and never predicted. So every target of every document is predicted exactly
once an epoch, for each of its copies, and from no other document. Full pieces fill a row alone; the
others are packed by ``best_fit`` and cut no further. What is left of a row is filled up with
``<|endoftext|>``.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datalake.config import Refusal
from datalake.schemas import TABLES
from training.data.best_fit import best_fit
from training.data.rows import dtype_of

TOKENS_PER_BATCH = 1 << 20  # 2 MB
_GOLDEN_RATIO = 0.6180339887498949  # less 1


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


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The rule by which clusters are for validation: it says so of any document by itself."""

    fraction: float
    seed: int
    others: frozenset[str]  # clusters that the fraction leaves out, and a source holds out

    def __call__(self, clusters: np.ndarray) -> np.ndarray:
        """Which documents are for validation, bool ``[documents]``."""
        names = clusters.tolist()
        named = np.fromiter((name in self.others for name in names), bool, len(names))
        return (uniform(names, "split", self.seed) < self.fraction) | named


def hold_out(
    clusters: pa.Array | pa.ChunkedArray,
    sources: pa.Array | pa.ChunkedArray,
    fraction: float,
    seed: int = 0,
) -> HeldOut:
    """About ``fraction`` of the clusters; ``clusters`` and ``sources`` are of each document.

    A source of at least two clusters holds out at least one, that of the smallest hash; it alone
    may come back to training when the source grows. Raises Refusal where training or validation
    would be left without a document.
    """
    names, of_cluster = _interned(clusters)
    labels, of_source = _interned(sources)
    draws = uniform(names, "split", seed)
    chosen = draws < fraction
    others = set()
    for label in np.argsort(labels).tolist():
        own = np.unique(of_cluster[of_source == label])
        if len(own) > 1 and not chosen[own].any():
            least = min(own.tolist(), key=lambda place: (draws[place], names[place]))
            chosen[least] = True
            others.add(names[least])
    if not len(names) or chosen.all() or not chosen.any():
        raise Refusal(
            "validation_fraction must leave documents on both sides, got "
            f"{fraction:g} for {len(names)} clusters of duplicates"
        )
    return HeldOut(fraction, seed, frozenset(others))


def shuffled(
    doc_ids: np.ndarray, copies: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Documents in the order of a hash of id and copy, int64 ``[sum of copies]``, and the hashes.

    These are uniform in [0, 1).
    """
    which = np.repeat(np.arange(len(doc_ids)), copies)
    first = np.repeat(np.cumsum(copies) - copies, copies)
    copy = np.arange(len(which)) - first
    names = [f"{doc_ids[i]} {k}" for i, k in zip(which.tolist(), copy.tolist(), strict=True)]
    draws = uniform(names, "order", seed)
    order = np.lexsort((doc_ids[which], draws))
    return which[order], draws[order]


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Where each piece of a document lies, ``[pieces]``, in order of row and place."""

    context_length: int
    documents: np.ndarray  # int64, which document it is of
    offsets: np.ndarray  # int64, which target of the document its first one is
    num_targets: np.ndarray  # int64
    starts: np.ndarray  # int64, its first place in the row: the token before its targets
    row_offsets: np.ndarray  # int64 [rows + 1]: row r has pieces row_offsets[r] .. [r + 1] - 1

    @property
    def num_rows(self) -> int:
        return len(self.row_offsets) - 1


def arrange(
    num_tokens: np.ndarray, order: np.ndarray, draws: np.ndarray, context_length: int
) -> Packing:
    """Pieces of the documents in ``order``, as ``shuffled`` gives it with ``draws``, in rows.

    ``num_tokens`` is int ``[documents]``. A row stands where its first piece was drawn; the full
    pieces of one document follow each other by the golden ratio, which spreads them evenly.
    """
    num_full, rest = np.divmod(num_tokens[order] + 1, context_length)
    full = np.repeat(np.arange(len(order)), num_full)
    number = np.arange(len(full)) - np.repeat(np.cumsum(num_full) - num_full, num_full)
    short = np.flatnonzero(rest)
    fitted, places = best_fit(rest[short] + 1, context_length + 1)

    owner = np.concatenate([full, short])
    number = np.concatenate([number, num_full[short]])
    num_targets = np.concatenate([np.full(len(full), context_length), rest[short]])
    starts = np.concatenate([np.zeros(len(full), np.int64), places])
    rows = np.concatenate([np.arange(len(full)), len(full) + fitted])
    first = np.flatnonzero(starts == 0)  # one of each row
    drawn = np.empty(len(first))
    drawn[rows[first]] = (draws[owner[first]] + number[first] * _GOLDEN_RATIO) % 1
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(drawn, kind="stable")] = np.arange(len(first))
    rows = rank[rows]
    sequence = np.lexsort((starts, rows))
    return Packing(
        context_length=context_length,
        documents=order[owner[sequence]],
        offsets=number[sequence] * context_length,
        num_targets=num_targets[sequence],
        starts=starts[sequence],
        row_offsets=np.append(0, np.cumsum(np.bincount(rows, minlength=len(first)))),
    )


def pack(
    documents: Documents,
    packing: Packing,
    split: str,
    end_of_text: int,
    vocab_size: int,
    first_row: int = 0,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Iterator[pa.RecordBatch]:
    """Rows of the table ``tokens``, with row ids from ``first_row`` on."""
    length = packing.context_length + 1
    names = pa.array(documents.doc_ids.tolist(), pa.string())
    rows_per_batch = max(1, tokens_per_batch // length)
    for begin in range(0, packing.num_rows, rows_per_batch):
        rows = np.arange(begin, min(begin + rows_per_batch, packing.num_rows))
        bounds = packing.row_offsets[begin : rows[-1] + 2]
        pieces = slice(int(bounds[0]), int(bounds[-1]))
        ends = packing.starts[pieces] + packing.num_targets[pieces] + 1
        tokens = np.full((len(rows), length), end_of_text, dtype_of(vocab_size))
        _fill(tokens, documents, packing, pieces, np.repeat(rows - begin, np.diff(bounds)))
        offsets = pa.array(bounds - bounds[0], pa.int32())
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(first_row + rows, pa.int64()),
                pa.repeat(pa.scalar(split), len(rows)),
                _binary(tokens),
                pa.repeat(pa.scalar(vocab_size, pa.int32()), len(rows)),
                pa.array(ends[bounds[1:] - bounds[0] - 1], pa.int32()),
                *(
                    pa.ListArray.from_arrays(offsets, values)
                    for values in (
                        names.take(pa.array(packing.documents[pieces])),
                        pa.array(packing.starts[pieces], pa.int32()),
                        pa.array(packing.offsets[pieces], pa.int64()),
                    )
                ),
            ],
            names=TABLES["tokens"].arrow.names,
        )


def _fill(
    tokens: np.ndarray, documents: Documents, packing: Packing, pieces: slice, rows: np.ndarray
) -> None:
    """Copy the tokens of ``pieces`` to their places in ``tokens``; piece i lies in ``rows[i]``."""
    which, offsets = packing.documents[pieces], packing.offsets[pieces]
    num_tokens = np.diff(documents.offsets)[which]
    begins = np.maximum(offsets - 1, 0)  # <|endoftext|>, before and after, is there already
    counts = np.minimum(offsets + packing.num_targets[pieces], num_tokens) - begins
    places = rows * tokens.shape[1] + packing.starts[pieces] + begins - (offsets - 1)
    sources = documents.offsets[which] + begins
    bounds = (places, places + counts, sources, sources + counts)
    flat, ids = tokens.ravel(), documents.tokens
    # One by one: with an index a token it takes twice as long at 256 tokens, six times at 2,048.
    for place, end, source, source_end in zip(*(b.tolist() for b in bounds), strict=True):
        flat[place:end] = ids[source:source_end]


def _interned(names: pa.Array | pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The distinct names, and which of them each is."""
    column = names.cast(pa.large_string())
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = pc.dictionary_encode(whole)
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()


def _binary(tokens: np.ndarray) -> pa.Array:
    """Each row of a contiguous array as one binary value, without a copy."""
    ends = np.arange(len(tokens) + 1, dtype=np.int32) * np.int32(tokens.shape[1] * tokens.itemsize)
    return pa.Array.from_buffers(
        pa.binary(), len(tokens), [None, pa.py_buffer(ends), pa.py_buffer(tokens)]
    )

"""Perplexity and bits per byte, read off sums of negative log-likelihoods, document by document.

Bits per byte does not depend on the tokenizer, so it is the number to compare between models with
different vocabularies (Gao et al. 2020, arXiv:2101.00027). The sums are kept per document, because
a document is the unit over which an interval is drawn and the place where a source and a licence
are known.

Rows all have the same length, so scoring needs no padding, and how many rows share a batch changes
nothing but rounding.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datalake.config import Refusal
from training.data import rows as rows_module
from training.data.rows import Rows

if TYPE_CHECKING:
    from training.models.language_model import LanguageModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Likelihood:
    """How surprised a model was by a text. Documents, sources and ranks combine with ``+``."""

    nats: float  # summed negative log-likelihood of the scored tokens, natural logarithm
    num_tokens: int  # scored tokens: those that stand for at least one byte
    num_bytes: int  # UTF-8 length of the scored tokens

    def __add__(self, other: "Likelihood") -> "Likelihood":
        return Likelihood(
            nats=self.nats + other.nats,
            num_tokens=self.num_tokens + other.num_tokens,
            num_bytes=self.num_bytes + other.num_bytes,
        )

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats / self.num_tokens)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.num_bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedRows:
    """Token rows of one split, and the document that each piece of them is of."""

    rows: Rows
    doc_ids: tuple[str, ...]  # distinct, by first appearance
    piece_documents: NDArray[np.int64]  # [pieces], index into ``doc_ids``
    piece_offsets: NDArray[np.int64]  # [pieces], place in the document of the first target

    @cached_property
    def pieces(self) -> NDArray[np.int32]:
        """Number in its row of the piece that each token is of, -1 where nothing is."""
        return self.rows.pieces()

    @property
    def tokens(self) -> NDArray[np.unsignedinteger]:
        return self.rows.tokens

    @cached_property
    def scored(self) -> NDArray[np.bool_]:
        """Which of ``tokens[:, 1:]`` are targets, ``[rows, context]``."""
        before, here = self.pieces[:, :-1], self.pieces[:, 1:]
        scored: NDArray[np.bool_] = (before == here) & (here >= 0)
        return scored

    @cached_property
    def documents(self) -> NDArray[np.int64]:
        """Index into ``doc_ids`` of each token, ``[rows, context + 1]``; -1 where nothing is."""
        first = self.rows.piece_offsets[:-1, None]
        return np.where(self.pieces < 0, -1, self.piece_documents[first + self.pieces])

    def openings(self) -> Iterator[tuple[int, int, int]]:
        """Document, row and position of every first token of a document."""
        counts = np.diff(self.rows.piece_offsets)
        row_of = np.repeat(np.arange(len(self.rows)), counts)
        seen: set[int] = set()
        for piece in np.flatnonzero(self.piece_offsets == 0).tolist():
            document = int(self.piece_documents[piece])
            if document not in seen:
                seen.add(document)
                yield document, int(row_of[piece]), int(self.rows.piece_starts[piece])


COLUMNS = (*rows_module.COLUMNS, "doc_ids", "doc_offsets")


def packed_rows(batches: Iterable[pa.RecordBatch], split: str) -> PackedRows:
    """The rows of ``split`` in order of ``row_id``, from batches of ``COLUMNS`` of ``tokens``.

    Raises Refusal for an empty split, and for rows that ``Rows.from_table`` refuses.
    """
    table = pa.Table.from_batches(batches) if (batches := list(batches)) else None
    if table is None or not table.num_rows:
        raise Refusal(f"split {split} of table tokens must hold at least one row, got none")
    table = table.sort_by("row_id").combine_chunks()
    rows = Rows.from_table(table)
    names = table["doc_ids"].combine_chunks().flatten().dictionary_encode()
    offsets = table["doc_offsets"].combine_chunks().flatten().to_numpy()
    if not len(names) == len(offsets) == len(rows.piece_starts):
        raise Refusal(f"doc_ids and doc_offsets of split {split} must be one for each doc_start")
    return PackedRows(
        rows=rows,
        doc_ids=tuple(names.dictionary.to_pylist()),
        piece_documents=names.indices.to_numpy().astype(np.int64),
        piece_offsets=offsets.astype(np.int64),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentSums:
    """Sums over the scored targets of each document; entry ``i`` of every array is one document.

    In order of ``doc_ids``, so that equal documents meet equal draws of a bootstrap.
    """

    doc_ids: NDArray[np.str_]
    num_tokens: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    nats: dict[str, NDArray[np.float64]]  # by scorer: the model, its baselines

    def likelihood(self, scorer: str) -> Likelihood:
        """All documents together."""
        return Likelihood(
            nats=float(self.nats[scorer].sum()),
            num_tokens=int(self.num_tokens.sum()),
            num_bytes=int(self.num_bytes.sum()),
        )

    def only(self, chosen: NDArray[np.bool_]) -> "DocumentSums":
        """The chosen documents."""
        return DocumentSums(
            doc_ids=self.doc_ids[chosen],
            num_tokens=self.num_tokens[chosen],
            num_bytes=self.num_bytes[chosen],
            nats={scorer: nats[chosen] for scorer, nats in self.nats.items()},
        )


def sum_by_document(
    rows: PackedRows, nats: dict[str, NDArray[np.floating]], bytes_per_token: NDArray[np.integer]
) -> DocumentSums:
    """Attribute the nats ``[rows, context]`` of every scorer to the documents of the targets.

    A token of zero bytes, such as ``<|endoftext|>``, is not scored: it is ours, not the text's; nor
    is the first of a piece, which was a target of the piece before.
    Documents without a scored target are left out. Raises Refusal if none is left, since
    perplexity is then undefined.
    """
    num_bytes = bytes_per_token[rows.tokens[:, 1:]]
    scored = rows.scored & (num_bytes > 0)
    owner = rows.documents[:, 1:][scored]

    def per_document(values: NDArray[np.generic]) -> NDArray[np.float64]:
        sums = np.bincount(owner, values, minlength=len(rows.doc_ids))
        return sums.astype(np.float64, copy=False)  # as bincount sums weights

    num_tokens = per_document(np.ones(owner.size))
    has_score = num_tokens > 0
    if not has_score.any():
        raise Refusal(f"targets must hold a scored token, got {scored.size} of zero bytes each")
    doc_ids = np.array(rows.doc_ids)
    order = np.argsort(doc_ids)
    order = order[has_score[order]]
    return DocumentSums(
        doc_ids=doc_ids[order],
        num_tokens=num_tokens[order].astype(np.int64),
        num_bytes=per_document(num_bytes[scored])[order].astype(np.int64),
        nats={name: per_document(of_one[scored])[order] for name, of_one in nats.items()},
    )


def model_nats(
    model: "LanguageModel",
    rows: Rows,
    rows_per_batch: int,
    tell: Callable[[int], None] = lambda num_rows: None,
) -> NDArray[np.float32]:
    """Negative log-likelihood ``[rows, context]`` of the targets of ``rows``, by ``model``.

    Each piece is read as if it were alone; 0 where there is no target. Single precision whatever
    the model was trained in: in half precision the sum of a document moves in the third digit,
    which is where models of one family differ. ``tell`` hears how many rows are done.
    """
    import torch

    from training.data.loader import batch_of
    from training.losses import next_token_nats

    device = next(model.parameters()).device
    nats = np.empty((len(rows), rows.context_length), np.float32)

    def score(start: int) -> int:
        stop = min(start + rows_per_batch, len(rows))
        read = batch_of(rows, np.arange(start, stop)).to(device)
        with torch.autocast(device.type, enabled=False):
            found = next_token_nats(model, read.tokens, read.pieces)
        nats[start:stop] = found.float().cpu().numpy()
        return stop

    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # no TF32, which rounds to ten bits
    try:
        with one_thread_per_operator() as num_threads:
            workers = num_threads if device.type == "cpu" else 1
            with ThreadPoolExecutor(workers) as pool:
                for done in pool.map(score, range(0, len(rows), rows_per_batch)):
                    tell(done)
    finally:
        torch.set_float32_matmul_precision(precision)
    return nats


@contextmanager
def one_thread_per_operator() -> Iterator[int]:
    """Operators inside run on one thread each; gives the number of threads there were to share.

    Batches that run side by side never wait for each other, where the threads of one operator
    spin at every barrier: on a busy machine of two cores 64 rows took 2.0 s so, and 21 s with two
    threads an operator (d_model 96, 4 layers, 256 tokens). And a sum keeps its order.
    """
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield num_threads
    finally:
        torch.set_num_threads(num_threads)

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
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datalake.config import Refusal

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


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedRows:
    """Token rows of one split, and the document that each token belongs to."""

    tokens: NDArray[np.uint16]  # [rows, context + 1], overlapping by one
    doc_ids: tuple[str, ...]  # distinct, by first appearance
    documents: NDArray[np.int32]  # [rows, context + 1], index into ``doc_ids``

    @property
    def targets(self) -> NDArray[np.uint16]:
        """What is predicted, ``[rows, context]``: every token but the first of a row."""
        return self.tokens[:, 1:]

    def openings(self) -> Iterator[tuple[int, int, int]]:
        """Document, row and position of every first token of a document inside a row.

        A document that was cut by a row's end opens where it first appears. One that stands at
        position 0 only may have begun in a row that is not here, so it is left out.
        """
        first = np.ones(self.documents.shape, bool)
        first[:, 1:] = self.documents[:, 1:] != self.documents[:, :-1]
        first[:, 0] = False
        rows, positions = np.nonzero(first)
        seen: set[int] = set()
        for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
            document = int(self.documents[row, position])
            if document not in seen:
                seen.add(document)
                yield document, row, position


def packed_rows(batches: Iterable[pa.RecordBatch], split: str) -> PackedRows:
    """The rows of ``split`` in order of ``row_id``, from batches of the table ``tokens``.

    Raises Refusal for an empty split, rows of different lengths, and rows whose first token
    belongs to no document.
    """
    table = pa.Table.from_batches(batches) if (batches := list(batches)) else None
    if table is None or not table.num_rows:
        raise Refusal(f"split {split} of table tokens must hold at least one row, got none")
    table = table.sort_by("row_id").combine_chunks()
    raw = table["tokens"].to_pylist()
    if len(lengths := {len(row) for row in raw}) > 1:
        raise Refusal(f"rows of split {split} must be equally long, got {sorted(lengths)} bytes")
    tokens = np.frombuffer(b"".join(raw), "<u2").reshape(len(raw), -1)
    doc_ids, starts = table["doc_ids"].combine_chunks(), table["doc_starts"].combine_chunks()
    row_of_span = np.repeat(np.arange(len(raw)), starts.value_lengths().to_numpy())
    start_in_row = starts.flatten().to_numpy().astype(np.int64)
    flat = row_of_span * tokens.shape[1] + start_in_row
    lengths_of_spans = np.diff(flat, append=tokens.size)
    if not flat.size or flat[0] or len(np.unique(row_of_span[start_in_row == 0])) < len(raw):
        raise Refusal(f"doc_starts of every row of split {split} must begin with 0")
    if len(doc_ids.flatten()) != len(flat) or (lengths_of_spans <= 0).any():
        raise Refusal(f"doc_starts of split {split} must ascend, one for each of doc_ids")
    names = doc_ids.flatten().dictionary_encode()
    documents = np.repeat(names.indices.to_numpy().astype(np.int32), lengths_of_spans)
    return PackedRows(
        tokens=tokens,
        doc_ids=tuple(names.dictionary.to_pylist()),
        documents=documents.reshape(tokens.shape),
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

    A token of zero bytes, such as ``<|endoftext|>``, is not scored: it is ours, not the text's.
    Documents without a scored target are left out. Raises Refusal if none is left, since
    perplexity is then undefined.
    """
    num_bytes = bytes_per_token[rows.targets]
    scored = num_bytes > 0
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
    tokens: NDArray[np.uint16],
    rows_per_batch: int,
    tell: Callable[[int], None] = lambda num_rows: None,
) -> NDArray[np.float32]:
    """Negative log-likelihood ``[rows, context]`` of the targets of ``tokens``, by ``model``.

    Single precision whatever the model was trained in: in half precision the sum of a document
    moves in the third digit, which is where models of one family differ. ``tell`` hears how many
    rows are done.
    """
    import torch

    from training.losses import next_token_nats

    device = next(model.parameters()).device
    nats = np.empty((tokens.shape[0], tokens.shape[1] - 1), np.float32)

    def score(start: int) -> int:
        stop = min(start + rows_per_batch, len(tokens))
        batch = torch.from_numpy(tokens[start:stop].astype(np.int64)).to(device)
        with torch.autocast(device.type, enabled=False):
            nats[start:stop] = next_token_nats(model, batch).float().cpu().numpy()
        return stop

    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # no TF32, which rounds to ten bits
    try:
        with one_thread_per_operator() as num_threads:
            workers = num_threads if device.type == "cpu" else 1
            with ThreadPoolExecutor(workers) as pool:
                for done in pool.map(score, range(0, len(tokens), rows_per_batch)):
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

"""Packing of documents into token rows, on source code of the environment's packages.

A document is the bytes of a file, since packing asks for lengths and not for what an id means. The
peer is TRL's ``pack_dataset``, which fits best as well and cuts what is longer than a row; ours
also names the pieces of every row, as the table ``tokens`` has them.
"""

import importlib.util
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pyarrow as pa

from tests.benchmarks.report import Result, seconds_in_turn, show
from tests.benchmarks.source_pieces import source_texts
from training.data.packing import Documents, Packing, arrange, pack, shuffled

NUM_BYTES = 20_000_000
CONTEXT_LENGTHS = (256, 2048)
END_OF_TEXT = 256
VOCAB_SIZE = 257
REPEATS = 3


def source_documents() -> Documents:
    """Files of the environment's packages, an id a byte."""
    texts = [text.encode() for text in source_texts(NUM_BYTES)]
    return Documents(
        doc_ids=np.array([f"{i:032x}" for i in range(len(texts))]),
        offsets=np.cumsum([0, *map(len, texts)]),
        tokens=np.frombuffer(b"".join(texts), np.uint8).astype(np.uint16),
    )


def _arranged(documents: Documents, context_length: int) -> Packing:
    order, draws = shuffled(documents.doc_ids, np.ones(len(documents), np.int64))
    return arrange(np.diff(documents.offsets), order, draws, context_length)


def _packing(documents: Documents, context_length: int) -> Result:
    found = importlib.util.find_spec("trl") is not None

    def ours() -> int:
        packing = _arranged(documents, context_length)
        return sum(map(len, pack(documents, packing, "train", END_OF_TEXT, VOCAB_SIZE)))

    jobs: dict[str, Callable[[], object]] = {"ours": ours, "floor": documents.tokens.copy}
    if found:
        from datasets import Dataset
        from trl import pack_dataset

        ids = [documents.tokens[a:b] for a, b in pairwise(documents.offsets)]
        table = Dataset(pa.table({"input_ids": pa.array(ids, pa.list_(pa.uint16()))}))
        jobs["peer"] = lambda: pack_dataset(table, context_length + 1, strategy="bfd_split")
    taken = seconds_in_turn(jobs, REPEATS)
    millions = len(documents.tokens) / 1e6
    return Result(
        case=f"pack rows of {context_length}, one core",
        unit="M tokens/s",
        ours=millions / taken["ours"],
        peer_name="TRL pack_dataset, bfd_split",
        peer=millions / taken["peer"] if found else None,
        floor=millions / taken["floor"],
        why=None if found else "trl is not installed",
    )


def _say_what_is_filled(documents: Documents, context_length: int) -> None:
    packing = _arranged(documents, context_length)
    places = packing.num_targets.sum() + len(packing.starts)
    targets = np.diff(documents.offsets) + 1
    ends = np.cumsum(targets)
    in_line = (ends - targets) // context_length < (ends - 1) // context_length
    print(
        f"{context_length}: {places / packing.num_rows / (context_length + 1):.4%} of places "
        f"filled, {len(packing.starts) / packing.num_rows:.3f} pieces a row; of {len(documents):,} "
        f"documents {np.count_nonzero(targets > context_length):,} cut, laid end to end "
        f"{np.count_nonzero(in_line):,}"
    )


def main() -> None:
    """Say how full the rows are, run every case and print the results."""
    documents = source_documents()
    for context_length in CONTEXT_LENGTHS:
        _say_what_is_filled(documents, context_length)
    results = [_packing(documents, context_length) for context_length in CONTEXT_LENGTHS]
    show("packing", results, ("numpy", "pyarrow"))


if __name__ == "__main__":
    main()

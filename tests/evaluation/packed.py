"""Small packed rows for the tests of this room: documents of random tokens, cut into rows."""

import numpy as np
import pyarrow as pa

from datalake.schemas import TABLES

END = 0  # end of text, before every document, zero bytes


def documents(num: int, vocab_size: int, seed: int = 0) -> list[np.ndarray]:
    """Token ids of ``num`` documents, each opened by ``END``, of 1 to 60 tokens."""
    random = np.random.default_rng(seed)
    texts = []
    for _ in range(num):
        ids = random.integers(1, vocab_size, random.integers(1, 60))
        texts.append(np.concatenate([[END], ids]).astype(np.uint16))
    return texts


def table(texts: list[np.ndarray], context: int, split: str = "validation") -> pa.Table:
    """Rows of the table ``tokens``: pieces of documents in order, in the open row or a new one.

    A document ends with ``END``, too.
    """
    rows: list[dict] = []
    for document, text in enumerate(texts):
        ids = np.append(text, END)
        for offset in range(0, len(ids) - 1, context):
            piece = ids[offset : offset + context + 1].tolist()
            if not rows or len(rows[-1]["tokens"]) + len(piece) > context + 1:
                rows.append({"tokens": [], "doc_ids": [], "doc_starts": [], "doc_offsets": []})
            row = rows[-1]
            row["doc_ids"].append(f"{document:032x}")
            row["doc_starts"].append(len(row["tokens"]))
            row["doc_offsets"].append(offset)
            row["tokens"] += piece
    for row_id, row in enumerate(rows):
        num_tokens = len(row["tokens"])
        filled = row["tokens"] + [END] * (context + 1 - num_tokens)
        row |= {"row_id": row_id, "split": split, "num_tokens": num_tokens, "vocab_size": 1000}
        row["tokens"] = np.array(filled, "<u2").tobytes()
    return pa.Table.from_pylist(rows, TABLES["tokens"].arrow)

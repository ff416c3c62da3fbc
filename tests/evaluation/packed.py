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
    """Rows of the table ``tokens``; the stream's last part that fills no row is left out."""
    stream = np.concatenate(texts)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    rows = []
    for row_id in range((len(stream) - 1) // context):
        place = slice(row_id * context, (row_id + 1) * context + 1)
        spans, starts = np.unique(owner[place], return_index=True)
        rows.append(
            {
                "row_id": row_id,
                "split": split,
                "tokens": stream[place].astype("<u2").tobytes(),
                "doc_ids": [f"{document:032x}" for document in spans],
                "doc_starts": starts.tolist(),
            }
        )
    return pa.Table.from_pylist(rows, TABLES["tokens"].arrow)

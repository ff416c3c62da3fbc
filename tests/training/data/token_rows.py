"""Rows of the table ``tokens`` for tests: one piece each, as long as the row."""

from collections.abc import Sequence

import pyarrow as pa


def table(row_ids: Sequence[int], tokens: Sequence[bytes], vocab_size: int = 1 << 16) -> pa.Table:
    """The columns that rows in memory are made of."""
    size = 2 if vocab_size <= 1 << 16 else 4
    return pa.table(
        {
            "row_id": pa.array(row_ids, pa.int64()),
            "tokens": pa.array(tokens, pa.binary()),
            "vocab_size": pa.array([vocab_size] * len(tokens), pa.int32()),
            "num_tokens": pa.array([len(row or b"") // size for row in tokens], pa.int32()),
            "doc_starts": pa.array([[0]] * len(tokens), pa.list_(pa.int32())),
        }
    )

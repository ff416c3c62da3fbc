"""The corpus as token ids: the table ``encoded``, in which unchanged documents stay as they were.

A token is two bytes where its text was four, so what reads text is done once a document and
tokenizer, and every way of packing reads ``encoded`` alone.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from datalake.derived import Derivation, Derived, derive, row_digests
from datalake.schemas import TABLES
from datalake.workspace import Inputs, Workspace, folder_digest
from training.data.rows import dtype_of
from training.tokenizer.bpe import Tokenizer

COLUMNS = ("doc_id", "source", "cluster", "weight", "num_bytes", "text")  # of ``corpus``
ENCODING = 1  # raised by hand when equal tokenizers come to give other ids
_SCHEMA = TABLES["encoded"].arrow


def encode_corpus(workspace: Workspace, inputs: Inputs) -> Derived:
    """Write ``encoded`` for ``corpus`` and ``tokenizer`` at the versions of ``inputs``.

    A document is encoded where the version before, if the same tokenizer made it, has not its row.
    """
    folder = str(inputs["tokenizer"])
    derivation = Derivation(
        source="corpus",
        target="encoded",
        columns=COLUMNS,
        compute=Encode(Tokenizer.load(folder)),
        definitions=f"{ENCODING} {folder_digest(Path(folder))}",
    )
    return derive(workspace, {"corpus": inputs["corpus"]}, derivation)


@dataclass(frozen=True, slots=True)
class Encode:
    """Rows of ``encoded`` for a batch of ``COLUMNS``. It goes to every task."""

    tokenizer: Tokenizer

    def __call__(self, documents: pa.RecordBatch) -> pa.RecordBatch:
        ids, offsets = self.tokenizer.encode_batch(documents["text"], num_threads=1)
        columns = {name: documents[name] for name in COLUMNS if name != "text"} | {
            "num_tokens": pa.array(np.diff(offsets), pa.int64()),
            "tokens": _binary(ids.astype(dtype_of(self.tokenizer.vocab_size)), offsets),
            "measured": row_digests(documents, COLUMNS),
        }
        made = [columns[field.name].cast(field.type) for field in _SCHEMA]
        return pa.RecordBatch.from_arrays(made, schema=_SCHEMA)


def _binary(ids: np.ndarray, offsets: np.ndarray) -> pa.LargeBinaryArray:
    """``ids[offsets[i]:offsets[i + 1]]`` as value i, without a copy."""
    ends = pa.py_buffer(offsets.astype(np.int64) * ids.itemsize)
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(offsets) - 1, [None, ends, pa.py_buffer(ids)]
    )

"""Cuts: the places in a text that training does not see, and what stands there instead.

A document is kept or dropped as a whole by ``filters.rules``; everything smaller is a *cut*: a
range of bytes of ``documents.text``, a reason, and a replacement, which is empty where the text is
removed and a placeholder such as ``<email>`` where it is masked. Lines that a rule refuses, lines
and passages that stand elsewhere, personal data and benchmark items all come as cuts, so one table
shows all that was changed, and ``corpus`` applies it once.
"""

import numpy as np
import pyarrow as pa

from datalake.schemas import TABLES

SCHEMA = TABLES["cuts"].arrow


def cuts_of(
    documents: pa.RecordBatch,
    rows: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    reasons: list[str] | str,
    replacements: list[str] | str = "",
) -> pa.RecordBatch:
    """Rows of ``cuts``: of document ``rows[k]`` of the batch, bytes ``starts[k]`` to ``ends[k]``.

    ``documents`` has ``doc_id`` and ``source``; ``reasons`` and ``replacements`` are one for all,
    or one for each.
    """
    taken = pa.array(rows, pa.int64())
    size = len(taken)
    columns = {
        "doc_id": documents["doc_id"].take(taken),
        "source": documents["source"].take(taken),
        "start": pa.array(starts, pa.int64()),
        "end": pa.array(ends, pa.int64()),
        "reason": pa.array([reasons] * size if isinstance(reasons, str) else reasons, pa.string()),
        "replacement": pa.array(
            [replacements] * size if isinstance(replacements, str) else replacements, pa.string()
        ),
    }
    return pa.RecordBatch.from_arrays([columns[n] for n in SCHEMA.names], schema=SCHEMA)

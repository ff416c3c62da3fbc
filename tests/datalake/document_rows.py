"""Rows of ``documents`` for tests: the text is what matters, the rest follows from its position."""

from collections.abc import Sequence

import pyarrow as pa

from datalake.schemas import TABLES


def documents(
    *texts: str,
    source: str | Sequence[str] = "web",
    licence: str | Sequence[str | None] | None = None,
) -> pa.RecordBatch:
    """One document a text; ``source`` and ``licence`` are for all, or one for each."""
    size = len(texts)
    sources = [source] * size if isinstance(source, str) else list(source)
    single = licence is None or isinstance(licence, str)
    licences = [licence] * size if single else list(licence or ())
    schema = TABLES["documents"].arrow
    columns = {
        "doc_id": [f"{k:032x}" for k in range(size)],
        "source": sources,
        "uri": [f"https://example.org/{k}" for k in range(size)],
        "title": [f"Document {k}" for k in range(size)],
        "language": ["en" if s == "web" else "python" for s in sources],
        "encoding": ["utf-8"] * size,
        "licence": licences,
        "licence_evidence": ["recipe"] * size,
        "licence_confidence": [1.0] * size,
        "kind": ["test"] * size,
        "snapshot": ["2026-01-01"] * size,
        "member": [""] * size,
        "page_starts": [[]] * size,
        "remark": [None] * size,
        "archive": ["archive.warc.gz"] * size,
        "offset": [1000 * k for k in range(size)],
        "length": [900] * size,
        "num_bytes": [len(text.encode()) for text in texts],
        "text": list(texts),
    }
    return pa.RecordBatch.from_pydict(columns, schema=schema)

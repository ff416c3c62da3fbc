"""Records to documents: the text of every record, whatever format it came in.

A record that cannot be read stays as a document without text, whose encoding says why; the rules
then drop it by name, so that nothing vanishes. Every record is read in a process that is watched:
one that hangs its parser, or eats all memory, costs itself alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from datalake.config import Config
from datalake.isolation import Limits, Lost, worker_of
from datalake.schemas import TABLES
from datalake.snapshots import KEY, Key, key_of, superseded
from datalake.sources.source import Place
from datalake.tables import Commit
from datalake.transforms import language
from datalake.transforms.formats import OWN_COLUMNS, read_text
from datalake.transforms.html_text import Extractor
from datalake.transforms.text import Unreadable
from datalake.workspace import Inputs, Workspace

UNREADABLE = "unreadable"

_GROUP_BYTES = 32 << 20  # of payloads that are in memory at once where they come from archives

_COPIED = ("doc_id", "uri", "kind", "snapshot", "archive", "member", "offset", "length")
_LICENCE = ("licence", "licence_evidence", "licence_confidence")
_READ = (
    *dict.fromkeys((*KEY, *_COPIED)),
    *_LICENCE,
    "payload",
    "payload_digest",
    "num_bytes",
    "content_type",
)


class DocumentsConfig(Config):
    """How records are read, and which of a record's versions is the document."""

    # The best on public pages of articles that is as fast, see tests/benchmarks/bench_html.py.
    extractor: Extractor = "blocks"
    versions: Literal["newest", "oldest"] = "newest"  # newest: what a refresh is for
    until: str | None = None  # snapshots whose names come after it are left out
    # A page takes milliseconds, and the largest PDF that is read half a minute.
    record_seconds: float = Field(default=60.0, gt=0)
    record_memory_bytes: int = Field(default=2 << 30, gt=0)  # two at once on a machine of 8 GB


def extract(workspace: Workspace, inputs: Inputs, config: DocumentsConfig) -> Commit:
    """Make table ``documents`` from every raw table at its version."""
    from datalake import spark

    parts = []
    for table, given in inputs.items():
        version = int(given)
        source = table.removeprefix("raw/")
        old = superseded(workspace.lake, table, version, config.versions == "oldest", config.until)
        read = partial(read_batch, source=source, superseded=old, config=config)
        columns = (*_READ, *OWN_COLUMNS[source])
        parts += spark.map_parts(workspace, table, version, columns, read, "documents")
    return workspace.lake.commit("documents", parts, mode="overwrite", inputs=inputs)


def read_batch(
    batch: pa.RecordBatch, source: str, superseded: frozenset[Key], config: DocumentsConfig
) -> pa.RecordBatch:
    """Documents of a batch of a raw table, in its order."""
    records = batch.to_pylist()
    if superseded:
        records = [record for record in records if key_of(record) not in superseded]
    limits = Limits(config.record_seconds, config.record_memory_bytes)
    worker = worker_of(_Reader(source, config.extractor), limits)
    rows = []
    for group in _with_payloads(records):
        for record, found in zip(group, worker.each(group), strict=True):
            row = _without_text(found.reason) if isinstance(found, Lost) else found
            rows.append({name: record[name] for name in _COPIED} | {"source": source} | row)
            if row["licence"] is None:
                rows[-1] |= {name: record[name] for name in _LICENCE}
            if not row["title"]:
                rows[-1]["title"] = record["uri"]
    return pa.RecordBatch.from_pylist(rows, schema=TABLES["documents"].arrow)


def _with_payloads(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The records with their payloads, those too that were left in their archives, in groups."""
    left = [record for record in records if record["payload"] is None]
    fetched: Iterator[Any] = iter(())
    if left:
        from datalake.sources.warcs.references import payloads

        places = [
            Place(archive=r["archive"], member=r["member"], offset=r["offset"], length=r["length"])
            for r in left
        ]
        fetched = payloads(places, [record["payload_digest"] for record in left])
    group: list[dict[str, Any]] = []
    num_bytes = 0
    for record in records:
        if record["payload"] is None:
            record = record | {"payload": next(fetched)}
        group.append(record)
        num_bytes += record["num_bytes"]
        if num_bytes >= _GROUP_BYTES:
            yield group
            group, num_bytes = [], 0
    if group:
        yield group


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads records of one source: what a worker does."""

    source: str
    extractor: Extractor

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of ``documents`` that come from the bytes of ``record``."""
        payload = record["payload"]
        if isinstance(payload, Lost):
            return _without_text(payload.reason)
        try:
            text = read_text(record, self.source, self.extractor)
        except Unreadable as error:
            return _without_text(str(error))
        licence = text.licence
        return {
            "title": text.title,
            "language": text.language or language.UNKNOWN,
            "encoding": text.encoding,
            "licence": licence and licence.licence,
            "licence_evidence": licence and licence.evidence,
            "licence_confidence": licence and licence.confidence,
            "page_starts": list(text.page_starts),
            "remark": text.remark or None,
            "num_bytes": len(text.text.encode()),
            "text": text.text,
        }


def _without_text(reason: str) -> dict[str, Any]:
    return {
        "title": "",
        "language": language.UNKNOWN,
        "encoding": f"{UNREADABLE}: {reason}",
        "licence": None,
        "licence_evidence": None,
        "licence_confidence": None,
        "page_starts": [],
        "remark": None,
        "num_bytes": 0,
        "text": "",
    }

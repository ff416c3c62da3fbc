"""Records to documents: the text of each page and file, a batch at a time.

A record that cannot be read stays as a document without text, whose encoding says why; the rules
then drop it by name, so that nothing vanishes.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datalake.schemas import TABLES
from datalake.tables import Commit
from datalake.transforms import language
from datalake.transforms.code_text import DecodingError, decode_source
from datalake.transforms.html_text import NestingError, Page, read_page
from datalake.workspace import Inputs, Workspace

_PLACE = ("doc_id", "uri", "licence", "archive", "offset", "length")
COLUMNS = {
    "raw/web": (*_PLACE, "snapshot", "payload", "content_type"),
    "raw/code": (*_PLACE, "snapshot", "payload", "path"),
}

UNREADABLE = "unreadable"

Newest = Mapping[str, str]  # doc_id -> the snapshot that holds its newest capture


def extract(workspace: Workspace, inputs: Inputs) -> Commit:
    """Make table ``documents`` from every raw table at its version.

    Of a record that several snapshots hold, the newest capture is the document.
    """
    from datalake import spark

    parts = []
    for table, function in (("raw/web", read_web), ("raw/code", read_code)):
        version = int(inputs[table])
        newest = newest_captures(workspace, table, version)
        read = partial(function, newest=newest)
        columns = COLUMNS[table]
        parts += spark.map_parts(workspace, table, version, columns, read, "documents")
    return workspace.lake.commit("documents", parts, mode="overwrite", inputs=inputs)


def newest_captures(workspace: Workspace, table: str, version: int) -> Newest | None:
    """Which snapshot holds the newest capture of each record; None where there is one snapshot."""
    rows = workspace.lake.read(table, version, ["doc_id", "snapshot", "fetched_at"])
    if len(pc.unique(rows["snapshot"])) == 1:
        return None
    rows = rows.sort_by([("fetched_at", "ascending"), ("snapshot", "ascending")])
    return dict(zip(rows["doc_id"].to_pylist(), rows["snapshot"].to_pylist(), strict=True))


def read_web(batch: pa.RecordBatch, newest: Newest | None) -> pa.RecordBatch:
    """Documents of a batch of ``raw/web``."""
    rows = []
    for record in _records(batch, newest):
        try:
            page = read_page(record["payload"], record["content_type"])
        except NestingError as error:
            page = Page("", "", f"{UNREADABLE}: {error}", None, None)
        rows.append(
            _document(record, "web", page.text, page.encoding)
            | {
                "title": page.title or record["uri"],
                "language": language.of_prose(page.text, page.language),
                "licence": page.licence or record["licence"],
            }
        )
    return _batch(rows)


def read_code(batch: pa.RecordBatch, newest: Newest | None) -> pa.RecordBatch:
    """Documents of a batch of ``raw/code``."""
    rows = []
    for record in _records(batch, newest):
        try:
            text, encoding = decode_source(record["payload"])
        except DecodingError as error:
            text, encoding = "", f"{UNREADABLE}: {error}"
        rows.append(
            _document(record, "code", text, encoding)
            | {"title": record["path"], "language": language.of_code(record["path"])}
        )
    return _batch(rows)


def _records(batch: pa.RecordBatch, newest: Newest | None) -> list[dict[str, Any]]:
    records = batch.to_pylist()
    if newest is None:
        return records
    return [r for r in records if newest[r["doc_id"]] == r["snapshot"]]


def _document(record: dict[str, Any], source: str, text: str, encoding: str) -> dict[str, Any]:
    return {
        **{name: record[name] for name in _PLACE},
        "source": source,
        "encoding": encoding,
        "num_bytes": len(text.encode()),
        "text": text,
    }


def _batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=TABLES["documents"].arrow)

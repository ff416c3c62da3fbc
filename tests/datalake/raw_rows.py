"""Rows of raw tables for tests: address and payload are what matters."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from datalake.schemas import TABLES
from datalake.sources.record import doc_id, payload_digest
from datalake.workspace import Workspace

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def raw_row(table: str, uri: str, payload: bytes | None, **changes: Any) -> dict[str, Any]:
    """A row as an ingestion writes it, fetched on the first of January."""
    blank = dict.fromkeys(TABLES[table].arrow.names)
    return (
        blank
        | {
            "doc_id": doc_id(table.removeprefix("raw/"), uri),
            "snapshot": "2026-01-01",
            "origin": "test",
            "kind": "test",
            "uri": uri,
            "position": "",
            "licence": "MIT",
            "licence_evidence": "recipe",
            "licence_confidence": 1.0,
            "archive": "archive",
            "member": "",
            "offset": 7,
            "length": len(payload or b""),
            "fetched_at": DAY,
            "payload": payload,
            "payload_digest": payload_digest(payload or b""),
            "num_bytes": len(payload or b""),
            "deleted": False,
        }
        | changes
    )


def store(workspace: Workspace, table: str, *rows: dict[str, Any]) -> int:
    """The version of ``table`` that holds just these rows."""
    found = pa.Table.from_pylist(list(rows), schema=TABLES[table].arrow)
    return workspace.lake.overwrite(table, found).version

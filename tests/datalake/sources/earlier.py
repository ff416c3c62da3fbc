"""What earlier refreshes of a source left, as its raw table would say it."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from datalake.schemas import TABLES
from datalake.sources.record import payload_digest
from datalake.sources.source import Event, Record

_TYPES = {column.name: column.type for column in TABLES["raw/web"].columns}


class Earlier:
    """The newest record of every address among the events of earlier refreshes."""

    def __init__(self, *refreshes: Iterable[Event]) -> None:
        self._rows = {
            event.uri: _row(event)
            for found in refreshes
            for event in found
            if isinstance(event, Record)
        }

    def digest(self, uri: str, position: str = "") -> str | None:
        row = self._rows.get(uri)
        return row and row["payload_digest"]

    def rows(self, columns: list[str]) -> pa.Table:
        rows = [{name: row[name] for name in columns} for row in self._rows.values()]
        return pa.Table.from_pylist(rows, pa.schema([(name, _TYPES[name]) for name in columns]))


def _row(record: Record) -> dict[str, Any]:
    return {
        "uri": record.uri,
        "fetched_at": record.fetched_at,
        "payload_digest": payload_digest(record.payload or b""),
        "archive": record.place.archive,
        "offset": record.place.offset,
        "length": record.place.length,
        **record.own,
    }

"""Rows of tables in the formats that data sets come in, as a stream, and each again by its number.

Parquet and Arrow are read batch by batch with only the columns that are asked for, lines of JSON
and CSV line by line through their compression. Rows are numbered from 0 in their file; a blank or
damaged line of JSON has a number too, so that damage moves no other row.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from datalake.sources.files.local_files import is_packed, lines_of
from datalake.sources.report import Report

Format = Literal["parquet", "arrow", "json", "csv", "tsv"]

_NAMES: tuple[tuple[re.Pattern[str], Format], ...] = (
    (re.compile(r"\.(parquet|pq)\Z", re.IGNORECASE), "parquet"),
    (re.compile(r"\.(arrow|feather)\Z", re.IGNORECASE), "arrow"),
    (re.compile(r"\.(jsonl|ndjson|json)(\.(gz|zst|bz2|xz))?\Z", re.IGNORECASE), "json"),
    (re.compile(r"\.csv(\.(gz|zst|bz2|xz))?\Z", re.IGNORECASE), "csv"),
    (re.compile(r"\.(tsv|tab)(\.(gz|zst|bz2|xz))?\Z", re.IGNORECASE), "tsv"),
)
_BATCH_BYTES = 16 << 20  # of a batch, by the mean of its rows
_MAX_BATCH_ROWS = 8192
_LOOKED_AT = 100  # lines of JSON whose keys count as the columns of the file


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What one task reads of a table: a file, or some row groups of it. Picklable."""

    path: str
    format: Format
    num_bytes: int
    groups: tuple[int, int] | None = None  # of Parquet: the first, and the one after the last
    constants: Mapping[str, Any] = field(default_factory=dict)  # columns that the file leaves out


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: its number in its file, what was asked for of it, and its bytes, if they are one
    extent of the file."""

    number: int
    values: Mapping[str, Any]
    offset: int = 0
    length: int = 0


def format_of(path: Path) -> Format | None:
    """The format that the name of a file says."""
    return next((kind for name, kind in _NAMES if name.search(path.name)), None)


def shares(
    path: Path, kind: Format, max_bytes: int, constants: Mapping[str, Any] | None = None
) -> list[Share]:
    """The file at ``path`` in shares of about ``max_bytes``. One that is damaged is one share."""

    def share(num_bytes: int, groups: tuple[int, int] | None = None) -> Share:
        return Share(
            path=str(path),
            format=kind,
            num_bytes=num_bytes,
            groups=groups,
            constants=constants or {},
        )

    if kind != "parquet":
        return [share(path.stat().st_size)]
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return [share(path.stat().st_size)]  # the task says what is wrong with it
    found: list[Share] = []
    begin = num_bytes = 0
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).total_byte_size
        if num_bytes and num_bytes + size > max_bytes:
            found.append(share(num_bytes, (begin, group)))
            begin, num_bytes = group, 0
        num_bytes += size
    return [*found, share(num_bytes, (begin, metadata.num_row_groups))]


def columns_of(share: Share, max_line_bytes: int) -> dict[str, pa.DataType] | None:
    """Names and types of the columns of a file, None where it is damaged or empty.

    Lines of JSON have the keys of their first hundred.
    """
    try:
        match share.format:
            case "parquet":
                schema = pq.read_schema(share.path)
                columns = dict(zip(schema.names, schema.types, strict=True))
            case "arrow":
                with pa.memory_map(share.path) as file:
                    schema = _arrow(file).schema
                columns = dict(zip(schema.names, schema.types, strict=True))
            case "json":
                columns = _keys(Path(share.path), max_line_bytes)
            case _:
                lines = _csv_lines(Path(share.path), max_line_bytes)
                columns = dict.fromkeys(
                    next(_csv_records(lines, share.format, max_line_bytes), []), pa.string()
                )
    except (pa.ArrowException, OSError):
        return None
    extra = {name: pa.scalar(value).type for name, value in share.constants.items()}
    return columns | extra if columns else None


def rows(
    share: Share, columns: Sequence[str], max_line_bytes: int, report: Report
) -> Iterator[TableRow]:
    """Rows of ``share`` with ``columns``. A damaged row is counted, and costs no other.

    Raises OSError where the file is damaged.
    """
    stored = [name for name in columns if name not in share.constants]
    for row in _stored_rows(share, stored, max_line_bytes, report):
        yield TableRow(row.number, {**share.constants, **row.values}, row.offset, row.length)


def row_at(path: Path, number: int, columns: Sequence[str], max_line_bytes: int) -> TableRow:
    """The row with this number. Raises FileNotFoundError where there is none any more."""
    kind = format_of(path)
    if kind is None:
        raise FileNotFoundError(f"{path} is no table")
    share = Share(path=str(path), format=kind, num_bytes=0)
    if kind == "parquet":
        begin, group = 0, 0
        metadata = pq.read_metadata(path)
        while group < metadata.num_row_groups:
            if begin + metadata.row_group(group).num_rows > number:
                break
            begin, group = begin + metadata.row_group(group).num_rows, group + 1
        share = Share(path=str(path), format=kind, num_bytes=0, groups=(group, group + 1))
    quiet = Report(str(path), say=lambda line: None)
    for row in rows(share, columns, max_line_bytes, quiet):
        if row.number == number:
            return row
    raise FileNotFoundError(f"{path} has no row {number}")


def line_at(path: Path, offset: int, length: int) -> dict[str, Any]:
    """The line of JSON that lies there."""
    with path.open("rb") as file:
        file.seek(offset)
        line = file.read(length)
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FileNotFoundError(f"{path} has no line of JSON at byte {offset}")
    return found


def _stored_rows(
    share: Share, columns: Sequence[str], max_line_bytes: int, report: Report
) -> Iterator[TableRow]:
    try:
        match share.format:
            case "parquet":
                yield from _parquet_rows(share, columns)
            case "arrow":
                yield from _arrow_rows(share, columns)
            case "json":
                yield from _json_rows(Path(share.path), columns, max_line_bytes, report)
            case _:
                yield from _csv_rows(share, columns, max_line_bytes, report)
    except (pa.ArrowException, KeyError) as error:
        raise OSError(f"{share.path} is damaged: {error}") from error


# Columnar formats --------------------------------------------------------------------------------


def _parquet_rows(share: Share, columns: Sequence[str]) -> Iterator[TableRow]:
    with pq.ParquetFile(share.path) as file:
        metadata = file.metadata
        first, end = share.groups or (0, metadata.num_row_groups)
        groups = [metadata.row_group(group) for group in range(end)]
        number = sum(group.num_rows for group in groups[:first])
        num_rows = sum(group.num_rows for group in groups[first:])
        num_bytes = sum(group.total_byte_size for group in groups[first:])
        for batch in file.iter_batches(
            _batch_rows(num_bytes, num_rows), row_groups=list(range(first, end)), columns=columns
        ):
            for values in batch.to_pylist():
                yield TableRow(number, values)
                number += 1


def _arrow_rows(share: Share, columns: Sequence[str]) -> Iterator[TableRow]:
    number = 0
    with pa.memory_map(share.path) as file:
        for batch in _batches(_arrow(file)):
            part = batch.select(list(columns))
            step = _batch_rows(part.nbytes, len(part))
            for begin in range(0, len(part), step):
                for values in part.slice(begin, step).to_pylist():
                    yield TableRow(number, values)
                    number += 1


def _arrow(file: Any) -> Any:
    """A reader of Arrow's file format, or of its stream format, which ``datasets`` writes."""
    try:
        return pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_stream(file)


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        return (reader.get_batch(number) for number in range(reader.num_record_batches))
    return iter(reader)


def _batch_rows(num_bytes: int, num_rows: int) -> int:
    return max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES * max(num_rows, 1) // max(num_bytes, 1)))


# Lines -------------------------------------------------------------------------------------------


def _json_rows(
    path: Path, columns: Sequence[str], max_line_bytes: int, report: Report
) -> Iterator[TableRow]:
    extents = not is_packed(path)
    for number, (offset, line) in enumerate(lines_of(path, max_line_bytes)):
        if line is None:
            report.fail("line longer than a text may be", f"{path} line {number + 1}")
            continue
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            report.damage(f"{path} line {number + 1} is not JSON: {error}"[:300])
            continue
        if not isinstance(found, dict):
            report.damage(f"{path} line {number + 1} is no object of JSON")
            continue
        values = {name: found.get(name) for name in columns}
        yield TableRow(number, values, *((offset, len(line)) if extents else (0, 0)))


def _keys(path: Path, max_line_bytes: int) -> dict[str, pa.DataType]:
    """Keys and types of the first lines; a key whose values differ in type has Arrow's null."""
    found: dict[str, pa.DataType] = {}
    for number, (_, line) in enumerate(lines_of(path, max_line_bytes)):
        if number == _LOOKED_AT:
            break
        try:
            row = json.loads(line or b"null")
        except (ValueError, RecursionError):
            continue  # counted when it is read
        for name, value in row.items() if isinstance(row, dict) else ():
            kind = pa.string() if value is None or isinstance(value, str) else _type(value)
            found[name] = kind if found.get(name, kind) == kind else pa.null()
    return found


def _type(value: Any) -> pa.DataType:
    kinds = ((bool, pa.bool_()), (int, pa.int64()), (float, pa.float64()))
    return next((arrow for kind, arrow in kinds if isinstance(value, kind)), pa.struct([]))


def _csv_rows(
    share: Share, columns: Sequence[str], max_line_bytes: int, report: Report
) -> Iterator[TableRow]:
    lines = _csv_lines(Path(share.path), max_line_bytes)
    records = _csv_records(lines, share.format, max_line_bytes)
    header = next(records, [])
    for number, record in enumerate(records):
        if len(record) == len(header):
            named = dict(zip(header, record, strict=True))
            yield TableRow(number, {name: named[name] for name in columns})
        elif record:
            what = f"{len(record)} fields instead of {len(header)}"
            report.damage(f"{share.path} row {number} has {what}")


def _csv_records(lines: Iterator[str], kind: str, max_bytes: int) -> Iterator[list[str]]:
    reader = csv.reader(lines, delimiter="\t" if kind == "tsv" else ",")
    while True:
        csv.field_size_limit(max_bytes)  # of the process; a quote left open takes no more
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise OSError(f"damaged: line {reader.line_num}: {error}") from error


def _csv_lines(path: Path, max_line_bytes: int) -> Iterator[str]:
    """Lines as text; bytes that are not UTF-8 become lone surrogates, which no text may hold."""
    for number, (_, line) in enumerate(lines_of(path, max_line_bytes)):
        if line is None:
            raise OSError(f"{path} line {number + 1} is longer than a text may be")
        encoding = "utf-8-sig" if number == 0 else "utf-8"
        yield line.decode(encoding, "surrogateescape")

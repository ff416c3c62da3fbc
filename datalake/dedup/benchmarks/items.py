"""The items of every benchmark: rows of the lake's evaluation tables, and of files."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from datalake.config import Config, Refusal
from datalake.tables import Lake

_JSON_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.bz2")


class EvaluationTable(Config):
    """A table of the lake, or the part of it that is kept for evaluation."""

    text: tuple[str, ...] = Field(min_length=1)  # columns, joined by line feeds
    id: str  # column that names an item
    # A column and its values in the rows that are items; none takes all rows.
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Benchmark(Config):
    """Files of items that the recipe names: JSON lines, plain or compressed, and Parquet."""

    files: tuple[str, ...] = Field(min_length=1)
    text: tuple[str, ...] = Field(min_length=1)  # columns, joined by line feeds; lists, too
    id: str | None = None  # column that names an item; None is its number in all files


@dataclass(frozen=True)
class Items:
    """Items of all benchmarks, one after the other."""

    text: pa.LargeStringArray  # in NFC, as documents are
    ids: tuple[str, ...]
    names: tuple[str, ...]  # of benchmarks
    benchmarks: np.ndarray  # int64 [items] into ``names``
    labels: np.ndarray  # int64 [items]: byte that the last of several columns begins at

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, chosen: np.ndarray) -> "Items":
        """Only the items of these numbers."""
        return Items(
            self.text.take(pa.array(chosen)),
            tuple(self.ids[k] for k in chosen.tolist()),
            self.names,
            self.benchmarks[chosen],
            self.labels[chosen],
        )


def read_items(
    lake: Lake,
    versions: Mapping[str, int],
    tables: Mapping[str, EvaluationTable],
    benchmarks: Mapping[str, Benchmark],
) -> Items:
    """The items of ``tables`` at their versions, and of ``benchmarks``.

    Raises Refusal for a benchmark without items or with an item named twice, a file that is not
    there or cannot be read, and a column that is missing.
    """
    if twice := sorted(tables.keys() & benchmarks.keys()):
        raise Refusal(f"contamination.benchmarks must not be named as a table, got {twice[0]}")
    texts, ids, of, labels = list[str](), list[str](), list[int](), list[int]()
    names = (*versions, *benchmarks)
    for number, name in enumerate(names):
        if name in versions:
            rows = _table_rows(lake, name, versions[name], tables[name])
        else:
            rows = _file_rows(name, benchmarks[name])
        before = len(ids)
        for item_id, columns in rows:
            columns = [unicodedata.normalize("NFC", column) for column in columns]
            texts.append("\n".join(columns))
            ids.append(item_id)
            of.append(number)
            labels.append(sum(len(c.encode("utf-8", "replace")) + 1 for c in columns[:-1]))
        if len(ids) == before:
            raise Refusal(f"contamination: {name} must hold at least one item, got none")
        item_id, times = Counter(ids[before:]).most_common(1)[0]
        if times > 1:
            raise Refusal(f"contamination: ids of {name} must be unique, got {item_id} twice")
    clean = [t.encode("utf-8", "replace") for t in texts]  # a lone surrogate of JSON
    return Items(
        pa.array(clean, pa.large_binary()).cast(pa.large_string()),
        tuple(ids),
        names,
        np.array(of, np.int64),
        np.array(labels, np.int64),
    )


Row = tuple[str, list[str]]


def _table_rows(lake: Lake, name: str, version: int, table: EvaluationTable) -> Iterator[Row]:
    columns = list(dict.fromkeys([table.id, *table.text, *table.where]))
    for batch in lake.batches(name, version, columns):
        for row in batch.to_pylist():
            if all(str(row[c]) in values for c, values in table.where.items()):
                yield str(row[table.id]), [_said(name, c, row[c]) for c in table.text]


def _file_rows(name: str, benchmark: Benchmark) -> Iterator[Row]:
    number = 0
    for file in benchmark.files:
        path = Path(file)
        if not path.is_file():
            raise Refusal(f"contamination.benchmarks.{name}.files must be there, got {file}")
        if path.name.endswith(_JSON_LINES):
            rows = _json_lines(name, path)
        elif path.suffix == ".parquet":
            rows = _parquet_rows(name, path)
        else:
            rule = f"{', '.join(_JSON_LINES)} or .parquet"
            raise Refusal(f"contamination.benchmarks.{name}.files must end in {rule}, got {file}")
        for row in rows:
            needed = [*benchmark.text, *([benchmark.id] if benchmark.id else [])]
            if missing := [c for c in needed if c not in row]:
                has = ", ".join(sorted(map(str, row))) or "none"
                raise Refusal(f"{path.name} of {name} must have column {missing[0]}, got {has}")
            item_id = str(row[benchmark.id]) if benchmark.id else str(number)
            yield item_id, [_said(name, c, row[c]) for c in benchmark.text]
            number += 1


def _json_lines(name: str, path: Path) -> Iterator[dict[str, Any]]:
    with pa.input_stream(str(path)) as stream:
        content = stream.read()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:  # also where it is not UTF-8
            place = f"line {number} of {path.name} of {name}"
            raise Refusal(f"{place} must be JSON, got {str(error)[:80]}") from error
        if not isinstance(row, dict):
            place = f"line {number} of {path.name} of {name}"
            raise Refusal(f"{place} must be an object of JSON, got {str(row)[:40]}")
        yield row


def _parquet_rows(name: str, path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise Refusal(f"{path.name} of {name} must be Parquet, got {str(error)[:80]}") from error
    with file:
        for batch in file.iter_batches(1024):
            yield from batch.to_pylist()


def _said(name: str, column: str, value: Any) -> str:
    """A value as text: nothing for null, the members of a list as lines."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return "\n".join(_said(name, column, member) for member in value)
    raise Refusal(f"column {column} of {name} must hold text, got {type(value).__name__}")

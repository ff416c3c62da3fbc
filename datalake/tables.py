"""Delta tables: parts of rows, and one way to commit them.

A *part* is one Parquet file with its row count, its statistics and a digest of its content. Parts
are written first, by the driver, by a Spark task or by ``map_files``; ``Lake.commit`` then makes
them a version of the table in one Delta transaction, through delta-rs. A write that fails before
the commit leaves the table at its old version, and its parts are orphans that ``vacuum`` removes.

The digest of a row is a 128-bit hash of its content columns; the digest of a table is the sum of
its rows' digests. So it depends neither on the order of rows nor on how they are spread over parts,
and the digest of a version is the sum of the digests in its parts' names.
"""

import contextlib
import fcntl
import json
import math
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq
import xxhash
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions

from datalake.config import Refusal
from datalake.schemas import TABLES, Schema

PART_BYTES = 16 << 20  # Arrow bytes after which the driver begins a new part: one task's work
_COMMIT_TRIES = 8
_PART_NAME = re.compile(r"([0-9a-f]{32})-[0-9a-f]{32}\.zstd\.parquet$")
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Digest:
    """Sum of row digests, two lanes modulo 2**64, and how many rows it covers."""

    high: int = 0
    low: int = 0

    def __add__(self, other: "Digest") -> "Digest":
        return Digest((self.high + other.high) & _MASK, (self.low + other.low) & _MASK)

    def __str__(self) -> str:
        return f"{self.high:016x}{self.low:016x}"

    @classmethod
    def parse(cls, text: str) -> "Digest":
        return cls(int(text[:16], 16), int(text[16:], 16))


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file of a table, written but perhaps not yet committed."""

    path: str  # relative to the table
    rows: int
    num_bytes: int
    digest: str
    partition: tuple[tuple[str, str], ...]
    stats: str  # JSON, as in Delta's add action


@dataclass(frozen=True, slots=True)
class Commit:
    """A version of a table: its content digest, and whether this commit changed anything."""

    name: str
    version: int
    content: str
    rows: int
    num_bytes: int
    changed: bool


@dataclass(frozen=True)
class Lake:
    """All tables below one root: a local folder or any URI that delta-rs opens."""

    root: str

    def uri(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    # Reading -----------------------------------------------------------------------------------

    def latest(self, name: str) -> int | None:
        """Newest version of ``name``, or None where the table does not exist."""
        try:
            return self._open(name).version()
        except TableNotFoundError:
            return None

    def parts(
        self, name: str, version: int | None = None, where: Mapping[str, str] | None = None
    ) -> list[Part]:
        """Parts of a version whose partition values equal ``where``, in order of their names."""
        schema = schema_of(name)
        actions = pa.table(self._open(name, version).get_add_actions(flatten=True)).to_pylist()
        parts = []
        for action in sorted(actions, key=lambda action: str(action["path"])):
            partition = tuple((p, str(action[f"partition.{p}"])) for p in schema.partition_by)
            if any(dict(partition).get(c, v) != v for c, v in (where or {}).items()):
                continue
            named = _PART_NAME.search(action["path"])
            parts.append(
                Part(
                    path=unquote(action["path"]),  # delta-rs escapes in the log
                    rows=action["num_records"],
                    num_bytes=action["size_bytes"],
                    digest=named[1] if named else "",
                    partition=partition,
                    stats="",
                )
            )
        return parts

    def files(
        self, name: str, version: int | None = None, where: Mapping[str, str] | None = None
    ) -> list[str]:
        """Absolute addresses of the parts of a version."""
        return [f"{self.uri(name)}/{p.path}" for p in self.parts(name, version, where)]

    def batches(
        self,
        name: str,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Rows of a version, part after part, with only the columns asked for."""
        for part in self.parts(name, version, where):
            yield from self.open_part(name, part, columns, where)

    def read(
        self,
        name: str,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> pa.Table:
        """A version as one Arrow table. Raises Refusal for a version or column it does not have."""
        schema = _select(schema_of(name), columns)
        return pa.Table.from_batches(self.batches(name, version, columns, where), schema)

    def open_part(
        self,
        name: str,
        part: Part,
        columns: Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
        batch_rows: int = 1024,
    ) -> Iterator[pa.RecordBatch]:
        """Batches of one part, partition columns restored, rows that differ from ``where`` out."""
        schema = _select(schema_of(name), columns)
        partition = dict(part.partition)
        tests = {c: v for c, v in (where or {}).items() if c not in partition}
        filesystem, folder = _filesystem(self.uri(name))
        with filesystem.open_input_file(f"{folder}/{part.path}") as opened:
            file = pq.ParquetFile(opened)
            there = set(file.schema_arrow.names)
            known = partition | {
                c: _before(name, c)
                for c in (*schema.names, *tests)
                if c not in there | {*partition}
            }
            tests = {c: v for c, v in tests.items() if c not in known or known[c] != v}
            stored = [c for c in dict.fromkeys([*schema.names, *tests]) if c not in known]
            if tests.keys() & known.keys():
                return
            for batch in file.iter_batches(batch_rows, columns=stored):
                for column, value in tests.items():
                    batch = batch.filter(pc.equal(batch[column], value))
                arrays = [
                    pa.repeat(pa.scalar(known[f.name], f.type), len(batch))
                    if f.name in known
                    else batch[f.name].cast(f.type)
                    for f in schema
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def history(self, name: str) -> list[dict[str, Any]]:
        """What made each version, newest first, with the versions of its inputs."""
        return self._open(name).history()

    def ancestry(self, tables: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
        """``tables`` and every table behind them, and at which versions, as their commits say."""
        found: dict[str, set[int]] = {}
        open_ends = list(tables)
        while open_ends:
            name, version = open_ends.pop()
            if version in found.setdefault(name, set()):
                continue
            found[name].add(version)
            for commit in self.history(name):
                if commit["version"] == version:
                    read = json.loads(commit.get("inputs", "{}"))
                    open_ends += [
                        (key, made) for key, made in read.items() if isinstance(made, int)
                    ]
        return found

    def content(self, name: str, version: int | None = None) -> str:
        """Content digest of a version; parts that others wrote are read to compute it."""
        return str(self._digest(name, self.parts(name, version)))

    # Writing -----------------------------------------------------------------------------------

    def overwrite(
        self,
        name: str,
        rows: pa.Table | Iterable[pa.RecordBatch],
        inputs: Mapping[str, Any] | None = None,
        partition: Mapping[str, str] | None = None,
    ) -> Commit:
        """Replace the table, or one ``partition`` of it, by ``rows``.

        Equal content keeps the version; no rows at all raises Refusal.
        """
        parts = self.write_parts(name, rows)
        return self.commit(name, parts, mode="overwrite", inputs=inputs, partition=partition)

    def append(
        self,
        name: str,
        rows: pa.Table | Iterable[pa.RecordBatch],
        inputs: Mapping[str, Any] | None = None,
    ) -> Commit:
        """Add ``rows``; blind appends of several writers all land."""
        return self.commit(name, self.write_parts(name, rows), mode="append", inputs=inputs)

    def merge(self, name: str, rows: pa.Table) -> Commit:
        """Update the rows with a known key, insert the others (on the key of the schema)."""
        schema = schema_of(name)
        rows = pa.table(rows).cast(schema.arrow)
        keys = rows[schema.key]
        if len(keys.unique()) < len(keys):
            raise Refusal(f"{schema.key} merged into {name} must be unique, got a value twice")

        def attempt() -> None:
            if self.latest(name) is None:
                write_deltalake(self.uri(name), rows, partition_by=list(schema.partition_by))
                return
            (
                self._open(name)
                .merge(rows, f"t.{schema.key} = s.{schema.key}", "s", "t")
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .execute()
            )

        _retry(attempt)
        return self._describe(name, changed=True)

    def delete(self, name: str, predicate: str) -> Commit:
        """Remove the rows that match an SQL ``predicate``; ``vacuum`` then removes the bytes."""
        _retry(lambda: self._open(name).delete(predicate))
        return self._describe(name, changed=True)

    def write_parts(self, name: str, rows: pa.Table | Iterable[pa.RecordBatch]) -> list[Part]:
        """Write ``rows`` as parts of about ``PART_BYTES``; nothing is committed.

        When the rows stop with an error, the parts written so far are removed.
        """
        schema = schema_of(name)
        batches = rows.to_batches(max_chunksize=1024) if isinstance(rows, pa.Table) else rows
        writers: dict[tuple[tuple[str, str], ...], PartWriter] = {}
        parts: list[Part] = []
        try:
            for batch in batches:
                for partition, piece in _by_partition(batch, schema):
                    writer = writers.get(partition) or PartWriter(self, name, partition)
                    writers[partition] = writer
                    writer.write(piece)
                    if writer.arrow_bytes >= PART_BYTES:
                        parts.append(writers.pop(partition).close())
            parts += [writer.close() for writer in writers.values()]
        except BaseException:
            for writer in writers.values():
                writer.discard()
            self.remove_parts(name, parts)
            raise
        return parts

    def remove_parts(self, name: str, parts: Iterable[Part]) -> None:
        """Remove parts that were never committed."""
        filesystem, folder = _filesystem(self.uri(name))
        for part in parts:
            with contextlib.suppress(FileNotFoundError):
                filesystem.delete_file(f"{folder}/{part.path}")

    def commit(
        self,
        name: str,
        parts: Sequence[Part],
        mode: Literal["append", "overwrite"],
        inputs: Mapping[str, Any] | None = None,
        partition: Mapping[str, str] | None = None,
    ) -> Commit:
        """Make written parts a version of the table, in one transaction.

        An overwrite whose content equals what it would replace keeps the version and removes the
        parts. An overwrite without rows is refused, except of a table for which that is a result.
        """
        schema = schema_of(name)
        parts = [part for part in parts if part.rows]
        nothing = not parts and (mode == "overwrite" or self.latest(name) is None)
        if nothing and not schema.may_be_empty:
            raise Refusal(f"table {name} must be written with at least one row, got none")
        if stray := [p.path for p in parts if not _inside(p, partition)]:
            self.remove_parts(name, parts)
            raise Refusal(f"rows for {name} must lie in partition {partition}, got {stray[0]}")
        with self._lock(name):
            if mode == "overwrite" and self._same(name, parts, partition):
                self.remove_parts(name, parts)
                return self._describe(name, changed=False)
            if parts or nothing:
                _retry(lambda: self._transact(schema, parts, mode, inputs or {}, partition))
            return self._describe(name, changed=bool(parts or nothing))

    def clear(self, name: str, partition: Mapping[str, str]) -> Commit:
        """Take all rows of ``partition`` out; a partition that has none keeps the version."""
        with self._lock(name):
            held = bool(self.parts(name, where=partition))
            if held:
                schema = schema_of(name)
                _retry(lambda: self._transact(schema, [], "overwrite", {}, partition))
            return self._describe(name, changed=held)

    def has_parts(self, name: str, parts: Iterable[Part]) -> bool:
        """Whether the files of ``parts`` are all there, committed or not."""
        filesystem, folder = _filesystem(self.uri(name))
        paths = [f"{folder}/{part.path}" for part in parts]
        return all(info.is_file for info in filesystem.get_file_info(paths)) if paths else True

    def compact(self, name: str) -> Commit:
        """Rewrite many small parts into few; the content, and so its digest, stays the same."""
        schema = schema_of(name)
        with self._lock(name):
            old = self.parts(name)
            parts = self.write_parts(name, self.batches(name))
            if len(parts) >= len(old):
                self.remove_parts(name, parts)
                return self._describe(name, changed=False)
            _retry(lambda: self._transact(schema, parts, "overwrite", {"compacted": len(old)}))
            return self._describe(name, changed=True)

    def vacuum(
        self, name: str, keep_versions: Sequence[int] = (), retention_hours: int = 24
    ) -> list[str]:
        """Remove files that no kept version names, orphans of failed writes among them.

        Returns the removed paths. Versions in ``keep_versions`` (a model was trained on them)
        and the newest one stay readable. Files younger than ``retention_hours`` stay, since a
        writer at work has not named its own yet.
        """
        table = self._open(name)
        removed = table.vacuum(
            retention_hours=retention_hours,
            dry_run=False,
            enforce_retention_duration=False,
            full=True,
            keep_versions=[*keep_versions, table.version()],
        )
        return sorted(removed)

    # One layer down ----------------------------------------------------------------------------

    def _open(self, name: str, version: int | None = None) -> DeltaTable:
        schema_of(name)
        try:
            return DeltaTable(self.uri(name), version=version)
        except TableNotFoundError:
            raise
        except Exception as error:  # delta-rs has no class of its own for an unknown version
            if version is None or "version" not in str(error).lower():
                raise
            latest = DeltaTable(self.uri(name)).version()
            raise Refusal(f"table {name} has no version {version}; latest is {latest}") from error

    def _transact(
        self,
        schema: Schema,
        parts: Sequence[Part],
        mode: Literal["append", "overwrite"],
        inputs: Mapping[str, Any],
        partition: Mapping[str, str] | None = None,
    ) -> None:
        now = int(time.time() * 1000)
        actions: list[Any] = [
            AddAction(p.path, p.num_bytes, dict(p.partition), now, True, p.stats) for p in parts
        ]
        properties = CommitProperties(custom_metadata={"inputs": json.dumps(dict(inputs))})
        arrow = schema.arrow
        delta = DeltaSchema.from_arrow(arrow)
        keys = list(schema.partition_by)
        exists = self.latest(schema.name) is not None
        if not exists or (partition is None and mode == "overwrite"):
            create_table_with_add_actions(
                self.uri(schema.name),
                delta,
                actions,
                mode="overwrite" if exists else "error",
                partition_by=keys,
                commit_properties=properties,
            )
            return
        self._open(schema.name).create_write_transaction(
            actions,
            mode,
            delta,
            keys,
            partition_filters=[(c, "=", v) for c, v in partition.items()] if partition else None,
            commit_properties=properties,
        )

    def _same(self, name: str, parts: Sequence[Part], partition: Mapping[str, str] | None) -> bool:
        if self.latest(name) is None:
            return False
        stored = DeltaSchema.from_arrow(schema_of(name).arrow).to_json()
        if json.loads(self._open(name).schema().to_json()) != json.loads(stored):
            return False
        old = self.parts(name, where=partition)
        same_rows = sum(p.rows for p in old) == sum(p.rows for p in parts)
        return same_rows and self._digest(name, old) == self._digest(name, parts)

    def _digest(self, name: str, parts: Iterable[Part]) -> Digest:
        columns = schema_of(name).content_columns
        total = Digest()
        for part in parts:
            if part.digest:
                total += Digest.parse(part.digest)
            else:
                for batch in self.open_part(name, part, columns):
                    total += content_digest(batch)
        return total

    def _describe(self, name: str, changed: bool) -> Commit:
        table = self._open(name)
        parts = self.parts(name, table.version())
        return Commit(
            name=name,
            version=table.version(),
            content=str(self._digest(name, parts)),
            rows=sum(p.rows for p in parts),
            num_bytes=sum(p.num_bytes for p in parts),
            changed=changed,
        )

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """One committing writer a table on this machine; on object storage delta-rs alone rules."""
        if "://" in self.root:
            yield
            return
        folder = Path(self.root) / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name.replace('/', '.')}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class PartWriter:
    """Writes one part of ``lake``'s table ``name``, counting rows, statistics and digest."""

    def __init__(self, lake: Lake, name: str, partition: tuple[tuple[str, str], ...] = ()) -> None:
        self.schema = schema_of(name)
        self.partition = partition
        self.arrow_bytes = 0
        self._rows = 0
        self._digest = Digest()
        self._extremes: dict[str, tuple[Any, Any]] = {}
        self._nulls: dict[str, int] = {}
        self._filesystem, self._folder = _filesystem(lake.uri(name))
        self._below = "/".join(f"{c}={quote(v, safe='')}" for c, v in partition)
        self._draft = f"{self._folder}/{self._below}/.draft-{uuid.uuid4().hex}.parquet"
        self._stored = pa.schema([f for f in self.schema.arrow if f.name not in dict(partition)])
        self._filesystem.create_dir(f"{self._folder}/{self._below}", recursive=True)
        self._writer = pq.ParquetWriter(
            self._draft, self._stored, filesystem=self._filesystem, compression="zstd"
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows. Raises Refusal where a column is missing, of another type, or null."""
        batch = _conform(batch, self.schema)
        self.arrow_bytes += batch.nbytes
        self._rows += len(batch)
        self._digest += content_digest(batch.select(self.schema.content_columns))
        self._count(batch)
        self._writer.write_batch(batch.select(self._stored.names))

    def close(self) -> Part:
        """Finish the file under a name that holds its digest."""
        self._writer.close()
        name = f"{self._digest}-{uuid.uuid4().hex}.zstd.parquet"
        path = f"{self._below}/{name}" if self._below else name
        self._filesystem.move(self._draft, f"{self._folder}/{path}")
        size = self._filesystem.get_file_info(f"{self._folder}/{path}").size
        stats = {
            "numRecords": self._rows,
            "minValues": {c: low for c, (low, _) in self._extremes.items()},
            "maxValues": {c: high for c, (_, high) in self._extremes.items()},
            "nullCount": self._nulls,
        }
        return Part(path, self._rows, size, str(self._digest), self.partition, json.dumps(stats))

    def discard(self) -> None:
        """Give up: remove what was written."""
        with contextlib.suppress(Exception):  # the writer may be what failed
            self._writer.close()
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.delete_file(self._draft)

    def _count(self, batch: pa.RecordBatch) -> None:
        """Statistics of the key and of numbers; text never goes into the log."""
        for field in self._stored:
            if field.name != self.schema.key and not _is_number(field.type):
                continue
            column = batch[field.name]
            self._nulls[field.name] = self._nulls.get(field.name, 0) + column.null_count
            extremes = pc.min_max(column).as_py()
            low, high = extremes["min"], extremes["max"]
            if low is None or (isinstance(low, float) and not math.isfinite(low + high)):
                continue
            before = self._extremes.get(field.name, (low, high))
            self._extremes[field.name] = (min(low, before[0]), max(high, before[1]))


@dataclass(frozen=True, slots=True)
class DeltaFiles:
    """The Parquet files of one version of somebody else's Delta table."""

    version: int
    files: tuple[tuple[str, Mapping[str, Any]], ...]  # address, and values of partition columns


def delta_files(uri: str, version: int | None = None) -> DeltaFiles:
    """What a reader of the table at ``uri`` has to read, at its newest version or at another.

    Raises Refusal for a version that is not there, and where the files alone do not say what the
    table holds: deletion vectors and mapped columns.
    """
    try:
        table = DeltaTable(uri, version=version)
    except Exception as error:  # delta-rs has no class of its own for an unknown version
        raise Refusal(f"table {uri} must be a Delta table with the version: {error}") from error
    features = set(table.protocol().reader_features or ())
    mapping = table.metadata().configuration.get("delta.columnMapping.mode") or "none"
    if "deletionVectors" in features or mapping != "none":
        rule = "without deletion vectors and mapped columns"
        raise Refusal(f"table {uri} must be {rule}, got {', '.join(sorted(features)) or mapping}")
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    root = uri.rstrip("/")
    files = tuple(
        (
            f"{root}/{unquote(action['path'])}",
            {c: action[f"partition.{c}"] for c in table.metadata().partition_columns},
        )
        for action in sorted(actions, key=lambda action: str(action["path"]))
    )
    return DeltaFiles(table.version(), files)


def schema_of(name: str) -> Schema:
    """The declared schema of table ``name``. Raises Refusal for a name that is not declared."""
    if name not in TABLES:
        raise Refusal(f"table must be one of {', '.join(TABLES)}, got {name}")
    return TABLES[name]


def content_digest(batch: pa.RecordBatch) -> Digest:
    """Sum over the rows of ``batch`` of a 128-bit hash of all its columns, by name and value."""
    lanes = np.zeros((len(batch), 2), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            seed = np.uint64(xxhash.xxh3_64_intdigest(name.encode()))
            lanes = _mix(lanes * np.uint64(0x9E3779B97F4A7C15) + _value_digests(column) + seed)
        high, low = (int(lane) for lane in lanes.sum(axis=0, dtype=np.uint64))
    return Digest(high, low)


def _value_digests(column: pa.Array) -> np.ndarray:
    """Two 64-bit hashes of every value of ``column``: ``[rows, 2]`` uint64. Null has its own."""
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        wide = pa.float64() if pa.types.is_floating(kind) else pa.int64()
        zero = pa.scalar(0, kind)
        bits = column.fill_null(zero).cast(wide).to_numpy(zero_copy_only=False).view(np.uint64)
        pairs = np.stack([bits, bits ^ np.uint64(0xD6E8FEB86659FD93)], axis=1)
        digests = _mix(pairs)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        flat = np.ascontiguousarray(_value_digests(column.flatten())).view(np.uint8).reshape(-1)
        ends = np.cumsum(pc.list_value_length(column).fill_null(0).to_numpy()) * 16
        digests = _byte_digests([flat[a:b] for a, b in zip(np.r_[0, ends[:-1]], ends, strict=True)])
    else:
        binary = column.cast(pa.large_binary()).fill_null(b"")
        digests = _byte_digests([value.as_buffer() for value in binary])
    if column.null_count:
        digests[column.is_null().to_numpy(zero_copy_only=False)] = np.uint64(0xA0761D6478BD642F)
    return digests


def _byte_digests(values: Sequence[Any]) -> np.ndarray:
    joined = b"".join(xxhash.xxh3_128_digest(memoryview(value)) for value in values)
    return np.frombuffer(joined, dtype="<u8").reshape(-1, 2).copy()


def _mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele et al. 2014), element by element."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _conform(batch: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    arrow = schema.arrow
    if set(batch.schema.names) != set(arrow.names):
        difference = sorted(set(batch.schema.names) ^ set(arrow.names))
        raise Refusal(f"rows for {schema.name} must have its columns, got {difference} differing")
    for field in arrow:
        if not field.nullable and batch[field.name].null_count:
            raise Refusal(f"{schema.name}.{field.name} must not be null, got a null")
    try:
        return pa.RecordBatch.from_arrays([batch[f.name].cast(f.type) for f in arrow], schema=arrow)
    except pa.ArrowInvalid as error:
        raise Refusal(f"rows for {schema.name} must fit its types, got {error}") from error


def _by_partition(
    batch: pa.RecordBatch, schema: Schema
) -> Iterator[tuple[tuple[tuple[str, str], ...], pa.RecordBatch]]:
    """Split a batch by the values of the partition columns, in order of first appearance."""
    if not len(batch):
        return
    if not schema.partition_by:
        yield (), batch
        return
    keys = list(zip(*(batch[c].to_pylist() for c in schema.partition_by), strict=True))
    for key in dict.fromkeys(keys):
        mask = pa.array([k == key for k in keys])
        named = tuple((c, str(v)) for c, v in zip(schema.partition_by, key, strict=True))
        yield named, batch.filter(mask)


def _before(name: str, column: str) -> Any:
    """Value of ``column`` in rows older than it. Raises Refusal where there can be none."""
    (declared,) = [c for c in schema_of(name).columns if c.name == column]
    if declared.before is None and not declared.nullable:
        rule = f"column {column}; move the table away, and it is made anew"
        raise Refusal(f"table {name} must have {rule}, got one of an older version without it")
    return declared.before


def _select(schema: Schema, columns: Sequence[str] | None) -> pa.Schema:
    if columns is None:
        return schema.arrow
    if unknown := [c for c in columns if c not in schema.arrow.names]:
        raise Refusal(f"table {schema.name} has no column {unknown[0]}")
    return pa.schema([schema.arrow.field(c) for c in columns])


def _inside(part: Part, partition: Mapping[str, str] | None) -> bool:
    return partition is None or all(dict(part.partition).get(c) == v for c, v in partition.items())


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    if "://" in uri:
        return pyarrow.fs.FileSystem.from_uri(uri)
    return pyarrow.fs.LocalFileSystem(), uri


def _retry(attempt: Callable[[], Any]) -> Any:
    """Run ``attempt`` again when another writer committed in between."""
    for trial in range(_COMMIT_TRIES):
        try:
            return attempt()
        except CommitFailedError:
            if trial == _COMMIT_TRIES - 1:
                raise
            time.sleep(0.05 * 2**trial)
    return None

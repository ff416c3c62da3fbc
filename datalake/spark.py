"""The Spark session, and Spark's two ways to Delta without JVM packages.

``map_files`` serves stages that map rows to rows: one Spark task opens a part through Arrow, writes
its own part, and the driver commits them all; no row crosses to the JVM. The Python data source
``tarn`` serves joins and groupings: its reader plans one partition a part and reads only the
columns asked for; what its writer's tasks wrote, the driver commits in one Delta transaction.
"""

import atexit
import contextlib
import json
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import (
    DataSource,
    DataSourceArrowWriter,
    DataSourceReader,
    InputPartition,
    WriterCommitMessage,
)
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from datalake.tables import Commit, Lake, Part, schema_of
from datalake.workspace import Workspace

_LOCAL_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # start-up 16.5 -> 9.2 s, local only
_MAX_SHUFFLE_PARTITIONS = 2000  # with more, Spark knows the sizes of blocks only by their mean
_LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
appender.file.type = File
appender.file.name = file
appender.file.fileName = {log}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{HH:mm:ss}} %p %c{{1}}: %m%n%ex
"""

T = TypeVar("T")
R = TypeVar("R")
MapFunction = Callable[[pa.RecordBatch], pa.RecordBatch]


def session(workspace: Workspace) -> SparkSession:
    """The session of this process, started on first use; its log is ``logs/spark.log``."""
    if (running := _in_this_thread()) is not None:
        return running
    log = workspace.folder("logs") / "spark.log"
    scratch = workspace.folder("scratch/spark")
    log4j = scratch / "log4j2.properties"
    log4j.write_text(_LOG4J.format(log=log))
    local = workspace.spark_master.startswith("local")
    if local:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    java = f"-Dlog4j2.configurationFile=file:{log4j} -Dderby.system.home={scratch}"
    builder = (
        SparkSession.builder.master(workspace.spark_master)
        .appName("tarn")
        .config("spark.driver.extraJavaOptions", f"{java} {_LOCAL_JVM if local else ''}".strip())
        .config("spark.driver.memory", "1g")
        .config("spark.local.dir", str(scratch))
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "1024")
    )
    if local:  # little data gains nothing from the 200 shuffle partitions of the default
        builder = builder.config("spark.sql.shuffle.partitions", "4")
    with _standard_error_to(log):
        spark = builder.getOrCreate()
    spark.dataSource.register(TableSource)
    atexit.register(stop)
    return spark


def stop() -> None:
    """End the session of this process, if there is one, and give its memory back."""
    if (running := _in_this_thread()) is not None:
        running.stop()
        gateway = type(running.sparkContext)._gateway
        if gateway is not None:  # the JVM outlives its context otherwise
            gateway.shutdown()
            gateway.proc.stdin.close()
            gateway.proc.wait(timeout=20)
            type(running.sparkContext)._gateway = None
            type(running.sparkContext)._jvm = None


@dataclass(frozen=True, slots=True)
class _Task:
    """What one Spark task does: read a part of one table, write a part of another."""

    lake: Lake
    source: str
    columns: tuple[str, ...]
    function: MapFunction
    target: str

    def __call__(self, part: Part) -> list[Part]:
        batches = self.lake.open_part(self.source, part, self.columns, batch_rows=256)
        return self.lake.write_parts(self.target, (self.function(b) for b in batches))


def map_parts(
    workspace: Workspace,
    source: str,
    version: int,
    columns: Sequence[str],
    function: MapFunction,
    target: str,
) -> list[Part]:
    """Parts of ``target``, not yet committed, from every part of ``source`` at ``version``.

    ``function`` must be picklable and map a batch of ``columns`` to a batch of ``target``.
    """
    task = _Task(workspace.lake, source, tuple(columns), function, target)
    return [part for written in each_part(workspace, source, version, task) for part in written]


def each_part(
    workspace: Workspace, source: str, version: int, function: Callable[[Part], R]
) -> list[R]:
    """What ``function`` gives for every part of ``source`` at ``version``, one Spark task each.

    ``function`` must be picklable.
    """
    # Largest first, so that no core waits for a big part begun last.
    parts = sorted(workspace.lake.parts(source, version), key=lambda part: -part.num_bytes)
    if not parts:
        return []
    context = session(workspace).sparkContext
    return context.parallelize(parts, len(parts)).map(function).collect()


def in_task(workspace: Workspace, function: Callable[[T], R]) -> Callable[[T], R]:
    """``function``, run as a task of its own for each call; calls may come from several threads."""
    context = session(workspace).sparkContext

    def call(item: T) -> R:
        (result,) = context.parallelize([item], 1).map(function).collect()
        return result

    return call


def map_files(
    workspace: Workspace,
    source: str,
    version: int,
    columns: Sequence[str],
    function: MapFunction,
    target: str,
    inputs: Mapping[str, Any],
) -> Commit:
    """Overwrite ``target`` with ``function`` of every batch of ``source`` at ``version``."""
    parts = map_parts(workspace, source, version, columns, function, target)
    return workspace.lake.commit(target, parts, mode="overwrite", inputs=inputs)


def read(
    workspace: Workspace,
    name: str,
    version: int,
    columns: Sequence[str] | None = None,
    where: Mapping[str, str] | None = None,
) -> DataFrame:
    """Table ``name`` at ``version`` as a DataFrame of only ``columns``.

    ``where`` names partition values; other parts are not opened. It is an argument because Spark
    4.3 keeps the filters that it pushed into a Python reader for every later query on the same
    DataFrame, which then answers with too few rows.
    """
    names = list(columns or schema_of(name).arrow.names)
    lake, spark = workspace.lake, session(workspace)
    if "://" not in lake.root and not schema_of(name).partition_by:
        # The JVM reads local files itself, in columns, without a Python worker a part: 20 -> 13 s
        # for the cold stage ``duplicates``.
        files = lake.files(name, version)
        if not files:  # a table that may be empty
            arrow = schema_of(name).arrow
            return spark.createDataFrame([], schema_in_spark(pa.schema(map(arrow.field, names))))
        _shuffle_into(spark, len(files))
        return spark.read.parquet(*files).select(*names)
    _shuffle_into(spark, len(lake.parts(name, version, where)))
    return (
        spark.read.format("tarn")
        .options(root=lake.root, name=name, version=str(version))
        .option("columns", ",".join(names))
        .option("where", json.dumps(dict(where or {})))
        .load()
    )


def _shuffle_into(spark: SparkSession, num_parts: int) -> None:
    """Let shuffles have a partition a part, so that the work of a task does not grow with a table.

    Never fewer than another table asked for: Spark joins those that come out small.
    """
    setting = "spark.sql.shuffle.partitions"
    wanted = min(num_parts, _MAX_SHUFFLE_PARTITIONS)
    if int(spark.conf.get(setting) or 0) < wanted:
        spark.conf.set(setting, str(wanted))


def schema_in_spark(columns: pa.Schema) -> Any:
    """Columns as Spark's types: what a map over Arrow batches declares."""
    return from_arrow_schema(columns)


def write(
    workspace: Workspace,
    name: str,
    frame: DataFrame,
    inputs: Mapping[str, Any],
    mode: Literal["append", "overwrite"] = "overwrite",
) -> Commit:
    """Write a DataFrame as a new version of table ``name``, in one transaction."""
    return workspace.lake.commit(name, write_parts(workspace, name, frame), mode, inputs)


def write_parts(workspace: Workspace, name: str, frame: DataFrame) -> list[Part]:
    """Parts of ``name`` with the rows of a DataFrame, not yet committed."""
    # The sink's commit runs in a process of its own and returns nothing, so it leaves a file.
    with tempfile.TemporaryDirectory(dir=workspace.folder("scratch")) as folder:
        answer = Path(folder) / "parts"
        (
            frame.select(*schema_of(name).arrow.names)
            .write.format("tarn")
            .options(root=workspace.lake.root, name=name, answer=str(answer))
            .mode("append")
            .save()
        )
        parts: list[Part] = pickle.loads(answer.read_bytes())
        return parts


class TableSource(DataSource):
    """Spark's view of one declared table at one version."""

    @classmethod
    def name(cls) -> str:
        return "tarn"

    def schema(self) -> Any:
        names = self.options["columns"].split(",")
        arrow = schema_of(self.options["name"]).arrow
        return from_arrow_schema(pa.schema([arrow.field(name) for name in names]))

    def reader(self, schema: Any) -> DataSourceReader:
        return _Reader(dict(self.options), to_arrow_schema(schema, timezone="UTC"))

    def writer(self, schema: Any, overwrite: bool) -> DataSourceArrowWriter:
        return _Writer(dict(self.options))


@dataclass
class _PartPartition(InputPartition):
    part: Part


class _Reader(DataSourceReader):
    def __init__(self, options: Mapping[str, str], schema: pa.Schema) -> None:
        self.lake = Lake(options["root"])
        self.table = options["name"]
        self.version = int(options["version"])
        self.arrow = schema
        self.where = json.loads(options["where"])

    def partitions(self) -> list[InputPartition]:
        # Spark makes of an empty list one partition of None.
        return [_PartPartition(p) for p in self.lake.parts(self.table, self.version, self.where)]

    def read(self, partition: InputPartition | None) -> Iterator[pa.RecordBatch]:
        if partition is None:
            return
        part: Part = partition.part  # type: ignore[attr-defined]
        for batch in self.lake.open_part(self.table, part, self.arrow.names):
            yield pa.RecordBatch.from_arrays(
                [batch[field.name].cast(field.type) for field in self.arrow], schema=self.arrow
            )


@dataclass
class _Written(WriterCommitMessage):
    parts: bytes  # pickled list of parts


class _Writer(DataSourceArrowWriter):
    def __init__(self, options: Mapping[str, str]) -> None:
        self.lake = Lake(options["root"])
        self.table = options["name"]
        self.answer = options["answer"]

    def write(self, iterator: Iterator[pa.RecordBatch]) -> WriterCommitMessage:
        return _Written(pickle.dumps(self.lake.write_parts(self.table, iterator)))

    def commit(self, messages: Sequence[Any]) -> None:
        Path(self.answer).write_bytes(pickle.dumps(self._parts(messages)))

    def abort(self, messages: Sequence[Any]) -> None:
        self.lake.remove_parts(self.table, self._parts(messages))

    def _parts(self, messages: Sequence[Any]) -> list[Part]:
        return [part for m in messages if m is not None for part in pickle.loads(m.parts)]


def _in_this_thread() -> SparkSession | None:
    """The session of this process made active in the calling thread, which writing needs."""
    running = SparkSession._instantiatedSession
    if running is None or running._jsc.sc().isStopped():
        return None
    jvm: Any = running._jvm
    jvm.org.apache.spark.sql.classic.SparkSession.setActiveSession(running._jsparkSession)
    return running


@contextlib.contextmanager
def _standard_error_to(log: Path) -> Iterator[None]:
    """Send file descriptor 2 to ``log``: the JVM inherits it, and its first lines are noise."""
    sys.stderr.flush()
    saved = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)

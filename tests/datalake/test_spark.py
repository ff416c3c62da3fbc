"""Spark's two ways to Delta, on the real session."""

import threading

import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from datalake import spark
from datalake.cuts import APPLIED, Cuts
from datalake.workspace import Workspace
from tests.datalake.test_tables import KEPT, ids, kept, tokens


def _double(batch: pa.RecordBatch) -> pa.RecordBatch:
    doubled = [value * 2 for value in batch["num_bytes"].to_pylist()]
    return kept(doubled).to_batches()[0]


def _fail_on_seven(batch: pa.RecordBatch) -> pa.RecordBatch:
    if 7 in batch["num_bytes"].to_pylist():
        raise ValueError("seven cannot be mapped")
    return kept(batch["num_bytes"].to_pylist()).to_batches()[0]


def _files(workspace: Workspace) -> int:
    return len(list((workspace.home / "lake/kept").rglob("*.parquet")))


def test_map_files_commits_one_version_made_from_every_part(spark_workspace: Workspace) -> None:
    lake = spark_workspace.lake
    lake.overwrite("kept", kept(range(5)))
    lake.append("kept", kept(range(5, 9)))
    made = spark.map_files(spark_workspace, "kept", 1, ["num_bytes"], _double, "kept", {"kept": 1})
    assert (made.version, made.rows) == (2, 9)
    assert ids(lake.read("kept")) == [2 * i for i in range(9)]


def test_a_task_that_fails_leaves_the_old_version(spark_workspace: Workspace) -> None:
    lake = spark_workspace.lake
    lake.overwrite("kept", kept(range(5)))
    lake.append("kept", kept(range(5, 9)))
    with pytest.raises(Exception, match="seven cannot be mapped"):
        spark.map_files(spark_workspace, "kept", 1, ["num_bytes"], _fail_on_seven, "kept", {})
    assert lake.latest("kept") == 1
    assert ids(lake.read("kept")) == list(range(9))


def test_a_table_goes_through_spark_unchanged_and_keeps_its_version(
    spark_workspace: Workspace,
) -> None:
    lake = spark_workspace.lake
    first = lake.overwrite("tokens", pa.concat_tables([tokens(300, "train"), tokens(9, "dev")]))
    frame = spark.read(spark_workspace, "tokens", 0)
    made = spark.write(spark_workspace, "tokens", frame, {"tokens": 0})
    assert (made.content, made.version, made.changed) == (first.content, 0, False)


def test_the_reader_opens_only_the_columns_and_partitions_asked_for(
    spark_workspace: Workspace,
) -> None:
    lake = spark_workspace.lake
    lake.overwrite("tokens", pa.concat_tables([tokens(30, "train"), tokens(9, "dev")]))
    for file in lake.files("tokens", where={"split": "train"}):
        with open(file, "r+b") as part:  # noqa: PTH123, damage it: nobody may open it
            part.truncate(3)
    frame = spark.read(spark_workspace, "tokens", 0, ["row_id"], {"split": "dev"})
    assert frame.columns == ["row_id"]
    assert frame.count() == 9


def test_two_queries_on_one_frame_do_not_disturb_each_other(spark_workspace: Workspace) -> None:
    lake = spark_workspace.lake
    lake.overwrite("tokens", pa.concat_tables([tokens(30, "train"), tokens(9, "dev")]))
    frame = spark.read(spark_workspace, "tokens", 0, ["row_id", "split"])
    assert [frame.filter("split = 'dev'").count(), frame.count()] == [9, 39]


def test_an_old_version_is_read_as_it_was(spark_workspace: Workspace) -> None:
    lake = spark_workspace.lake
    lake.overwrite("kept", kept(range(4)))
    lake.overwrite("kept", kept(range(6)))
    assert [spark.read(spark_workspace, "kept", v).count() for v in (0, 1)] == [4, 6]


def test_the_writer_refuses_an_empty_overwrite_and_keeps_the_table(
    spark_workspace: Workspace,
) -> None:
    lake = spark_workspace.lake
    lake.overwrite("kept", kept(range(4)))
    frame = spark.read(spark_workspace, "kept", 0).filter("num_bytes > 100")
    with pytest.raises(Exception, match="must be written with at least one row"):
        spark.write(spark_workspace, "kept", frame, {})
    assert (lake.latest("kept"), _files(spark_workspace)) == (0, 1)


def test_a_job_that_fails_while_writing_removes_its_parts(spark_workspace: Workspace) -> None:
    lake = spark_workspace.lake
    lake.overwrite("kept", kept(range(4)))
    frame = spark.read(spark_workspace, "kept", 0).withColumn(
        "num_bytes", F.expr("if(num_bytes = 3, raise_error('three is too much'), num_bytes)")
    )
    with pytest.raises(Exception, match="three is too much"):
        spark.write(spark_workspace, "kept", frame, {})
    assert (lake.latest("kept"), _files(spark_workspace)) == (0, 1)


def test_another_thread_can_write(spark_workspace: Workspace) -> None:
    lake = spark_workspace.lake
    lake.overwrite("kept", kept(range(4)))
    made = []

    def write() -> None:
        spark.session(spark_workspace)
        frame = spark.read(spark_workspace, "kept", 0).filter("num_bytes < 2")
        made.append(spark.write(spark_workspace, "kept", frame, {}))

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert made[0].rows == 2


def test_rows_have_the_declared_types_in_spark(spark_workspace: Workspace) -> None:
    spark_workspace.lake.overwrite("kept", kept(range(2)))
    types = dict(spark.read(spark_workspace, "kept", 0).dtypes)
    assert types == {
        "doc_id": "string",
        "source": "string",
        "licence": "string",
        "num_bytes": "bigint",
        "num_tokens": "bigint",
        "keep": "boolean",
        "reason": "string",
    }
    assert list(types) == KEPT.names


def test_shuffles_have_a_partition_a_part_of_the_largest_table(spark_workspace: Workspace) -> None:
    lake, conf = spark_workspace.lake, spark.session(spark_workspace).conf
    setting = "spark.sql.shuffle.partitions"
    before = conf.get(setting)
    try:
        conf.set(setting, "4")
        for k in range(6):
            lake.append("kept", kept([k]))
        assert spark.read(spark_workspace, "kept", 3).count() == 4
        assert conf.get(setting) == "4"
        assert spark.read(spark_workspace, "kept", 5).groupBy("doc_id").count().count() == 6
        assert conf.get(setting) == "6"
        spark.read(spark_workspace, "kept", 0)
        assert conf.get(setting) == "6"
    finally:
        conf.set(setting, before)


def test_a_table_that_holds_nothing_is_read_as_nothing(spark_workspace: Workspace) -> None:
    made = spark_workspace.lake.commit("cuts", [], "overwrite")
    assert (made.rows, made.changed) == (0, True)
    frame = spark.read(spark_workspace, "cuts", made.version, ("doc_id", "start"))
    assert (frame.count(), frame.columns) == (0, ["doc_id", "start"])
    read = spark_workspace.lake.read("cuts", made.version, APPLIED)
    assert len(Cuts.of(read)) == 0

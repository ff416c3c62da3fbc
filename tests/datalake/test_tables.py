"""Delta tables: digests, commits, versions, concurrent writers, failures half way."""

import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake.config import Refusal
from datalake.schemas import TABLES, Column, Schema
from datalake.tables import Lake, content_digest

KEPT = TABLES["kept"].arrow


def kept(ids: Iterator[int] | range | list[int], reason: str | None = None) -> pa.Table:
    ids = list(ids)
    return pa.table(
        {
            "doc_id": [f"{i:032x}" for i in ids],
            "source": ["web"] * len(ids),
            "licence": ["MIT"] * len(ids),
            "num_bytes": ids,
            "num_tokens": ids,
            "keep": [reason is None] * len(ids),
            "reason": [reason] * len(ids),
        },
        KEPT,
    )


def tokens(rows: int, split: str) -> pa.Table:
    return pa.table(
        {
            "row_id": range(rows),
            "split": [split] * rows,
            "tokens": [bytes([i % 256, 1]) for i in range(rows)],
            "vocab_size": [512] * rows,
            "num_tokens": [1] * rows,
            "doc_ids": [["a", f"b{i}"] for i in range(rows)],
            "doc_starts": [[0, i] for i in range(rows)],
            "doc_offsets": [[0, i] for i in range(rows)],
        },
        TABLES["tokens"].arrow,
    )


def ids(table: pa.Table) -> list[int]:
    return sorted(int(i, 16) for i in table["doc_id"].to_pylist())


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def num_files(lake: Lake, name: str) -> int:
    return len(list(Path(lake.uri(name)).rglob("*.parquet")))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.randoms())
def test_the_digest_ignores_the_order_and_grouping_of_rows(
    numbers: list[int], chance: random.Random
) -> None:
    whole = content_digest(kept(numbers).combine_chunks().to_batches()[0])
    shuffled = numbers[:]
    chance.shuffle(shuffled)
    cut = chance.randint(0, len(shuffled))
    halves = [kept(shuffled[:cut]), kept(shuffled[cut:])]
    first, second = (content_digest(b) for h in halves for b in (h.to_batches() or [_empty()])[:1])
    assert first + second == whole


def _empty() -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], KEPT)


@pytest.mark.parametrize(
    ("column", "value"),
    [("licence", None), ("licence", ""), ("num_bytes", 8), ("keep", False), ("reason", "")],
)
def test_the_digest_sees_every_value_and_tells_null_from_empty(column: str, value: object) -> None:
    row = kept([7]).to_pylist()[0]
    same = pa.RecordBatch.from_pylist([row], KEPT)
    other = pa.RecordBatch.from_pylist([row | {column: value}], KEPT)
    assert content_digest(same) != content_digest(other)


def test_the_digest_sees_the_order_inside_a_list_and_where_lists_end() -> None:
    def digest(*lists: list[str]) -> object:
        return content_digest(pa.RecordBatch.from_pydict({"x": list(lists)}))

    assert digest(["a", "b"]) != digest(["b", "a"])
    assert digest(["a"], ["b", "c"]) != digest(["a", "b"], ["c"])
    sliced = pa.RecordBatch.from_pydict({"x": [["z"], ["a"], ["b", "c"]]})[1:]
    assert content_digest(sliced) == digest(["a"], ["b", "c"])


def test_a_swap_of_two_values_between_columns_or_rows_changes_the_digest() -> None:
    def digest(a: list[int], b: list[int]) -> object:
        return content_digest(pa.RecordBatch.from_pydict({"a": a, "b": b}))

    assert digest([1, 2], [3, 4]) != digest([3, 2], [1, 4])
    assert digest([1, 2], [3, 4]) != digest([1, 2], [4, 3])


def test_equal_content_keeps_the_version_and_leaves_no_file_behind(lake: Lake) -> None:
    first = lake.overwrite("kept", kept(range(50)))
    files = num_files(lake, "kept")
    again = lake.overwrite("kept", kept(reversed(range(50))))
    assert (again.version, again.content, again.changed) == (first.version, first.content, False)
    assert num_files(lake, "kept") == files


def test_every_version_stays_readable_with_its_own_content(lake: Lake) -> None:
    lake.overwrite("kept", kept(range(5)))
    lake.append("kept", kept(range(5, 8)))
    lake.overwrite("kept", kept([1, 2]))
    assert [ids(lake.read("kept", v)) for v in (0, 1, 2)] == [
        list(range(5)),
        list(range(8)),
        [1, 2],
    ]
    assert lake.content("kept", 2) == lake.content("kept")
    assert lake.read("kept", 0, ["num_bytes"]).column_names == ["num_bytes"]


def test_replacing_a_partition_leaves_the_others_alone(lake: Lake) -> None:
    both = pa.concat_tables([tokens(10, "train"), tokens(4, "validation")])
    lake.overwrite("tokens", both)
    made = lake.overwrite("tokens", tokens(6, "validation"), partition={"split": "validation"})
    assert made.rows == 16
    assert len(lake.read("tokens", where={"split": "train"})) == 10
    assert lake.read("tokens", where={"split": "validation"})["split"].unique().to_pylist() == [
        "validation"
    ]


def test_rows_outside_the_replaced_partition_are_refused(lake: Lake) -> None:
    lake.overwrite("tokens", tokens(3, "train"))
    with pytest.raises(Refusal, match="rows for tokens must lie in partition"):
        lake.overwrite("tokens", tokens(3, "train"), partition={"split": "validation"})
    assert num_files(lake, "tokens") == 1


def test_a_partition_value_may_hold_any_character(lake: Lake) -> None:
    lake.overwrite("tokens", tokens(2, "a b/c=ä%"))
    assert lake.read("tokens")["split"].to_pylist() == ["a b/c=ä%"] * 2
    assert len(lake.files("tokens", where={"split": "a b/c=ä%"})) == 1
    assert all(Path(file).exists() for file in lake.files("tokens"))


def test_merge_updates_known_keys_and_inserts_the_others(lake: Lake) -> None:
    lake.overwrite("kept", kept(range(4)))
    made = lake.merge("kept", kept([3, 4], reason="too short"))
    table = lake.read("kept").to_pylist()
    assert sorted(int(r["doc_id"], 16) for r in table) == [0, 1, 2, 3, 4]
    assert sum(r["reason"] == "too short" for r in table) == 2
    assert made.content == lake.overwrite("kept", lake.read("kept")).content


def test_merge_refuses_a_key_that_comes_twice(lake: Lake) -> None:
    with pytest.raises(Refusal, match="doc_id merged into kept must be unique"):
        lake.merge("kept", kept([1, 1]))


def test_delete_and_vacuum_remove_the_bytes(lake: Lake) -> None:
    lake.overwrite("kept", kept(range(100)))
    lake.delete("kept", "num_bytes = 7")
    lake.vacuum("kept", retention_hours=0)
    assert 7 not in ids(lake.read("kept"))
    assert all(f"{7:032x}".encode() not in Path(f).read_bytes() for f in lake.files("kept"))


def test_compaction_changes_files_but_not_content(lake: Lake) -> None:
    for i in range(5):
        lake.append("kept", kept([i]))
    before = lake.content("kept")
    made = lake.compact("kept")
    assert (made.content, len(lake.files("kept"))) == (before, 1)
    assert lake.compact("kept").changed is False


def test_a_writer_that_fails_leaves_the_old_version_and_no_part(lake: Lake) -> None:
    lake.overwrite("kept", kept(range(3)))

    def rows() -> Iterator[pa.RecordBatch]:
        yield kept(range(9)).to_batches()[0]
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="the disk went away"):
        lake.overwrite("kept", rows())
    assert (lake.latest("kept"), len(lake.read("kept")), num_files(lake, "kept")) == (0, 3, 1)


def test_vacuum_finds_parts_that_were_never_committed(lake: Lake) -> None:
    lake.overwrite("kept", kept(range(3)))
    orphans = lake.write_parts("kept", kept(range(100, 103)))
    assert num_files(lake, "kept") == 2
    assert lake.vacuum("kept", retention_hours=0) == [orphans[0].path]
    assert ids(lake.read("kept")) == [0, 1, 2]


def test_vacuum_spares_the_versions_that_models_were_trained_on(lake: Lake) -> None:
    for n in (2, 3, 4):
        lake.overwrite("kept", kept(range(n)))
    lake.vacuum("kept", keep_versions=[0], retention_hours=0)
    assert len(lake.read("kept", 0)) == 2
    with pytest.raises(FileNotFoundError):
        lake.read("kept", 1)


def test_statistics_hold_keys_and_numbers_but_no_text(lake: Lake) -> None:
    lake.overwrite("kept", kept([3, 9], reason="confidential"))
    log = next(Path(lake.uri("kept"), "_delta_log").glob("*.json")).read_text()
    assert '\\"num_bytes\\": 9' in log
    assert "confidential" not in log


def test_the_inputs_of_a_version_stand_in_its_history(lake: Lake) -> None:
    lake.overwrite("kept", kept([1]), inputs={"signals": 4})
    assert '"signals": 4' in lake.history("kept")[0]["inputs"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lake: lake.read("kep"), "table must be one of .*kept.*, got kep"),
        (lambda lake: lake.read("kept", 7), "table kept has no version 7; latest is 0"),
        (lambda lake: lake.read("kept", 0, ["size"]), "table kept has no column size"),
        (lambda lake: lake.overwrite("kept", kept([])), "must be written with at least one row"),
        (
            lambda lake: lake.overwrite("kept", kept([1]).drop(["keep"])),
            r"rows for kept must have its columns, got \['keep'\] differing",
        ),
    ],
)
def test_wrong_calls_are_refused_and_change_nothing(lake: Lake, call: object, message: str) -> None:
    lake.overwrite("kept", kept([1]))
    with pytest.raises(Refusal, match=message):
        call(lake)  # type: ignore[operator]
    assert (lake.latest("kept"), num_files(lake, "kept")) == (0, 1)


def test_a_null_where_none_may_be_is_refused(lake: Lake) -> None:
    nullable = pa.schema([f.with_nullable(True) for f in KEPT])
    row = kept([1]).to_pylist()[0] | {"source": None}
    with pytest.raises(Refusal, match=r"kept\.source must not be null"):
        lake.overwrite("kept", pa.Table.from_pylist([row], nullable))


def _append(root: str, first: int, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    for i in range(first, first + 10):
        Lake(root).append("kept", kept([i]))


def _overwrite(root: str, first: int, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    for _ in range(5):
        Lake(root).overwrite("kept", kept(range(first, first + 10)))


def _merge(root: str, first: int, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    for i in range(first, first + 5):
        Lake(root).merge("kept", kept([0, i]))


def _race(target: object, lake: Lake, firsts: tuple[int, int]) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    args = [(lake.root, first, barrier) for first in firsts]
    writers = [spawn.Process(target=target, args=a) for a in args]  # type: ignore[arg-type]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]


def test_appends_of_two_processes_all_land_once(lake: Lake) -> None:
    lake.overwrite("kept", kept([0]))
    _race(_append, lake, (1, 11))
    assert ids(lake.read("kept")) == list(range(21))


def test_overwrites_of_two_processes_leave_the_rows_of_one(lake: Lake) -> None:
    lake.overwrite("kept", kept([0]))
    _race(_overwrite, lake, (100, 200))
    assert ids(lake.read("kept")) in (list(range(100, 110)), list(range(200, 210)))


def test_merges_of_two_processes_lose_and_double_no_row(lake: Lake) -> None:
    lake.overwrite("kept", kept([0]))
    _race(_merge, lake, (1, 6))
    assert ids(lake.read("kept")) == list(range(11))


def test_rows_older_than_a_column_have_its_earlier_value(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    doc_id, day = Column("doc_id", pa.string(), "id"), Column("day", pa.string(), "day")
    old = Schema("grown", (doc_id, day), key="doc_id", partition_by=("day",))
    more = (
        Column("note", pa.string(), "said", nullable=True),
        Column("gone", pa.bool_(), "is it", before=False),
    )
    new = replace(old, columns=(doc_id, day, *more))
    monkeypatch.setitem(TABLES, "grown", old)
    lake.overwrite("grown", pa.table({"doc_id": ["a"], "day": ["1"]}, schema=old.arrow))
    monkeypatch.setitem(TABLES, "grown", new)
    row = {"doc_id": "b", "day": "2", "note": "x", "gone": True}
    lake.overwrite("grown", pa.Table.from_pylist([row], new.arrow), partition={"day": "2"})
    assert lake.read("grown").sort_by("doc_id").to_pylist() == [
        {"doc_id": "a", "day": "1", "note": None, "gone": False},
        row,
    ]
    assert lake.read("grown", columns=["doc_id"], where={"gone": False}).to_pylist() == [
        {"doc_id": "a"}
    ]
    assert lake.read("grown", columns=["gone"], where={"gone": True, "doc_id": "b"}).num_rows == 1
    monkeypatch.setitem(
        TABLES, "grown", replace(new, columns=(*new.columns, Column("must", pa.int64(), "be")))
    )
    with pytest.raises(Refusal, match="table grown must have column must; move the table away"):
        lake.read("grown")

"""Rows of tables: every format gives the same records, each of which can be read again."""

import csv
import gzip
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from datalake.config import Refusal
from datalake.licences import Finding
from datalake.sources.files.table_files import Columns, TablesConfig
from datalake.sources.report import Report
from datalake.sources.source import Record
from tests.datalake.sources.refreshes import refresh_of

ROWS: list[dict[str, Any]] = [
    {
        "content": f"Text number {n}: é\nsecond line",
        "name": f"Title {n}",
        "link": f"HTTP://Example.org:80/{n}#part",
        "lang": "en",
        "terms": "MIT",
        "stars": str(n),
    }
    for n in range(7)
]
MAPPED = Columns(
    text="content",
    title="name",
    uri="link",
    language="lang",
    licence="terms",
    metadata=("stars", "lang"),
)
Writer = Callable[[Path, list[dict[str, Any]]], Path]


def parquet(folder: Path, rows: list[dict[str, Any]], name: str = "a.parquet") -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / name, row_group_size=3)
    return folder / name


def lines(folder: Path, rows: list[dict[str, Any]], name: str = "a.jsonl") -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if name.endswith(".gz"):
        data = gzip.compress(data)
    elif name.endswith(".zst"):
        data = pa.compress(data, "zstd", asbytes=True)
    (folder / name).write_bytes(data)
    return folder / name


def separated(folder: Path, rows: list[dict[str, Any]], name: str = "a.csv") -> Path:
    held = io.StringIO()
    delimiter = "\t" if name.startswith("a.tsv") else ","
    writer = csv.DictWriter(held, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    data = held.getvalue().encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder / name


def arrow(folder: Path, rows: list[dict[str, Any]]) -> Path:
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_file(folder / "a.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return folder / "a.arrow"


def delta(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "delta"
    write_deltalake(str(path), pa.Table.from_pylist(rows[:4]), partition_by=["lang"])
    write_deltalake(str(path), pa.Table.from_pylist(rows[4:]), mode="append")
    return path


def saved(folder: Path, rows: list[dict[str, Any]]) -> Path:
    from datasets import Dataset

    Dataset.from_list(rows).save_to_disk(folder / "saved", num_shards=2)
    return folder / "saved"


FORMATS: dict[str, Writer] = {
    "parquet": parquet,
    "arrow": arrow,
    "delta": delta,
    "saved": saved,
    **{
        name: lambda folder, rows, name=name: lines(folder, rows, name)  # type: ignore[misc]
        for name in ("a.jsonl", "a.jsonl.gz", "a.json.zst")
    },
    **{
        name: lambda folder, rows, name=name: separated(folder, rows, name)  # type: ignore[misc]
        for name in ("a.csv", "a.csv.gz", "a.tsv")
    },
}


def read(config: TablesConfig, home: Path, report: Report) -> list[Record]:
    now = refresh_of(home, report)
    pieces = pickle.loads(pickle.dumps(config.pieces(now)))
    assert len({piece.name for piece in pieces}) == len(pieces)
    found = [event for piece in pieces for event in config.read(piece, now)]
    assert all(isinstance(event, Record) for event in found)
    return [event for event in found if isinstance(event, Record)]


def of(path: Path, columns: Columns = MAPPED, **changes: Any) -> TablesConfig:
    return TablesConfig(files=(str(path),), columns=columns, **changes)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_records(tmp_path: Path, report: Report, name: str) -> None:
    path = FORMATS[name](tmp_path, ROWS)
    records = sorted(read(of(path), tmp_path, report), key=lambda record: record.uri)
    assert [(r.uri, r.position) for r in records] == [
        (f"http://example.org/{n}", "") for n in range(len(ROWS))
    ]
    assert [r.payload for r in records] == [row["content"].encode() for row in ROWS]
    assert {r.licence for r in records} == {Finding("MIT", "column terms", 1.0)}
    own = dict(records[3].own)
    own.pop("row_number")
    assert own == {
        "title": "Title 3",
        "language": "en",
        "metadata": '{"lang": "en", "stars": "3"}',
    }
    assert report.rows == 7 and not report.skipped and not report.failed


@pytest.mark.parametrize("name", FORMATS)
def test_every_record_can_be_read_again_at_its_place(
    tmp_path: Path, report: Report, name: str
) -> None:
    records = read(of(FORMATS[name](tmp_path, ROWS)), tmp_path, report)
    assert [TablesConfig.read_again(r.place) for r in records] == [r.payload for r in records]


def test_a_line_of_json_has_its_extent_in_the_file(tmp_path: Path, report: Report) -> None:
    path = lines(tmp_path, ROWS)
    place = read(of(path), tmp_path, report)[2].place
    line = path.read_bytes()[place.offset : place.offset + place.length]
    assert json.loads(line) == ROWS[2]


def test_row_groups_are_pieces_and_rows_keep_their_numbers(tmp_path: Path, report: Report) -> None:
    config = of(parquet(tmp_path, ROWS), Columns(text="content"), max_piece_bytes=1)
    pieces = config.pieces(refresh_of(tmp_path, report))
    assert [piece.name for piece in pieces] == [f"a.parquet row groups from {n}" for n in range(3)]
    records = read(config, tmp_path, report)
    assert [r.position for r in records] == [f"row {n}" for n in range(7)]
    assert [r.own["row_number"] for r in records] == list(range(7))


def test_without_an_address_a_row_is_known_by_id_or_by_number(
    tmp_path: Path, report: Report
) -> None:
    path = lines(tmp_path, ROWS[:1])
    bare, named = Columns(text="content"), Columns(text="content", id="name")
    base = "https://example.org/set/"
    identities = [
        (record.uri, record.position)
        for config in (of(path, bare), of(path, named), of(path, bare, base=base))
        + (of(path, named, base=base),)
        for record in read(config, tmp_path, report)
    ]
    assert identities == [
        (path.as_uri(), "row 0"),
        (path.as_uri(), "id Title 0"),
        ("https://example.org/set/a.jsonl", "row 0"),
        ("https://example.org/set", "id Title 0"),
    ]


def test_rows_without_a_text_or_an_address_are_counted(tmp_path: Path, report: Report) -> None:
    rows = [
        {"content": "kept", "link": None},
        {"content": None, "link": "a"},
        {"content": " \n", "link": "b"},
        {"content": "x" * 50, "link": "c"},
        {"content": "urn kept", "link": "urn:x:1"},
    ]
    columns = Columns(text="content", uri="link")
    records = read(of(parquet(tmp_path, rows), columns, max_text_bytes=20), tmp_path, report)
    assert [(r.payload, r.position) for r in records] == [(b"kept", "row 0"), (b"urn kept", "")]
    assert report.skipped == {
        "neither address nor id: kept under the number of its row": 1,
        "null text": 1,
        "empty text": 1,
        "larger than max_text_bytes": 1,
    }


def test_a_damaged_line_costs_that_line(tmp_path: Path, report: Report) -> None:
    good = json.dumps({"content": "good"}).encode()
    bad = [
        b"{broken",
        b"",
        b"[1]",
        b'{"content": 3}',
        b'{"content": "\\ud800"}',
        b"\xff",
        b"[" * 9999,
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([good, *bad, good]))
    records = read(of(path, Columns(text="content")), tmp_path, report)
    assert [r.own["row_number"] for r in records] == [0, 8]
    assert report.failed == {"text that is no string": 1}
    assert [line.split(": ")[0].removeprefix(f"{path} ") for line in report.damages] == [
        "line 2 is not JSON",
        "line 4 is no object of JSON",
        "row 5 is not UTF-8",
        "line 7 is not JSON",
        "line 8 is not JSON",
    ]


def test_a_long_line_costs_that_line_and_little_memory(tmp_path: Path, report: Report) -> None:
    path = tmp_path / "a.jsonl.gz"
    long = json.dumps({"content": "x" * 3_000_000}).encode()
    good = b'{"content": "good"}\n'
    path.write_bytes(gzip.compress(good + long + b"\n" + good))
    config = of(path, Columns(text="content"), max_text_bytes=1000)
    assert [r.own["row_number"] for r in read(config, tmp_path, report)] == [0, 2]
    assert report.failed == {"line longer than a text may be": 1}


def test_rows_of_csv_may_hold_lines_quotes_and_damage(tmp_path: Path, report: Report) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'\xef\xbb\xbfcontent,n\r\n"a ""b""\r\nc",1\r\none,two,three\r\n\xff,2\r\nlast,3\r\n'
    )
    records = read(of(path, Columns(text="content")), tmp_path, report)
    assert [(r.payload, r.position) for r in records] == [
        (b'a "b"\r\nc', "row 0"),
        (b"last", "row 3"),
    ]
    assert [line.removeprefix(f"{path} ") for line in report.damages] == [
        "row 1 has 3 fields instead of 2",
        "row 2 is not UTF-8",
    ]


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("https://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        (["MIT", "BSD"], "MIT AND BSD-3-Clause"),
        ("all rights reserved", None),
        (["MIT", "mine"], None),
    ],
)
def test_licences_of_the_column_are_spdx_or_none(
    tmp_path: Path, report: Report, said: Any, licence: str | None
) -> None:
    path = lines(tmp_path, [{"content": "x", "terms": said}, {"content": "y", "terms": None}])
    config = of(path, Columns(text="content", licence="terms"), licence="CC0-1.0")
    first, second = read(config, tmp_path, report)
    assert first.licence == (licence and Finding(licence, "column terms", 1.0))
    assert second.licence == Finding("CC0-1.0", "recipe", 1.0)
    unknown = "licence in the column that is not known: kept without"
    assert report.skipped == ({} if licence else {unknown: 1})


def test_a_damaged_file_is_an_oserror_and_leaves_the_others(tmp_path: Path, report: Report) -> None:
    whole = parquet(tmp_path, ROWS)
    (tmp_path / "b.parquet").write_bytes(whole.read_bytes()[:-50])
    packed = lines(tmp_path, ROWS, "c.jsonl.gz")
    packed.write_bytes(packed.read_bytes()[:-20])
    arrow(tmp_path, ROWS).write_bytes(b"no arrow at all")
    config = of(tmp_path)
    now = refresh_of(tmp_path, report)
    outcomes = {}
    for piece in config.pieces(now):
        try:
            outcomes[piece.name.split(" ")[0]] = len(list(config.read(piece, now)))
        except OSError as error:
            outcomes[piece.name] = type(error)
    assert outcomes == {
        "a.arrow": OSError,
        "a.parquet": 7,
        "b.parquet": OSError,
        "c.jsonl.gz": OSError,
    }


def test_a_delta_table_is_read_at_the_version_that_is_asked_for(
    tmp_path: Path, report: Report
) -> None:
    path = delta(tmp_path, ROWS)
    assert len(read(of(path, version=0), tmp_path, report)) == 4
    DeltaTable(str(path)).delete("name = 'Title 0'")
    assert len(read(of(path), tmp_path, report)) == 6
    with pytest.raises(Refusal, match=r"delta must be a Delta table with the version"):
        of(path, version=99).pieces(refresh_of(tmp_path, report))


def test_files_alone_do_not_say_what_a_table_with_deletion_vectors_holds(
    tmp_path: Path, report: Report
) -> None:
    path = delta(tmp_path, ROWS)
    log = path / "_delta_log" / "00000000000000000002.json"
    features = ["deletionVectors"]
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": features,
        "writerFeatures": features,
    }
    log.write_text(json.dumps({"protocol": protocol}))
    with pytest.raises(Refusal, match="without deletion vectors and mapped columns, got deletionV"):
        of(path).pieces(refresh_of(tmp_path, report))


def test_splits_of_a_saved_data_set_are_chosen(tmp_path: Path, report: Report) -> None:
    from datasets import Dataset, DatasetDict

    splits = {"train": Dataset.from_list(ROWS[:4]), "test": Dataset.from_list(ROWS[4:])}
    path = tmp_path / "saved"
    DatasetDict(splits).save_to_disk(path)
    assert len(read(of(path), tmp_path, report)) == 7
    assert len(read(of(path, split="test"), tmp_path, report)) == 3
    with pytest.raises(Refusal, match="split must be one of train, test, got dev"):
        of(path, split="dev").pieces(refresh_of(tmp_path, report))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            Columns(text="body"),
            r"columns.text must be a column of .*a.parquet, got body; there are ",
        ),
        (Columns(text="content", uri="url"), "columns.uri must be a column of .*, got url; there "),
        (Columns(text="content", metadata=("x",)), r"columns.metadata\[0\] must be a column of "),
        (
            Columns(text="n"),
            "columns.text must be a column of strings, got n of int64 in .*parquet",
        ),
    ],
)
def test_wrong_columns_are_refused(
    tmp_path: Path, report: Report, columns: Columns, message: str
) -> None:
    path = parquet(tmp_path, [row | {"n": 1} for row in ROWS])
    with pytest.raises(Refusal, match=message):
        of(path, columns).pieces(refresh_of(tmp_path, report))
    table = lines(tmp_path, [row | {"n": 1} for row in ROWS])
    with pytest.raises(Refusal, match=message.replace("parquet", "jsonl")):
        of(table, columns).pieces(refresh_of(tmp_path, report))


def test_wrong_settings_are_refused(tmp_path: Path, report: Report) -> None:
    now = refresh_of(tmp_path, report)
    path = lines(tmp_path, ROWS)
    both = TablesConfig(files=(str(path),), hub="x/y", columns=MAPPED)
    for config in (both, TablesConfig(columns=MAPPED)):
        with pytest.raises(Refusal, match="files or hub must be given, and not both, got"):
            config.pieces(now)
    with pytest.raises(Refusal, match=r"version must be left out where .* is no Delta table"):
        of(path, version=1).pieces(now)
    with pytest.raises(Refusal, match=r"split must be left out where .* is no saved data set"):
        of(path, split="train").pieces(now)
    with pytest.raises(Refusal, match="split must be given for a data set on the hub, got none"):
        TablesConfig(hub="x/y", columns=MAPPED).pieces(now)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(Refusal, match="files must hold a table, got"):
        of(tmp_path / "notes.txt").pieces(now)
    with pytest.raises(Refusal, match=r"files\[0\] must name what exists, got"):
        of(tmp_path / "none.csv").pieces(now)


def test_reading_again_what_is_gone_is_an_oserror(tmp_path: Path, report: Report) -> None:
    path = lines(tmp_path, ROWS)
    record = read(of(path), tmp_path, report)[-1]
    lines(tmp_path, ROWS[:1])
    with pytest.raises(FileNotFoundError, match="has no line of JSON at byte"):
        TablesConfig.read_again(record.place)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        TablesConfig.read_again(record.place)

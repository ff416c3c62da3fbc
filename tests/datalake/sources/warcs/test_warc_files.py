"""Folders of archives as a source: pieces newest first, records with what HTTP said."""

import gzip
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from datalake.config import Refusal
from datalake.sources.report import Report
from datalake.sources.source import Place, Record, Refresh
from datalake.sources.warcs.warc_files import WarcFilesConfig
from datalake.sources.warcs.writer import WarcWriter
from tests.datalake.sources.refreshes import refresh_of
from tests.datalake.sources.warcs.test_reader import response, write


@pytest.fixture
def refresh(tmp_path: Path, report: Report) -> Refresh:
    return refresh_of(tmp_path, report)


def test_a_record_says_what_the_exchange_said(tmp_path: Path, refresh: Refresh) -> None:
    headers = (("Content-Type", "text/html"), ("ETag", '"7"'), ("Last-Modified", "some day"))
    with WarcWriter(tmp_path, "test") as archive:
        written = archive.write(response(1, headers=headers))
    config = WarcFilesConfig(files=f"{tmp_path}/*.warc.gz", licence="CC-BY-4.0")
    (piece,) = config.pieces(refresh)
    assert (piece.name, piece.uri) == ("test.warc.gz", str(archive.path))
    assert piece.num_bytes == archive.path.stat().st_size
    (record,) = config.read(piece, refresh)
    assert isinstance(record, Record)
    assert record.uri == written.url and record.payload == written.payload
    assert record.fetched_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert record.payload_digest == written.payload_digest
    assert record.licence and (record.licence.licence, record.licence.evidence) == (
        "CC-BY-4.0",
        "recipe",
    )
    assert dict(record.own) == {
        "http_status": 200,
        "truncated": None,
        "etag": '"7"',
        "last_modified": "some day",
        "languages": None,
    }
    assert WarcFilesConfig.read_again(record.place) == record.payload


def test_a_page_that_was_cut_is_read_again_as_it_was_kept(tmp_path: Path, refresh: Refresh) -> None:
    write(tmp_path, 5)
    config = WarcFilesConfig(files=f"{tmp_path}/*.warc.gz", max_bytes=40)
    records = [r for p in config.pieces(refresh) for r in config.read(p, refresh)]
    assert [r.place.member for r in records] == ["", "", "", "[:40]", "[:40]"]  # type: ignore[union-attr]
    for record in records:
        assert isinstance(record, Record)
        assert config.read_again(record.place) == record.payload


def test_a_place_that_is_gone_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.warc\.gz"):
        WarcFilesConfig.read_again(Place(archive=f"{tmp_path}/none.warc.gz", length=3))


def test_the_newest_archive_comes_first(tmp_path: Path, refresh: Refresh) -> None:
    for name, year in (("b", 2024), ("a", 2026), ("c", 2025)):
        path = write(tmp_path, 1, name)
        os.utime(path, (0, 0))
        text = gzip.decompress(path.read_bytes())
        date = text.split(b"WARC-Date: ")[1][:4]
        path.write_bytes(
            gzip.compress(text.replace(b"WARC-Date: " + date, b"WARC-Date: %d" % year))
        )
    found = WarcFilesConfig(files=f"{tmp_path}/*.warc.gz").pieces(refresh)
    assert [piece.name for piece in found] == ["a.warc.gz", "c.warc.gz", "b.warc.gz"]


def test_files_are_found_below_folders(tmp_path: Path, refresh: Refresh) -> None:
    (tmp_path / "x/y").mkdir(parents=True)
    path = write(tmp_path / "x/y", 1)
    (piece,) = WarcFilesConfig(files=f"{tmp_path}/**/*.warc.gz").pieces(refresh)
    assert piece.uri == str(path)


def test_a_missing_folder_and_a_pattern_without_a_match_are_refused(
    tmp_path: Path, refresh: Refresh
) -> None:
    with pytest.raises(Refusal, match=r"files must lie in a folder that exists, got .*/none/\*"):
        WarcFilesConfig(files=f"{tmp_path}/none/*.warc").pieces(refresh)
    with pytest.raises(Refusal, match=r"files must match at least one WARC file, got .*/\*.warc"):
        WarcFilesConfig(files=f"{tmp_path}/*.warc").pieces(refresh)


def test_what_is_watched_changes_with_the_files(tmp_path: Path) -> None:
    config = WarcFilesConfig(files=f"{tmp_path}/*.warc.gz")
    nothing = config.watched()
    path = write(tmp_path, 1)
    one = config.watched()
    assert one != nothing and config.watched() == one
    path.write_bytes(path.read_bytes() * 2)
    assert config.watched() != one
    assert WarcFilesConfig(files=f"{tmp_path}/none/*.gz").watched().startswith("0 files")

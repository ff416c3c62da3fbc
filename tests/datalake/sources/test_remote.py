"""Bytes by address: what a broken connection brings in pieces is the file, or an error."""

import gzip
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator

from datalake.config import Refusal
from datalake.sources.remote import (
    Patience,
    RemoteError,
    Version,
    join,
    open_at,
    read_lines,
    read_range,
)
from datalake.sources.warcs.writer import WarcWriter
from tests.datalake.sources.range_site import RangeSite, Served, serving
from tests.datalake.sources.warcs.test_reader import response

CONTENT = random.Random(0).randbytes(300_000)
QUICK = Patience(tries=4, first_wait_seconds=0.01, timeout_seconds=5)


@pytest.fixture
def site() -> Iterator[RangeSite]:
    with serving() as site:
        yield site


def serve(site: RangeSite, content: bytes = CONTENT, **how: object) -> str:
    site.files["/file"] = Served(content, **how)  # type: ignore[arg-type]
    return f"{site.url}/file"


def test_a_download_that_breaks_again_and_again_is_the_file(site: RangeSite) -> None:
    uri = serve(site, breaks=[100_000, 1, 150_000])
    with open_at(uri, patience=QUICK) as file:
        assert file.read() == CONTENT
    assert site.ranges == [None, "bytes=100000-", "bytes=100001-", "bytes=250001-"]
    assert site.num_bytes == len(CONTENT)  # nothing was fetched twice


def test_an_archive_is_read_through_broken_connections(tmp_path: Path, site: RangeSite) -> None:
    rng = random.Random(1)
    with WarcWriter(tmp_path, "test") as archive:
        for number in range(20):
            archive.write(response(number, rng.randbytes(5000)))
    content = archive.path.read_bytes()
    uri = serve(site, content, breaks=[len(content) // 3, len(content) // 3])
    with open_at(uri, patience=QUICK) as file:
        found = [r.reader.read() for r in ArchiveIterator(file, parse_http=False)]
    with archive.path.open("rb") as file:
        assert found == [r.reader.read() for r in ArchiveIterator(file, parse_http=False)]
    assert len(site.requests) == 3


def test_a_server_that_fails_for_a_while_is_asked_again(site: RangeSite) -> None:
    uri = serve(site, refusals=[503, 429, 500])
    assert open_at(uri, patience=QUICK).read() == CONTENT


def test_after_so_many_tries_without_a_byte_it_is_an_error(site: RangeSite) -> None:
    uri = serve(site, refusals=[503] * 9)
    with pytest.raises(RemoteError, match=r"given up at byte 0 after 4 tries: status 503"):
        open_at(uri, patience=QUICK).read()
    assert len(site.requests) == 4


def test_tries_count_again_after_progress(site: RangeSite) -> None:
    content = CONTENT * 40  # 12 MB in 8 pieces, with 4 tries
    uri = serve(site, content, breaks=[1_600_000] * 7)
    assert open_at(uri, patience=QUICK).read() == content


@pytest.mark.parametrize(
    ("later", "case"),
    [
        (Served(CONTENT, tag='"2"'), "another tag"),
        (Served(CONTENT + b"more", tag='"1"'), "another length"),
        (Served(CONTENT, tag='"2"', ranges=False), "another tag, all of it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_changed_in_between_is_an_error_and_no_mixture(
    site: RangeSite, later: Served, case: str
) -> None:
    uri = serve(site, breaks=[100_000], later=[later])
    with pytest.raises(RemoteError, match=r"changed while it was read|must be the same"):
        open_at(uri, patience=QUICK).read()


def test_a_server_that_ignores_ranges_is_skipped_to_the_place(site: RangeSite) -> None:
    uri = serve(site, ranges=False, breaks=[100_000])
    assert open_at(uri, patience=QUICK).read() == CONTENT
    assert read_range(uri, 200_000, 50, QUICK) == CONTENT[200_000:200_050]


def test_a_server_that_ignores_ranges_and_says_nothing_of_its_file_is_refused_after_a_break(
    site: RangeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datalake.sources.remote._MAX_SKIPPED_BYTES", 1000)
    uri = serve(site, ranges=False)
    with pytest.raises(RemoteError, match="must answer ranges to be read at byte 2000, got all"):
        read_range(uri, 2000, 10, QUICK)


def test_a_file_of_unknown_length_is_read_to_its_end(site: RangeSite) -> None:
    uri = serve(site, length=False, tag=None)
    with open_at(uri, patience=QUICK) as file:
        assert file.version == Version(None, None, None)
        assert file.read() == CONTENT


def test_a_range_is_fetched_alone_and_over_one_connection(site: RangeSite) -> None:
    uri = serve(site)
    for start in (0, 1000, 299_990):
        assert read_range(uri, start, 10, QUICK) == CONTENT[start : start + 10]
    assert site.ranges == ["bytes=0-9", "bytes=1000-1009", "bytes=299990-299999"]
    assert site.num_bytes == 30 and len(site.connections) == 1
    assert all(headers["User-Agent"].startswith("Tarn/") for _, headers in site.requests)


@pytest.mark.parametrize("kind", ["http", "path", "file"])
def test_every_kind_of_address_gives_the_same_bytes(
    tmp_path: Path, site: RangeSite, kind: str
) -> None:
    (tmp_path / "a file").write_bytes(CONTENT)
    uri = {
        "http": serve(site),
        "path": str(tmp_path / "a file"),
        "file": (tmp_path / "a file").as_uri(),
    }[kind]
    with open_at(uri, 1234) as file:
        assert file.tell() == 1234 and file.version.num_bytes == len(CONTENT)
        assert file.read(6) == CONTENT[1234:1240]
        assert file.read() == CONTENT[1240:] and file.read(5) == b""
        assert file.tell() == len(CONTENT)
    assert read_range(uri, 5, 7) == CONTENT[5:12]
    assert open_at(uri, len(CONTENT)).read() == b""
    with pytest.raises(RemoteError, match=r"long enough for a range, got 10 of 20 bytes at byte"):
        read_range(uri, len(CONTENT) - 10, 20)


def test_what_is_not_there_is_not_tried_again(tmp_path: Path, site: RangeSite) -> None:
    serve(site, refusals=[403])
    with pytest.raises(PermissionError, match="may not be read: status 403"):
        open_at(f"{site.url}/file").read()
    for uri in (f"{site.url}/none", f"{tmp_path}/none", f"file://{tmp_path}/none"):
        with pytest.raises(FileNotFoundError):
            open_at(uri).read()
    assert len(site.requests) == 2


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(Refusal, match=r"^ftp://x/y must have a scheme that can be read, got"):
        open_at("ftp://x/y").read()


def test_names_are_joined_below_their_base_alone() -> None:
    assert join("https://example.org/", "a/b") == "https://example.org/a/b"
    assert join("/data", "a/b") == "/data/a/b"
    with pytest.raises(Refusal, match="must be a name below /data, got one that leads out of it"):
        join("/data", "a/../../etc/passwd")
    with pytest.raises(Refusal, match="must be a name below"):
        join("https://example.org", "file:///etc/passwd")


def test_lines_unfold_by_the_bytes_not_by_the_name(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(b"a\r\nb\n\nc")
    (tmp_path / "packed").write_bytes(gzip.compress(b"a\r\nb\n") + gzip.compress(b"\nc"))
    for name in ("plain.gz", "packed"):
        with open_at(str(tmp_path / name)) as file:
            assert list(read_lines(file)) == [b"a", b"b", b"", b"c"]


def test_lines_of_a_damaged_file_end_with_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(CONTENT)[:1000])
    with (
        open_at(str(tmp_path / "cut.gz")) as file,
        pytest.raises(RemoteError, match=r"cut\.gz must be a whole gzip file, got: "),
    ):
        list(read_lines(file))

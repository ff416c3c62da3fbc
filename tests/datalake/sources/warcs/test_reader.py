"""Archives: what we write others can read, and what others wrote, damaged or not, we read."""

import gzip
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType

from datalake.sources.remote import RemoteError
from datalake.sources.report import Report
from datalake.sources.warcs.reader import read_captures, read_record
from datalake.sources.warcs.writer import WarcWriter
from datalake.sources.web.fetch import Response

FOREIGN = Path(__file__).parents[4] / "../shared/data/warc"
foreign = pytest.mark.skipif(not FOREIGN.is_dir(), reason="archives of other writers are absent")

LIMIT = 1 << 20


def response(number: int, body: bytes | None = None, **changes: object) -> Response:
    values = {
        "url": f"http://example.com/{number}?q={number}",
        "status": 200,
        "phrase": "OK",
        "headers": (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Encoding", "gzip"),
            ("Content-Length", "7"),
        ),
        "body": body if body is not None else f"<p>Page {number}</p>".encode() * (number + 1),
        "truncated": None,
        "request_headers": (("Host", "example.com"), ("User-Agent", "Tarn/0.1")),
        "fetched_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    return Response(**values | changes)  # type: ignore[arg-type]


def write(folder: Path, count: int = 5, name: str = "test") -> Path:
    with WarcWriter(folder, name) as archive:
        for number in range(count):
            archive.write(response(number))
    return archive.path


def read(path: Path, report: Report, limit: int = LIMIT) -> list[bytes]:
    return [capture.payload for capture in read_captures(path, limit, report)]


def bodies(*numbers: int) -> list[bytes]:
    return [response(number).body for number in numbers]


def test_what_is_written_is_read_back_whole(tmp_path: Path, report: Report) -> None:
    with WarcWriter(tmp_path, "test") as archive:
        written = [archive.write(response(number)) for number in range(5)]
    assert list(read_captures(archive.path, LIMIT, report)) == written
    assert not report.skipped and not report.damages


def test_another_reader_finds_every_record_at_its_place(tmp_path: Path) -> None:
    with WarcWriter(tmp_path, "test") as archive:
        written = [archive.write(response(number)) for number in range(3)]
    records = list(ArchiveIterator(str(archive.path), parse_http=False))
    kinds = [str(record.record_type) for record in records]
    assert kinds == ["warcinfo", *["request", "response"] * 3]
    data = archive.path.read_bytes()
    for capture in written:
        # The member stands alone: nothing before it is needed, nothing after it is read.
        member = gzip.decompress(data[capture.offset : capture.offset + capture.length])
        assert member.startswith(b"WARC/1.1\r\n") and capture.payload in member
    for record in ArchiveIterator(str(archive.path), WarcRecordType.response, parse_http=True):
        assert record.verify_payload_digest()
        assert record.http_headers.status_code == 200
        assert record.headers["WARC-Date"] == "2026-01-02T03:04:05Z"


def test_requests_say_what_was_asked_and_point_to_their_response(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    info, request, answer = (
        (r.record_id, dict(r.headers.items()), r.reader.read())
        for r in ArchiveIterator(str(path), parse_http=False)
    )
    assert request[2] == b"GET /0?q=0 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Tarn/0.1\r\n\r\n"
    assert request[1]["WARC-Concurrent-To"] == answer[0]
    assert answer[1]["WARC-Concurrent-To"] == request[0]
    assert answer[1]["WARC-Warcinfo-ID"] == info[0]


def test_headers_of_the_transfer_do_not_belie_the_stored_body(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    (record,) = ArchiveIterator(str(path), WarcRecordType.response, parse_http=True)
    assert record.http_headers["X-Crawler-Content-Encoding"] == "gzip"
    assert record.http_headers["Content-Length"] == str(len(response(0).body))
    assert "Content-Encoding" not in record.http_headers


def test_a_header_cannot_smuggle_in_a_line(tmp_path: Path, report: Report) -> None:
    headers = (("X", "a\r\n\r\n<p>not the body"), ("Content-Type", "text/html"))
    with WarcWriter(tmp_path, "test") as archive:
        archive.write(response(0, headers=headers))
    assert read(archive.path, report) == bodies(0)


def test_a_body_without_a_declared_type_is_judged_by_its_bytes(
    tmp_path: Path, report: Report
) -> None:
    page = b"<!DOCTYPE html><html><body><p>A page.</p></body></html>"
    with WarcWriter(tmp_path, "test") as archive:
        archive.write(response(0, page, headers=()))
    assert read(archive.path, report) == [page]


def test_an_archive_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    with WarcWriter(tmp_path, "test") as archive:
        archive.write(response(0))
        assert not archive.path.exists()
    assert archive.path.exists() and len(list(tmp_path.iterdir())) == 1


def test_an_archive_is_never_written_over(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="is an archive already"):
        write(tmp_path, 2)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_what_is_no_page_is_counted_by_reason(tmp_path: Path, report: Report) -> None:
    with WarcWriter(tmp_path, "test") as archive:
        archive.write(response(0, status=404))
        archive.write(response(1, headers=(("Content-Type", "image/png"),)))
        archive.write(response(2, url="dns:example.com"))
        archive.write(response(3))
    assert read(archive.path, report) == bodies(3)
    assert report.skipped == {"status 404": 1, "type image/png": 1, "not a web address": 1}


def test_a_page_over_the_limit_is_cut_and_says_so(tmp_path: Path, report: Report) -> None:
    path = write(tmp_path)
    captures = list(read_captures(path, 40, report))
    assert [len(c.payload) for c in captures] == [13, 26, 39, 40, 40]
    assert [c.truncated for c in captures] == [None, None, None, "length", "length"]
    # A limit does not change where a record lies.
    assert [c.offset for c in captures] == [c.offset for c in read_captures(path, LIMIT, report)]


# Damage ------------------------------------------------------------------------------------------


def places(path: Path, report: Report) -> list[tuple[int, int]]:
    return [(c.offset, c.length) for c in read_captures(path, LIMIT, report)]


@pytest.mark.parametrize("where", ["magic", "middle", "end"])
def test_a_damaged_member_costs_its_record_only(tmp_path: Path, report: Report, where: str) -> None:
    path = write(tmp_path)
    before = places(path, report)
    offset, length = before[2]
    at = {"magic": offset, "middle": offset + length // 2, "end": offset + length - 12}[where]
    data = bytearray(path.read_bytes())
    data[at : at + 8] = b"\x00" * 8
    path.write_bytes(data)
    assert read(path, report) == bodies(0, 1, 3, 4)
    assert places(path, report) == [p for p in before if p != before[2]]
    assert report.damages[0].startswith(f"{path}: record at byte {offset}: ")
    assert f"next is at {offset + length}" in report.damages[0]


def test_several_damaged_members_cost_themselves_only(tmp_path: Path, report: Report) -> None:
    path = write(tmp_path, 9)
    data = bytearray(path.read_bytes())
    for offset, length in [places(path, report)[n] for n in (1, 2, 6)]:
        data[offset + length // 2] ^= 0xFF
    path.write_bytes(data)
    assert read(path, report) == bodies(0, 3, 4, 5, 7, 8)
    assert len(report.damages) == 3


def test_an_archive_cut_anywhere_keeps_the_records_before_the_cut(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    whole = path.read_bytes()
    ends = [a + b for a, b in places(path, Report("test", lambda line: None))]
    for size in range(0, len(whole), 41):
        path.write_bytes(whole[:size])
        report = Report("test", lambda line: None)
        found = read(path, report)
        assert found == bodies(0, 1, 2)[: sum(end <= size for end in ends)]
        assert len(report.damages) <= 1
        # A cut between two members cannot be seen.
        assert report.damages or _is_boundary(whole, size)


def _is_boundary(whole: bytes, size: int) -> bool:
    return size == 0 or whole[size:].startswith(b"\x1f\x8b\x08")


def test_a_cut_is_reported_in_one_line_with_file_and_offset(tmp_path: Path) -> None:
    path = write(tmp_path, 2)
    said: list[str] = []
    report = Report("raw/web", said.append)
    offset, _ = places(path, Report("test", lambda line: None))[1]
    path.write_bytes(path.read_bytes()[: offset + 60])
    assert read(path, report) == bodies(0)
    assert len(said) == 1 and "\n" not in said[0]
    assert said[0].startswith(f"raw/web: {path}: record at byte {offset}: ")
    assert said[0].endswith("nothing can be read after it")
    assert report.as_dict()["damaged"] == 1


def test_an_archive_that_is_not_compressed_is_read_around_its_damage(
    tmp_path: Path, report: Report
) -> None:
    path = tmp_path / "plain.warc"
    path.write_bytes(gzip.decompress(write(tmp_path).read_bytes()))
    before = places(path, report)
    assert read(path, report) == bodies(0, 1, 2, 3, 4)
    assert [read_record(str(path), *place) for place in before] == bodies(0, 1, 2, 3, 4)
    data = bytearray(path.read_bytes())
    data[before[2][0] : before[2][0] + 8] = b"GARBAGE!"
    path.write_bytes(data)
    assert read(path, report) == bodies(0, 1, 3, 4)
    assert report.damages[0].startswith(f"{path}: record at byte {before[2][0]}: ")


def test_an_uncompressed_archive_cut_anywhere_keeps_the_records_before_the_cut(
    tmp_path: Path,
) -> None:
    path = tmp_path / "plain.warc"
    whole = gzip.decompress(write(tmp_path, 3).read_bytes())
    path.write_bytes(whole)
    ends = [a + b for a, b in places(path, Report("test", lambda line: None))]
    for size in range(1, len(whole), 97):
        path.write_bytes(whole[:size])
        report = Report("test", lambda line: None)
        # The line ends after a record belong to its place, and the page is whole without them.
        assert read(path, report) == bodies(0, 1, 2)[: sum(end - 4 <= size for end in ends)]
        assert len(report.damages) <= 1


def test_a_record_that_announces_more_than_its_member_holds_is_damaged(
    tmp_path: Path, report: Report
) -> None:
    path = write(tmp_path, 3)
    offset, length = places(path, report)[1]
    data = path.read_bytes()
    member = gzip.decompress(data[offset : offset + length])
    announced = member.split(b"Content-Length: ")[1].split(b"\r\n")[0]
    longer = member.replace(announced, b"%d" % (int(announced) + 400), 1)
    path.write_bytes(data[:offset] + gzip.compress(longer, mtime=0) + data[offset + length :])
    assert len(read(path, report)) == 2 or report.damages


def test_a_record_is_found_also_across_the_border_of_two_reads(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    offset, length = places(path, report)[2]
    data = bytearray(path.read_bytes())
    data[offset + length // 2] ^= 0xFF
    path.write_bytes(data)
    for step in range(8, 40):
        monkeypatch.setattr("datalake.sources.warcs.reader._STEP", step)
        assert read(path, report) == bodies(0, 1, 3, 4)


@pytest.mark.parametrize(
    "content", [b"", b"hello", bytes(3000), gzip.compress(b"no archive", mtime=0)]
)
def test_a_file_that_is_no_archive_gives_nothing_and_does_not_fail(
    tmp_path: Path, report: Report, content: bytes
) -> None:
    path = tmp_path / "odd.warc.gz"
    path.write_bytes(content)
    assert read(path, report) == []
    assert len(report.damages) == (1 if content else 0)


def test_a_place_without_a_record_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    with pytest.raises(RemoteError, match=r"must hold a record at byte 7, got: "):
        read_record(str(path), 7, 10)
    with pytest.raises(RemoteError, match=r"must be long enough for a range, got 0 of 10 bytes"):
        read_record(str(path), path.stat().st_size, 10)


# Archives of other writers -----------------------------------------------------------------------


@foreign
@pytest.mark.parametrize(
    ("name", "pages", "num_damages"),
    [
        ("example.warc.gz", [1270], 0),
        ("example-iana.org-chunked.warc", [7223], 0),
        ("example-bad-non-chunked.warc.gz", [], 1),
        ("example-wget-bad-target-uri.warc.gz", [1270], 0),
        ("example-trunc.warc", [], 2),
        ("clipped.warc.gz", [], 1),
        ("example-digest.warc", [], 0),
        ("post-test.warc.gz", [], 0),
    ],
)
def test_archives_of_other_writers_are_read(
    name: str, pages: list[int], num_damages: int, report: Report
) -> None:
    captures = list(read_captures(FOREIGN / name, LIMIT, report))
    assert [len(capture.payload) for capture in captures] == pages
    assert len(report.damages) == num_damages
    for capture in captures:
        assert capture.url in ("http://example.com/", "http://www.iana.org/")
        assert read_record(capture.archive, capture.offset, capture.length) == capture.payload


@foreign
@pytest.mark.parametrize(
    ("name", "count"),
    [("warcfile.warc.gz", 16), ("warcfile.warc.lz4", 16), ("clueweb-quirk.warc.gz", 29)],
)
def test_large_archives_of_other_writers_are_read_and_found_again(
    name: str, count: int, report: Report
) -> None:
    captures = list(read_captures(FOREIGN / name, LIMIT, report))
    assert len(captures) == count and not report.damages
    assert all("html" in (capture.content_type or "") for capture in captures)
    for capture in captures:
        assert read_record(capture.archive, capture.offset, capture.length) == capture.payload


@foreign
def test_a_damaged_member_of_an_lz4_archive_costs_its_record_only(
    tmp_path: Path, report: Report
) -> None:
    path = tmp_path / "damaged.warc.lz4"
    shutil.copy(FOREIGN / "warcfile.warc.lz4", path)
    path.chmod(0o644)
    before = places(path, report)
    offset = before[3][0]
    data = bytearray(path.read_bytes())
    data[offset + 100 : offset + 300] = bytes(200)
    path.write_bytes(data)
    assert places(path, report) == [place for place in before if place != before[3]]
    assert len(report.damages) == 1

"""Archives as we write them, read back by two other programs, and record by record by us."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator
from warcio.archiveiterator import ArchiveIterator as OtherIterator

from datalake.sources.warcs.writer import WarcWriter, read_back
from datalake.sources.web.fetch import Response

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)


def response(body: bytes, status: int = 200, url: str = "https://example.com/a?b") -> Response:
    return Response(
        url=url,
        status=status,
        phrase="OK" if status == 200 else "Not Modified",
        headers=(
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Encoding", "gzip"),
            ("Content-Length", "7"),
            ("ETag", '"é1"'),
        ),
        body=body,
        truncated=None,
        request_headers=(("Host", "example.com"), ("If-None-Match", '"1"')),
        fetched_at=WHEN + timedelta(days=status == 304),
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    with WarcWriter(tmp_path, "test") as writer:
        writer.write(response("<p>Text ß".encode()))
        writer.write(response(b"", url="https://example.com/empty"))
        writer.write_revisit(response(b"", 304), WHEN)
        writer.write_revisit(response("<p>Text ß".encode()), WHEN)
    return writer.path


KINDS = ["warcinfo", *["request", "response"] * 2, *["request", "revisit"] * 2]


def test_another_program_reads_every_record_and_its_digests_hold(archive: Path) -> None:
    with archive.open("rb") as file:
        records = []
        for record in OtherIterator(file, check_digests="raise"):
            records.append((record.rec_type, record.rec_headers, record.http_headers))
            record.content_stream().read()
            assert record.digest_checker.passed is not False
    assert [kind for kind, *_ in records] == KINDS
    _, headers, http = records[2]
    assert http.get_statuscode() == "200" and http.get_header("ETag") == '"é1"'
    assert headers.get_header("WARC-Date") == "2026-01-02T03:04:05.678900Z"
    for _, headers, _ in records:
        assert headers.get_header("WARC-Block-Digest").startswith("sha1:")


def test_the_check_of_another_program_passes(archive: Path) -> None:
    program = [sys.executable, "-m", "warcio.cli", "check", "-v", str(archive)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    # It checks no revisit record; the other reader below does.
    assert done.stdout.count("digest pass") == len(KINDS) - 2 and "fail" not in done.stdout


def test_fastwarc_reads_every_record_and_its_digests_hold(archive: Path) -> None:
    kinds = []
    for record in ArchiveIterator(str(archive), parse_http=False):
        kinds.append(str(record.record_type))
        assert record.verify_block_digest()
    assert kinds == KINDS


def test_a_revisit_refers_to_the_capture_that_it_found_again(archive: Path) -> None:
    found = {}
    for record in ArchiveIterator(str(archive), parse_http=True):
        found.setdefault(str(record.record_type), []).append(
            (dict(record.headers.items()), record.http_headers and record.http_headers.status_code)
        )
    original, _ = found["response"][0]
    (unmodified, status), (identical, _) = found["revisit"]
    assert status == 304
    for headers in (unmodified, identical):
        assert headers["WARC-Refers-To-Target-URI"] == original["WARC-Target-URI"]
        assert headers["WARC-Refers-To-Date"] == original["WARC-Date"]
        assert headers["Content-Type"] == "application/http; msgtype=response"
    profile = "http://netpreserve.org/warc/1.1/revisit/"
    assert unmodified["WARC-Profile"] == f"{profile}server-not-modified"
    assert identical["WARC-Profile"] == f"{profile}identical-payload-digest"
    assert identical["WARC-Payload-Digest"] == original["WARC-Payload-Digest"]
    assert identical["WARC-Truncated"] == "length"


def test_an_archive_says_what_wrote_it(archive: Path) -> None:
    first = next(iter(ArchiveIterator(str(archive), parse_http=False)))
    assert first.headers["WARC-Filename"] == "test.warc.gz"
    assert first.headers["Content-Type"] == "application/warc-fields"
    lines = first.reader.read().decode().split("\r\n")
    assert "software: Tarn" in lines and "format: WARC File Format 1.1" in lines


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_left_alone(
    tmp_path: Path,
) -> None:
    program = f"""
import os
from pathlib import Path
from datalake.sources.warcs.writer import WarcWriter
with WarcWriter(Path({str(tmp_path)!r}), "killed"):
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with WarcWriter(tmp_path, "one") as one, WarcWriter(tmp_path, "other") as other:
        one.write(response(b"x"))
        other.write(response(b"x"))
    assert sorted(tmp_path.iterdir()) == [one.path, other.path]


def test_a_response_is_read_back_by_its_place_alone(tmp_path: Path) -> None:
    with WarcWriter(tmp_path, "test") as writer:
        captures = [writer.write(response(b"x" * n)) for n in range(0, 3000, 700)]
    for capture in captures:
        headers, body = read_back(capture.archive, capture.offset, capture.length)
        assert body == capture.payload
        assert ("Content-Type", "text/html; charset=utf-8") in headers


def test_a_place_that_holds_no_response_is_an_error(archive: Path) -> None:
    size = archive.stat().st_size
    with pytest.raises(OSError, match="holds no response at byte 0"):
        read_back(str(archive), 0, 50 if size > 50 else size)
    with pytest.raises(OSError, match=f"holds no response at byte {size}"):
        read_back(str(archive), size, 10)
    with pytest.raises(FileNotFoundError):
        read_back(str(archive.with_name("other.warc.gz")), 0, 10)

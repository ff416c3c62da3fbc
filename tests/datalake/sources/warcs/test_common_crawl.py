"""A crawl laid out as Common Crawl: listings, WARC and WET, references, look-ups, losses."""

import gzip
import io
import pickle
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastwarc.warc import WarcRecordType

from datalake.config import Refusal
from datalake.sources.remote import Patience
from datalake.sources.report import Report
from datalake.sources.source import Event, Record, Refresh
from datalake.sources.warcs.common_crawl import CommonCrawlConfig
from tests.datalake.sources.archive_writing import lz4, page, record, sha1, text, write, zstd
from tests.datalake.sources.range_site import RangeSite, Served, serving
from tests.datalake.sources.refreshes import refresh_of

BODY = b"<html><body><p>A page with some words.</p></body></html>"


@pytest.fixture
def refresh(tmp_path: Path, report: Report) -> Refresh:
    return refresh_of(tmp_path / "home", report)


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datalake.sources.remote._PATIENCE", Patience(first_wait_seconds=0.01))


@pytest.fixture
def site() -> Iterator[RangeSite]:
    with serving() as site:
        yield site


def listing(folder: Path, *names: str, kind: str = "warc") -> str:
    path = folder / f"{kind}.paths.gz"
    path.write_bytes(gzip.compress("".join(f"{name}\n" for name in names).encode()))
    return str(path)


def config(folder: Path, *names: str, **changes: object) -> CommonCrawlConfig:
    values: dict[str, object] = {"paths": listing(folder, *names), "base": str(folder)}
    return CommonCrawlConfig.model_validate(values | changes)


def read(source: CommonCrawlConfig, refresh: Refresh) -> list[Record]:
    events: list[Event] = [
        event for piece in source.pieces(refresh) for event in source.read(piece, refresh)
    ]
    return [event for event in events if isinstance(event, Record)]


# What is read ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [gzip.compress, zstd, lz4, bytes], ids=lambda f: f.__name__)
def test_pages_are_read_whatever_compresses_their_records(
    tmp_path: Path, refresh: Refresh, compress: type[bytes]
) -> None:
    bodies = [BODY + bytes(f"<!-- {n} -->", "ascii") * n for n in range(5)]
    records = [page(f"http://e.org/{n}", body) for n, body in enumerate(bodies)]
    write(tmp_path / "a/1.warc", records, compress)
    source = config(tmp_path, "a/1.warc")
    found = read(source, refresh)
    assert [r.payload for r in found] == bodies
    assert [r.uri for r in found] == [f"http://e.org/{n}" for n in range(5)]
    assert [source.read_again(r.place) for r in found] == bodies
    assert found[0].fetched_at == datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert not refresh.report.damages


@pytest.mark.parametrize("compress", [gzip.compress, zstd, lz4, bytes], ids=lambda f: f.__name__)
def test_a_flipped_bit_costs_its_record_alone_whatever_compresses_it(
    tmp_path: Path, refresh: Refresh, compress: type[bytes]
) -> None:
    rng = random.Random(0)
    members = [compress(page(f"http://e.org/{n}", rng.randbytes(3000))) for n in range(6)]
    data = bytearray(b"".join(members))
    data[sum(map(len, members[:2])) + len(members[2]) // 2] ^= 0x10
    (tmp_path / "1.warc").write_bytes(data)
    found = read(config(tmp_path, "1.warc"), refresh)
    assert [r.uri[-1] for r in found] == ["0", "1", "3", "4", "5"]
    assert [(r.place.offset, r.place.length) for r in found] == [
        (sum(map(len, members[:n])), len(members[n])) for n in (0, 1, 3, 4, 5)
    ]
    (damage,) = refresh.report.damages
    assert f"record at byte {sum(map(len, members[:2]))}: " in damage


def test_texts_of_a_wet_file_are_text_with_their_languages(
    tmp_path: Path, refresh: Refresh
) -> None:
    info = record(WarcRecordType.warcinfo, "", b"isPartOf: X\r\n", "application/warc-fields")
    records = [info, text("http://e.org/ä", "Grüße.\n", "deu,eng"), text("http://e.org/2", "two")]
    write(tmp_path / "1.warc.wet.gz", [*records, text("http://e.org/3", "three", None)])
    first, *others = read(config(tmp_path, "1.warc.wet.gz"), refresh)
    assert first.payload == "Grüße.\n".encode() and first.uri == "http://e.org/%C3%A4"
    assert first.content_type == "text/plain; charset=utf-8"
    assert first.own["languages"] == "deu,eng" and first.own["http_status"] is None
    assert [r.own["languages"] for r in others] == ["eng", None]


def test_a_saved_file_of_html_is_a_page_without_a_status(tmp_path: Path, refresh: Refresh) -> None:
    saved = record(WarcRecordType.resource, "http://e.org/1", BODY, "text/html; charset=utf-8")
    image = record(WarcRecordType.resource, "http://e.org/2", BODY, "image/png")
    write(tmp_path / "1.warc.gz", [saved, image])
    (found,) = read(config(tmp_path, "1.warc.gz"), refresh)
    assert found.payload == BODY and found.own["http_status"] is None
    assert refresh.report.skipped == {"type image/png": 1}


def test_archives_of_another_writer_are_read(tmp_path: Path, refresh: Refresh) -> None:
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with (tmp_path / "1.warc.gz").open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        for number, coded in enumerate((BODY, gzip.compress(BODY))):
            headers = [("Content-Type", "text/html")]
            headers += [("Content-Encoding", "gzip")] if number else []
            status = StatusAndHeaders("200 OK", headers, protocol="HTTP/1.1")
            writer.write_record(
                writer.create_warc_record(
                    f"http://e.org/{number}", "response", io.BytesIO(coded), http_headers=status
                )
            )
    source = config(tmp_path, "1.warc.gz")
    found = read(source, refresh)
    assert [r.payload for r in found] == [BODY, BODY] and not refresh.report.damages
    assert [source.read_again(r.place) for r in found] == [BODY, BODY]


def test_rows_may_hold_the_place_alone(tmp_path: Path, refresh: Refresh) -> None:
    write(tmp_path / "1.warc.gz", [page("http://e.org/1", BODY), page("http://e.org/2", b"<p>2")])
    source = config(tmp_path, "1.warc.gz", payload="refer")
    found = read(source, refresh)
    assert [r.payload for r in found] == [None, None]
    assert [r.num_bytes for r in found] == [len(BODY), 4]
    assert [r.payload_digest for r in found] == [sha1(BODY), sha1(b"<p>2")]
    assert [source.read_again(r.place) for r in found] == [BODY, b"<p>2"]


# Digests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["block_digest", "payload_digest"])
@pytest.mark.parametrize("limit", [100, 1 << 20], ids=["larger than the limit", "smaller"])
def test_a_record_that_is_not_what_its_digest_says_is_dropped_and_counted(
    tmp_path: Path, refresh: Refresh, name: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datalake.sources.warcs.reader._HEADER_BYTES", 500)
    wrong = page("http://e.org/2", BODY * 50, **{name: sha1(b"other")})
    records = [page("http://e.org/1", BODY), wrong, page("http://e.org/3", BODY * 50)]
    write(tmp_path / "1.warc.gz", records)
    found = read(config(tmp_path, "1.warc.gz", max_bytes=limit), refresh)
    assert [r.uri for r in found] == ["http://e.org/1", "http://e.org/3"]
    assert found[1].payload == (BODY * 50)[:limit]
    (damage,) = refresh.report.damages
    header = "WARC-" + "-".join(part.capitalize() for part in name.split("_"))
    assert damage.startswith(f"{tmp_path}/1.warc.gz: record at byte {found[0].place.length}: ")
    assert damage.endswith(f"is not what {header} says")


def test_a_digest_may_be_of_the_payload_with_chunks_without_them_or_decoded(
    tmp_path: Path, refresh: Refresh
) -> None:
    coded = gzip.compress(BODY)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(coded), coded)
    head = b"Content-Type: text/html\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n"
    digests = [sha1(body), sha1(coded), sha1(BODY), "md5:" + "0" * 32, "new:abc"]
    write(
        tmp_path / "1.warc.gz",
        [page(f"http://e.org/{n}", body, head, payload_digest=d) for n, d in enumerate(digests)],
    )
    found = read(config(tmp_path, "1.warc.gz"), refresh)
    assert [r.uri[-1] for r in found] == ["0", "1", "2", "4"]
    assert {r.payload for r in found} == {BODY}
    assert len(refresh.report.damages) == 1


def test_of_a_page_that_was_cut_the_payload_digest_may_be_of_all_of_it(
    tmp_path: Path, refresh: Refresh
) -> None:
    cut = page("http://e.org/1", BODY[:20], payload_digest=sha1(BODY), truncated="length")
    write(tmp_path / "1.warc.gz", [cut])
    (found,) = read(config(tmp_path, "1.warc.gz"), refresh)
    assert found.payload == BODY[:20] and found.own["truncated"] == "length"


# Which files -------------------------------------------------------------------------------------


def names_of(source: CommonCrawlConfig, refresh: Refresh) -> list[str]:
    return [piece.name for piece in source.pieces(refresh)]


def test_a_sample_is_the_same_every_time_and_a_larger_one_holds_it(
    tmp_path: Path, refresh: Refresh
) -> None:
    names = [f"crawl/{n:05}.warc.gz" for n in range(200)]
    small = names_of(config(tmp_path, *names, max_files=10), refresh)
    large = names_of(config(tmp_path, *names, max_files=50), refresh)
    assert len(small) == 10 and set(small) < set(large) and len(large) == 50
    assert large == sorted(large) and large[:10] != [f"{n:05}.warc.gz" for n in range(10)]
    assert names_of(config(tmp_path, *reversed(names), max_files=10), refresh) == small[::-1]
    first = names_of(config(tmp_path, *names, max_files=3, choice="first"), refresh)
    assert first == [f"{n:05}.warc.gz" for n in range(3)]
    assert refresh.report.skipped["file not chosen"] == 190 + 150 + 190 + 197


def test_pieces_name_their_files_and_travel_to_other_processes(
    tmp_path: Path, refresh: Refresh
) -> None:
    path = write(tmp_path / "x/1.warc.gz", [page("http://e.org/1", BODY)])
    source = config(tmp_path, "x/1.warc.gz", "x/2.warc.gz", "", "x/1.warc.gz")
    first, second = source.pieces(refresh)
    assert (first.uri, first.num_bytes) == (str(path), path.stat().st_size)
    assert (second.name, second.num_bytes) == ("2.warc.gz", 0)
    assert pickle.loads(pickle.dumps((source, first))) == (source, first)


def test_a_file_that_is_not_there_is_an_error_that_names_it(
    tmp_path: Path, refresh: Refresh
) -> None:
    source = config(tmp_path, "none.warc.gz")
    (piece,) = source.pieces(refresh)
    with pytest.raises(FileNotFoundError, match=r"none\.warc\.gz"):
        list(source.read(piece, refresh))


def test_settings_that_do_not_fit_together_are_refused(tmp_path: Path, refresh: Refresh) -> None:
    def refused(**values: object) -> str:
        with pytest.raises(Refusal) as refusal:
            CommonCrawlConfig.model_validate(values).pieces(refresh)
        return str(refusal.value)

    one = "one of paths and urls must be given, got "
    assert refused() == one + "none"
    assert refused(paths="a", urls=("http://e.org/",), index="b") == one + "both"
    together = "urls and index must be given together, got "
    assert refused(urls=("http://e.org/",)) == together + "1 urls and index None"
    assert refused(paths="a", index="b") == together + "0 urls and index b"
    missing = refused(paths=f"{tmp_path}/none.gz")
    assert missing.startswith(f"paths must be a listing that can be read, got {tmp_path}/none.gz")
    empty = listing(tmp_path)
    assert refused(paths=empty) == f"paths must name at least one file, got {empty} without any"
    assert refused(urls=("mailto:x",), index="b") == (
        "urls[0] must be an http or https address, got mailto:x"
    )
    outside = listing(tmp_path, "../x.warc.gz")
    assert "one that leads out of it" in refused(paths=outside, base=str(tmp_path))


# Over a network ----------------------------------------------------------------------------------


def test_a_crawl_is_read_over_broken_connections_with_damage_inside(
    tmp_path: Path, refresh: Refresh, site: RangeSite
) -> None:
    rng = random.Random(0)
    records = [page(f"http://e.org/{n}", rng.randbytes(3000)) for n in range(20)]
    path = write(tmp_path / "1.warc.gz", records)
    data = bytearray(path.read_bytes())
    size = len(data)
    data[size * 3 // 4 + 1500] ^= 0xFF  # inside of a member
    path.write_bytes(data)
    local = [(r.uri, r.payload) for r in read(config(tmp_path, "1.warc.gz"), refresh)]
    assert len(local) == 19
    site.files["/crawl/1.warc.gz"] = Served(bytes(data), breaks=[size // 3, size // 3])
    site.files["/warc.paths.gz"] = Served(gzip.compress(b"crawl/1.warc.gz\n"))
    source = CommonCrawlConfig(paths=f"{site.url}/warc.paths.gz", base=f"{site.url}/")
    report = Report("test", lambda line: None)
    found = read(source, refresh_of(tmp_path, report))
    assert [(r.uri, r.payload) for r in found] == local
    assert len(report.damages) == 1 and report.damages[0].startswith(f"{site.url}/crawl/1.warc.gz")
    assert source.read_again(found[7].place) == local[7][1]


def test_an_archive_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, refresh: Refresh, site: RangeSite
) -> None:
    rng = random.Random(0)
    records = [page(f"http://e.org/{n}", rng.randbytes(3000)) for n in range(9)]
    data = write(tmp_path / "1.warc.gz", records).read_bytes()
    site.files["/1.warc.gz"] = Served(data, breaks=[9000], later=[Served(data, tag='"2"')])
    source = config(tmp_path, "1.warc.gz", base=site.url)
    with pytest.raises(OSError, match="changed while it was read"):
        read(source, refresh)


# By an index -------------------------------------------------------------------------------------


def test_single_pages_are_fetched_by_an_index(
    tmp_path: Path, refresh: Refresh, site: RangeSite
) -> None:
    rng = random.Random(0)
    bodies = [rng.randbytes(3000) for _ in range(30)]
    records = [gzip.compress(page(f"http://e.org/{n}", body)) for n, body in enumerate(bodies)]
    site.files["/crawl/1.warc.gz"] = Served(b"".join(records))
    lines, offset = [], 0
    for n, data in enumerate(records):
        place = f'"filename": "crawl/1.warc.gz", "offset": "{offset}", "length": "{len(data)}"'
        status = 404 if n == 5 else 200
        url = f'"url": "http://e.org/{n}"'
        lines.append(f'org,e)/{n} 20260304050607 {{{url}, "status": "{status}", {place}}}\n')
        offset += len(data)
    index = tmp_path / "index.cdxj"
    index.write_text("".join(sorted(lines)))
    urls = tuple(f"http://e.org/{n}" for n in (3, 17, 5, 99))
    source = CommonCrawlConfig(urls=urls, index=str(index), base=site.url)
    found = read(source, refresh)
    assert [(r.uri, r.payload) for r in found] == [(urls[0], bodies[3]), (urls[1], bodies[17])]
    assert len(site.requests) == 2 and site.num_bytes < 10_000
    assert refresh.report.failed == {"no capture of status 200": 1, "not in the index": 1}


def test_a_place_where_no_record_is_costs_itself_alone(tmp_path: Path, refresh: Refresh) -> None:
    members = [gzip.compress(page(f"http://e.org/{n}", BODY)) for n in range(3)]
    (tmp_path / "1.warc.gz").write_bytes(b"".join(members))
    start, size = len(members[0]), len(members[1])
    index = tmp_path / "index.cdx"
    index.write_text(
        f"org,e)/0 20260304050607 http://e.org/0 text/html 200 X - - {size} 7 1.warc.gz\n"
        f"org,e)/1 20260304050607 http://e.org/1 text/html 200 X - - {size} {start} 1.warc.gz\n"
    )
    source = CommonCrawlConfig(
        urls=("http://e.org/0", "http://e.org/1"), index=str(index), base=str(tmp_path)
    )
    assert [r.uri for r in read(source, refresh)] == ["http://e.org/1"]
    assert "must hold a record at byte 7, got" in refresh.report.damages[0]


def test_what_is_watched_changes_with_a_local_listing_alone(tmp_path: Path) -> None:
    source = config(tmp_path, "a")
    before = source.watched()
    listing(tmp_path, "a", "b")
    assert before and source.watched() != before
    assert CommonCrawlConfig(paths="https://e.org/warc.paths.gz").watched() == ""

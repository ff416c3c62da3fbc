"""A crawl of a site that was crawled before: what it asks for, keeps and marks."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastwarc.warc import ArchiveIterator

from datalake.config import Refusal
from datalake.sources.report import Report
from datalake.sources.source import Event, Gone, Record, Refresh, Unchanged
from datalake.sources.warcs.writer import WarcWriter
from datalake.sources.web.crawl import CrawlConfig, Scope
from datalake.sources.web.crawler import Crawl
from datalake.sources.web.fetch import Limits
from tests.datalake.sources.earlier import Earlier
from tests.datalake.sources.site import Answer, Site


def refresh(
    site: Site,
    folder: Path,
    *earlier: Iterable[Event],
    report: Report | None = None,
    **changes: Any,
) -> list[Event]:
    values: dict[str, Any] = {
        "seeds": (f"{site.url}/",),
        "max_pages": 100,
        "max_bytes": 10_000_000,
        "delay_seconds": 0.0,
        "allow_hosts": (site.host,),
        "limits": Limits(timeout_seconds=2.0),
    }
    report = report or Report("test", lambda line: None)
    with WarcWriter(folder, f"test-{len(list(folder.iterdir()))}") as archive:
        config = CrawlConfig(**values | changes)
        return list(Crawl(config, archive, report, previous=Earlier(*earlier)).events())


def kinds(site: Site, found: Iterable[Event]) -> dict[str, str]:
    return {event.uri.removeprefix(site.url): type(event).__name__ for event in found}


def tagged(site: Site, path: str, tag: str, *links: str, **page: str) -> None:
    site.page(path, *links, **page)
    site.answers[path].headers["ETag"] = tag  # type: ignore[union-attr]


def records(folder: Path, number: int) -> list[tuple[str, dict[str, str], bytes]]:
    path = folder / f"test-{number}.warc.gz"
    return [
        (str(r.record_type), dict(r.headers.items()), r.reader.read())
        for r in ArchiveIterator(str(path), parse_http=False)
    ]


def test_validators_are_kept_with_a_page(site: Site, tmp_path: Path) -> None:
    tagged(site, "/", '"1"')
    site.answers["/"].headers["Last-Modified"] = "Fri, 02 Jan 2026 03:04:05 GMT"  # type: ignore[union-attr]
    (page,) = refresh(site, tmp_path)
    assert isinstance(page, Record)
    assert page.own == {
        "http_status": 200,
        "truncated": None,
        "etag": '"1"',
        "last_modified": "Fri, 02 Jan 2026 03:04:05 GMT",
    }


def test_a_page_that_the_server_calls_unmodified_is_unchanged_and_its_links_are_followed(
    site: Site, tmp_path: Path
) -> None:
    tagged(site, "/", '"1"', "/a")
    site.page("/a", "/b")
    site.answers["/a"].headers["Last-Modified"] = "Fri, 02 Jan 2026 03:04:05 GMT"  # type: ignore[union-attr]
    tagged(site, "/b", 'W/"3"')
    first = refresh(site, tmp_path)
    site.requests.clear()
    sent, site.num_bytes = site.num_bytes, 0
    again = refresh(site, tmp_path, first)
    assert kinds(site, again) == {"/": "Unchanged", "/a": "Unchanged", "/b": "Unchanged"}
    asked = {path: headers for path, _, headers in site.requests}
    assert asked["/"]["If-None-Match"] == '"1"' and asked["/b"]["If-None-Match"] == 'W/"3"'
    assert asked["/a"]["If-Modified-Since"] == "Fri, 02 Jan 2026 03:04:05 GMT"
    assert sent > 0 and site.num_bytes == len(b"nothing here")  # of robots.txt
    written = records(tmp_path, 1)
    assert [kind for kind, *_ in written] == ["warcinfo", *["request", "revisit"] * 3]
    assert isinstance(first[0], Record)
    _, headers, block = written[2]
    assert headers["WARC-Profile"].endswith("/warc/1.1/revisit/server-not-modified")
    assert headers["WARC-Refers-To-Target-URI"] == f"{site.url}/"
    assert block.startswith(b"HTTP/1.1 304 ")
    original = records(tmp_path, 0)[2][1]
    assert headers["WARC-Refers-To-Date"] == original["WARC-Date"]


def test_a_page_that_changed_is_a_record(site: Site, tmp_path: Path) -> None:
    tagged(site, "/", '"1"', "/a")
    tagged(site, "/a", '"1"')
    first = refresh(site, tmp_path)
    tagged(site, "/a", '"2"', "/new", text="Something else.")
    site.page("/new")
    again = refresh(site, tmp_path, first)
    assert kinds(site, again) == {"/": "Unchanged", "/a": "Record", "/new": "Record"}
    third = refresh(site, tmp_path, first, again)
    assert kinds(site, third) == {"/": "Unchanged", "/a": "Unchanged", "/new": "Unchanged"}


def test_bytes_that_came_again_identical_are_not_stored_again(site: Site, tmp_path: Path) -> None:
    site.page("/", "/a")
    site.page("/a")
    first = refresh(site, tmp_path)
    report = Report("test", lambda line: None)
    again = refresh(site, tmp_path, first, report=report)
    assert again == [Unchanged(f"{site.url}/"), Unchanged(f"{site.url}/a")]
    assert report.rows == 0
    written = records(tmp_path, 1)
    assert [kind for kind, *_ in written] == ["warcinfo", *["request", "revisit"] * 2]
    _, headers, block = written[2]
    original = records(tmp_path, 0)[2][1]
    assert headers["WARC-Profile"].endswith("/warc/1.1/revisit/identical-payload-digest")
    assert headers["WARC-Payload-Digest"] == original["WARC-Payload-Digest"]
    assert headers["WARC-Refers-To-Date"] == original["WARC-Date"]
    assert block.startswith(b"HTTP/1.1 200 ") and b"Some words." not in block


@pytest.mark.parametrize("status", [404, 410])
def test_a_page_that_is_not_there_any_more_is_gone(site: Site, tmp_path: Path, status: int) -> None:
    site.page("/", "/a", "/b")
    site.page("/a")
    site.page("/b")
    first = refresh(site, tmp_path)
    site.answers["/a"] = Answer(b"", status)
    report = Report("test", lambda line: None)
    again = refresh(site, tmp_path, first, report=report)
    assert kinds(site, again) == {"/": "Unchanged", "/a": "Gone", "/b": "Unchanged"}
    assert not report.failed


def test_a_page_that_no_link_leads_to_any_more_is_asked_for_last(
    site: Site, tmp_path: Path
) -> None:
    site.page("/", "/a", "/b", "/c")
    for path in ("/a", "/b", "/c"):
        site.page(path)
    first = refresh(site, tmp_path)
    site.page("/", "/c")
    del site.answers["/b"]
    again = refresh(site, tmp_path, first)
    assert list(kinds(site, again).items()) == [
        ("/", "Record"), ("/c", "Unchanged"), ("/a", "Unchanged"), ("/b", "Gone"),
    ]  # fmt: skip
    # Nothing is known of pages that a cut crawl did not come to, nor of those out of scope.
    assert kinds(site, refresh(site, tmp_path, first, max_pages=2)) == {
        "/": "Record",
        "/c": "Unchanged",
    }
    narrow = refresh(site, tmp_path, first, scope=Scope(exclude=("/b",)))
    assert "/b" not in kinds(site, narrow)


def test_a_page_that_fails_is_lost_and_not_gone(site: Site, tmp_path: Path) -> None:
    site.page("/", "/a", "/b")
    site.page("/a")
    site.page("/b")
    first = refresh(site, tmp_path)
    site.answers["/a"] = Answer(b"", 500)
    site.answers["/b"] = Answer(b"", 403)
    report = Report("test", lambda line: None)
    again = refresh(site, tmp_path, first, report=report)
    assert kinds(site, again) == {"/": "Unchanged"}
    assert report.failed == {"status 500": 1, "status 403": 1}


def test_a_page_that_asks_not_to_be_kept_any_more_is_gone(site: Site, tmp_path: Path) -> None:
    tagged(site, "/", '"1"', "/a", "/b")
    tagged(site, "/a", '"1"')
    tagged(site, "/b", '"1"')
    first = refresh(site, tmp_path)
    site.page("/a", head='<meta name="robots" content="none">')
    site.answers["/b"].headers["X-Robots-Tag"] = "noindex"  # type: ignore[union-attr]
    again = refresh(site, tmp_path, first)
    assert kinds(site, again) == {"/": "Unchanged", "/a": "Gone", "/b": "Gone"}


def test_a_page_that_moved_for_good_is_gone_and_found_where_it_is(
    site: Site, tmp_path: Path
) -> None:
    site.page("/", "/a", "/b", "/c")
    for path in ("/a", "/b", "/c"):
        site.page(path)
    first = refresh(site, tmp_path)
    site.page("/new")
    site.redirect("/a", "/new", 301)
    site.redirect("/b", "/new", 302)
    site.redirect("/c", "http://elsewhere.example/", 301)
    again = refresh(site, tmp_path, first)
    assert kinds(site, again) == {"/": "Unchanged", "/a": "Gone", "/new": "Record"}


def test_wishes_of_a_stored_page_hold_as_long_as_it_is_unchanged(
    site: Site, tmp_path: Path
) -> None:
    tagged(site, "/", '"1"', "/a")
    site.answers["/"].headers["X-Robots-Tag"] = "nofollow"  # type: ignore[union-attr]
    site.page("/a")
    first = refresh(site, tmp_path)
    del site.answers["/"].headers["X-Robots-Tag"]  # type: ignore[union-attr]
    again = refresh(site, tmp_path, first)
    assert kinds(site, first) == {"/": "Record"} and kinds(site, again) == {"/": "Unchanged"}


def test_a_page_whose_old_bytes_are_lost_is_fetched_whole(site: Site, tmp_path: Path) -> None:
    tagged(site, "/", '"1"', "/a")
    tagged(site, "/a", '"1"')
    old = tmp_path / "old"
    old.mkdir()
    first = refresh(site, old)
    archive = old / "test-0.warc.gz"
    site.requests.clear()
    data = archive.read_bytes()
    archive.write_bytes(bytes(len(data)))
    report = Report("test", lambda line: None)
    damaged = refresh(site, old, first, report=report)
    assert kinds(site, damaged) == {"/": "Unchanged", "/a": "Unchanged"}
    assert len(report.damages) == 2 and Counter(site.paths)["/a"] == 2
    archive.unlink()
    site.requests.clear()
    missing = refresh(site, tmp_path, first)
    assert kinds(site, missing) == {"/": "Unchanged", "/a": "Unchanged"}
    assert all("If-None-Match" not in headers for _, _, headers in site.requests)


def test_bounds_count_unchanged_pages_too(site: Site, tmp_path: Path) -> None:
    tagged(site, "/", '"1"', *(f"/{n}" for n in range(9)))
    for n in range(9):
        tagged(site, f"/{n}", '"1"', text="x" * 1000)
    first = refresh(site, tmp_path, max_bytes=6000)
    report = Report("test", lambda line: None)
    again = refresh(site, tmp_path, first, report=report, max_bytes=6000)
    assert [event.uri for event in again] == [event.uri for event in first]
    assert all(isinstance(event, Unchanged) for event in again)
    assert report.cut == "max_bytes 6000"


def test_a_validator_that_would_break_a_request_is_not_sent(site: Site, tmp_path: Path) -> None:
    tagged(site, "/", '"\u00e9"')
    first = refresh(site, tmp_path)
    tagged(site, "/", '"' + "x" * 2000 + '"')
    second = refresh(site, tmp_path, first)
    refresh(site, tmp_path, first, second)
    assert all("If-None-Match" not in headers for _, _, headers in site.requests)


def test_a_seed_that_is_gone_is_refused_as_ever(site: Site, tmp_path: Path) -> None:
    site.page("/")
    first = refresh(site, tmp_path)
    del site.answers["/"]
    with pytest.raises(Refusal, match=r"seeds\[0\] must be a page that can be fetched.*404"):
        refresh(site, tmp_path, first)


def test_a_page_older_than_our_capture_by_its_sitemap_is_not_asked_for(
    site: Site, tmp_path: Path
) -> None:
    for path in ("/", "/old", "/new", "/linked"):
        site.page(path, *(["/linked"] if path == "/old" else []))
    first = refresh(site, tmp_path, seeds=tuple(site.url + p for p in ("/", "/old", "/new")))
    times = {"/old": datetime.now(UTC) - timedelta(days=3), "/new": datetime.now(UTC)}
    entries = "".join(
        f"<url><loc>{site.url}{path}</loc><lastmod>{time:%Y-%m-%d}</lastmod></url>"
        for path, time in times.items()
    )
    site.answers["/map.xml"] = Answer(f"<urlset>{entries}</urlset>".encode())
    changes = {"seeds": (), "listings": (f"{site.url}/map.xml",)}
    site.requests.clear()
    trusting = refresh(site, tmp_path, first, trust_lastmod=True, **changes)
    assert kinds(site, trusting) == dict.fromkeys(("/old", "/new", "/linked", "/"), "Unchanged")
    assert "/old" not in site.paths and "/new" in site.paths and "/linked" in site.paths
    site.requests.clear()
    refresh(site, tmp_path, first, **changes)
    assert "/old" in site.paths


def test_the_source_itself_yields_records_with_their_licence_and_reads_them_again(
    site: Site, tmp_path: Path
) -> None:
    site.page("/", "/a")
    site.page("/a")
    config = CrawlConfig(
        seeds=(f"{site.url}/",),
        max_pages=9,
        max_bytes=1_000_000,
        delay_seconds=0.0,
        allow_hosts=(site.host,),
        licence="CC-BY-4.0",
    )

    def read(*earlier: Iterable[Event]) -> list[Event]:
        order = Refresh(
            origin="my site/1",
            snapshot="today",
            home=tmp_path,
            report=Report("test", lambda line: None),
            previous=Earlier(*earlier),
        )
        (piece,) = config.pieces(order)
        return list(config.read(piece, order))

    first = read()
    assert len(first) == 2
    for event in first:
        assert isinstance(event, Record) and event.licence is not None
        assert (event.licence.licence, event.licence.evidence) == ("CC-BY-4.0", "recipe")
        assert config.read_again(event.place) == event.payload
        assert Path(event.place.archive).name.startswith("my-site-1-")
    del site.answers["/a"]
    assert read(first) == [Unchanged(f"{site.url}/"), Gone(f"{site.url}/a")]

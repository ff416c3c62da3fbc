"""A crawl of real sites on localhost: what it takes, what it leaves, and how it behaves."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from pydantic import ValidationError

from datalake.config import Refusal
from datalake.sources.report import Report
from datalake.sources.source import Event, Record
from datalake.sources.warcs.writer import WarcWriter
from datalake.sources.web.crawl import CrawlConfig, Scope
from datalake.sources.web.crawler import Crawl
from datalake.sources.web.fetch import Limits
from datalake.sources.web.frontier import host_of
from tests.datalake.sources.site import Answer, Site


def settings(site: Site, **changes: Any) -> CrawlConfig:
    values: dict[str, Any] = {
        "seeds": (f"{site.url}/",),
        "max_pages": 100,
        "max_bytes": 10_000_000,
        "delay_seconds": 0.0,
        "allow_hosts": (site.host,),
        "limits": Limits(timeout_seconds=1.0, max_bytes=100_000),
    }
    return CrawlConfig(**values | changes)


def events(folder: Path, report: Report, config: CrawlConfig, **more: Any) -> list[Event]:
    with WarcWriter(folder, f"test-{len(list(folder.iterdir()))}") as archive:
        return list(Crawl(config, archive, report, **more).events())


def crawl(folder: Path, report: Report, config: CrawlConfig, **more: Any) -> list[Record]:
    found = events(folder, report, config, **more)
    assert all(isinstance(event, Record) for event in found)
    return [event for event in found if isinstance(event, Record)]


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again at once: the waits are for other people's servers."""
    monkeypatch.setattr("datalake.sources.web.crawler._RETRY_SECONDS", 0.01)


def paths(found: Iterable[Event]) -> list[str]:
    return [event.uri.split("/", 3)[3] for event in found]


def test_pages_come_breadth_first(site: Site, tmp_path: Path, report: Report) -> None:
    site.page("/", "/a", "/b")
    site.page("/a", "/a/1", "/b")
    site.page("/b", "/a", "/b/1")
    site.page("/a/1", "/a/1/x")
    site.page("/b/1")
    site.page("/a/1/x", "/")
    pages = crawl(tmp_path, report, settings(site))
    assert paths(pages) == ["", "a", "b", "a/1", "b/1", "a/1/x"]
    assert report.rows == 6 and report.cut is None and not report.failed


def test_a_page_is_fetched_once_however_it_is_spelled(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", "/a", "a", "./a#part", f"{site.url}/x/../a", "/%61")
    site.page("/a", "/")
    crawl(tmp_path, report, settings(site))
    assert Counter(site.paths) == {"/robots.txt": 1, "/": 1, "/a": 1}


def test_links_are_relative_to_the_base_of_a_page(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", "a", head='<base href="/deep/down/">')
    site.page("/deep/down/a")
    assert paths(crawl(tmp_path, report, settings(site))) == ["", "deep/down/a"]


def test_a_bad_link_costs_itself_only(site: Site, tmp_path: Path, report: Report) -> None:
    site.page("/", "http://[half/", "mailto:a@b.example", "javascript:x()", "http://%zz/", "/a")
    site.page("/a")
    assert paths(crawl(tmp_path, report, settings(site))) == ["", "a"]
    assert report.skipped["unreadable link"] == 2


def test_what_is_lost_is_counted_with_its_reason_and_first_case(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", "/gone", "/gone2", "/late", "/broken", "/film", "/error", "/a")
    site.page("/a")
    site.answers |= {
        "/late": Answer(b"late", pause=2.0),
        "/broken": Answer(b"<p>half", promised=1000),
        "/film": Answer(b"film", content_type="video/mp4"),
        "/error": Answer(b"", 500),
    }
    config = settings(site, limits=Limits(timeout_seconds=0.3))
    assert paths(crawl(tmp_path, report, config)) == ["", "a"]
    assert report.failed == {
        "status 404": 2,
        "status 500": 1,
        "timeout": 1,
        "disconnect": 1,
        "type video/mp4": 1,
    }
    found = report.as_dict()
    assert found["failed: status 404"] == 2
    assert found["first failed: status 404"] == f"{site.url}/gone"


def test_a_failure_that_passes_is_tried_again(site: Site, tmp_path: Path, report: Report) -> None:
    site.page("/a", text="At last.")
    good = site.answers.pop("/a")
    assert isinstance(good, Answer)
    site.answers["/a"] = [Answer(b"", 503, {"Retry-After": "0"}), Answer(b"x", promised=9), good]
    site.page("/", "/a")
    assert paths(crawl(tmp_path, report, settings(site))) == ["", "a"]
    assert not report.failed


def test_a_host_that_stops_answering_is_given_up(
    site: Site, other_site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", *(f"{other_site.url}/{n}" for n in range(30)), "/a")
    site.page("/a")
    for n in range(30):
        other_site.answers[f"/{n}"] = Answer(b"x", promised=9)
    config = settings(
        site,
        scope=Scope(prefixes=("http://127.0.0.1:",)),
        allow_hosts=(site.host, other_site.host),
    )
    assert paths(crawl(tmp_path, report, config)) == ["", "a"]
    assert report.failed == {"disconnect": 5, "host gave no answer": 25}


def test_a_loop_of_redirects_ends(site: Site, tmp_path: Path, report: Report) -> None:
    site.page("/", "/loop", "/chain/0", "/moved")
    site.redirect("/loop", "/loop2")
    site.redirect("/loop2", "/loop")
    for step in range(20):
        site.redirect(f"/chain/{step}", f"/chain/{step + 1}")
    site.redirect("/moved", "/new")
    site.page("/new")
    assert paths(crawl(tmp_path, report, settings(site))) == ["", "new"]
    assert report.failed == {"redirects": 1}
    assert site.paths.count("/loop") == 1


def test_a_redirect_out_of_scope_or_into_a_private_network_is_not_followed(
    site: Site, other_site: Site, tmp_path: Path, report: Report
) -> None:
    other_site.page("/secret")
    site.page("/", "/out", "/in")
    site.redirect("/out", "http://elsewhere.example/")
    site.redirect("/in", f"{other_site.url}/secret")
    config = settings(site, scope=Scope(prefixes=("http://127.0.0.1:",)))
    assert paths(crawl(tmp_path, report, config)) == [""]
    assert report.skipped["redirect out of scope"] == 1
    assert report.failed == {"robots.txt unreachable": 1}
    assert other_site.requests == []


def test_only_pages_in_scope_are_taken(site: Site, tmp_path: Path, report: Report) -> None:
    site.page("/docs/", "/docs/a", "/docs/tests/b", "/blog/", "/docs/a?print=1")
    site.page("/docs/a")
    scope = Scope(prefixes=(f"{site.url}/docs/",), exclude=("/tests/", r"\?print=1$"))
    config = settings(site, seeds=(f"{site.url}/docs/",), scope=scope)
    assert paths(crawl(tmp_path, report, config)) == ["docs/", "docs/a"]


def test_robots_txt_is_obeyed_and_counted(site: Site, tmp_path: Path, report: Report) -> None:
    site.answers["/robots.txt"] = Answer(b"User-agent: *\nDisallow: /private/\n")
    site.page("/", "/private/a", "/b")
    site.page("/private/a")
    site.page("/b")
    assert paths(crawl(tmp_path, report, settings(site))) == ["", "b"]
    assert report.skipped == {"robots.txt": 1} and "/private/a" not in site.paths


def test_what_a_page_asks_of_crawlers_is_obeyed(site: Site, tmp_path: Path, report: Report) -> None:
    site.page("/", "/a", "/b", "/c")
    site.page("/a", "/a/1", head='<meta name="Robots" content="NOINDEX">')
    site.page("/b", "/b/1", head='<meta name="tarn" content="nofollow">')
    site.page("/c")
    site.answers["/c"].headers["X-Robots-Tag"] = "noindex"  # type: ignore[union-attr]
    site.page("/a/1")
    site.page("/b/1")
    assert paths(crawl(tmp_path, report, settings(site))) == ["", "b", "a/1"]
    assert report.skipped["noindex"] == 2


def test_links_marked_nofollow_are_not_followed(site: Site, tmp_path: Path, report: Report) -> None:
    site.answers["/"] = Answer(b'<a rel="external nofollow" href="/a">x</a><a href="/b">y</a>')
    site.page("/a")
    site.page("/b")
    assert paths(crawl(tmp_path, report, settings(site))) == ["", "b"]


def test_requests_to_a_host_come_one_at_a_time_with_the_delay_between(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.answers["/robots.txt"] = Answer(b"User-agent: *\nCrawl-delay: 0.2\n")
    site.page("/", *(f"/{n}" for n in range(4)))
    for n in range(4):
        site.page(f"/{n}")
        site.answers[f"/{n}"].pause = 0.02  # type: ignore[union-attr]
    crawl(tmp_path, report, settings(site, delay_seconds=0.1))
    times = [when for path, when, _ in site.requests if path != "/robots.txt"]
    assert site.most_at_once == 1
    assert all(b - a >= 0.19 for a, b in pairwise(times))


def test_hosts_are_visited_side_by_side(
    site: Site, other_site: Site, tmp_path: Path, report: Report
) -> None:
    for one in (site, other_site):
        one.page("/", *(f"/{n}" for n in range(5)))
        for n in range(5):
            one.page(f"/{n}")
    config = settings(
        site,
        seeds=(f"{site.url}/", f"{other_site.url}/"),
        allow_hosts=(site.host, other_site.host),
        delay_seconds=0.1,
    )
    pages = crawl(tmp_path, report, config)
    assert len(pages) == 12
    first, second = ([when for _, when, _ in one.requests] for one in (site, other_site))
    assert first[0] < second[-1] and second[0] < first[-1]


def test_a_crawl_that_ends_at_a_bound_says_so(site: Site, tmp_path: Path, report: Report) -> None:
    site.page("/", "/a", "/b", "/c")
    for path in ("/a", "/b", "/c"):
        site.page(path, text="x" * 1000)
    assert paths(crawl(tmp_path, report, settings(site, max_pages=2))) == ["", "a"]
    assert report.as_dict()["cut"] == "max_pages 2"
    by_bytes = Report("test", lambda line: None)
    assert paths(crawl(tmp_path, by_bytes, settings(site, max_bytes=2600))) == ["", "a", "b"]
    assert by_bytes.cut == "max_bytes 2600"
    whole = Report("test", lambda line: None)
    crawl(tmp_path, whole, settings(site, max_pages=4))
    assert whole.cut is None and whole.as_dict()["cut"] == "no"


def test_a_page_over_the_limit_is_cut_and_says_so(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.answers["/"] = Answer(b"<p>" + b"x" * (50 << 20))
    (page,) = crawl(tmp_path, report, settings(site))
    assert page.own["truncated"] == "length" and len(page.payload or b"") == 100_000
    for record in ArchiveIterator(page.place.archive, WarcRecordType.response):
        assert record.headers["WARC-Truncated"] == "length"
        assert record.reader.read() == page.payload


def test_a_page_that_would_take_minutes_to_parse_is_lost_not_parsed(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", "/deep", "/a")
    site.answers["/deep"] = Answer(b"<dd><dt><li><option>" * 30_000)
    site.page("/a")
    config = settings(site, limits=Limits(timeout_seconds=5.0))
    assert paths(crawl(tmp_path, report, config)) == ["", "a"]
    assert report.failed == {"nested too deep": 1}


def test_every_page_can_be_read_back_from_its_place(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", *(f"/{n}" for n in range(9)))
    for n in range(9):
        site.page(f"/{n}", text=f"Page {n}. " * n)
    pages = crawl(tmp_path, report, settings(site))
    assert len(pages) == 10
    for page in pages:
        assert CrawlConfig.read_again(page.place) == page.payload


def test_two_crawls_take_the_same_pages_in_the_same_order(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", *(f"/{n}" for n in range(20)))
    for n in range(20):
        site.page(f"/{n}", f"/{n * 7 % 20}", f"/{n}/x")
        site.page(f"/{n}/x")
    first = crawl(tmp_path, report, settings(site, max_pages=25))
    again = crawl(tmp_path, Report("test", lambda line: None), settings(site, max_pages=25))
    assert [(p.uri, p.payload) for p in first] == [(p.uri, p.payload) for p in again]


def test_a_consumer_that_stops_ends_the_crawl_and_leaves_no_archive(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", "/a", "/b")
    site.page("/a")
    site.page("/b")
    with pytest.raises(RuntimeError), WarcWriter(tmp_path, "test") as archive:
        for _ in Crawl(settings(site), archive, report).events():
            raise RuntimeError("the disk is full")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_its_source_rejects_is_lost(site: Site, tmp_path: Path, report: Report) -> None:
    site.page("/", "/a", "/b")
    site.page("/a", text="Error")
    site.page("/b")
    reject = lambda response: "error page" if b"Error" in response.body else None  # noqa: E731
    assert paths(crawl(tmp_path, report, settings(site), reject=reject)) == ["", "b"]
    assert report.failed == {"error page": 1}


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ("http://127.0.0.1:9/", "a page that can be fetched, got http://127.0.0.1:9/: robots.txt"),
        ("mailto:a@b.example", "an http or https address, got mailto:a@b.example"),
        ("http://[half/", "an http or https address, got http://[half/"),
    ],
)
def test_a_seed_that_cannot_be_fetched_is_refused(
    site: Site, tmp_path: Path, report: Report, seed: str, message: str
) -> None:
    with pytest.raises(Refusal, match=re.escape(f"seeds[0] must be {message}")):
        crawl(tmp_path, report, settings(site, seeds=(seed,), allow_hosts=("127.0.0.1",)))
    assert list(tmp_path.iterdir()) == []


def test_a_seed_that_is_missing_or_forbidden_is_refused(
    site: Site, tmp_path: Path, report: Report
) -> None:
    message = f"seeds\\[0\\] must be a page that can be fetched, got {site.url}/: status 404"
    with pytest.raises(Refusal, match=message):
        crawl(tmp_path, report, settings(site))
    site.page("/")
    site.answers["/robots.txt"] = Answer(b"User-agent: *\nDisallow: /\n")
    with pytest.raises(Refusal, match=r"/: robots\.txt does not allow it"):
        crawl(tmp_path, report, settings(site))


def test_a_seed_that_leads_out_of_scope_is_refused(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.redirect("/", "http://elsewhere.example/")
    message = "got .*/ -> http://elsewhere.example/: it leads out of the scope"
    with pytest.raises(Refusal, match=message):
        crawl(tmp_path, report, settings(site))
    scope = Scope(prefixes=("http://elsewhere.example/",))
    with pytest.raises(Refusal, match=r"seeds\[0\] must begin with a prefix of the scope"):
        crawl(tmp_path, report, settings(site, scope=scope))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, "seeds"),
        ({"max_pages": 0}, "max_pages"),
        ({"delay_seconds": -1.0}, "delay_seconds"),
        ({"scope": {"exclude": ("(",)}}, "'\\(' must be a regular expression"),
        ({"pages": 3}, "pages"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    site: Site, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(site, **changes)


# Bounds of a scope -------------------------------------------------------------------------------


def test_only_included_pages_are_taken_besides_the_seeds(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", "/docs/a", "/blog/b", "/docs/tests")
    for path in ("/docs/a", "/blog/b", "/docs/tests"):
        site.page(path)
    scope = Scope(include=("^/docs/", "^/manual/"), exclude=("tests",))
    assert paths(crawl(tmp_path, report, settings(site, scope=scope))) == ["", "docs/a"]


def test_links_are_followed_as_deep_as_the_recipe_says(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", "/1", "/moved")
    site.redirect("/moved", "/new")
    site.page("/new", "/far")
    for depth in range(1, 5):
        site.page(f"/{depth}", f"/{depth + 1}")
    site.page("/far")
    assert paths(crawl(tmp_path, report, settings(site, max_depth=0))) == [""]
    found = crawl(tmp_path, Report("test", print), settings(site, max_depth=2))
    assert sorted(paths(found)) == ["", "1", "2", "far", "new"]


def test_no_host_gives_more_pages_than_the_recipe_says(
    site: Site, other_site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", f"{other_site.url}/a", *(f"/{n}" for n in range(20)))
    other_site.page("/a")
    for n in range(20):
        site.page(f"/{n}")
    config = settings(
        site,
        scope=Scope(prefixes=("http://127.0.0.1:",)),
        allow_hosts=(site.host, other_site.host),
        max_pages_per_host=3,
    )
    found = crawl(tmp_path, report, config)
    assert Counter(page.uri.rpartition("/")[0] for page in found) == {
        site.url: 3,
        other_site.url: 1,
    }
    assert report.skipped["max_pages_per_host"] == 18 and report.cut is None


# One page, several addresses ---------------------------------------------------------------------


def test_a_page_whose_canonical_address_lacks_its_query_is_taken_there(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.page("/", "/a?from=here", "/b?page=2", "/c?x")
    site.page("/a?from=here", "/linked", head='<link rel="canonical" href="/a">')
    site.page("/a", head='<link rel="canonical" href="/a">')
    site.page("/b?page=2", head='<link rel="canonical" href="/">')  # as if all were one page
    site.page("/c?x", head='<link rel="canonical" href="http://elsewhere.example/c">')
    site.page("/linked")
    found = paths(crawl(tmp_path, report, settings(site)))
    assert sorted(found) == ["", "a", "b?page=2", "c?x", "linked"]
    assert report.skipped == {"copy of its canonical address": 1}


def test_a_host_has_one_connection_whatever_the_scheme(tmp_path: Path, report: Report) -> None:
    assert host_of("http://example.com/a") == host_of("https://example.com/b")
    assert host_of("http://example.com:8080/") != host_of("http://example.com/")

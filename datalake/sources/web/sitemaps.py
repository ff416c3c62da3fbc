"""Sitemaps (sitemaps.org 0.9): XML, index files, lists of plain text; gzip or not.

The protocol lets a sitemap speak only for the folder that it lies in. Here the scope of the crawl
says which pages are wanted, whoever names them.
"""

import io

from datalake.sources.web.listing import MAX_BYTES, Listing, ListingError, Path, read_xml, unpacked

ROOTS = frozenset(("urlset", "sitemapindex"))

_MAX_STRAY_LINES = 1000  # of a list of text that are no address, more than those that are
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_sitemap(payload: bytes, url: str) -> Listing:
    """The pages, or the further sitemaps, that the sitemap at ``url`` names. Raises ListingError.

    At most 50,000 of them, from at most 50 MB; the extensions for images, videos and other
    languages name no pages here.
    """
    payload = unpacked(payload)
    if payload.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") or payload[:2] in _UTF_16:
        return _read_xml(payload, url)
    return _read_lines(payload, url)


def _read_lines(payload: bytes, url: str) -> Listing:
    listing = Listing()
    if len(payload) >= MAX_BYTES:  # it was cut there, perhaps within an address
        payload = payload[: payload.rfind(b"\n") + 1]
        listing.problem = "cut"
    for line in io.BytesIO(payload):
        text = line.decode("utf-8-sig", "replace").strip()
        if text.lower().startswith(("http://", "https://")):  # any word would do as a relative one
            listing.add(text, url, is_list=False)
        elif text:
            listing.num_unreadable += 1
            if listing.num_unreadable > len(listing.pages) + _MAX_STRAY_LINES:
                raise ListingError("no sitemap")
    if listing.num_unreadable > len(listing.pages):
        raise ListingError("no sitemap")
    return listing


def _read_xml(payload: bytes, url: str) -> Listing:
    listing = Listing()
    entry: dict[str, str] = {}

    def start(path: Path, _: dict[str, str]) -> None:
        if len(path) == 1 and path[0] not in ROOTS:
            raise ListingError("no sitemap")
        if len(path) == 2:
            entry.clear()

    def end(path: Path, text: str) -> None:
        # An image or a video has a ``loc`` too, one level deeper.
        if len(path) == 3:
            entry.setdefault(path[-1], text)
        elif len(path) == 2 and path[-1] in ("url", "sitemap") and "loc" in entry:
            is_list = path[-1] == "sitemap"
            listing.add(entry["loc"], url, entry.get("lastmod"), is_list=is_list)
            listing.is_index |= is_list

    listing.problem = read_xml(payload, start, end)
    if listing.problem and not (listing.pages or listing.lists):
        raise ListingError(listing.problem.partition(":")[0])
    return listing

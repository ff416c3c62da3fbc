"""Feeds: RSS 0.9x to 2.0, RSS 1.0 (RDF), Atom (RFC 4287), JSON Feed 1.

Of a feed its addresses are wanted: the pages of its entries, and the rest of a feed in parts
(RFC 5005, ``next_url`` of JSON Feed).
"""

import json
from collections import defaultdict
from typing import Any
from urllib.parse import urljoin

from datalake.sources.web.listing import Listing, ListingError, Path, read_xml, root_of, unpacked

ROOTS = frozenset(("rss", "RDF", "feed"))
_JSON_FEED = ("https://jsonfeed.org/version/", "http://jsonfeed.org/version/")
_FURTHER = ("next", "prev-archive")  # relations that lead to older entries, RFC 5005


def read_feed(payload: bytes, url: str) -> Listing:
    """The pages that the feed at ``url`` has entries for. Raises ListingError."""
    payload = unpacked(payload)
    if payload.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _read_json(payload, url)
    match root_of(payload):
        case "rss" | "RDF":
            listing = _read_rss(payload, url)
        case "feed":
            listing = _read_atom(payload, url)
        case _:
            raise ListingError("no feed")
    if listing.problem and not listing.pages:
        raise ListingError(listing.problem.partition(":")[0])
    return listing


def _read_rss(payload: bytes, url: str) -> Listing:
    """An item has a ``link``, else a ``guid`` that is one, else it is about one (RSS 1.0)."""
    listing = Listing()
    item: dict[str, str] = {}

    def start(path: Path, attributes: dict[str, str]) -> None:
        if path[-1] == "item":
            item.clear()
            if about := attributes.get("rdf:about"):
                item["about"] = about
        elif path[-1] == "guid" and attributes.get("isPermaLink", "true") == "true":
            item["is_permanent"] = "yes"
        elif _is_further(path, "channel", attributes):
            listing.add(attributes["href"], url, is_list=True)

    def end(path: Path, text: str) -> None:
        if path[-2:] == ["item", "link"] and text:  # one of Atom's has no text
            item.setdefault("link", text)
        elif path[-2:] == ["item", "guid"] and "is_permanent" in item:
            item["guid"] = text
        elif path[-1] == "item":
            link = item.get("link") or item.get("guid") or item.get("about")
            if link:
                listing.add(link, url, is_list=False)

    listing.problem = read_xml(payload, start, end)
    return listing


def _read_atom(payload: bytes, url: str) -> Listing:
    """An entry has a ``link`` to its page, which may be relative to an ``xml:base`` around it."""
    listing = Listing()
    bases = [url]  # of the open elements
    entry: dict[str, list[str]] = defaultdict(list)

    def start(path: Path, attributes: dict[str, str]) -> None:
        del bases[len(path) :]
        base = _joined(bases[-1], attributes.get("xml:base", ""))
        bases.append(base)
        if path[-1] == "entry":
            entry.clear()
        elif path[-2:] == ["entry", "link"] and attributes.get("rel", "alternate") == "alternate":
            is_page = "html" in attributes.get("type", "html")
            if href := attributes.get("href"):
                entry["page" if is_page else "other"].append(_joined(base, href))
        elif _is_further(path, "feed", attributes):
            listing.add(attributes["href"], base, is_list=True)

    def end(path: Path, text: str) -> None:
        if path[-2:] == ["entry", "updated"]:
            entry["updated"].append(text)
        elif path[-1] == "entry" and (links := entry["page"] or entry["other"]):
            listing.add(links[0], url, "".join(entry["updated"][:1]), is_list=False)

    listing.problem = read_xml(payload, start, end)
    return listing


def _read_json(payload: bytes, url: str) -> Listing:
    try:
        feed = json.loads(payload.decode("utf-8-sig", "replace"))
    except RecursionError:
        raise ListingError("nested too deep") from None
    except ValueError:
        raise ListingError("not well-formed") from None
    if not (_string(feed, "version") or "").startswith(_JSON_FEED):
        raise ListingError("no feed")
    listing = Listing()
    items = feed.get("items")
    for item in items if isinstance(items, list) else []:
        if link := _string(item, "url"):
            listing.add(link, url, _string(item, "date_modified"), is_list=False)
    if further := _string(feed, "next_url"):
        listing.add(further, url, is_list=True)
    return listing


def _is_further(path: Path, parent: str, attributes: dict[str, str]) -> bool:
    is_link = path[-2:] == [parent, "link"] and attributes.get("rel") in _FURTHER
    return is_link and "href" in attributes


def _joined(base: str, link: str) -> str:
    try:
        return urljoin(base, link.strip())
    except ValueError:
        return link


def _string(item: Any, key: str) -> str | None:
    found = item.get(key) if isinstance(item, dict) else None
    return found if isinstance(found, str) and found else None

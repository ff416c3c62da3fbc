"""What a page says to a crawler: where it leads, and what it asks."""

import re
from dataclasses import dataclass

from resiliparse.parse.html import HTMLTree

from datalake.sources.web.fetch import PRODUCT
from datalake.sources.web.urls import canonical, origin_of
from datalake.transforms.html_text import parse_page, select


@dataclass(frozen=True, slots=True)
class PageLinks:
    """Links of a page and its wishes, as they stand in its markup and its headers."""

    urls: list[str]  # canonical, in order, those not to be followed left out
    num_unreadable: int
    index: bool  # it may be kept
    copy_of: str | None  # the address without query that this page calls its own


def read_links(
    body: bytes, content_type: str | None, url: str, robots_headers: str = ""
) -> PageLinks:
    """The links of the page at ``url``; ``robots_headers`` is its X-Robots-Tag.

    Raises NestingError for markup that would take minutes to parse.
    """
    tree, _ = parse_page(body, content_type)
    wishes = _wishes(tree, robots_headers)
    base = _base(tree, url)
    urls: list[str] = []
    num_unreadable = 0
    anchors = [] if wishes & {"nofollow", "none"} else select(tree, "a[href], area[href]")
    for anchor in anchors:
        if "nofollow" in (anchor.getattr("rel") or "").lower():
            continue
        try:
            link = canonical(anchor.getattr("href") or "", base)
        except ValueError:
            num_unreadable += 1
            continue
        if link is not None:
            urls.append(link)
    index = not wishes & {"noindex", "none"}
    return PageLinks(urls, num_unreadable, index, _copy_of(tree, base, url))


def _base(tree: HTMLTree, page: str) -> str:
    """What the links of ``page`` are relative to."""
    elements = select(tree, "base[href]")[:1]
    try:
        return canonical("".join(e.getattr("href") or "" for e in elements), page) or page
    except ValueError:
        return page


def _wishes(tree: HTMLTree, headers: str) -> set[str]:
    """What a page asks of crawlers, in a meta element or a header, in lower case.

    A wish to a certain crawler, ``googlebot: noindex``, is taken as one to all.
    """
    metas = select(tree, "meta[name][content]")
    said = [m.getattr("content") or "" for m in metas if _is_robots(m.getattr("name"))]
    return set(re.split(r"[,;\s]+", " ".join([*said, headers]).lower()))


def _is_robots(name: str | None) -> bool:
    return (name or "").strip().lower() in ("robots", PRODUCT.lower())


def _copy_of(tree: HTMLTree, base: str, url: str) -> str | None:
    """The canonical link of a page with a query, where it is the same address without one.

    Nothing more of RFC 6596 is believed: many a site gives all its pages the canonical address of
    its front page, and pages that name each other would both be lost.
    """
    path, mark, _ = url.partition("?")
    if not mark:
        return None
    for link in select(tree, 'link[rel~="canonical"][href]')[:1]:
        try:
            found = canonical(link.getattr("href") or "", base)
        except ValueError:
            return None
        return found if found == path and origin_of(found) == origin_of(url) else None
    return None

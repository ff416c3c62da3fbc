"""The addresses that a crawl has met: which belong to it, and which wait at which host.

Breadth first at each host: what was met first is asked for first.
"""

import re
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from datalake.config import Refusal
from datalake.sources.report import Report
from datalake.sources.web.crawl import CrawlConfig
from datalake.sources.web.urls import canonical, origin_of

_MAX_KNOWN = 2_000_000  # addresses held, about 300 bytes each; a site can name any number of them


@dataclass(frozen=True, slots=True)
class Link:
    """One address that waits, and how the crawl came to it."""

    url: str
    seed: int | None = None  # the number of the seed that it is, or that redirected to it
    hops: int = 0  # redirects that led here
    depth: int = 0  # links that led here
    is_listing: bool = False
    nested: int = 0  # index files around a sitemap
    whole: bool = False  # ask without conditions


class Frontier:
    """Every link is added once; ``take`` gives those of one host in their order.

    Raises Refusal where a seed or a listing is no address, or a seed is out of scope.
    """

    def __init__(self, config: CrawlConfig, report: Report) -> None:
        self._config, self._report = config, report
        self._seen: set[str] = set()
        self._num_listings = 0
        self._waiting: dict[str, deque[Link]] = defaultdict(deque)  # by host
        scope = config.scope
        seeds, listings = self._addresses("seeds"), self._addresses("listings")
        firsts = seeds or listings
        self._prefixes = scope.prefixes or tuple(f"{origin_of(url)}/" for url in firsts)
        self._included = [re.compile(pattern) for pattern in scope.include]
        self._excluded = [re.compile(pattern) for pattern in scope.exclude]
        for number, url in enumerate(seeds):
            if not url.startswith(self._prefixes):
                raise Refusal(f"seeds[{number}] must begin with a prefix of the scope, got {url}")
            self.add(Link(url, seed=number))
        for url in listings:
            self.add_listing(Link(url, is_listing=True))

    def __len__(self) -> int:
        """How many links wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def hosts(self) -> list[str]:
        """Hosts at which a link waits, or a visit has not left yet."""
        return list(self._waiting)

    def take(self, host: str) -> Link | None:
        """The next link of ``host``, None if none waits."""
        links = self._waiting.get(host)
        return links.popleft() if links else None

    def leave(self, host: str) -> list[Link]:
        """Forget ``host``; returns what still waited there."""
        return list(self._waiting.pop(host, ()))

    def add(self, link: Link) -> None:
        """Let a page wait, if it belongs to the crawl and was not met before."""
        bound = self._config.max_depth
        if link.url in self._seen or (bound is not None and link.depth > bound):
            return
        if not self.holds(link.url) and link.seed is None:
            return
        if len(self._seen) >= _MAX_KNOWN:
            self._report.skip("too many addresses")
            return
        self._seen.add(link.url)
        self.add_again(link)

    def add_again(self, link: Link) -> None:
        """Let a link wait, although it was met before."""
        self._waiting[host_of(link.url)].append(link)

    def add_listing(self, link: Link) -> None:
        """Let a sitemap or a feed wait, wherever it lies, if it was not met before."""
        key = f"listing {link.url}"  # as a page it is another thing
        if key in self._seen:
            return
        if self._num_listings >= self._config.max_listings:
            self._report.skip("max_listings")
            return
        self._num_listings += 1
        self._seen.add(key)
        self.add_again(link)

    def holds(self, url: str) -> bool:
        """Whether ``url`` belongs to the crawl."""
        path = url[len(origin_of(url)) :]
        return (
            url.startswith(self._prefixes)
            and (not self._included or any(p.search(path) for p in self._included))
            and not any(p.search(path) for p in self._excluded)
        )

    def _addresses(self, name: Literal["seeds", "listings"]) -> list[str]:
        urls = []
        for number, said in enumerate(getattr(self._config, name)):
            try:
                url = canonical(said)
            except ValueError:
                url = None
            if url is None:
                raise Refusal(f"{name}[{number}] must be an http or https address, got {said}")
            urls.append(url)
        return urls


def host_of(url: str) -> str:
    """What one connection at a time is meant for: a host, and a port that is not the usual one."""
    return urlsplit(url).netloc

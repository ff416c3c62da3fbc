"""A polite crawl, breadth first, bounded by pages and bytes.

One connection a host, the delay that the site asks for, robots.txt before everything else. A link
costs at most itself: one that cannot be read, is refused or fails is counted, and the crawl goes
on. A redirect is a link like any other, so scope, robots.txt and the check of addresses hold for
it too, and a loop of redirects ends at the first page already seen. So is an address that a
sitemap or a feed names.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from resiliparse.parse.encoding import detect_mime

from datalake.config import Refusal
from datalake.licences import Finding
from datalake.sources.record import payload_digest
from datalake.sources.report import Report
from datalake.sources.source import Event, Gone, Place, Previous, Record, Unchanged
from datalake.sources.warcs.capture import HTML_TYPES
from datalake.sources.warcs.writer import WarcWriter
from datalake.sources.web.crawl import CrawlConfig
from datalake.sources.web.discovery import LISTING_TYPES, is_listing, read_listing
from datalake.sources.web.fetch import Client, FetchError, Response
from datalake.sources.web.frontier import Frontier, Link, host_of
from datalake.sources.web.known_pages import KnownPage, KnownPages
from datalake.sources.web.listing import MAX_BYTES, ListingError
from datalake.sources.web.page_links import PageLinks, read_links
from datalake.sources.web.robots import Robots, Rules
from datalake.sources.web.urls import canonical, origin_of
from datalake.transforms.html_text import NestingError

_MAX_HOSTS = 16  # visited at the same time
_MAX_UNTAKEN = 8  # pages fetched and not yet taken
_MAX_NESTED = 3  # index files around a sitemap; sitemaps.org allows one
_RETRIES = 2
_RETRY_SECONDS = 1.0  # doubled each time; what Retry-After says goes first, up to a minute
_MAX_RETRY_SECONDS = 60.0
_PASSING = frozenset(("timeout", "no connection", "disconnect"))
_BUSY = frozenset((429, 502, 503, 504))
_GONE = frozenset((404, 410))
_MOVED = frozenset((301, 308))  # for good
_GIVE_UP_AFTER = 5  # passing failures of one host in a row


@dataclass(frozen=True, slots=True)
class _Fetched:
    link: Link
    response: Response | None  # None where a sitemap says that nothing changed


@dataclass(frozen=True, slots=True)
class _Left:
    """A visit of a host is over: nothing is waiting there, or it failed."""

    host: str
    error: Exception | None


@dataclass
class Crawl:
    """One crawl. ``events()`` yields each page as it was written to the archive.

    ``connect`` sends a canonical host to a local address. ``reject`` may say why a page of status
    200 is none. ``previous`` is what earlier crawls left, ``licence`` holds for every page.
    """

    config: CrawlConfig
    archive: WarcWriter
    report: Report
    connect: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    reject: Callable[[Response], str | None] = lambda response: None
    previous: Previous | None = None
    licence: Finding | None = None

    def events(self) -> Iterator[Event]:
        """Crawl, and yield what was found in the order of its fetching.

        Between two pages the loop stands still, so a slow consumer slows the crawl and nothing
        piles up. Raises Refusal where a seed is no address, out of scope or cannot be fetched, and
        where there are listings alone and no page comes of them.
        """
        self._client = Client(
            limits=self.config.limits,
            allow=self.config.allow_hosts,
            connect=self.connect,
            contact=self.config.contact,
        )
        self._robots = Robots(self._client)
        self._known = KnownPages(self.previous)
        self._frontier = Frontier(self.config, self.report)
        self._num_pages = self._num_bytes = 0  # so far, unchanged ones too
        self._num_pages_of: Counter[str] = Counter()  # by host
        self._asked_last = False  # pages that nothing leads to are waiting or were asked for
        self._mapped: set[str] = set()  # origins whose sitemaps were noted
        self._modified: dict[str, datetime] = {}  # when a listing says that a page changed
        self._visits: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, float] = {}  # when the last request to a host ended
        self._events: asyncio.Queue[_Fetched | _Left] = asyncio.Queue(_MAX_UNTAKEN)
        with asyncio.Runner() as runner:
            runner.run(self._client.open())
            try:
                while (event := runner.run(self._next_event())) is not None:
                    yield event
            finally:
                runner.run(self._stop())
        if not self.config.seeds and not self._num_pages:
            rule = "sitemaps or feeds that name a page that can be fetched"
            raise Refusal(f"listings must be {rule}, got {', '.join(self.config.listings)}")

    async def _next_event(self) -> Event | None:
        while self.report.cut is None:
            for host in self._frontier.hosts:
                if host not in self._visits and len(self._visits) < _MAX_HOSTS:
                    self._visits[host] = asyncio.create_task(self._visit(host))
            if not self._visits:
                if not self._add_forgotten():
                    return None
                continue
            event = await self._events.get()
            if isinstance(event, _Left):
                del self._visits[event.host]
                if event.error is not None:
                    raise event.error
            elif (found := self._take(event.link, event.response)) is not None:
                return found
        return None

    async def _stop(self) -> None:
        for visit in self._visits.values():
            visit.cancel()
        await asyncio.gather(*self._visits.values(), return_exceptions=True)
        await self._client.close()

    # What is fetched -----------------------------------------------------------------------------

    async def _visit(self, host: str) -> None:
        """Fetch what is waiting at one host, one after the other."""
        error: Exception | None = None
        try:
            failures = 0
            while (link := self._frontier.take(host)) is not None:
                if self._is_full(host) and not link.is_listing:
                    self.report.skip("max_pages_per_host")
                    continue
                try:
                    fetched = await self._fetch(host, link)
                except FetchError as lost:
                    self._lose(link, lost.reason, str(lost))
                    failures = failures + 1 if lost.reason in _PASSING else 0
                    if failures >= _GIVE_UP_AFTER:
                        if left := self._frontier.leave(host):
                            self.report.fail("host gave no answer", left[0].url, len(left))
                        break
                    continue
                failures = 0
                if fetched is not None:
                    await self._events.put(fetched)
        except Exception as unexpected:
            error = unexpected
        self._frontier.leave(host)
        await self._events.put(_Left(host, error))

    async def _fetch(self, host: str, link: Link) -> _Fetched | None:
        """The response to ``link``, after the waits that the site asks for; None if it forbids."""
        rules = await self._robots.rules(link.url)
        self._add_sitemaps(link, rules)
        if not rules.allow(link.url):
            if rules.verdict == "unreachable":
                self._lose(link, "robots.txt unreachable", f"robots.txt unreachable: {rules.why}")
            elif link.seed is not None:
                self._lose(link, "robots.txt", "robots.txt does not allow it")
            else:
                self.report.skip("robots.txt")
            return None
        known = None if link.is_listing or link.whole else self._known.get(link.url)
        if known is not None and self._is_fresh(known):
            return _Fetched(link, None)
        delay = max(self.config.delay_seconds, rules.delay_seconds)
        for trial in range(_RETRIES + 1):
            await self._wait(self._last.get(host, -delay) + delay)
            try:
                response = await self._request(link, known)
                if response.status not in _BUSY or trial == _RETRIES:
                    return _Fetched(link, response)
                pause = _retry_after(response) or _RETRY_SECONDS * 2**trial
            except FetchError as error:
                if error.reason not in _PASSING or trial == _RETRIES:
                    raise
                pause = _RETRY_SECONDS * 2**trial
            finally:
                self._last[host] = asyncio.get_running_loop().time()
            await asyncio.sleep(min(pause, _MAX_RETRY_SECONDS))
        raise AssertionError("the last trial returns or raises")

    async def _request(self, link: Link, known: KnownPage | None) -> Response:
        if link.is_listing:
            return await self._client.get(link.url, max_bytes=MAX_BYTES)
        media_types: Collection[str] = HTML_TYPES
        if link.seed is not None:
            media_types = HTML_TYPES | LISTING_TYPES
        return await self._client.get(
            link.url, media_types, headers=known.conditions if known else None
        )

    async def _wait(self, until: float) -> None:
        await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))

    def _is_fresh(self, known: KnownPage) -> bool:
        """Whether a sitemap says that a page did not change since it was captured."""
        modified_at = self._modified.get(known.uri) if self.config.trust_lastmod else None
        return modified_at is not None and modified_at < known.fetched_at and known.is_there

    def _is_full(self, host: str) -> bool:
        bound = self.config.max_pages_per_host
        return bound is not None and self._num_pages_of[host] >= bound

    # What is kept --------------------------------------------------------------------------------

    def _take(self, link: Link, response: Response | None) -> Event | None:
        """Keep a page and note its links; None if it is no page, which is then counted."""
        if response is None:
            return self._take_unchanged(link, None)
        if response.redirect is not None:
            return self._follow(link, response.redirect, response.status)
        if link.is_listing or (link.seed is not None and is_listing(response)):
            self._take_listing(link, response)
            return None
        known = self._known.get(link.url)
        if response.status == 304 and known is not None:
            return self._take_unchanged(link, response)
        if response.status in _GONE and known is not None and link.seed is None:
            return Gone(link.url)
        if (reason := self._no_page(response)) is not None:
            self._lose(link, reason, reason)
            return None
        if (reason := self.reject(response)) is not None:
            if known is not None and link.seed is None:
                return Gone(link.url)
            self._lose(link, reason, reason)
            return None
        content_type = response.header("Content-Type")
        try:
            links = read_links(response.body, content_type, response.url, _wishes(response))
        except NestingError as error:
            self._lose(link, "nested too deep", str(error))
            return None
        self._add_links(link, links)
        if (reason := self._not_to_keep(links)) is not None:
            self.report.skip(reason)
            return Gone(link.url) if known is not None else None
        if not self._count(link, len(response.body)):
            return None
        if known is not None and known.payload_digest == payload_digest(response.body):
            self.archive.write_revisit(response, known.fetched_at)
            return Unchanged(link.url)
        self.report.keep(len(response.body), len(self._frontier))
        return self._record(response)

    def _take_unchanged(self, link: Link, response: Response | None) -> Event | None:
        """Go on with the links of a page as it was; ``response`` says that it is so still."""
        known = self._known.get(link.url)
        assert known is not None
        try:
            body, content_type, robots_headers = known.read()
            robots_headers += ", " + (_wishes(response) if response else "")
            links = read_links(body, content_type, link.url, robots_headers)
        except (OSError, NestingError) as error:
            self.report.damage(f"{known.archive}: record at byte {known.offset}: {error}")
            self._frontier.add_again(replace(link, whole=True))
            return None
        self._add_links(link, links)
        if (reason := self._not_to_keep(links)) is not None:
            self.report.skip(reason)
            return Gone(link.url)
        if not self._count(link, len(body)):
            return None
        if response is not None:
            self.archive.write_revisit(response, known.fetched_at)
        return Unchanged(link.url)

    def _not_to_keep(self, links: PageLinks) -> str | None:
        """Why a page is not to be kept by its own word, or None."""
        if not links.index:
            return "noindex"
        is_copy = links.copy_of is not None and self._frontier.holds(links.copy_of)
        return "copy of its canonical address" if is_copy else None

    def _count(self, link: Link, num_bytes: int) -> bool:
        """Whether there is room for one more page; if there is none at all, the crawl is cut."""
        if self._is_full(host_of(link.url)):
            self.report.skip("max_pages_per_host")
        elif self._num_pages >= self.config.max_pages:
            self.report.cut = f"max_pages {self.config.max_pages}"
        elif self._num_bytes + num_bytes > self.config.max_bytes:
            self.report.cut = f"max_bytes {self.config.max_bytes}"
        else:
            self._num_pages += 1
            self._num_bytes += num_bytes
            self._num_pages_of[host_of(link.url)] += 1
            return True
        return False

    def _record(self, response: Response) -> Record:
        capture = self.archive.write(response)
        return Record(
            uri=capture.url,
            payload=capture.payload,
            place=Place(archive=capture.archive, offset=capture.offset, length=capture.length),
            fetched_at=capture.fetched_at,
            content_type=capture.content_type,
            licence=self.licence,
            own={
                "http_status": capture.status,
                "truncated": capture.truncated,
                "etag": response.header("ETag"),
                "last_modified": response.header("Last-Modified"),
            },
        )

    def _no_page(self, response: Response) -> str | None:
        """Why ``response`` is no page, or None if it is one."""
        if response.status != 200:
            return f"status {response.status}"
        media_type = response.media_type or detect_mime(response.body)
        return None if media_type in HTML_TYPES else f"type {media_type}"

    def _lose(self, link: Link, reason: str, detail: str) -> None:
        if link.seed is not None:
            seed = self.config.seeds[link.seed]
            where = "" if link.hops == 0 else f" -> {link.url}"
            rule = "a page that can be fetched"
            raise Refusal(f"seeds[{link.seed}] must be {rule}, got {seed}{where}: {detail}")
        reason = f"listing: {reason}" if link.is_listing else reason
        self.report.fail(reason, f"{link.url} {detail}" if detail != reason else link.url)

    # Sitemaps and feeds --------------------------------------------------------------------------

    def _take_listing(self, link: Link, response: Response) -> None:
        if response.truncated and not link.is_listing:  # cut as a page would be
            self._frontier.add_listing(Link(link.url, hops=link.hops, is_listing=True))
            return
        try:
            if response.status != 200:
                raise ListingError(f"status {response.status}")
            listing = read_listing(response.body, response.url)
        except ListingError as error:
            self._lose(link, str(error), str(error))
            return
        self.report.skip("listing: unreadable address", listing.num_unreadable)
        self.report.skip("listing: too many addresses", listing.num_left_out)
        problem = "cut" if response.truncated else listing.problem
        if problem is not None:
            self.report.damage(f"{link.url}: {problem}; what stands before it was read")
        for entry in listing.pages:
            self._frontier.add(Link(entry.url))
            if entry.modified_at is not None and entry.url in self._known:
                self._modified[entry.url] = entry.modified_at
        for entry in listing.lists:
            nested = link.nested + listing.is_index
            if nested > _MAX_NESTED:
                self.report.skip("listing: nested too deep")
            else:
                self._frontier.add_listing(Link(entry.url, is_listing=True, nested=nested))

    def _add_sitemaps(self, link: Link, rules: Rules) -> None:
        """Note the sitemaps that the robots.txt of a site in scope names."""
        origin = origin_of(link.url)
        if not self.config.sitemaps or link.is_listing or origin in self._mapped:
            return
        self._mapped.add(origin)
        for said in rules.sitemaps:
            try:
                url = canonical(said, f"{origin}/")
            except ValueError:
                url = None
            if url is None:
                self.report.skip("listing: unreadable address")
            else:
                self._frontier.add_listing(Link(url, is_listing=True))

    # Links ---------------------------------------------------------------------------------------

    def _add_links(self, link: Link, links: PageLinks) -> None:
        self.report.skip("unreadable link", links.num_unreadable)
        if links.copy_of is not None:
            self._frontier.add(Link(links.copy_of, depth=link.depth))
        for url in links.urls:
            self._frontier.add(Link(url, depth=link.depth + 1))

    def _add_forgotten(self) -> bool:
        """Add, once, the pages of earlier crawls that nothing led to: they may be gone."""
        if not self._asked_last:
            self._asked_last = True
            for url in self._known:
                self._frontier.add(Link(url))
        return bool(self._frontier.hosts)

    def _follow(self, link: Link, url: str, status: int) -> Event | None:
        target = replace(link, url=url, hops=link.hops + 1)
        if target.hops > self.config.limits.max_redirects:
            self._lose(target, "redirects", f"more than {self.config.limits.max_redirects}")
        elif link.is_listing:
            self._frontier.add_listing(target)
        elif not self._frontier.holds(url):
            if link.seed is not None:
                self._lose(target, "scope", "it leads out of the scope")
            self.report.skip("redirect out of scope")
        else:
            self._frontier.add(target)
            if status in _MOVED and url != link.url and link.url in self._known:
                return Gone(link.url)
        return None


def _wishes(response: Response) -> str:
    """What its headers ask of crawlers."""
    return ", ".join(v for k, v in response.headers if k.lower() == "x-robots-tag")


def _retry_after(response: Response) -> float | None:
    """Seconds that the server asks for, or None; dates are rare, and none is None."""
    value = (response.header("Retry-After") or "").strip()
    return float(value) if value.isdigit() else None

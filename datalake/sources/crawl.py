"""A polite crawl, breadth first, bounded by pages and bytes.

One connection a host, the delay that the site asks for, robots.txt before everything else. A link
costs at most itself: one that cannot be read, is refused or fails is counted, and the crawl goes
on. A redirect is a link like any other, so scope, robots.txt and the check of addresses hold for
it too, and a loop of redirects ends at the first page already seen.
"""

import asyncio
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, field_validator
from resiliparse.parse.encoding import detect_mime
from resiliparse.parse.html import HTMLTree

from datalake.config import Config, Refusal
from datalake.sources.fetch import PRODUCT, Client, FetchError, Limits, Response
from datalake.sources.report import Report
from datalake.sources.robots import Robots
from datalake.sources.urls import canonical, origin_of
from datalake.sources.warc import HTML_TYPES, Capture, WarcWriter
from datalake.transforms.html_text import NestingError, parse_page, select

_MAX_HOSTS = 16  # visited at the same time
_MAX_UNTAKEN = 8  # pages fetched and not yet taken
_RETRIES = 2
_RETRY_SECONDS = 1.0  # doubled each time; what Retry-After says goes first, up to a minute
_MAX_RETRY_SECONDS = 60.0
_PASSING = frozenset(("timeout", "no connection", "disconnect"))
_BUSY = frozenset((429, 502, 503, 504))
_GIVE_UP_AFTER = 5  # passing failures of one host in a row


class Scope(Config):
    """Which addresses belong to a crawl."""

    prefixes: tuple[str, ...] = ()  # of canonical addresses; none means the hosts of the seeds
    exclude: tuple[str, ...] = ()  # regular expressions, searched in path and query

    @field_validator("exclude")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise Refusal(f"{pattern!r} must be a regular expression, got {error}") from None
        return patterns


class CrawlConfig(Config):
    """Web sites to crawl from their seeds."""

    kind: Literal["crawl"] = "crawl"
    seeds: tuple[str, ...] = Field(min_length=1)
    scope: Scope = Scope()
    max_pages: int = Field(gt=0)
    max_bytes: int = Field(gt=0)  # of all pages together
    delay_seconds: float = Field(1.0, ge=0)  # Heritrix and Nutch wait 1 to 5 s for one host
    contact: str | None = None  # address of a page or mailbox that a site's owner can write to
    licence: str | None = None  # SPDX expression, where one holds for every page
    allow_hosts: tuple[str, ...] = ()  # hosts that may have a private address
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class _Link:
    url: str
    seed: int | None = None  # the number of the seed that it is, or that redirected to it
    hops: int = 0  # redirects that led here


@dataclass(frozen=True, slots=True)
class _Fetched:
    link: _Link
    response: Response


@dataclass(frozen=True, slots=True)
class _Left:
    """A visit of a host is over: nothing is waiting there, or it failed."""

    host: str
    error: Exception | None


@dataclass
class Crawl:
    """One crawl. ``pages()`` yields each page as it was written to the archive.

    ``connect`` sends a canonical host to a local address. ``reject`` may say why a page of status
    200 is none.
    """

    config: CrawlConfig
    archive: WarcWriter
    report: Report
    connect: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    reject: Callable[[Response], str | None] = lambda response: None

    def pages(self) -> Iterator[Capture]:
        """Crawl, and yield pages in the order of their fetching.

        Between two pages the loop stands still, so a slow consumer slows the crawl and nothing
        piles up. Raises Refusal where a seed is no address, out of scope or cannot be fetched.
        """
        self._client = Client(
            limits=self.config.limits,
            allow=self.config.allow_hosts,
            connect=self.connect,
            contact=self.config.contact,
        )
        self._robots = Robots(self._client)
        self._prefixes, self._excluded = self._scope()
        self._seen: set[str] = set()
        self._waiting: dict[str, deque[_Link]] = defaultdict(deque)  # by origin
        self._visits: dict[str, asyncio.Task[None]] = {}
        self._last: dict[str, float] = {}  # when the last request to an origin ended
        self._events: asyncio.Queue[_Fetched | _Left] = asyncio.Queue(_MAX_UNTAKEN)
        for number, url in enumerate(self._seeds()):
            self._add(_Link(url, seed=number))
        with asyncio.Runner() as runner:
            runner.run(self._client.open())
            try:
                while (page := runner.run(self._next_page())) is not None:
                    yield page
            finally:
                runner.run(self._stop())

    async def _next_page(self) -> Capture | None:
        while self.report.cut is None:
            for origin in list(self._waiting):
                if origin not in self._visits and len(self._visits) < _MAX_HOSTS:
                    self._visits[origin] = asyncio.create_task(self._visit(origin))
            if not self._visits:
                return None
            event = await self._events.get()
            if isinstance(event, _Left):
                del self._visits[event.host]
                if event.error is not None:
                    raise event.error
            elif (page := self._take(event.link, event.response)) is not None:
                return page
        return None

    async def _stop(self) -> None:
        for visit in self._visits.values():
            visit.cancel()
        await asyncio.gather(*self._visits.values(), return_exceptions=True)
        await self._client.close()

    # What is fetched -----------------------------------------------------------------------------

    async def _visit(self, origin: str) -> None:
        """Fetch what is waiting at one origin, one after the other."""
        error: Exception | None = None
        try:
            failures = 0
            while links := self._waiting.get(origin):
                link = links.popleft()
                try:
                    response = await self._fetch(origin, link)
                except FetchError as lost:
                    self._lose(link, lost.reason, str(lost))
                    failures = failures + 1 if lost.reason in _PASSING else 0
                    if failures >= _GIVE_UP_AFTER and links:
                        self.report.fail("host gave no answer", links[0].url, len(links))
                        links.clear()
                    continue
                failures = 0
                if response is not None:
                    await self._events.put(_Fetched(link, response))
        except Exception as unexpected:
            error = unexpected
        self._waiting.pop(origin, None)
        await self._events.put(_Left(origin, error))

    async def _fetch(self, origin: str, link: _Link) -> Response | None:
        """The response to ``link``, after the waits that the site asks for; None if it forbids."""
        rules = await self._robots.rules(link.url)
        if not rules.allow(link.url):
            if rules.verdict == "unreachable":
                self._lose(link, "robots.txt unreachable", f"robots.txt unreachable: {rules.why}")
            elif link.seed is not None:
                self._lose(link, "robots.txt", "robots.txt does not allow it")
            else:
                self.report.skip("robots.txt")
            return None
        delay = max(self.config.delay_seconds, rules.delay_seconds)
        for trial in range(_RETRIES + 1):
            await self._wait(self._last.get(origin, -delay) + delay)
            try:
                response = await self._client.get(link.url, HTML_TYPES)
                if response.status not in _BUSY or trial == _RETRIES:
                    return response
                pause = _retry_after(response) or _RETRY_SECONDS * 2**trial
            except FetchError as error:
                if error.reason not in _PASSING or trial == _RETRIES:
                    raise
                pause = _RETRY_SECONDS * 2**trial
            finally:
                self._last[origin] = asyncio.get_running_loop().time()
            await asyncio.sleep(min(pause, _MAX_RETRY_SECONDS))
        raise AssertionError("the last trial returns or raises")

    async def _wait(self, until: float) -> None:
        await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))

    # What is kept --------------------------------------------------------------------------------

    def _take(self, link: _Link, response: Response) -> Capture | None:
        """Keep a page and note its links; None if it is no page, which is then counted."""
        if response.redirect is not None:
            self._follow(link, response.redirect)
            return None
        if (reason := self._no_page(response)) is not None:
            self._lose(link, reason, reason)
            return None
        try:
            tree, _ = parse_page(response.body, response.header("Content-Type"))
        except NestingError as error:
            self._lose(link, "nested too deep", str(error))
            return None
        wishes = _robots_wishes(tree, response)
        if "nofollow" not in wishes:
            self._add_links(tree, response.url)
        if "noindex" in wishes:
            self.report.skip("noindex")
            return None
        if self.report.rows >= self.config.max_pages:
            self.report.cut = f"max_pages {self.config.max_pages}"
            return None
        if self.report.num_bytes + len(response.body) > self.config.max_bytes:
            self.report.cut = f"max_bytes {self.config.max_bytes}"
            return None
        self.report.keep(len(response.body), sum(map(len, self._waiting.values())))
        return self.archive.write(response)

    def _no_page(self, response: Response) -> str | None:
        """Why ``response`` is no page, or None if it is one."""
        if response.status != 200:
            return f"status {response.status}"
        media_type = response.media_type or detect_mime(response.body)
        if media_type not in HTML_TYPES:
            return f"type {media_type}"
        return self.reject(response)

    def _lose(self, link: _Link, reason: str, detail: str) -> None:
        if link.seed is not None:
            seed = self.config.seeds[link.seed]
            where = "" if link.hops == 0 else f" -> {link.url}"
            rule = "a page that can be fetched"
            raise Refusal(f"seeds[{link.seed}] must be {rule}, got {seed}{where}: {detail}")
        self.report.fail(reason, f"{link.url} {detail}" if detail != reason else link.url)

    # Links ---------------------------------------------------------------------------------------

    def _add_links(self, tree: HTMLTree, page: str) -> None:
        base = _base(tree, page)
        for anchor in select(tree, "a[href], area[href]"):
            if "nofollow" in (anchor.getattr("rel") or "").lower():
                continue
            try:
                url = canonical(anchor.getattr("href") or "", base)
            except ValueError:
                self.report.skip("unreadable link")
                continue
            if url is not None:
                self._add(_Link(url))

    def _add(self, link: _Link) -> None:
        if link.url not in self._seen and self._inside(link.url):
            self._seen.add(link.url)
            self._waiting[origin_of(link.url)].append(link)

    def _follow(self, link: _Link, url: str) -> None:
        target = _Link(url, link.seed, link.hops + 1)
        if target.hops > self.config.limits.max_redirects:
            self._lose(target, "redirects", f"more than {self.config.limits.max_redirects}")
        elif not self._inside(url):
            if link.seed is not None:
                self._lose(target, "scope", "it leads out of the scope")
            self.report.skip("redirect out of scope")
        else:
            self._add(target)

    def _inside(self, url: str) -> bool:
        path = url[len(origin_of(url)) :]
        return url.startswith(self._prefixes) and not any(p.search(path) for p in self._excluded)

    def _seeds(self) -> list[str]:
        urls = []
        for number, seed in enumerate(self.config.seeds):
            try:
                url = canonical(seed)
            except ValueError:
                url = None
            if url is None:
                raise Refusal(f"seeds[{number}] must be an http or https address, got {seed}")
            urls.append(url)
        return urls

    def _scope(self) -> tuple[tuple[str, ...], list[re.Pattern[str]]]:
        scope = self.config.scope
        prefixes = scope.prefixes or tuple(f"{origin_of(url)}/" for url in self._seeds())
        for number, url in enumerate(self._seeds()):
            if not url.startswith(prefixes):
                raise Refusal(f"seeds[{number}] must begin with a prefix of the scope, got {url}")
        return prefixes, [re.compile(pattern) for pattern in scope.exclude]


def _base(tree: HTMLTree, page: str) -> str:
    """What the links of ``page`` are relative to."""
    elements = select(tree, "base[href]")[:1]
    try:
        return canonical("".join(e.getattr("href") or "" for e in elements), page) or page
    except ValueError:
        return page


def _robots_wishes(tree: HTMLTree, response: Response) -> str:
    """What a page itself asks of crawlers, in a meta element or a header, in lower case."""
    metas = select(tree, "meta[name][content]")
    wishes = [m.getattr("content") or "" for m in metas if _is_robots(m.getattr("name"))]
    return " ".join([*wishes, response.header("X-Robots-Tag") or ""]).lower()


def _is_robots(name: str | None) -> bool:
    return (name or "").strip().lower() in ("robots", PRODUCT.lower())


def _retry_after(response: Response) -> float | None:
    """Seconds that the server asks for, or None; dates are rare, and none is None."""
    value = (response.header("Retry-After") or "").strip()
    return float(value) if value.isdigit() else None

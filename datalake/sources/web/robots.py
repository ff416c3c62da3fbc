"""What a site asks of crawlers: robots.txt after RFC 9309, with the Crawl-delay of its extension.

Unavailable (4xx) means anything may be fetched; unreachable (5xx, 429, no answer) means nothing
may (RFC 9309, 2.3.1). A site that answers every path with an HTML page, ``/robots.txt`` too, has
no such file.
"""

import time
from dataclasses import dataclass
from typing import Literal

from protego import Protego

from datalake.sources.web.fetch import PRODUCT, Client, FetchError, Response
from datalake.sources.web.urls import origin_of

MAX_BYTES = 500 * 1024  # RFC 9309, 2.5: parse at least 500 KiB
MAX_AGE_SECONDS = 24 * 3600.0  # RFC 9309, 2.4
MAX_DELAY_SECONDS = 60.0  # Crawl-delay is no standard; a larger wish would stop the crawl


@dataclass(frozen=True, slots=True)
class Rules:
    """What one origin lets us do, and how long we wait between two requests."""

    verdict: Literal["file", "none", "unavailable", "unreachable"]
    parsed: Protego | None = None
    why: str = ""  # it is unreachable

    def allow(self, url: str) -> bool:
        """Whether ``url`` may be fetched. The longest matching rule wins, allow wins a tie.

        A slash in a query is the same escaped and not (RFC 9309, 2.2.2), which the parser does not
        know: what is forbidden in one spelling is forbidden in both.
        """
        if self.verdict == "unreachable":
            return False
        parsed = self.parsed
        return parsed is None or all(parsed.can_fetch(u, PRODUCT) for u in _spellings(url))

    @property
    def delay_seconds(self) -> float:
        asked = self.parsed.crawl_delay(PRODUCT) if self.parsed else None
        return min(max(asked or 0.0, 0.0), MAX_DELAY_SECONDS)

    @property
    def sitemaps(self) -> list[str]:
        """What the file says after ``Sitemap:``, as it stands there."""
        return list(self.parsed.sitemaps) if self.parsed else []


def _spellings(url: str) -> set[str]:
    path, mark, query = url.partition("?")
    plain = query.replace("%2F", "/")
    return {url, path + mark + plain, path + mark + plain.replace("/", "%2F")}


class Robots:
    """The rules of every origin, fetched once a day."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, tuple[float, Rules]] = {}

    async def rules(self, url: str) -> Rules:
        """The rules for the origin of ``url``."""
        origin = origin_of(url)
        known = self._known.get(origin)
        if known is None or time.monotonic() - known[0] > MAX_AGE_SECONDS:
            known = time.monotonic(), await self._fetch(origin)
            self._known[origin] = known
        return known[1]

    async def _fetch(self, origin: str) -> Rules:
        try:
            return read_rules(await self._client.fetch(f"{origin}/robots.txt", MAX_BYTES))
        except FetchError as error:
            # Too many redirects count as a missing file (2.3.1.2), all else as no answer.
            if error.reason == "redirects":
                return Rules("unavailable")
            return Rules("unreachable", why=str(error))


def read_rules(response: Response) -> Rules:
    """Rules from the answer to ``/robots.txt``."""
    if response.status == 429 or response.status >= 500:  # 429 asks for less, not for more
        return Rules("unreachable", why=f"status {response.status}")
    if response.status >= 400:
        return Rules("unavailable")
    body = response.body
    if response.truncated:
        body = body[: body.rfind(b"\n") + 1]  # half a rule could forbid or allow too much
    text = body.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if text.startswith("<"):
        return Rules("none")
    return Rules("file", Protego.parse(text))

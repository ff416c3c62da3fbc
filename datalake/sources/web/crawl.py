"""Web sites as a source: where a crawl begins, what belongs to it, and what it may cost.

A refresh asks for what an earlier crawl left by its validators (RFC 9110, 13.1), last of all also
for pages that no link leads to any more, and keeps what changed. ``crawler`` does the work.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from datalake.config import Config, Refusal
from datalake.licences import by_recipe
from datalake.sources.source import Event, Piece, Place, Refresh, SourceConfig
from datalake.sources.warcs.writer import WarcWriter, read_back
from datalake.sources.web.fetch import Limits


class Scope(Config):
    """Which addresses belong to a crawl. Seeds always do."""

    prefixes: tuple[str, ...] = ()  # of canonical addresses; none means the hosts of the seeds
    include: tuple[str, ...] = ()  # regular expressions; one must be found in path and query
    exclude: tuple[str, ...] = ()  # regular expressions; none may be found in path and query

    @field_validator("include", "exclude")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise Refusal(f"{pattern!r} must be a regular expression, got {error}") from None
        return patterns


class CrawlConfig(SourceConfig):
    """Web sites to crawl from their seeds."""

    table: ClassVar[str] = "raw/web"
    complete: ClassVar[bool] = False  # what it did not reach may well be there
    in_driver: ClassVar[bool] = True

    kind: Literal["crawl"] = "crawl"
    seeds: tuple[str, ...] = ()  # pages to begin with, or sitemaps and feeds: told by what comes
    listings: tuple[str, ...] = ()  # sitemaps and feeds, which may lie outside the scope
    sitemaps: bool = False  # read those too that robots.txt names
    max_listings: int = Field(default=1000, gt=0)  # files, of up to 50,000 addresses each
    trust_lastmod: bool = False  # do not ask for a page that a sitemap dates before our capture
    scope: Scope = Scope()
    max_pages: int = Field(gt=0)
    max_bytes: int = Field(gt=0)  # of all pages together
    max_depth: int | None = Field(default=None, ge=0)  # links from a seed or a listing
    max_pages_per_host: int | None = Field(default=None, gt=0)
    delay_seconds: float = Field(default=1.0, ge=0)  # Heritrix and Nutch wait 1 to 5 s for one host
    contact: str | None = None  # address of a page or mailbox that a site's owner can write to
    allow_hosts: tuple[str, ...] = ()  # hosts that may have a private address
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Self:
        if not self.seeds and not self.listings:
            raise Refusal("seeds must name a page, or listings a sitemap or feed, got none")
        return self

    def pieces(self, refresh: Refresh) -> list[Piece]:
        first = (self.seeds + self.listings)[0]
        return [Piece(name=refresh.origin, uri=first, num_bytes=self.max_bytes)]

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        from datalake.sources.web.crawler import Crawl

        licence = by_recipe(self.licence)
        with WarcWriter(refresh.folder("archives"), archive_name(refresh.origin)) as archive:
            crawl = Crawl(self, archive, refresh.report, previous=refresh.previous, licence=licence)
            yield from crawl.events()

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        return read_back(place.archive, place.offset, place.length)[1]


def archive_name(origin: str) -> str:
    """Name of a new archive: whose, and when."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', origin)}-{datetime.now(UTC):%Y%m%d%H%M%S%f}"

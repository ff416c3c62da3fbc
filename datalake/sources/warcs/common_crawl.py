"""Common Crawl, or any crawl laid out as it is: files named by a listing, or single URLs.

``paths`` is a listing such as ``crawl-data/CC-MAIN-2024-10/warc.paths.gz``: archives of pages
(WARC) or of their text (WET), each a piece. With ``urls`` the index is asked where each page lies,
and only these records are fetched. The archive is durable storage already, so rows may leave the
payloads there and hold the places alone.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from datalake.config import Refusal
from datalake.sources.remote import is_remote, join, open_at, read_lines
from datalake.sources.source import Event, Piece, Place, Refresh, SourceConfig
from datalake.sources.warcs.cdx import look_up, newest
from datalake.sources.warcs.reader import read_captures, read_places, read_record
from datalake.sources.warcs.warc_files import to_records
from datalake.sources.web.urls import canonical


class CommonCrawlConfig(SourceConfig):
    """Pages of a crawl: of ``paths``, all files or some, or of ``urls`` by an ``index``."""

    table: ClassVar[str] = "raw/web"
    complete: ClassVar[bool] = False  # a page that a crawl missed is not gone

    kind: Literal["common_crawl"] = "common_crawl"
    paths: str | None = None  # path or address of a warc.paths.gz or wet.paths.gz
    base: str = "https://data.commoncrawl.org/"  # s3://commoncrawl/ asks for an account
    max_files: int | None = Field(None, gt=0)  # None takes all: a crawl has 90,000 of 1 GB
    # A crawl's files are in order of their segments, so its first ones are no sample of it.
    choice: Literal["sample", "first"] = "sample"
    payload: Literal["keep", "refer"] = "keep"  # refer: fetched again at every extraction
    max_bytes: int = Field(5 << 20, gt=0)  # of a page; Common Crawl's own cut since 2025
    urls: tuple[str, ...] = ()
    index: str | None = None  # path or address of a cluster.idx, or of a CDX or CDXJ file

    def watched(self) -> str:
        """Size and time of what lies on this machine; a crawl that was published stays as it is."""
        seen = []
        for uri in (self.paths, self.index):
            if uri and not is_remote(uri) and Path(uri).exists():
                stat = Path(uri).stat()
                seen.append(f"{uri} {stat.st_size} {stat.st_mtime_ns}")
        return ", ".join(seen)

    def pieces(self, refresh: Refresh) -> list[Piece]:
        """The chosen files of the listing, or those that hold the wanted URLs.

        Raises Refusal where the settings do not fit together or name nothing.
        """
        if bool(self.paths) == bool(self.urls):
            both = "both" if self.paths else "none"
            raise Refusal(f"one of paths and urls must be given, got {both}")
        if bool(self.urls) != bool(self.index):
            got = f"{len(self.urls)} urls and index {self.index}"
            raise Refusal(f"urls and index must be given together, got {got}")
        return self._listed(refresh) if self.paths else self._looked_up(refresh)

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        """Pages of one file, as a stream, or those of its places that were looked up."""
        places = piece.detail.get("places")
        if places is None:
            captures = read_captures(piece.uri, self.max_bytes, refresh.report)
        else:
            captures = read_places(piece.uri, places, self.max_bytes, refresh.report)
        yield from to_records(captures, self.licence, refer=self.payload == "refer")

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        """Decoded payload of the record at ``place``: a range of its archive."""
        return read_record(place.archive, place.offset, place.length, place.member)

    def _listed(self, refresh: Refresh) -> list[Piece]:
        assert self.paths is not None
        try:
            with open_at(self.paths) as file:
                lines = [line.decode().strip() for line in read_lines(file)]
        except (FileNotFoundError, PermissionError, UnicodeDecodeError) as error:
            rule = "a listing that can be read"
            raise Refusal(f"paths must be {rule}, got {self.paths}: {error}") from None
        names = list(dict.fromkeys(filter(None, lines)))
        if not names:
            raise Refusal(f"paths must name at least one file, got {self.paths} without any")
        chosen = self._chosen(names)
        refresh.report.skip("file not chosen", len(names) - len(chosen))
        return [self._piece(name) for name in chosen]

    def _chosen(self, names: list[str]) -> list[str]:
        """``max_files`` of ``names``: a larger sample of the same listing holds the smaller."""
        if self.choice == "first" or self.max_files is None:
            return names[: self.max_files]
        ranks = sorted(names, key=lambda name: hashlib.blake2b(name.encode()).digest())
        taken = set(ranks[: self.max_files])
        return [name for name in names if name in taken]

    def _looked_up(self, refresh: Refresh) -> list[Piece]:
        assert self.index is not None
        urls = [self._canonical(number, url) for number, url in enumerate(self.urls)]
        places: dict[str, set[tuple[int, int]]] = defaultdict(set)
        for url, lines in look_up(self.index, urls).items():
            line = newest(lines, url)
            if line is not None:
                places[line.filename].add((line.offset, line.length))
            elif lines:
                refresh.report.fail("no capture of status 200", url)
            else:
                refresh.report.fail("not in the index", url)
        return [self._piece(name, tuple(sorted(found))) for name, found in sorted(places.items())]

    def _canonical(self, number: int, url: str) -> str:
        try:
            found = canonical(url)
        except ValueError:
            found = None
        if found is None:
            raise Refusal(f"urls[{number}] must be an http or https address, got {url}")
        return found

    def _piece(self, name: str, places: tuple[tuple[int, int], ...] | None = None) -> Piece:
        uri = join(self.base, name)
        detail = {} if places is None else {"places": places}
        if places is not None:
            num_bytes = sum(length for _, length in places)
        else:
            num_bytes = Path(uri).stat().st_size if Path(uri).is_file() else 0
        return Piece(name=name.rsplit("/", 1)[-1], uri=uri, num_bytes=num_bytes, detail=detail)

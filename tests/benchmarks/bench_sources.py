"""Crawl and archives on one core, on pages of Python's documentation server."""

import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from fastwarc.warc import ArchiveIterator, WarcRecordType

from datalake.sources.report import Report
from datalake.sources.source import Record
from datalake.sources.warcs.reader import read_captures
from datalake.sources.warcs.writer import WarcWriter
from datalake.sources.web import pydoc_site
from datalake.sources.web.crawler import Crawl
from tests.benchmarks.report import Result, seconds_in_turn, show

NUM_PAGES = 200


def _crawl(folder: Path) -> tuple[list[Record], Result]:
    """Our crawl, then bare requests for the same pages from a fresh server of its own."""
    config = pydoc_site.PydocConfig(max_pages=NUM_PAGES, max_bytes=1 << 30).crawl
    empty = folder / "empty"
    empty.mkdir()
    with pydoc_site.serve(empty, folder / "log") as address:
        archive = WarcWriter(folder, "pages")
        connect = {f"{pydoc_site.HOST}:80": address}
        started = time.perf_counter()
        with archive:
            crawl = Crawl(config, archive, Report("bench", lambda line: None), connect=connect)
            pages = [event for event in crawl.events() if isinstance(event, Record)]
        ours = time.perf_counter() - started
    with pydoc_site.serve(empty, folder / "log") as (host, port):
        started = time.perf_counter()
        for page in pages:
            with urlopen(page.uri.replace(pydoc_site.HOST, f"{host}:{port}")) as answer:
                answer.read()
        bare = time.perf_counter() - started
    return pages, Result(
        case="crawl into WARC, the server included",
        unit="pages/s",
        ours=len(pages) / ours,
        peer_name="urllib, addresses known, nothing kept",
        peer=len(pages) / bare,
        floor=len(pages) / bare,
    )


def _archive(pages: list[Record]) -> Result:
    path = Path(pages[0].place.archive)
    size = sum(len(page.payload or b"") for page in pages) / 1e6

    def bare() -> None:
        for record in ArchiveIterator(str(path), WarcRecordType.response, parse_http=True):
            record.reader.read()

    def ours() -> None:
        for _ in read_captures(path, 5 << 20, Report("bench", lambda line: None)):
            pass

    taken = seconds_in_turn({"ours": ours, "peer": bare}, repeats=5)
    return Result(
        case="pages of an archive, with place and damage check",
        unit="MB/s",
        ours=size / taken["ours"],
        peer_name="fastwarc alone",
        peer=size / taken["peer"],
        floor=size / taken["peer"],
    )


def main() -> None:
    """Run every case and print the results."""
    with tempfile.TemporaryDirectory(prefix="tarn-bench-") as folder:
        pages, crawled = _crawl(Path(folder))
        results = [crawled, _archive(pages)]
    show("sources", results, ("aiohttp", "fastwarc"))


if __name__ == "__main__":
    main()

"""Crawl, archives and main text on one core, on pages of Python's documentation server."""

import importlib.util
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.parse.html import HTMLTree

from datalake.sources.report import Report
from datalake.sources.source import Record
from datalake.sources.warcs.reader import read_captures
from datalake.sources.warcs.writer import WarcWriter
from datalake.sources.web import pydoc_site
from datalake.sources.web.crawler import Crawl
from datalake.transforms.html_text import decode_html, read_page
from tests.benchmarks.report import Result, seconds_in_turn, show

NUM_PAGES = 200
SLOW = 10  # of so many pages one is given to the slow peer


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


def _text(pages: list[Record]) -> Result:
    size = sum(len(page.payload or b"") for page in pages) / 1e6
    sample = pages[::SLOW]
    jobs = {
        "ours": lambda: [read_page(page.payload or b"", page.content_type) for page in pages],
        "floor": lambda: [
            HTMLTree.parse(decode_html(page.payload or b"", page.content_type)[0]) for page in pages
        ],
    }
    installed = importlib.util.find_spec("trafilatura") is not None
    if installed:
        from trafilatura import extract

        jobs["peer"] = lambda: [extract(page.payload or b"") for page in sample]
    taken = seconds_in_turn(jobs, repeats=3)
    sample_size = sum(len(page.payload or b"") for page in sample) / 1e6
    return Result(
        case="main text, title, licence, normal form",
        unit="MB/s",
        ours=size / taken["ours"],
        peer_name="trafilatura",
        peer=sample_size / taken["peer"] if installed else None,
        floor=size / taken["floor"],
        why=None if installed else "trafilatura is not installed",
    )


def main() -> None:
    """Run every case and print the results."""
    with tempfile.TemporaryDirectory(prefix="tarn-bench-") as folder:
        pages, crawled = _crawl(Path(folder))
        results = [crawled, _archive(pages), _text(pages)]
    show("sources", results, ("aiohttp", "fastwarc", "resiliparse"))


if __name__ == "__main__":
    main()

"""Python's documentation server: isolated, crawled twice, always stopped."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from datalake.sources.report import Report
from datalake.sources.source import Event, Record, Refresh, Unchanged
from datalake.sources.warcs.writer import WarcWriter
from datalake.sources.web import pydoc_site
from datalake.sources.web.crawler import Crawl
from datalake.sources.web.fetch import Client, Limits
from datalake.sources.web.frontier import Frontier
from datalake.transforms.html_text import read_page
from tests.datalake.sources.earlier import Earlier


def crawl(folder: Path, name: str, report: Report, max_pages: int) -> list[Record]:
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    config = pydoc_site.PydocConfig(max_pages=max_pages, max_bytes=50_000_000).crawl
    with (
        pydoc_site.serve(empty, folder / "log") as address,
        WarcWriter(folder, name) as archive,
    ):
        connect = {f"{pydoc_site.HOST}:80": address}
        found = Crawl(config, archive, report, connect=connect, reject=pydoc_site.soft_error)
        return [event for event in found.events() if isinstance(event, Record)]


def pages(folder: Path, *names: str) -> list[bytes]:
    async def get(address: tuple[str, int]) -> list[bytes]:
        connect = {f"{pydoc_site.HOST}:80": address}
        async with Client(limits=Limits(timeout_seconds=60.0), connect=connect) as client:
            urls = [f"http://{pydoc_site.HOST}/{name}.html" for name in names]
            return [(await client.get(url)).body for url in urls]

    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    with pydoc_site.serve(empty, folder / "log") as address:
        return asyncio.run(get(address))


def test_two_crawls_give_the_same_documents(tmp_path: Path) -> None:
    reports = [Report("test", lambda line: None) for _ in range(2)]
    first, again = (
        {page.uri: page for page in crawl(tmp_path, str(n), report, 30)}
        for n, report in enumerate(reports)
    )
    assert list(first) == list(again) and len(first) == 30
    assert next(iter(first)) == "http://pydoc.localhost/"
    for url, page in first.items():
        texts = [read_page(p.payload or b"", p.content_type) for p in (page, again[url])]
        assert texts[0] == texts[1], url


def test_the_source_yields_pages_with_their_licence_and_finds_them_again(tmp_path: Path) -> None:
    config = pydoc_site.PydocConfig(max_pages=12, max_bytes=50_000_000)

    def read(*earlier: Iterable[Event]) -> list[Event]:
        order = Refresh(
            origin="pydoc",
            snapshot="today",
            home=tmp_path,
            report=Report("test", lambda line: None),
            previous=Earlier(*earlier),
        )
        (piece,) = config.pieces(order)
        return list(config.read(piece, order))

    first = read()
    assert len(first) == 12
    for event in first:
        assert isinstance(event, Record) and event.uri.startswith("http://pydoc.localhost/")
        assert event.licence == pydoc_site.LICENCE and event.licence.licence == "PSF-2.0"
        assert config.read_again(event.place) == event.payload
    again = read(first)
    assert [event.uri for event in again] == [event.uri for event in first]
    assert sum(isinstance(event, Unchanged) for event in again) >= 8  # some print addresses


def test_a_page_that_prints_addresses_differs_and_its_text_does_not(tmp_path: Path) -> None:
    first, again = (pages(tmp_path, "json.decoder", "xml.sax", "ctypes._endian") for _ in range(2))
    assert first != again
    assert [read_page(p, None) for p in first] == [read_page(p, None) for p in again]


def test_the_server_sees_neither_the_environment_nor_packages_nor_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TARN_TEST_SECRET", "do not publish")
    os_page, index = pages(tmp_path, "os", "index")
    assert b"environ" in os_page and b"do not publish" not in os_page
    assert b"json.html" in index
    assert b"planted" not in index and b"numpy.html" not in index


def test_test_modules_are_left_out() -> None:
    config = pydoc_site.PydocConfig(max_pages=1, max_bytes=1).crawl
    frontier = Frontier(config, Report("test", lambda line: None))
    inside = [
        name
        for name in ("test", "test.support", "lib2to3.pgen2", "idlelib.idle", "unittest.test.x",
                     "ctypes.test", "contest", "unittest", "doctest", "idle")
        if frontier.holds(f"http://pydoc.localhost/{name}.html")
    ]  # fmt: skip
    assert inside == ["contest", "unittest", "doctest", "idle"]


def test_the_server_stops_however_its_user_ends(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="enough"),
        pydoc_site.serve(tmp_path, tmp_path / "log") as (_, port),
    ):
        assert _listens(port)
        raise RuntimeError("enough")
    assert not _listens(port)


def test_the_server_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import os, sys
from pathlib import Path
from datalake.sources.web import pydoc_site
with pydoc_site.serve(Path({str(tmp_path)!r}), Path({str(tmp_path / "log")!r})) as (host, port):
    print(port, flush=True)
    os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    port = int(done.stdout)
    for _ in range(100):
        if not _listens(port):
            return
        time.sleep(0.1)
    raise AssertionError("the server still listens")


def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pydoc_site, "_PROGRAM", "raise SystemExit('no port to be had')")
    with (
        pytest.raises(RuntimeError, match="did not start: no port to be had"),
        pydoc_site.serve(tmp_path, tmp_path / "log"),
    ):
        pass


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

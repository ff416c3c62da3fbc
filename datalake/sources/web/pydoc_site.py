"""Python's own documentation server as a web site that every machine has.

Rendering a page of it *imports* the module, so the server runs isolated: no site-packages (``-S``),
no user folder or environment (``-I`` and an empty one, since the page of ``os`` prints the
environment), in an empty folder. It has a canonical host, whatever free port it got.
"""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from datalake.licences import Finding, by_recipe
from datalake.sources.source import Event, Piece, Place, Refresh, SourceConfig
from datalake.sources.warcs.writer import WarcWriter
from datalake.sources.web.crawl import CrawlConfig, Scope, archive_name
from datalake.sources.web.fetch import Limits, Response

HOST = "pydoc.localhost"
LICENCE = Finding("PSF-2.0", "https://docs.python.org/3/license.html", 1.0)

_PROGRAM = (
    "import sys, pydoc; "
    "pydoc.browse(int(sys.stdin.readline()), open_browser=False, hostname='127.0.0.1')"
)
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_EXCLUDED = (
    # Test modules take up to 18 s a page; the others open windows or rewrite sources.
    r"^/(test|idlelib|lib2to3)(\..*)?\.html$",
    r"^/.*\.tests?(\..*)?\.html$",
    r"^/(get|search)\?",  # what the forms answer: copies of the pages above
)


class PydocConfig(SourceConfig):
    """The documentation of the standard library that this interpreter has."""

    table: ClassVar[str] = "raw/web"
    complete: ClassVar[bool] = False  # a module that cannot be imported today is not gone
    in_driver: ClassVar[bool] = True

    kind: Literal["pydoc"] = "pydoc"
    max_pages: int = Field(gt=0)
    max_bytes: int = Field(gt=0)  # of all pages together

    @property
    def crawl(self) -> CrawlConfig:
        """The crawl that gets it."""
        return CrawlConfig(
            seeds=(f"http://{HOST}/",),
            scope=Scope(prefixes=(f"http://{HOST}/",), exclude=_EXCLUDED),
            max_pages=self.max_pages,
            max_bytes=self.max_bytes,
            delay_seconds=0.0,  # it is ours, and serves one request at a time
            limits=Limits(timeout_seconds=60.0),  # a page imports its module, on a busy machine too
        )

    def watched(self) -> str:
        return sys.version

    def pieces(self, refresh: Refresh) -> list[Piece]:
        return [Piece(name=refresh.origin, uri=f"http://{HOST}/", num_bytes=self.max_bytes)]

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        from datalake.sources.web.crawler import Crawl

        licence = by_recipe(self.licence) or LICENCE
        log = refresh.folder("logs") / "pydoc.log"
        with (
            serve(refresh.folder("scratch/pydoc"), log) as address,
            WarcWriter(refresh.folder("archives"), archive_name(refresh.origin)) as archive,
        ):
            crawl = Crawl(
                self.crawl,
                archive,
                refresh.report,
                connect={f"{HOST}:80": address},
                reject=soft_error,
                previous=refresh.previous,
                licence=licence,
            )
            yield from crawl.events()

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        return CrawlConfig.read_again(place)


@contextlib.contextmanager
def serve(folder: Path, log: Path) -> Iterator[tuple[str, int]]:
    """Run the server in the empty ``folder``; yields address and port, and always stops it.

    ``folder`` is the same for every crawl, since pages may print it. Raises RuntimeError, with the
    end of ``log``, if the server does not start.
    """
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            env={},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,  # a file: a pipe that nobody reads would stop it when full
            stderr=subprocess.STDOUT,
        )
        assert server.stdin is not None
        try:
            server.stdin.write(b"0\n")  # any free port; it says which
            server.stdin.flush()
            yield "127.0.0.1", _port(server, log)
        finally:
            server.stdin.close()  # the end of its input ends it
            try:
                server.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def soft_error(response: Response) -> str | None:
    """Why a page of status 200 is none: the server answers unknown paths with an error page."""
    return "error page" if b"<title>Pydoc: Error" in response.body[:1000] else None


def _port(server: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        if ready := re.search(rb"Server ready at http://[^:/]+:(\d+)/", log.read_bytes()):
            return int(ready[1])
        time.sleep(0.02)
    said = log.read_text(errors="replace")[-500:].strip()
    raise RuntimeError(f"Python's documentation server did not start: {said or 'it said nothing'}")

"""Extraction on one core: from the records of an archive to Arrow rows with text and digest.

The archive holds 100 MB of HTML: pages of Python's documentation server and variants of them. The
stage is what a task of the ingestion and one of the extraction do, without the tables between:
read and check records, rows of ``raw/web``, rows of ``documents``. The bare loop takes the text of
the same records with the same libraries and options, and keeps nothing. It is measured against
that extractor, which gives the same text, and against the default one. datatrove reads a part of
the archive, since it is slow; it runs in the interpreter that TARN_BENCH_PYTHON names, or in this
one where it is installed.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding
from resiliparse.parse.html import HTMLTree

from datalake.extraction import DocumentsConfig, extract, read_batch
from datalake.ingestion import ingest
from datalake.pieces import Reader
from datalake.schemas import TABLES
from datalake.sources.record import doc_id, to_batches
from datalake.sources.report import Report
from datalake.sources.source import Piece, Record
from datalake.sources.warcs.warc_files import WarcFilesConfig
from datalake.sources.warcs.writer import WarcWriter, read_back
from datalake.sources.web import pydoc_site
from datalake.sources.web.crawler import Crawl
from datalake.sources.web.fetch import Response
from datalake.transforms.html_text import Extractor
from datalake.workspace import Workspace
from tests.benchmarks.report import Result, seconds_in_turn, show
from tests.datalake.sources.refreshes import refresh_of

NUM_PAGES = 200
NUM_BYTES = 100_000_000
SLOW = 12  # of so many bytes one is given to the slow peer

_DATATROVE = """
import json, sys, time
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.readers import WarcReader

def main(folder, name):
    reader = WarcReader(folder, glob_pattern=name)
    extractor = Trafilatura(timeout=30)
    extractor.extract("<p>It fails here, and not in every process, if a package is missing.</p>")
    started = time.perf_counter()
    num_documents = sum(1 for _ in extractor.run(reader.run(None)))
    print(json.dumps({"seconds": time.perf_counter() - started, "documents": num_documents}))

if __name__ == "__main__":  # its extractor starts processes that import this file
    main(*sys.argv[1:])
"""


def crawl(folder: Path) -> list[Response]:
    """Pages of the documentation server, as they were answered."""
    config = pydoc_site.PydocConfig(max_pages=NUM_PAGES, max_bytes=1 << 30).crawl
    (folder / "empty").mkdir()
    with (
        pydoc_site.serve(folder / "empty", folder / "log") as address,
        WarcWriter(folder, "crawled") as archive,
    ):
        connect = {f"{pydoc_site.HOST}:80": address}
        pages = [
            record
            for record in Crawl(config, archive, quiet(), connect=connect).events()
            if isinstance(record, Record)
        ]
    answers = []
    for page in pages:
        headers, body = read_back(page.place.archive, page.place.offset, page.place.length)
        answers.append(
            Response(
                url=page.uri,
                status=200,
                phrase="OK",
                headers=headers,
                body=body,
                truncated=None,
                request_headers=(),
                fetched_at=page.fetched_at,
            )
        )
    return answers


def write(folder: Path, name: str, pages: list[Response], num_bytes: int) -> tuple[Path, int]:
    """An archive of ``pages`` and variants of them, and how many bytes of HTML it holds."""
    size = number = 0
    with WarcWriter(folder, name) as archive:
        while size < num_bytes:
            page = pages[number % len(pages)]
            variant = b"<p>Variant %d of this page.</p></body>" % (number // len(pages))
            body = page.body.replace(b"</body>", variant, 1)
            archive.write(replace(page, url=f"{page.url}?variant={number}", body=body))
            size += len(body)
            number += 1
    return archive.path, size


def quiet() -> Report:
    return Report("bench", lambda line: None)


def stage(path: Path, config: DocumentsConfig) -> int:
    """Rows of ``documents`` of an archive, batch by batch; returns how many."""
    source = WarcFilesConfig(files=str(path))
    refresh = refresh_of(path.parent, quiet())
    reader = Reader(
        lake=None,  # type: ignore[arg-type]
        home=path.parent,
        config=source,
        origin="bench",
        snapshot="bench",
        state=None,
    )
    rows = (
        reader._row(doc_id("web", event.uri), event)
        for event in source.read(Piece(name=path.name, uri=str(path)), refresh)
        if isinstance(event, Record)
    )
    num_rows = 0
    for batch in to_batches(rows, TABLES["raw/web"].arrow):
        num_rows += len(read_batch(batch, "web", frozenset(), config))
    return num_rows


def bare(path: Path) -> int:
    """The text of every page, and no more."""
    num_pages = 0
    for record in ArchiveIterator(str(path), WarcRecordType.response, parse_http=True):
        payload = record.reader.read()
        html = bytes_to_str(payload, detect_encoding(payload, from_html_meta=True))
        extract_plain_text(
            HTMLTree.parse(html),
            main_content=True,
            alt_texts=False,
            list_bullets=False,
            comments=False,
            post_meta=False,
        )
        num_pages += 1
    return num_pages


def read_only(path: Path) -> None:
    for record in ArchiveIterator(str(path), WarcRecordType.response, parse_http=True):
        record.reader.read()


@contextmanager
def one_core() -> Iterator[None]:
    """This process and its children on one core."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def against_bare(path: Path, num_bytes: int) -> list[Result]:
    extractors: tuple[Extractor, ...] = ("resiliparse", "blocks")  # the peer's, and the default
    jobs: dict[str, Callable[[], object]] = {
        name: partial(stage, path, DocumentsConfig(extractor=name)) for name in extractors
    }
    jobs |= {"peer": partial(bare, path), "floor": partial(read_only, path)}
    taken = seconds_in_turn(jobs, repeats=3)
    return [
        Result(
            case=f"archive to rows of documents by {name}, one core",
            unit="MB/s",
            ours=num_bytes / 1e6 / taken[name],
            peer_name="fastwarc + resiliparse alone",
            peer=num_bytes / 1e6 / taken["peer"],
            floor=num_bytes / 1e6 / taken["floor"],
        )
        for name in extractors
    ]


def against_datatrove(path: Path, num_bytes: int) -> Result:
    taken = seconds_in_turn({"ours": lambda: stage(path, DocumentsConfig())}, repeats=1)
    peer, why = _datatrove(path, num_bytes)
    return Result(
        case="the same of a part, one core",
        unit="MB/s",
        ours=num_bytes / 1e6 / taken["ours"],
        peer_name="datatrove, WARC and trafilatura",
        peer=peer,
        why=why,
    )


def _datatrove(path: Path, num_bytes: int) -> tuple[float | None, str | None]:
    python = os.environ.get("TARN_BENCH_PYTHON")
    if python is None and importlib.util.find_spec("datatrove") is not None:
        python = sys.executable
    if python is None:
        return None, "datatrove is not installed, and TARN_BENCH_PYTHON names no interpreter"
    program = path.with_name("peer.py")
    program.write_text(_DATATROVE)
    command = [python, str(program), str(path.parent), path.name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return None, f"datatrove failed: {done.stderr.strip().splitlines()[-1]}"
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return num_bytes / 1e6 / found["seconds"], None


def whole_job(folder: Path, path: Path, num_bytes: int) -> Result:
    """The stage against both jobs with their tables, Spark running already; all cores."""
    workspace = Workspace(home=folder / "home", say=lambda line: None, spark_master="local[1]")
    source = WarcFilesConfig(files=str(path))
    from datalake import spark

    spark.session(workspace)
    started = time.perf_counter()
    commit = ingest(workspace, "raw/web", {"bench": source}).commit
    extract(workspace, {"raw/web": str(commit.version)}, DocumentsConfig())
    taken = time.perf_counter() - started
    started = time.perf_counter()
    stage(path, DocumentsConfig())
    alone = time.perf_counter() - started
    return Result(
        case="two Spark jobs with their tables",
        unit="MB/s",
        ours=num_bytes / 1e6 / taken,
        peer_name="the stage alone",
        peer=num_bytes / 1e6 / alone,
    )


def main() -> None:
    """Run every case and print the results."""
    with tempfile.TemporaryDirectory(prefix="tarn-bench-") as name:
        folder = Path(name)
        pages = crawl(folder)
        path, num_bytes = write(folder, "pages", pages, NUM_BYTES)
        part, part_bytes = write(folder, "part", pages[::3], NUM_BYTES // SLOW)
        with one_core():
            results = [*against_bare(path, num_bytes), against_datatrove(part, part_bytes)]
            results.append(whole_job(folder, path, num_bytes))
    show("extract", results, ("fastwarc", "resiliparse", "pyspark"))


if __name__ == "__main__":
    main()

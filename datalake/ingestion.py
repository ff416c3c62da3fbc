"""Sources to raw tables: each refresh is a snapshot, and a snapshot is a partition.

Rows hold the bytes as they came and the place where they lie for good: an archive of ours, or a
file of somebody else's. A page captured twice in one snapshot counts once, by its first capture.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import Field

from datalake.schemas import TABLES
from datalake.sources import packages, pydoc_site
from datalake.sources.crawl import Crawl, CrawlConfig
from datalake.sources.packages import PackagesConfig
from datalake.sources.pydoc_site import PydocConfig
from datalake.sources.record import Row, doc_id, payload_digest, to_batches
from datalake.sources.report import Report
from datalake.sources.warc import Capture, WarcFilesConfig, WarcWriter, archives, read_captures
from datalake.tables import Commit
from datalake.workspace import Workspace

WebConfig = Annotated[PydocConfig | CrawlConfig | WarcFilesConfig, Field(discriminator="kind")]
CodeConfig = PackagesConfig
INBOX = "inbox"  # folder below the home: WARC files dropped there become snapshots of their own
INBOX_MAX_BYTES = 5 << 20  # of a page; Common Crawl cuts there since 2025


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one refresh left: the last commit, and counts of what came and what was lost."""

    commit: Commit
    report: Report


def ingest_web(workspace: Workspace, config: WebConfig) -> Ingested:
    """Fetch the pages of ``config`` as today's snapshot, and those of every archive in the inbox.

    Raises Refusal where a seed cannot be fetched, files are missing, or no page is found.
    """
    report = Report("pages", workspace.say)
    snapshot = snapshot_of(workspace)
    commit = _put(workspace, "raw/web", snapshot, _pages(workspace, config, snapshot, report))
    for path in inbox(workspace):
        stamp = f"inbox {path.name}"
        captures = read_captures(path, INBOX_MAX_BYTES, report)
        rows = _unique(stamp, captures, None, report)
        if (first := next(rows, None)) is not None:
            commit = _put(workspace, "raw/web", stamp, chain([first], rows))
        else:
            report.fail("archive without a page", str(path))
    report.finish()
    return Ingested(commit, report)


def ingest_code(workspace: Workspace, config: CodeConfig) -> Ingested:
    """Read the source files of ``config`` as today's snapshot."""
    report = Report("files", workspace.say)
    snapshot = snapshot_of(workspace)
    rows = packages.read_packages(config, snapshot, report)
    commit = _put(workspace, "raw/code", snapshot, rows)
    report.finish()
    return Ingested(commit, report)


def snapshot_of(workspace: Workspace) -> str:
    """Name of the snapshot: what the asking run says, else today's date (UTC)."""
    return workspace.origin.get("tarn/snapshot") or datetime.now(UTC).date().isoformat()


def inbox(workspace: Workspace) -> list[Path]:
    """WARC files that wait in the inbox, by name."""
    folder = workspace.folder(INBOX)
    return sorted(p for p in folder.iterdir() if re.search(r"\.warc(\.(gz|zst|lz4))?$", p.name))


def _put(workspace: Workspace, table: str, snapshot: str, rows: Iterable[Row]) -> Commit:
    batches = to_batches(rows, TABLES[table].arrow)
    return workspace.lake.overwrite(table, batches, partition={"snapshot": snapshot})


def _pages(workspace: Workspace, config: WebConfig, snapshot: str, report: Report) -> Iterator[Row]:
    if isinstance(config, WarcFilesConfig):
        found = (
            c for path in archives(config) for c in read_captures(path, config.max_bytes, report)
        )
        yield from _unique(snapshot, found, config.licence, report)
        return
    name = f"{config.kind}-{datetime.now(UTC):%Y%m%d%H%M%S%f}"
    with WarcWriter(workspace.folder("archives"), name) as archive:
        if isinstance(config, CrawlConfig):
            pages = Crawl(config, archive, report).pages()
            yield from _unique(snapshot, pages, config.licence, report)
            return
        log = workspace.folder("logs") / "pydoc.log"
        with pydoc_site.serve(workspace.folder("scratch/pydoc"), log) as address:
            crawl = Crawl(
                config.crawl,
                archive,
                report,
                connect={f"{pydoc_site.HOST}:80": address},
                reject=pydoc_site.soft_error,
            )
            yield from _unique(snapshot, crawl.pages(), config.crawl.licence, report)


def _unique(
    snapshot: str, captures: Iterable[Capture], licence: str | None, report: Report
) -> Iterator[Row]:
    seen: set[str] = set()
    for capture in captures:
        identity = doc_id("web", capture.url)
        if identity in seen:
            report.skip("captured before")
            continue
        seen.add(identity)
        yield {
            "doc_id": identity,
            "snapshot": snapshot,
            "uri": capture.url,
            "licence": licence,
            "archive": capture.archive,
            "offset": capture.offset,
            "length": capture.length,
            "fetched_at": capture.fetched_at,
            "payload": capture.payload,
            "payload_digest": payload_digest(capture.payload),
            "content_type": capture.content_type,
            "http_status": capture.status,
            "truncated": capture.truncated,
        }

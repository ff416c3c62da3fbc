"""From sources to raw tables: real sites, archives and distributions in, rows of a snapshot out."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datalake import ingestion
from datalake.config import Refusal
from datalake.ingestion import Ingested, ingest
from datalake.provenance import read_again
from datalake.snapshots import key_of, superseded
from datalake.sources.record import doc_id, payload_digest
from datalake.sources.software.packages import PackageConfig, PackagesConfig
from datalake.sources.source import SourceConfig
from datalake.sources.warcs.warc_files import WarcFilesConfig
from datalake.sources.web.crawl import CrawlConfig
from datalake.sources.web.pydoc_site import PydocConfig
from datalake.workspace import Workspace
from tests.datalake.sources.site import Site, serving


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        site.page("/", "/a", "/b")
        site.page("/a", "/gone")
        site.page("/b")
        yield site


def ingest_web(workspace: Workspace, config: SourceConfig) -> Ingested:
    return ingest(workspace, "raw/web", {"pages": config})


def ingest_code(workspace: Workspace, config: SourceConfig) -> Ingested:
    return ingest(workspace, "raw/code", {"files": config})


def crawl_of(site: Site, **changes: object) -> CrawlConfig:
    values = {
        "seeds": (f"{site.url}/",),
        "max_pages": 10,
        "max_bytes": 1_000_000,
        "delay_seconds": 0.0,
        "licence": "CC-BY-4.0",
        "allow_hosts": (site.host,),
    }
    return CrawlConfig(**values | changes)


def test_a_crawl_becomes_a_snapshot_whose_rows_point_into_its_archive(
    workspace: Workspace, site: Site
) -> None:
    found = ingest_web(workspace, crawl_of(site))
    rows = workspace.lake.read("raw/web", found.commit.version).to_pylist()
    assert {row["uri"] for row in rows} == {f"{site.url}/", f"{site.url}/a", f"{site.url}/b"}
    assert len({row["archive"] for row in rows}) == 1
    for row in rows:
        assert row["doc_id"] == doc_id("web", row["uri"])
        assert row["payload_digest"] == payload_digest(row["payload"])
        assert read_again(row) == row["payload"]
        assert (row["licence"], row["http_status"], row["truncated"]) == ("CC-BY-4.0", 200, None)
    assert found.report.as_dict()["failed: status 404"] == 1


def test_a_snapshot_has_the_name_of_the_run_or_of_the_day(workspace: Workspace, site: Site) -> None:
    named = replace(workspace, origin={"tarn/snapshot": "2026-01-02"})
    ingest_web(named, crawl_of(site))
    site.page("/b", text="Something new.")
    ingest_web(workspace, crawl_of(site))
    snapshots = set(workspace.lake.read("raw/web", columns=["snapshot"])["snapshot"].to_pylist())
    today = ingestion.snapshot_of(workspace)
    assert snapshots == {"2026-01-02", today} and len(today) == len("2026-01-02")


def test_the_same_pages_on_the_same_day_are_the_same_version(
    workspace: Workspace, site: Site
) -> None:
    first = ingest_web(workspace, crawl_of(site)).commit
    again = ingest_web(workspace, crawl_of(site)).commit
    assert again.changed is False
    assert (again.version, again.content) == (first.version, first.content)
    site.page("/b", text="Something new.")
    changed = ingest_web(workspace, crawl_of(site)).commit
    assert changed.rows == 3 and changed.content != first.content


def test_a_crawl_that_fails_leaves_the_table_and_no_archive(
    workspace: Workspace, site: Site
) -> None:
    before = ingest_web(workspace, crawl_of(site)).commit
    site.answers.clear()
    with pytest.raises(Refusal, match=r"seeds\[0\] must be a page that can be fetched"):
        ingest_web(workspace, crawl_of(site))
    assert workspace.lake.latest("raw/web") == before.version
    assert len(list(workspace.folder("archives").iterdir())) == 1


def test_archives_of_others_become_the_same_documents(workspace: Workspace, site: Site) -> None:
    crawled = ingest_web(workspace, crawl_of(site)).commit
    files = str(workspace.folder("archives") / "*.warc.gz")
    other = replace(workspace, home=workspace.home / "other")
    found = ingest_web(other, WarcFilesConfig(files=files, licence="CC-BY-4.0"))
    assert found.commit.content == crawled.content and found.report.rows == 3


def test_of_two_captures_of_a_page_the_newest_is_taken(workspace: Workspace, site: Site) -> None:
    ingest_web(workspace, crawl_of(site))
    site.page("/b", text="The newest words.")
    ingest_web(replace(workspace, origin={"tarn/snapshot": "later"}), crawl_of(site))
    other = replace(workspace, home=workspace.home / "other")
    files = str(workspace.folder("archives") / "*.warc.gz")
    found = ingest_web(other, WarcFilesConfig(files=files))
    rows = other.lake.read("raw/web", found.commit.version).to_pylist()
    assert len(rows) == 4  # a page that did not change is in the later archive by a reference only
    old = superseded(other.lake, "raw/web", found.commit.version)
    (newest,) = [r for r in rows if r["uri"] == f"{site.url}/b" and key_of(r) not in old]
    assert b"The newest words." in newest["payload"]


def test_archives_in_the_inbox_are_snapshots_of_their_own(
    workspace: Workspace, site: Site, tmp_path: Path
) -> None:
    elsewhere = replace(workspace, home=tmp_path / "elsewhere")
    site.page("/", "/a", "/b", "/c")
    site.page("/c")
    ingest_web(elsewhere, crawl_of(site))
    (archive,) = elsewhere.folder("archives").glob("*.warc.gz")
    shutil.copy(archive, workspace.folder(ingestion.INBOX) / "dropped.warc.gz")
    (workspace.folder(ingestion.INBOX) / "empty.warc.gz").write_bytes(b"")
    (workspace.folder(ingestion.INBOX) / "note.txt").write_text("not an archive")
    said: list[str] = []
    found = ingest_web(replace(workspace, say=said.append), crawl_of(site, max_pages=2))
    snapshots = workspace.lake.read("raw/web", columns=["snapshot"])["snapshot"].to_pylist()
    assert snapshots.count("inbox dropped.warc.gz") == 4 and len(snapshots) == 6
    assert found.report.failed["archive without a page"] == 1
    assert said[-1].startswith("raw/web: 6 records")


def test_a_source_without_a_page_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "empty.warc").write_bytes(b"")
    with pytest.raises(Refusal, match="raw/web must be written with at least one row, got none"):
        ingest_web(workspace, WarcFilesConfig(files=str(tmp_path / "*.warc")))


def test_the_documentation_server_is_crawled_under_its_own_name(workspace: Workspace) -> None:
    found = ingest_web(workspace, PydocConfig(max_pages=5, max_bytes=1_000_000))
    rows = workspace.lake.read("raw/web", found.commit.version).to_pylist()
    assert len(rows) == 5 and found.report.cut == "max_pages 5"
    assert all(row["uri"].startswith("http://pydoc.localhost/") for row in rows)
    assert {row["licence"] for row in rows} == {"PSF-2.0"}


def test_installed_files_become_rows(workspace: Workspace) -> None:
    config = PackagesConfig(
        packages=(PackageConfig(name="pydantic", max_bytes=100_000), PackageConfig(name="protego")),
        extensions=("py",),
        max_bytes=10_000_000,
    )
    first = ingest_code(workspace, config)
    rows = workspace.lake.read("raw/code", first.commit.version).to_pylist()
    assert {row["project"] for row in rows} == {"pydantic", "protego"}
    assert {row["licence"] for row in rows} == {"MIT", "BSD-3-Clause"}
    assert all(Path(row["archive"]).read_bytes() == row["payload"] for row in rows)
    assert ingest_code(workspace, config).commit.content == first.commit.content

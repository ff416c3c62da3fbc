"""Papers of arXiv: bulk tars and single bundles, and what the metadata says of each."""

import gzip
import json
import pickle
from pathlib import Path

import pytest

from datalake.config import Refusal
from datalake.licences import Finding, is_allowed
from datalake.sources.files.arxiv import ArxivConfig
from datalake.sources.report import Report
from datalake.sources.source import Record
from tests.datalake.latex_bundles import bundle, paper, tar_of
from tests.datalake.sources.refreshes import refresh_of

CC_BY = "http://creativecommons.org/licenses/by/4.0/"
OWN = "http://arxiv.org/licenses/nonexclusive-distrib/1.0/"
LICENCES = {
    "2101.00001": (CC_BY, "CC-BY-4.0"),
    "2101.00002": ("http://creativecommons.org/licenses/by-nc-sa/3.0/", "CC-BY-NC-SA-3.0"),
    "2101.00003": ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
    "2101.00004": (OWN, "LicenseRef-arxiv-nonexclusive-distrib-1.0"),
    "2101.00005": ("http://creativecommons.org/licenses/publicdomain/", "CC-PDDC"),
    "hep-th/9901001": (
        "http://arxiv.org/licenses/assumed-1991-2003/",
        "LicenseRef-arxiv-assumed-1991-2003",
    ),
}


def row(paper: str, licence: str | None, **more: object) -> str:
    return json.dumps(
        {
            "id": paper,
            "title": f"On the\n  things of {paper}",
            "abstract": "  We show.\n",
            "categories": "math.GT hep-th",
            "license": licence,
            "versions": [
                {"version": "v1", "created": "Mon, 2 Apr 2007 19:18:42 GMT"},
                {"version": "v3", "created": "Tue, 24 Jul 2007 20:10:27 GMT"},
            ],
            "update_date": "2008-11-26",
            **more,
        }
    )


def metadata(folder: Path, *rows: str, name: str = "metadata.json") -> str:
    data = "".join(f"{row}\n" for row in rows).encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(folder / name)


def source(text: str) -> bytes:
    return bundle(main_tex=paper(text))


def bulk(folder: Path, **members: bytes) -> Path:
    """A tar of the bulk data; ``p2101_00001_gz`` is ``2101/2101.00001.gz``."""
    named = {}
    for name, data in members.items():
        stem = name.removeprefix("p").replace("_", ".").replace("hep.th", "hep-th")
        named[f"2101/{stem}"] = data
    path = folder / "arXiv_src_2101_001.tar"
    path.write_bytes(tar_of(named))
    return path


def read(config: ArxivConfig, home: Path, report: Report) -> list[Record]:
    now = refresh_of(home, report)
    pieces = pickle.loads(pickle.dumps(config.pieces(now)))
    found = [event for piece in pieces for event in config.read(piece, now)]
    assert all(isinstance(event, Record) for event in found)
    return [event for event in found if isinstance(event, Record)]


def test_every_bundle_can_be_read_again_at_its_place(tmp_path: Path, report: Report) -> None:
    tar = bulk(tmp_path, p2101_00001_gz=source("one"), p2101_00002_gz=source("two"))
    (tmp_path / "2101.00003v2.tar.gz").write_bytes(source("three"))
    records = read(ArxivConfig(files=(str(tmp_path),)), tmp_path / "home", report)
    assert [r.payload for r in records] == [source("one"), source("two"), source("three")]
    assert [ArxivConfig.read_again(r.place) for r in records] == [r.payload for r in records]
    first = records[0].place
    assert (first.archive, first.member) == (str(tar), "2101/2101.00001.gz")
    assert tar.read_bytes()[first.offset : first.offset + first.length] == source("one")


def test_a_compressed_tar_is_read_again_by_member(tmp_path: Path, report: Report) -> None:
    tar = bulk(tmp_path, p2101_00001_gz=source("one"))
    packed = tmp_path / "arXiv_src_2101_001.tar.gz"
    packed.write_bytes(gzip.compress(tar.read_bytes()))
    (record,) = read(ArxivConfig(files=(str(packed),)), tmp_path / "home", report)
    assert record.place.length == 0
    assert ArxivConfig.read_again(record.place) == source("one")


@pytest.mark.parametrize("name", ["metadata.json", "metadata.json.gz"])
def test_licence_title_and_version_come_from_the_metadata(
    tmp_path: Path, report: Report, name: str
) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    for paper_id in LICENCES:
        (folder / f"{paper_id.replace('/', '')}.gz").write_bytes(source(paper_id))
    rows = [row(paper_id, url) for paper_id, (url, _) in LICENCES.items()]
    config = ArxivConfig(files=(str(folder),), metadata=metadata(tmp_path, *rows, name=name))
    records = {r.own["paper"]: r for r in read(config, tmp_path / "home", report)}
    assert {p: r.licence for p, r in records.items()} == {
        p: Finding(licence, "arXiv metadata", 1.0) for p, (_, licence) in LICENCES.items()
    }
    old = records["hep-th/9901001"]
    assert old.uri == "https://arxiv.org/abs/hep-th/9901001"
    assert old.own == {
        "paper": "hep-th/9901001",
        "paper_version": "v3",
        "title": "On the things of hep-th/9901001",
        "categories": "math.GT hep-th",
    }


def test_arxivs_own_licence_is_not_open() -> None:
    assert not is_allowed("LicenseRef-arxiv-nonexclusive-distrib-1.0")


def test_papers_without_metadata_or_licence_are_kept_and_counted(
    tmp_path: Path, report: Report
) -> None:
    tar = bulk(
        tmp_path,
        p2101_00001_gz=source("1"),
        p2101_00002_gz=source("2"),
        p2101_00003_gz=source("3"),
    )
    rows = [row("2101.00001", None), row("2101.00002", "http://example.org/mine"), "{damaged", ""]
    config = ArxivConfig(files=(str(tar),), metadata=metadata(tmp_path, *rows))
    records = read(config, tmp_path / "home", report)
    assert [r.licence for r in records] == [None] * 3
    assert report.skipped == {
        "no metadata: kept without title and licence": 1,
        "licence in the metadata that is not known: kept without": 1,
    }
    assert report.failed == {"damaged line of the metadata": 1}
    assert report.rows == 3


def test_papers_without_source_and_strange_members_are_counted(
    tmp_path: Path, report: Report
) -> None:
    tar = bulk(
        tmp_path,
        p2101_00001_gz=source("1"),
        p2101_00002_pdf=b"%PDF-1.4",
        p2101_readme=b"hello",
        p2101_00009_gz=b"x" * 2000,
    )
    config = ArxivConfig(files=(str(tar),), max_bundle_bytes=1000)
    assert len(read(config, tmp_path / "home", report)) == 1
    assert report.skipped == {"paper without source: PDF alone": 1, "not named like a paper": 1}
    assert report.failed == {"member larger than max_member_bytes": 1}


def test_a_damaged_tar_gives_what_comes_before_the_damage(tmp_path: Path, report: Report) -> None:
    tar = bulk(tmp_path, p2101_00001_gz=source("1"), p2101_00002_gz=source("2"))
    tar.write_bytes(tar.read_bytes()[:1600])
    records = read(ArxivConfig(files=(str(tar),)), tmp_path / "home", report)
    assert [r.own["paper"] for r in records] == ["2101.00001"] and report.damages
    assert report.cut == f"damaged tar: {tar}"  # so that the others do not count as gone


@pytest.mark.parametrize(
    ("name", "paper_id", "version"),
    [
        ("2101.00001", "2101.00001", None),
        ("2101.00001v12", "2101.00001", "v12"),
        ("arXiv-0704.0001v1.tar.gz", "0704.0001", "v1"),
        ("hep-th9901001.gz", "hep-th/9901001", None),
        ("math.GT_0309136v2.tar.gz", "math/0309136", "v2"),
    ],
)
def test_names_of_files_tell_paper_and_version(
    tmp_path: Path, report: Report, name: str, paper_id: str, version: str | None
) -> None:
    (tmp_path / name).write_bytes(source("x"))
    (record,) = read(ArxivConfig(files=(str(tmp_path / name),)), tmp_path / "home", report)
    assert (record.own["paper"], record.own["paper_version"]) == (paper_id, version)
    assert record.uri == f"https://arxiv.org/abs/{paper_id}"


def test_of_two_versions_the_newer_is_taken(tmp_path: Path, report: Report) -> None:
    for version in (1, 10, 9):
        (tmp_path / f"2101.00001v{version}.gz").write_bytes(source(str(version)))
    (record,) = read(ArxivConfig(files=(str(tmp_path),)), tmp_path / "home", report)
    assert record.own["paper_version"] == "v10"
    assert report.skipped == {"older version of the paper": 2}


def test_the_metadata_is_divided_once_for_each_state(tmp_path: Path, report: Report) -> None:
    tar = bulk(tmp_path, p2101_00001_gz=source("1"))
    home = tmp_path / "home"
    config = ArxivConfig(files=(str(tar),), metadata=metadata(tmp_path, row("2101.00001", CC_BY)))
    read(config, home, report)
    (index,) = (home / "arxiv").iterdir()
    before = (index / "2101.jsonl").stat().st_mtime_ns
    read(config, home, report)
    assert (index / "2101.jsonl").stat().st_mtime_ns == before
    metadata(tmp_path, row("2101.00001", OWN), row("2102.00001", OWN))
    (record,) = read(config, home, report)
    assert record.licence is not None and "nonexclusive" in record.licence.licence
    assert [p.name for p in (home / "arxiv").iterdir()] != [index.name]


def test_watching_sees_a_new_tar_and_new_metadata(tmp_path: Path) -> None:
    name = metadata(tmp_path, row("2101.00001", CC_BY))
    folder = tmp_path / "bulk"
    folder.mkdir()
    bulk(folder, p2101_00001_gz=source("1"))
    config = ArxivConfig(files=(str(folder),), metadata=name)
    seen = {config.watched(), config.watched()}
    (folder / "arXiv_src_2101_002.tar").write_bytes(tar_of({}))
    seen.add(config.watched())
    metadata(tmp_path, row("2101.00001", OWN), row("2101.00002", OWN))
    seen.add(config.watched())
    assert len(seen) == 3


def test_what_is_missing_is_refused(tmp_path: Path, report: Report) -> None:
    now = refresh_of(tmp_path / "home", report)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(Refusal, match=r"files\[0\] must name what exists, got .*none\.tar"):
        ArxivConfig(files=(str(tmp_path / "none.tar"),)).pieces(now)
    with pytest.raises(Refusal, match=r"files\[0\] must name what exists, got .*\*\.tar"):
        ArxivConfig(files=(str(tmp_path / "*.tar"),)).pieces(now)
    with pytest.raises(Refusal, match="files must hold a bundle of LaTeX sources, got"):
        ArxivConfig(files=(str(tmp_path / "notes.txt"),)).pieces(now)
    with pytest.raises(Refusal, match="metadata must be a file of JSON lines that exists"):
        config = ArxivConfig(files=(str(tmp_path),), metadata=str(tmp_path / "m.json"))
        config.pieces(now)

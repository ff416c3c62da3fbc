"""Source files of installed distributions, on distributions that the test installs."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.sources.packages import (
    PackageConfig,
    PackagesConfig,
    canonical_name,
    read_packages,
)
from datalake.sources.record import Row, doc_id, to_batches
from datalake.sources.report import Report


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose distributions count as installed."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return tmp_path


def install(
    folder: Path,
    name: str,
    files: dict[str, bytes],
    licence: str = "License-Expression: MIT",
    version: str = "1.0",
) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{licence}\n"
    (info / "METADATA").write_text(metadata)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))


def read(report: Report, *packages: str | PackageConfig, **changes: object) -> list[Row]:
    named = tuple(p if isinstance(p, PackageConfig) else PackageConfig(name=p) for p in packages)
    values = {"packages": named, "extensions": ("py",), "max_bytes": 1_000_000}
    return list(read_packages(PackagesConfig(**values | changes), "today", report))


def test_files_come_with_package_version_path_and_licence(
    site_packages: Path, report: Report
) -> None:
    install(site_packages, "Some_Thing", {"some/a.py": b"a = 1\n", "some/b.txt": b"no"})
    (row,) = read(report, "some-thing")
    assert row["payload"] == b"a = 1\n" and row["path"] == "some/a.py"
    assert (row["package"], row["package_version"]) == ("some-thing", "1.0")
    assert row["licence"] == "MIT" and row["snapshot"] == "today"
    assert row["archive"] == str(site_packages / "some/a.py")
    assert (row["offset"], row["length"]) == (0, 6)


def test_rows_fit_the_table(site_packages: Path, report: Report) -> None:
    install(site_packages, "thing", {"thing/a.py": b"a\n", "thing/latin.py": b"# \xe9\n"})
    (batch,) = to_batches(read(report, "thing"), TABLES["raw/code"].arrow)
    batch.validate(full=True)
    # Bytes that are no UTF-8 stay as they are: decoding them is the next stage's business.
    assert batch["payload"].to_pylist() == [b"a\n", b"# \xe9\n"]


def test_a_file_of_the_next_version_is_the_same_document(
    site_packages: Path, tmp_path_factory: pytest.TempPathFactory, report: Report
) -> None:
    install(site_packages, "thing", {"thing/a.py": b"a = 1\n"})
    (row,) = read(report, "thing")
    assert row["doc_id"] == doc_id("code", "pkg:pypi/thing#thing/a.py")


def test_a_tag_in_a_file_says_more_than_its_package(site_packages: Path, report: Report) -> None:
    tagged = b"# SPDX-License-Identifier: GPL-3.0-only\n"
    install(site_packages, "thing", {"a.py": tagged, "b.py": b"b = 1\n"})
    assert [row["licence"] for row in read(report, "thing")] == ["GPL-3.0-only", "MIT"]


def test_a_package_that_names_no_licence_has_none(site_packages: Path, report: Report) -> None:
    install(site_packages, "thing", {"a.py": b"a = 1\n"}, licence="Summary: x")
    assert [row["licence"] for row in read(report, "thing")] == [None]


def test_a_capped_package_gives_the_same_sample_whatever_came_first(
    site_packages: Path, report: Report
) -> None:
    files = {f"m/{n:02}.py": b"x" * 100 for n in range(50)}
    install(site_packages, "one", files)
    install(site_packages, "two", {f"n/{p}": c for p, c in reversed(files.items())})
    capped = PackageConfig(name="one", max_bytes=1000)
    names = [row["path"] for row in read(report, capped)]
    assert len(names) == 10 and names == sorted(names) and names != sorted(files)[:10]
    assert report.skipped == {"over the cap of its package": 40}
    again = [row["path"] for row in read(Report("test", lambda line: None), capped)]
    more = PackageConfig(name="one", max_bytes=2000)
    larger = [row["path"] for row in read(Report("test", lambda line: None), more)]
    assert again == names and set(names) < set(larger)


def test_the_total_is_bounded_and_says_so(site_packages: Path, report: Report) -> None:
    install(site_packages, "one", {f"a/{n}.py": b"x" * 100 for n in range(5)})
    install(site_packages, "two", {f"b/{n}.py": b"x" * 100 for n in range(5)})
    assert len(read(report, "one", "two", max_bytes=750)) == 7
    assert report.cut == "max_bytes 750, in two"


def test_what_is_left_out_is_counted(site_packages: Path, report: Report) -> None:
    files = {"a.py": b"a = 1\n", "empty.py": b"", "big.py": b"x" * 2000, "gone.py": b"x"}
    install(site_packages, "thing", {**files, "../bin/script.py": b"x"})
    (site_packages / "gone.py").unlink()
    assert [row["path"] for row in read(report, "thing", max_file_bytes=1000)] == ["a.py"]
    assert report.skipped == {"empty": 1, "larger than max_file_bytes": 1}


def test_a_file_that_two_distributions_list_is_taken_once(
    site_packages: Path, report: Report
) -> None:
    install(site_packages, "one", {"a.py": b"a = 1\n"})
    install(site_packages, "two", {"a.py": b"a = 1\n"})
    assert [row["package"] for row in read(report, "one", "two")] == ["one"]
    assert report.skipped == {"in two distributions": 1}


@pytest.mark.parametrize("name", ["no-such-thing", "", "../etc"])
def test_a_name_that_is_not_installed_is_refused(report: Report, name: str) -> None:
    message = r"packages\[1\].name must be the name of an installed distribution, got "
    with pytest.raises(Refusal, match=message):
        read(report, "pytest", name)


def test_a_distribution_without_a_list_of_files_is_refused(
    site_packages: Path, report: Report
) -> None:
    install(site_packages, "thing", {"a.py": b"a = 1\n"})
    (site_packages / "thing-1.0.dist-info/RECORD").unlink()
    message = r"packages\[0\].name must be a distribution that lists its files, got 'thing'"
    with pytest.raises(Refusal, match=message):
        read(report, "thing")


@given(st.lists(st.sampled_from("aB-_.9"), min_size=1).map("".join))
def test_the_spelling_of_a_name_does_not_matter(name: str) -> None:
    assert canonical_name(canonical_name(name)) == canonical_name(name)
    assert canonical_name(name.replace("_", "-").upper()) == canonical_name(name)

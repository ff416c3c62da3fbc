"""Source files of installed distributions, on distributions that the test installs."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from datalake.sources.report import Report
from datalake.sources.software.packages import PackageConfig, PackagesConfig, canonical_name
from datalake.sources.source import Place, Record
from tests.datalake.sources.refreshes import refresh_of


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


def read(report: Report, *packages: str | PackageConfig, **changes: object) -> list[Record]:
    named = tuple(p if isinstance(p, PackageConfig) else PackageConfig(name=p) for p in packages)
    values = {"packages": named, "extensions": ("py",), "max_bytes": 1_000_000}
    config = PackagesConfig(**values | changes)
    refresh = refresh_of(Path("unused"), report)
    events = [event for piece in config.pieces(refresh) for event in config.read(piece, refresh)]
    return [event for event in events if isinstance(event, Record)]


def paths(records: list[Record]) -> list[str]:
    return [record.own["path"] for record in records]


def licences(records: list[Record]) -> list[str | None]:
    return [record.licence and record.licence.licence for record in records]


def test_files_come_with_package_version_path_and_licence(
    site_packages: Path, report: Report
) -> None:
    install(site_packages, "Some_Thing", {"some/a.py": b"a = 1\n", "some/b.txt": b"no"})
    (record,) = read(report, "some-thing")
    assert record.payload == b"a = 1\n"
    assert record.own == {"project": "some-thing", "revision": "1.0", "path": "some/a.py"}
    assert record.licence is not None and record.licence.evidence == "License-Expression"
    assert record.place == Place(archive=str(site_packages / "some/a.py"), length=6)
    assert PackagesConfig.read_again(record.place) == b"a = 1\n"


def test_a_file_of_the_next_version_is_the_same_document(
    site_packages: Path, report: Report
) -> None:
    install(site_packages, "thing", {"thing/a.py": b"a = 1\n", "thing/latin.py": b"# \xe9\n"})
    first, second = read(report, "thing")
    assert first.uri == "pkg:pypi/thing#thing/a.py" and first.position == ""
    # Bytes that are no UTF-8 stay as they are: decoding them is the next stage's business.
    assert second.payload == b"# \xe9\n"


def test_a_tag_in_a_file_says_more_than_its_package(site_packages: Path, report: Report) -> None:
    tagged = b"# SPDX-License-Identifier: GPL-3.0-only\n"
    install(site_packages, "thing", {"a.py": tagged, "b.py": b"b = 1\n"})
    assert licences(read(report, "thing")) == ["GPL-3.0-only", "MIT"]


def test_a_package_that_names_no_licence_has_none(site_packages: Path, report: Report) -> None:
    install(site_packages, "thing", {"a.py": b"a = 1\n"}, licence="Summary: x")
    assert licences(read(report, "thing")) == [None]


def test_a_capped_package_gives_the_same_sample_whatever_came_first(
    site_packages: Path, report: Report
) -> None:
    files = {f"m/{n:02}.py": b"x" * 100 for n in range(50)}
    install(site_packages, "one", files)
    install(site_packages, "two", {f"n/{p}": c for p, c in reversed(files.items())})
    capped = PackageConfig(name="one", max_bytes=1000)
    names = paths(read(report, capped))
    assert len(names) == 10 and names == sorted(names) and names != sorted(files)[:10]
    assert report.skipped == {"over the cap of its package": 40}
    again = paths(read(Report("test", lambda line: None), capped))
    more = PackageConfig(name="one", max_bytes=2000)
    larger = paths(read(Report("test", lambda line: None), more))
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
    assert paths(read(report, "thing", max_file_bytes=1000)) == ["a.py"]
    assert report.skipped == {"empty": 1, "larger than max_file_bytes": 1}


def test_a_file_that_two_distributions_list_is_taken_once(
    site_packages: Path, report: Report
) -> None:
    install(site_packages, "one", {"a.py": b"a = 1\n"})
    install(site_packages, "two", {"a.py": b"a = 1\n"})
    assert [record.own["project"] for record in read(report, "one", "two")] == ["one"]
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

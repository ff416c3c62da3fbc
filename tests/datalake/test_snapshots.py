"""A snapshot holds what is new, changed or gone, and an interrupted one comes to the same end."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datalake.config import Refusal
from datalake.ingestion import Ingested, ingest
from datalake.snapshots import State, superseded
from datalake.workspace import Workspace
from tests.datalake.sources.shelf import Shelf

TABLE = "raw/directories"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    folder.mkdir()
    write(folder, a=("one 1", "two 2"), b=("three 3",), c=("four 4", "five 5"))
    return folder


def write(folder: Path, **files: tuple[str, ...]) -> None:
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("\n".join(lines))


def refresh(workspace: Workspace, day: int, **changes: Any) -> Ingested:
    at = replace(workspace, origin={"tarn/snapshot": f"2026-01-{day:02}"})
    return ingest(at, TABLE, {"shelf": Shelf(**changes)})


def rows(workspace: Workspace, day: int | None = None) -> set[tuple[str, bytes | None]]:
    where = None if day is None else {"snapshot": f"2026-01-{day:02}"}
    found = workspace.lake.read(TABLE, where=where).to_pylist()
    return {(row["position"], row["payload"]) for row in found}


def state(workspace: Workspace) -> dict[str, str]:
    return {
        row["position"]: row["payload"].decode()
        for row in State.before(workspace.lake, TABLE, "shelf", lambda name: True)
        .rows(["position", "payload"])
        .to_pylist()
    }


def test_the_same_again_adds_nothing(workspace: Workspace, folder: Path) -> None:
    first = refresh(workspace, 1, folder=str(folder))
    again = refresh(workspace, 1, folder=str(folder))
    later = refresh(workspace, 2, folder=str(folder))
    assert first.commit.rows == 5
    assert again.commit == replace(first.commit, changed=False)
    assert later.commit == replace(first.commit, changed=False)
    assert (later.report.unchanged, later.report.gone) == (5, 0)


def test_a_snapshot_holds_what_is_new_changed_or_gone(workspace: Workspace, folder: Path) -> None:
    refresh(workspace, 1, folder=str(folder))
    write(folder, a=("one 1", "two 22"), d=("six 6",))
    (folder / "b.txt").unlink()
    found = refresh(workspace, 2, folder=str(folder))
    assert rows(workspace, 2) == {("two", b"two 22"), ("six", b"six 6"), ("three", None)}
    assert (found.report.unchanged, found.report.gone) == (3, 1)
    assert state(workspace) == {
        "one": "one 1",
        "two": "two 22",
        "four": "four 4",
        "five": "five 5",
        "six": "six 6",
    }


def test_a_record_under_another_licence_is_another_version(
    workspace: Workspace, folder: Path
) -> None:
    refresh(workspace, 1, folder=str(folder))
    found = refresh(workspace, 2, folder=str(folder), licence="MIT")
    assert found.commit.rows == 10 and found.report.unchanged == 0
    assert refresh(workspace, 3, folder=str(folder), licence="MIT").report.unchanged == 5


def test_what_is_gone_may_come_back(workspace: Workspace, folder: Path) -> None:
    refresh(workspace, 1, folder=str(folder))
    (folder / "b.txt").unlink()
    refresh(workspace, 2, folder=str(folder))
    assert refresh(workspace, 3, folder=str(folder)).commit.changed is False
    write(folder, b=("three 3",))
    refresh(workspace, 4, folder=str(folder))
    assert rows(workspace, 4) == {("three", b"three 3")} and len(state(workspace)) == 5


def test_a_snapshot_that_is_done_again_is_replaced(workspace: Workspace, folder: Path) -> None:
    refresh(workspace, 1, folder=str(folder))
    write(folder, b=("three 33",))
    refresh(workspace, 2, folder=str(folder))
    write(folder, b=("three 3",))
    refresh(workspace, 2, folder=str(folder))
    assert rows(workspace, 2) == set() and state(workspace)["three"] == "three 3"


def test_two_sources_of_one_table_do_not_touch_each_other(
    workspace: Workspace, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(other, z=("nine 9",))
    both = {"shelf": Shelf(folder=str(folder)), "other": Shelf(folder=str(other))}
    assert ingest(workspace, TABLE, both).commit.rows == 6
    (folder / "a.txt").unlink()
    at = replace(workspace, origin={"tarn/snapshot": "9999"})
    assert ingest(at, TABLE, both).report.gone == 2
    assert len(state(workspace)) == 3


def test_a_file_that_cannot_be_had_is_listed_and_nothing_is_called_gone(
    workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datalake.ingestion._BACK_OFF_SECONDS", 0.0)
    refresh(workspace, 1, folder=str(folder))
    (folder / "a.txt").unlink()
    (folder / "b.txt").unlink()
    (folder / "b.txt").mkdir()
    found = refresh(workspace, 2, folder=str(folder))
    assert found.report.failed == {"could not be had": 1} and found.report.gone == 0
    assert "b.txt" in str(found.report.as_dict()["first failed: could not be had"])
    assert len(state(workspace)) == 5


def test_pieces_read_by_spark_are_the_same_rows(spark_workspace: Workspace, folder: Path) -> None:
    here = replace(spark_workspace, home=spark_workspace.home / "here")
    plain = refresh(here, 1, folder=str(folder))
    spread = refresh(spark_workspace, 1, folder=str(folder), num_bytes=1 << 30)
    assert spread.commit.content == plain.commit.content
    assert spread.report.rows == 5


@pytest.mark.parametrize("num_bytes", [1, 1 << 30])
def test_a_refusal_of_a_piece_is_that_of_the_ingestion(
    spark_workspace: Workspace, folder: Path, num_bytes: int
) -> None:
    write(folder, refused=("one 1",))
    with pytest.raises(Refusal, match="files must hold lines, got none"):
        refresh(spark_workspace, 1, folder=str(folder), num_bytes=num_bytes)
    assert spark_workspace.lake.latest(TABLE) is None


KILLED = """
import sys
from pathlib import Path
from datalake.ingestion import ingest
from datalake.workspace import Workspace
from tests.datalake.sources.shelf import Shelf
workspace = Workspace(home=Path(sys.argv[1]), origin={"tarn/snapshot": "2026-01-02"})
ingest(workspace, "raw/directories", {"shelf": Shelf(folder=sys.argv[2])})
"""


def die(workspace: Workspace, folder: Path, at: str) -> None:
    """An ingestion of the second day that is killed in the piece ``at``."""
    (folder / "kill").write_text(at)
    arguments = [str(workspace.home), str(folder)]
    died = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert died.returncode == -9, died.stderr.decode()
    (folder / "kill").unlink()


def test_a_killed_ingestion_goes_on_and_ends_like_an_undisturbed_one(
    workspace: Workspace, folder: Path
) -> None:
    other = replace(workspace, home=workspace.home / "other")
    for each in (workspace, other):
        refresh(each, 1, folder=str(folder))
    write(folder, a=("one 1", "two 22"), b=("three 33",), c=("four 44", "seven 7"))
    undisturbed = refresh(other, 2, folder=str(folder)).commit
    die(workspace, folder, "c.txt")
    die(workspace, folder, "c.txt")
    assert len(state(workspace)) == 5 and workspace.lake.latest(TABLE) == 0
    said: list[str] = []
    found = refresh(replace(workspace, say=said.append), 2, folder=str(folder))
    assert found.commit.content == undisturbed.content
    assert (found.report.gone, found.report.unchanged) == (1, 1)
    assert "shelf: 2 of 3 pieces were read before" in said
    assert not list((workspace.home / "ingesting").iterdir())


def test_pieces_of_one_name_are_noted_apart(workspace: Workspace, folder: Path) -> None:
    (folder / "below").mkdir()
    write(folder / "below", a=("eight 8",), b=("nine 9", "ten 10"))
    die(workspace, folder, "c.txt")
    refresh(workspace, 2, folder=str(folder))
    assert len(state(workspace)) == 8


def test_a_source_that_was_cut_calls_nothing_gone_and_another_one_does(
    workspace: Workspace, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(other, x=("eight 8",), y=("nine 9",))
    both = {"other": Shelf(folder=str(other)), "shelf": Shelf(folder=str(folder))}
    ingest(replace(workspace, origin={"tarn/snapshot": "2026-01-01"}), TABLE, both)
    write(other, cut=("ten 10",))
    (other / "x.txt").unlink()
    (folder / "b.txt").unlink()
    at = replace(workspace, origin={"tarn/snapshot": "2026-01-02"})
    found = ingest(at, TABLE, both)
    assert rows(workspace, 2) == {("ten", b"ten 10"), ("three", None)}
    assert found.report.cut == "somewhere" and found.report.gone == 1


def test_what_is_committed_survives_an_interruption_before_the_notes_are_gone(
    workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datalake.ingestion.shutil.rmtree", lambda *args, **kwargs: None)
    first = refresh(workspace, 1, folder=str(folder)).commit
    again = refresh(workspace, 1, folder=str(folder)).commit
    assert again == replace(first, changed=False) and len(rows(workspace)) == 5


def test_versions_of_a_record_that_are_no_documents(workspace: Workspace, folder: Path) -> None:
    refresh(workspace, 1, folder=str(folder))
    write(folder, a=("one 11", "two 2"))
    (folder / "b.txt").unlink()
    version = refresh(workspace, 2, folder=str(folder)).commit.version

    def documents(**rule: Any) -> set[tuple[str, str]]:
        old = superseded(workspace.lake, TABLE, version, **rule)
        found = workspace.lake.read(TABLE, version).to_pylist()
        keys = ("doc_id", "snapshot", "origin", "archive", "member", "offset")
        return {
            (row["position"], (row["payload"] or b"").decode())
            for row in found
            if tuple(row[key] for key in keys) not in old
        }

    rest = {("two", "two 2"), ("four", "four 4"), ("five", "five 5")}
    assert documents() == {("one", "one 11")} | rest
    assert documents(oldest=True) == {("one", "one 1")} | rest
    assert documents(until="2026-01-01") == {("one", "one 1"), ("three", "three 3")} | rest


def test_a_source_that_has_nothing_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="raw/directories must be written with at least one row"):
        refresh(workspace, 1, folder=str(tmp_path))

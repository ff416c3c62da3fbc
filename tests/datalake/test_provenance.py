"""From a document back to its bytes: what is known of it, and that the bytes are the same."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from datalake.config import Refusal
from datalake.ingestion import ingest
from datalake.inventory import holdings, inventory, licence_chart
from datalake.provenance import KINDS, bytes_of, read_again, trace
from datalake.schemas import TABLES
from datalake.sources.record import doc_id
from datalake.workspace import Workspace
from tests.datalake.sources.shelf import Shelf

TABLE = "raw/directories"


@pytest.fixture
def shelf(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that two snapshots were taken of; in between a line changed and one went."""
    monkeypatch.setitem(KINDS, "shelf", Shelf)
    file = tmp_path / "a.txt"
    file.write_text("one 1\ntwo 2\nthree 3")
    source = {"shelf": Shelf(folder=str(tmp_path))}
    ingest(replace(workspace, origin={"tarn/snapshot": "2026-01-01"}), TABLE, source)
    file.write_text("one 1\ntwo 22")
    ingest(replace(workspace, origin={"tarn/snapshot": "2026-01-02"}), TABLE, source)
    return file


def test_a_document_is_traced_by_its_id_through_every_version(
    workspace: Workspace, shelf: Path
) -> None:
    identity = doc_id("directories", "shelf:a.txt", "two")
    found = trace(workspace.lake, identity)
    assert [(table, row["snapshot"]) for table, row in found.raw] == [
        (TABLE, "2026-01-01"),
        (TABLE, "2026-01-02"),
    ]
    assert read_again(found.raw[-1][1]) == b"two 22" and found.stages == {}


def test_bytes_that_changed_since_are_not_taken_for_those_of_the_row(
    workspace: Workspace, shelf: Path
) -> None:
    (_, first), _ = trace(workspace.lake, doc_id("directories", "shelf:a.txt", "two")).raw
    with pytest.raises(Refusal, match=r"a.txt must hold the bytes of sha1:\w{32}, got sha1:"):
        read_again(first)


def test_the_table_gives_the_bytes_that_their_source_has_no_longer(
    workspace: Workspace, shelf: Path
) -> None:
    found = trace(workspace.lake, doc_id("directories", "shelf:a.txt", "two"))
    (_, first), (_, second) = found.raw
    assert bytes_of(workspace.lake, TABLE, second) == (b"two 22", None)
    payload, problem = bytes_of(workspace.lake, TABLE, first)
    assert payload == b"two 2" and problem is not None and "must hold the bytes of" in problem
    shelf.unlink()
    payload, problem = bytes_of(workspace.lake, TABLE, second)
    assert payload == b"two 22" and problem is not None and "No such file" in problem


def test_a_document_that_nobody_has_is_refused(workspace: Workspace, shelf: Path) -> None:
    message = "document must be the id or the address of a document in a raw table, got nobody"
    with pytest.raises(Refusal, match=message):
        trace(workspace.lake, "nobody")


def test_an_address_that_holds_several_documents_is_refused_with_their_ids(
    workspace: Workspace, shelf: Path
) -> None:
    with pytest.raises(Refusal, match=r"shelf:a.txt holds 3, by id such as [0-9a-f]{32} \(one\)"):
        trace(workspace.lake, "shelf:a.txt")


def test_the_inventory_counts_what_is_there_now(workspace: Workspace, shelf: Path) -> None:
    (holding,) = inventory(workspace.lake)
    assert (holding.table, holding.origin, holding.kinds) == (TABLE, "shelf", ("shelf",))
    assert [(s.name, s.rows, s.gone) for s in holding.snapshots] == [
        ("2026-01-01", 3, 0),
        ("2026-01-02", 1, 1),
    ]
    assert (holding.records, holding.num_bytes) == (2, len(b"one 1" + b"two 22"))
    assert holding.licences == {"unknown": 2} and holding.newest_at is not None
    (before,) = holdings(workspace.lake, TABLE, 0)
    assert (before.records, len(before.snapshots)) == (3, 1)
    assert holdings(workspace.lake, "raw/pdf") == []
    chart = licence_chart([holding])
    assert chart.startswith("<svg") and "unknown" in chart and chart == licence_chart([holding])


def test_a_trace_says_how_much_was_cut_from_a_document_and_why(
    workspace: Workspace, shelf: Path
) -> None:
    identity = doc_id("directories", "shelf:a.txt", "two")
    cut = {"doc_id": identity, "source": "directories", "replacement": ""}
    places = [(0, 2, "repeated_line"), (3, 5, "repeated_line"), (5, 6, "personal_email")]
    rows = [cut | {"start": a, "end": b, "reason": why} for a, b, why in places]
    workspace.lake.overwrite("cuts", pa.Table.from_pylist(rows, TABLES["cuts"].arrow))
    assert trace(workspace.lake, identity).stages == {
        "cuts": {"personal_email": "1 places, 1 bytes", "repeated_line": "2 places, 4 bytes"}
    }


def test_a_trace_says_what_of_a_document_is_trained_on(workspace: Workspace, shelf: Path) -> None:
    identity = doc_id("directories", "shelf:a.txt", "two")
    row = {"doc_id": identity, "source": "directories", "cluster": "c", "weight": 1.0}
    row |= {"num_bytes": 3, "num_tokens": 2, "tokens": b"abcd", "measured": "0" * 32}
    workspace.lake.overwrite("encoded", pa.Table.from_pylist([row], TABLES["encoded"].arrow))
    held = [["other"], [identity, "other", identity], [identity]]
    packed = {
        "row_id": [0, 1, 2],
        "split": ["train"] * 3,
        "tokens": [bytes(18)] * 3,
        "vocab_size": [300] * 3,
        "num_tokens": [9] * 3,
        "doc_ids": held,
        "doc_starts": [[0], [0, 3, 6], [0]],
        "doc_offsets": [[0], [0, 0, 3], [6]],
    }
    workspace.lake.overwrite("tokens", pa.table(packed, TABLES["tokens"].arrow))
    stages = trace(workspace.lake, identity).stages
    assert stages["encoded"] == {k: v for k, v in row.items() if k != "tokens"}
    assert stages["tokens"] == {"train": "3 pieces in 2 rows"}

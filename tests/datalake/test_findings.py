"""What the data card counts and shows besides whole documents."""

import numpy as np
import pyarrow as pa
import pytest

from datalake import findings, samples
from datalake.cuts import cuts_of
from datalake.findings import Found, Places
from datalake.schemas import TABLES
from datalake.tables import Lake
from datalake.workspace import Workspace
from tests.datalake.document_rows import documents


@pytest.fixture
def lake(workspace: Workspace) -> Lake:
    return workspace.lake


def store(lake: Lake, name: str, *rows: dict) -> int:
    schema = TABLES[name].arrow
    zeros = {"int64": 0, "double": 0.0, "bool": False}
    zeros |= dict.fromkeys(("string", "large_string"), "") | {"binary": b""}
    filled = [{f.name: zeros.get(str(f.type), []) for f in schema} | row for row in rows]
    return lake.overwrite(name, pa.Table.from_pylist(filled, schema)).version


def test_cuts_are_counted_by_source_and_reason_most_bytes_first(lake: Lake) -> None:
    cut = {"source": "web", "reason": "c4_policy", "start": 0, "end": 5}
    version = store(
        lake,
        "cuts",
        cut | {"doc_id": "a"},
        cut | {"doc_id": "b"},
        cut | {"doc_id": "a", "reason": "repeated_line", "end": 70},
        cut | {"doc_id": "c", "source": "code"},
    )
    counts = findings.count_cuts(lake, version)
    assert counts == {
        "code": {"c4_policy": Places(1, 5)},
        "web": {"repeated_line": Places(1, 70), "c4_policy": Places(2, 10)},
    }
    assert list(counts["web"]) == ["repeated_line", "c4_policy"]


def test_items_of_benchmarks_are_counted_once_however_often_they_stand(lake: Lake) -> None:
    row = {"source": "web", "benchmark": "gsm8k", "item_id": "1", "remove": True}
    version = store(
        lake,
        "contamination",
        row | {"doc_id": "a", "start": 0},
        row | {"doc_id": "a", "start": 9},
        row | {"doc_id": "b", "remove": False},
    )
    assert findings.count_contamination(lake, version) == {"gsm8k": Found(1, 2, 2)}


def scored(lake: Lake, *scores: float | None, source: str = "web") -> int:
    rows = [
        {"doc_id": f"{k:032x}", "source": source, "score_names": ["x"], "scores": [score]}
        for k, score in enumerate(scores)
    ]
    return store(lake, "signals", *rows)


def test_every_score_is_in_one_bin_and_those_that_say_nothing_in_none(lake: Lake) -> None:
    values = [*np.linspace(0, 1, 50), float("nan"), 1e9]
    histogram = findings.score_histograms(lake, scored(lake, *values))["x"]
    assert sum(histogram.counts["web"]) == 51
    assert len(histogram.edges) == findings.NUM_BINS + 1


def test_scores_of_many_magnitudes_have_bins_of_equal_ratios(lake: Lake) -> None:
    histogram = findings.score_histograms(lake, scored(lake, *np.geomspace(1, 1e6, 60)))["x"]
    ratios = histogram.edges[1:] / histogram.edges[:-1]
    assert ratios == pytest.approx(np.full(findings.NUM_BINS, ratios[0]))
    assert min(histogram.counts["web"]) >= 2


def test_scores_that_are_all_equal_or_missing_are_no_fault(lake: Lake) -> None:
    same = findings.score_histograms(lake, scored(lake, 0.5, 0.5, 0.5))["x"]
    assert sum(same.counts["web"]) == 3
    assert findings.score_histograms(lake, scored(lake, float("nan"))) == {}
    assert findings.score_histograms(lake, store(lake, "signals", {"doc_id": "a"})) == {}


TEXT = "Call Jane: jane@city-hall.nl.\nAll rights reserved.\nThe end."


def sampled(workspace: Workspace, number: int) -> tuple[list, list]:
    lake = workspace.lake
    batch = documents(*[f"{TEXT} {k}" for k in range(9)])
    lake.overwrite("documents", [batch])
    ids = batch["doc_id"].to_pylist()
    kept = [
        {"doc_id": i, "source": "web", "keep": k < 4, "reason": None if k < 4 else "short"}
        for k, i in enumerate(ids)
    ]
    store(lake, "kept", *kept)
    store(lake, "corpus", *({"doc_id": i, "source": "web"} for i in ids[:4]))
    raw = TEXT.encode()
    line, mail = raw.index(b"All"), raw.index(b"jane")
    cuts = [
        cuts_of(batch, np.array([k]), np.array([a]), np.array([b]), why, said)
        for k in range(4)
        for a, b, why, said in (
            (line, line + 21, "repeated_line", ""),
            (mail, mail + 17, "personal_email", "<email>"),
        )
    ]
    lake.overwrite("cuts", cuts)
    inputs = dict.fromkeys(("documents", "kept", "corpus", "cuts"), 0)
    return (
        samples.of_documents(workspace, inputs, number, 1),
        samples.of_cuts(workspace, inputs, number, 1),
    )


def test_samples_are_drawn_of_every_reason_and_never_show_personal_data(
    workspace: Workspace,
) -> None:
    shown, cut = sampled(workspace, 2)
    assert [one.reason for one in shown] == [None, None, "short", "short"]
    assert [one.reason for one in cut] == ["personal_email"] * 2 + ["repeated_line"] * 2
    said = [one.text for one in shown] + [one.before + one.cut + one.after for one in cut]
    assert not any("jane@" in text for text in said)
    assert all("<email>" in one.text for one in shown)
    assert {(one.cut, one.replacement) for one in cut} == {
        ("All rights reserved.\n", ""),
        ("", "<email>"),
    }
    assert cut[-1].after.startswith("The end.")


def test_the_same_samples_are_drawn_again(workspace: Workspace) -> None:
    first = sampled(workspace, 3)
    again = samples.of_documents(workspace, dict.fromkeys(("documents", "kept", "corpus"), 0), 3, 1)
    assert again == first[0]
    others = samples.of_documents(
        workspace, dict.fromkeys(("documents", "kept", "corpus"), 0), 3, 2
    )
    assert others != again

"""The stage: what its settings change, what it reports, and a hundred thousand equal documents."""

import time

import pyarrow as pa
import pytest

from datalake import run
from datalake.config import Refusal
from datalake.dedup.clustering.clusters import size_chart
from datalake.dedup.clustering.edges import Verify
from datalake.schemas import TABLES
from datalake.workspace import Made, Workspace


def store(workspace: Workspace, **columns: list) -> dict[str, int]:
    """Versions of ``signals`` and ``kept``: all documents are kept, other signals are zero."""
    size = len(columns["doc_id"])
    zero = {"string": "", "int64": 0, "double": 0.0, "bool": False, "binary": None}

    def table(name: str, given: dict[str, list]) -> pa.Table:
        schema = TABLES[name].arrow
        arrays = [
            pa.array(given.get(f.name, [zero.get(str(f.type), [])] * size), f.type) for f in schema
        ]
        return pa.Table.from_arrays(arrays, schema=schema)

    columns = {"source": ["web"] * size, "num_bytes": [100] * size} | columns
    signals = table("signals", columns)
    kept = table("kept", columns | {"keep": [True] * size, "reason": [None] * size})
    lake = workspace.lake
    return {
        "signals": lake.overwrite("signals", signals).version,
        "kept": lake.overwrite("kept", kept).version,
    }


def stage(workspace: Workspace, versions: dict[str, int], **config: object) -> tuple[Made, dict]:
    made = run.duplicates(workspace, versions, run.DuplicatesConfig(**config))  # type: ignore[arg-type]
    rows = workspace.lake.read("duplicates", int(made.version)).to_pylist()
    return made, {r["doc_id"]: (r["survivor"], r["kind"]) for r in rows}


SIX = {
    "doc_id": list("abcdef"),
    "num_bytes": [5, 4, 9, 3, 7, 8],
    "mean_word_length": [5.0, 4.0, 1.0, 6.0, 1.0, 1.0],
    "score_names": [["prose", "worth"]] * 6,
    "scores": [[0.0, s] for s in (0.1, 0.9, 0.2, 0.3, 0.4, 0.5)],
    "text_digest": list("112345"),
    "url_key": ["x.org", "y.org", "x.org", "", "", "z.org"],
    "band_keys": [[], [], [], [8], [8], []],
    "signature": [None, None, None, bytes(8), bytes([1] * 8), None],
}


def test_settings_say_which_keys_count_and_who_stays(spark_workspace: Workspace) -> None:
    versions = store(spark_workspace, **SIX)
    made, rows = stage(spark_workspace, versions)
    assert rows == {
        "a": ("a", "exact"),
        "b": ("a", "exact"),
        "c": ("c", "unique"),
        "d": ("e", "near"),
        "e": ("e", "exact"),
        "f": ("f", "unique"),
    }
    assert dict(made.report) == {
        "survivors": 4,
        "copies by address": 0,
        "exact copies": 1,
        "near copies": 1,
        "bytes of copies": 7,
        "clusters": 2,
        "documents in the largest cluster": 2,
    }
    made, rows = stage(spark_workspace, versions, urls=True, best="scores.worth")
    assert rows["c"] == (
        "b",
        "near",
    )  # by the address of a, which is no longer that of its survivor
    assert rows["d"] == ("e", "near")
    made, rows = stage(
        spark_workspace,
        versions,
        urls=True,
        best="mean_word_length",
        verify=Verify(min_similarity=0.5),
        max_driver_edges=0,
    )
    assert rows == {
        "a": ("a", "exact"),
        "b": ("a", "exact"),
        "c": ("a", "url"),
        "d": ("d", "unique"),
        "e": ("e", "unique"),
        "f": ("f", "unique"),
    }
    assert made.report["copies by address"] == 1
    assert made.report["documents in the largest cluster"] == 3


def test_a_quality_that_was_not_measured_is_refused(spark_workspace: Workspace) -> None:
    versions = store(spark_workspace, **SIX)
    message = "best must be scores of one of prose, worth, got scores.edu"
    with pytest.raises(Refusal, match=message):
        stage(spark_workspace, versions, best="scores.edu")
    message = "best must be scores.NAME or one of num_bytes, num_words, .*, got text_digest"
    with pytest.raises(Refusal, match=message):
        stage(spark_workspace, versions, best="text_digest")


def test_a_score_where_nothing_scored_is_refused(spark_workspace: Workspace) -> None:
    versions = store(spark_workspace, **(SIX | {"score_names": [[]] * 6, "scores": [[]] * 6}))
    message = "best must be scores of one of no scorer, got scores.worth"
    with pytest.raises(Refusal, match=message):
        stage(spark_workspace, versions, best="scores.worth")


@pytest.mark.parametrize(
    ("size", "in_spark"),
    [
        (5_000, False),
        pytest.param(100_000, False, marks=pytest.mark.slow),
        pytest.param(100_000, True, marks=pytest.mark.slow),
    ],
)
def test_identical_documents_are_one_cluster(
    spark_workspace: Workspace, size: int, in_spark: bool
) -> None:
    versions = store(
        spark_workspace,
        doc_id=[f"{k:032x}" for k in range(size)],
        text_digest=["0" * 32] * size,
        url_key=["example.org"] * size,
        band_keys=[list(range(14))] * size,
        signature=[bytes(448)] * size,
    )
    started = time.monotonic()
    made, rows = stage(
        spark_workspace,
        versions,
        urls=True,
        verify=Verify(min_similarity=0.7),
        max_driver_edges=0 if in_spark else 10**6,
    )
    print(f"{size} identical documents: {time.monotonic() - started:.1f} s")
    assert set(rows.values()) == {("0" * 32, "exact")}
    assert made.report["documents in the largest cluster"] == size
    assert made.report["exact copies"] == size - 1


def test_the_chart_of_sizes_has_a_bar_for_each_doubling() -> None:
    chart = size_chart({2: 10, 3: 5, 4: 1, 100_000: 1})
    assert "15 clusters, 35 documents" in chart
    assert "65,536 to 131,071 documents" in chart and "1 clusters, 100,000 documents" in chart
    assert size_chart({}).startswith("<svg")

"""From documents to the data card, on real Spark and Delta: every stage, and what it refuses."""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from datalake import corpus as corpora
from datalake import run
from datalake.config import Refusal
from datalake.cutting import AllCutsConfig
from datalake.dedup.repeats.substrings import RepeatedPassagesConfig
from datalake.dedup.signatures.minhash import Banding, BandsConfig
from datalake.filters.measures.signals import STOP_WORDS, Measuring, count_tokens, measure
from datalake.filters.rules import KeptConfig
from datalake.mixture import WeightsConfig
from datalake.schemas import TABLES
from datalake.workspace import Made, Workspace
from tests.datalake.document_rows import documents
from tests.datalake.raw_rows import DAY, raw_row, store

RULES = KeptConfig(
    rules={"web": ("gopher_quality",), "code": ("starcoder2",)},
    unknown_licence={"web": "keep", "code": "drop"},
)
CUTS = AllCutsConfig(
    repeated_passages=RepeatedPassagesConfig(), lines={"web": ("refinedweb",)}, words="unicode"
)
MIXTURE = WeightsConfig(kind="weights", weights={"web": 2.0, "code": 0.5})


SIZES = ("num_bytes", "num_tokens")


def prose(seed: int, num_words: int = 120) -> str:
    draw = random.Random(seed)
    names = [f"w{chr(97 + k % 26)}rd{chr(97 + k // 26)}" for k in range(400)]
    words = [draw.choice(names) if k % 4 else draw.choice(STOP_WORDS) for k in range(num_words)]
    return " ".join(words) + "."


MAIL = "\n3 likes\nWrite to jane@city-hall.nl, please."


def pages() -> pa.RecordBatch:
    """Pages and files of which it is known what becomes of each."""
    page = prose(1)
    near = page.replace("w", "v", 1)
    code = "def double(x):\n    return 2 * x\n"
    texts = [
        page,
        page.replace(" ", "  "),
        near,
        prose(2) + MAIL,
        "too short",
        "",
        code,
        "pass\n" * 9,
    ]
    sources = ["web"] * 6 + ["code"] * 2
    licences = [None, "MIT", None, None, None, None, "MIT", "GPL-3.0-only"]
    return documents(*texts, source=sources, licence=licences)


@dataclass
class Run:
    """The stages of curation after one another, each at the version that the one before made."""

    workspace: Workspace
    made: dict[str, Made]

    @classmethod
    def of(cls, workspace: Workspace, parts: Iterable[pa.RecordBatch]) -> "Run":
        lake = workspace.lake
        written = [part for batch in parts for part in lake.write_parts("documents", [batch])]
        commit = lake.commit("documents", written, "overwrite")
        first = Made(version=commit.version, content=commit.content, rows=commit.rows, num_bytes=0)
        return cls(workspace, {"documents": first})

    def through(self, last: str) -> "Run":
        stages = {
            "signals": lambda v: run.signals(self.workspace, v, run.SignalsConfig()),
            "kept": lambda v: run.kept(self.workspace, v, RULES),
            "duplicates": lambda v: run.duplicates(self.workspace, v, run.DuplicatesConfig()),
            "cuts": lambda v: run.cuts(self.workspace, v, CUTS),
            "corpus": lambda v: run.corpus(self.workspace, v, run.CorpusConfig(mixture=MIXTURE)),
        }
        for name, stage in stages.items():
            self.made[name] = stage(self.versions)
            if name == last:
                break
        return self

    @property
    def versions(self) -> dict[str, int]:
        return {name: int(made.version) for name, made in self.made.items()}

    def rows(self, name: str) -> dict[int, dict]:
        rows = self.workspace.lake.read(name, self.versions[name]).to_pylist()
        return {int(row["doc_id"], 16): row for row in rows}


@pytest.fixture(scope="module")
def done(_spark_scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run through all stages, which tests only read."""
    workspace = Workspace(home=tmp_path_factory.mktemp("curated"), say=lambda line: None)
    return Run.of(workspace, [pages().slice(0, 5), pages().slice(5)]).through("corpus")


def test_signals_in_spark_are_those_of_the_batch(done: Run) -> None:
    expected = measure(pages(), Measuring(Banding.of(BandsConfig()))).to_pylist()
    assert list(dict(sorted(done.rows("signals").items())).values()) == expected
    assert done.made["signals"].report["chance to find similarity 0.8"] == 0.9235


def test_each_document_is_kept_or_has_its_reason(done: Run) -> None:
    reasons = {k: row["reason"] for k, row in done.rows("kept").items()}
    dropped = {4: "too_few_words", 5: "empty", 7: "licence_refused"}
    assert reasons == {k: dropped.get(k) for k in range(8)}
    assert done.made["kept"].report == {
        "kept": 5,
        "dropped": 3,
        "dropped by empty": 1,
        "dropped by licence_refused": 1,
        "dropped by too_few_words": 1,
    }


def test_copies_are_clustered_and_dropped_documents_take_no_part(done: Run) -> None:
    rows = done.rows("duplicates")
    assert {
        k: (int(r["cluster"], 16), int(r["survivor"], 16), r["kind"]) for k, r in rows.items()
    } == {
        0: (0, 1, "exact"),
        1: (0, 1, "exact"),  # the only one of its cluster with a licence
        2: (0, 1, "near"),
        3: (3, 3, "unique"),
        6: (6, 6, "unique"),
    }
    report = done.made["duplicates"].report
    assert (report["survivors"], report["exact copies"], report["near copies"]) == (3, 1, 1)


def test_the_corpus_is_every_survivor_with_its_text_and_weight(done: Run) -> None:
    source = done.rows("documents")
    for k, row in done.rows("corpus").items():
        same = set(TABLES["corpus"].arrow.names) - {"cluster", "weight", "text", *SIZES}
        assert {c: row[c] for c in same} == {c: source[k][c] for c in same}
        cut = source[k]["text"].replace("3 likes\n", "").replace("jane@city-hall.nl", "<email>")
        assert (row["text"], row["num_bytes"]) == (cut, len(cut.encode()))
        assert row["num_tokens"] == count_tokens(pa.array([cut]))[0]
        assert row["weight"] == MIXTURE.weights[row["source"]]
    assert {k: int(r["cluster"], 16) for k, r in done.rows("corpus").items()} == {1: 0, 3: 3, 6: 6}


def test_order_and_parts_of_the_documents_change_nothing(
    spark_workspace: Workspace, done: Run
) -> None:
    backwards = pages().take(pa.array(range(7, -1, -1)))
    again = Run.of(spark_workspace, [backwards.slice(k, 1) for k in range(8)]).through("corpus")
    assert {n: m.content for n, m in again.made.items()} == {
        n: m.content for n, m in done.made.items()
    }


def test_a_corpus_joined_in_spark_equals_one_by_broadcast_ids(done: Run) -> None:
    again = {name: done.versions[name] for name in ("documents", "duplicates", "cuts")}
    joined, weights = corpora.build(done.workspace, again, MIXTURE, max_broadcast=0)
    assert joined.content == done.made["corpus"].content
    assert weights == MIXTURE.weights


@pytest.mark.parametrize("max_broadcast", [100, 0])
def test_a_source_of_weight_zero_stays_out(done: Run, max_broadcast: int) -> None:
    no_web = WeightsConfig(kind="weights", weights={"web": 0.0, "code": 1.0})
    made, _ = corpora.build(done.workspace, done.versions, no_web, max_broadcast=max_broadcast)
    assert done.workspace.lake.read("corpus", made.version)["source"].to_pylist() == ["code"]


def test_a_mixture_without_any_weight_is_refused(done: Run) -> None:
    nothing = WeightsConfig(kind="weights", weights={"web": 0.0, "code": 0.0})
    with pytest.raises(Refusal, match="must give a source with documents a weight above 0, got 0"):
        corpora.build(done.workspace, done.versions, nothing)


def test_rules_that_keep_nothing_are_refused_with_their_counts(spark_workspace: Workspace) -> None:
    done = Run.of(spark_workspace, [documents("short", "", "short too")]).through("kept")
    message = "got none: too_few_words dropped 2, empty dropped 1"
    with pytest.raises(Refusal, match=message):
        done.through("duplicates")


def test_a_source_without_rules_is_refused_before_any_work(spark_workspace: Workspace) -> None:
    done = Run.of(spark_workspace, [documents("a b", source="pdf")]).through("signals")
    with pytest.raises(Refusal, match="rules must name every kind of source, got nothing for pdf"):
        run.kept(spark_workspace, done.versions, RULES)


def test_the_data_card_counts_what_came_through(done: Run) -> None:
    inputs = {**done.versions, "raw/web": raw_web(done.workspace)}
    made = run.data_card(done.workspace, inputs, run.DataCardConfig(title="Pages & files"))
    folder = Path(str(made.version))
    counts = json.loads((folder / "funnel.json").read_text())
    stages = {
        stage: {source: n["documents"] for source, n in by.items()}
        for stage, by in counts["stages"].items()
    }
    assert stages == {
        "raw": {"web": 2},
        "documents": {"code": 2, "web": 6},
        "kept": {"code": 1, "web": 4},
        "unique": {"code": 1, "web": 2},
        "corpus": {"code": 1, "web": 2},
    }
    assert counts["stages"]["raw"]["web"]["num_bytes"] == 7
    assert counts["copies"]["web"]["exact"]["documents"] == 1
    assert counts["licences"]["web"]["unknown"]["documents"] == 1
    assert counts["weights"] == {"code": 0.5, "web": 2.0}
    sizes = {row["num_bytes"]: row["source"] for row in done.rows("corpus").values()}
    assert counts["lengths"]["code"] == {"5": 1}  # 32 bytes
    assert sum(counts["lengths"]["web"].values()) == 2
    assert {int(k) for k in counts["lengths"]["web"]} == {
        n.bit_length() - 1 for n, source in sizes.items() if source == "web"
    }
    assert counts["largest_clusters"] == [[3, "Document 1", "https://example.org/1"]]
    page = (folder / "index.html").read_text()
    assert "<h1>Pages &amp; files</h1>" in page and "too_few_words" in page
    assert "src=" not in page and "href=" not in page  # nothing is fetched
    again = run.data_card(done.workspace, inputs, run.DataCardConfig(title="Pages & files"))
    assert (again.version, again.content) == (made.version, made.content)
    assert all(svg.startswith("<svg") and len(svg) < 100_000 for svg in made.plots.values())


def raw_web(workspace: Workspace) -> int:
    old = raw_row("raw/web", "http://example.com/1", b"an older version", fetched_at=DAY)
    new = raw_row("raw/web", "http://example.com/1", b"abc", fetched_at=DAY + timedelta(1))
    other = raw_row("raw/web", "http://example.com/2", b"defg")
    gone = raw_row("raw/web", "http://example.com/3", None, deleted=True)
    new["snapshot"] = "2026-01-02"
    return store(workspace, "raw/web", old, new, other, gone)

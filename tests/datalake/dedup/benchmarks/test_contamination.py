"""Decontamination as a stage: on Spark and Delta, with tables and files of items, and its cuts."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datalake.config import Refusal
from datalake.cuts import APPLIED, Cuts
from datalake.dedup.benchmarks.contamination import (
    ContaminationConfig,
    cuts_of_contamination,
    find_contamination,
)
from datalake.dedup.benchmarks.findings import Findings, Found
from datalake.dedup.benchmarks.items import Benchmark, EvaluationTable, read_items
from datalake.schemas import TABLES
from datalake.tables import Lake
from datalake.workspace import Workspace
from tests.datalake.document_rows import documents

PROMPT = (
    "How many rolls remain when a baker sells two thirds of the thirty six rolls of one morning"
)
ANSWER = "Two thirds of thirty six are twenty four, so that twelve rolls remain for the evening."
TRAINING = (
    "What is left of the forty apples that a farmer picked after half were given to the school"
)
PROBLEM = (
    "A train of eleven coaches, each of them twenty metres long, crosses a bridge of sixty metres"
)
FILLER = "Words that stand in no benchmark at all. " * 30


def instruction(number: int, split: str, prompt: str, answer: str) -> dict[str, Any]:
    return {
        "item_id": f"{number:032x}",
        "family": "rolls",
        "content_key": str(number),
        "template": 0,
        "split": split,
        "prompt": prompt,
        "answer": answer,
        "grader": "exact",
        "grader_arguments": "{}",
        "style": None,
    }


def lake_of(
    workspace: Workspace, texts: list[str], dropped: set[int], parts: int
) -> dict[str, int]:
    """Documents in so many parts, of which ``dropped`` do not survive, and the instructions."""
    lake = workspace.lake
    rows = documents(*texts)
    size = -(-len(texts) // parts)
    written = [
        part
        for k in range(0, len(texts), size)
        for part in lake.write_parts("documents", [rows.slice(k, size)])
    ]
    duplicates = [
        {
            "doc_id": row["doc_id"],
            "source": row["source"],
            "num_bytes": row["num_bytes"],
            "num_tokens": 1,
            "cluster": f"{0:032x}",
            "kind": "unique",
            "survivor": None if k in dropped else row["doc_id"],
        }
        for k, row in enumerate(rows.to_pylist())
    ]
    items = [
        instruction(0, "test_values", PROMPT, ANSWER),
        instruction(1, "validation", "Name a colour.", "Blue"),
        instruction(2, "sft", TRAINING, "Twenty apples are left to sell at the market on Sunday"),
    ]
    duplicate_rows = pa.Table.from_pylist(duplicates, TABLES["duplicates"].arrow)
    return {
        "documents": lake.commit("documents", written, mode="overwrite").version,
        "duplicates": lake.overwrite("duplicates", duplicate_rows).version,
        "instructions": lake.overwrite(
            "instructions", pa.Table.from_pylist(items, TABLES["instructions"].arrow)
        ).version,
    }


def benchmark_file(folder: Path, rows: list[dict[str, Any]], name: str = "items.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_stage_finds_items_of_tables_and_files_in_survivors(
    spark_workspace: Workspace, tmp_path: Path
) -> None:
    texts = [
        FILLER + PROMPT.upper() + " " + FILLER,  # an evaluation item
        FILLER + TRAINING,  # of the training split: no item
        FILLER + PROBLEM,  # of a file
        FILLER + PROMPT,  # does not survive
        FILLER,
        PROBLEM,
    ]
    lines = benchmark_file(tmp_path, [{"q": PROBLEM, "a": "12"}, {"q": "How so?", "a": None}])
    config = ContaminationConfig(
        action="remove", benchmarks={"trains": Benchmark(files=(lines,), text=("q", "a"))}
    )
    content, rows = set(), pa.table({})
    for parts in (1, 3):
        inputs = lake_of(spark_workspace, texts, {3}, parts)
        commit, findings = find_contamination(spark_workspace, inputs, config)
        rows = spark_workspace.lake.read("contamination", commit.version)
        content.add(commit.content)
    assert len(content) == 1  # however the documents are spread
    said = sorted((int(r["doc_id"], 16), r["benchmark"], r["item_id"]) for r in rows.to_pylist())
    assert said == [(0, "instructions", f"{0:032x}"), (2, "trains", "0"), (5, "trains", "0")]

    cuts = cuts_of_contamination(rows)
    assert set(cuts["reason"].to_pylist()) == {
        "contaminated_by_instructions",
        "contaminated_by_trains",
    }
    left = Cuts.of(cuts.select(APPLIED)).apply(documents(*texts)).to_pylist()
    assert left[1] == texts[1] and left[3:5] == texts[3:5] and left[5] == ""
    margin = 200
    assert left[0] == texts[0][: len(FILLER) - margin] + texts[0][-len(FILLER) - 1 + margin :]

    report = findings.report()
    assert report["documents read"] == 5
    assert report["documents with an item"] == report["documents acted upon"] == 3
    assert report["instructions: items"] == 2
    assert report["instructions: items that can be matched"] == 1
    assert report["trains: items found"] == 1
    assert report["trains: documents"] == 2
    assert report["trains: found most"] == "0 in 2"
    assert report["trains: sources with more than 2 %"] == "web"
    assert "1 of 1" in findings.chart()


def test_finding_nothing_is_a_result_and_all_documents_are_read_where_survivors_are_many(
    spark_workspace: Workspace,
) -> None:
    inputs = lake_of(spark_workspace, [FILLER, PROMPT], {1}, 1)
    config = ContaminationConfig(action="drop")
    commit, findings = find_contamination(spark_workspace, inputs, config)
    assert commit.rows == 0
    assert findings.report()["instructions: items found"] == 0
    assert len(cuts_of_contamination(spark_workspace.lake.read("contamination"))) == 0
    commit, _ = find_contamination(spark_workspace, inputs, config, max_survivors=0)
    (row,) = spark_workspace.lake.read("contamination", commit.version).to_pylist()
    assert (int(row["doc_id"], 16), row["cut_start"], row["cut_end"]) == (1, 0, len(PROMPT))


def test_nothing_to_look_for_is_refused(workspace: Workspace) -> None:
    message = (
        "contamination.benchmarks must be given, or one of instructions among the inputs, "
        "got neither"
    )
    with pytest.raises(Refusal, match=message):
        find_contamination(
            workspace, {"documents": 0, "duplicates": 0}, ContaminationConfig(action="drop")
        )


def test_settings_are_read_from_text_as_a_recipe_gives_them() -> None:
    config = ContaminationConfig.model_validate_json(
        json.dumps(
            {
                "action": "report",
                "style": {"kind": "llama3", "threshold": 0.6, "threshold_of": {"gsm8k": 0.4}},
                "benchmarks": {"gsm8k": {"files": ["gsm8k.jsonl"], "text": ["question", "answer"]}},
            }
        )
    )
    assert config.style.kind == "llama3" and config.benchmarks["gsm8k"].id is None
    with pytest.raises(ValueError, match="threshold"):  # the paper has none for all benchmarks
        ContaminationConfig.model_validate_json('{"action": "drop", "style": {"kind": "llama3"}}')


def test_two_rows_with_one_cut_give_one_cut() -> None:
    row = {
        "doc_id": "a",
        "source": "web",
        "benchmark": "b",
        "item_fraction": 1.0,
        "total_fraction": 1.0,
        "start": 3,
        "end": 5,
        "remove": True,
        "cut_start": 0,
        "cut_end": 9,
    }
    kept = {**row, "item_id": "3", "remove": False, "cut_start": None, "cut_end": None}
    rows = [{**row, "item_id": "1"}, {**row, "item_id": "2"}, kept]
    cuts = cuts_of_contamination(pa.Table.from_pylist(rows, TABLES["contamination"].arrow))
    assert cuts.schema.equals(TABLES["cuts"].arrow)
    assert [(c["start"], c["end"], c["reason"]) for c in cuts.to_pylist()] == [
        (0, 9, "contaminated_by_b")
    ]


# Items ------------------------------------------------------------------------------------------


def items_in(benchmark: Benchmark) -> list[tuple[str, str]]:
    items = read_items(Lake("nowhere"), {}, {}, {"gsm8k": benchmark})
    return list(zip(items.ids, items.text.to_pylist(), strict=True))


def test_items_are_read_alike_from_json_lines_and_parquet(tmp_path: Path) -> None:
    rows = [
        {"name": "x", "q": "Cafe\u0301?", "choices": ["a", "b"], "n": 3},
        {"name": "y", "q": None, "choices": [], "n": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    files = [benchmark_file(tmp_path, rows), str(tmp_path / "items.parquet")]
    for file in files:
        benchmark = Benchmark(files=(file,), text=("q", "choices", "n"), id="name")
        assert items_in(benchmark) == [("x", "Café?\na\nb\n3"), ("y", "\n\n")]
    numbered = items_in(Benchmark(files=tuple(files), text=("q",)))
    assert [item_id for item_id, _ in numbered] == ["0", "1", "2", "3"]


def test_compressed_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl.gz"
    with pa.output_stream(str(path), compression="gzip") as stream:
        stream.write(b'{"q": "one"}\n\n{"q": "two"}')
    benchmark = Benchmark(files=(str(path),), text=("q",))
    assert items_in(benchmark) == [("0", "one"), ("1", "two")]


def test_a_lone_surrogate_and_a_null_byte_of_an_item_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"q": "a \\ud800 b \\u0000"}\n')
    assert items_in(Benchmark(files=(str(path),), text=("q",))) == [("0", "a ? b \x00")]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "i.jsonl", "contamination: gsm8k must hold at least one item, got none"),
        ("\n\n", "i.jsonl", "contamination: gsm8k must hold at least one item, got none"),
        ('{"a": 1}', "i.jsonl", "i.jsonl of gsm8k must have column question, got a"),
        ("{}", "i.jsonl", "i.jsonl of gsm8k must have column question, got none"),
        ('{"question": "x"}\n{', "i.jsonl", "line 2 of i.jsonl of gsm8k must be JSON, got "),
        ("[1]", "i.jsonl", r"line 1 of i.jsonl of gsm8k must be an object of JSON, got \[1\]"),
        ("no", "i.parquet", "i.parquet of gsm8k must be Parquet, got "),
        (
            "a,b",
            "i.csv",
            "contamination.benchmarks.gsm8k.files must end in .jsonl, .jsonl.gz, .jsonl.zst, "
            ".jsonl.bz2 or .parquet, got .*i.csv",
        ),
        (
            '{"question": {"a": 1}}',
            "i.jsonl",
            "column question of gsm8k must hold text, got dict",
        ),
    ],
)
def test_a_bad_benchmark_file_is_refused(
    tmp_path: Path, content: str, name: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(Refusal, match=message):
        items_in(Benchmark(files=(str(path),), text=("question",)))


def test_a_file_that_is_not_there_is_refused() -> None:
    message = "contamination.benchmarks.gsm8k.files must be there, got nowhere.jsonl"
    with pytest.raises(Refusal, match=message):
        items_in(Benchmark(files=("nowhere.jsonl",), text=("question",)))


def test_an_id_given_twice_is_refused(tmp_path: Path) -> None:
    file = benchmark_file(tmp_path, [{"q": "a", "k": 7}, {"q": "b", "k": 7}])
    message = "contamination: ids of gsm8k must be unique, got 7 twice"
    with pytest.raises(Refusal, match=message):
        items_in(Benchmark(files=(file,), text=("q",), id="k"))


def test_a_benchmark_named_as_a_table_is_refused() -> None:
    table = EvaluationTable(text=("a",), id="b")
    message = "contamination.benchmarks must not be named as a table, got instructions"
    with pytest.raises(Refusal, match=message):
        read_items(
            Lake("nowhere"),
            {},
            {"instructions": table},
            {"instructions": Benchmark(files=("x.jsonl",), text=("a",))},
        )


def test_an_unknown_column_of_a_table_is_refused(workspace: Workspace) -> None:
    rows = pa.Table.from_pylist(
        [instruction(0, "validation", PROMPT, ANSWER)], TABLES["instructions"].arrow
    )
    version = workspace.lake.overwrite("instructions", rows).version
    with pytest.raises(Refusal, match="table instructions has no column question"):
        read_items(
            workspace.lake,
            {"instructions": version},
            {"instructions": EvaluationTable(text=("question",), id="item_id")},
            {},
        )


# Findings ---------------------------------------------------------------------------------------


def test_the_interval_is_wilsons() -> None:
    found = Found(
        items=120, matchable=100, found=10, acted_upon=0, documents=3, by_source={}, top={}
    )
    assert found.share == 0.1
    assert [round(x, 4) for x in found.interval] == [0.0552, 0.1744]  # Newcombe 1998, method 3
    nothing = Found(items=3, matchable=0, found=0, acted_upon=0, documents=0, by_source={}, top={})
    assert nothing.share == 0.0 and nothing.interval == (0.0, 1.0)


def test_findings_without_rows_count_nothing() -> None:
    findings = Findings.of([], {"gsm8k": (5, 4)}, 7, 100)
    assert findings.report()["gsm8k: items found"] == 0
    assert findings.report()["documents with an item"] == 0
    assert "0 of 4" in findings.chart()

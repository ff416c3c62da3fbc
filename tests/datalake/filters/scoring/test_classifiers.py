"""Classifiers: features against plain Python, then trained in Spark on real texts."""

import importlib
import json
import math
import pickle
import pydoc
import random
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from datalake.config import Refusal
from datalake.filters.scoring import scorers
from datalake.filters.scoring.classifier_kernels import features, margins
from datalake.filters.scoring.classifiers import ClassifierConfig
from datalake.filters.scoring.examples import LabelledFiles, Selection
from datalake.filters.scoring.token_kernels import tables, tokens_of
from datalake.text_bytes import text_bytes
from datalake.workspace import Made, Workspace
from tests.datalake.document_rows import documents

BUCKETS = 1 << 12
CODE_AND_TEXT = {"positives": [{"source": "code"}], "negatives": [{"source": "web"}]}


def config(**settings: object) -> ClassifierConfig:
    small = {"num_buckets": BUCKETS, "max_iterations": 12, "min_documents": 20, "max_bytes": 100}
    threshold = {"threshold": {"precision": 0.9}}
    return ClassifierConfig.model_validate_json(
        json.dumps({"kind": "classifier"} | small | threshold | settings)
    )


MODULES = """
argparse ast asyncio.base_events bdb bz2 calendar cmd code codecs collections colorsys
compileall concurrent.futures.thread configparser contextlib copy csv dataclasses datetime
difflib dis doctest email.message enum filecmp fileinput fnmatch fractions ftplib functools
getpass gettext glob graphlib gzip hashlib heapq hmac http.client http.cookiejar imaplib inspect
ipaddress json.decoder linecache locale logging logging.config logging.handlers lzma mailbox
mimetypes multiprocessing.pool netrc numbers operator optparse os pathlib pdb pickle pickletools
pkgutil platform plistlib poplib posixpath pprint profile py_compile queue quopri random reprlib
runpy sched secrets selectors shelve shlex shutil signal site smtplib socket socketserver ssl
stat statistics string subprocess symtable sysconfig tabnanny tarfile tempfile textwrap
threading timeit tokenize trace traceback types typing unittest.case unittest.mock
urllib.request uuid wave weakref webbrowser xml.dom.minidom zipapp zipfile
"""


@cache
def functions_and_docs() -> tuple[list[str], list[str]]:
    """Source code of the standard library, piece by piece, and the docs that pydoc writes of it."""
    code, prose = [], []
    for name in MODULES.split():
        module = importlib.import_module(name)
        pieces = re.split(r"\n(?=def |class )", Path(str(module.__file__)).read_text())
        bodies = [piece.split("\n", 1)[-1] for piece in pieces[1:]]
        code += [body for body in bodies if 200 < len(body) < 5000][:20]
        for part in pydoc.plain(pydoc.render_doc(module)).split("\n\n"):
            prose += [part] if 200 < len(part) < 5000 else []
    random.Random(0).shuffle(code)
    random.Random(0).shuffle(prose)
    return code[:220], prose[:220]


def train(workspace: Workspace, batches: list[pa.RecordBatch], **settings: object) -> Made:
    version = workspace.lake.overwrite("documents", batches).version
    named = scorers.ScorersConfig(scorers={"quality": config(**settings)})
    return scorers.train(workspace, {"documents": version}, named)


def code_and_docs() -> pa.RecordBatch:
    code, prose = functions_and_docs()
    sources = ["code"] * len(code) + ["web"] * len(prose)
    return documents(*code, *prose, source=sources)


def vectors(*texts: str, max_words: int = 2, max_bytes: int = 10**6) -> list[dict[int, float]]:
    text = pa.array(texts, pa.large_string())
    ends, buckets, values = features(*text_bytes(text), max_bytes, max_words, BUCKETS, *tables())
    pieces = np.split(np.arange(len(buckets)), ends[:-1])
    return [dict(zip(buckets[p].tolist(), values[p].tolist(), strict=True)) for p in pieces]


def plain_vector(text: str, max_words: int) -> dict[int, float]:
    """The same from a list of token hashes, by whole-number arithmetic."""
    mask = (1 << 64) - 1

    def mix(h: int) -> int:
        h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & mask
        h = (h ^ (h >> 27)) * 0x94D049BB133111EB & mask
        return h ^ (h >> 31)

    data = np.frombuffer(text.encode(), np.uint8)
    tokens = [int(h) for h in tokens_of(data, *tables(), True)[0]]
    counts: Counter[int] = Counter()
    for end in range(len(tokens)):
        gram = 0
        for token in tokens[end::-1][:max_words]:
            gram = (gram * 0x9E3779B97F4A7C15 + token) & mask
            counts[mix(gram) & (BUCKETS - 1)] += 1
    raw = {bucket: 1 + math.log(count) for bucket, count in counts.items()}
    length = math.sqrt(sum(value**2 for value in raw.values()))
    return {bucket: value / length for bucket, value in raw.items()}


TEXTS = [
    "the cat saw the cat",
    "",
    " \n ",
    "\0\0",
    "x",
    "a-b 日本語の本 ก็ไทย naïve e\u0301",
    "9 10 99",
]


@pytest.mark.parametrize("max_words", [1, 2, 3])
def test_features_equal_plain_python(max_words: int) -> None:
    for text, found in zip(TEXTS, vectors(*TEXTS, max_words=max_words), strict=True):
        assert found == pytest.approx(plain_vector(text, max_words))


def test_the_compiled_margin_is_the_dot_product_of_the_features() -> None:
    weights = np.random.default_rng(0).normal(size=BUCKETS).astype(np.float32)
    data = text_bytes(pa.array(TEXTS, pa.large_string()))
    found = margins(*data, 10**6, 2, weights, *tables())
    for margin, vector in zip(found, vectors(*TEXTS), strict=True):
        expected = sum(weights[b] * v for b, v in vector.items()) if vector else math.nan
        assert margin == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_only_the_first_bytes_are_read_and_no_character_is_cut() -> None:
    (short,) = vectors("日本語", max_bytes=7)
    assert short == pytest.approx(plain_vector("日本", 2))


def test_bytes_that_are_not_utf8_are_read_as_signs() -> None:
    data = np.frombuffer(b"\xf0\x9f \xff\xe0\x80a\xc3", np.uint8)
    for end in range(len(data) + 1):
        assert len(tokens_of(data[:end], *tables(), True)[0]) <= end


def test_code_is_told_from_its_documentation(spark_workspace: Workspace) -> None:
    rows = code_and_docs()
    halves = [rows.slice(0, 150), rows.slice(150)]
    made = train(spark_workspace, halves, **CODE_AND_TEXT)
    report = made.report
    assert report["quality: held-out AUC"] > 0.9
    low, high = str(report["quality: 95 % interval of the AUC"]).split(" to ")
    assert 0.8 < float(low) < report["quality: held-out AUC"] < float(high) <= 1
    assert report["quality: held-out precision at the threshold"] >= 0.9
    assert report["quality: calibration error"] < 0.15
    assert set(made.plots) == {"Calibration of quality", "Held-out scores of quality"}

    (scorer,) = scorers.load(str(made.version))
    scores = pickle.loads(pickle.dumps(scorer)).score(rows)
    assert scores.dtype == np.float64 and ((scores > 0) & (scores < 1)).all()
    assert scores[:220].mean() > 0.7 > 0.3 > scores[220:].mean()
    assert np.isnan(scorer.score(documents("")))

    # Neither the parts of the table nor the order of its rows matter, nor when it is trained.
    order = np.random.default_rng(0).permutation(len(rows))
    again = train(spark_workspace, [rows.take(pa.array(order))], **CODE_AND_TEXT)
    assert again.content == made.content and again.version == made.version


def test_shuffled_labels_cannot_be_learned(spark_workspace: Workspace) -> None:
    code, prose = functions_and_docs()
    sources = ["code", "web"] * 220
    made = train(
        spark_workspace,
        [documents(*code, *prose, source=sources)],
        threshold={"keep_fraction": 0.25},
        **CODE_AND_TEXT,
    )
    # A 95 % interval misses one half in one draw of twenty: that of 88 documents is +-0.12 wide.
    assert 0.3 < float(made.report["quality: held-out AUC"]) < 0.7


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "jsonl.gz"])
def test_labelled_files_train_and_a_decision_is_zero_or_one(
    spark_workspace: Workspace, tmp_path: Path, ending: str
) -> None:
    code, prose = functions_and_docs()
    rows = pa.table({"body": code + prose, "grade": [4] * len(code) + [1] * len(prose)})
    path = tmp_path / f"grades.{ending}"
    if ending == "parquet":
        pq.write_table(rows, path)
    else:
        with pa.output_stream(str(path), compression="detect") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows.to_pylist()).encode())
    made = train(
        spark_workspace,
        [documents("any")],
        labelled={"files": str(path), "text": "body", "label": "grade", "at_least": 3},
        gives="decision",
        threshold={"keep_fraction": 0.5},
    )
    assert made.report["quality: trained on"] == "220 positives and 220 negatives"
    (scorer,) = scorers.load(str(made.version))
    decisions = scorer.score(code_and_docs())
    assert set(decisions) == {0.0, 1.0}
    assert decisions[:220].mean() > 0.8 > 0.2 > decisions[220:].mean()


def test_the_sample_is_at_most_what_is_asked_for(spark_workspace: Workspace) -> None:
    made = train(spark_workspace, [code_and_docs()], max_documents=60, **CODE_AND_TEXT)
    assert made.report["quality: trained on"] == "60 positives and 60 negatives"


def test_choices_are_by_source_kind_language_and_patterns() -> None:
    rows = documents("a", "b", "c", source=["web", "web", "code"])

    def fits(**choice: str) -> list[bool]:
        return Selection(**choice).fits(rows).tolist()

    assert fits(source="web") == fits(language="en") == [True, True, False]
    assert fits(kind="test") == fits(uri="https://*") == fits(title="Document ?") == [True] * 3
    assert fits(uri="*/1") == [False, True, False]
    assert fits(source="web", title="*0") == [True, False, False]
    assert fits(uri="*_%") == [False] * 3  # only stars and question marks stand for others


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"negatives": [{"source": "code"}], "positives": [{"source": "code"}]},
            r"^scorers.quality must be trained on documents of two classes, "
            r"got 220 positives and 0 negatives$",
        ),
        (
            CODE_AND_TEXT | {"min_documents": 400},
            r"^scorers.quality must have at least 400 documents of each class, "
            r"got 220 positives and 220 negatives$",
        ),
        (
            CODE_AND_TEXT | {"negatives": [{"source": "books"}]},
            r"^scorers.quality.negatives.source must be one of code, web, got books$",
        ),
        (
            {"labelled": {"files": "/nowhere/*.parquet"}},
            r"^labelled.files must name files that exist, got /nowhere/\*.parquet$",
        ),
    ],
)
def test_what_cannot_train_is_refused(
    spark_workspace: Workspace, settings: dict, message: str
) -> None:
    with pytest.raises(Refusal, match=message):
        train(spark_workspace, [code_and_docs()], **settings)


def test_files_that_are_no_labelled_tables_are_refused(
    spark_workspace: Workspace, tmp_path: Path
) -> None:
    def refusal(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Refusal) as caught:
            train(spark_workspace, [documents("a")], labelled={"files": str(tmp_path / name)})
        return str(caught.value)

    path = tmp_path / "a.jsonl"
    assert refusal("a.jsonl", b'{"text": "a", "grade": 1}\n') == (
        f"labelled.files must have a column label, got {path} with text, grade"
    )
    assert refusal("d.jsonl", b'{"text": "a", "label": "good"}\n').startswith(
        "labelled.files must be files with text and numbers in the columns named, got "
    )
    assert refusal("e.jsonl", b"").startswith("labelled.files must be readable, got")
    assert refusal("b.parquet", b"none").startswith("labelled.files must be readable, got")
    assert refusal("c.csv", b"text,label\n").startswith(
        "labelled.files must end in one of .parquet, .jsonl"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "a classifier must have positives and negatives, or labelled files, got none"),
        ({"positives": [{"source": "web"}]}, "or labelled files, got positives"),
        (CODE_AND_TEXT | {"num_buckets": 1000}, "num_buckets must be a power of two, got 1000"),
        ({"positives": [{}]}, "a choice of documents must name one of source, kind, language"),
    ],
)
def test_a_classifier_that_makes_no_sense_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**settings)


def test_files_are_found_by_pattern_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_text("")
    found = LabelledFiles(files=str(tmp_path / "*.jsonl")).paths()
    assert [Path(path).name for path in found] == ["a.jsonl", "b.jsonl"]

"""Scorers as a stage: names, kinds, the artifact; and fastText binaries trained for the test."""

import json
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from datalake.config import Refusal
from datalake.filters.scoring import fasttext_model, scorers
from datalake.filters.scoring.classifiers import Classifier
from datalake.filters.scoring.examples import Selection
from datalake.filters.scoring.perplexity import PerplexityConfig, fit
from datalake.filters.scoring.scorers import ScorersConfig
from datalake.filters.scoring.word_lists import WordList
from datalake.workspace import Made, Workspace
from tests.datalake.document_rows import documents

ENGLISH = "the cat and the dog are in the garden of the house"
GERMAN = "die Katze und der Hund sind in dem Garten von dem Haus"


@cache
def binary(folder: Path, supervised: bool = True) -> Path:
    """A language model of two languages, or one of word vectors."""
    lines = [f"__label__{label} {text}" for label, text in (("en", ENGLISH), ("de", GERMAN))]
    data, path = folder / "lines.txt", folder / "model.bin"
    data.write_text("\n".join(lines * 20) + "\n")
    settings = {"minCount": 1, "dim": 100, "epoch": 40, "thread": 1, "verbose": 0}
    settings |= {"minn": 2, "maxn": 4, "bucket": 2000, "lr": 0.5}
    train = "train_supervised" if supervised else "train_unsupervised"
    code = (
        f"import fasttext; fasttext.{train}({str(data)!r}, **{settings}).save_model({str(path)!r})"
    )
    # The package's trainer reads memory before it writes it and then meets a NaN now and then:
    # here the C library gives it zeros.
    zeros = os.environ | {"MALLOC_PERTURB_": "255"}
    subprocess.run([sys.executable, "-c", code], check=True, env=zeros)
    return path


def train(workspace: Workspace, **named: dict) -> Made:
    config = ScorersConfig.model_validate_json(json.dumps({"scorers": named}))
    return scorers.train(workspace, {"documents": 0}, config)


def test_scorers_come_back_in_the_order_of_the_recipe(workspace: Workspace, tmp_path: Path) -> None:
    words = {"kind": "words", "words": "adult"}
    language = {"kind": "fasttext_language", "path": str(binary(tmp_path))}
    made = train(workspace, z_words=words, language=language, a_words=words | {"words": "toxic"})
    loaded = scorers.load(str(made.version))
    assert [one.name for one in loaded] == ["z_words", "language", "a_words"]
    assert made.rows == 3 and made.report["language: fastText model"] == "model.bin"
    rows = documents("the cat", "", "x")
    for one in loaded:
        found = one.score(rows)
        assert found.shape == (3,) and found.dtype == np.float64 and np.isnan(found[1])
        assert pickle.loads(pickle.dumps(one)).score(rows).tolist()[::2] == found.tolist()[::2]
        assert len(one.score(rows.slice(0, 0))) == 0
        assert one.score(rows.slice(2, 1)).tolist() == found.tolist()[2:]
    again = train(workspace, z_words=words, language=language, a_words=words | {"words": "toxic"})
    assert (again.content, again.version) == (made.content, made.version)
    other = train(workspace, a_words=words | {"words": "toxic"}, z_words=words, language=language)
    assert other.content != made.content  # the order of the signals is another


def test_fasttext_tells_languages_apart(workspace: Workspace, tmp_path: Path) -> None:
    path = str(binary(tmp_path))
    made = train(
        workspace,
        best={"kind": "fasttext_language", "path": path},
        german={"kind": "fasttext_language", "path": path, "language": "de"},
        english={"kind": "fasttext", "path": path, "label": "__label__en", "max_bytes": 1000},
    )
    rows = documents(
        ENGLISH.replace(" ", "\n"), GERMAN, "\0\r\n ", f"{ENGLISH}\0" * 50, "日本語 ไทย"
    )
    best, german, english = (one.score(rows) for one in scorers.load(str(made.version)))
    assert best[0] > 0.9 and english[0] > 0.9 and german[1] > 0.9 and english[1] < 0.1
    assert np.isnan(best[2]) and np.isnan(german[2])
    rest = [0, 1, 4]
    assert german[rest] + english[rest] == pytest.approx(1, abs=1e-3)
    assert best[rest] == pytest.approx(np.maximum(german, english)[rest])


def test_the_score_is_what_the_package_itself_predicts(
    workspace: Workspace, tmp_path: Path
) -> None:
    import fasttext

    path = binary(tmp_path)
    made = train(workspace, english={"kind": "fasttext", "path": str(path), "label": "en"})
    (scorer,) = scorers.load(str(made.version))
    texts = ["the dog", "der\nHund", "in garden Garten"]
    peer = fasttext.FastText._FastText(model_path=str(path)).f
    for text, found in zip(texts, scorer.score(documents(*texts)), strict=True):
        said = {label: p for p, label in peer.predict(text.replace("\n", " ") + "\n", -1, 0.0, "")}
        assert found == pytest.approx(min(1, said["__label__en"]))


def test_binaries_that_cannot_be_used_are_refused(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(path: Path, **settings: str) -> str:
        named = {"kind": "fasttext_language", "path": str(path)} | settings
        with pytest.raises(Refusal) as caught:
            train(workspace, lid=named)
        return str(caught.value)

    path = binary(tmp_path)
    missing = tmp_path / "lid.176.bin"
    assert refusal(missing) == (
        "scorers.lid.path must be a fastText binary on this machine; download it or name another, "
        f"got {missing}"
    )
    text = tmp_path / "lines.txt"
    assert refusal(text).startswith(f"scorers.lid.path must be a fastText binary, got {text}: ")
    assert refusal(path, language="fr") == (
        "scorers.lid.language must be one of the model's de, en, got fr"
    )
    assert refusal(path, kind="fasttext", label="hq") == (
        "scorers.lid.label must be one of the model's de, en, got hq"
    )
    (tmp_path / "vectors").mkdir()
    vectors = binary(tmp_path / "vectors", supervised=False)
    assert refusal(vectors) == (
        f"scorers.lid.path must be a supervised fastText model, got {vectors}"
    )
    fasttext_model._open.cache_clear()
    monkeypatch.setitem(sys.modules, "fasttext_pybind", None)
    assert refusal(path) == (
        "scorers.lid must be used with the package fasttext-numpy2-wheel "
        "(pip install 'tarn[fasttext]'), got none installed"
    )


def test_a_binary_that_changed_after_training_is_refused(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = binary(tmp_path)
    made = train(workspace, lid={"kind": "fasttext_language", "path": str(path)})
    (scorer,) = scorers.load(str(made.version))
    path.write_bytes(path.read_bytes() + b"\0")
    fasttext_model._open.cache_clear()
    with pytest.raises(Refusal, match=r"must be the fastText binary that the scorers were made"):
        scorer.score(documents("text"))


def test_bytes_that_are_no_text_crash_no_kernel() -> None:
    draw = np.random.default_rng(0)
    rows = [draw.integers(0, 256, size, np.uint8).tobytes() for size in range(300)]
    rows += [b"\xf0\x9f", b"a\xff\xffb", b"\xe0" * 100, b"\x80" * 100, b"\xed\xa0\x80"]
    text = pa.array(rows, pa.large_binary())
    batch = pa.RecordBatch.from_pydict(
        {"text": text, "language": pa.array(["en", "ja"] * 152 + ["en"])}
    )
    model = fit(
        "m",
        text,
        PerplexityConfig(kind="perplexity", documents=(Selection(source="web"),), max_bytes=64),
    )
    weights = np.ones(1 << 10, np.float32)
    for scorer in (
        model,
        Classifier("c", weights, 0.0, 3, 64, 0.5, "probability"),
        WordList("w", {"en": ("\ufffd", "a b"), "ja": ("\ufffd", "a b")}, ("ja",)),
    ):
        found = scorer.score(batch)
        assert len(found) == len(rows) and np.isnan(found[0])
        for k in (1, 17, 299, 300, 304):  # alone as in company: nothing is read beside a text
            assert scorer.score(batch.slice(k, 1)) == pytest.approx([found[k]], nan_ok=True)


@pytest.mark.slow
def test_documents_of_200_megabytes_are_scored() -> None:
    words = WordList("w", {"*": ("bad word",)}, ())
    weights = np.ones(1 << 10, np.float32)
    classifier = Classifier("c", weights, 0.0, 2, 1 << 40, 0.5, "probability")
    model = fit(
        "m",
        pa.array(["a bad word here"] * 4, pa.large_string()),
        PerplexityConfig(
            kind="perplexity", documents=(Selection(source="web"),), max_bytes=1 << 40
        ),
    )
    size = 200 << 20
    for text in ("x" * size, "\0" * size, "日" * (size // 3), "a bad word\n" * (size // 11)):
        (row,) = (documents(text),)
        for scorer in (words, classifier, model):
            assert not (scorer.score(row) < 0).any()
    assert words.score(row) == [1 / 3]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({}, "at least 1"),
        ({"A": {"kind": "words", "words": "adult"}}, "match pattern"),
        ({"a": {"kind": "oracle"}}, "'classifier', 'fasttext', 'fasttext_language', 'perplexity'"),
    ],
)
def test_names_and_kinds_are_checked(named: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ScorersConfig.model_validate_json(json.dumps({"scorers": named}))

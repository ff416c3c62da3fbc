"""What a base model read is told from its checkpoint, and is what its training was shown."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.workspace import Workspace
from orchestration.cli import app
from training import checkpoint, pretraining
from training.data.mixing import Mixture
from training.job import Job, Text, work
from training.losses import next_token_loss
from training.models.accounting import train_flops_per_token
from training.models.presets.own import tarn
from training.pretraining import TrainConfig
from training.schedule import OptimizerConfig
from training.token_tables.readings import Piece, Reading, Readings
from training.token_tables.row_sources import row_sources

CONTEXT, VOCAB, BATCH, STEPS = 7, 300, 4, 30
SOURCES = ("code", "web", "wiki")
MODEL = tarn(vocab_size=VOCAB, context_length=CONTEXT, d_model=16, num_layers=1, num_heads=1)


def doc_id(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """25 rows of two or three of 40 documents; numbers of rows have gaps."""
    workspace = Workspace(home=tmp_path_factory.mktemp("readings"), say=lambda line: None)
    corpus = [
        {
            **dict.fromkeys(TABLES["corpus"].arrow.names, ""),
            "doc_id": doc_id(number),
            "source": SOURCES[number % 2],
            "title": f"title [{number}]",
            "uri": f"http://localhost/{number}",
            "licence": "MIT" if number % 3 else None,
            "offset": 0,
            "length": 1,
            "num_bytes": 1,
            "num_tokens": 1,
            "weight": 1.0,
            "text": "x",
        }
        for number in range(40)
    ]
    corpus.append({**corpus[0], "doc_id": doc_id(999), "source": "wiki", "uri": "http://w/"})
    made = workspace.lake.overwrite(
        "corpus", pa.Table.from_pylist(corpus, schema=TABLES["corpus"].arrow)
    )
    random = np.random.default_rng(0)
    rows = []
    for number in range(35):
        # The first token names the row; two bytes stay below the vocabulary.
        tokens = np.append(number, random.integers(0, VOCAB, CONTEXT)).astype("<u2")
        starts = [0, 3, 6][: 2 + number % 2]
        rows.append(
            {
                "row_id": 10 * number + 3,
                "split": "train" if number < 25 else "validation",
                "tokens": tokens.tobytes(),
                "vocab_size": VOCAB,
                "num_tokens": CONTEXT + 1,
                "doc_ids": [doc_id(int(d)) for d in random.choice(40, len(starts), replace=False)],
                "doc_starts": starts,
                "doc_offsets": [0] * len(starts),
            }
        )
    random.shuffle(rows)
    workspace.lake.overwrite(
        "tokens",
        pa.Table.from_pylist(rows, schema=TABLES["tokens"].arrow),
        inputs={"corpus": made.version, "tokenizer": "nowhere"},
    )
    return workspace


def config(mixture: Mapping[str, float] | None, num_steps: int = STEPS) -> TrainConfig:
    return TrainConfig(
        model=MODEL,
        optimizer=OptimizerConfig(),
        flops=num_steps * BATCH * CONTEXT * train_flops_per_token(MODEL) * 1.001,
        batch_rows=BATCH,
        micro_batch_rows=2,
        validation_rows=4,
        checkpoint_steps=10,
        seed=5,
        precision="float32",
        mixture=mixture,
    )


def text(workspace: Workspace) -> Text:
    files = [workspace.lake.files("tokens", 0, {"split": s}) for s in ("train", "validation")]
    return Text(train=files[0], validation=files[1], bytes_per_token=np.ones(VOCAB, np.int64))


@pytest.fixture(scope="module", params=[None, {"web": 3.0, "code": 1.0}])
def trained(
    request: pytest.FixtureRequest, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Readings, list[list[int]]]:
    """What is told of a run, and the rows that its loss was given, step after step."""
    order = None
    if request.param:
        names, sources = row_sources(workspace.lake, 0)
        order = Mixture.of(request.param, names, sources, 5)
    shown: list[int] = []

    def watched(model: Any, tokens: Tensor, pieces: Tensor, has_several: bool) -> Tensor:
        shown.extend(tokens[:, 0].tolist())
        return next_token_loss(model, tokens, pieces, has_several)

    about = {"asset": "base_model", "inputs": {"tokens": 0, "tokenizer": "nowhere"}}
    job = Job(
        config=config(request.param),
        text=text(workspace),
        folder=tmp_path_factory.mktemp("run"),
        about=about,
        order=order,
    )
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "next_token_loss", watched)
        result = work(job, 0, 1)
    steps = np.reshape(shown, (STEPS, BATCH)).tolist()
    return Readings.of(workspace.lake, checkpoint.load(result.checkpoint)), steps


Trained = tuple[Readings, list[list[int]]]


def test_the_rows_of_a_step_are_those_that_trained_it(trained: Trained) -> None:
    readings, steps = trained
    for step, shown in enumerate(steps):
        assert readings.rows(step).tolist() == [10 * number + 3 for number in shown]


def test_documents_of_a_step_are_those_of_its_rows(workspace: Workspace, trained: Trained) -> None:
    readings, steps = trained
    table = {row["row_id"]: row for row in workspace.lake.read("tokens", 0).to_pylist()}
    for step in (0, 7, STEPS - 1):
        expected = [
            (10 * number + 3, start, name)
            for number in steps[step]
            for name, start in zip(
                table[10 * number + 3]["doc_ids"], table[10 * number + 3]["doc_starts"], strict=True
            )
        ]
        found = readings.documents(step)
        assert [(p.row_id, p.start, p.document["doc_id"]) for p in found] == expected
        assert isinstance(found[0], Piece)
        number = int(found[0].document["doc_id"], 16)
        assert found[0].document["title"] == f"title [{number}]"
        assert found[0].document["uri"] == f"http://localhost/{number}"
        assert found[0].document["licence"] == ("MIT" if number % 3 else None)


def test_the_steps_of_a_document_are_those_that_read_a_row_of_it(trained: Trained) -> None:
    readings, _ = trained
    expected = defaultdict(list)
    for step in range(STEPS):
        seen = {(p.row_id, p.document["doc_id"]) for p in readings.documents(step)}
        rows = readings.rows(step).tolist()
        for row_id, name in seen:
            expected[name] += [Reading(step=step, row_id=row_id)] * rows.count(row_id)
    for number in range(40):
        found = readings.steps(doc_id(number))
        assert found == sorted(expected[doc_id(number)], key=lambda r: (r.step, r.row_id))


def test_a_mixture_of_the_recipe_has_its_shares(workspace: Workspace, trained: Trained) -> None:
    readings, steps = trained
    if isinstance(readings.order, Mixture):
        names, sources = row_sources(workspace.lake, 0)
        assert names == SOURCES
        read = np.bincount(sources[np.array(steps).ravel()], minlength=3)
        assert read.tolist() == [30, 90, 0]


def test_rows_belong_to_the_source_of_most_of_their_tokens(workspace: Workspace) -> None:
    _, sources = row_sources(workspace.lake, 0)
    rows = sorted(
        workspace.lake.read("tokens", 0, where={"split": "train"}).to_pylist(),
        key=lambda row: row["row_id"],
    )
    for row, source in zip(rows, sources.tolist(), strict=True):
        lengths = np.diff([*row["doc_starts"], row["num_tokens"]])
        counts = [0, 0]
        for name, length in zip(row["doc_ids"], lengths, strict=True):
            counts[int(name, 16) % 2] += int(length)
        assert counts[source] == max(counts)


def test_a_step_beyond_the_run_is_refused(trained: Trained) -> None:
    for step in (-1, STEPS):
        with pytest.raises(Refusal, match=rf"step must be 0 .. {STEPS - 1} of the run, got {step}"):
            trained[0].rows(step)


def test_documents_are_found_by_id_and_by_address(trained: Trained) -> None:
    readings, _ = trained
    assert readings.find(doc_id(7)) == readings.find("http://localhost/7")
    assert readings.steps(doc_id(999)) == []
    with pytest.raises(Refusal, match="document must be the id or the address of a document of"):
        readings.find("nothing")


def test_a_checkpoint_of_another_asset_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    other = checkpoint.save(tmp_path, 1, {}, {"about": {"asset": "sft_model"}})
    with pytest.raises(Refusal, match=r"checkpoint must be of base_model, got sft_model in"):
        Readings.of(workspace.lake, other)


def test_tokens_that_name_no_corpus_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace(home=tmp_path, say=lambda line: None)
    other.lake.overwrite("tokens", workspace.lake.read("tokens", 0))
    with pytest.raises(Refusal, match="tokens 0 must name the version of corpus"):
        row_sources(other.lake, 0)


# At the command line ----------------------------------------------------------------------------


def said(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    monkeypatch.setattr("orchestration.resources.workspace", lambda: workspace)
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["rows", *words])
    return done.exit_code, done.output


def test_the_command_shows_a_step_and_a_document(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    about = {"asset": "base_model", "inputs": {"tokens": 0}}
    manifest = {"about": about, "config": config(None).model_dump(mode="json")}
    folder = str(checkpoint.save(tmp_path, STEPS, {}, manifest).path)
    readings = Readings.of(workspace.lake, checkpoint.load(Path(folder)))
    piece = readings.documents(3)[0]
    code, shown = said(workspace, monkeypatch, folder, "--step", "3")
    assert code == 0
    assert f"step 3 of {STEPS} read {BATCH} rows of tokens 0" in shown
    assert f"{piece.row_id}" in shown and piece.document["title"] in shown
    code, shown = said(workspace, monkeypatch, folder, "--document", piece.document["uri"])
    steps = [r.step for r in readings.steps(piece.document["doc_id"]) if r.row_id == piece.row_id]
    assert code == 0 and 3 in steps
    assert f"row {piece.row_id:<10} steps {', '.join(map(str, steps))}" in shown
    code, shown = said(workspace, monkeypatch, folder, "--step", str(STEPS))
    assert (code, shown) == (
        2,
        f"refused step must be 0 .. {STEPS - 1} of the run, got {STEPS}\n",
    )
    code, shown = said(workspace, monkeypatch, folder)
    assert (code, shown) == (2, "refused tarn rows must have one of --step and --document\n")


# Before a worker starts -------------------------------------------------------------------------


def test_rows_of_another_vocabulary_or_context_are_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        """A tokenizer of the model's vocabulary: only the table says that it has another."""

        def __init__(self, vocab_size: int) -> None:
            self.bytes_per_token = np.ones(vocab_size, np.int64)

    def refused(**changes: int) -> str:
        model = MODEL.model_copy(update=changes)
        monkeypatch.setattr("training.job.Tokenizer.load", lambda folder: Other(model.vocab_size))
        with pytest.raises(Refusal) as refusal:
            Text.of(workspace, {"tokens": 0, "tokenizer": "nowhere"}, model)
        return str(refusal.value)

    assert refused(vocab_size=400) == (
        "table tokens must be of the model's vocabulary of 400, got 300 in version 0"
    )
    assert refused(context_length=15) == (
        "table tokens must have rows of context_length + 1 = 16 tokens, got 8 in version 0"
    )

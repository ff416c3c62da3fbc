"""The stages of this room on a small corpus, a real tokenizer, and a model trained for seconds."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pytest

import datalake
import training
from datalake import card as data_card
from datalake.config import Refusal
from datalake.funnel import Count, Funnel
from datalake.schemas import TABLES
from datalake.workspace import Made, Version, Workspace
from evaluation import findings, ngrams, run
from evaluation.likelihood import one_thread_per_operator
from evaluation.run import (
    EvaluationConfig,
    LeaderboardConfig,
    ModelCardConfig,
    PromptConfig,
    Settings,
)
from tests.evaluation.test_page import Outline
from training import checkpoint, tracking
from training import run as training_run
from training.data.loader import Rows
from training.loop import TrainResult
from training.models.accounting import num_matmul_params, num_params
from training.models.variants import TransformerConfig
from training.pretraining import TrainConfig, train
from training.scaling.fit import Prediction
from training.scaling.plan import Plan
from training.schedule import OptimizerConfig
from training.tokenizer.bpe import Tokenizer

VOCAB, CONTEXT = 600, 64
CONFIG = EvaluationConfig(
    name="tiny", prompts=PromptConfig(per_source=2, prompt_tokens=12, new_tokens=8)
)


def corpus_rows() -> list[dict[str, Any]]:
    """Modules of two rooms of this house, as if one room came from the web."""
    rows = []
    for source, room in (("web", datalake), ("code", training)):
        for path in sorted(Path(str(room.__file__)).parent.rglob("*.py")):
            name = str(path.relative_to(Path(str(room.__file__)).parents[1]))
            doc_id = hashlib.md5(name.encode()).hexdigest()
            text = path.read_text()[:6000]
            rows.append(
                {
                    "doc_id": doc_id,
                    "source": source,
                    "uri": name,
                    "title": name,
                    "language": "python",
                    "licence": "Apache-2.0" if source == "code" else None,
                    "archive": "archive",
                    "offset": 0,
                    "length": 0,
                    "num_bytes": len(text.encode()),
                    "cluster": doc_id,
                    "weight": 1.0,
                    "text": text,
                }
            )
    return rows


def write_data_card(workspace: Workspace, rows: list[dict[str, Any]]) -> str:
    counts: dict[str, Count] = {}
    for row in rows:
        one = Count(1, row["num_bytes"])
        counts[row["source"]] = counts.get(row["source"], Count()) + one
    funnel = Funnel(
        stages=dict.fromkeys(("raw", "documents", "kept", "unique", "corpus"), counts),
        reasons={},
        copies={},
        licences={
            s: {"Apache-2.0" if s == "code" else "unknown": count} for s, count in counts.items()
        },
        languages={s: {"python": count} for s, count in counts.items()},
        lengths={s: {12: count.documents} for s, count in counts.items()},
        weights=dict.fromkeys(counts, 1.0),
        largest_clusters=(),
    )
    write = lambda draft: data_card.write(funnel, "Data", draft)  # noqa: E731
    return workspace.save_artifact("data_card", write)[0]


def train_model(workspace: Workspace, inputs: Mapping[str, Version]) -> tuple[TrainResult, Plan]:
    """A model of a few steps, and the plan that it carried out."""
    model = TransformerConfig(
        vocab_size=VOCAB, context_length=CONTEXT, d_model=32, num_layers=2, num_heads=2
    )
    config = TrainConfig(
        model=model,
        optimizer=OptimizerConfig(),
        flops=6e10,
        batch_rows=8,
        validation_rows=10**6,
        checkpoint_steps=1000,
        seed=0,
        precision="float32",
    )
    version = int(inputs["tokens"])
    train_rows, validation_rows = (
        Rows.from_files(workspace.lake.files("tokens", version, {"split": split}))
        for split in ("train", "validation")
    )
    lengths = Tokenizer.load(str(inputs["tokenizer"])).bytes_per_token
    with one_thread_per_operator():  # a second one is slower where others are at work
        result = train(config, train_rows, validation_rows, lengths, workspace.folder("runs/base"))
    plan = Plan(
        flops=config.flops,
        model=model,
        optimizer=config.optimizer,
        batch_rows=config.batch_rows,
        num_steps=result.steps,
        num_tokens=result.tokens,
        epochs=result.tokens / train_rows.tokens[:, 1:].size,
        num_params=num_params(model),
        num_matmul_params=num_matmul_params(model),
        best_params=1e5,
        predicted=Prediction(loss=result.loss + 0.1, low=result.loss - 0.1, high=result.loss + 0.3),
    )
    return result, plan


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Version]]:
    """A workspace in which everything that this room reads was made."""
    workspace = Workspace(home=tmp_path_factory.mktemp("house"), say=lambda line: None)
    rows = corpus_rows()
    table = pa.Table.from_pylist(rows, TABLES["corpus"].arrow)
    kept = [{k: row[k] for k in ("doc_id", "source", "licence", "num_bytes")} for row in rows]
    for reason in (None, "rule"):  # two versions, of which the corpus was made from the second
        decided = [row | {"keep": reason is None, "reason": reason} for row in kept]
        decisions = pa.Table.from_pylist(decided, TABLES["kept"].arrow)
        rules = workspace.lake.overwrite("kept", decisions, inputs={"artifact": "folder"})
    corpus = workspace.lake.overwrite("corpus", table, inputs={"kept": rules.version})
    inputs: dict[str, Version] = {"corpus": corpus.version}
    vocabulary = training_run.TokenizerConfig(vocab_size=VOCAB, pattern="cl100k_digits")
    inputs["tokenizer"] = training_run.tokenizer(workspace, inputs, vocabulary).version
    packing = training_run.TokensConfig(context_length=CONTEXT, validation_fraction=0.2, seed=0)
    inputs["tokens"] = training_run.tokens(workspace, inputs, packing).version
    result, plan = train_model(workspace, inputs)
    inputs["base_model"] = str(result.checkpoint)
    inputs["training_plan"] = workspace.save_artifact(
        "training_plan",
        lambda draft: (draft / "training_plan.json").write_text(plan.model_dump_json()) and None,
    )[0]
    inputs["data_card"] = write_data_card(workspace, rows)
    return workspace, inputs


def of(inputs: Mapping[str, Version], *names: str) -> dict[str, Version]:
    return {name: inputs[name] for name in names}


def base_of(made: Made) -> findings.Evaluation:
    """What the stage found about the base model."""
    return findings.read(str(made.version)).of("base")


READS = ("base_model", "tokens", "tokenizer", "corpus", "training_plan")


@pytest.fixture(scope="module")
def evaluated(house: tuple[Workspace, dict[str, Version]]) -> Made:
    workspace, inputs = house
    return run.base_evaluation(workspace, of(inputs, *READS), CONFIG)


def test_the_score_is_the_loss_that_training_measured(house, evaluated):
    _, inputs = house
    loss = checkpoint.load(Path(str(inputs["base_model"]))).manifest["loss"]
    assert evaluated.report["bits_per_byte"] == pytest.approx(loss, abs=2e-5)
    assert evaluated.report["realised"] == pytest.approx(loss, abs=1e-5)


def test_every_byte_of_every_held_out_document_is_scored_once(house, evaluated):
    workspace, _ = house
    found = base_of(evaluated)
    sums, sources = found.sums, found.sources
    corpus = {row["doc_id"]: row for row in workspace.lake.read("corpus").to_pylist()}
    assert 5 < len(sums.doc_ids) < len(corpus)
    for doc_id, num_bytes, source in zip(sums.doc_ids, sums.num_bytes, sources, strict=True):
        assert num_bytes == corpus[doc_id]["num_bytes"]
        assert source == corpus[doc_id]["source"]


def test_the_report_has_what_checks_and_people_ask_for(evaluated):
    report = evaluated.report
    assert report["bits_per_byte_low"] < report["bits_per_byte"] < report["bits_per_byte_high"]
    assert report["trigram_bits_per_byte"] < report["bigram_bits_per_byte"]
    assert {"bits per byte of web", "bits per byte of code", "documents"} <= report.keys()
    assert report["inside the interval"] == "True"
    assert evaluated.plots["Bits per byte"].startswith("<svg")


def test_the_baselines_have_read_the_training_rows_and_nothing_else(house, evaluated):
    workspace, inputs = house
    train_rows, held_out = (
        Rows.from_files(workspace.lake.files("tokens", 0, {"split": split})).tokens
        for split in ("train", "validation")
    )
    scored = Tokenizer.load(str(inputs["tokenizer"])).bytes_per_token[held_out[:, 1:]] > 0
    trained = ngrams.train(train_rows, VOCAB)
    sums = base_of(evaluated).sums
    for order, name in ((2, "bigram"), (3, "trigram")):
        expected = trained.nats(held_out, order)[scored].sum(dtype=np.float64)
        assert sums.nats[name].sum() == pytest.approx(expected, rel=1e-9)


def test_training_longer_than_chance_beats_the_uniform_guess(evaluated):
    found = base_of(evaluated)
    card, sums = found.card, found.sums
    uniform = sums.num_tokens.sum() * np.log2(VOCAB) / sums.num_bytes.sum()
    assert card.of("all").scores["model"].bits_per_byte.high < uniform


def test_a_second_evaluation_is_the_same_artifact(house, evaluated):
    workspace, inputs = house
    again = run.base_evaluation(workspace, of(inputs, *READS), CONFIG)
    assert (again.version, again.content) == (evaluated.version, evaluated.content)


def test_the_batch_size_does_not_change_a_verdict(house, evaluated):
    workspace, inputs = house
    config = CONFIG.model_copy(update={"rows_per_batch": 5})
    other = run.base_evaluation(workspace, of(inputs, *READS), config)
    one, many = (base_of(made).card for made in (evaluated, other))
    for mine, theirs in zip(one.sources, many.sources, strict=True):
        for baseline, difference in mine.differences.items():
            twin = theirs.differences[baseline]
            assert difference.value == pytest.approx(twin.value, abs=1e-5)
            assert difference.excludes_zero == twin.excludes_zero
    assert [s.greedy for s in one.samples] == [s.greedy for s in many.samples]


def test_no_path_of_this_machine_is_in_the_artifact(house, evaluated):
    workspace, _ = house
    text = (Path(str(evaluated.version)) / "base" / "evaluation.json").read_text()
    assert str(workspace.home) not in text
    found = json.loads(text)
    assert found["inputs"]["tokens"] == 0
    assert found["inputs"]["base_model"] == found["weights"]


def test_samples_begin_as_their_documents_do(house, evaluated):
    workspace, _ = house
    card = base_of(evaluated).card
    corpus = {row["doc_id"]: row for row in workspace.lake.read("corpus").to_pylist()}
    assert {sample.source for sample in card.samples} == {"web", "code"}
    for sample in card.samples:
        row = corpus[sample.doc_id]
        assert row["text"].startswith(sample.prompt + sample.truth)
        assert (sample.title, sample.licence) == (row["title"], row["licence"])
        assert len(sample.prompt_ids) == 1 + CONFIG.prompts.prompt_tokens
    assert any(sample.greedy != sample.sampled for sample in card.samples)


def test_every_number_is_in_mlflow_with_its_interval_and_the_versions_read(house, evaluated):
    workspace, inputs = house
    client = mlflow.MlflowClient(tracking.tracking_uri(workspace))
    found = client.get_run(str(evaluated.report["MLflow run"]))
    for name in ("all/model", "all/trigram", "web/model", "code/model_minus_bigram"):
        low, value, high = (
            found.data.metrics[f"{name}/bits_per_byte{end}"] for end in ("_low", "", "_high")
        )
        assert low <= value <= high
    assert found.data.metrics["all/model/bits_per_byte"] == pytest.approx(
        evaluated.report["bits_per_byte"], abs=1e-5
    )
    read = {i.dataset.name: i.dataset.digest for i in found.inputs.dataset_inputs}
    tags = [{t.key: t.value for t in i.tags} for i in found.inputs.dataset_inputs]
    assert tags == [{"mlflow.data.context": "evaluation"}] * 2
    assert read == {"tokens": f"v{inputs['tokens']}", "corpus": f"v{inputs['corpus']}"}
    assert found.data.tags["parent_model"] == inputs["base_model"]


def test_the_leaderboard_ranks_what_was_evaluated(house, evaluated):
    workspace, _ = house
    made = run.leaderboard(
        workspace, {"base_evaluation": evaluated.version}, LeaderboardConfig(title="Small models")
    )
    Outline((Path(str(made.version)) / "index.html").read_text())
    board = json.loads((Path(str(made.version)) / "leaderboard.json").read_text())
    names = {place["name"] for place in board["standings"][0]["places"]}
    assert names == {"tiny", "bigram", "trigram"}
    assert made.report["models"] == 1
    assert made.report["page"] == str(Path(str(made.version)) / "index.html")


CARD_READS = ("base_model", "training_plan", "data_card")


def test_the_model_card_tells_the_whole_story(house, evaluated):
    workspace, inputs = house
    given = of(inputs, *CARD_READS) | {"base_evaluation": evaluated.version}
    made = run.model_card(workspace, given, ModelCardConfig(purpose="To be tested."))
    page = (Path(str(made.version)) / "index.html").read_text()
    Outline(page)
    assert "<h1>tiny</h1>" in page and "To be tested." in page
    assert f"{evaluated.report['bits_per_byte']:.3f}" in page
    assert "inside the interval" in page
    for name, version in (("tokens", 0), ("corpus", 0), ("kept", 1)):
        assert f"<dt>{name}</dt><dd>version {version}</dd>" in page
    assert "no known licence" in page  # the documents of the source web
    assert "<dt>muon lr</dt><dd>0.01</dd>" in page
    assert str(workspace.home) not in page
    assert made.plots["Training loss"].startswith("<svg")


def test_a_card_of_another_model_than_the_evaluated_one_is_refused(house, evaluated, tmp_path):
    workspace, inputs = house
    known = checkpoint.load(Path(str(inputs["base_model"])))
    other = checkpoint.save(tmp_path, 1, {}, {**known.manifest, "weights": "f" * 64})
    given = of(inputs, *CARD_READS) | {"base_evaluation": evaluated.version}
    with pytest.raises(Refusal) as refusal:
        run.model_card(workspace, given | {"base_model": str(other.path)}, ModelCardConfig())
    assert str(refusal.value) == (
        f"base_model must be the model that was evaluated, {known.manifest['weights'][:16]}, "
        "got ffffffffffffffff"
    )


def test_a_model_without_a_plan_is_evaluated_without_one(house):
    workspace, inputs = house
    made = run.base_evaluation(workspace, of(inputs, *READS[:-1]), CONFIG)
    assert "predicted" not in made.report
    assert base_of(made).card.plan is None


def test_prompts_longer_than_the_context_are_refused(house):
    workspace, inputs = house
    config = CONFIG.model_copy(update={"prompts": PromptConfig(prompt_tokens=40, new_tokens=24)})
    with pytest.raises(Refusal) as refusal:
        run.base_evaluation(workspace, of(inputs, *READS), config)
    assert str(refusal.value) == (
        "prompts.prompt_tokens + prompts.new_tokens must be below the context of 64, got 40 + 24"
    )


def test_a_tokenizer_of_another_vocabulary_is_refused(house):
    workspace, inputs = house
    small = training_run.TokenizerConfig(vocab_size=400, pattern="cl100k_digits")
    other = training_run.tokenizer(workspace, of(inputs, "corpus"), small).version
    with pytest.raises(Refusal) as refusal:
        run.base_evaluation(workspace, of(inputs, *READS) | {"tokenizer": other}, CONFIG)
    assert str(refusal.value) == "tokenizer must have the model's 600 tokens, got 400"


def lake_with(workspace: Workspace, home: Path, table: str, rows: pa.Table) -> Workspace:
    """Another lake in which ``table`` holds ``rows``, and the others what they held."""
    other = dataclasses.replace(workspace, home=home)
    for name in ("corpus", "tokens"):
        held = rows if name == table else workspace.lake.read(name)
        other.lake.overwrite(name, held)
    return other


def test_a_corpus_without_the_held_out_documents_is_refused(house, tmp_path):
    workspace, inputs = house
    corpus = workspace.lake.read("corpus")
    other = lake_with(workspace, tmp_path, "corpus", corpus.slice(0, 1))
    message = "table corpus at version 0 must hold every held-out document, got none for "
    with pytest.raises(Refusal, match=message):
        run.base_evaluation(other, of(inputs, *READS), CONFIG)


def test_tokens_without_a_validation_split_are_refused_by_its_name(house, tmp_path):
    workspace, inputs = house
    train_rows = workspace.lake.read("tokens", where={"split": "train"})
    other = lake_with(workspace, tmp_path, "tokens", train_rows)
    with pytest.raises(Refusal) as refusal:
        run.base_evaluation(other, of(inputs, *READS), CONFIG)
    assert str(refusal.value) == (
        "split validation of table tokens must hold at least one row, got none"
    )


def test_settings_ask_for_nothing_but_a_name():
    settings = Settings.model_validate_json('{"base_evaluation": {"name": "tiny"}}')
    assert settings.base_evaluation.prompts.per_source == 3

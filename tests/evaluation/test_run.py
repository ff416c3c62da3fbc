"""The stages of this room on a small corpus, a real tokenizer, and a model trained for seconds."""

import dataclasses
import json
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa
import pytest

from datalake.config import Refusal
from datalake.workspace import Made, Version, Workspace
from evaluation import findings, ngrams, run
from evaluation.run import (
    EvaluationConfig,
    LeaderboardConfig,
    ModelCardConfig,
    PromptConfig,
    Settings,
)
from tests.evaluation.house import VOCAB, of
from tests.evaluation.pages.test_page import Outline
from training import checkpoint, tracking
from training import run as training_run
from training.data.rows import Rows
from training.tokenizer.bpe import Tokenizer

CONFIG = EvaluationConfig(
    name="tiny", prompts=PromptConfig(per_source=2, prompt_tokens=12, new_tokens=8)
)


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
        Rows.from_files(workspace.lake.files("tokens", 0, {"split": split}))
        for split in ("train", "validation")
    )
    pieces = held_out.pieces()
    targets = (pieces[:, 1:] == pieces[:, :-1]) & (pieces[:, 1:] >= 0)
    lengths = Tokenizer.load(str(inputs["tokenizer"])).bytes_per_token
    scored = targets & (lengths[held_out.tokens[:, 1:]] > 0)
    trained = ngrams.train(train_rows)
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

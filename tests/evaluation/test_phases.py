"""The stages behind the base model, on a base of seconds and copies of it with noise.

None of these models has learned to answer, which is the honest case: nothing is a gain.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.workspace import Made, Version, Workspace
from evaluation import findings, numbers, run
from evaluation.run import (
    ChatEvaluationConfig,
    EvaluationConfig,
    LeaderboardConfig,
    ModelCardConfig,
    PromptConfig,
    SftEvaluationConfig,
    TasksConfig,
)
from tests.evaluation.house import of
from tests.evaluation.items import drawn
from tests.evaluation.pages.test_page import Outline
from training import checkpoint, tracking

TASKS = TasksConfig(max_new_tokens=8, rows_per_batch=16)
PROMPTS = PromptConfig(per_source=1, prompt_tokens=12, new_tokens=8)
BASE = EvaluationConfig(name="tiny base", tasks=TASKS, prompts=PROMPTS)
SFT = SftEvaluationConfig(name="tiny sft", tasks=TASKS)
CHAT = ChatEvaluationConfig(dpo_name="tiny dpo", chat_name="tiny chat", tasks=TASKS)
BASE_READS = ("base_model", "training_plan", "tokens", "tokenizer", "corpus", "instructions")
SFT_READS = ("sft_model", "base_evaluation", "instructions", "tokens", "tokenizer", "corpus")
CHAT_READS = ("dpo_model", "chat_model", "sft_evaluation", *SFT_READS[2:])

House = tuple[Workspace, dict[str, Version]]


def noisy(base: Path, folder: Path, seed: int, about: dict[str, Any]) -> str:
    """A checkpoint beside which a training left its metrics: ``base`` with a little noise."""
    before = checkpoint.load(base)
    random = torch.Generator().manual_seed(seed)
    weights = {
        name: tensor + 0.01 * torch.randn(tensor.shape, generator=random)
        for name, tensor in before.load("weights").items()
    }
    manifest = {k: v for k, v in before.manifest.items() if k != "files"} | {
        "weights": checkpoint.weights_digest(weights),
        "about": about,
        "numbers": {"loss": 1.0, "pairs": 40.0, "accuracy": 0.7, "longer wins": 0.5}
        | {"accuracy/sort": 0.6, "pairs/sort": 10.0},
    }
    made = checkpoint.save(folder, 30, {"weights": weights}, manifest)
    reward = {"reward": 0.5} if "chat" in about["asset"] else {}
    with (folder / "metrics.jsonl").open("w") as file:
        for step in (10, 20, 30):
            line = {"step": step, "num_steps": 30, "tokens": 100 * step, "loss": 3 / step}
            file.write(json.dumps(line | reward) + "\n")
    return str(made.path)


@pytest.fixture(scope="module")
def phases(house: House, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict]:
    """The house, with items and models of all phases; the dpo model alone has a control."""
    before, inputs = house
    lines: list[str] = []
    workspace = dataclasses.replace(
        before,
        home=tmp_path_factory.mktemp("phases"),
        lake_uri=before.lake.root,
        say=lines.append,
    )
    everything: dict[str, Any] = dict(inputs)
    items = drawn(4, families=("copy", "refuse", "comply", "message"))
    everything["instructions"] = workspace.lake.overwrite("instructions", items).version
    base = Path(str(inputs["base_model"]))
    schema = TABLES["preferences"].arrow
    blank = {field.name: "" if field.type == pa.string() else 0 for field in schema}
    pairs = [
        blank | {"item_id": f"{i:032x}", "split": "train"} | {"sampling_flops": 2e9}
        for i in range(3)
    ]
    preferences = pa.Table.from_pylist(pairs, schema)
    read = {"dpo": {"preferences": workspace.lake.overwrite("preferences", preferences).version}}
    for seed, phase in enumerate(("sft", "dpo", "chat", "reward")):
        folder = workspace.folder(f"runs/{phase}_model-0")
        about = {
            "asset": f"{phase}_model",
            "inputs": {"instructions": 0, "tokenizer": "folder"} | read.get(phase, {}),
        }
        everything[f"{phase}_model"] = noisy(base, folder, seed, about)
    control = workspace.folder("runs/dpo_model-0/control")
    noisy(base, control, 9, {"asset": "dpo_model control"})
    base_made = run.base_evaluation(workspace, of(everything, *BASE_READS), BASE)
    everything["base_evaluation"] = base_made.version
    sft_made = run.sft_evaluation(workspace, of(everything, *SFT_READS), SFT)
    everything["sft_evaluation"] = sft_made.version
    chat_made = run.chat_evaluation(workspace, of(everything, *CHAT_READS), CHAT)
    everything["chat_evaluation"] = chat_made.version
    made = {"base": base_made, "sft": sft_made, "chat": chat_made, "said": lines}
    return workspace, everything | {"made": made}


def made_of(phases: tuple[Workspace, dict], phase: str) -> Made:
    made: Made = phases[1]["made"][phase]
    return made


def test_the_base_model_is_asked_and_knows_no_answer(phases):
    report = made_of(phases, "base").report
    assert report["accuracy"] == report["accuracy_new_templates"] == 0
    assert report["items"] == 32
    assert report["accuracy_drawn"] == 0
    assert report["bits_per_byte"] < report["bigram_bits_per_byte"] + 2
    assert "Right answers by family" in made_of(phases, "base").plots


def test_a_phase_without_gain_says_so_in_the_report(phases):
    report = made_of(phases, "sft").report
    assert report["tiny sft against tiny base"].startswith("no significant gain: ")
    assert (report["gain"], report["gain_low"], report["gain_high"]) == (0, 0, 0)


def test_every_item_with_new_values_is_answered_once_more_by_a_draw(phases):
    _, inputs = phases
    for model in findings.read(str(inputs["chat_evaluation"])).models:
        drawn, greedy = model.tasks.drawn, model.tasks.answers
        values = greedy.filter(pc.field("split") == "test_values")
        assert drawn["item_id"].equals(values["item_id"])
        assert drawn["text"].to_pylist() != values["text"].to_pylist()
        assert model.tasks.scores.drawn.num_items == 16


def test_items_with_new_values_that_fit_are_asked_once_more_in_a_second_turn(phases):
    workspace, inputs = phases
    short = drawn(4, families=("count", "uppercase"))
    asked = inputs | {"instructions": workspace.lake.overwrite("instructions", short).version}
    base = run.base_evaluation(workspace, of(asked, *BASE_READS), BASE)
    asked["base_evaluation"] = base.version
    made = run.sft_evaluation(workspace, of(asked, *SFT_READS), SFT)
    found = findings.read(str(made.version))
    tasks = found.of("sft").tasks
    assert tasks.scores.later.num_items == tasks.later.num_rows > 1
    assert tasks.scores.later.num_left_out == 8 - tasks.later.num_rows > 0
    values = tasks.answers.filter(pc.field("split") == "test_values")
    assert set(tasks.later["item_id"].to_pylist()) < set(values["item_id"].to_pylist())
    assert found.comparisons[0].later.num_items == tasks.later.num_rows
    left_out = tasks.scores.later.num_left_out
    line = f"tiny sft: {left_out} of 8 items do not fit the context as a second turn"
    assert line in inputs["made"]["said"]
    assert base.report["accuracy_second_turn"] == made.report["accuracy_second_turn"] == 0


def test_where_no_item_fits_a_second_turn_nothing_is_said_of_it(phases):
    _, inputs = phases
    found = findings.read(str(inputs["chat_evaluation"]))
    for model in found.models:
        assert (model.tasks.later, model.tasks.scores.later) == (None, None)
    assert {one.later for one in found.comparisons} == {None}
    assert "accuracy_second_turn" not in made_of(phases, "chat").report
    line = "tiny chat: 16 of 16 items do not fit the context as a second turn"
    assert line in inputs["made"]["said"]


def test_every_phase_is_compared_with_the_one_before_and_with_its_control(phases):
    _, inputs = phases
    found = findings.read(str(inputs["chat_evaluation"]))
    assert [model.phase for model in found.models] == ["dpo", "dpo-control", "chat"]
    assert [one.phases for one in found.comparisons] == [
        ("dpo", "sft"),
        ("dpo", "dpo-control"),
        ("chat", "dpo"),
        ("chat", "sft"),
    ]
    assert [one.is_with_control for one in found.comparisons] == [False, True, False, False]
    assert found.models[1].name == "tiny dpo control: more SFT"


def test_a_missing_control_is_said_and_written_down(phases):
    _, inputs = phases
    line = "tiny chat is not compared with a control: none was trained."
    assert findings.read(str(inputs["chat_evaluation"])).left_out == (line,)
    assert line in inputs["made"]["said"]


def test_each_model_is_scored_on_its_own_weights(phases):
    _, inputs = phases
    base, sft, chat = (
        findings.read(str(inputs[f"{phase}_evaluation"])) for phase in ("base", "sft", "chat")
    )
    models = findings.all_models([base, sft, chat])
    assert len({model.card.weights for model in models}) == len(models) == 5
    assert len({model.sums.nats["model"].sum() for model in models}) == 5
    assert set(base.of("base").sums.nats) == {"model", "bigram", "trigram"}
    assert set(sft.of("sft").sums.nats) == {"model"}
    tax = sft.comparisons[0].bits_per_byte.value
    bits = [
        found.card.of("all").scores["model"].bits_per_byte.value
        for found in (sft.of("sft"), base.of("base"))
    ]
    assert tax == pytest.approx(bits[0] - bits[1])


def test_a_second_evaluation_is_the_same_artifact_and_asks_nobody(phases, monkeypatch):
    workspace, inputs = phases
    monkeypatch.setattr("evaluation.answers.generate_batch", None)
    again = run.sft_evaluation(workspace, of(inputs, *SFT_READS), SFT)
    assert (again.version, again.content) == (
        made_of(phases, "sft").version,
        made_of(phases, "sft").content,
    )


def test_no_path_of_this_machine_is_in_the_artifacts(phases):
    workspace, inputs = phases
    for phase in ("base", "sft", "chat"):
        for file in Path(str(inputs[f"{phase}_evaluation"])).rglob("*.json"):
            assert str(workspace.home) not in file.read_text()


def test_every_number_is_in_mlflow_with_its_model_as_the_parent(phases):
    workspace, inputs = phases
    client = mlflow.MlflowClient(tracking.tracking_uri(workspace))
    found = client.get_run(str(made_of(phases, "chat").report["MLflow run"]))
    values = found.data.metrics
    for name in ("dpo/test_values/accuracy", "chat/safety/over_refusal", "chat/style/asked"):
        assert values[f"{name}_low"] <= values[name] <= values[f"{name}_high"]
    assert values["tiny chat against tiny sft/all/gain"] == 0
    assert values["tiny dpo against tiny dpo control more SFT/all/p"] == 1
    assert values["chat/all/copy/accuracy"] == 0
    assert values == pytest.approx(numbers.metrics(findings.read(str(inputs["chat_evaluation"]))))
    assert found.data.tags["parent_model"] == inputs["chat_model"]


def test_items_of_another_version_cannot_be_compared(phases):
    workspace, inputs = phases
    fewer = drawn(3, families=("copy", "refuse", "comply", "message"))
    version = workspace.lake.overwrite("instructions", fewer).version
    with pytest.raises(Refusal, match="tiny sft and tiny base must have answered the same items"):
        run.sft_evaluation(workspace, of(inputs, *SFT_READS) | {"instructions": version}, SFT)


def test_other_decoding_cannot_be_compared(phases):
    workspace, inputs = phases
    shorter = SFT.model_copy(update={"tasks": TasksConfig(max_new_tokens=4)})
    with pytest.raises(Refusal) as refusal:
        run.sft_evaluation(workspace, of(inputs, *SFT_READS), shorter)
    assert str(refusal.value) == (
        "max_new_tokens of tiny sft and tiny base must be the same, got 4 and 8"
    )


def test_a_base_that_was_asked_nothing_cannot_be_compared(phases):
    workspace, inputs = phases
    reads = of(inputs, *BASE_READS[:-1])
    silent = run.base_evaluation(workspace, reads, BASE)
    assert "accuracy" not in silent.report
    with pytest.raises(Refusal) as refusal:
        run.sft_evaluation(
            workspace, of(inputs, *SFT_READS) | {"base_evaluation": silent.version}, SFT
        )
    assert str(refusal.value) == (
        "tiny base must have answered items to be compared, got no answers"
    )


def test_the_leaderboard_shows_all_models_and_who_is_tied(phases):
    workspace, inputs = phases
    keys = ("base_evaluation", "chat_evaluation", "sft_evaluation")
    made = run.leaderboard(workspace, of(inputs, *keys), LeaderboardConfig())
    page = (Path(str(made.version)) / "index.html").read_text()
    Outline(page)
    names = ("tiny base", "tiny sft", "tiny dpo", "tiny dpo control: more SFT", "tiny chat")
    for name in names:
        assert f"<summary>{name}</summary>" in page
    assert page.count("place 1, tied") == 2 * len(names)
    assert page.count("no significant gain: +0.0 points [0.0, 0.0]") == 3 * 5
    assert "tiny chat is not compared with a control" in page
    assert made.report["models"] == 5
    assert made.report["tiny chat against tiny sft"].startswith("no significant gain")
    assert set(made.plots) == {"Right answers", "Bits per byte", "Phase against phase"}
    board = json.loads((Path(str(made.version)) / "leaderboard.json").read_text())
    assert set(board["tasks"]) == set(names)
    assert len(board["comparisons"]) == 5


CARD_READS = (
    *(f"{phase}_evaluation" for phase in ("base", "sft", "chat")),
    *(f"{phase}_model" for phase in ("base", "sft", "dpo", "reward", "chat")),
    "training_plan",
    "data_card",
)


def test_the_card_of_a_chat_model_tells_every_phase(phases):
    workspace, inputs = phases
    made = run.model_card(workspace, of(inputs, *CARD_READS), ModelCardConfig(purpose="Testing."))
    page = (Path(str(made.version)) / "index.html").read_text()
    Outline(page)
    assert "<h1>tiny chat</h1>" in page and "Testing." in page
    for heading in (
        "What it can do",
        "How it came about",
        "Phase against phase",
        "What it answers",
        "Safety",
        "Style",
        "What alignment cost",
        "The reward model",
        "The base model: how good it is",
        "Compute and time",
        "Limits",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert "tiny sft → tiny dpo: it learns which of two of its own answers" in page
    assert page.count("Mean loss while training.") >= 2  # the base may be too fast for a curve
    assert page.count("Mean reward while training.") == 1
    assert "tiny dpo control</th>" in page  # among the costs
    assert "preferences (sampling)</th><td>6.00e+09</td>" in page
    assert "copy: 0 of 8 right" in page
    assert "is not shown to be better than more fine-tuning of equal compute" in page
    assert "<dt>instructions</dt><dd>version " in page
    assert str(workspace.home) not in page
    assert made.report["model"] == "tiny chat"


def test_a_card_of_another_chat_model_than_the_evaluated_one_is_refused(phases):
    workspace, inputs = phases
    with pytest.raises(Refusal, match="chat_model must be the model that was evaluated, "):
        run.model_card(
            workspace,
            of(inputs, *CARD_READS) | {"chat_model": inputs["dpo_model"]},
            ModelCardConfig(),
        )


def test_settings_of_later_phases_may_be_left_out():
    settings = run.Settings.model_validate_json('{"base_evaluation": {"name": "tiny"}}')
    assert settings.sft_evaluation.tasks == settings.chat_evaluation.tasks == TasksConfig()

"""From token rows to a base model on real workers: sweep, law, plan, training, and any kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa
import pytest

from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.workspace import Inputs, Made, Workspace
from training import checkpoint, run, tracking
from training.job import Job, Text, run_folder, work
from training.models.presets.own import tarn
from training.scaling.fit import Law, Prediction
from training.scaling.plan import Plan, TrainingPlanConfig
from training.scaling.sweep import ScalingRunsConfig, Size
from training.schedule import OptimizerConfig

CONTEXT = 32
WORDS = ("def", "return", "import", "token", "model", "(", ")", ":", "loss", "=", "step", "\n")


def _texts(count: int) -> Iterator[str]:
    random = np.random.default_rng(0)
    for number in range(count):
        words = [WORDS[int(i)] for i in random.zipf(1.5, 300) % len(WORDS)]
        yield f"document {number} " + " ".join(words)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(home=tmp_path_factory.mktemp("pretraining"), say=lambda line: None)


@pytest.fixture(scope="module")
def inputs(workspace: Workspace) -> Inputs:
    """A corpus of made-up documents, its tokenizer and its token rows."""
    rows = [
        {
            **dict.fromkeys(TABLES["corpus"].arrow.names, ""),
            "doc_id": f"{number:032x}",
            "cluster": f"{number:032x}",
            "source": "code",
            "offset": 0,
            "length": len(text),
            "num_bytes": len(text),
            "num_tokens": len(text.split()),
            "weight": 1.0,
            "text": text,
        }
        for number, text in enumerate(_texts(300))
    ]
    corpus = workspace.lake.overwrite(
        "corpus", pa.Table.from_pylist(rows, schema=TABLES["corpus"].arrow)
    )
    made = run.tokenizer(
        workspace,
        {"corpus": corpus.version},
        run.TokenizerConfig(vocab_size=300, pattern="cl100k_digits"),
    )
    tokens = run.tokens(
        workspace,
        {"corpus": corpus.version, "tokenizer": made.version},
        run.TokensConfig(context_length=CONTEXT, validation_fraction=0.1, seed=0),
    )
    return {"tokens": tokens.version, "tokenizer": made.version}


MODEL = tarn(vocab_size=300, context_length=CONTEXT, d_model=32, num_layers=2, num_heads=2)


@pytest.fixture(scope="module")
def planned(workspace: Workspace, inputs: Inputs) -> Inputs:
    """Inputs of ``base_model`` with a plan of about 300 steps at width 32."""
    plan = Plan(
        flops=300 * 8 * CONTEXT * 2.2e5,
        model=MODEL,
        optimizer=OptimizerConfig(),
        batch_rows=8,
        num_steps=300,
        num_tokens=300 * 8 * CONTEXT,
        epochs=1.0,
        num_params=1,
        num_matmul_params=1,
        best_params=1.0,
        predicted=Prediction(loss=2.0, low=1.9, high=2.1),
    )
    folder, _ = run._save_json(workspace, "training_plan", plan)
    return {**inputs, "training_plan": folder}


def settings(**changes: int) -> run.BaseModelConfig:
    given = {"workers": 1, "threads": 1, "retries": 0, "seed": 0, "num_checkpoints": 60}
    return run.BaseModelConfig(precision="float32", validation_rows=40, **(given | changes))


@pytest.fixture(scope="module")
def undisturbed(workspace: Workspace, planned: Inputs) -> Made:
    return run.base_model(workspace, planned, settings())


def _when_half_done(folder: Path, act: Callable[[], None]) -> threading.Thread:
    """Call ``act`` once, when a run below ``folder`` has taken some but not most of its steps."""

    def watch() -> None:
        while not (found := list(folder.glob("base_model-*/step-*"))):
            time.sleep(0.005)
        assert checkpoint.load(found[0]).step < 250
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def _kill_trainer(folder: Path) -> None:
    """SIGKILL the process that holds the lock of the run below ``folder``."""
    (lock,) = folder.glob("base_model-*/lock")
    os.kill(int(lock.read_text()), signal.SIGKILL)


def _elsewhere(workspace: Workspace, home: Path) -> Workspace:
    """Another home with the same tables: its run has the same name, and its own folder."""
    shutil.copytree(workspace.home / "lake", home / "lake")
    return Workspace(home=home, say=workspace.say)


def test_the_stage_trains_what_the_bare_loop_trains(
    workspace: Workspace, planned: Inputs, undisturbed: Made, tmp_path: Path
) -> None:
    manifest = checkpoint.load(Path(str(undisturbed.version))).manifest
    assert manifest["about"]["inputs"] == dict(planned)
    assert manifest["about"]["asset"] == "base_model"
    from training.pretraining import TrainConfig

    config = TrainConfig.model_validate_json(json.dumps(manifest["config"]))
    text = Text.of(workspace, planned, MODEL)
    import torch

    torch.set_num_threads(1)
    bare = work(Job(config=config, text=text, folder=tmp_path), 0, 1)
    assert bare.digest == undisturbed.content
    assert round(bare.loss, 5) == undisturbed.report["bits_per_byte"]


def test_the_report_holds_the_prediction_against_what_came_out(undisturbed: Made) -> None:
    report = undisturbed.report
    assert (report["predicted low"], report["predicted high"]) == (1.9, 2.1)
    inside = 1.9 <= float(report["bits_per_byte"]) <= 2.1
    assert report["inside the interval"] == str(inside)
    assert report["dtype"] == "float32"
    assert "<svg" in undisturbed.plots["Loss"]
    assert len(undisturbed.plots["Loss"]) < 100_000


def test_mlflow_knows_the_run_its_tables_and_its_model(
    workspace: Workspace, planned: Inputs, undisturbed: Made
) -> None:
    client = mlflow.MlflowClient(tracking_uri=tracking.tracking_uri(workspace))
    found = client.get_run(str(undisturbed.report["MLflow run"]))
    assert found.info.status == "FINISHED"
    (dataset,) = found.inputs.dataset_inputs
    assert json.loads(dataset.dataset.source)["path"] == workspace.lake.uri("tokens")
    assert dataset.dataset.digest == f"v{planned['tokens']}"
    assert found.data.metrics["bits_per_byte"] == pytest.approx(
        undisturbed.report["bits_per_byte"], abs=1e-5
    )
    assert "loss" in found.data.metrics and "mfu" in found.data.metrics
    (model,) = client.search_model_versions("name = 'base_model'")
    assert model.source == Path(str(undisturbed.version)).as_uri()


def test_a_second_materialization_finds_the_finished_run(
    workspace: Workspace, planned: Inputs, undisturbed: Made
) -> None:
    again = run.base_model(workspace, planned, settings(retries=3, num_checkpoints=7))
    assert (again.version, again.content) == (undisturbed.version, undisturbed.content)
    assert again.report["MLflow run"] == undisturbed.report["MLflow run"]


def test_a_changed_setting_begins_another_run(workspace: Workspace, planned: Inputs) -> None:
    def folder(**changes: int) -> str:
        config = settings(**changes)
        careless = {"num_checkpoints", "workers", "threads", "retries"}
        return run_folder(workspace, "base_model", planned, config, careless).name

    assert folder(retries=5, workers=2) == folder()
    assert folder(seed=1) != folder()


def test_another_model_to_start_from_begins_another_run(workspace: Workspace) -> None:
    def folder(parent: str) -> str:
        inputs = {"dpo_model": f"/home/runs/{parent}/step-000000060"}  # both took as many steps
        return run_folder(workspace, "chat_model", inputs, settings(), set()).name

    assert folder("dpo_model-0123") != folder("dpo_model-4567")
    assert folder("dpo_model-0123") == folder("dpo_model-0123")


def test_a_killed_worker_is_replaced_and_changes_no_bit(
    workspace: Workspace, planned: Inputs, undisturbed: Made, tmp_path: Path
) -> None:
    said: list[str] = []
    other = _elsewhere(workspace, tmp_path / "home")
    object.__setattr__(other, "say", said.append)
    killer = _when_half_done(
        tmp_path / "home" / "runs", lambda: _kill_trainer(tmp_path / "home" / "runs")
    )
    made = run.base_model(other, planned, settings(retries=1))
    killer.join()
    assert any("a worker failed" in line for line in said)
    assert made.content == undisturbed.content
    assert made.report["bits_per_byte"] == undisturbed.report["bits_per_byte"]


@pytest.mark.slow
def test_a_killed_driver_is_resumed_in_its_own_mlflow_run_and_changes_no_bit(
    workspace: Workspace, planned: Inputs, undisturbed: Made, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    other = _elsewhere(workspace, home)
    program = (
        "import json, sys; from pathlib import Path; from datalake.workspace import Workspace\n"
        "from training import run\n"
        "from tests.training.test_pretraining import settings\n"
        "run.base_model(Workspace(home=Path(sys.argv[1])), json.loads(sys.argv[2]), settings())"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", program, str(home), json.dumps(dict(planned))],
        stdout=subprocess.DEVNULL,
    )
    killer = _when_half_done(home / "runs", lambda: driver.send_signal(signal.SIGKILL))
    assert driver.wait() == -signal.SIGKILL
    killer.join()
    (folder,) = (home / "runs").glob("base_model-*")
    begun = json.loads((folder / "mlflow.json").read_text())["run_id"]
    made = run.base_model(other, planned, settings())
    assert made.content == undisturbed.content
    assert made.report["bits_per_byte"] == undisturbed.report["bits_per_byte"]
    assert made.report["MLflow run"] == begun


@pytest.mark.slow
def test_two_workers_reach_the_loss_of_one(
    workspace: Workspace, planned: Inputs, undisturbed: Made, tmp_path: Path
) -> None:
    made = run.base_model(_elsewhere(workspace, tmp_path / "home"), planned, settings(workers=2))
    assert made.report["bits_per_byte"] == pytest.approx(
        undisturbed.report["bits_per_byte"], rel=1e-3
    )


@pytest.mark.slow
def test_a_budget_becomes_a_base_model_by_way_of_a_sweep_a_law_and_a_plan(
    workspace: Workspace, inputs: Inputs
) -> None:
    ladder = tuple(Size(d_model=d, num_layers=2) for d in (16, 32, 48, 64))
    sweep = ScalingRunsConfig(
        model=MODEL,
        ladder=ladder,
        optimizer=OptimizerConfig(),
        target_flops=2e10,
        share=0.3,
        ratio=2.0,
        runs_per_budget=(2, 2, 2),
        tokens_per_param=0.5,
        validation_rows=40,
        seed=0,
        precision="float32",
        workers=2,
        threads=1,
        retries=0,
    )
    runs = run.scaling_runs(workspace, inputs, sweep)
    table = workspace.lake.read("scaling_runs", int(runs.version)).to_pylist()
    assert len(table) == runs.rows == 6
    assert runs.report["FLOPs"] == pytest.approx(0.3 / 0.7 * 2e10, rel=0.05)
    assert all(0.5 < row["loss"] < 8 for row in table)
    again = run.scaling_runs(workspace, inputs, sweep)
    assert (again.version, again.content) == (runs.version, runs.content)

    law = run.scaling_law(workspace, {"scaling_runs": runs.version}, run.ScalingLawConfig())
    read = Law.model_validate_json((Path(str(law.version)) / "scaling_law.json").read_bytes())
    assert [r.run for r in read.runs] == sorted((r["run"] for r in table), key=_budget_and_size)
    assert run.scaling_law(workspace, {"scaling_runs": runs.version}, run.ScalingLawConfig()) == law

    plan = run.training_plan(
        workspace,
        {"scaling_law": law.version, "tokens": inputs["tokens"]},
        TrainingPlanConfig(
            flops=2e10, model=MODEL, ladder=ladder, optimizer=OptimizerConfig(), max_epochs=50.0
        ),
    )
    assert plan.report["FLOPs"] == 2e10
    base = run.base_model(workspace, {**inputs, "training_plan": plan.version}, settings())
    assert base.report["predicted"] == pytest.approx(plan.report["predicted"], abs=1e-3)
    assert float(base.report["bits_per_byte"]) < min(row["loss"] for row in table)
    for made in (law, plan, base):
        assert all(len(plot) < 100_000 for plot in made.plots.values())


def test_a_model_of_another_vocabulary_is_refused_before_any_worker_starts(
    workspace: Workspace, inputs: Inputs
) -> None:
    other = MODEL.model_copy(update={"vocab_size": 301})
    with pytest.raises(Refusal) as refusal:
        Text.of(workspace, inputs, other)
    assert str(refusal.value) == "model.vocab_size must be the tokenizer's 300, got 301"


def _budget_and_size(name: str) -> tuple[float, int]:
    width, _, flops = name.split("-", 2)
    return float(flops), int(width[1:])

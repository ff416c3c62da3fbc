"""MLflow knows what every run read and made, and a resumed run goes on where it was."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from datalake.workspace import Workspace
from training import progress, tracking


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    origin = {"dagster/run_id": "abc"}
    said: list[str] = []
    made = Workspace(home=tmp_path_factory.mktemp("home"), say=said.append, origin=origin)
    object.__setattr__(made, "said", said)
    return made


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> Iterator[mlflow.MlflowClient]:
    yield mlflow.MlflowClient(tracking_uri=tracking.tracking_uri(workspace))


def line(step: int, num_steps: int = 100) -> dict[str, float]:
    return {
        "step": step,
        "num_steps": num_steps,
        "loss": 5 - step / 100,
        "tokens": step * 512,
        "flops_per_second": 98e9,
        "mfu": 0.61,
        "eta_seconds": 75,
    }


def write(path: Path, steps: range) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(line(step)) + "\n" for step in steps)


def test_a_run_names_its_tables_its_artifacts_and_who_asked(
    workspace: Workspace, client: mlflow.MlflowClient
) -> None:
    inputs = {"tokens": 3, "tokenizer": "/artifacts/tokenizer/ab"}
    params = {"model": {"d_model": 32, "tied": False}, "seed": 0}
    with tracking.open_run(workspace, "base_model", params=params, inputs=inputs) as run:
        assert client.get_run(run.run_id).info.status == "RUNNING"
        run.log_metrics({"bits_per_byte": 1.5}, step=7)
        run.log_text("plots/loss.svg", "<svg/>")
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"model.d_model": "32", "model.tied": "False", "seed": "0"}
    assert found.data.metrics == {"bits_per_byte": 1.5}
    assert found.data.tags["dagster/run_id"] == "abc"
    assert found.data.tags["input/tokenizer"] == "/artifacts/tokenizer/ab"
    (dataset,) = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("tokens", "v3")
    assert json.loads(dataset.dataset.source) == {
        "path": workspace.lake.uri("tokens"),
        "delta_table_version": 3,
    }
    assert [artifact.path for artifact in client.list_artifacts(run.run_id, "plots")] == [
        "plots/loss.svg"
    ]
    by_table = client.search_runs(
        [run.experiment], filter_string="datasets.name = 'tokens' and datasets.digest = 'v3'"
    )
    assert [each.info.run_id for each in by_table] == [run.run_id]


def test_everything_lies_below_the_workspace(workspace: Workspace) -> None:
    with tracking.open_run(workspace, "somewhere", params={}, inputs={}) as run:
        run.log_text("a.txt", "a")
    assert (workspace.home / "mlflow" / "mlflow.db").exists()
    assert list((workspace.home / "mlflow" / "artifacts").rglob("a.txt"))


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_ends_as_its_work_ends(
    workspace: Workspace,
    client: mlflow.MlflowClient,
    error: type[BaseException],
    status: str,
) -> None:
    with (
        pytest.raises(error),
        tracking.open_run(workspace, "fails", params={}, inputs={}) as run,
    ):
        raise error
    assert client.get_run(run.run_id).info.status == status


def test_a_resumed_run_goes_on_in_the_run_that_it_began(
    workspace: Workspace, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    def opened() -> str:
        with tracking.open_run(
            workspace, "resumed", params={"seed": 0}, inputs={"tokens": 1}, folder=tmp_path
        ) as run:
            return run.run_id

    first = opened()
    assert opened() == first
    client.delete_run(first)  # by a person, in the UI
    assert opened() != first


def test_metrics_are_followed_while_they_are_written(
    workspace: Workspace,
    client: mlflow.MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "SAY_SECONDS", 0.05)
    path = tmp_path / "metrics.jsonl"
    said = workspace.said  # type: ignore[attr-defined]
    said.clear()
    with tracking.open_run(workspace, "followed", params={}, inputs={}) as run:
        with run.follow(path, "followed"):
            write(path, range(10, 60, 10))
            deadline = time.monotonic() + 10
            while not said and time.monotonic() < deadline:
                time.sleep(0.02)
            assert said  # before the block ends
            write(path, range(60, 110, 10))
        assert not [t for t in threading.enumerate() if t.name == "follow followed"]
    history = client.get_metric_history(run.run_id, "loss")
    assert [metric.step for metric in history] == list(range(10, 110, 10))
    assert [metric.value for metric in history] == [5 - s / 100 for s in range(10, 110, 10)]
    assert said[-1] == (
        "followed [####################] 100%  step 100/100  loss 4.000 nats/token  "
        "98 GFLOP/s (61% of GEMM)  1:15 left"
    )


def test_a_run_that_went_back_to_a_checkpoint_is_followed_from_there(
    workspace: Workspace,
    client: mlflow.MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "SAY_SECONDS", 0.05)
    path = tmp_path / "metrics.jsonl"

    def follow(steps: range) -> str:
        with tracking.open_run(
            workspace, "back", params={}, inputs={}, folder=tmp_path
        ) as run, run.follow(path, "back"):  # fmt: skip
            write(path, steps)
        return run.run_id

    follow(range(10, 60, 10))
    path.write_text("")  # what a crash undid was cut off
    write(path, range(10, 30, 10))
    run_id = follow(range(30, 70, 10))
    steps = {metric.step for metric in client.get_metric_history(run_id, "loss")}
    assert steps == set(range(10, 70, 10))


def test_a_checkpoint_is_logged_once_and_registered(
    workspace: Workspace, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "run" / "step-000000010"

    def log() -> tuple[str, str]:
        with tracking.open_run(
            workspace, "base", params={}, inputs={"tokens": 1}, folder=checkpoint.parent
        ) as run:
            return run.run_id, run.log_model("base", checkpoint, step=10, params={"d_model": 32})

    run_id, model_id = log()
    assert log() == (run_id, model_id)
    model = client.get_logged_model(model_id)
    assert (model.status, model.source_run_id) == ("READY", run_id)
    assert model.tags["checkpoint"] == str(checkpoint)
    assert [output.step for output in client.get_run(run_id).outputs.model_outputs] == [10]
    (version,) = client.search_model_versions("name = 'base'")
    assert (version.source, version.run_id) == (checkpoint.as_uri(), run_id)

    with tracking.open_run(
        workspace, "child", params={}, inputs={}, context="evaluation", parent_model=checkpoint
    ) as child:
        pass
    found = client.get_run(child.run_id)
    assert [each.model_id for each in found.inputs.model_inputs] == [model_id]
    assert found.data.tags["parent_model"] == str(checkpoint)


def test_mlflow_keeps_silent(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    with tracking.open_run(workspace, "quiet", params={}, inputs={"tokens": 0}) as run:
        run.log_metrics({"a": 1})
    assert capfd.readouterr() == ("", "")

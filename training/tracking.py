"""What was tried and what came of it, in MLflow: the only module that knows it.

A run is opened where the work is asked for, never where it is done: training writes
``metrics.jsonl``, and ``follow`` reads that file from a thread, tells a person how far it is and
sends MLflow a batch every few seconds. The run's id stays in the run's folder, so that a resumed
training goes on in the MLflow run that it began.

Lineage can be walked through MLflow's API: tables at their Delta versions are dataset inputs, the
parent is a model input, the checkpoint is a logged model and a version of a registered one.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datalake.workspace import Inputs, Workspace
from training import progress

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "tarn"
_IDENTITY = "mlflow.json"  # in a run's folder


@contextmanager
def open_run(
    workspace: Workspace,
    name: str,
    *,
    params: Mapping[str, Any],
    inputs: Inputs,
    context: str = "training",
    tags: Mapping[str, str] | None = None,
    parent_model: Path | str | None = None,
    folder: Path | None = None,
) -> "Iterator[Run]":
    """An MLflow run called ``name``, ended with the block: finished, failed or killed.

    ``inputs`` are the tables that are read, each at its Delta version, and what for is said by
    ``context``; ``parent_model`` is the checkpoint that the work starts from. With ``folder``, the
    run begun there earlier goes on. Nested ``params`` are flattened to dotted names.
    """
    client = _client(workspace)
    experiment = _experiment(client, workspace)
    identity = _read_identity(folder)
    run_id = identity.get("run_id")
    if run_id is None or not _exists(client, run_id):
        tags = {**workspace.origin, **(tags or {})}
        run_id = client.create_run(experiment, run_name=name, tags=tags).info.run_id
        _log_inputs(client, run_id, workspace, inputs, context)
        _log_parent(client, run_id, parent_model)
        _log_params(client, run_id, params)
    run = Run(run_id=run_id, client=client, experiment=experiment, folder=folder, say=workspace.say)
    run.remember({"run_id": run_id})
    client.update_run(run_id, status="RUNNING")
    try:
        yield run
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        client.set_terminated(run_id, status)
        raise
    client.set_terminated(run_id, "FINISHED")


@dataclass(frozen=True, kw_only=True)
class Run:
    """An open MLflow run."""

    run_id: str
    client: "MlflowClient"
    experiment: str
    folder: Path | None
    say: Callable[[str], None]

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Numbers that were reached at ``step``."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for key, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def log_text(self, path: str, text: str) -> None:
        """A file among the run's artifacts, such as a plot."""
        self.client.log_text(self.run_id, text, path)

    @contextmanager
    def follow(self, metrics: Path, name: str) -> Iterator[None]:
        """Read ``metrics`` (see ``progress``) while the block runs: say how far, and log it."""
        follower = _Follower(run=self, path=metrics, name=name)
        thread = threading.Thread(target=follower.follow, name=f"follow {name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            follower.stop.set()
            thread.join()

    def log_model(
        self, name: str, checkpoint: Path, *, step: int, params: Mapping[str, Any]
    ) -> str:
        """Log and register ``checkpoint`` as the model ``name``; returns the logged model's id.

        A second call for the same checkpoint, as of a run that is asked again, changes nothing.
        """
        from mlflow.entities import LoggedModelOutput

        known = _read_identity(self.folder)
        if known.get("checkpoint") == str(checkpoint) and "model_id" in known:
            return str(known["model_id"])
        model = self.client.create_logged_model(
            self.experiment,
            name=name,
            source_run_id=self.run_id,
            params=_flat(params),
            tags={"checkpoint": str(checkpoint)},
            model_type="language_model",
        )
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step)])
        self._register(name, checkpoint, model.model_id)
        self.remember({"model_id": model.model_id, "checkpoint": str(checkpoint)})
        return str(model.model_id)

    def _register(self, name: str, checkpoint: Path, model_id: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self.client.create_model_version(
            name, source=checkpoint.resolve().as_uri(), run_id=self.run_id, model_id=model_id
        )

    def remember(self, values: Mapping[str, str]) -> None:
        """Keep ``values`` in the run's folder, for who resumes it or builds on its model."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = self.folder / f".{_IDENTITY}"
            draft.write_text(json.dumps({**_read_identity(self.folder), **values}, indent=1))
            draft.rename(self.folder / _IDENTITY)


@dataclass(kw_only=True)
class _Follower:
    """Reads a growing ``metrics.jsonl`` until it is stopped, and once more after that."""

    run: Run
    path: Path
    name: str
    stop: threading.Event = field(default_factory=threading.Event)
    last_step: int = 0

    def follow(self) -> None:
        self.last_step = self._last_logged_step()
        while not self.stop.wait(progress.SAY_SECONDS):
            self._look()
        self._look()

    def _last_logged_step(self) -> int:
        history = self.run.client.get_metric_history(self.run.run_id, "loss")
        return max((metric.step for metric in history), default=0)

    def _look(self) -> None:
        """Say the last line, if it is new; log all new ones."""
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        lines = progress.read(self.path)
        if lines and lines[-1]["step"] < self.last_step:  # the run went back to a checkpoint
            self.last_step = lines[-1]["step"]
        new = [line for line in lines if line["step"] > self.last_step]
        if not new:
            return
        self.run.say(progress_line(self.name, new[-1]))
        now = int(time.time() * 1000)
        metrics = [
            Metric(key, float(value), now, line["step"])
            for line in new
            for key, value in line.items()
            if key not in ("step", "num_steps")
        ]
        try:
            for first in range(0, len(metrics), 1000):  # MLflow's limit for one call
                self.run.client.log_batch(self.run.run_id, metrics=metrics[first : first + 1000])
        except MlflowException as error:  # training is worth more than its curve: try again later
            self.run.say(f"{self.name}: MLflow did not take the metrics ({error})")
            return
        self.last_step = new[-1]["step"]


def progress_line(name: str, line: Mapping[str, Any]) -> str:
    """One line of ``metrics.jsonl`` for a person: bar, step, what is followed, speed, time left.

    Phases that have figures of their own show those: a loss of reinforcement learning says nothing.
    """
    bar, left = progress.bar(line["step"] / line["num_steps"], line["eta_seconds"])
    own = {key: value for key, value in line.items() if key not in progress.COMMON}
    told = "  ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in own.items())
    return (
        f"{name} {bar}  step {line['step']}/{line['num_steps']}  "
        f"{told or 'loss {:.3f} nats/token'.format(line['loss'])}  "
        f"{line['flops_per_second'] / 1e9:.0f} GFLOP/s ({line['mfu']:.0%} of GEMM)  {left}"
    )


def tracking_uri(workspace: Workspace) -> str:
    """Where runs go: the server that the workspace names, or a database below its home."""
    if workspace.tracking_uri is not None:
        return workspace.tracking_uri
    return f"sqlite:///{workspace.folder('mlflow').resolve()}/mlflow.db"


def server_arguments(workspace: Workspace) -> list[str]:
    """Arguments of ``mlflow server`` that make it show the runs of ``workspace``."""
    artifacts = (workspace.folder("mlflow") / "artifacts").resolve().as_uri()
    return [
        "--backend-store-uri",
        tracking_uri(workspace),
        "--artifacts-destination",
        artifacts,
        "--default-artifact-root",
        artifacts,
    ]


def _client(workspace: Workspace) -> "MlflowClient":
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient

    for noisy in ("mlflow", "alembic"):  # they announce every table that they create
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=tracking_uri(workspace))


def _experiment(client: "MlflowClient", workspace: Workspace) -> str:
    """Id of the experiment that holds all runs, made if missing."""
    from mlflow.exceptions import MlflowException

    artifacts = None  # a server decides for itself
    if workspace.tracking_uri is None:
        artifacts = (workspace.folder("mlflow") / "artifacts").resolve().as_uri()
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(EXPERIMENT, artifact_location=artifacts))
    except MlflowException:
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:  # else another process was faster
            raise
        return str(found.experiment_id)


def _exists(client: "MlflowClient", run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def _log_inputs(
    client: "MlflowClient", run_id: str, workspace: Workspace, inputs: Inputs, context: str
) -> None:
    """Tables as datasets, artifacts as tags.

    ``DeltaDatasetSource`` leaves version 0 out of its JSON; the digest has it.
    """
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag

    datasets = []
    for key, version in inputs.items():
        if isinstance(version, int):
            source = DeltaDatasetSource(path=workspace.lake.uri(key), delta_table_version=version)
            dataset = MetaDataset(source, name=key, digest=f"v{version}")  # type: ignore[abstract]
            tags = [InputTag("mlflow.data.context", context)]
            datasets.append(DatasetInput(dataset=dataset._to_mlflow_entity(), tags=tags))
        else:
            client.set_tag(run_id, f"input/{key}", version)
    client.log_inputs(run_id, datasets)


def _log_parent(client: "MlflowClient", run_id: str, checkpoint: Path | str | None) -> None:
    """The checkpoint as a tag, and as a model input where the run that made it logged it."""
    if checkpoint is None:
        return
    from mlflow.entities import LoggedModelInput

    client.set_tag(run_id, "parent_model", str(checkpoint))
    if model_id := _read_identity(Path(checkpoint).parent).get("model_id"):
        client.log_inputs(run_id, models=[LoggedModelInput(model_id=model_id)])


def _log_params(client: "MlflowClient", run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    client.log_batch(run_id, params=[Param(key, value) for key, value in _flat(params).items()])


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings under dotted names, as text."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _read_identity(folder: Path | None) -> dict[str, str]:
    path = None if folder is None else folder / _IDENTITY
    return json.loads(path.read_text()) if path is not None and path.exists() else {}

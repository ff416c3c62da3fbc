"""The model under evaluation: its weights, and how they were made, as its checkpoint says."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from datalake.tables import Lake
from evaluation.intervals import Interval
from evaluation.likelihood import one_thread_per_operator
from evaluation.pages.model_card import TrainingRecord
from evaluation.pages.phase_sections import PhaseRecord
from evaluation.samples import Continue
from evaluation.scorecard import PlanCheck
from training import progress
from training.checkpoint import Checkpoint
from training.inference.sampling import generate_batch
from training.models.language_model import LanguageModel
from training.scaling.plan import Plan


def continuing(
    model: LanguageModel,
    bytes_per_token: NDArray[np.integer],
    *,
    new_tokens: int,
    top_p: float,
    seed: int,
) -> Continue:
    """How ``model`` goes on after prompts, until a special token ends its text."""
    special = frozenset(np.flatnonzero(bytes_per_token == 0).tolist())

    def go_on(prompts: Sequence[Sequence[int]], temperature: float | None) -> list[tuple[int, ...]]:
        with one_thread_per_operator():
            found = generate_batch(
                model, prompts, new_tokens, temperature or 0, None, top_p, seed, special
            )
        return [tuple(i for i in one.ids if i not in special) for one in found]

    return go_on


def read_plan(folder: str | Path) -> Plan:
    """The plan that ``training_plan`` left in ``folder``."""
    return Plan.model_validate_json((Path(folder) / "training_plan.json").read_bytes())


def plan_check(plan: Plan, checkpoint: Checkpoint) -> PlanCheck:
    """The loss that the plan promised, beside the one that training ended with."""
    promised = plan.predicted
    return PlanCheck(
        predicted=Interval(value=promised.loss, low=promised.low, high=promised.high),
        realised=float(checkpoint.manifest["loss"]),
    )


def data_versions(lake: Lake, tables: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Every table behind ``tables``, and at which versions, as the commits say what they read."""
    found = lake.ancestry(tables)
    return {t: f"version {', '.join(map(str, sorted(found[t])))}" for t in sorted(found)}


def training_record(checkpoint: Checkpoint, plan: Plan) -> TrainingRecord:
    """How the weights came about, from the manifest and the metrics beside the checkpoint."""
    says = checkpoint.manifest
    curve = progress.read(checkpoint.path.parent / "metrics.jsonl")
    settings = {k: v for k, v in says["config"].items() if k not in ("model", "optimizer")}
    return TrainingRecord(
        architecture=dict(says["config"]["model"]),
        settings=settings | says["config"]["optimizer"],
        context_length=says["config"]["model"]["context_length"],
        num_tokens=says["tokens"],
        epochs=plan.epochs,
        flops=says["flops"],
        seconds=says["seconds"],
        hardware=says["hardware"],
        curve_tokens=[line["tokens"] for line in curve],
        curve_nats=[line["loss"] for line in curve],
    )


def phase_record(asset: str, name: str, made_from: str, checkpoint: Checkpoint) -> PhaseRecord:
    """How the weights of a phase came about.

    The curve is the mean reward where there is one: a loss of policy gradients says nothing.
    """
    says = checkpoint.manifest
    lines = progress.read(checkpoint.path.parent / "metrics.jsonl")
    label = "reward" if lines and "reward" in lines[-1] else "loss"
    drawn = [line for line in lines if label in line]
    settings = {k: v for k, v in says["config"].items() if k not in ("model", "optimizer")}
    return PhaseRecord(
        asset=asset,
        name=name,
        made_from=made_from,
        num_tokens=says["tokens"],
        num_steps=checkpoint.step,
        flops=says["flops"],
        seconds=says["seconds"],
        settings=settings | says["config"].get("optimizer", {}),
        numbers=says.get("numbers", {}),
        curve_label=label,
        curve_tokens=[line["tokens"] for line in drawn],
        curve=[line[label] for line in drawn],
    )


def sampling_cost(lake: Lake, version: int) -> tuple[str, float, None]:
    """What the answers took that became preferences: name, FLOPs; nobody kept the seconds."""
    pairs = lake.read("preferences", version, ["sampling_flops"])
    return "preferences (sampling)", float(pc.sum(pairs["sampling_flops"]).as_py()), None


def sweep_cost(lake: Lake, version: int) -> tuple[str, float, float]:
    """What all small runs of the scaling law took: name, FLOPs, seconds."""
    runs = lake.read("scaling_runs", version, ["flops", "seconds"])
    return (
        "scaling runs",
        float(pc.sum(runs["flops"]).as_py()),
        float(pc.sum(runs["seconds"]).as_py()),
    )

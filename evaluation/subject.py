"""The model under evaluation: its weights, and how they were made, as its checkpoint says."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datalake.tables import Lake
from evaluation.intervals import Interval
from evaluation.likelihood import one_thread_per_operator
from evaluation.model_card import TrainingRecord
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


def data_versions(lake: Lake, tables: Mapping[str, int]) -> dict[str, str]:
    """Every table behind ``tables``, and at which versions, as the commits say what they read."""
    found: dict[str, set[int]] = {}
    open_ends = list(tables.items())
    while open_ends:
        table, version = open_ends.pop()
        if version in found.setdefault(table, set()):
            continue
        found[table].add(version)
        for commit in lake.history(table):
            if commit["version"] == version:
                read = json.loads(commit.get("inputs", "{}"))
                open_ends += [(key, made) for key, made in read.items() if isinstance(made, int)]
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

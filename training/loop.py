"""The training loop: the steps that an objective asks for, and checkpoints that outlive a crash.

An ``Objective`` says what is minimised: it gives the model to begin with, the losses of every step
and what came out. Pretraining, fine-tuning, preferences and reinforcement learning differ by
nothing else. Learning rate and data are pure functions of the step, so a checkpoint, which holds
the weights, the optimizer's moments and every random state, is all that a run needs to go on. On
the CPU, with the same number of threads, a run that was killed and resumed ends with the same bits
as one that was not. The loop knows no Ray and no MLflow: it leaves ``metrics.jsonl`` beside its
checkpoints, and whoever is interested follows that file.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import PositiveInt
from torch import Tensor

from datalake.config import Config, Refusal
from training import checkpoint
from training.checkpoint import Checkpoint
from training.hardware import Hardware, Precision, probe
from training.models.experts import balance
from training.models.variants import ModelConfig
from training.optim import Optimizer, Trainable
from training.parallel.data_parallel import DataParallel
from training.progress import Progress, StepTaken
from training.schedule import OptimizerConfig, multiplier

ALONE = DataParallel()


class RunConfig(Config):
    """What every training says; ``checkpoint_steps`` alone only decides what a crash costs."""

    model: ModelConfig
    optimizer: OptimizerConfig
    checkpoint_steps: PositiveInt
    seed: int
    precision: Precision  # of matrix products


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A piece of one step on one rank: what to differentiate, and what it cost."""

    loss: Tensor  # the parts of a step add up to the rank's loss, and ranks are averaged
    tokens: int  # trained on, by this rank
    flops: float  # spent by this rank, sampling included
    metrics: Mapping[str, float] = field(default_factory=dict)  # of the same names on every rank


class Objective(Protocol):
    """What a run minimises."""

    @property
    def num_steps(self) -> int: ...

    def begin(self, hardware: Hardware, ranks: DataParallel) -> Trainable:
        """The model with the weights to start from, on the device; called once per attempt."""
        ...

    def parts(self, model: Any, step: int) -> Iterator[Part]:
        """At least one part. Each is differentiated before the next one is asked for."""
        ...

    def end(self, model: Any) -> Mapping[str, float]:
        """What is measured after the last step, the same on every rank; must have ``loss``."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What a run came to. ``seconds`` counts the steps of all attempts that were not lost."""

    loss: float  # what the objective measured at the end; pretraining: bits per byte
    steps: int
    tokens: int
    flops: float
    seconds: float
    checkpoint: Path
    digest: str  # of the weights
    hardware: Mapping[str, str | int | float]
    numbers: Mapping[str, float]  # all that was measured at the end


def run(
    config: RunConfig,
    objective: Objective,
    folder: Path,
    ranks: DataParallel = ALONE,
    about: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Minimise ``objective`` from the last good checkpoint in ``folder``, or from its beginning.

    Every rank calls it with the same arguments; rank 0 writes. ``about`` (JSON) goes into every
    manifest. Refuses a folder that another trainer holds or that holds a run of other settings,
    and a loss that is not finite.
    """
    with checkpoint.hold(folder) if ranks.rank == 0 else nullcontext():
        run = _Run.begin(config, objective, folder, ranks, about or {})
        if result := finished(folder):
            return result
        model, optimizer, num_steps = run.model, run.optimizer, objective.num_steps

        for step in range(run.progress.steps, num_steps):
            step_of_rank = _Step(run.hardware)
            for part in objective.parts(model, step):
                part.loss.backward()
                step_of_rank.add(part)
            means = step_of_rank.means()
            ranks.average([means, *(p.grad for p in model.parameters() if p.grad is not None)])
            taken = step_of_rank.named(means, ranks.world)
            if not math.isfinite(taken.loss):  # on every rank alike, since it is the mean of them
                raise Refusal(
                    f"loss must be finite, got {taken.loss:.3g} at step {step} in {folder}"
                )
            rate = multiplier(step, num_steps, config.optimizer)
            optimizer.step(rate)
            optimizer.zero_grad()
            loads = balance(model.modules(), ranks.average)
            run.progress.count(replace(taken, metrics={**taken.metrics, **loads}), rate)
            if (step + 1) % config.checkpoint_steps == 0 and step + 1 < num_steps:
                run.save()

        run.progress.stop()
        run.save(objective.end(model))
        result = finished(folder)
        assert result is not None
        return result


def finished(folder: Path) -> TrainResult | None:
    """What the run in ``folder`` came to, None where it is not finished."""
    found = checkpoint.latest(folder)
    if found is None or "loss" not in found.manifest:
        return None
    says = found.manifest
    return TrainResult(
        loss=says["loss"],
        steps=found.step,
        tokens=says["tokens"],
        flops=says["flops"],
        seconds=says["seconds"],
        checkpoint=found.path,
        digest=says["weights"],
        hardware=says["hardware"],
        numbers=says["numbers"],
    )


class _Step:
    """Adds up the parts of a step on this rank."""

    def __init__(self, hardware: Hardware) -> None:
        self.device = hardware.device
        self.loss = torch.zeros((), device=self.device)
        self.tokens, self.flops = 0, 0.0
        self.metrics: dict[str, list[float]] = {}

    def add(self, part: Part) -> None:
        self.loss += part.loss.detach()
        self.tokens += part.tokens
        self.flops += part.flops
        for name, value in part.metrics.items():
            self.metrics.setdefault(name, []).append(value)

    def means(self) -> Tensor:
        """Loss, tokens, FLOPs, and the mean of every metric over the parts that have it."""
        means = [sum(values) / len(values) for _, values in sorted(self.metrics.items())]
        numbers = torch.tensor([self.tokens, self.flops, *means], dtype=torch.float64)
        return torch.cat((self.loss.double()[None], numbers.to(self.device)))

    def named(self, means: Tensor, world: int) -> StepTaken:
        """The step of all ranks, from the averaged ``means``."""
        loss, tokens, flops, *metrics = means.tolist()
        return StepTaken(
            loss=loss,
            tokens=round(tokens * world),
            flops=flops * world,
            metrics=dict(zip(sorted(self.metrics), metrics, strict=True)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """What changes while training, and where it is written."""

    config: RunConfig
    folder: Path
    ranks: DataParallel
    about: Mapping[str, Any]
    hardware: Hardware
    model: Trainable
    optimizer: Optimizer
    progress: Progress

    @classmethod
    def begin(
        cls,
        config: RunConfig,
        objective: Objective,
        folder: Path,
        ranks: DataParallel,
        about: Mapping[str, Any],
    ) -> "_Run":
        """From the last good checkpoint, in the dtype that it began with; or from the start."""
        found = _last_checkpoint(config, folder, ranks)
        precision = found.manifest["hardware"]["dtype"] if found else config.precision
        hardware = probe(precision)
        chosen = ranks.gather(hardware.report()["dtype"])[0]  # ranks must not differ
        if chosen != hardware.report()["dtype"]:
            hardware = probe(chosen)
        model = objective.begin(hardware, ranks)
        optimizer = Optimizer(model, config.optimizer, hardware.dtype)
        if found:
            model.load_state_dict(found.load("weights", hardware.device))
            optimizer.load_state_dict(found.load("optimizer", hardware.device))
            states = found.load("random")
            if ranks.rank < len(states):  # a rank that is new keeps its fresh state
                checkpoint.set_random_state(states[ranks.rank])
        progress = Progress(
            path=folder / "metrics.jsonl" if ranks.rank == 0 else None,
            num_steps=objective.num_steps,
            peak_flops_per_second=hardware.gemm_flops_per_second * ranks.world,
            steps=found.step if found else 0,
            tokens=found.manifest["tokens"] if found else 0,
            flops=found.manifest["flops"] if found else 0.0,
            seconds_before=found.manifest["seconds"] if found else 0.0,
        )
        return cls(
            config=config,
            folder=folder,
            ranks=ranks,
            about=about,
            hardware=hardware,
            model=model,
            optimizer=optimizer,
            progress=progress,
        )

    def save(self, numbers: Mapping[str, float] | None = None) -> None:
        """Rank 0 writes a checkpoint; all ranks give their random states and wait for it.

        ``numbers``, what was measured at the end, make it the last one.
        """
        states = self.ranks.gather(checkpoint.random_state())
        if self.ranks.rank == 0:
            weights = self.model.state_dict()
            manifest = {
                "about": dict(self.about),
                "config": self.config.model_dump(mode="json"),
                "flops": self.progress.flops,
                "hardware": self.hardware.report(),
                "seconds": self.progress.seconds,
                "tokens": self.progress.tokens,
                "world": self.ranks.world,
            }
            if numbers is not None:
                digest = checkpoint.weights_digest(weights)
                manifest |= {"loss": numbers["loss"], "numbers": dict(numbers), "weights": digest}
            optimizer = self.optimizer.state_dict()
            state = {"weights": weights, "optimizer": optimizer, "random": states}
            checkpoint.save(self.folder, self.progress.steps, state, manifest)
        self.ranks.gather(None)


def _last_checkpoint(config: RunConfig, folder: Path, ranks: DataParallel) -> Checkpoint | None:
    """The one that rank 0 finds, for all ranks. Refuses one that was made with other settings."""
    found = checkpoint.latest(folder) if ranks.rank == 0 else None
    path = ranks.gather(found.path if found else None)[0]
    if path is None:
        return None
    found = found or checkpoint.load(path)
    now, then = config.model_dump(mode="json"), found.manifest["config"]
    for name in sorted(now.keys() - {"checkpoint_steps"}):
        if now[name] != then.get(name):
            raise Refusal(
                f"{name} must be {then.get(name)} as in the run that {folder} holds, "
                f"got {now[name]}; train it into another folder"
            )
    return found

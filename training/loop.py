"""The training loop: a budget of FLOPs becomes steps, and the steps a checkpoint.

Learning rate and data are pure functions of the step, so a checkpoint, which holds the weights, the
optimizer's moments and every random state, is all that a run needs to go on. On the CPU, with the
same number of threads, a run that was killed and resumed ends with the same bits as one that was
not. The loop knows no Ray and no MLflow: it leaves ``metrics.jsonl`` beside its checkpoints, and
whoever is interested follows that file.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from datalake.config import Config, Refusal
from training import checkpoint
from training.checkpoint import Checkpoint
from training.data.loader import Rows, batch
from training.hardware import Hardware, Precision, probe
from training.losses import next_token_loss
from training.models.accounting import train_flops_per_token
from training.models.language_model import LanguageModel, build
from training.models.variants import ModelConfig
from training.optim import Optimizer
from training.parallel.data_parallel import DataParallel
from training.progress import Progress
from training.schedule import OptimizerConfig, multiplier
from training.validation import bits_per_byte

Loss = Callable[[LanguageModel, Tensor], Tensor]
ALONE = DataParallel()


class TrainConfig(Config):
    """What decides a run's result; ``checkpoint_steps`` alone only decides what a crash costs."""

    model: ModelConfig
    optimizer: OptimizerConfig
    flops: PositiveFloat  # the budget, counted by ``train_flops_per_token``
    batch_rows: PositiveInt  # rows of a step, over all ranks
    micro_batch_rows: PositiveInt | None = None  # rows of one forward pass; None: the rank's share
    validation_rows: PositiveInt  # read once, at the end
    checkpoint_steps: PositiveInt
    seed: int  # of weights and data order
    precision: Precision  # of matrix products
    compile: bool = False  # costs 38 s before the first step, so for runs of many minutes

    @property
    def tokens_per_step(self) -> int:
        return self.batch_rows * self.model.context_length

    @property
    def flops_per_step(self) -> int:
        return train_flops_per_token(self.model) * self.tokens_per_step

    @property
    def num_steps(self) -> int:
        """Whole steps that the budget pays for. Refuses a budget below one step."""
        steps = int(self.flops // self.flops_per_step)
        if not steps:
            raise Refusal(
                f"flops must be at least {self.flops_per_step:.3g}, one step of "
                f"{self.tokens_per_step} tokens, got {self.flops:.3g}"
            )
        return steps


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What a run came to. ``seconds`` counts the steps of all attempts that were not lost."""

    loss: float  # validation, bits per byte
    steps: int
    tokens: int
    flops: float
    seconds: float
    checkpoint: Path
    digest: str  # of the weights
    hardware: Mapping[str, str | int | float]


def train(
    config: TrainConfig,
    rows: Rows,
    validation_rows: Rows,
    bytes_per_token: np.ndarray,
    folder: Path,
    ranks: DataParallel = ALONE,
    about: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train from the last good checkpoint in ``folder``, or from the seed, to the budget's end.

    Every rank calls it with the same arguments; rank 0 writes. ``bytes_per_token`` [vocab] gives
    the UTF-8 length of each token, 0 where it is not scored. ``about`` (JSON) goes into every
    manifest. Refuses a budget below one step, a folder that another trainer holds or that holds a
    run of other settings, and a loss that is not finite.
    """
    _check_rows(config, rows, validation_rows)
    num_steps, share = config.num_steps, ranks.share(config.batch_rows)
    size = config.micro_batch_rows or len(share)
    parts = [share[first : first + size] for first in range(0, len(share), size)]
    loss_of: Loss = torch.compile(next_token_loss) if config.compile else next_token_loss
    with checkpoint.hold(folder) if ranks.rank == 0 else nullcontext():
        run = _Run.begin(config, folder, ranks, about or {})
        model, optimizer, hardware = run.model, run.optimizer, run.hardware
        if result := finished(folder):
            return result

        for step in range(run.progress.steps, num_steps):
            loss = torch.zeros((), device=hardware.device)
            for slots in parts:
                ids = batch(rows, config.seed, step, config.batch_rows, slots)
                tokens = ids.to(hardware.device)
                with hardware.autocast():
                    part = loss_of(model, tokens) * (len(slots) / len(share))
                part.backward()
                loss += part.detach()
            ranks.average([loss, *(p.grad for p in model.parameters() if p.grad is not None)])
            if not math.isfinite(loss):  # on every rank alike, since it is the mean over ranks
                raise Refusal(f"loss must be finite, got {loss:.3g} at step {step} in {folder}")
            rate = multiplier(step, num_steps, config.optimizer)
            optimizer.step(rate)
            optimizer.zero_grad()
            run.progress.count(float(loss), rate)
            if (step + 1) % config.checkpoint_steps == 0 and step + 1 < num_steps:
                run.save()

        run.progress.stop()
        run.save(
            bits_per_byte(
                model,
                validation_rows,
                bytes_per_token,
                hardware,
                num_rows=config.validation_rows,
                rows_per_batch=config.micro_batch_rows or max(config.batch_rows, 16),
                ranks=ranks,
            )
        )
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
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """What changes while training, and where it is written."""

    config: TrainConfig
    folder: Path
    ranks: DataParallel
    about: Mapping[str, Any]
    hardware: Hardware
    model: LanguageModel
    optimizer: Optimizer
    progress: Progress

    @classmethod
    def begin(
        cls, config: TrainConfig, folder: Path, ranks: DataParallel, about: Mapping[str, Any]
    ) -> "_Run":
        """From the last good checkpoint, in the dtype that it began with; or from the seed."""
        found = _last_checkpoint(config, folder, ranks)
        precision = found.manifest["hardware"]["dtype"] if found else config.precision
        hardware = probe(precision)
        chosen = ranks.gather(hardware.report()["dtype"])[0]  # ranks must not differ
        if chosen != hardware.report()["dtype"]:
            hardware = probe(chosen)
        model = build(config.model, config.seed).to(hardware.device)
        optimizer = Optimizer(model, config.optimizer, hardware.dtype)
        if found:
            model.load_state_dict(found.load("weights", hardware.device))
            optimizer.load_state_dict(found.load("optimizer", hardware.device))
            states = found.load("random")
            if ranks.rank < len(states):  # a rank that is new keeps its fresh state
                checkpoint.set_random_state(states[ranks.rank])
        progress = Progress(
            path=folder / "metrics.jsonl" if ranks.rank == 0 else None,
            num_steps=config.num_steps,
            tokens_per_step=config.tokens_per_step,
            flops_per_step=config.flops_per_step,
            peak_flops_per_second=hardware.gemm_flops_per_second * ranks.world,
            steps=found.step if found else 0,
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

    def save(self, validation_loss: float | None = None) -> None:
        """Rank 0 writes a checkpoint; all ranks give their random states and wait for it."""
        states = self.ranks.gather(checkpoint.random_state())
        if self.ranks.rank == 0:
            steps, weights = self.progress.steps, self.model.state_dict()
            manifest = {
                "about": dict(self.about),
                "config": self.config.model_dump(mode="json"),
                "flops": float(steps * self.config.flops_per_step),
                "hardware": self.hardware.report(),
                "seconds": self.progress.seconds,
                "tokens": steps * self.config.tokens_per_step,
                "world": self.ranks.world,
            }
            if validation_loss is not None:
                digest = checkpoint.weights_digest(weights)
                manifest |= {"loss": validation_loss, "weights": digest}
            optimizer = self.optimizer.state_dict()
            state = {"weights": weights, "optimizer": optimizer, "random": states}
            checkpoint.save(self.folder, steps, state, manifest)
        self.ranks.gather(None)


def _last_checkpoint(config: TrainConfig, folder: Path, ranks: DataParallel) -> Checkpoint | None:
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


def _check_rows(config: TrainConfig, rows: Rows, validation_rows: Rows) -> None:
    for name, split in (("train", rows), ("validation", validation_rows)):
        length = config.model.context_length + 1
        if not len(split) or split.tokens.shape[1] != length:
            raise Refusal(
                f"{name} rows must be some of context_length + 1 = {length} tokens, "
                f"got shape {tuple(split.tokens.shape)}"
            )

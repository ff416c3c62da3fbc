"""Pretraining: a budget of FLOPs becomes steps, each of which predicts the next tokens of rows."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from datalake.config import Refusal
from training import loop
from training.data.loader import Loader, ReadAhead
from training.data.order import Order
from training.data.rows import Rows
from training.hardware import Hardware
from training.loop import ALONE, Part, RunConfig, TrainResult
from training.losses import next_token_loss
from training.models.accounting import training_flops
from training.models.language_model import LanguageModel, build
from training.parallel.data_parallel import DataParallel
from training.validation import bits_per_byte

Loss = Callable[[LanguageModel, Tensor, Tensor, bool], Tensor]


class TrainConfig(RunConfig):
    """What decides a pretraining's result; ``seed`` is of weights and data order."""

    flops: PositiveFloat  # the budget, counted by ``training_flops``
    batch_rows: PositiveInt  # rows of a step, over all ranks
    micro_batch_rows: PositiveInt | None = None  # rows of one forward pass; None: the rank's share
    validation_rows: PositiveInt  # read once, at the end
    compile: bool = False  # costs 38 s before the first step, so for runs of many minutes
    mixture: Mapping[str, PositiveFloat] | None = None  # weights of sources; None: all rows alike

    @property
    def tokens_per_step(self) -> int:
        return self.batch_rows * self.model.context_length

    @property
    def flops_per_step(self) -> int:
        return training_flops(self.model, self.model.context_length) * self.batch_rows

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


def train(
    config: TrainConfig,
    rows: Rows,
    validation_rows: Rows,
    bytes_per_token: np.ndarray,
    folder: Path,
    ranks: DataParallel = ALONE,
    about: Mapping[str, Any] | None = None,
    order: Order | None = None,
    validation_parts: Mapping[str, Rows] | None = None,
) -> TrainResult:
    """Train from the last good checkpoint in ``folder``, or from the seed, to the budget's end.

    ``order`` says which row is read when; by default every row once an epoch.
    ``bytes_per_token`` [vocab] gives the UTF-8 length of each token, 0 where it is not scored.
    Bits per byte of each of ``validation_parts``, which are read whole, stand as ``loss/NAME``
    among the result's numbers; the rest is as in ``loop.run``. Refuses also a budget below one
    step, rows of another length than the context's, and steps that the ranks cannot share equally.
    """
    with closing(
        _NextToken(
            config, rows, validation_rows, bytes_per_token, ranks, order, validation_parts or {}
        )
    ) as objective:
        return loop.run(config, objective, folder, ranks, about)


class _NextToken:
    """The objective: mean nats of the next token; at the end bits per byte of held-out rows."""

    def __init__(
        self,
        config: TrainConfig,
        rows: Rows,
        validation_rows: Rows,
        bytes_per_token: np.ndarray,
        ranks: DataParallel,
        order: Order | None,
        validation_parts: Mapping[str, Rows],
    ) -> None:
        _check_rows(config, rows, validation_rows)
        self.config = config
        self.validation_parts = validation_parts
        self.num_steps = config.num_steps
        self.validation_rows = validation_rows
        self.loader = Loader(rows, config.seed, config.batch_rows, order)
        self.ahead: ReadAhead | None = None
        self.bytes_per_token = bytes_per_token
        share = ranks.share(config.batch_rows)
        size = config.micro_batch_rows or len(share)
        self.slots = [share[first : first + size] for first in range(0, len(share), size)]
        self.loss_of: Loss = torch.compile(next_token_loss) if config.compile else next_token_loss

    def begin(self, hardware: Hardware, ranks: DataParallel) -> LanguageModel:
        self.hardware, self.ranks = hardware, ranks
        return build(self.config.model, self.config.seed).to(hardware.device)

    def parts(self, model: LanguageModel, step: int) -> Iterator[Part]:
        config, device = self.config, self.hardware.device
        if self.ahead is None:
            self.ahead = self.loader.ahead(self.slots, self.num_steps, device == "cuda")
        num_targets = self.loader.num_targets(step)
        # Ranks are averaged, so each rank's sum is divided by its share of the step's targets.
        share = num_targets.sum() / self.ranks.world
        for slots, batch in zip(self.slots, self.ahead.read(step), strict=True):
            read = batch.to(device)
            with self.hardware.autocast():
                loss = self.loss_of(model, read.tokens, read.pieces, read.has_several)
                loss = loss * float(num_targets[slots].sum() / share)
            context = config.model.context_length
            num_tokens = len(slots) * context
            flops = float(len(slots) * training_flops(config.model, context))
            yield Part(loss=loss, tokens=num_tokens, flops=flops)

    def close(self) -> None:
        if self.ahead is not None:
            self.ahead.close()

    def end(self, model: LanguageModel) -> Mapping[str, float]:
        config = self.config
        parts = {f"loss/{name}": rows for name, rows in self.validation_parts.items()}
        return {
            name: bits_per_byte(
                model,
                rows,
                self.bytes_per_token,
                self.hardware,
                num_rows=config.validation_rows if name == "loss" else len(rows),
                rows_per_batch=config.micro_batch_rows or max(config.batch_rows, 16),
                ranks=self.ranks,
            )
            for name, rows in {"loss": self.validation_rows, **parts}.items()
        }


def _check_rows(config: TrainConfig, rows: Rows, validation_rows: Rows) -> None:
    for name, split in (("train", rows), ("validation", validation_rows)):
        length = config.model.context_length + 1
        if not len(split) or split.tokens.shape[1] != length:
            raise Refusal(
                f"{name} rows must be some of context_length + 1 = {length} tokens, "
                f"got shape {tuple(split.tokens.shape)}"
            )

"""Supervised fine-tuning: learn to say the demonstrations, and when to stop.

Only the assistant's tokens and the end of its turn are learned. Conversations are packed, and none
sees another (``conversations.pack``). The loss is the token mean of the whole step, over all ranks
and rows (sums of means would weigh a token by how empty its row is).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import PositiveInt

from alignment import losses
from alignment.conversations import PackedRows, pack
from alignment.losses import Reduction
from datalake.config import Refusal
from training import checkpoint
from training.data.loader import row_ids
from training.hardware import Hardware
from training.inference.checkpointed import load_model
from training.loop import Part, RunConfig
from training.losses import answer_log_probs
from training.models.accounting import answer_flops
from training.models.language_model import LanguageModel
from training.parallel.data_parallel import DataParallel
from training.tokenizer.chat import Rendered


class FineTuneConfig(RunConfig):
    """What decides a fine-tuning's result; ``seed`` is of the order of rows."""

    parent: str  # digest of the weights to start from
    num_steps: PositiveInt
    rows_per_step: PositiveInt  # over all ranks
    row_length: PositiveInt  # tokens of a packed row


@dataclass(eq=False)
class FineTuning:
    """The objective: mean nats of an answer's token; at the end those of held-out answers."""

    config: FineTuneConfig
    parent: Path  # checkpoint
    rows: PackedRows
    held_out: PackedRows

    @classmethod
    def of(
        cls,
        config: FineTuneConfig,
        parent: Path,
        conversations: Sequence[Rendered],
        held_out: Sequence[Rendered],
    ) -> "FineTuning":
        """Packs ``conversations`` and ``held_out``; what cannot be learned or fit is refused."""
        if config.row_length > config.model.context_length:
            raise Refusal(
                f"row_length must be at most the model's context of "
                f"{config.model.context_length}, got {config.row_length}"
            )
        length = config.row_length
        return cls(config, parent, pack(conversations, length), pack(held_out, length))

    @property
    def num_steps(self) -> int:
        return self.config.num_steps

    def for_flops(self, flops: float) -> "FineTuning":
        """The same for as many steps as ``flops`` pay for, one at least."""
        num_steps = max(1, round(flops / self.flops_per_step))
        return replace(self, config=self.config.model_copy(update={"num_steps": num_steps}))

    @property
    def flops_per_step(self) -> float:
        """Expected, as the mean over rows: which rows a step reads makes little difference."""
        num_rows = self.config.rows_per_step
        answers = self.rows.learned.sum() / len(self.rows.tokens)
        return 3 * self._flops(num_rows, round(num_rows * float(answers)))

    def _flops(self, num_rows: int, num_answered: int) -> float:
        length = self.config.row_length
        return answer_flops(self.config.model, num_rows * length, num_answered, length)

    def begin(self, hardware: Hardware, ranks: DataParallel) -> LanguageModel:
        self.hardware, self.ranks = hardware, ranks
        return load_model(checkpoint.load(self.parent), self.config.model.vocab_size)

    def parts(self, model: LanguageModel, step: int) -> Iterator[Part]:
        config = self.config
        ids = row_ids(config.seed, step, config.rows_per_step, len(self.rows.tokens))
        own = ids[self.ranks.share(config.rows_per_step)]
        num_answered = int(self.rows.learned[own].sum())
        total = int(self.rows.learned[ids].sum())
        # Ranks are averaged, so each rank's sum is divided by its share of the step's tokens.
        loss = self._loss(model, self.rows, own, total / self.ranks.world)
        flops = 3 * self._flops(len(own), num_answered)
        yield Part(loss=loss, tokens=len(own) * config.row_length, flops=flops)

    def _loss(
        self, model: LanguageModel, rows: PackedRows, ids: np.ndarray, total: float
    ) -> torch.Tensor:
        device = self.hardware.device
        tokens = torch.from_numpy(rows.tokens[ids].astype(np.int64)).to(device)
        learned = torch.from_numpy(rows.learned[ids]).to(device)
        conversation = torch.from_numpy(rows.conversation[ids]).to(device)
        with self.hardware.autocast():
            log_probs, mask = answer_log_probs(model, tokens, learned, conversation)
            return losses.sft(log_probs, mask, Reduction("tokens", total=total))

    @torch.no_grad()
    def end(self, model: LanguageModel) -> Mapping[str, float]:
        rows = self.held_out
        total = int(rows.learned.sum())
        own = np.arange(self.ranks.rank, len(rows.tokens), self.ranks.world)
        nats = 0.0
        for first in range(0, len(own), self.config.rows_per_step):
            ids = own[first : first + self.config.rows_per_step]
            nats += float(self._loss(model, rows, ids, total))
        return {"loss": sum(self.ranks.gather(nats)), "held-out answer tokens": total}

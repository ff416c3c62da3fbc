"""Supervised fine-tuning: learn to say the demonstrations, and when to stop.

Only the assistant's tokens and the end of its turn are learned. Conversations are packed, and none
sees another (``conversations.pack``). The loss is the token mean of the whole step, over all ranks
and rows (sums of means would weigh a token by how empty its row is).

Beside the conversations a step may read rows of the text that the base model learned from. Without
such a replay a model unlearns all text that is no answer (Ouyang et al. 2022, arXiv:2203.02155,
call it the alignment tax, and mix pretraining in against it).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from alignment.conversations import PackedRows, pack
from datalake.config import Refusal
from training import checkpoint, job
from training.data.loader import Loader
from training.data.order import row_ids
from training.hardware import Hardware
from training.inference.checkpointed import load_model
from training.job import Text
from training.loop import Part, RunConfig
from training.losses import UNSCORED, mean_nats, targets
from training.models.accounting import answer_flops
from training.models.language_model import LanguageModel
from training.parallel.data_parallel import DataParallel
from training.tokenizer.chat import Rendered
from training.validation import bits_per_byte


class FineTuneConfig(RunConfig):
    """What decides a fine-tuning's result; ``seed`` is of the order of rows."""

    parent: str  # digest of the weights to start from
    num_steps: PositiveInt
    rows_per_step: PositiveInt  # over all ranks
    row_length: PositiveInt  # tokens of a packed row
    replay_rows: int = Field(ge=0)  # of pretraining text a step, as long, over all ranks
    replay_weight: float = Field(ge=0)  # of their mean loss a token, beside that of the answers
    validation_rows: PositiveInt  # of held-out text, read at the end


@dataclass(eq=False)
class FineTuning:
    """The objective: mean nats of an answer's token; at the end those of held-out answers."""

    config: FineTuneConfig
    parent: Path  # checkpoint
    rows: PackedRows
    held_out: PackedRows
    text: Text  # that the base model learned from

    @classmethod
    def of(
        cls,
        config: FineTuneConfig,
        parent: Path,
        conversations: Sequence[Rendered],
        held_out: Sequence[Rendered],
        text: Text,
    ) -> "FineTuning":
        """Packs ``conversations`` and ``held_out``; what cannot be learned or fit is refused."""
        if config.row_length > config.model.context_length:
            raise Refusal(
                f"row_length must be at most the model's context of "
                f"{config.model.context_length}, got {config.row_length}"
            )
        length = config.row_length
        return cls(config, parent, pack(conversations, length), pack(held_out, length), text)

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
        replay = self.config.replay_rows
        return 3 * (
            self._flops(num_rows, round(num_rows * float(answers)))
            + self._flops(replay, replay * self.config.row_length)
        )

    def _flops(self, num_rows: int, num_answered: int) -> float:
        length = self.config.row_length
        return answer_flops(self.config.model, num_rows * length, num_answered, length)

    def begin(self, hardware: Hardware, ranks: DataParallel) -> LanguageModel:
        self.hardware, self.ranks = hardware, ranks
        text, self.held_out_text = job.read(self.text)
        if replay_rows := self.config.replay_rows:
            self.replay = Loader(text, self.config.seed, replay_rows).ahead(
                [ranks.share(replay_rows)], self.num_steps, hardware.device == "cuda"
            )
        return load_model(checkpoint.load(self.parent), self.config.model.vocab_size)

    def parts(self, model: LanguageModel, step: int) -> Iterator[Part]:
        """One part: conversations and replayed text go through the model together."""
        config, length = self.config, self.config.row_length
        ids = row_ids(config.seed, step, config.rows_per_step, len(self.rows.tokens))
        own = ids[self.ranks.share(config.rows_per_step)]
        num_answered = int(self.rows.learned[own].sum())
        tokens, documents, answers = self._read(self.rows, own)
        num_rows, flops = len(own), self._flops(len(own), num_answered)
        wanted = [answers]
        if config.replay_rows:
            (batch,) = self.replay.read(step)
            text = batch.first(length).to(self.hardware.device)
            tokens = torch.cat((tokens, text.tokens))
            documents = torch.cat((documents, text.pieces))
            nothing = torch.full_like(tokens[:, 1:], UNSCORED)
            wanted = [nothing.clone(), nothing]
            wanted[0][:num_rows] = answers
            wanted[1][num_rows:] = targets(text.tokens, text.pieces)
            replayed = len(tokens) - num_rows
            num_rows, flops = len(tokens), flops + self._flops(replayed, replayed * length)
        with self.hardware.autocast():
            answer_nats, *text_nats = mean_nats(model, tokens, documents, wanted)
            # Ranks are averaged, so each rank's sum is divided by its share of the step's tokens.
            share = num_answered * self.ranks.world / int(self.rows.learned[ids].sum())
            loss = answer_nats * share
            told = {"answer_nats": float(loss.detach())}
            if text_nats:
                loss = loss + config.replay_weight * text_nats[0]
                told["text_nats"] = float(text_nats[0].detach())
        yield Part(loss=loss, tokens=num_rows * length, flops=3 * flops, metrics=told)

    def _read(self, rows: PackedRows, ids: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens, conversations [rows, row_length + 1], answers to predict [rows, row_length])."""
        device = self.hardware.device
        tokens = torch.from_numpy(rows.tokens[ids].astype(np.int64)).to(device)
        learned = torch.from_numpy(rows.learned[ids]).to(device)
        conversation = torch.from_numpy(rows.conversation[ids]).to(device)
        return tokens, conversation, torch.where(learned[:, 1:], tokens[:, 1:], UNSCORED)

    @torch.no_grad()
    def end(self, model: LanguageModel) -> Mapping[str, float]:
        if self.config.replay_rows:
            self.replay.close()
        rows = self.held_out
        total = int(rows.learned.sum())
        own = np.arange(self.ranks.rank, len(rows.tokens), self.ranks.world)
        nats = 0.0
        for first in range(0, len(own), self.config.rows_per_step):
            ids = own[first : first + self.config.rows_per_step]
            tokens, documents, answers = self._read(rows, ids)
            with self.hardware.autocast():
                (mean,) = mean_nats(model, tokens, documents, [answers])
            nats += float(mean) * int(rows.learned[ids].sum()) / total
        return {
            "loss": sum(self.ranks.gather(nats)),
            "held-out answer tokens": total,
            "bits_per_byte": bits_per_byte(
                model,
                self.held_out_text,
                self.text.bytes_per_token,
                self.hardware,
                num_rows=self.config.validation_rows,
                rows_per_batch=16,
                ranks=self.ranks,
            ),
        }

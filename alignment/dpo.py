"""Direct preference optimisation: make chosen answers likelier than rejected ones, measured
against the model that training starts from (Rafailov et al. 2023, arXiv:2305.18290)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from alignment import losses
from alignment.conversations import pad
from alignment.losses import Reduction
from datalake.config import Refusal
from training import checkpoint
from training.data.order import row_ids
from training.hardware import Hardware
from training.inference.checkpointed import load_model
from training.loop import Part, RunConfig
from training.losses import answer_log_probs
from training.models.accounting import answer_flops
from training.models.language_model import LanguageModel
from training.parallel.data_parallel import DataParallel
from training.tokenizer.chat import Rendered

Pair = tuple[Rendered, Rendered]  # chosen, rejected
_ROWS = 128  # of one forward pass without gradients


class DpoConfig(RunConfig):
    """What decides the result; ``seed`` is of the order of pairs."""

    parent: str  # digest of the weights to start from, which are the reference, too
    num_steps: PositiveInt
    pairs_per_step: PositiveInt  # over all ranks
    beta: PositiveFloat
    sft_weight: float = Field(ge=0)  # of the chosen answers' own likelihood in the loss
    max_fall: PositiveFloat  # nats that a step's chosen answers may lose on average


@dataclass(eq=False)
class Preferring:
    """The objective: the DPO loss; at the end the same on held-out pairs."""

    config: DpoConfig
    parent: Path  # checkpoint
    pairs: Sequence[Pair]
    held_out: Sequence[Pair]
    reference: np.ndarray = field(init=False)  # [pairs, 2]: chosen, rejected
    held_out_reference: np.ndarray = field(init=False)
    reference_flops: float = 0.0

    def __post_init__(self) -> None:
        refuse_without_pairs(self.pairs, self.held_out)

    @property
    def num_steps(self) -> int:
        return self.config.num_steps

    def begin(self, hardware: Hardware, ranks: DataParallel) -> LanguageModel:
        self.hardware, self.ranks = hardware, ranks
        model = load_model(checkpoint.load(self.parent), self.config.model.vocab_size)
        self.held_out_reference = self._of_all(model, self.held_out)
        self.reference_flops = 0.0  # of this rank; a step pays its share of them
        self.reference = self._of_all(model, self.pairs)
        return model

    def parts(self, model: LanguageModel, step: int) -> Iterator[Part]:
        config = self.config
        ids = row_ids(config.seed, step, config.pairs_per_step, len(self.pairs))
        own = ids[self.ranks.share(config.pairs_per_step)]
        log_probs, mask, flops = self._log_probs(model, [self.pairs[i] for i in own])
        of_answers = losses.sequence_log_probs(log_probs, mask)
        chosen, rejected = of_answers.chunk(2)
        reference = torch.from_numpy(self.reference[own]).to(chosen)
        loss, metrics = losses.dpo(chosen, rejected, reference[:, 0], reference[:, 1], config.beta)
        if config.sft_weight:
            half = len(own)
            told = losses.sft(log_probs[:half], mask[:half], Reduction("tokens"))
            loss = loss + config.sft_weight * told
        self._refuse_fall(metrics["chosen_shift"], step)
        flops = 3 * flops + self.reference_flops / config.num_steps
        yield Part(loss=loss, tokens=mask.numel(), flops=flops, metrics=metrics)

    def _refuse_fall(self, chosen_shift: float, step: int) -> None:
        """The loss falls just as well when chosen and rejected answers both become unlikely."""
        if chosen_shift < -self.config.max_fall:
            raise Refusal(
                f"chosen answers must not lose more than max_fall {self.config.max_fall:g} nats, "
                f"got {-chosen_shift:.1f} at step {step}; lower the rates or raise sft_weight"
            )

    def _log_probs(
        self, model: LanguageModel, pairs: Sequence[Pair]
    ) -> tuple[Tensor, Tensor, float]:
        """Of all chosen, then all rejected answers: log-probabilities, mask, forward FLOPs."""
        answers = [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
        tokens, learned = (torch.from_numpy(x).to(self.hardware.device) for x in pad(answers))
        with self.hardware.autocast():
            log_probs, mask = answer_log_probs(model, tokens, learned)
        num_read = sum(len(answer.ids) - 1 for answer in answers)
        num_answered = int(mask.sum())
        return (
            log_probs,
            mask,
            answer_flops(self.config.model, num_read, num_answered, num_read // len(answers)),
        )

    @torch.no_grad()
    def _of_all(self, model: LanguageModel, pairs: Sequence[Pair]) -> np.ndarray:
        """Log-probabilities [pairs, 2] of whole answers; every rank computes its share."""
        own = range(self.ranks.rank, len(pairs), self.ranks.world)
        found = np.zeros((len(pairs), 2), np.float32)
        for first in range(0, len(own), _ROWS):
            ids = list(own[first : first + _ROWS])
            log_probs, mask, flops = self._log_probs(model, [pairs[i] for i in ids])
            self.reference_flops += flops
            found[ids] = losses.sequence_log_probs(log_probs, mask).view(2, -1).T.cpu().numpy()
        return np.sum(self.ranks.gather(found), axis=0)

    def end(self, model: LanguageModel) -> Mapping[str, float]:
        now = torch.from_numpy(self._of_all(model, self.held_out))
        reference = torch.from_numpy(self.held_out_reference)
        loss, metrics = losses.dpo(
            now[:, 0], now[:, 1], reference[:, 0], reference[:, 1], self.config.beta
        )
        return {"loss": float(loss), **metrics, "held-out pairs": len(self.held_out)}


def refuse_without_pairs(pairs: Sequence[Pair], held_out: Sequence[Pair]) -> None:
    """Raises Refusal where there is nothing to learn from, or nothing to test on."""
    for name, given in (("pairs to train on", pairs), ("held-out pairs", held_out)):
        if not given:
            raise Refusal(f"{name} must be at least 1, got 0")

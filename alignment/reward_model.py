"""A reward model: the language model with a number in place of a head, read where an answer ends.

It learns from the same pairs as DPO (Bradley and Terry 1952; Ouyang et al. 2022, arXiv:2203.02155),
and is held against baselines that learn nothing: the longer answer wins, the answer that the
fine-tuned model finds likelier wins, a coin.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from alignment import losses
from alignment.conversations import pad
from alignment.dpo import Pair, refuse_without_pairs
from evaluation.intervals import Interval, wilson
from evaluation.pages.charts import Bar, interval_chart
from training import checkpoint
from training.data.order import row_ids
from training.hardware import Hardware
from training.inference.checkpointed import load_model
from training.loop import Part, RunConfig
from training.losses import answer_log_probs
from training.models.accounting import answer_flops
from training.models.language_model import LanguageModel, Role
from training.parallel.data_parallel import DataParallel
from training.tokenizer.chat import Rendered

BASELINES = ("accuracy", "longer wins", "sft log-prob")  # the first is the reward model's own
_ROWS = 128  # of one forward pass without gradients


class RewardConfig(RunConfig):
    """What decides the result; ``seed`` is of the order of pairs."""

    parent: str  # digest of the weights to start from
    num_steps: PositiveInt
    pairs_per_step: PositiveInt  # over all ranks
    centring: float = Field(ge=0)  # of rewards around zero, see ``losses.pair_reward``


class RewardModel(nn.Module):
    """Rewards [batch] of conversations [batch, time] that end at ``lengths`` [batch]."""

    def __init__(self, language_model: LanguageModel) -> None:
        super().__init__()
        self.language_model = language_model
        self.score = nn.Parameter(torch.zeros(language_model.config.d_model))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        hidden = self.language_model.hidden(tokens)
        last = hidden[torch.arange(len(tokens), device=tokens.device), lengths - 1]
        return last.float() @ self.score

    def rate_multipliers(self) -> dict[str, float]:
        """As of the language model; the score's is that of a head."""
        config = self.language_model.config
        inner = self.language_model.rate_multipliers().items()
        head = 1.0 if config.base_width is None else config.base_width / config.d_model
        return {f"language_model.{name}": times for name, times in inner} | {"score": head}

    def roles(self) -> Iterator[tuple[str, nn.Parameter, Role]]:
        """Name, parameter and what it is to an optimizer."""
        for name, parameter, role in self.language_model.roles():
            yield f"language_model.{name}", parameter, role
        yield "score", self.score, "vector"


@dataclass(eq=False)
class Rewarding:
    """The objective: chosen answers get more than rejected ones; accuracy on held-out pairs."""

    config: RewardConfig
    parent: Path  # checkpoint
    pairs: Sequence[Pair]
    held_out: Sequence[Pair]
    families: Sequence[str]  # of the held-out pairs
    log_probs: np.ndarray = field(init=False)  # of the parent, a token, [held-out pairs, 2]

    def __post_init__(self) -> None:
        refuse_without_pairs(self.pairs, self.held_out)

    @property
    def num_steps(self) -> int:
        return self.config.num_steps

    def begin(self, hardware: Hardware, ranks: DataParallel) -> RewardModel:
        self.hardware, self.ranks = hardware, ranks
        parent = load_model(checkpoint.load(self.parent), self.config.model.vocab_size)
        self.log_probs = self._both(lambda answers: self._mean_log_probs(parent, answers))
        return RewardModel(parent).to(hardware.device)

    def parts(self, model: RewardModel, step: int) -> Iterator[Part]:
        config = self.config
        ids = row_ids(config.seed, step, config.pairs_per_step, len(self.pairs))
        own = ids[self.ranks.share(config.pairs_per_step)]
        answers = [self.pairs[i][side] for side in (0, 1) for i in own]
        chosen, rejected = self._rewards(model, answers).chunk(2)
        loss, metrics = losses.pair_reward(chosen, rejected, config.centring)
        num_read = sum(len(answer.ids) for answer in answers)
        flops = 3 * answer_flops(config.model, num_read, 0, num_read // len(answers))
        yield Part(loss=loss, tokens=num_read, flops=flops, metrics=metrics)

    def _rewards(self, model: RewardModel, answers: Sequence[Rendered]) -> Tensor:
        tokens = torch.from_numpy(pad(answers)[0]).to(self.hardware.device)
        lengths = torch.tensor([len(answer.ids) for answer in answers], device=tokens.device)
        with self.hardware.autocast():
            rewards: Tensor = model(tokens, lengths)
        return rewards

    def _mean_log_probs(self, parent: LanguageModel, answers: Sequence[Rendered]) -> Tensor:
        tokens, learned = (torch.from_numpy(x).to(self.hardware.device) for x in pad(answers))
        with self.hardware.autocast():
            log_probs, mask = answer_log_probs(parent, tokens, learned)
        return log_probs.sum(dim=1) / mask.sum(dim=1)

    @torch.no_grad()
    def _both(self, value_of: Callable[[Sequence[Rendered]], Tensor]) -> np.ndarray:
        """Values [held-out pairs, 2] of chosen and rejected answers."""
        sides = []
        for side in (0, 1):
            answers = [pair[side] for pair in self.held_out]
            parts = [answers[i : i + _ROWS] for i in range(0, len(answers), _ROWS)]
            sides.append(np.concatenate([value_of(part).float().cpu().numpy() for part in parts]))
        return np.stack(sides, axis=1)

    def end(self, model: RewardModel) -> Mapping[str, float]:
        rewards = self._both(lambda answers: self._rewards(model, answers))
        chosen, rejected = torch.from_numpy(rewards).unbind(dim=1)
        loss, _ = losses.pair_reward(chosen, rejected, self.config.centring)
        lengths = np.array([[len(answer.ids) for answer in pair] for pair in self.held_out])
        numbers = {"loss": float(loss), "pairs": float(len(self.held_out))}
        families = np.array(self.families)
        for name, both in zip(BASELINES, (rewards, lengths, self.log_probs), strict=True):
            right = pair_accuracy(both)
            numbers[name] = float(right.mean())
            for family in sorted(set(self.families)):
                numbers[f"{name}/{family}"] = float(right[families == family].mean())
                numbers[f"pairs/{family}"] = float((families == family).sum())
        return numbers


def pair_accuracy(values: np.ndarray) -> np.ndarray:
    """1 where the chosen answer of [pairs, 2] has the higher value, 1/2 where both are equal."""
    difference = values[:, 0] - values[:, 1]
    return np.where(difference == 0, 0.5, difference > 0)


def accuracy_chart(numbers: Mapping[str, float]) -> str:
    """Held-out accuracy with its interval, in all and by family, beside the baselines."""
    bars: list[Bar] = []
    for name in BASELINES:
        interval = _rate(numbers[name], int(numbers["pairs"]))
        bars.append(Bar(label=name, interval=interval, emphasis=not bars))
    for key, pairs in sorted(numbers.items()):
        group, _, family = key.partition("/")
        if group == "pairs" and family:
            for place, name in enumerate(BASELINES):
                bars.append(
                    Bar(
                        label=name,
                        interval=_rate(numbers[f"{name}/{family}"], int(pairs)),
                        emphasis=not place,
                        heading="" if place else f"{family}, {int(pairs)} pairs",
                    )
                )
    return interval_chart("Held-out pairs told apart", "share", bars)


def _rate(rate: float, num_trials: int) -> Interval:
    found = wilson(round(rate * num_trials), num_trials)
    return Interval(value=rate, low=min(rate, found.low), high=max(rate, found.high))

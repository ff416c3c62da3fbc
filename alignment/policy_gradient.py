"""Reinforcement learning with verifiable rewards: GRPO, on answers of the newest weights.

Each step draws a group of answers to every prompt, judges them, and pulls towards those that are
better than their group's mean (Shao et al. 2024, arXiv:2402.03300), without dividing by the group's
spread or an answer's own length (Liu et al. 2025, arXiv:2503.20783). Groups that are all right or
all wrong teach nothing: they are dropped and counted.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field, PositiveFloat, PositiveInt

from alignment import losses, rollouts
from alignment.conversations import pad
from alignment.losses import Reduction
from alignment.rewards import RewardRule
from alignment.rollouts import Sampling
from datalake.config import Refusal
from evaluation.grading import GraderPool
from training import checkpoint
from training.data.order import row_ids
from training.hardware import Hardware
from training.inference.checkpointed import load_model
from training.loop import Part, RunConfig
from training.losses import answer_log_probs
from training.models.accounting import answer_flops
from training.models.language_model import LanguageModel
from training.parallel.data_parallel import DataParallel
from training.tokenizer.bpe import Tokenizer

LEAST_LIVE = 0.05  # share of groups with any difference, below which training stops ...
_PATIENCE = 10  # ... if it stays there on average over so many steps

Item = Mapping[str, Any]  # a row of ``instructions``


class GrpoConfig(RunConfig):
    """What decides the result; ``seed`` is of prompts and answers.

    Sampling and training must agree on log-probabilities, so products are in float32.
    """

    parent: str  # digest of the weights to start from
    precision: Literal["float32"]
    num_steps: PositiveInt
    prompts_per_step: PositiveInt  # over all ranks
    num_samples: int = Field(ge=2)  # answers of a group
    temperature: PositiveFloat
    max_new_tokens: PositiveInt
    advantage: Literal["grpo", "dr_grpo", "rloo"]
    reward: RewardRule


@dataclass(eq=False)
class Reinforcing:
    """The objective: the policy gradient; at the end greedy accuracy on held-out prompts."""

    config: GrpoConfig
    parent: Path  # checkpoint
    tokenizer: Path  # artifact
    folder: Path  # where rollouts are kept
    items: Sequence[Item]
    prompts: Sequence[np.ndarray]
    held_out: Sequence[Item]
    held_out_prompts: Sequence[np.ndarray]
    live: deque[float] = field(default_factory=lambda: deque(maxlen=_PATIENCE))

    @property
    def num_steps(self) -> int:
        return self.config.num_steps

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            num_samples=self.config.num_samples,
            temperature=self.config.temperature,
            max_new_tokens=self.config.max_new_tokens,
        )

    def begin(self, hardware: Hardware, ranks: DataParallel) -> LanguageModel:
        self.hardware, self.ranks = hardware, ranks
        self.vocabulary = Tokenizer.load(str(self.tokenizer))
        self.pool = GraderPool(num_workers=1)
        self.live.clear()
        return load_model(checkpoint.load(self.parent), self.config.model.vocab_size)

    def parts(self, model: LanguageModel, step: int) -> Iterator[Part]:
        rows, flops = self._sample(model, step)
        rollouts.keep(rows, self.folder, step, self.ranks.rank)
        metrics = _panel(rows)
        advantages, live = self._advantages(rows)
        self._refuse_dead(live.float().mean().item(), rows)
        metrics["live_groups"] = live.float().mean().item()
        teaching = advantages != 0
        if not teaching.any():
            teaching[0] = True  # ranks average gradients: one that learns nothing has zeros to give
        learned_rows = rows.filter(pa.array(teaching.tolist()))
        conversations, sampled = rollouts.conversations_of(learned_rows)
        tokens, learned = (torch.from_numpy(x).to(self.hardware.device) for x in pad(conversations))
        log_probs, mask = answer_log_probs(
            model, tokens, learned, temperature=self.config.temperature
        )
        sampler = torch.zeros_like(log_probs)
        sampler[mask] = torch.from_numpy(np.concatenate(sampled)).to(log_probs)
        loss, of_policy = losses.policy_gradient(
            log_probs,
            sampler,
            advantages[teaching].to(log_probs),
            mask,
            Reduction("constant", max_length=self.config.max_new_tokens, total=len(rows)),
        )
        num_read = sum(len(c.ids) - 1 for c in conversations)
        context = num_read // len(conversations)
        flops += 3 * answer_flops(self.config.model, num_read, int(mask.sum()), context)
        metrics["ratio_deviation"] = of_policy["ratio_deviation"]
        yield Part(loss=loss, tokens=num_read, flops=flops, metrics=metrics)

    def _sample(self, model: LanguageModel, step: int) -> tuple[pa.Table, float]:
        """This rank's rollouts of the step, and their FLOPs."""
        config = self.config
        ids = row_ids(config.seed, step, config.prompts_per_step, len(self.prompts))
        own = ids[self.ranks.share(config.prompts_per_step)]
        items, prompts = [self.items[i] for i in own], [self.prompts[i] for i in own]
        seed = (config.seed * config.num_steps + step) * self.ranks.world + self.ranks.rank
        drawn = rollouts.draw_answers(
            model, self.vocabulary, items, prompts, self.sampling, seed, self.pool
        )
        rows = rollouts.rows_of(
            drawn,
            items,
            prompts,
            config.reward,
            step=step,
            temperature=config.temperature,
            policy=checkpoint.weights_digest(model.state_dict()),
        )
        return rows, rollouts.flops_of(rows, config.model)

    def _advantages(self, rows: pa.Table) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantage of every row, and which groups are live; an answer not judged has 0."""
        given = rows["reward"].to_numpy()  # null is NaN
        judged = torch.from_numpy(rows["reward"].is_valid().to_numpy())
        shape = (-1, self.config.num_samples)
        rewards = torch.from_numpy(given.astype(np.float32)).view(shape)
        advantages, live = losses.advantages(rewards, self.config.advantage, judged.view(shape))
        return advantages.flatten(), live

    def _refuse_dead(self, live: float, rows: pa.Table) -> None:
        """Stop where nearly no group has a difference to learn from, and say of which kind."""
        self.live.append(live)
        if len(self.live) == _PATIENCE and sum(self.live) / _PATIENCE < LEAST_LIVE:
            right = (pc.mean(rows["score"]).as_py() or 0.0) > 0.5
            raise Refusal(
                f"groups with a difference must be at least {LEAST_LIVE:.0%} of all, got "
                f"{sum(self.live) / _PATIENCE:.1%} over {_PATIENCE} steps: their answers are "
                f"{'all right, take harder items' if right else 'all wrong, fine-tune longer'}"
            )

    def end(self, model: LanguageModel) -> Mapping[str, float]:
        own = range(self.ranks.rank, len(self.held_out), self.ranks.world)
        greedy = Sampling(num_samples=1, temperature=0.0, max_new_tokens=self.config.max_new_tokens)
        right, judged = 0.0, 0
        for first in range(0, len(own), rollouts.NUM_SEQUENCES):
            ids = own[first : first + rollouts.NUM_SEQUENCES]
            drawn = rollouts.draw_answers(
                model,
                self.vocabulary,
                [self.held_out[i] for i in ids],
                [self.held_out_prompts[i] for i in ids],
                greedy,
                seed=0,
                pool=self.pool,
            )
            right += sum(one.verdict.score or 0.0 for one in drawn)
            judged += sum(one.verdict.counts for one in drawn)
        self.pool.close()
        counts = self.ranks.gather((right, judged))
        accuracy = sum(r for r, _ in counts) / max(1, sum(n for _, n in counts))
        return {"loss": 1 - accuracy, "held-out accuracy": accuracy}


def _panel(rows: pa.Table) -> dict[str, float]:
    """What a person follows: a loss of policy gradients says nothing."""
    outcome = np.array(rows["outcome"].to_pylist())
    length = np.array([len(ids) for ids in rows["completion_ids"].to_pylist()])
    log_probs = np.concatenate(rows["log_probs"].to_pylist())
    return {
        "reward": pc.mean(rows["reward"]).as_py() or 0.0,  # of the answers that were judged
        "accuracy": pc.mean(rows["score"]).as_py() or 0.0,
        "entropy": float(-log_probs.mean()),  # unbiased at temperature 1
        "answer_tokens": float(length.mean()),
        "unfinished": float((outcome == "unfinished").mean()),
        "grader_errors": float(np.isin(outcome, ("error", "timeout")).mean()),
    }

"""What alignment minimises: pure functions of log-probabilities and rewards.

No model, tokenizer, optimizer or device in here. A loss takes log-probabilities in nats of answers
that were made already, and gives back a scalar to differentiate and the numbers that a person
follows. ``mask`` is true on the tokens of the answer and on the end of its turn. How a sum over
tokens is divided is an argument (``Reduction``), not another loss.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from datalake.config import Refusal

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Reduction:
    """How a sum over the tokens of a batch becomes its loss.

    ``tokens`` divides by the number of tokens, ``sequences`` takes the mean of each answer first,
    and ``constant`` divides by answers times ``max_length``, whatever came out: neither a long
    wrong answer nor a short right one is then pulled less per token (Liu et al. 2025, Dr. GRPO,
    arXiv:2503.20783).
    """

    kind: Literal["tokens", "sequences", "constant"]
    max_length: int | None = None  # tokens; what ``constant`` divides by
    total: float | None = None  # tokens or answers of the whole batch where this is a part of it

    def __call__(self, values: Tensor, mask: Tensor) -> Tensor:
        """Scalar from ``values`` [batch, time] where ``mask`` [batch, time] is true."""
        kept = torch.where(mask, values, 0.0)  # not a product: 0 times infinity is none
        lengths = mask.sum(dim=1)
        if not bool(mask.any()):
            raise Refusal("a batch must have a token to learn, got none")
        if self.kind == "tokens":
            return kept.sum() / (self.total or lengths.sum())
        if self.kind == "sequences":
            means = kept.sum(dim=1) / lengths.clamp(min=1)
            return means.sum() / (self.total or len(values))
        if self.max_length is None:
            raise Refusal("max_length must be given for a constant divisor, got None")
        return kept.sum() / ((self.total or len(values)) * self.max_length)


def sequence_log_probs(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Log-probability [batch] of whole answers, from those of their tokens [batch, time]."""
    return torch.where(mask, log_probs, 0.0).sum(dim=1)


def sft(log_probs: Tensor, mask: Tensor, reduction: Reduction) -> Tensor:
    """Negative log-likelihood of the answers' tokens; ``log_probs`` [batch, time]."""
    return reduction(-log_probs, mask)


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float,
) -> tuple[Tensor, Metrics]:
    """-log sigma(beta (shift of chosen - shift of rejected)), mean over pairs.

    All four are log-probabilities of whole answers, summed over their tokens, [pairs]; a shift is
    against the reference (Rafailov et al. 2023, arXiv:2305.18290). The two shifts are given apart:
    the loss falls just as well when both fall, and then the chosen answers are being unlearned.
    """
    _refuse_beta(beta)
    chosen_shift = chosen - reference_chosen
    rejected_shift = rejected - reference_rejected
    margin = beta * (chosen_shift - rejected_shift)
    return -F.logsigmoid(margin).mean(), {
        "chosen_shift": _mean(chosen_shift),
        "rejected_shift": _mean(rejected_shift),
        "margin": _mean(margin),
        "accuracy": _mean((margin > 0).float()),
    }


def pair_reward(
    chosen: Tensor, rejected: Tensor, centring: float = 0.0, margin: float = 0.0
) -> tuple[Tensor, Metrics]:
    """-log sigma(r_chosen - r_rejected - margin) + centring (r_chosen + r_rejected)^2, a mean.

    ``chosen`` and ``rejected`` are rewards [pairs] (Bradley and Terry 1952). Pairs fix differences
    alone; a little centring keeps the rewards of all prompts around zero.
    """
    difference = chosen - rejected
    loss = -F.logsigmoid(difference - margin).mean()
    loss = loss + centring * (chosen + rejected).square().mean()
    return loss, {
        "difference": _mean(difference),
        # A reward that says nothing must not look right half of the time by rounding.
        "accuracy": _mean((difference > 0).float() + 0.5 * (difference == 0).float()),
    }


def advantages(
    rewards: Tensor,
    kind: Literal["grpo", "dr_grpo", "rloo"],
    judged: Tensor | None = None,
    epsilon: float = 1e-4,
) -> tuple[Tensor, Tensor]:
    """How much better each answer is than the others to its prompt: (advantages, live groups).

    ``rewards`` and the advantages are [groups, answers]; ``live`` [groups] says which groups have
    any difference between their rewards. The others teach nothing: their advantages are zero, and
    they should be dropped and counted. ``judged`` marks answers that have a reward at all: the
    others enter no mean and get zero.

    - ``grpo``: (r - mean) / (std + epsilon), std with n - 1 (Shao et al. 2024, arXiv:2402.03300).
    - ``dr_grpo``: r - mean, since the division favours prompts that are nearly solved or hopeless.
    - ``rloo``: r - mean of the others, which is unbiased (Ahmadian et al. 2024, arXiv:2402.14740).

    Raises Refusal for a reward that is not finite, and names its group.
    """
    if judged is None:
        judged = torch.ones_like(rewards, dtype=torch.bool)
    wrong = judged & ~rewards.isfinite()
    if bool(wrong.any()):
        group, answer = wrong.nonzero()[0].tolist()
        value = float(rewards[group, answer])
        raise Refusal(f"rewards must be finite, got {value} for answer {answer} of group {group}")
    kept = torch.where(judged, rewards, 0.0)
    count = judged.sum(dim=1, keepdim=True)
    mean = kept.sum(dim=1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(judged, rewards - mean, 0.0)
    highest = torch.where(judged, rewards, -torch.inf).amax(dim=1)
    lowest = torch.where(judged, rewards, torch.inf).amin(dim=1)
    live = highest > lowest  # of the rewards themselves: a rounded mean makes no group live
    if kind == "grpo":
        variance = centred.square().sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)
        centred = centred / (variance.sqrt() + epsilon)
    elif kind == "rloo":
        centred = centred * count / (count - 1).clamp(min=1)
    elif kind != "dr_grpo":
        raise Refusal(f"advantages must be one of grpo, dr_grpo, rloo, got {kind}")
    return torch.where(live[:, None], centred, 0.0), live


def policy_gradient(
    log_probs: Tensor,
    sampler_log_probs: Tensor,
    advantage: Tensor,
    mask: Tensor,
    reduction: Reduction,
    clip: tuple[float, float] | None = None,
) -> tuple[Tensor, Metrics]:
    """-A ratio per token, ratio = p / p_sampler; its gradient on-policy is -A grad log p.

    ``log_probs`` and ``sampler_log_probs`` [batch, time], ``advantage`` [batch]. With ``clip`` =
    (low, high) a token whose ratio has left 1 - low .. 1 + high in the direction of its advantage
    is not pulled further (Schulman et al. 2017, arXiv:1707.06347; apart for both sides as in DAPO,
    arXiv:2503.14476).
    """
    log_ratio = torch.where(mask, log_probs - sampler_log_probs.detach(), 0.0)
    ratio = log_ratio.exp()
    pull = advantage.detach()[:, None]
    gain = ratio * pull
    clipped = torch.zeros_like(mask)
    if clip is not None:
        limited = ratio.clamp(1 - clip[0], 1 + clip[1]) * pull
        clipped = mask & (limited < gain)
        gain = torch.minimum(gain, limited)
    num_tokens = mask.sum().clamp(min=1)
    return reduction(-gain, mask), {
        "clip_fraction": float(clipped.sum() / num_tokens),
        "ratio_deviation": float((ratio.detach() - 1).abs().max()),
        # k1 of the sampler against the policy: how far sampling and training have come apart.
        "sampler_kl": float(-log_ratio.detach().sum() / num_tokens),
    }


def kl_k3(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Schulman's k3 estimate per token of KL(policy || reference): e^d - d - 1, never negative.

    d = log p_reference - log p, for tokens that the policy sampled; unbiased, and of less variance
    than -d (http://joschu.net/blog/kl-approx.html, 2020).
    """
    d = reference_log_probs.detach() - log_probs
    return torch.expm1(d) - d


def _mean(values: Tensor) -> float:
    return float(values.detach().mean())


def _refuse_beta(beta: float) -> None:
    if beta <= 0:
        raise Refusal(f"beta must be above 0, got {beta}")

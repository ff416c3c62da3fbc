"""A mixture of experts, as ``configs/experts.py`` describes it.

Tokens are sorted by expert and go through all experts in one grouped product a matrix. What a pass
chose is written down for whoever asks for it; the loads of a step are gathered beside the weights
until ``balance`` moves the biases and says how even they were.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.kernels.grouped_products import grouped_product
from training.models.configs.experts import BiasBalance, ExpertsConfig, LossBalance
from training.models.configs.feed_forward import GATED
from training.models.configs.parts import Sizes
from training.models.feed_forward import FeedForward, activate
from training.models.norms import compute_dtype

_TINY = 1e-20  # keeps a sum of scores that are all 0 from dividing by 0


class Experts(nn.Module):
    """[..., d_model] -> the same: the chosen experts' outputs by weight, and the shared one's."""

    balance: Tensor | None
    loads: Tensor

    def __init__(self, config: ExpertsConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        inner = (config.num_experts, config.d_expert, sizes.d_model)
        self.router = nn.Linear(sizes.d_model, config.num_experts, bias=False)
        self.up = nn.Parameter(torch.empty(inner))
        if config.activation in GATED:
            self.gate = nn.Parameter(torch.empty(inner))
        self.down = nn.Parameter(torch.empty(config.num_experts, sizes.d_model, config.d_expert))
        self.shared = None if config.shared is None else FeedForward(config.shared, sizes)
        if config.shared_gate:
            self.shared_gate = nn.Linear(sizes.d_model, 1, bias=False)
        has_bias = isinstance(config.balance, BiasBalance)
        # Added to the scores for choosing alone.
        self.register_buffer("balance", torch.zeros(config.num_experts) if has_bias else None)
        # Tokens that each expert got since the last step.
        loads = torch.zeros(config.num_experts, dtype=torch.int64)
        self.register_buffer("loads", loads, persistent=False)

    def reset(self) -> None:
        """As before the first step, biases and loads."""
        self.loads.zero_()
        if self.balance is not None:
            self.balance.zero_()

    def forward(self, x: Tensor, routing: "list[Routing] | None" = None) -> Tensor:
        """Writes down in ``routing``, where it is given, which expert got what."""
        tokens = x.flatten(0, -2)
        route = self.route(tokens)
        if routing is not None:
            routing.append(route)
        mixed = self._mixed(tokens, route)
        if self.shared is not None:
            said = self.shared(tokens)
            if self.config.shared_gate:
                said = self.shared_gate(tokens).sigmoid() * said
            mixed = mixed + said
        return mixed.view(x.shape)

    def route(self, tokens: Tensor) -> "Routing":
        """Where ``tokens`` [tokens, d_model] go; in float32 or more, since near scores decide."""
        config = self.config
        dtype = torch.promote_types(self.router.weight.dtype, torch.float32)
        with torch.autocast(tokens.device.type, enabled=False):
            logits = F.linear(tokens.to(dtype), self.router.weight.to(dtype))
        scores = logits.softmax(-1) if config.scores == "softmax" else logits.sigmoid()
        chosen = self._chosen(scores.detach())
        weights = scores.gather(-1, chosen)
        if config.normalize_top_k:
            weights = weights / (weights.sum(-1, keepdim=True) + _TINY)
        return Routing(
            experts=self,
            logits=logits,
            scores=scores,
            chosen=chosen,
            weights=weights * config.scale,
        )

    def _chosen(self, scores: Tensor) -> Tensor:
        """The experts of each token, [tokens, top_k]."""
        config = self.config
        if self.balance is not None:
            scores = scores + self.balance
        if config.top_groups < config.num_groups:
            groups = scores.unflatten(-1, (config.num_groups, -1))
            merits = groups.topk(2, dim=-1).values.sum(-1)
            best = merits.topk(config.top_groups, dim=-1).indices
            is_out = torch.ones_like(merits, dtype=torch.bool).scatter(-1, best, False)
            scores = groups.masked_fill(is_out[..., None], -math.inf).flatten(-2)
        return scores.topk(config.top_k, dim=-1).indices

    def _mixed(self, tokens: Tensor, route: "Routing") -> Tensor:
        """What the chosen experts say, by weight, [tokens, d_model]."""
        chosen, top_k = route.chosen.flatten(), self.config.top_k
        order = chosen.argsort(stable=True)
        experts = torch.arange(self.config.num_experts, device=chosen.device)
        ends = torch.searchsorted(chosen[order], experts, right=True, out_int32=True)
        dtype = compute_dtype(self.up)
        rows = tokens.to(dtype).index_select(0, order // top_k)
        up = grouped_product(rows, self.up.to(dtype), ends)
        gate = None
        if self.config.activation in GATED:
            gate = grouped_product(rows, self.gate.to(dtype), ends)
        inner = activate(self.config.activation, up, gate)
        said = grouped_product(inner, self.down.to(dtype), ends)
        places = torch.arange(len(order), device=order.device)
        home = torch.empty_like(order).scatter(0, order, places)
        said = said.index_select(0, home).unflatten(0, (-1, top_k))
        # Summed in the order of scores, whatever else the batch holds.
        return (route.weights.to(dtype)[..., None] * said).sum(-2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Routing:
    """Where one layer sent the tokens of one pass."""

    experts: Experts
    logits: Tensor  # [tokens, experts], as the next
    scores: Tensor
    chosen: Tensor  # [tokens, top_k], as the next
    weights: Tensor

    def penalty(self, counted: Tensor) -> Tensor:
        """What the layer's settings add to a loss: a scalar, 0 where they say nothing.

        Means are over the tokens that ``counted`` [tokens] of bool names.
        """
        config = self.experts.config
        each = counted.to(self.scores.dtype) / counted.sum().clamp_min(1)
        penalty = each.new_zeros(())
        if isinstance(config.balance, LossBalance):
            spread = self.scores / (self.scores.sum(-1, keepdim=True) + _TINY)
            means = (each[:, None] * spread).sum(0)
            part = (each / config.top_k).repeat_interleave(config.top_k)
            shares = torch.zeros_like(means).scatter_add(0, self.chosen.flatten(), part)
            evenness = config.num_experts * (shares * means).sum()
            penalty = penalty + config.balance.weight * evenness
        if config.z_loss is not None:
            penalty = penalty + config.z_loss * (each * self.logits.logsumexp(-1).square()).sum()
        return penalty

    def count(self, counted: Tensor) -> None:
        """Add the ``counted`` tokens to the layer's loads of this step."""
        each = counted.to(torch.int64).repeat_interleave(self.chosen.shape[-1])
        self.experts.loads.scatter_add_(0, self.chosen.flatten(), each)


@torch.no_grad()
def balance(
    modules: Iterable[nn.Module], average: Callable[[Iterable[Tensor]], None]
) -> dict[str, float]:
    """Move the biases towards even loads of what was counted since the last call, and tell of it.

    ``average`` makes of tensors, in place, their means over the ranks, so that all ranks move
    alike. Of the layers' means: the load of the busiest expert over that of an even one, the
    entropy of loads over that of even ones, and the share of experts without a token; nothing
    where no token was counted.
    """
    layers = [module for module in modules if isinstance(module, Experts)]
    loads = [layer.loads.double() for layer in layers]
    average(loads)
    for layer, load in zip(layers, loads, strict=True):
        layer.loads.zero_()
        if layer.balance is not None and isinstance(layer.config.balance, BiasBalance):
            missing = (load.mean() - load).sign().to(layer.balance.dtype)
            layer.balance.add_(missing, alpha=layer.config.balance.rate)
    shares = [load / load.sum() for load in loads if load.any()]
    if not shares:
        return {}
    return {
        "experts/busiest": _mean(share.max() * len(share) for share in shares),
        "experts/entropy": _mean(
            torch.special.entr(share).sum() / math.log(max(len(share), 2)) for share in shares
        ),
        "experts/unused": _mean((share == 0).double().mean() for share in shares),
    }


def _mean(values: Iterable[Tensor]) -> float:
    return float(torch.stack(list(values)).mean())

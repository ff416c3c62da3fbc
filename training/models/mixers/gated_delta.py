"""The gated delta rule, as ``configs/gated_delta.py`` describes it."""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.kernels.chunks import wide
from training.kernels.gated_delta import gated_delta, gated_delta_step
from training.models.configs.gated_delta import GatedDeltaConfig
from training.models.configs.linear_attention import chunks
from training.models.configs.norms import Norm
from training.models.configs.parts import Sizes
from training.models.local import LastInputs, filtered
from training.models.mixers.mixer import Mixer
from training.models.norms import build_norm
from training.models.reading import Reading
from training.models.state import Memory


@dataclass
class Associations(Memory):
    """What keys are answered by, and the last inputs of the convolution."""

    state: Tensor  # [batch, num_key_heads, group, d_key, d_value], float32 at least
    inputs: LastInputs  # [batch, width - 1, queries, keys and values]


class GatedDelta(Mixer):
    """Heads of keys, each with a group of heads of values and their states."""

    def __init__(self, config: GatedDeltaConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        d_model, d_keys, d_values = sizes.d_model, config.d_keys, config.d_values
        self.query = nn.Linear(d_model, d_keys, bias=False)
        self.key = nn.Linear(d_model, d_keys, bias=False)
        self.value = nn.Linear(d_model, d_values, bias=False)
        self.gate = nn.Linear(d_model, d_values, bias=False)
        self.share = nn.Linear(d_model, config.num_heads, bias=False)
        self.decay = nn.Linear(d_model, config.num_heads, bias=False)
        self.taps = nn.Parameter(torch.empty(config.num_mixed, config.width))
        self.log_rate = nn.Parameter(torch.empty(config.num_heads))
        self.step_bias = nn.Parameter(torch.empty(config.num_heads))
        self.norm = build_norm(Norm(gain=True, eps=config.eps), config.d_value)
        self.out = nn.Linear(d_values, d_model, bias=False)

    def initial(self, name: str, draft: Tensor, generator: torch.Generator) -> Tensor | None:
        """Taps as torch's convolutions; rates and steps as Mamba-2 (arXiv:2405.21060).

        A head decays by exp(-rate step) a token, with rates of 1 to 16 and steps of 0.001 to 0.1,
        uniform by logarithm, so that some remember for a thousand tokens.
        """
        if name == "taps":
            bound = self.config.width**-0.5
            return draft.uniform_(-bound, bound, generator=generator)
        if name == "log_rate":
            return draft.uniform_(1, 16, generator=generator).log_()
        if name == "step_bias":  # softplus takes it to the step
            step = draft.uniform_(math.log(1e-3), math.log(0.1), generator=generator).exp_()
            return step.expm1().log()
        return None

    def empty_memory(self, batch: int, room: int, like: Tensor) -> Associations:
        config = self.config
        heads = config.num_key_heads, config.num_heads // config.num_key_heads
        return Associations(
            state=wide(like).new_zeros(batch, *heads, config.d_key, config.d_value),
            inputs=LastInputs(like.new_zeros(batch, config.width - 1, config.num_mixed)),
        )

    def forward(
        self,
        x: Tensor,
        seen: Reading,
        turns: Tensor | None = None,
        mask: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        config, held = self.config, cast(Associations | None, memory)
        q, k, v = self._mixed(x, seen, held)
        step = F.softplus(self._by_head(self.decay(x)) + self._by_head(self.step_bias))
        log_decay = -self._by_head(self.log_rate).exp() * step
        share = self._by_head(self.share(x)).sigmoid()
        if held is not None and x.shape[1] == 1:
            read, held.state = gated_delta_step(q, k, v, log_decay, share, held.state)
        else:
            size, _ = chunks(x.shape[1], config.chunk)
            begins = None if seen.begins is None else seen.begins[..., 0]
            state = None if held is None else held.state
            read, left = gated_delta(q, k, v, log_decay, share, size, begins, state)
            if held is not None:
                held.state = cast(Tensor, left)
        gate = F.silu(wide(self.gate(x)))
        read = self.norm(read.flatten(1, 2).transpose(1, 2).contiguous()).flatten(2)
        return self.out((read * gate).to(read.dtype))

    def _mixed(
        self, x: Tensor, seen: Reading, held: Associations | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys [batch, num_key_heads, time, d_key], values [.., group, time, d_value]."""
        config = self.config
        inputs = torch.cat((self.query(x), self.key(x), self.value(x)), dim=-1)
        memory = None if held is None else held.inputs
        mixed = F.silu(filtered(inputs, self.taps, None, seen, memory))
        q, k, v = mixed.split((config.d_keys, config.d_keys, config.d_values), dim=-1)
        q, k = (part.unflatten(-1, (-1, config.d_key)).transpose(1, 2) for part in (q, k))
        v = v.unflatten(-1, (config.num_key_heads, -1, config.d_value))
        return q, k, v.permute(0, 2, 3, 1, 4)

    def _by_head(self, x: Tensor) -> Tensor:
        """[batch, num_key_heads, group, time], in float32 at least, of [batch, time, num_heads].

        Of what all tokens share, [num_heads]: [1, num_key_heads, group, 1].
        """
        x = wide(x).reshape(-1, x.shape[1] if x.ndim > 1 else 1, self.config.num_heads)
        return x.mT.contiguous().unflatten(1, (self.config.num_key_heads, -1))

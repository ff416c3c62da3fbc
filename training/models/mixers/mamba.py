"""Mamba-2, as ``configs/mamba.py`` describes it: chunked to read rows, recurrent to decode."""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.kernels.chunks import wide
from training.kernels.rms_norm import rms_norm
from training.kernels.ssd import ssd, ssd_step
from training.models.configs.mamba import Mamba2Config
from training.models.configs.parts import Sizes
from training.models.local import LastInputs, filtered
from training.models.mixers.mixer import Mixer
from training.models.norms import compute_dtype
from training.models.reading import Reading
from training.models.state import Memory

# Where A_log and dt_bias start (Gu and Dao's own code): rates and steps between these.
RATES = (1.0, 16.0)
STEPS = (0.001, 0.1)


@dataclass
class Mamba2Memory(Memory):
    """All that was read, in one matrix a head, and what the filter needs."""

    states: Tensor  # [batch, num_heads, d_head, d_state], in float32 at least
    last: LastInputs


class Mamba2(Mixer):
    """z, x, B, C, dt of a token; filter; state space; norm of y silu(z); out."""

    def __init__(self, config: Mamba2Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(sizes.d_model, config.d_projected, bias=config.bias)
        self.taps = nn.Parameter(torch.empty(config.d_filtered, config.width))
        self.taps_bias = nn.Parameter(torch.empty(config.d_filtered)) if config.taps_bias else None
        self.A_log = nn.Parameter(torch.empty(config.num_heads))
        self.dt_bias = nn.Parameter(torch.empty(config.num_heads))
        self.D = nn.Parameter(torch.empty(config.num_heads))
        self.gain = nn.Parameter(torch.empty(config.d_inner))
        self.out = nn.Linear(config.d_inner, sizes.d_model, bias=config.bias)

    def initial(self, name: str, draft: Tensor, generator: torch.Generator) -> Tensor:
        """As in the authors' code: rates uniform, steps uniform in their logarithm, D and gains 1.

        Taps and their bias are uniform within 1 / sqrt(width), as a Conv1d of torch starts.
        """
        if name == "A_log":
            return draft.uniform_(*RATES, generator=generator).log_()
        if name == "dt_bias":  # what softplus makes a step of
            step = draft.uniform_(*map(math.log, STEPS), generator=generator).exp_()
            return step + torch.log(-torch.expm1(-step))
        if name in ("taps", "taps_bias"):
            bound = self.config.width**-0.5
            return draft.uniform_(-bound, bound, generator=generator)
        return draft.fill_(1)

    def empty_memory(self, batch: int, room: int, like: Tensor) -> Mamba2Memory:
        config = self.config
        before = like.new_zeros(batch, config.width - 1, config.d_filtered)
        states = wide(like).new_zeros(batch, config.num_heads, config.d_head, config.d_state)
        return Mamba2Memory(states=states, last=LastInputs(before))

    def forward(
        self,
        x: Tensor,
        seen: Reading,
        turns: Tensor | None = None,
        mask: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        config, own = self.config, cast(Mamba2Memory | None, memory)
        widths = (config.d_inner, config.d_filtered, config.num_heads)
        gate, mixed, dt = self.project(x).split(widths, dim=-1)
        last = None if own is None else own.last
        mixed = F.silu(filtered(mixed, self.taps, self.taps_bias, seen, last))
        d_groups = config.num_groups * config.d_state
        heads, b, c = mixed.split((config.d_inner, d_groups, d_groups), dim=-1)
        heads = heads.unflatten(-1, (config.num_heads, -1))
        b, c = (z.unflatten(-1, (config.num_groups, -1)) for z in (b, c))
        y = self._mixed(heads, self._steps(dt), b, c, seen, own)
        y = torch.addcmul(y, heads, self.D[:, None]).flatten(2) * F.silu(wide(gate))
        y = rms_norm(y.unflatten(-1, (config.num_groups, -1)), compute_dtype(x), config.norm_eps)
        return self.out(y.flatten(2) * self.gain.to(y.dtype))

    def _steps(self, dt: Tensor) -> Tensor:
        """Within their limits, in float32 at least."""
        steps, low, high = (
            F.softplus(wide(dt) + self.dt_bias),
            self.config.dt_min,
            self.config.dt_max,
        )
        return steps if low == 0 and high is None else steps.clamp(low, high)

    def _mixed(
        self, x: Tensor, dt: Tensor, b: Tensor, c: Tensor, seen: Reading, own: Mamba2Memory | None
    ) -> Tensor:
        """What is read of the states; those in memory go on."""
        rate, time = -wide(self.A_log).exp(), x.shape[1]
        if own is not None and time == 1:
            y, own.states = ssd_step(x[:, 0], dt[:, 0], rate, b[:, 0], c[:, 0], own.states)
            return y[:, None]
        begins = None if seen.begins is None else seen.begins[..., 0]
        size = self.config.chunk_size(time)
        states = None if own is None else own.states
        y, left = ssd(x, dt, rate, b, c, size, begins, states, keep=own is not None)
        if own is not None:
            own.states = cast(Tensor, left)
        return y

"""One block of the residual stream: a mixer over time, then a feed-forward layer over channels."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from training.models.configs.attention import AttentionConfig
from training.models.configs.experts import ExpertsConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.gated_delta import GatedDeltaConfig
from training.models.configs.latent_attention import LatentAttentionConfig
from training.models.configs.linear_attention import LinearAttentionConfig
from training.models.configs.mamba import Mamba2Config
from training.models.experts import Experts, Routing
from training.models.feed_forward import FeedForward
from training.models.local import build_local
from training.models.mixers.attention import Attention
from training.models.mixers.gated_delta import GatedDelta
from training.models.mixers.latent_attention import LatentAttention
from training.models.mixers.linear_attention import LinearAttention
from training.models.mixers.mamba import Mamba2
from training.models.mixers.mixer import Mixer
from training.models.ngram_memory import LastIds, NgramMemory
from training.models.norms import build_norm
from training.models.reading import Reading
from training.models.state import BlockMemory
from training.models.variants import Layer, ModelConfig

MIXERS: dict[type, Callable[..., Mixer]] = {
    AttentionConfig: Attention,
    LatentAttentionConfig: LatentAttention,
    Mamba2Config: Mamba2,
    LinearAttentionConfig: LinearAttention,
    GatedDeltaConfig: GatedDelta,
}
FEED_FORWARDS: dict[type, Callable[..., nn.Module]] = {
    DenseConfig: FeedForward,
    ExpertsConfig: Experts,
}


class Block(nn.Module):
    """[batch, time, d_model] -> the same.

    x <- a x + b x0 (where x0_skip); x <- x + ngrams(x) (where it has a memory of them);
    x <- x + mixer(local(norm(x))); x <- x + ffn(norm(x)), with norms where ``norm_place`` says.
    """

    def __init__(
        self, config: ModelConfig, layer: Layer, rope: int | None, mask: int | None
    ) -> None:
        """``rope`` and ``mask``: which of the reading's turns and masks its mixer takes."""
        super().__init__()
        self.place, self.scale = config.norm_place, config.residual_scale
        self.rope, self.mask = rope, mask
        sizes = config.sizes
        mixer = layer.mixer if config.base_width is None else layer.mixer.for_any_width(sizes)
        self.mixer = MIXERS[type(mixer)](mixer, sizes)
        names = ["mixer_norm"]
        if layer.feed_forward is not None:
            self.feed_forward = FEED_FORWARDS[type(layer.feed_forward)](layer.feed_forward, sizes)
            names.append("feed_forward_norm")
        self.has_feed_forward = layer.feed_forward is not None
        self.has_experts = isinstance(layer.feed_forward, ExpertsConfig)
        if self.place == "sandwich":
            names += [name.replace("norm", "out_norm") for name in names]
        for name in names:
            setattr(self, name, build_norm(config.norm, config.d_model))
        if config.x0_skip:
            self.skip = nn.Parameter(torch.empty(2))
        else:
            self.register_parameter("skip", None)
        self.local = None if layer.local is None else build_local(layer.local, sizes)
        self.ngrams = (
            None if layer.memory is None else NgramMemory(layer.memory, sizes, config.base_width)
        )

    def empty_memory(self, batch: int, room: int, like: Tensor) -> BlockMemory:
        """What it remembers of ``batch`` sequences of ``room`` tokens, of which none was read."""
        local = None if self.local is None else self.local.empty_memory(batch, room, like)
        ngrams = None if self.ngrams is None else self.ngrams.empty_memory(batch, room, like)
        mixer = self.mixer.empty_memory(batch, room, like)
        return BlockMemory(mixer=mixer, local=local, ngrams=ngrams)

    def look_up(self, seen: Reading, memory: BlockMemory | None = None) -> Tensor | None:
        """What its memory of n-grams finds, if it has one; needs the tokens alone."""
        if self.ngrams is None:
            return None
        ngrams = None if memory is None else cast(LastIds, memory.ngrams)
        return self.ngrams.look_up(seen, ngrams)

    def forward(
        self,
        x: Tensor,
        x0: Tensor,
        seen: Reading,
        memory: BlockMemory | None = None,
        found: Tensor | None = None,
        routing: list[Routing] | None = None,
    ) -> Tensor:
        """``found`` is what ``look_up`` gave; experts write down in ``routing`` what they chose."""
        if self.skip is not None:
            x = self.skip[0] * x + self.skip[1] * x0
        if self.ngrams is not None:
            h = self.ngrams(x, found)
            x = x + (h if self.scale == 1 else self.scale * h)
        h = self._before(x, "mixer_norm")
        if self.local is not None:
            h = self.local(h, seen, None if memory is None else memory.local)
        turns = None if self.rope is None else seen.turns[self.rope]
        mask = seen.masks[self.mask] if self.mask is not None and seen.masks else None
        h = self.mixer(h, seen, turns, mask, None if memory is None else memory.mixer)
        x = self._after(x, h, "mixer_norm")
        if not self.has_feed_forward:
            return x
        h = self._before(x, "feed_forward_norm")
        h = self.feed_forward(h, routing) if self.has_experts else self.feed_forward(h)
        return self._after(x, h, "feed_forward_norm")

    def _before(self, x: Tensor, norm: str) -> Tensor:
        return self._normed(norm, x) if self.place in ("pre", "sandwich") else x

    def _after(self, x: Tensor, h: Tensor, norm: str) -> Tensor:
        """The stream with ``h`` added to it."""
        if self.place == "sandwich":
            h = self._normed(norm.replace("norm", "out_norm"), h)
        elif self.place == "reordered":
            h = self._normed(norm, h)
        x = x + (h if self.scale == 1 else self.scale * h)
        return self._normed(norm, x) if self.place == "post" else x

    def _normed(self, norm: str, x: Tensor) -> Tensor:
        return cast(Tensor, getattr(self, norm)(x))

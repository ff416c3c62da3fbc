"""Softmax attention, as ``configs/attention.py`` describes it."""

from typing import cast

import torch
from torch import Tensor, nn

from training.kernels.attention import causal_attention, masked_attention, visible
from training.kernels.heads import place_heads
from training.kernels.rms_norm import rms_norm
from training.models.configs.attention import AttentionConfig
from training.models.configs.parts import Sizes
from training.models.mixers.mixer import Mixer
from training.models.reading import Reading
from training.models.state import KeyValueCache, Memory


class Attention(Mixer):
    """Heads of queries, keys and values, to which values by token may be added from a table."""

    def __init__(self, config: AttentionConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.d_head = config.head_width(sizes)
        d_query, d_kv = config.num_heads * self.d_head, config.kv_width(sizes)
        self.query = nn.Linear(sizes.d_model, d_query, bias=config.bias)
        self.key = nn.Linear(sizes.d_model, d_kv, bias=config.bias)
        self.value = nn.Linear(sizes.d_model, d_kv, bias=config.bias)
        self.out = nn.Linear(d_query, sizes.d_model, bias=config.out_bias)
        if config.gate:
            self.gate = nn.Linear(sizes.d_model, d_query, bias=False)
        self.query_gain, self.key_gain = (self._gain(width) for width in (d_query, d_kv))
        if config.value_embedding:
            self.value_embedding = nn.Embedding(sizes.vocab_size, d_kv)
            self.value_mix = nn.Parameter(torch.empty(2))

    def _gain(self, width: int) -> nn.Parameter | None:
        """Of the norm of queries or keys, which together are ``width`` channels."""
        if not self.config.qk_gain:
            return None
        return nn.Parameter(torch.empty(self.d_head if self.config.qk_norm == "head" else width))

    def empty_memory(self, batch: int, room: int, like: Tensor) -> KeyValueCache:
        slots = min(self.config.window or room, room)
        return KeyValueCache.empty(batch, self.config.num_kv_heads, slots, self.d_head, like)

    def forward(
        self,
        x: Tensor,
        seen: Reading,
        turns: Tensor | None = None,
        mask: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        config = self.config
        q = self._placed(self.query(x), turns, self.query_gain)
        k = self._placed(self.key(x), turns, self.key_gain)
        v = self.value(x)
        if config.value_embedding:
            table = self.value_embedding(seen.ids)
            v = (self.value_mix[0] * v + self.value_mix[1] * table).to(q.dtype)
        v = v.unflatten(-1, (-1, self.d_head)).transpose(1, 2)
        scores = config.scale, config.softcap
        if memory is None:
            mixed = causal_attention(q, k, v, config.window, mask, *scores)
        else:
            assert seen.positions is not None
            cache = cast(KeyValueCache, memory)
            keys, values, key_positions = cache.extend(k, v, seen.positions)
            read = visible(seen.positions, key_positions, config.window)
            mixed = masked_attention(q, keys, values, read, *scores)
        heads = mixed.transpose(1, 2).flatten(2)
        if config.gate:
            heads = heads * self.gate(x).sigmoid()
        return self.out(heads)

    def _placed(self, x: Tensor, turns: Tensor | None, gain: Tensor | None) -> Tensor:
        """Heads of a projection: normed, times the gain, then turned."""
        config = self.config
        if config.qk_norm == "head":
            return place_heads(x, turns, self.d_head, True, gain, config.qk_eps)
        if config.qk_norm == "all":
            x = rms_norm(x, x.dtype, config.qk_eps, gain)
        return place_heads(x, turns, self.d_head, False)

    def initial(self, name: str, draft: Tensor, generator: torch.Generator) -> Tensor | None:
        return draft.fill_(1) if name.endswith("_gain") else None

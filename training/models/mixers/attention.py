"""Softmax attention, as ``configs/attention.py`` describes it."""

from typing import cast

import torch
from torch import Tensor, nn

from training.kernels.attention import causal_attention, masked_attention, visible
from training.kernels.heads import place_heads
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
        self.context = sizes.context_length
        d_query, d_kv = config.num_heads * self.d_head, config.kv_width(sizes)
        self.query = nn.Linear(sizes.d_model, d_query, bias=config.bias)
        self.key = nn.Linear(sizes.d_model, d_kv, bias=config.bias)
        self.value = nn.Linear(sizes.d_model, d_kv, bias=config.bias)
        self.out = nn.Linear(d_query, sizes.d_model, bias=config.out_bias)
        if config.value_embedding:
            self.value_embedding = nn.Embedding(sizes.vocab_size, d_kv)
            self.value_mix = nn.Parameter(torch.empty(2))

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
        window, norm = self.config.window, self.config.qk_norm == "head"
        q = place_heads(self.query(x), turns, self.d_head, norm)
        k = place_heads(self.key(x), turns, self.d_head, norm)
        v = self.value(x)
        if self.config.value_embedding:
            table = self.value_embedding(seen.ids)
            v = (self.value_mix[0] * v + self.value_mix[1] * table).to(q.dtype)
        v = v.unflatten(-1, (-1, self.d_head)).transpose(1, 2)
        if memory is None:
            mixed = causal_attention(q, k, v, window, mask)
        else:
            assert seen.positions is not None
            cache = cast(KeyValueCache, memory)
            keys, values, key_positions = cache.extend(k, v, seen.positions)
            mixed = masked_attention(
                q, keys, values, visible(seen.positions, key_positions, window)
            )
        return self.out(mixed.transpose(1, 2).flatten(2))

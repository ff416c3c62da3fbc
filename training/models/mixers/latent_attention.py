"""Multi-head latent attention, as ``configs/latent_attention.py`` describes it.

With query (q_n, q_r), latent c, key (W_k c, k_r) and value W_v c of a head: rows are read with keys
and values expanded, which takes the fewest FLOPs. Decoding uses that q_n . W_k c is (W_k^T q_n) . c
and that the mix of W_v c is W_v times the mix of c (absorbed): all heads read one memory, which
holds c and k_r.
"""

from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn

from training.kernels.attention import causal_attention, masked_attention, visible
from training.kernels.heads import place_heads
from training.models.configs.latent_attention import LatentAttentionConfig
from training.models.configs.norms import Norm
from training.models.configs.parts import Sizes
from training.models.mixers.mixer import Mixer
from training.models.norms import RmsNorm
from training.models.reading import Reading
from training.models.state import Memory, Undo


@dataclass
class LatentCache(Memory):
    """Latents and turned keys: position p lies in slot p, so slots after a query are unread."""

    tokens: Tensor  # [batch, slots, kv_rank + d_rope]

    @classmethod
    def empty(cls, batch: int, slots: int, width: int, like: Tensor) -> Self:
        """Nothing remembered yet; dtype and device of ``like``."""
        return cls(tokens=like.new_zeros(batch, slots, width))

    def extend(self, tokens: Tensor, positions: Tensor) -> None:
        """Remembers ``tokens`` [batch, time, width] at ``positions`` [batch, time]."""
        index = positions[:, :, None].expand_as(tokens)
        self.tokens.scatter_(1, index, tokens.to(self.tokens.dtype))

    def mark(self, count: int) -> Undo:
        """Nothing: what is read after a mark lies in slots of its own."""
        return {}


class LatentAttention(Mixer):
    """Heads whose keys and values are expanded from a normed latent, or read as that."""

    def __init__(self, config: LatentAttentionConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale or config.d_query**-0.5
        norm = Norm(gain=True, eps=config.eps)
        if config.q_rank is not None:
            self.query_latent = nn.Linear(sizes.d_model, config.q_rank, bias=False)
            self.query_norm = RmsNorm(norm, config.q_rank)
        queries = config.num_heads * config.d_query
        self.query = nn.Linear(config.q_rank or sizes.d_model, queries, bias=False)
        self.latent = nn.Linear(sizes.d_model, config.d_memory, bias=False)
        self.latent_norm = RmsNorm(norm, config.kv_rank)
        self.expand = nn.Linear(config.kv_rank, config.d_expanded, bias=False)
        self.out = nn.Linear(config.num_heads * config.d_value, sizes.d_model, bias=False)

    def empty_memory(self, batch: int, room: int, like: Tensor) -> LatentCache:
        return LatentCache.empty(batch, room, self.config.d_memory, like)

    def forward(
        self,
        x: Tensor,
        seen: Reading,
        turns: Tensor | None = None,
        mask: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        q, tokens = self._queries(x, turns), self._tokens(x, turns)
        if memory is None:
            mixed = causal_attention(q, *self._expanded(tokens), mask=mask, scale=self.scale)
        else:
            assert seen.positions is not None
            cache = cast(LatentCache, memory)
            cache.extend(tokens, seen.positions)
            slots = cache.tokens.shape[1]
            places = torch.arange(slots, device=x.device)[None]
            readable = visible(seen.positions, places, None)
            if self._is_absorbed(x.shape[1], slots):
                mixed = self._absorbed(q, cache.tokens, readable)
            else:
                mixed = masked_attention(q, *self._expanded(cache.tokens), readable, self.scale)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _is_absorbed(self, time: int, slots: int) -> bool:
        """Whether ``time`` queries of a head read latents with fewer FLOPs than expanded ones."""
        rank, expanded = self.config.kv_rank, self.config.d_key + self.config.d_value
        return time * (rank * expanded + slots * (2 * rank - expanded)) <= slots * rank * expanded

    def _queries(self, x: Tensor, turns: Tensor | None) -> Tensor:
        """[batch, num_heads, time, d_key + d_rope], of which the last channels are turned."""
        config = self.config
        if config.q_rank is not None:
            x = self.query_norm(self.query_latent(x))
        heads = self.query(x).unflatten(-1, (config.num_heads, config.d_query))
        plain, turned = heads.split((config.d_key, config.d_rope), dim=-1)
        turned = place_heads(turned.flatten(2), turns, config.d_rope, False)
        return torch.cat((plain.transpose(1, 2), turned), dim=-1)

    def _tokens(self, x: Tensor, turns: Tensor | None) -> Tensor:
        """What is remembered [batch, time, kv_rank + d_rope]: the latent, and the turned key."""
        config = self.config
        latent, key = self.latent(x).split((config.kv_rank, config.d_rope), dim=-1)
        key = place_heads(key, turns, config.d_rope, False)[:, 0]
        return torch.cat((self.latent_norm(latent), key), dim=-1)

    def _expanded(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys [batch, num_heads, time, d_query] and values [batch, num_heads, time, d_value]."""
        config = self.config
        latent, key = tokens.split((config.kv_rank, config.d_rope), dim=-1)
        heads = self.expand(latent).unflatten(-1, (config.num_heads, -1)).transpose(1, 2)
        plain, values = heads.split((config.d_key, config.d_value), dim=-1)
        turned = key[:, None].expand(-1, config.num_heads, -1, -1)
        return torch.cat((plain, turned), dim=-1), values

    def _absorbed(self, q: Tensor, tokens: Tensor, seen: Tensor) -> Tensor:
        """[batch, num_heads, time, d_value] of queries that read ``tokens`` where ``seen``."""
        config, dtype = self.config, q.dtype
        weight = self.expand.weight.unflatten(0, (config.num_heads, -1)).to(dtype)
        to_key, to_value = weight.split((config.d_key, config.d_value), dim=1)
        plain, turned = q.split((config.d_key, config.d_rope), dim=-1)
        # Heads are rows of one product: [batch, num_heads time, kv_rank + d_rope].
        inward = torch.einsum("bhtk,hkr->bhtr", plain, to_key)
        q = torch.cat((inward, turned), dim=-1).flatten(1, 2)
        tokens = tokens.to(dtype)
        scores = (q @ tokens.mT * self.scale).unflatten(1, (config.num_heads, -1))
        wide = torch.promote_types(dtype, torch.float32)
        p = scores.masked_fill(~seen[:, None], -torch.inf).softmax(-1, dtype=wide)
        mixed = p.to(dtype).flatten(1, 2) @ tokens[..., : config.kv_rank]
        mixed = mixed.unflatten(1, (config.num_heads, -1))
        return torch.einsum("bhtr,hvr->bhtv", mixed, to_value)

"""Causal self-attention with grouped key-value heads, and an optional sliding window.

Vaswani et al. 2017, arXiv:1706.03762; grouped queries Ainslie et al. 2023, arXiv:2305.13245.
"""

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.kernels.heads import place_heads
from training.models.state import KeyValueCache
from training.models.variants import TransformerConfig

SHORT = 1024  # longest time whose time x time probabilities are kept on a processor
BLOCK = 256  # queries of one product there


class Attention(nn.Module):
    """[batch, time, d_model] -> the same, each position reading itself and earlier ones.

    ``value_embedding`` [batch, time, d_kv], where the layer has one, is mixed into the values with
    two learned weights. ``turns`` are the rotations of the positions (``place_heads``).
    With a ``cache`` the sequences continue what it holds, at ``positions`` [batch, time].
    """

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.query = nn.Linear(config.d_model, config.d_model, bias=False)
        self.key = nn.Linear(config.d_model, config.d_kv, bias=False)
        self.value = nn.Linear(config.d_model, config.d_kv, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)
        if config.has_value_embedding(layer):
            self.value_mix = nn.Parameter(torch.empty(2))

    def empty_memory(self, batch: int, like: Tensor) -> KeyValueCache:
        """The cache of ``batch`` sequences of which nothing was read."""
        config = self.config
        return KeyValueCache.empty(batch, config.num_kv_heads, config.span, config.d_head, like)

    def forward(
        self,
        x: Tensor,
        value_embedding: Tensor | None,
        turns: Tensor | None,
        positions: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        d_head, norm = self.config.d_head, self.config.qk_norm
        q = place_heads(self.query(x), turns, d_head, norm)
        k = place_heads(self.key(x), turns, d_head, norm)
        v = self.value(x)
        if value_embedding is not None:
            v = (self.value_mix[0] * v + self.value_mix[1] * value_embedding).to(q.dtype)
        v = v.unflatten(-1, (-1, d_head)).transpose(1, 2)
        if cache is None:
            mixed = causal_attention(q, k, v, self.config.window)
        else:
            assert positions is not None
            keys, values, key_positions = cache.extend(k, v, positions)
            seen = visible(positions, key_positions, self.config.window)
            mixed = masked_attention(q, keys, values, seen)
        return self.out(mixed.transpose(1, 2).flatten(2))


def causal_attention(q: Tensor, k: Tensor, v: Tensor, window: int | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d_head)) v over the ``window`` last positions, itself included.

    ``q`` [batch, num_heads, time, d_head], ``k`` and ``v`` [batch, num_kv_heads, time, d_head].
    """
    time = q.shape[2]
    if window is None or window >= time:
        if q.device.type == "cpu" and time <= SHORT:
            return short_attention(q, k, v)
        grouped = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    return _windowed_attention(q, k, v, window)


def short_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention by plain products, which keep the probabilities of all pairs.

    A processor's fused kernel spends its time on small blocks: for 16 heads of 256 x 24 in
    bfloat16, forward and backward take 6.6 ms there and 1.7 ms here (one thread).
    """
    batch, num_heads, time, d_head = q.shape
    if k.shape[1] != num_heads:
        k, v = (x.repeat_interleave(num_heads // x.shape[1], dim=1) for x in (k, v))
    q, k, v = (x.reshape(-1, time, d_head) for x in (q, k, v))
    return _ShortAttention.apply(q, k, v).view(batch, num_heads, time, d_head)


class _ShortAttention(torch.autograd.Function):
    """[rows, time, d_head] each. dS = P (dP - rowsum(P dP)), as in the textbook.

    Queries go in blocks, so that the scores of a block stay in the cache and a block does not
    read the keys after it.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, probabilities = torch.empty_like(q), []
        scale = q.shape[-1] ** -0.5
        with torch.autocast("cpu", enabled=False):  # it would take the softmax to float32
            for start, end in _query_blocks(q.shape[1]):
                future = _future(end - start, end, q.dtype)
                scores = torch.baddbmm(future, q[:, start:end], k[:, :end].mT, alpha=scale)
                p = torch.softmax(scores, dim=-1)
                torch.bmm(p, v[:, :end], out=out[:, start:end])
                probabilities.append(p)
        ctx.save_for_backward(q, k, v, *probabilities)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, *probabilities = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        blocks = _query_blocks(q.shape[1])
        for (start, end), p in zip(blocks, probabilities, strict=True):
            d_part = d_out[:, start:end]
            dp = torch.bmm(d_part, v[:, :end].mT)
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            torch.bmm(ds, k[:, :end], out=dq[:, start:end])
            dk[:, :end] += torch.bmm(ds.mT, q[:, start:end])
            dv[:, :end] += torch.bmm(p.mT, d_part)
        scale = q.shape[-1] ** -0.5
        return dq.mul_(scale), dk.mul_(scale), dv


def _query_blocks(time: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK, time)) for start in range(0, time, BLOCK)]


@lru_cache(maxsize=16)
def _future(num_queries: int, num_keys: int, dtype: torch.dtype) -> Tensor:
    """[num_queries, num_keys]: -inf where a key is after the query; the last ones are level."""
    table = torch.full((num_queries, num_keys), -math.inf, dtype=dtype)
    return table.triu_(1 + num_keys - num_queries)


def _windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Queries in blocks of ``window``, each reading its own block and the one before it.

    So the mask is window x 2 window, whatever the length.
    """
    batch, _, time, _ = q.shape
    num_blocks = -(-time // window)
    tail = num_blocks * window - time
    q_blocks = F.pad(q, (0, 0, 0, tail)).unflatten(2, (num_blocks, window)).transpose(1, 2)

    def pairs(x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, window, tail)).unfold(2, 2 * window, window)
        return padded.permute(0, 2, 1, 4, 3).flatten(0, 1)

    place = torch.arange(2 * window, device=q.device) - window
    block = torch.arange(num_blocks, device=q.device)[:, None] * window
    seen = visible(block + place[window:], block + place, window) & (block + place >= 0)[:, None]
    seen = seen.repeat(batch, 1, 1)
    mixed = masked_attention(q_blocks.flatten(0, 1), pairs(k), pairs(v), seen)
    return mixed.unflatten(0, (batch, num_blocks)).transpose(1, 2).flatten(2, 3)[:, :, :time]


def visible(positions: Tensor, key_positions: Tensor, window: int | None) -> Tensor:
    """[batch, time, keys]: which keys the queries at ``positions`` [batch, time] may read."""
    ahead = positions[:, :, None] - key_positions[:, None, :]
    seen = ahead >= 0
    return seen if window is None else seen & (ahead < window)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Attention where query t of row b reads key s if ``seen[b, t, s]``."""
    grouped = q.shape[1] != k.shape[1]
    k, v = k.to(q.dtype), v.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None], enable_gqa=grouped)

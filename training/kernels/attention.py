"""Causal softmax attention with grouped key-value heads, and an optional sliding window.

One function a way to compute it, by device and length; ``causal_attention`` chooses.
"""

import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SHORT = 1024  # longest time whose time x time probabilities are kept on a processor
BLOCK = 256  # queries of one product there


def causal_attention(
    q: Tensor, k: Tensor, v: Tensor, window: int | None = None, mask: Tensor | None = None
) -> Tensor:
    """softmax(q k^T / sqrt(d_head)) v over the ``window`` last positions, itself included.

    ``q`` [batch, num_heads, time, d_head], ``k`` and ``v`` [batch, num_kv_heads, time, d_head];
    values may be of another width. ``mask`` is that of ``document_mask`` for as many positions and
    the same window.
    """
    time = q.shape[2]
    if window is not None and window < time:
        return _windowed_attention(q, k, v, window, mask)
    if _is_short(time, q.device):
        return short_attention(q, k, v, mask)
    if mask is not None:
        return masked_attention(q, k, v, mask)
    return _fused(q, k, v, is_causal=True)


def document_mask(numbers: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """Who reads whom where rows hold several documents: itself and what precedes it in its own.

    ``numbers`` [batch, time] names the document of each token. Made once for all layers, as
    ``causal_attention`` wants it: booleans of the pairs in its blocks where there is a ``window``,
    [batch, time, time] else; for ``short_attention`` 0 or -inf in ``dtype``.
    """
    batch, time = numbers.shape
    if window is not None and window < time:
        x = numbers[:, None, :, None]
        own, pairs = _own_blocks(x, window)[:, 0], _pairs_of_blocks(x, window)[:, 0]
        return _seen_in_blocks(batch, time, window, numbers.device) & (own == pairs.mT)
    seen = (numbers[:, :, None] == numbers[:, None, :]).tril_()
    if not _is_short(time, numbers.device):
        return seen
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -math.inf)


def _is_short(time: int, device: torch.device) -> bool:
    return device.type == "cpu" and time <= SHORT


def short_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Causal attention by plain products, which keep the probabilities of all pairs.

    ``mask`` [batch, time, time] is added to the scores in the place of causality. A processor's
    fused kernel spends its time on small blocks: for 16 heads of 256 x 24 in bfloat16, forward
    and backward take 6.6 ms there and 1.7 ms here (one thread). With a mask, the forward of 16
    rows of 4 heads of 256 x 32 takes 33 ms there, and 8.7 ms here (8.2 ms without one).
    """
    batch, num_heads, time, _ = q.shape
    if k.shape[1] != num_heads:
        k, v = (x.repeat_interleave(num_heads // x.shape[1], dim=1) for x in (k, v))
    q, k, v = (x.reshape(-1, time, x.shape[-1]) for x in (q, k, v))
    return _ShortAttention.apply(q, k, v, mask).view(batch, num_heads, time, -1)


class _ShortAttention(torch.autograd.Function):
    """[rows, time, d_head] each; values may be of another width.

    dS = P (dP - rowsum(P dP)), as in the textbook.

    Queries go in blocks, so that the scores of a block stay in the cache and a block does not
    read the keys after it.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        out, probabilities = v.new_empty(v.shape), []
        scale = q.shape[-1] ** -0.5
        with torch.autocast("cpu", enabled=False):  # it would take the softmax to float32
            for start, end in _query_blocks(q.shape[1]):
                future = _future(end - start, end, q.dtype)
                beta = 1 if mask is None else 0  # 0 does not read ``future``
                queries, keys = q[:, start:end], k[:, :end].mT
                scores = torch.baddbmm(future, queries, keys, beta=beta, alpha=scale)
                if mask is not None:  # one of a row is that of all its heads
                    heads = scores.unflatten(0, (mask.shape[0], -1))
                    heads.add_(mask[:, None, start:end, :end])
                p = torch.softmax(scores, dim=-1)
                torch.bmm(p, v[:, :end], out=out[:, start:end])
                probabilities.append(p)
        ctx.save_for_backward(q, k, v, *probabilities)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
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
        return dq.mul_(scale), dk.mul_(scale), dv, None


def _query_blocks(time: int) -> list[tuple[int, int]]:
    return [(start, min(start + BLOCK, time)) for start in range(0, time, BLOCK)]


@lru_cache(maxsize=16)
def _future(num_queries: int, num_keys: int, dtype: torch.dtype) -> Tensor:
    """[num_queries, num_keys]: -inf where a key is after the query; the last ones are level."""
    table = torch.full((num_queries, num_keys), -math.inf, dtype=dtype)
    return table.triu_(1 + num_keys - num_queries)


def _windowed_attention(
    q: Tensor, k: Tensor, v: Tensor, window: int, mask: Tensor | None
) -> Tensor:
    """Queries in blocks of ``window``, each reading its own block and the one before it.

    So the mask is window x 2 window, whatever the length.
    """
    batch, _, time, _ = q.shape
    seen = _seen_in_blocks(batch, time, window, q.device) if mask is None else mask
    keys, values = (_pairs_of_blocks(x, window) for x in (k, v))
    mixed = masked_attention(_own_blocks(q, window), keys, values, seen)
    return mixed.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)[:, :, :time]


def _own_blocks(x: Tensor, window: int) -> Tensor:
    """[batch num_blocks, heads, window, d] of [batch, heads, time, d]; zeros fill the last."""
    tail = -x.shape[2] % window
    return F.pad(x, (0, 0, 0, tail)).unflatten(2, (-1, window)).transpose(1, 2).flatten(0, 1)


def _pairs_of_blocks(x: Tensor, window: int) -> Tensor:
    """[batch num_blocks, heads, 2 window, d]: of each block, the one before it and itself."""
    tail = -x.shape[2] % window
    padded = F.pad(x, (0, 0, window, tail)).unfold(2, 2 * window, window)
    return padded.permute(0, 2, 1, 4, 3).flatten(0, 1)


def _seen_in_blocks(batch: int, time: int, window: int, device: torch.device) -> Tensor:
    """[batch num_blocks, window, 2 window]: which of a pair of blocks the queries may read."""
    place = torch.arange(2 * window, device=device) - window
    block = torch.arange(0, time, window, device=device)[:, None]
    seen = visible(block + place[window:], block + place, window) & (block + place >= 0)[:, None]
    return seen.repeat(batch, 1, 1)


def visible(positions: Tensor, key_positions: Tensor, window: int | None) -> Tensor:
    """[batch, time, keys]: which keys the queries at ``positions`` [batch, time] may read."""
    ahead = positions[:, :, None] - key_positions[:, None, :]
    seen = ahead >= 0
    return seen if window is None else seen & (ahead < window)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Attention where query t of row b reads key s if ``seen[b, t, s]``."""
    return _fused(q, k.to(q.dtype), v.to(q.dtype), attn_mask=seen[:, None])


def _fused(q: Tensor, k: Tensor, v: Tensor, **how: Any) -> Tensor:
    """Torch's attention. Its fused kernels want one width, so zeros fill up the narrower.

    For 8 heads of 2048 queries of 96 channels and values of 64, forward and backward take 2.1 s
    as they are and 0.7 s filled up (one thread).
    """
    width, scale = v.shape[-1], q.shape[-1] ** -0.5
    if width < q.shape[-1]:
        v = F.pad(v, (0, q.shape[-1] - width))
    elif width > q.shape[-1]:
        q, k = (F.pad(x, (0, width - x.shape[-1])) for x in (q, k))
    grouped = q.shape[1] != k.shape[1]
    mixed = F.scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=grouped, **how)
    return mixed[..., :width]

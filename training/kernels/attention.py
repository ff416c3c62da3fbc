"""Causal softmax attention with grouped key-value heads, a sliding window and capped scores.

One function a way to compute it, by device and length; ``causal_attention`` chooses. Torch's fused
kernel is the fast path on an accelerator and where a row is long; it knows no cap, so capped scores
go in blocks of queries everywhere.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.kernels.tables import remembered

SHORT = 1024  # longest time whose time x time probabilities are kept on a processor
BLOCK = 256  # queries of one product there


def causal_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """softmax(scale q k^T) v over the ``window`` last positions, itself included.

    ``q`` [batch, num_heads, time, d_head], ``k`` [batch, num_kv_heads, time, d_head], ``v``
    [batch, num_kv_heads, time, d_value]. ``mask`` is that of ``document_mask`` for as many
    positions and the same window. ``scale`` None is 1 / sqrt(d_head). ``softcap`` c bounds scores s
    to c tanh(s / c) (Gemma 2, arXiv:2408.00118).
    """
    time = q.shape[2]
    if window is not None and window >= time:
        window = None
    if _in_blocks(time, window, q.device) or (window is None and softcap is not None):
        return blocked_attention(q, k, v, window, _additive(mask, q), scale, softcap)
    if window is not None:
        return windowed_attention(q, k, v, window, mask, scale, softcap)
    if mask is not None:
        return masked_attention(q, k, v, mask, scale)
    return _fused(q, k, v, scale, is_causal=True)


def document_mask(numbers: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """Who reads whom where rows hold several documents: itself and what precedes it in its own.

    ``numbers`` [batch, time] names the document of each token. Made once for all layers, as
    ``causal_attention`` wants it: what ``blocked_attention`` adds to scores where it serves, 0 or
    -inf in ``dtype``; else booleans [batch, time, time], or of the pairs in blocks of a ``window``.
    """
    time = numbers.shape[1]
    if window is not None and window >= time:
        window = None
    if _in_blocks(time, window, numbers.device):
        return _blocked_mask(numbers, window, dtype)
    if window is not None:
        return paired_mask(numbers, window)
    return (numbers[:, :, None] == numbers[:, None, :]).tril_()


def _in_blocks(time: int, window: int | None, device: torch.device) -> bool:
    """Whether plain products in blocks of queries beat the fused kernel."""
    return device.type == "cpu" and (time <= SHORT or window is not None)


def blocked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    causal: bool = True,
) -> Tensor:
    """Attention by plain products of ``BLOCK`` queries with all the keys that any of them reads.

    ``mask`` [batch, time, keys of a block] is added to the scores in the place of causality and
    window; without ``causal`` every query reads all keys that it leaves. A processor's fused kernel
    spends its time on small blocks: for 16 heads of 256 x 24 in bfloat16, forward and backward take
    6.6 ms there and 1.7 ms here (one thread). With a mask, the forward of 16 rows of 4 heads of
    256 x 32 takes 33 ms there, and 8.7 ms here (8.2 ms without one).
    """
    batch, num_heads, time, d_head = q.shape
    if k.shape[1] != num_heads:
        k, v = (x.repeat_interleave(num_heads // x.shape[1], dim=1) for x in (k, v))
    q, k, v = (x.reshape(-1, *x.shape[2:]) for x in (q, k, v))
    scale = d_head**-0.5 if scale is None else scale
    blocks = _blocks(time, k.shape[1], window, causal)
    out = _BlockedAttention.apply(q, k, v, mask, blocks, window, scale, softcap)
    return out.view(batch, num_heads, time, v.shape[-1])


# From which query to which, from which key to which. Keys that none of them reads are left out.
Blocks = tuple[tuple[int, int, int, int], ...]


def _blocks(time: int, num_keys: int, window: int | None, causal: bool = True) -> Blocks:
    blocks = []
    # Small ones read few keys in vain: of 4 rows of 4 heads of 512 x 32 with a window of 128,
    # forward and backward take 17 ms so, and 29 ms by the fused kernel with a mask (one thread).
    size = BLOCK if window is None else min(BLOCK, max(BLOCK // 4, window // 2))
    for start in range(0, time, size):
        end = min(start + size, time)
        first = 0 if window is None else max(0, start - window + 1)
        blocks.append((start, end, first, end) if causal else (start, end, 0, num_keys))
    return tuple(blocks)


class _BlockedAttention(torch.autograd.Function):
    """[rows, time, d] each. dS = P (dP - rowsum(P dP)), as in the textbook.

    The scores of a block stay in the cache. Its probabilities are kept for the backward pass where
    all of a row are at most ``SHORT`` x ``SHORT``; else they are made again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        blocks: Blocks,
        window: int | None,
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        out = q.new_empty(*q.shape[:2], v.shape[-1])
        kept: list[Tensor] = []
        is_kept = sum((b - a) * (d - c) for a, b, c, d in blocks) <= SHORT**2
        with torch.autocast(q.device.type, enabled=False):  # it would take softmax to float32
            for block in blocks:
                p, tanh = _probabilities(q, k, mask, block, window, scale, softcap)
                start, end, first, last = block
                torch.bmm(p, v[:, first:last], out=out[:, start:end])
                if is_kept:
                    kept += [p] if tanh is None else [p, tanh]
        ctx.save_for_backward(q, k, v, mask, *kept)
        ctx.settings = blocks, window, scale, softcap
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, *kept = ctx.saved_tensors
        blocks, window, scale, softcap = ctx.settings
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for i, block in enumerate(blocks):
            start, end, first, last = block
            tanh = None
            if not kept:
                p, tanh = _probabilities(q, k, mask, block, window, scale, softcap)
            elif softcap is None:
                p = kept[i]
            else:
                p, tanh = kept[2 * i : 2 * i + 2]
            d_part = d_out[:, start:end]
            dp = torch.bmm(d_part, v[:, first:last].mT)
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            if tanh is not None:
                ds.addcmul_(ds * tanh, tanh, value=-1)
            torch.bmm(ds, k[:, first:last], out=dq[:, start:end])
            dk[:, first:last] += torch.bmm(ds.mT, q[:, start:end])
            dv[:, first:last] += torch.bmm(p.mT, d_part)
        return dq.mul_(scale), dk.mul_(scale), dv, None, None, None, None, None


def _probabilities(
    q: Tensor,
    k: Tensor,
    mask: Tensor | None,
    block: tuple[int, int, int, int],
    window: int | None,
    scale: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor | None]:
    """(of the keys of a block for each of its queries, tanh(scores / softcap) or None)."""
    start, end, first, last = block
    if mask is None:
        table = _unread(end - start, last - first, window, q.dtype, q.device)
    else:
        table = q.new_zeros(())  # never read
    product, tanh = (q[:, start:end], k[:, first:last].mT), None
    if softcap is None:
        scores = torch.baddbmm(table, *product, beta=int(mask is None), alpha=scale)
    else:
        raw = torch.baddbmm(table, *product, beta=0, alpha=scale / softcap)
        # Half precision is too coarse for what a cap of 50 leaves.
        tanh = raw.to(torch.promote_types(q.dtype, torch.float32)).tanh_()
        scores = torch.add(table, tanh, alpha=softcap)
        tanh = tanh.to(q.dtype)
    if mask is not None:  # one of a row is that of all its heads
        heads = scores.unflatten(0, (mask.shape[0], -1))
        heads.add_(mask[:, None, start:end, : last - first])
    return torch.softmax(scores, dim=-1).to(q.dtype), tanh


@remembered
def _unread(
    num_queries: int, num_keys: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """[num_queries, num_keys]: -inf where a query does not read a key; the last ones are level."""
    table = torch.full((num_queries, num_keys), -math.inf, dtype=dtype, device=device)
    later = table.triu(1 + num_keys - num_queries)
    return later if window is None else later + table.tril(num_keys - num_queries - window)


def _blocked_mask(numbers: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """[batch, time, keys of a block] for ``blocked_attention``: 0, or -inf for what is unread."""
    batch, time = numbers.shape
    blocks = _blocks(time, time, window)
    width = max(last - first for _, _, first, last in blocks)
    mask = torch.full((batch, time, width), -math.inf, dtype=dtype, device=numbers.device)
    for start, end, first, last in blocks:
        own = numbers[:, start:end, None] == numbers[:, None, first:last]
        unread = _unread(end - start, last - first, window, dtype, numbers.device)
        part = unread.masked_fill(~own, -math.inf)
        mask[:, start:end, : last - first] = part
    return mask


def _additive(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """0 where a boolean mask lets read, -inf elsewhere, in the dtype of ``like``."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    zeros = torch.zeros(mask.shape, dtype=like.dtype, device=like.device)
    return zeros.masked_fill_(~mask, -math.inf)


def windowed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    mask: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention in ``window`` by queries in blocks of it, each reading its own and the one before.

    So the fused kernel's mask is window x 2 window, whatever the length.
    """
    batch, _, time, _ = q.shape
    seen = _seen_in_blocks(batch, time, window, q.device) if mask is None else mask
    keys, values = (_pairs_of_blocks(x, window) for x in (k, v))
    mixed = masked_attention(_own_blocks(q, window), keys, values, seen, scale, softcap)
    return mixed.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)[:, :, :time]


def paired_mask(numbers: Tensor, window: int) -> Tensor:
    """``document_mask`` for ``windowed_attention``: [batch num_blocks, window, 2 window]."""
    x = numbers[:, None, :, None]
    own, pairs = _own_blocks(x, window)[:, 0], _pairs_of_blocks(x, window)[:, 0]
    return _seen_in_blocks(len(numbers), numbers.shape[1], window, numbers.device) & (
        own == pairs.mT
    )


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


def masked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention where query t of row b reads key s if ``seen[b, t, s]``; the rest as above."""
    k, v = k.to(q.dtype), v.to(q.dtype)
    if softcap is not None:
        return blocked_attention(q, k, v, None, _additive(seen, q), scale, softcap, causal=False)
    return _fused(q, k, v, scale, attn_mask=seen[:, None])


def _fused(q: Tensor, k: Tensor, v: Tensor, scale: float | None, **how: Any) -> Tensor:
    """Torch's attention. Its fused kernels want one width, so zeros fill up the narrower.

    For 8 heads of 2048 queries of 96 channels and values of 64, forward and backward take 2.1 s
    as they are and 0.7 s filled up (one thread).
    """
    d_head, width = q.shape[-1], v.shape[-1]
    if width < d_head:
        v = F.pad(v, (0, d_head - width))
    elif width > d_head:
        q, k = (F.pad(x, (0, width - d_head)) for x in (q, k))
    mixed = F.scaled_dot_product_attention(
        q, k, v, scale=scale or d_head**-0.5, enable_gqa=q.shape[1] != k.shape[1], **how
    )
    return mixed[..., :width]

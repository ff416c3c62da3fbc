"""From one fused projection to the heads of attention: split, norm queries and keys, turn them.

Per head vector x with r = 1 / sqrt(mean(x^2) + eps) (or 1, without norm) and rotation R of its
position: y = R r x. Backward, with g = R^T dy: dx = r g - x r^3 mean(x g).

A step of a small model spends more time on starting such operators than on their arithmetic, so
these are one: norms of queries and keys (Henry et al. 2020, arXiv:2010.04245), rotary positions
(Su et al. 2021, arXiv:2104.09864) and the change of layout to [batch, heads, time, d_head].
"""

import sys
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.kernels.rms_norm import EPS

Heads = tuple[Tensor, Tensor, Tensor]


def split_heads(
    qkv: Tensor, turns: Tensor | None, num_heads: int, num_kv_heads: int, norm: bool
) -> Heads:
    """Queries, keys and values [batch, num_heads or num_kv_heads, time, d_head], contiguous.

    ``qkv`` [batch, time, (num_heads + 2 num_kv_heads) d_head] holds them side by side. ``turns``
    [time or batch x time, d_head / 2] of unit complex numbers turns neighbouring channels of
    queries and keys; None leaves them. ``norm`` scales these to root mean square 1 before.
    """
    return _SplitHeads.apply(qkv, turns, num_heads, num_kv_heads, norm)


class _SplitHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, turns: Tensor | None, num_heads: int, num_kv_heads: int, norm: bool
    ) -> Heads:
        heads = qkv.unflatten(-1, (num_heads + 2 * num_kv_heads, -1))
        forward = kernel_forward if qkv.is_cuda else twin_forward
        ctx.norm, ctx.num_heads = norm, num_heads
        q, k, v, rstd = forward(heads, turns, num_heads, num_kv_heads, norm)
        ctx.save_for_backward(heads if norm else None, turns, rstd)
        return q, k, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        heads, turns, rstd = ctx.saved_tensors
        backward = kernel_backward if gradients[0].is_cuda else twin_backward
        return backward(gradients, heads, turns, rstd).flatten(2), None, None, None, None


def twin_forward(
    heads: Tensor, turns: Tensor | None, num_heads: int, num_kv_heads: int, norm: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """(q, k, v, r in float32 [batch, time, num_heads + num_kv_heads, 1] or None)."""
    turned = heads[:, :, : num_heads + num_kv_heads]
    y, rstd = turned.float(), None
    if norm:
        length = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
        rstd = length.square_().div_(y.shape[-1]).add_(EPS).rsqrt_()
        y = y * rstd
    if turns is not None:
        y = torch.view_as_real(_pairs(y) * turns.unsqueeze(-2)).flatten(-2)
    parts = (y[:, :, :num_heads], y[:, :, num_heads:], heads[:, :, num_heads + num_kv_heads :])
    q, k, v = (_heads_first(part, heads.dtype) for part in parts)
    return q, k, v, rstd


def twin_backward(
    gradients: Heads | tuple[Tensor, ...],
    heads: Tensor | None,
    turns: Tensor | None,
    rstd: Tensor | None,
) -> Tensor:
    """The gradient for ``heads`` [batch, time, all heads, d_head]."""
    dq, dk, dv = gradients
    batch, num_heads, time, d_head = dq.shape
    num_turned = num_heads + dk.shape[1]
    shape = (batch, time, num_turned + dv.shape[1], d_head)
    d_heads = torch.empty(shape, dtype=dq.dtype, device=dq.device)
    d_heads[:, :, num_turned:].copy_(dv.transpose(1, 2))
    g = torch.empty(batch, time, num_turned, d_head, dtype=torch.float32, device=dq.device)
    g[:, :, :num_heads].copy_(dq.transpose(1, 2))
    g[:, :, num_heads:].copy_(dk.transpose(1, 2))
    if turns is not None:
        _pairs(g).mul_(turns.conj().unsqueeze(-2))
    if rstd is not None and heads is not None:
        x = heads[:, :, :num_turned].float()
        slope = (x * g).mean(-1, keepdim=True).mul_(rstd.pow(3))
        g = g.mul_(rstd).addcmul_(x, slope, value=-1)
    d_heads[:, :, :num_turned].copy_(g)
    return d_heads


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


def _heads_first(x: Tensor, dtype: torch.dtype) -> Tensor:
    """[batch, time, heads, d_head] -> [batch, heads, time, d_head], contiguous."""
    batch, time, num_heads, d_head = x.shape
    out = torch.empty(batch, num_heads, time, d_head, dtype=dtype, device=x.device)
    return out.copy_(x.transpose(1, 2))


if sys.platform == "linux":  # Triton has no wheels elsewhere; there the twin is the operator
    import triton
    import triton.language as tl

    @triton.jit
    def _forward_part(  # type: ignore[no-untyped-def]
        heads, turns, out, rstd, time, all_heads, first, part_heads, turned_heads, half, eps,
        norm: tl.constexpr, turn: tl.constexpr, per_row: tl.constexpr, block: tl.constexpr,
    ):  # fmt: skip
        # One program a head of a position; channels 2 i and 2 i + 1 are pair i of ``half``.
        token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
        pair = tl.arange(0, block)
        inside = pair < half
        source = heads + ((token * all_heads + first + head) * half + pair) * 2
        even = tl.load(source, mask=inside, other=0.0).to(tl.float32)
        odd = tl.load(source + 1, mask=inside, other=0.0).to(tl.float32)
        if norm:
            r = 1.0 / tl.sqrt(tl.sum(even * even + odd * odd, axis=0) / (2 * half) + eps)
            tl.store(rstd + token * turned_heads + first + head, r)
            even, odd = even * r, odd * r
        if turn:
            angle = turns + ((token if per_row else token % time) * half + pair) * 2
            cos = tl.load(angle, mask=inside, other=0.0)
            sin = tl.load(angle + 1, mask=inside, other=0.0)
            even, odd = even * cos - odd * sin, even * sin + odd * cos
        row = (token // time * part_heads + head) * time + token % time
        target = out + (row * half + pair) * 2
        tl.store(target, even.to(out.dtype.element_ty), mask=inside)
        tl.store(target + 1, odd.to(out.dtype.element_ty), mask=inside)

    @triton.jit
    def _backward_part(  # type: ignore[no-untyped-def]
        gradient, heads, turns, rstd, d_heads, time, all_heads, first, part_heads, turned_heads,
        half, norm: tl.constexpr, turn: tl.constexpr, per_row: tl.constexpr, block: tl.constexpr,
    ):  # fmt: skip
        token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
        pair = tl.arange(0, block)
        inside = pair < half
        row = (token // time * part_heads + head) * time + token % time
        source = gradient + (row * half + pair) * 2
        even = tl.load(source, mask=inside, other=0.0).to(tl.float32)
        odd = tl.load(source + 1, mask=inside, other=0.0).to(tl.float32)
        if turn:
            angle = turns + ((token if per_row else token % time) * half + pair) * 2
            cos = tl.load(angle, mask=inside, other=0.0)
            sin = tl.load(angle + 1, mask=inside, other=0.0)
            even, odd = even * cos + odd * sin, odd * cos - even * sin
        place = ((token * all_heads + first + head) * half + pair) * 2
        if norm:
            r = tl.load(rstd + token * turned_heads + first + head)
            x_even = tl.load(heads + place, mask=inside, other=0.0).to(tl.float32)
            x_odd = tl.load(heads + place + 1, mask=inside, other=0.0).to(tl.float32)
            slope = tl.sum(x_even * even + x_odd * odd, axis=0) / (2 * half) * r * r * r
            even, odd = even * r - x_even * slope, odd * r - x_odd * slope
        tl.store(d_heads + place, even.to(d_heads.dtype.element_ty), mask=inside)
        tl.store(d_heads + place + 1, odd.to(d_heads.dtype.element_ty), mask=inside)


def kernel_forward(
    heads: Tensor, turns: Tensor | None, num_heads: int, num_kv_heads: int, norm: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """As ``twin_forward``; one launch each for queries, keys and values."""
    heads = heads.contiguous()
    batch, time, all_heads, d_head = heads.shape
    turned = num_heads + num_kv_heads
    rstd = heads.new_empty(batch, time, turned, 1, dtype=torch.float32)
    parts = []
    for first, count in _parts(num_heads, num_kv_heads):
        part = torch.empty(batch, count, time, d_head, dtype=heads.dtype, device=heads.device)
        sizes = (time, all_heads, first, count, turned, d_head // 2)
        _forward_part[(batch * time, count)](
            heads, _angles(turns, heads), part, rstd, *sizes, EPS,
            **_flags(turns, norm, first < turned, d_head),
        )  # fmt: skip
        parts.append(part)
    q, k, v = parts
    return q, k, v, rstd if norm else None


def kernel_backward(
    gradients: Heads | tuple[Tensor, ...],
    heads: Tensor | None,
    turns: Tensor | None,
    rstd: Tensor | None,
) -> Tensor:
    """As ``twin_backward``; one launch each for queries, keys and values."""
    batch, num_heads, time, d_head = gradients[0].shape
    num_kv_heads = gradients[1].shape[1]
    turned, all_heads = num_heads + num_kv_heads, num_heads + 2 * num_kv_heads
    d_heads = gradients[0].new_empty(batch, time, all_heads, d_head)
    norm = rstd is not None
    source = d_heads if heads is None else heads.contiguous()  # not read without a norm
    for gradient, (first, count) in zip(gradients, _parts(num_heads, num_kv_heads), strict=True):
        sizes = (time, all_heads, first, count, turned, d_head // 2)
        _backward_part[(batch * time, count)](
            gradient.contiguous(), source, _angles(turns, d_heads),
            d_heads if rstd is None else rstd, d_heads, *sizes,
            **_flags(turns, norm, first < turned, d_head),
        )  # fmt: skip
    return d_heads


def _parts(num_heads: int, num_kv_heads: int) -> tuple[tuple[int, int], ...]:
    """(first head, number of heads) of queries, keys and values."""
    turned = num_heads + num_kv_heads
    return (0, num_heads), (num_heads, num_kv_heads), (turned, num_kv_heads)


def _angles(turns: Tensor | None, unread: Tensor) -> Tensor:
    """(cosine, sine) pairs in float32; where nothing turns, any tensor, which is not read."""
    return unread if turns is None else torch.view_as_real(turns).contiguous()


def _flags(turns: Tensor | None, norm: bool, turned: bool, d_head: int) -> dict[str, bool | int]:
    return {
        "norm": norm and turned,
        "turn": turns is not None and turned,
        "per_row": turns is not None and turns.ndim == 3,
        "block": triton.next_power_of_2(d_head // 2),
    }

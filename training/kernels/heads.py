"""From a projection to the heads of attention: split, normed, turned, heads before time.

Per head vector x with r = 1 / sqrt(mean(x^2) + eps) (or 1, without norm) and rotation R of its
position: y = R r x. Backward, with g = R^T dy: dx = r g - x r^3 mean(x g).

A step of a small model spends more time on starting such operators than on their arithmetic, so
these are one: the norm of queries and keys (Henry et al. 2020, arXiv:2010.04245), their rotary
positions (Su et al. 2021, arXiv:2104.09864) and the change of layout.
"""

import sys
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.kernels.rms_norm import EPS


def place_heads(x: Tensor, turns: Tensor | None, d_head: int, norm: bool) -> Tensor:
    """Heads [batch, num_heads, time, d_head], contiguous, of ``x`` [batch, time, num_heads d_head].

    ``norm`` scales each to root mean square 1. Then ``turns`` [time or batch x time, d_head / 2]
    of unit complex numbers turns its pairs of neighbouring channels; None leaves them.
    """
    return _PlaceHeads.apply(x, turns, d_head, norm)


class _PlaceHeads(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, turns: Tensor | None, d_head: int, norm: bool) -> Tensor:
        heads = x.unflatten(-1, (-1, d_head))
        y, rstd = (kernel_forward if x.is_cuda else twin_forward)(heads, turns, norm)
        ctx.save_for_backward(heads if norm else None, turns, rstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None]:
        backward = kernel_backward if dy.is_cuda else twin_backward
        return backward(dy, *ctx.saved_tensors).flatten(2), None, None, None


def twin_forward(heads: Tensor, turns: Tensor | None, norm: bool) -> tuple[Tensor, Tensor | None]:
    """(y, r in float32 [batch, time, num_heads, 1] or None) of [batch, time, num_heads, d_head]."""
    y, rstd = heads.float(), None
    if norm:
        length = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
        rstd = length.square_().div_(y.shape[-1]).add_(EPS).rsqrt_()
        y = y * rstd
    if turns is not None:
        y = torch.view_as_real(_pairs(y) * turns.unsqueeze(-2)).flatten(-2)
    batch, time, num_heads, d_head = heads.shape
    out = torch.empty(batch, num_heads, time, d_head, dtype=heads.dtype, device=heads.device)
    return out.copy_(y.transpose(1, 2)), rstd


def twin_backward(
    dy: Tensor, heads: Tensor | None, turns: Tensor | None, rstd: Tensor | None
) -> Tensor:
    """The gradient for ``heads``, [batch, time, num_heads, d_head]."""
    batch, num_heads, time, d_head = dy.shape
    g = torch.empty(batch, time, num_heads, d_head, dtype=torch.float32, device=dy.device)
    g.copy_(dy.transpose(1, 2))
    if turns is not None:
        _pairs(g).mul_(turns.conj().unsqueeze(-2))
    if heads is not None and rstd is not None:
        x = heads.float()
        slope = (x * g).mean(-1, keepdim=True).mul_(rstd.pow(3))
        g = g.mul_(rstd).addcmul_(x, slope, value=-1)
    return g.to(dy.dtype)


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


if sys.platform == "linux":  # Triton has no wheels elsewhere; there the twin is the operator
    import triton
    import triton.language as tl

    @triton.jit
    def _forward(  # type: ignore[no-untyped-def]
        heads, turns, out, rstd, time, num_heads, half, eps,
        norm: tl.constexpr, turn: tl.constexpr, per_row: tl.constexpr, block: tl.constexpr,
    ):  # fmt: skip
        # One program a head of a position; channels 2 i and 2 i + 1 are pair i of ``half``.
        token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
        pair = tl.arange(0, block)
        inside = pair < half
        source = heads + ((token * num_heads + head) * half + pair) * 2
        even = tl.load(source, mask=inside, other=0.0).to(tl.float32)
        odd = tl.load(source + 1, mask=inside, other=0.0).to(tl.float32)
        if norm:
            r = 1.0 / tl.sqrt(tl.sum(even * even + odd * odd, axis=0) / (2 * half) + eps)
            tl.store(rstd + token * num_heads + head, r)
            even, odd = even * r, odd * r
        if turn:
            angle = turns + ((token if per_row else token % time) * half + pair) * 2
            cos = tl.load(angle, mask=inside, other=0.0)
            sin = tl.load(angle + 1, mask=inside, other=0.0)
            even, odd = even * cos - odd * sin, even * sin + odd * cos
        row = (token // time * num_heads + head) * time + token % time
        target = out + (row * half + pair) * 2
        tl.store(target, even.to(out.dtype.element_ty), mask=inside)
        tl.store(target + 1, odd.to(out.dtype.element_ty), mask=inside)

    @triton.jit
    def _backward(  # type: ignore[no-untyped-def]
        dy, heads, turns, rstd, d_heads, time, num_heads, half,
        norm: tl.constexpr, turn: tl.constexpr, per_row: tl.constexpr, block: tl.constexpr,
    ):  # fmt: skip
        token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
        pair = tl.arange(0, block)
        inside = pair < half
        row = (token // time * num_heads + head) * time + token % time
        source = dy + (row * half + pair) * 2
        even = tl.load(source, mask=inside, other=0.0).to(tl.float32)
        odd = tl.load(source + 1, mask=inside, other=0.0).to(tl.float32)
        if turn:
            angle = turns + ((token if per_row else token % time) * half + pair) * 2
            cos = tl.load(angle, mask=inside, other=0.0)
            sin = tl.load(angle + 1, mask=inside, other=0.0)
            even, odd = even * cos + odd * sin, odd * cos - even * sin
        place = ((token * num_heads + head) * half + pair) * 2
        if norm:
            r = tl.load(rstd + token * num_heads + head)
            x_even = tl.load(heads + place, mask=inside, other=0.0).to(tl.float32)
            x_odd = tl.load(heads + place + 1, mask=inside, other=0.0).to(tl.float32)
            slope = tl.sum(x_even * even + x_odd * odd, axis=0) / (2 * half) * r * r * r
            even, odd = even * r - x_even * slope, odd * r - x_odd * slope
        tl.store(d_heads + place, even.to(d_heads.dtype.element_ty), mask=inside)
        tl.store(d_heads + place + 1, odd.to(d_heads.dtype.element_ty), mask=inside)


def kernel_forward(heads: Tensor, turns: Tensor | None, norm: bool) -> tuple[Tensor, Tensor | None]:
    """As ``twin_forward``; one program a head of a position."""
    heads = heads.contiguous()
    batch, time, num_heads, d_head = heads.shape
    out = torch.empty(batch, num_heads, time, d_head, dtype=heads.dtype, device=heads.device)
    rstd = torch.empty(batch, time, num_heads, 1, dtype=torch.float32, device=heads.device)
    _forward[(batch * time, num_heads)](
        heads, _angles(turns, out), out, rstd, time, num_heads, d_head // 2, EPS,
        **_flags(turns, norm, d_head),
    )  # fmt: skip
    return out, rstd if norm else None


def kernel_backward(
    dy: Tensor, heads: Tensor | None, turns: Tensor | None, rstd: Tensor | None
) -> Tensor:
    """As ``twin_backward``; one program a head of a position."""
    dy = dy.contiguous()
    batch, num_heads, time, d_head = dy.shape
    d_heads = torch.empty(batch, time, num_heads, d_head, dtype=dy.dtype, device=dy.device)
    norm = heads is not None and rstd is not None
    x, r = (heads.contiguous(), rstd) if norm else (dy, dy)  # type: ignore[union-attr]
    _backward[(batch * time, num_heads)](
        dy, x, _angles(turns, dy), r, d_heads, time, num_heads, d_head // 2,
        **_flags(turns, norm, d_head),
    )  # fmt: skip
    return d_heads


def _angles(turns: Tensor | None, unread: Tensor) -> Tensor:
    """(cosine, sine) pairs in float32; where nothing turns, any tensor, which is not read."""
    return unread if turns is None else torch.view_as_real(turns).contiguous()


def _flags(turns: Tensor | None, norm: bool, d_head: int) -> dict[str, bool | int]:
    return {
        "norm": norm,
        "turn": turns is not None,
        "per_row": turns is not None and turns.ndim == 3,
        "block": triton.next_power_of_2(d_head // 2),
    }

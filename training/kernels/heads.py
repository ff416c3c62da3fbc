"""From a projection to the heads of attention: split, normed, turned, heads before time.

Per head vector x with r = 1 / sqrt(mean(x^2) + eps) (or 1, without norm), gains w (or 1) and the
rotation R of its position: y = R (w r x). Backward, with u = R^T dy and g = w u:
dx = r g - x r^3 mean(x g), and dw is the sum over heads and positions of r x u.

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


def place_heads(
    x: Tensor,
    turns: Tensor | None,
    d_head: int,
    norm: bool,
    gain: Tensor | None = None,
    eps: float = EPS,
) -> Tensor:
    """Heads [batch, num_heads, time, d_head], contiguous, of ``x`` [batch, time, num_heads d_head].

    ``norm`` scales each to root mean square 1, and by ``gain`` [d_head] where there is one. Then
    ``turns`` [time or batch x time, d_head / 2] of unit complex numbers turns its pairs of
    neighbouring channels; None leaves them.
    """
    return _PlaceHeads.apply(x, turns, d_head, norm, gain, eps)


class _PlaceHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        turns: Tensor | None,
        d_head: int,
        norm: bool,
        gain: Tensor | None,
        eps: float,
    ) -> Tensor:
        heads = x.unflatten(-1, (-1, d_head))
        forward = kernel_forward if x.is_cuda else twin_forward
        y, rstd = forward(heads, turns, norm, gain, eps)
        ctx.save_for_backward(heads if norm else None, turns, rstd, gain)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        backward = kernel_backward if dy.is_cuda else twin_backward
        d_heads, d_gain = backward(dy, *ctx.saved_tensors)
        return d_heads.flatten(2), None, None, None, d_gain, None


def twin_forward(
    heads: Tensor,
    turns: Tensor | None,
    norm: bool,
    gain: Tensor | None = None,
    eps: float = EPS,
) -> tuple[Tensor, Tensor | None]:
    """(y, r [batch, time, num_heads, 1] or None) of ``heads`` [batch, time, num_heads, d_head].

    r is in single precision or that of ``heads``, whichever is wider, in which all is computed.
    """
    y, rstd = heads.to(torch.promote_types(heads.dtype, torch.float32)), None
    if norm:
        length = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
        rstd = length.square_().div_(y.shape[-1]).add_(eps).rsqrt_()
        y = y * rstd
        if gain is not None:
            y.mul_(gain)
    if turns is not None:
        y = torch.view_as_real(_pairs(y) * turns.unsqueeze(-2)).flatten(-2)
    batch, time, num_heads, d_head = heads.shape
    out = torch.empty(batch, num_heads, time, d_head, dtype=heads.dtype, device=heads.device)
    return out.copy_(y.transpose(1, 2)), rstd


def twin_backward(
    dy: Tensor,
    heads: Tensor | None,
    turns: Tensor | None,
    rstd: Tensor | None,
    gain: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The gradients for ``heads``, [batch, time, num_heads, d_head], and for ``gain``."""
    batch, num_heads, time, d_head = dy.shape
    wide = torch.promote_types(dy.dtype, torch.float32)
    g = torch.empty(batch, time, num_heads, d_head, dtype=wide, device=dy.device)
    g.copy_(dy.transpose(1, 2))
    if turns is not None:
        _pairs(g).mul_(turns.conj().unsqueeze(-2))
    d_gain = None
    if heads is not None and rstd is not None:
        x = heads.to(wide)
        if gain is not None:
            product = x * g
            rows = product.view(-1, d_head)
            d_gain = rows.mT.mv(rstd.view(-1)).to(gain.dtype)
            slope = rows.mv(gain.to(wide)).view_as(rstd)
            g.mul_(gain)
        else:
            slope = (x * g).sum(-1, keepdim=True)
        slope.div_(d_head).mul_(rstd.pow(3))
        g = g.mul_(rstd).addcmul_(x, slope, value=-1)
    return g.to(dy.dtype), d_gain


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


if sys.platform == "linux":  # Triton has no wheels elsewhere; there the twin is the operator
    import triton
    import triton.language as tl

    @triton.jit
    def _forward(  # type: ignore[no-untyped-def]
        heads, turns, gain, out, rstd, time, num_heads, half, eps,
        norm: tl.constexpr, gained: tl.constexpr, turn: tl.constexpr, per_row: tl.constexpr,
        block: tl.constexpr,
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
        if gained:
            even *= tl.load(gain + 2 * pair, mask=inside, other=0.0).to(tl.float32)
            odd *= tl.load(gain + 2 * pair + 1, mask=inside, other=0.0).to(tl.float32)
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
        dy, heads, turns, gain, rstd, d_heads, d_gains, time, num_heads, half,
        norm: tl.constexpr, gained: tl.constexpr, turn: tl.constexpr, per_row: tl.constexpr,
        block: tl.constexpr,
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
            if gained:  # a row of its own for each head, added up afterwards
                tl.store(d_gains + place, x_even * even * r, mask=inside)
                tl.store(d_gains + place + 1, x_odd * odd * r, mask=inside)
                even *= tl.load(gain + 2 * pair, mask=inside, other=0.0).to(tl.float32)
                odd *= tl.load(gain + 2 * pair + 1, mask=inside, other=0.0).to(tl.float32)
            slope = tl.sum(x_even * even + x_odd * odd, axis=0) / (2 * half) * r * r * r
            even, odd = even * r - x_even * slope, odd * r - x_odd * slope
        tl.store(d_heads + place, even.to(d_heads.dtype.element_ty), mask=inside)
        tl.store(d_heads + place + 1, odd.to(d_heads.dtype.element_ty), mask=inside)


def kernel_forward(
    heads: Tensor,
    turns: Tensor | None,
    norm: bool,
    gain: Tensor | None = None,
    eps: float = EPS,
) -> tuple[Tensor, Tensor | None]:
    """As ``twin_forward``; one program a head of a position."""
    heads = heads.contiguous()
    batch, time, num_heads, d_head = heads.shape
    out = torch.empty(batch, num_heads, time, d_head, dtype=heads.dtype, device=heads.device)
    rstd = torch.empty(batch, time, num_heads, 1, dtype=torch.float32, device=heads.device)
    _forward[(batch * time, num_heads)](
        heads, _angles(turns, out), out if gain is None else gain, out, rstd,
        time, num_heads, d_head // 2, eps, **_flags(turns, norm, gain, d_head),
    )  # fmt: skip
    return out, rstd if norm else None


def kernel_backward(
    dy: Tensor,
    heads: Tensor | None,
    turns: Tensor | None,
    rstd: Tensor | None,
    gain: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """As ``twin_backward``; one program a head of a position."""
    dy = dy.contiguous()
    batch, num_heads, time, d_head = dy.shape
    d_heads = torch.empty(batch, time, num_heads, d_head, dtype=dy.dtype, device=dy.device)
    norm = heads is not None and rstd is not None
    x, r = (heads.contiguous(), rstd) if norm else (dy, dy)  # type: ignore[union-attr]
    d_gains = d_heads if gain is None else torch.empty_like(d_heads, dtype=torch.float32)
    w = dy if gain is None else gain
    _backward[(batch * time, num_heads)](
        dy, x, _angles(turns, dy), w, r, d_heads, d_gains, time, num_heads, d_head // 2,
        **_flags(turns, norm, gain, d_head),
    )  # fmt: skip
    return d_heads, None if gain is None else d_gains.sum((0, 1, 2)).to(gain.dtype)


def _angles(turns: Tensor | None, unread: Tensor) -> Tensor:
    """(cosine, sine) pairs in float32; where nothing turns, any tensor, which is not read."""
    return unread if turns is None else torch.view_as_real(turns).contiguous()


def _flags(
    turns: Tensor | None, norm: bool, gain: Tensor | None, d_head: int
) -> dict[str, bool | int]:
    return {
        "norm": norm,
        "gained": gain is not None,
        "turn": turns is not None,
        "per_row": turns is not None and turns.ndim == 3,
        "block": triton.next_power_of_2(d_head // 2),
    }

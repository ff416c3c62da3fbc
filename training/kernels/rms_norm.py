"""Root mean square normalisation: w x / sqrt(mean(x^2) + eps) along the last axis.

Zhang and Sennrich 2019, arXiv:1910.07467. With r = 1 / sqrt(mean(x^2) + eps), n = r x and y = w n,
the gradients are dx = r (w dy - n mean(w n dy)) and dw the sum of n dy over rows. Without gains w
only y and r are kept for the backward pass; with them x and r.
"""

import sys
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EPS = 1e-6
SHARES = 512  # programs that each add up gradients of gains: a few for every multiprocessor


def rms_norm(
    x: Tensor, dtype: torch.dtype | None = None, eps: float = EPS, gain: Tensor | None = None
) -> Tensor:
    """``x`` [..., d] with every row scaled to root mean square 1, in ``dtype`` (default: x's).

    ``gain`` [d] multiplies the columns of that.
    """
    return _RmsNorm.apply(x, dtype or x.dtype, eps, gain)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype, eps: float, gain: Tensor | None) -> Tensor:
        y, rstd = (kernel_forward if x.is_cuda else twin_forward)(x, dtype, eps, gain)
        ctx.save_for_backward(y if gain is None else x, rstd, gain)
        ctx.x_dtype = x.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        kept, rstd, gain = ctx.saved_tensors
        backward = kernel_backward if dy.is_cuda else twin_backward
        dx, d_gain = backward(dy, kept, rstd, ctx.x_dtype, gain)
        return dx, None, None, d_gain


def twin_forward(
    x: Tensor, dtype: torch.dtype, eps: float = EPS, gain: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(y in ``dtype``, r in single precision or x's, whichever is wider, [..., 1])."""
    wide = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    rstd = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    if gain is None:
        return torch.mul(x, rstd, out=torch.empty_like(x, dtype=dtype)), rstd
    return (x * rstd).mul_(gain).to(dtype), rstd


def twin_backward(
    dy: Tensor, kept: Tensor, rstd: Tensor, dtype: torch.dtype, gain: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """(dx in ``dtype``, dw or None); ``kept`` is y, or with gains x."""
    d = kept.shape[-1]
    product = torch.mul(kept, dy, out=torch.empty_like(kept, dtype=rstd.dtype))
    if gain is None:
        mean = product.mean(-1, keepdim=True)
        torch.mul(kept, mean, out=product)
        return torch.sub(dy, product, out=product).mul_(rstd).to(dtype), None
    d_gain = product.view(-1, d).mT.mv(rstd.view(-1)).to(gain.dtype)
    slope = product.view(-1, d).mv(gain.to(product.dtype)).view_as(rstd)
    slope.div_(d).mul_(rstd.square())
    torch.mul(dy, gain, out=product).addcmul_(kept, slope, value=-1)
    return product.mul_(rstd).to(dtype), d_gain


if sys.platform == "linux":  # Triton has no wheels elsewhere; there the twin is the operator
    import triton
    import triton.language as tl

    @triton.jit
    def _forward(x, y, gain, rstd, d, eps, gained: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        columns = tl.arange(0, block)
        inside = columns < d
        values = tl.load(x + row * d + columns, mask=inside, other=0.0).to(tl.float32)
        r = 1.0 / tl.sqrt(tl.sum(values * values, axis=0) / d + eps)
        tl.store(rstd + row, r)
        values *= r
        if gained:
            values *= tl.load(gain + columns, mask=inside, other=0.0).to(tl.float32)
        tl.store(y + row * d + columns, values.to(y.dtype.element_ty), mask=inside)

    @triton.jit
    def _backward(  # type: ignore[no-untyped-def]
        dy, kept, gain, rstd, dx, d_gains, rows, d, gained: tl.constexpr, block: tl.constexpr
    ):
        # Every program takes a share of the rows, and adds up what they say of the gains.
        columns = tl.arange(0, block)
        inside = columns < d
        d_gain = tl.zeros((block,), dtype=tl.float32)
        wide = tl.zeros((block,), dtype=tl.int64)  # offsets may pass 2^31
        for row in range(tl.program_id(0), rows, tl.num_programs(0)):
            place = (wide + row) * d + columns
            gradient = tl.load(dy + place, mask=inside, other=0.0).to(tl.float32)
            normed = tl.load(kept + place, mask=inside, other=0.0).to(tl.float32)
            r = tl.load(rstd + row)
            if gained:
                normed *= r
                d_gain += gradient * normed
                gradient *= tl.load(gain + columns, mask=inside, other=0.0).to(tl.float32)
            mean = tl.sum(gradient * normed, axis=0) / d
            change = (gradient - normed * mean) * r
            tl.store(dx + place, change.to(dx.dtype.element_ty), mask=inside)
        if gained:
            tl.store(d_gains + tl.program_id(0) * d + columns, d_gain, mask=inside)


def kernel_forward(
    x: Tensor, dtype: torch.dtype, eps: float = EPS, gain: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As ``twin_forward``; one program a row."""
    x = x.contiguous()
    d = x.shape[-1]
    y = torch.empty_like(x, dtype=dtype)
    rstd = torch.empty(*x.shape[:-1], 1, dtype=torch.float32, device=x.device)
    _forward[(rstd.numel(),)](
        x, y, x if gain is None else gain, rstd, d, eps,
        gained=gain is not None, block=triton.next_power_of_2(d),
    )  # fmt: skip
    return y, rstd


def kernel_backward(
    dy: Tensor, kept: Tensor, rstd: Tensor, dtype: torch.dtype, gain: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """As ``twin_backward``; one program a row, or with gains a share of the rows."""
    dy, kept = dy.contiguous(), kept.contiguous()
    rows, d = rstd.numel(), dy.shape[-1]
    dx = torch.empty_like(dy, dtype=dtype)
    programs = rows if gain is None else min(rows, SHARES)
    d_gains = rstd if gain is None else rstd.new_empty(programs, d)
    _backward[(programs,)](
        dy, kept, rstd if gain is None else gain, rstd, dx, d_gains, rows, d,
        gained=gain is not None, block=triton.next_power_of_2(d),
    )  # fmt: skip
    return dx, None if gain is None else d_gains.sum(0).to(gain.dtype)

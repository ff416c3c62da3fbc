"""Root mean square normalisation without gains: x / sqrt(mean(x^2) + eps) along the last axis.

Zhang and Sennrich 2019, arXiv:1910.07467. With r = 1 / sqrt(mean(x^2) + eps) and y = r x, the
gradient is dx = r (dy - y mean(y dy)): only y and r are kept for the backward pass.
"""

import sys
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EPS = 1e-6


def rms_norm(x: Tensor, dtype: torch.dtype | None = None, eps: float = EPS) -> Tensor:
    """``x`` [..., d] with every row scaled to root mean square 1, in ``dtype`` (default: x's)."""
    return _RmsNorm.apply(x, dtype or x.dtype, eps)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype, eps: float) -> Tensor:
        y, rstd = (kernel_forward if x.is_cuda else twin_forward)(x, dtype, eps)
        ctx.save_for_backward(y, rstd)
        ctx.x_dtype = x.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        y, rstd = ctx.saved_tensors
        backward = kernel_backward if dy.is_cuda else twin_backward
        return backward(dy, y, rstd, ctx.x_dtype), None, None


def twin_forward(x: Tensor, dtype: torch.dtype, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """(y in ``dtype``, r in float32 [..., 1])."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    rstd = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return torch.mul(x, rstd, out=torch.empty_like(x, dtype=dtype)), rstd


def twin_backward(dy: Tensor, y: Tensor, rstd: Tensor, dtype: torch.dtype) -> Tensor:
    """dx in ``dtype``."""
    product = torch.mul(y, dy, out=torch.empty_like(y, dtype=torch.float32))
    mean = product.mean(-1, keepdim=True)
    torch.mul(y, mean, out=product)
    return torch.sub(dy, product, out=product).mul_(rstd).to(dtype)


if sys.platform == "linux":  # Triton has no wheels elsewhere; there the twin is the operator
    import triton
    import triton.language as tl

    @triton.jit
    def _forward(x, y, rstd, d, eps, block: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        columns = tl.arange(0, block)
        inside = columns < d
        values = tl.load(x + row * d + columns, mask=inside, other=0.0).to(tl.float32)
        r = 1.0 / tl.sqrt(tl.sum(values * values, axis=0) / d + eps)
        tl.store(rstd + row, r)
        tl.store(y + row * d + columns, (values * r).to(y.dtype.element_ty), mask=inside)

    @triton.jit
    def _backward(dy, y, rstd, dx, d, block: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        columns = tl.arange(0, block)
        inside = columns < d
        gradient = tl.load(dy + row * d + columns, mask=inside, other=0.0).to(tl.float32)
        normed = tl.load(y + row * d + columns, mask=inside, other=0.0).to(tl.float32)
        mean = tl.sum(gradient * normed, axis=0) / d
        change = (gradient - normed * mean) * tl.load(rstd + row)
        tl.store(dx + row * d + columns, change.to(dx.dtype.element_ty), mask=inside)


def kernel_forward(x: Tensor, dtype: torch.dtype, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """As ``twin_forward``; one program a row."""
    x = x.contiguous()
    d = x.shape[-1]
    y = torch.empty_like(x, dtype=dtype)
    rstd = torch.empty(*x.shape[:-1], 1, dtype=torch.float32, device=x.device)
    _forward[(rstd.numel(),)](x, y, rstd, d, eps, block=triton.next_power_of_2(d))
    return y, rstd


def kernel_backward(dy: Tensor, y: Tensor, rstd: Tensor, dtype: torch.dtype) -> Tensor:
    """As ``twin_backward``; one program a row."""
    dy, y = dy.contiguous(), y.contiguous()
    d = dy.shape[-1]
    dx = torch.empty_like(dy, dtype=dtype)
    _backward[(rstd.numel(),)](dy, y, rstd, dx, d, block=triton.next_power_of_2(d))
    return dx

"""Products of sorted rows with the matrix of their group: what experts compute.

Rows that belong to one group lie next to each other, so nothing is padded and no row is dropped
(Gale et al. 2022, "MegaBlocks", arXiv:2211.15841). How many rows a group has is data, which a
compiler must not ask for: therefore operators of torch, whose inside it does not trace.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

_ALIGNED = 16  # bytes: what the accelerator's product demands of a row


@torch.library.custom_op("tarn::grouped_product", mutates_args=())
def grouped_product(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """Each row times the transposed matrix of its group: [rows, outputs].

    ``rows`` [rows, inputs], those of a group next to each other; ``matrices`` [groups, outputs,
    inputs] of the same dtype; ``ends`` [groups] of int32: behind the last row of each group.
    """
    if _is_native(rows, matrices):
        return F.grouped_mm(rows, matrices.mT, offs=ends)
    out = rows.new_empty(len(rows), matrices.shape[1])
    for group, part in _segments(ends):
        torch.mm(rows[part], matrices[group].mT, out=out[part])
    return out


@torch.library.custom_op("tarn::grouped_gradient", mutates_args=())
def grouped_gradient(d_out: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    """The gradient for the matrices, [groups, outputs, inputs]; 0 for a group without rows."""
    if _is_native(rows, d_out):
        return F.grouped_mm(d_out.mT, rows, offs=ends)
    gradient = rows.new_zeros(len(ends), d_out.shape[1], rows.shape[1])
    for group, part in _segments(ends):
        torch.mm(d_out[part].mT, rows[part], out=gradient[group])
    return gradient


def _is_native(*factors: Tensor) -> bool:
    """Whether torch has one kernel for all groups, which on processors is a loop as well."""
    return all(
        x.is_cuda and x.dtype == torch.bfloat16 and x.shape[-1] * x.itemsize % _ALIGNED == 0
        for x in factors
    )


def _segments(ends: Tensor) -> list[tuple[int, slice]]:
    """(group, its rows) of every group that has some."""
    stops = ends.tolist()
    parts = enumerate(zip([0, *stops], stops, strict=False))
    return [(group, slice(start, stop)) for group, (start, stop) in parts if start < stop]


@grouped_product.register_fake
def _(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], matrices.shape[1])


@grouped_gradient.register_fake
def _(d_out: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(ends.shape[0], d_out.shape[1], rows.shape[1])


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    rows, matrices, ends = ctx.saved_tensors
    d_out = d_out.contiguous()
    wants_rows, wants_matrices, _ = ctx.needs_input_grad
    return (
        grouped_product(d_out, matrices.mT, ends) if wants_rows else None,
        grouped_gradient(d_out, rows, ends) if wants_matrices else None,
        None,
    )


grouped_product.register_autograd(_backward, setup_context=_keep)


@register_flop_formula(torch.ops.tarn.grouped_product)
def _product_flops(
    rows: torch.Size, matrices: torch.Size, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    return 2 * rows[0] * matrices[1] * matrices[2]


@register_flop_formula(torch.ops.tarn.grouped_gradient)
def _gradient_flops(
    d_out: torch.Size, rows: torch.Size, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    return 2 * rows[0] * d_out[1] * rows[1]

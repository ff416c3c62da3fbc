"""A causal filter of a few taps over each channel, which reads nothing from before a document.

y[t, c] = b[c] + sum over j < width of w[c, width - 1 - j] x[t - j, c], of those steps j back that
stay inside the document of t: the newest input meets the last tap, as in ``torch.nn.Conv1d``.

A convolution of torch knows no documents. Summed in float32, or float64 where inputs are.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def short_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    places: Tensor | None = None,
    previous: Tensor | None = None,
) -> Tensor:
    """[batch, time, channels] in x's dtype, of ``x`` of that shape and taps [channels, width].

    ``places`` [batch, time] count positions from the start of their document; [time], or None,
    says that a row is one document. ``previous`` [batch, width - 1, channels] came before ``x``,
    oldest first; None is zeros.
    """
    num_before = weight.shape[1] - 1
    if previous is None:
        longer = F.pad(x, (0, 0, num_before, 0))
    else:
        longer = torch.cat((previous.to(x.dtype), x), dim=1)
    # Rows of one document have nothing but zeros before it.
    per_row = places if places is not None and places.ndim == 2 else None
    return _ShortConvolution.apply(longer, weight, bias, per_row)


class _ShortConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, longer: Tensor, weight: Tensor, bias: Tensor | None, places: Tensor | None
    ) -> Tensor:
        width = weight.shape[1]
        time = longer.shape[1] - width + 1
        wide = torch.promote_types(longer.dtype, torch.float32)
        y = longer[:, width - 1 :] * weight[:, -1].to(wide)
        if bias is not None:
            y = y.add_(bias)
        for back in range(1, width):
            start = width - 1 - back
            tap = weight[:, start].to(wide)
            y = y.addcmul_(longer[:, start : start + time], _reaching(tap, places, back))
        ctx.save_for_backward(longer, weight, places)
        ctx.has_bias = bias is not None
        return y.to(longer.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        longer, weight, places = ctx.saved_tensors
        width, time = weight.shape[1], dy.shape[1]
        wide = torch.promote_types(longer.dtype, torch.float32)
        d_longer = torch.zeros_like(longer, dtype=wide)
        d_taps = []
        for start in range(width):
            tap = weight[:, start].to(wide)
            reached = _reaching(dy.to(wide), places, width - 1 - start)
            d_longer[:, start : start + time].addcmul_(reached, tap)
            d_taps.append((reached * longer[:, start : start + time]).sum((0, 1)))
        d_weight = torch.stack(d_taps, dim=1).to(weight.dtype)
        d_bias = dy.sum((0, 1), dtype=wide).to(weight.dtype) if ctx.has_bias else None
        return d_longer.to(longer.dtype), d_weight, d_bias, None


def _reaching(x: Tensor, places: Tensor | None, back: int) -> Tensor:
    """``x`` [..., channels], and 0 where ``back`` steps lead out of the document."""
    return x if places is None or not back else x * (places >= back)[..., None]

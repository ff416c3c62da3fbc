"""State space duality: the recurrence of Mamba-2, read chunk by chunk as products of matrices.

Dao and Gu 2024, arXiv:2405.21060. Per head, with a step dt_t > 0, a rate a < 0 and vectors B_t and
C_t that the heads of a group share:

    S_t = exp(dt_t a) S_(t-1) + dt_t x_t B_t^T,    y_t = S_t C_t.

So y_i is the sum over j <= i of exp(a (dt_(j+1) + ... + dt_i)) (C_i . B_j) dt_j x_j. Inside a chunk
that is a masked product of matrices (section 6 of the paper); from chunk to chunk the state is
carried. Where a document begins the state is forgotten: pairs of two documents, the state that
enters a chunk, and what leaves it, are masked. All in float32, or float64 where inputs are.
"""

import math

import torch
from torch import Tensor

from training.kernels.chunks import Borders, cut, wide


def ssd(
    x: Tensor,
    dt: Tensor,
    rate: Tensor,
    b: Tensor,
    c: Tensor,
    size: int,
    begins: Tensor | None = None,
    state: Tensor | None = None,
    keep: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """(y, of x's shape, and the state after the last token, or None where it is not to ``keep``).

    ``x`` [batch, time, heads, d_head], ``dt`` [batch, time, heads], ``rate`` [heads], ``b`` and
    ``c`` [batch, time, groups, d_state]; chunks of ``size`` tokens. ``begins``
    [batch, time]: whether a token is its document's first. ``state`` [batch, heads, d_head,
    d_state] is that before the first token; None is nothing read.
    """
    with torch.autocast(x.device.type, enabled=False):
        time = x.shape[1]
        num_groups, step = b.shape[2], wide(dt)
        borders = Borders.find(begins, math.ceil(time / size), size, step)
        # [batch, chunks, groups, heads of a group, size]
        decay = (step * wide(rate)).unflatten(2, (num_groups, -1))
        decay = cut(decay, size, 1).permute(0, 1, 3, 4, 2).cumsum(-1)
        inputs = cut((wide(x) * step[..., None]).unflatten(2, (num_groups, -1)), size, 1)
        b, c = (cut(wide(z), size, 1).transpose(2, 3) for z in (b, c))
        y = _inside(inputs, decay, b, c, borders)
        entered, left = _carry(inputs, decay, b, borders, state, keep)
        if entered is not None:
            read = _read(entered, decay, c, borders)
            y = y + read if read.shape == y.shape else torch.cat((y[:, :1], y[:, 1:] + read), 1)
        return y.flatten(3, 4).flatten(1, 2)[:, :time], left


def ssd_step(
    x: Tensor, dt: Tensor, rate: Tensor, b: Tensor, c: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """(y [batch, heads, d_head], the next state) of one token a row, by the recurrence itself.

    Shapes are those of ``ssd`` without the time.
    """
    with torch.autocast(x.device.type, enabled=False):
        num_groups = b.shape[1]
        step = wide(dt)
        decay = (step * wide(rate)).exp()[..., None, None]
        inputs = (wide(x) * step[..., None]).unflatten(1, (num_groups, -1))
        written = inputs[..., None] * wide(b)[:, :, None, None, :]
        state = torch.addcmul(written.flatten(1, 2), decay, state)
        rows = state.unflatten(1, (num_groups, -1)).flatten(2, 3)
        return (rows @ wide(c)[..., None]).view(x.shape), state


def _inside(inputs: Tensor, decay: Tensor, b: Tensor, c: Tensor, borders: Borders) -> Tensor:
    """[batch, chunks, size, groups, heads, d_head]: what the tokens of a chunk read of each other.

    ``inputs`` of that shape are x dt, ``decay`` [batch, chunks, groups, heads, size] the sums of
    dt a since the chunk began; ``b`` and ``c`` [batch, chunks, groups, size, d_state].
    """
    between = decay[..., :, None] - decay[..., None, :]
    between = between.masked_fill_(~borders.pairs[:, :, None, None], -math.inf).exp_()
    weights = (c @ b.mT)[:, :, :, None] * between
    return (weights @ inputs.permute(0, 1, 3, 4, 2, 5)).permute(0, 1, 4, 2, 3, 5)


def _carry(
    inputs: Tensor,
    decay: Tensor,
    b: Tensor,
    borders: Borders,
    state: Tensor | None,
    keep: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """The states that enter chunks [batch, chunks, groups, heads d_head, d_state], and the last.

    Of all chunks where a ``state`` is given, else of those after the first, None where there are
    no such.
    """
    num_chunks = inputs.shape[1]
    num_summed = num_chunks if keep else num_chunks - 1
    until_end = (decay[..., -1:] - decay).exp() * borders.at_end[:, :, None, None]
    whole = decay[..., -1].exp() * borders.going_on[:, :, None, None, -1]
    summed = (inputs * until_end.permute(0, 1, 4, 2, 3)[..., None])[:, :num_summed]
    # [batch, chunks, groups, heads d_head, d_state]: what each chunk adds by its end
    added = summed.flatten(4, 5).permute(0, 1, 3, 4, 2) @ b[:, :num_summed]
    d_head = inputs.shape[-1]
    now = None
    entered = []
    if state is not None:
        now = wide(state).unflatten(1, (inputs.shape[3], -1)).flatten(2, 3)
        entered.append(now)
    for index, more in enumerate(added.unbind(1)):
        if now is not None:
            more = torch.addcmul(
                more, now, whole[:, index].repeat_interleave(d_head, -1)[..., None]
            )
        now = more
        entered.append(now)
    if keep:
        entered.pop()
    left = None if now is None or not keep else now.unflatten(2, (-1, d_head)).flatten(1, 2)
    return (torch.stack(entered, dim=1) if entered else None), left


def _read(entered: Tensor, decay: Tensor, c: Tensor, borders: Borders) -> Tensor:
    """What tokens read of the states that ``entered`` their chunks, the last so many of all."""
    first = decay.shape[1] - entered.shape[1]
    since = (decay.exp() * borders.going_on[:, :, None, None])[:, first:]
    read = (c[:, first:] @ entered.mT).unflatten(-1, (decay.shape[3], -1))
    return read.transpose(2, 3) * since.permute(0, 1, 4, 2, 3)[..., None]

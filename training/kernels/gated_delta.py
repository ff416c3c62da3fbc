"""The gated delta rule: a matrix of what was read, which forgets and corrects itself.

S_t = a_t S_{t-1} + k_t (b_t (v_t - a_t S_{t-1}^T k_t))^T and out_t = S_t^T q_t: the state decays by
a_t, and what it answers to the key k_t moves by the share b_t towards v_t (Yang et al. 2024,
arXiv:2412.06464). Keys have length 1, so a share of 1 replaces the answer.

Chunk by chunk (Yang et al. 2024, arXiv:2406.06484), with c_i the product of decays from the chunk's
start to i: the corrections d_i that are written depend on those before by the lower triangular
A_ij = b_i (k_i . k_j) c_i / c_j, j < i, and

    d = (I + A)^-1 (b v - b c k S)
    out = c q S + (q k^T c_i / c_j) d
    S' = c_end (S + (k / c)^T d)

All but the products with S is found for all chunks at once. Everything is in float32, or float64
where inputs are; decays are given by logarithms, of which only differences that are at most 0
become powers, so that nothing overflows.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.kernels.chunks import Borders, cut, wide

EPS = 1e-6  # in the squared lengths of queries and keys


def gated_delta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    share: Tensor,
    size: int,
    begins: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """(out [batch, heads, group, time, d_value] in v's dtype, the state after the last token).

    ``q`` and ``k`` [batch, heads, time, d_key], here made of length 1, and q divided by the root
    of d_key after that. ``v`` [batch, heads, group, time, d_value]: each head of keys serves a
    group of heads of values. ``log_decay``, at most 0, and ``share`` [batch, heads, group, time].
    In chunks of ``size`` tokens. ``begins`` [batch, time]: whether a token is its document's first.
    ``state`` [batch, heads, group, d_key, d_value] is of the tokens before; None says that there
    were none and that the state after does not matter: then nothing comes back.
    """
    time = v.shape[3]
    size = min(size, time)
    with torch.autocast(v.device.type, enabled=False):
        queries, keys = (cut(x[:, :, None], size, 3) for x in (_queries(q), _unit(k)))
        values, logs, shares = (cut(wide(x), size, 3) for x in (v, log_decay, share))
        borders = Borders.find(begins, values.shape[3], size, values)
        logs = logs.cumsum(-1)
        apart = ~borders.pairs[:, None, None]
        between = (logs[..., :, None] - logs[..., None, :]).masked_fill(apart, -torch.inf).exp()
        since = logs.exp() * borders.going_on[:, None, None]
        until = (logs[..., -1:] - logs).exp() * borders.at_end[:, None, None]
        first = int(state is None)  # the first chunk that a state enters
        written, read_off = _Corrections.apply(
            shares[..., None] * between * (keys @ keys.mT),
            shares[..., None] * values,
            ((shares * since)[..., None] * keys)[:, :, :, first:],
        )
        corrections, entering, left = _carry(
            written, read_off, until[..., None] * keys, since[..., -1], state
        )
        out = (between * (queries @ keys.mT)) @ torch.stack(corrections, dim=3)
        if entering:
            read = (since[..., None] * queries)[:, :, :, first:] @ torch.stack(entering, dim=3)
            out = out + F.pad(read, (0, 0, 0, 0, first, 0))
        return out.flatten(3, 4)[:, :, :, :time].to(v.dtype), left


def _carry(
    written: Tensor, read_off: Tensor, keys: Tensor, keeps: Tensor, state: Tensor | None
) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
    """(d of every chunk, S that enters each which one enters, S after the last if of use).

    ``written`` is d where no state enters, ``read_off`` what is multiplied with one, ``keys``
    decay to the end of their chunk, ``keeps`` [batch, heads, group, chunks] is what a chunk leaves
    of the state that enters it.
    """
    num_chunks = written.shape[3]
    first = num_chunks - read_off.shape[3]
    entering = [] if state is None else [state]
    corrections = []
    for chunk in range(num_chunks):
        correction = written[:, :, :, chunk]
        if entering:
            correction = correction - read_off[:, :, :, chunk - first] @ entering[-1]
        corrections.append(correction)
        if chunk < num_chunks - first:  # the last state of training is of no use
            after = keys[:, :, :, chunk].mT @ correction
            if entering:
                after = after + keeps[:, :, :, chunk, None, None] * entering[-1]
            entering.append(after)
    left = None if state is None else entering.pop()
    return corrections, entering, left


def gated_delta_step(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, share: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """``gated_delta`` of rows of one token."""
    with torch.autocast(v.device.type, enabled=False):
        key = _unit(k)[:, :, None]
        state = wide(log_decay).exp()[..., None] * state
        correction = wide(share)[..., None] * (wide(v) - key @ state)
        state = state + key.mT @ correction
        return (_queries(q)[:, :, None] @ state).to(v.dtype), state


class _Corrections(torch.autograd.Function):
    """((I + A)^-1 X, (I + A)^-1 Y) of the part of A [..., chunks, size, size] below its diagonal.

    ``y`` may lack the first chunks. With R the result, dX = (I + A)^-T dR and dA = -dX R^T: twice
    the products of the forward pass, where the inverse comes by substitution and is no product.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device).expand_as(a)
        inverse = torch.linalg.solve_triangular(a, one, upper=False, unitriangular=True)
        first = a.shape[-3] - y.shape[-3]
        solved_x, solved_y = inverse @ x, inverse[..., first:, :, :] @ y
        ctx.save_for_backward(inverse, solved_x, solved_y)
        return solved_x, solved_y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_x: Tensor, d_y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inverse, solved_x, solved_y = ctx.saved_tensors
        with torch.autocast(inverse.device.type, enabled=False):
            first = inverse.shape[-3] - solved_y.shape[-3]
            d_x = inverse.mT @ d_x
            d_y = inverse[..., first:, :, :].mT @ d_y
            d_a = d_x @ solved_x.mT
            d_a[..., first:, :, :] += d_y @ solved_y.mT
            return d_a.tril_(-1).neg_(), d_x, d_y


def _unit(x: Tensor) -> Tensor:
    """``x`` [..., channels] with length 1, in float32 at least."""
    x = wide(x)
    return x * (x.square().sum(-1, keepdim=True) + EPS).rsqrt()


def _queries(q: Tensor) -> Tensor:
    return _unit(q) * q.shape[-1] ** -0.5

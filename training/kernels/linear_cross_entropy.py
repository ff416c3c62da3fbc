"""Mean cross-entropy of a linear head, without ever holding all logits.

Logits are made, scored and turned into gradients chunk by chunk of rows, so that memory does not
grow with rows x vocabulary. The gradients of hidden states and head are made in the forward pass
(Hsu et al. 2024, "Liger kernel", arXiv:2410.10989): the logits exist once, and the backward pass is
a multiplication by a scalar.

The operator inside, ``cross_entropy_rows``, reads a chunk of logits and leaves their gradient in
its place; it is the part with a kernel.
"""

import sys
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from datalake.config import Refusal

UNSCORED = -100  # the target of a row that counts for nothing

# Rows of a chunk. Of 1,024 rows of 64 channels and 8k logits, forward and backward in bf16 take
# 36 ms in chunks of 128 and 28 in chunks of 512 on one core: fewer sums of the head's gradient.
# Without gradients, in float32, chunks that stay in its cache are best: 67 ms against 87 of 4,096.
CHUNK_ROWS, SCORED_ROWS = 512, 128


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    chunk_rows: int = CHUNK_ROWS,
    softcap: float | None = None,
) -> Tensor:
    """Mean over rows of -log softmax(hidden @ weight^T)[target], in nats: a float32 scalar.

    ``hidden`` [rows, d_model], ``weight`` [vocab, d_model], ``targets`` [rows] of int64; rows whose
    target is ``UNSCORED`` are left out of the mean. Products run in autocast's dtype where autocast
    is on, sums and losses in float32. ``softcap`` c bounds logits z to c tanh(z / c).
    Refuses no rows at all, since a mean of nothing is undefined.
    """
    if not len(targets):
        raise Refusal("targets must be at least one row, got none")
    return _LinearCrossEntropy.apply(hidden, weight, targets, chunk_rows, softcap)


@torch.no_grad()
def token_nats(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    chunk_rows: int = SCORED_ROWS,
    softcap: float | None = None,
) -> Tensor:
    """Each row's -log softmax(hidden @ weight^T)[target], [rows], in float32; no gradient.

    0 where the target is ``UNSCORED``; ``softcap`` as there.
    """
    nats = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
    unscored = targets == UNSCORED
    places = targets.masked_fill(unscored, 0)[:, None]
    with torch.autocast(hidden.device.type, enabled=False):
        w = weight.float()
        for start in range(0, len(targets), chunk_rows):
            part = slice(start, start + chunk_rows)
            logits = hidden[part].float() @ w.T
            if softcap is not None:
                logits = logits.div_(softcap).tanh_().mul_(softcap)
            own, top = logits.gather(1, places[part]), logits.amax(1, keepdim=True)
            total = logits.sub_(top).exp_().sum(1, keepdim=True)
            nats[part] = (total.log_() + (top - own)).squeeze(1)
    return nats.masked_fill_(unscored, 0)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        chunk: int,
        softcap: float | None,
    ) -> Tensor:
        device = hidden.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else hidden.dtype
        h, w = hidden.to(dtype), weight.to(dtype)
        with torch.autocast(device, enabled=False):  # it would take the softmax to float32
            needs = ctx.needs_input_grad[:2]
            nats, d_hidden, d_weight = _chunked(h, w, targets, chunk, needs, softcap)
        num_scored = (targets != UNSCORED).sum()
        ctx.save_for_backward(d_hidden, d_weight, num_scored)
        ctx.dtypes = hidden.dtype, weight.dtype
        return nats.sum() / num_scored

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        *gradients, num_scored = ctx.saved_tensors
        scale = d_loss / num_scored
        d_hidden, d_weight = (
            None if gradient is None else (gradient * scale).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        )
        return d_hidden, d_weight, None, None, None


def _chunked(
    h: Tensor,
    w: Tensor,
    targets: Tensor,
    chunk: int,
    needs: tuple[bool, bool],
    softcap: float | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Nats [rows], and the gradients of their sum: for ``h`` in its dtype, for ``w`` in float32."""
    rows = len(targets)
    nats = torch.empty(rows, dtype=torch.float32, device=h.device)
    d_hidden = torch.empty_like(h) if needs[0] else None
    d_weight = torch.zeros_like(w, dtype=torch.float32) if needs[1] else None
    for start in range(0, rows, chunk):
        part = slice(start, start + chunk)
        logits, tanh = h[part] @ w.T, None
        if softcap is not None:
            tanh = logits.div_(softcap).tanh_()
            logits = tanh * softcap
        d_logits = cross_entropy_rows(logits, targets[part], nats[part])
        if tanh is not None:
            d_logits.addcmul_(d_logits * tanh, tanh, value=-1)
        if d_hidden is not None:
            torch.mm(d_logits, w, out=d_hidden[part])
        if d_weight is not None:
            d_weight += d_logits.T @ h[part]
    return nats, d_hidden, d_weight


def cross_entropy_rows(logits: Tensor, targets: Tensor, nats: Tensor) -> Tensor:
    """softmax(logits) - one_hot(targets), the gradient for ``logits`` [rows, vocab].

    Each row's -log softmax(logits)[target] is written to ``nats``; ``targets`` and ``nats`` are
    [rows]. Both are 0 where the target is ``UNSCORED``. ``logits`` is spent: its memory may be the
    result's.
    """
    return (kernel_rows if logits.is_cuda else twin_rows)(logits, targets, nats)


def twin_rows(logits: Tensor, targets: Tensor, nats: Tensor) -> Tensor:
    """``cross_entropy_rows`` in plain PyTorch."""
    rows = torch.arange(len(targets), device=logits.device)
    unscored = targets == UNSCORED
    targets = targets.masked_fill(unscored, 0)
    p = torch.softmax(logits, dim=-1)
    p_target = p[rows, targets].float()
    torch.log(p_target, out=nats).neg_()
    lost = p_target < torch.finfo(torch.float32).tiny
    is_traced = torch.compiler.is_compiling()  # then no number of a tensor may decide
    # Beyond 87 nats a probability underflows; its logarithm must not.
    if is_traced:
        exact = logits.float().logsumexp(-1) - logits[rows, targets]
        nats.copy_(torch.where(lost, exact, nats))
    elif lost.any():
        far = logits[lost].float()
        nats[lost] = far.logsumexp(-1) - logits[rows, targets][lost]
    p[rows, targets] -= 1
    if is_traced:
        p.masked_fill_(unscored[:, None], 0)
    else:  # few rows, where a mask reads them all
        p.index_fill_(0, unscored.nonzero().flatten(), 0)
    nats.masked_fill_(unscored, 0)
    return p


if sys.platform == "linux":  # Triton has no wheels elsewhere; there the twin is the operator
    import triton
    import triton.language as tl

    @triton.jit
    def _rows(logits, targets, nats, vocab, unscored: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        logits += row * vocab
        target = tl.load(targets + row)
        scored = target != unscored
        # One pass for the maximum and the sum of exponentials (Milakov and Gimelshein 2018,
        # arXiv:1805.02867), one to write the gradient.
        top = -float("inf")
        total = 0.0
        for start in range(0, vocab, block):
            columns = start + tl.arange(0, block)
            x = tl.load(logits + columns, mask=columns < vocab, other=-float("inf"))
            x = x.to(tl.float32)
            higher = tl.maximum(top, tl.max(x, axis=0))
            total = total * tl.exp(top - higher) + tl.sum(tl.exp(x - higher), axis=0)
            top = higher
        log_total = top + tl.log(total)
        own = tl.load(logits + target, mask=scored, other=0.0).to(tl.float32)
        tl.store(nats + row, tl.where(scored, log_total - own, 0.0))
        tl.debug_barrier()  # the target's logit is read before it is overwritten
        for start in range(0, vocab, block):
            columns = start + tl.arange(0, block)
            x = tl.load(logits + columns, mask=columns < vocab, other=-float("inf"))
            p = tl.exp(x.to(tl.float32) - log_total) - tl.where(columns == target, 1.0, 0.0)
            p = tl.where(scored, p, 0.0)
            tl.store(logits + columns, p.to(logits.dtype.element_ty), mask=columns < vocab)


def kernel_rows(logits: Tensor, targets: Tensor, nats: Tensor) -> Tensor:
    """``cross_entropy_rows`` in place, one program a row; ``logits`` must be contiguous."""
    rows, vocab = logits.shape
    block = min(4096, triton.next_power_of_2(vocab))
    _rows[(rows,)](logits, targets, nats, vocab, unscored=UNSCORED, block=block)
    return logits

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.kernels.heads import (
    kernel_backward,
    kernel_forward,
    split_heads,
    twin_backward,
    twin_forward,
)
from training.kernels.rms_norm import EPS

BATCH, TIME = 2, 5
SHAPES = [(4, 4, 6), (4, 2, 8), (3, 1, 2)]  # num_heads, num_kv_heads, d_head


def angles(*shape: int) -> Tensor:
    return torch.polar(torch.ones(shape), 10 * torch.randn(shape))


def case(shape: tuple[int, int, int], per_row: bool) -> tuple[Tensor, Tensor]:
    num_heads, num_kv_heads, d_head = shape
    qkv = torch.randn(BATCH, TIME, (num_heads + 2 * num_kv_heads) * d_head, requires_grad=True)
    rows = (BATCH,) if per_row else ()
    return qkv, angles(*rows, TIME, d_head // 2)


def reference(
    qkv: Tensor, turns: Tensor | None, num_heads: int, num_kv_heads: int, norm: bool
) -> tuple[Tensor, ...]:
    """The same from separate operators."""
    heads = qkv.unflatten(-1, (num_heads + 2 * num_kv_heads, -1))
    q, k, v = heads.split((num_heads, num_kv_heads, num_kv_heads), dim=2)
    if norm:
        q, k = (F.rms_norm(x, x.shape[-1:], eps=EPS) for x in (q, k))
    if turns is not None:
        cos, sin = turns.real.unsqueeze(-2), turns.imag.unsqueeze(-2)

        def turned(x: Tensor) -> Tensor:
            even, odd = x[..., ::2], x[..., 1::2]
            return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)

        q, k = turned(q), turned(k)
    return tuple(x.transpose(1, 2) for x in (q, k, v))


def test_turning_keeps_lengths_and_depends_on_the_difference_of_positions_alone() -> None:
    q = torch.randn(1, 1, 12).repeat(1, TIME, 3)  # the same vector as query, key and value
    steps = torch.arange(TIME)[:, None] * torch.randn(6)
    q, k, v = split_heads(q, torch.polar(torch.ones_like(steps), steps), 1, 1, False)
    torch.testing.assert_close(q.norm(dim=-1), v.norm(dim=-1))
    scores = (q @ k.mT)[0, 0]
    torch.testing.assert_close(scores.diagonal(1)[1:], scores.diagonal(1)[:-1])
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1])


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradient_equal_those_of_separate_operators(
    shape: tuple[int, int, int], norm: bool, turn: bool, per_row: bool
) -> None:
    qkv, turns = case(shape, per_row)
    settings = (turns if turn else None, *shape[:2], norm)
    ours, plain = split_heads(qkv, *settings), reference(qkv, *settings)
    gradients = [torch.randn_like(x) for x in plain]
    torch.testing.assert_close(ours, plain, check_stride=False)
    torch.testing.assert_close(
        torch.autograd.grad(ours, qkv, gradients), torch.autograd.grad(plain, qkv, gradients)
    )


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_equals_its_twin(
    shape: tuple[int, int, int], norm: bool, turn: bool, per_row: bool, device: str
) -> None:
    qkv, turns = case(shape, per_row)
    heads = qkv.detach().unflatten(-1, (shape[0] + 2 * shape[1], -1)).to(device)
    used = turns.to(device) if turn else None
    *twin, twin_rstd = twin_forward(heads, used, *shape[:2], norm)
    *kernel, kernel_rstd = kernel_forward(heads, used, *shape[:2], norm)
    torch.testing.assert_close(kernel, twin)
    if norm:
        torch.testing.assert_close(kernel_rstd, twin_rstd)
    gradients = tuple(torch.randn_like(x) for x in twin)
    kept = heads if norm else None
    torch.testing.assert_close(
        kernel_backward(gradients, kept, used, kernel_rstd),
        twin_backward(gradients, kept, used, twin_rstd),
    )

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.kernels.heads import (
    kernel_backward,
    kernel_forward,
    place_heads,
    twin_backward,
    twin_forward,
)
from training.kernels.rms_norm import EPS

BATCH, TIME = 2, 5
variants = [
    pytest.mark.parametrize("per_row", [False, True]),
    pytest.mark.parametrize("turn", [False, True]),
    pytest.mark.parametrize(("norm", "gained"), [(False, False), (True, False), (True, True)]),
    pytest.mark.parametrize(("num_heads", "d_head"), [(4, 6), (1, 8), (3, 2)]),
]


def every_variant(test):  # type: ignore[no-untyped-def]
    for mark in variants:
        test = mark(test)
    return test


def gains(gained: bool, d_head: int) -> Tensor | None:
    return torch.randn(d_head, requires_grad=True) if gained else None


def case(num_heads: int, d_head: int, turn: bool, per_row: bool) -> tuple[Tensor, Tensor | None]:
    x = torch.randn(BATCH, TIME, num_heads * d_head, requires_grad=True)
    shape = (BATCH, TIME, d_head // 2) if per_row else (TIME, d_head // 2)
    turns = torch.polar(torch.ones(shape), 10 * torch.randn(shape))
    return x, turns if turn else None


def assert_gradients_close(ours: Tensor, twin: Tensor, rstd: Tensor | None) -> None:
    """Equal up to rounding, which the norm of a short head scales with what it multiplies by."""
    scale = 1.0 if rstd is None else max(1.0, float(rstd.max()))
    torch.testing.assert_close(ours, twin, rtol=1e-5, atol=1e-5 * scale)


def separate_operators(
    x: Tensor,
    turns: Tensor | None,
    d_head: int,
    norm: bool,
    gain: Tensor | None = None,
    eps: float = EPS,
) -> Tensor:
    heads = x.unflatten(-1, (-1, d_head))
    if norm:
        heads = F.rms_norm(heads, (d_head,), gain, eps)
    if turns is not None:
        cos, sin = turns.real.unsqueeze(-2), turns.imag.unsqueeze(-2)
        even, odd = heads[..., ::2], heads[..., 1::2]
        heads = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
    return heads.transpose(1, 2)


def test_turning_keeps_lengths_and_depends_on_the_difference_of_positions_alone() -> None:
    x = torch.randn(1, 1, 12).expand(1, TIME, 12)  # the same vector everywhere
    steps = torch.arange(TIME)[:, None] * torch.randn(6)
    turned = place_heads(x, torch.polar(torch.ones_like(steps), steps), 12, False)
    torch.testing.assert_close(turned.norm(dim=-1)[0, 0], x.norm(dim=-1)[0])
    scores = (turned @ turned.mT)[0, 0]
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1])
    assert not torch.allclose(scores[0, :-1], scores[0, 1:])


@every_variant
def test_output_and_gradient_equal_those_of_separate_operators(
    num_heads: int, d_head: int, norm: bool, turn: bool, per_row: bool, gained: bool
) -> None:
    gain = gains(gained, d_head)
    x, turns = case(num_heads, d_head, turn, per_row)
    ours = place_heads(x, turns, d_head, norm, gain)
    plain = separate_operators(x, turns, d_head, norm, gain)
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, plain, check_stride=False)
    dy = torch.randn_like(plain)
    heads = x.detach().unflatten(-1, (-1, d_head))
    rstd = heads.square().mean(-1).add(EPS).rsqrt() if norm else None
    inputs = (x,) if gain is None else (x, gain)
    ours_dx, plain_dx = (torch.autograd.grad(y, inputs, dy) for y in (ours, plain))
    for gradient, reference in zip(ours_dx, plain_dx, strict=True):
        assert_gradients_close(gradient, reference, rstd)


def test_what_is_added_to_the_mean_square_counts_for_short_vectors() -> None:
    x = 1e-3 * torch.randn(BATCH, TIME, 12, requires_grad=True)
    gain = gains(True, 6)
    for eps in (1e-6, 1e-5, 0.1):
        ours = place_heads(x, None, 6, True, gain, eps)
        torch.testing.assert_close(ours, separate_operators(x, None, 6, True, gain, eps))
        assert ours.is_contiguous()


def test_half_precision_is_computed_in_single() -> None:
    x, turns = case(4, 32, True, False)
    half = x.detach().bfloat16()
    exact = place_heads(half.float(), turns, 32, True)
    ours = place_heads(half, turns, 32, True)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, exact.bfloat16())


@every_variant
def test_the_kernel_equals_its_twin(
    num_heads: int, d_head: int, norm: bool, turn: bool, per_row: bool, gained: bool, device: str
) -> None:
    gain = gains(gained, d_head)
    gain = None if gain is None else gain.detach().to(device)
    x, turns = case(num_heads, d_head, turn, per_row)
    heads = x.detach().unflatten(-1, (-1, d_head)).to(device)
    turns = None if turns is None else turns.to(device)
    twin, twin_rstd = twin_forward(heads, turns, norm, gain, 1e-5)
    kernel, kernel_rstd = kernel_forward(heads, turns, norm, gain, 1e-5)
    torch.testing.assert_close(kernel, twin)
    torch.testing.assert_close(kernel_rstd, twin_rstd)
    dy, kept = torch.randn_like(twin), heads if norm else None
    ours, ours_gain = kernel_backward(dy, kept, turns, kernel_rstd, gain)
    reference, reference_gain = twin_backward(dy, kept, turns, twin_rstd, gain)
    assert_gradients_close(ours, reference, twin_rstd)
    torch.testing.assert_close(ours_gain, reference_gain, atol=1e-4, rtol=1e-4)

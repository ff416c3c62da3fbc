import pytest
import torch
import torch.nn.functional as F

from training.kernels.rms_norm import (
    EPS,
    kernel_backward,
    kernel_forward,
    rms_norm,
    twin_backward,
    twin_forward,
)


def test_every_row_has_root_mean_square_one() -> None:
    y = rms_norm(torch.randn(5, 3, 24) * 100)
    torch.testing.assert_close(y.square().mean(-1), torch.ones(5, 3))


def test_the_scale_of_the_input_does_not_matter() -> None:
    x = torch.randn(4, 16)
    torch.testing.assert_close(rms_norm(x), rms_norm(1000 * x))


def test_a_row_of_zeros_stays_zero_with_finite_gradients() -> None:
    x = torch.zeros(2, 8, requires_grad=True)
    y = rms_norm(x)
    y.sum().backward()
    assert not y.any()
    assert x.grad is not None and x.grad.isfinite().all()


def test_output_and_gradient_equal_those_of_the_formula() -> None:
    x = torch.randn(3, 5, 7, requires_grad=True)
    dy = torch.randn(3, 5, 7)
    (ours,) = torch.autograd.grad(rms_norm(x), x, dy)
    plain = F.rms_norm(x, (7,), eps=EPS)
    (reference,) = torch.autograd.grad(plain, x, dy)
    torch.testing.assert_close(rms_norm(x), plain)
    torch.testing.assert_close(ours, reference)


def test_half_precision_output_has_a_single_precision_gradient() -> None:
    x = torch.randn(3, 64, requires_grad=True)
    y = rms_norm(x, torch.bfloat16)
    assert y.dtype == torch.bfloat16
    dy = torch.randn(3, 64)
    y.backward(dy.bfloat16())
    assert x.grad is not None and x.grad.dtype == torch.float32
    (reference,) = torch.autograd.grad(rms_norm(x), x, dy)
    torch.testing.assert_close(x.grad, reference, atol=3e-2, rtol=3e-2)


@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_gains_and_their_gradient_are_those_of_the_formula(eps: float) -> None:
    x = torch.randn(3, 5, 7, requires_grad=True)
    gain = torch.randn(7, requires_grad=True)
    dy = torch.randn(3, 5, 7)
    ours, plain = rms_norm(x, None, eps, gain), F.rms_norm(x, (7,), gain, eps)
    torch.testing.assert_close(ours, plain)
    gradients = [torch.autograd.grad(y, (x, gain), dy) for y in (ours, plain)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gained", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 5, 24), (4, 96), (2, 129)])
def test_the_kernel_equals_its_twin(shape: tuple[int, ...], gained: bool, device: str) -> None:
    x, dy = torch.randn(shape, device=device), torch.randn(shape, device=device)
    gain = torch.randn(shape[-1], device=device) if gained else None
    y, rstd = twin_forward(x, torch.float32, EPS, gain)
    kernel_y, kernel_rstd = kernel_forward(x, torch.float32, EPS, gain)
    torch.testing.assert_close(kernel_y, y)
    torch.testing.assert_close(kernel_rstd, rstd)
    kept = x if gained else y
    ours = kernel_backward(dy, kept, rstd, torch.float32, gain)
    torch.testing.assert_close(ours, twin_backward(dy, kept, rstd, torch.float32, gain))


def test_the_kernel_adds_up_gains_over_more_rows_than_programs(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.kernels.rms_norm.SHARES", 3)
    x, dy, gain = (torch.randn(shape, device=device) for shape in ((11, 6), (11, 6), (6,)))
    _, rstd = twin_forward(x, torch.float32, EPS, gain)
    ours = kernel_backward(dy, x, rstd, torch.float32, gain)
    torch.testing.assert_close(ours, twin_backward(dy, x, rstd, torch.float32, gain))


def test_the_kernel_reads_rows_that_are_not_contiguous(device: str) -> None:
    x = torch.randn(6, 4, device=device).T
    y, rstd = twin_forward(x, torch.float32)
    torch.testing.assert_close(kernel_forward(x, torch.float32)[0], y)
    dx, _ = kernel_backward(x, y, rstd, torch.float32)
    torch.testing.assert_close(dx, twin_backward(x, y, rstd, torch.float32)[0])

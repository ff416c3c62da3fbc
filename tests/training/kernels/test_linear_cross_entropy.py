import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from datalake.config import Refusal
from training.kernels.linear_cross_entropy import (
    UNSCORED,
    kernel_rows,
    linear_cross_entropy,
    token_nats,
    twin_rows,
)

ROWS, D, VOCAB = 29, 12, 53


def case() -> tuple[Tensor, Tensor, Tensor]:
    hidden = torch.randn(ROWS, D, requires_grad=True)
    weight = torch.randn(VOCAB, D, requires_grad=True)
    return hidden, weight, torch.randint(VOCAB, (ROWS,))


def test_a_head_of_zeros_is_as_surprised_as_the_vocabulary_is_large() -> None:
    hidden, _, targets = case()
    loss = linear_cross_entropy(hidden, torch.zeros(VOCAB, D), targets)
    assert loss.item() == pytest.approx(math.log(VOCAB))


@pytest.mark.parametrize("chunk_rows", [1, 7, ROWS, 1000])
def test_loss_and_gradients_equal_plain_cross_entropy_in_any_chunks(chunk_rows: int) -> None:
    hidden, weight, targets = case()
    plain = 3 * F.cross_entropy(hidden @ weight.T, targets)
    reference = torch.autograd.grad(plain, (hidden, weight))
    loss = 3 * linear_cross_entropy(hidden, weight, targets, chunk_rows)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(torch.autograd.grad(loss, (hidden, weight)), reference)


@pytest.mark.parametrize("chunk_rows", [1, 7, 1000])
def test_capped_logits_have_the_loss_and_the_slopes_of_the_formula(chunk_rows: int) -> None:
    hidden, weight, targets = case()
    targets[::5] = UNSCORED
    logits = 3 * torch.tanh(hidden @ weight.T / 3)
    plain = F.cross_entropy(logits, targets, ignore_index=UNSCORED)
    loss = linear_cross_entropy(hidden, weight, targets, chunk_rows, softcap=3.0)
    torch.testing.assert_close(loss, plain)
    gradients = torch.autograd.grad(loss, (hidden, weight))
    torch.testing.assert_close(gradients, torch.autograd.grad(plain, (hidden, weight)))
    nats = token_nats(hidden, weight, targets, chunk_rows, softcap=3.0)
    torch.testing.assert_close(nats.sum() / (targets != UNSCORED).sum(), plain.detach())


@pytest.mark.parametrize("chunk_rows", [1, 7, 1000])
def test_unscored_rows_count_for_nothing(chunk_rows: int) -> None:
    hidden, weight, targets = case()
    targets[::3] = UNSCORED
    plain = 3 * F.cross_entropy(hidden @ weight.T, targets, ignore_index=UNSCORED)
    loss = 3 * linear_cross_entropy(hidden, weight, targets, chunk_rows)
    torch.testing.assert_close(loss, plain)
    gradients = torch.autograd.grad(loss, (hidden, weight))
    torch.testing.assert_close(gradients, torch.autograd.grad(plain, (hidden, weight)))
    assert (token_nats(hidden, weight, targets)[::3] == 0).all()


@pytest.mark.parametrize("frozen", ["hidden", "weight", "both"])
def test_what_needs_no_gradient_gets_none(frozen: str) -> None:
    hidden, weight, targets = case()
    reference = F.cross_entropy(hidden @ weight.T, targets)
    hidden.requires_grad_(frozen == "weight")
    weight.requires_grad_(frozen == "hidden")
    loss = linear_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(loss, reference.detach(), check_stride=False)
    assert loss.requires_grad == (frozen != "both")
    if frozen != "both":
        loss.backward()
        assert (hidden.grad is None) == (frozen == "hidden")
        assert (weight.grad is None) == (frozen == "weight")


def test_a_token_that_is_almost_impossible_has_its_exact_loss_and_gradient() -> None:
    hidden = torch.tensor([[500.0], [-500.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0]])
    loss = linear_cross_entropy(hidden, weight, torch.tensor([1, 1]))
    loss.backward()
    assert loss.item() == 250.0
    torch.testing.assert_close(hidden.grad, torch.tensor([[0.5], [0.0]]))


def test_autocast_gives_the_loss_of_single_precision_within_its_rounding() -> None:
    hidden, weight, targets = case()
    exact = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets), (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, targets)
    assert loss.dtype == torch.float32
    rounded = torch.autograd.grad(loss, (hidden, weight))
    for ours, reference in zip(rounded, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, reference, atol=2e-3, rtol=5e-2)


def test_no_more_than_a_chunk_of_logits_exists_at_once() -> None:
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if not func.is_view and isinstance(out, Tensor) and out.shape[-1:] == (VOCAB,):
                largest = max(largest, out.numel())
            return out

    hidden, weight, targets = case()
    with Watch():
        linear_cross_entropy(hidden, weight, targets, chunk_rows=4).backward()
    assert largest == 4 * VOCAB


def test_token_nats_are_the_terms_of_the_mean() -> None:
    hidden, weight, targets = case()
    nats = token_nats(hidden, weight, targets, chunk_rows=5)
    torch.testing.assert_close(
        nats, F.cross_entropy(hidden @ weight.T, targets, reduction="none").detach()
    )
    assert not nats.requires_grad


def test_token_nats_are_exact_under_autocast() -> None:
    hidden, weight, targets = case()
    with torch.autocast("cpu", torch.bfloat16):
        nats = token_nats(hidden, weight, targets)
    torch.testing.assert_close(nats, token_nats(hidden, weight, targets), atol=0, rtol=0)


def test_a_mean_of_no_targets_is_refused() -> None:
    hidden, weight, targets = case()
    with pytest.raises(Refusal, match="targets must be at least one row, got none"):
        linear_cross_entropy(hidden[:0], weight, targets[:0])


@pytest.mark.parametrize("vocab", [2, 53, 4097])
def test_the_kernel_equals_its_twin(vocab: int, device: str) -> None:
    logits = 5 * torch.randn(5, vocab, device=device)
    targets = torch.randint(vocab, (5,), device=device)
    targets[:3] = torch.tensor([0, vocab - 1, UNSCORED])
    nats = torch.full((2, 5), math.nan, device=device)
    reference = twin_rows(logits.clone(), targets, nats[0])
    gradient = kernel_rows(logits.clone(), targets, nats[1])
    torch.testing.assert_close(nats[1], nats[0])
    torch.testing.assert_close(gradient, reference)


def test_the_kernel_survives_logits_that_overflow_an_exponential(device: str) -> None:
    logits = torch.tensor([[1000.0, 0.0, -1000.0]], device=device)
    nats = torch.full((1,), math.nan, device=device)
    gradient = kernel_rows(logits, torch.tensor([2], device=device), nats)
    assert nats.item() == 2000.0
    torch.testing.assert_close(gradient, torch.tensor([[1.0, 0.0, -1.0]], device=device))


def test_the_kernel_follows_a_maximum_that_rises_from_block_to_block(device: str) -> None:
    logits = torch.linspace(-40, 40, 9_000, device=device)[None]
    targets = torch.tensor([8_000], device=device)
    nats = torch.full((2, 1), math.nan, device=device)
    reference = twin_rows(logits.clone(), targets, nats[0])
    torch.testing.assert_close(kernel_rows(logits.clone(), targets, nats[1]), reference)
    torch.testing.assert_close(nats[1], nats[0])

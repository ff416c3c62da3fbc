import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.kernels.attention import SHORT, causal_attention, masked_attention, short_attention


def heads(time: int, num_kv_heads: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(2, 4, time, 8, requires_grad=True)
    k, v = (torch.randn(2, num_kv_heads, time, 8, requires_grad=True) for _ in range(2))
    return q, k, v


def textbook(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v, with every step written out."""
    group, time = q.shape[1] // k.shape[1], q.shape[2]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.mT / q.shape[-1] ** 0.5
    age = torch.arange(time)[:, None] - torch.arange(time)
    hidden = (age < 0) | (age >= (window or time))
    return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v


def assert_equal_with_gradients(
    ours: Tensor, reference: Tensor, inputs: tuple[Tensor, ...]
) -> None:
    torch.testing.assert_close(ours, reference)
    weight = torch.randn_like(reference)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, weight), torch.autograd.grad(reference, inputs, weight)
    )


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("time", [1, 17, 300])
@pytest.mark.parametrize("window", [None, 1, 5, 16, 17])
def test_attention_is_the_textbook_formula(
    time: int, num_kv_heads: int, window: int | None
) -> None:
    qkv = heads(time, num_kv_heads)
    ours, reference = causal_attention(*qkv, window), textbook(*qkv, window)
    assert_equal_with_gradients(ours, reference, qkv)


def test_short_attention_equals_the_fused_kernel() -> None:
    qkv = heads(time=600)
    fused = F.scaled_dot_product_attention(*qkv, is_causal=True)
    assert_equal_with_gradients(short_attention(*qkv), fused, qkv)


def test_long_sequences_go_to_the_fused_kernel_with_the_same_result() -> None:
    qkv = heads(time=SHORT + 1, num_kv_heads=2)
    assert_equal_with_gradients(causal_attention(*qkv), textbook(*qkv, None), qkv)


def test_short_attention_in_half_precision_is_near_the_exact_one() -> None:
    qkv = heads(time=64)
    exact = textbook(*qkv, None)
    weight = torch.randn_like(exact)
    halves = tuple(x.detach().bfloat16().requires_grad_() for x in qkv)
    out = short_attention(*halves)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.05)
    gradients = torch.autograd.grad(out, halves, weight.bfloat16())
    for ours, reference in zip(gradients, torch.autograd.grad(exact, qkv, weight), strict=True):
        torch.testing.assert_close(ours.float(), reference, atol=0.1, rtol=0.1)


def test_a_mask_decides_per_row_what_is_read() -> None:
    q, k, v = heads(time=3)
    seen = torch.zeros(2, 3, 3, dtype=torch.bool)
    seen[0, :, 1] = seen[1, :, 2] = True
    out = masked_attention(q, k, v, seen)
    torch.testing.assert_close(out[0], v[0, :, 1:2].expand(4, 3, 8))
    torch.testing.assert_close(out[1], v[1, :, 2:3].expand(4, 3, 8))


def test_a_window_needs_no_mask_over_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []

    def watch(*args: Tensor, attn_mask: Tensor, **rest: object) -> Tensor:
        masks.append(attn_mask.shape[-2:])
        return fused(*args, attn_mask=attn_mask, **rest)

    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", watch)
    causal_attention(*heads(time=300), window=16)
    assert masks == [(16, 32)]

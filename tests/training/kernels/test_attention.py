import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from training.kernels.attention import (
    SHORT,
    blocked_attention,
    causal_attention,
    document_mask,
    masked_attention,
    paired_mask,
    visible,
    windowed_attention,
)


def heads(time: int, num_kv_heads: int = 4, d_value: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(2, 4, time, 8, requires_grad=True)
    k = torch.randn(2, num_kv_heads, time, 8, requires_grad=True)
    v = torch.randn(2, num_kv_heads, time, d_value, requires_grad=True)
    return q, k, v


def documents(time: int) -> Tensor:
    """Numbers [2, time] of documents of all lengths."""
    return torch.stack([(torch.arange(time) / n).sqrt().long() for n in (3, 50)])


def textbook(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int | None,
    numbers: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """softmax(cap(scale q k^T) + mask) v, with every step written out."""
    group, time = q.shape[1] // k.shape[1], q.shape[2]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.mT * (scale or q.shape[-1] ** -0.5)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    age = torch.arange(time)[:, None] - torch.arange(time)
    hidden = (age < 0) | (age >= (window or time))
    if numbers is not None:
        hidden = hidden | (numbers[:, None, :, None] != numbers[:, None, None, :])
    return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v


def assert_equal_with_gradients(
    ours: Tensor, reference: Tensor, inputs: tuple[Tensor, ...]
) -> None:
    torch.testing.assert_close(ours, reference)
    weight = torch.randn_like(reference)
    gradients = [torch.autograd.grad(y, inputs, weight) for y in (ours, reference)]
    torch.testing.assert_close(*gradients, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
@pytest.mark.parametrize("time", [1, 17, 300])
@pytest.mark.parametrize("window", [None, 1, 5, 16, 17])
def test_attention_is_the_textbook_formula(
    time: int, num_kv_heads: int, window: int | None
) -> None:
    qkv = heads(time, num_kv_heads)
    ours, reference = causal_attention(*qkv, window), textbook(*qkv, window)
    assert_equal_with_gradients(ours, reference, qkv)


def test_blocked_attention_equals_the_fused_kernel() -> None:
    qkv = heads(time=600)
    fused = F.scaled_dot_product_attention(*qkv, is_causal=True)
    assert_equal_with_gradients(blocked_attention(*qkv), fused, qkv)


def test_long_sequences_go_to_the_fused_kernel_with_the_same_result() -> None:
    qkv = heads(time=SHORT + 1, num_kv_heads=2)
    assert_equal_with_gradients(causal_attention(*qkv), textbook(*qkv, None), qkv)


def test_blocked_attention_in_half_precision_is_near_the_exact_one() -> None:
    qkv = heads(time=64)
    exact = textbook(*qkv, None)
    weight = torch.randn_like(exact)
    halves = tuple(x.detach().bfloat16().requires_grad_() for x in qkv)
    out = blocked_attention(*halves)
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


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("with_documents", [False, True])
@pytest.mark.parametrize("window", [None, 5, 80, 257])
@pytest.mark.parametrize("time", [17, 300, pytest.param(SHORT + 1, marks=pytest.mark.slow)])
def test_scale_and_cap_of_scores_hold_with_every_window_and_documents(
    time: int, window: int | None, with_documents: bool, softcap: float | None
) -> None:
    qkv = heads(time, num_kv_heads=2)
    numbers = documents(time) if with_documents else None
    mask = None if numbers is None else document_mask(numbers, window, torch.float32)
    ours = causal_attention(*qkv, window, mask, 0.9, softcap)
    assert_equal_with_gradients(ours, textbook(*qkv, window, numbers, 0.9, softcap), qkv)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("with_documents", [False, True])
@pytest.mark.parametrize("window", [1, 5, 16, 40])
def test_pairs_of_blocks_equal_the_textbook(
    window: int, with_documents: bool, softcap: float | None
) -> None:
    qkv, numbers = heads(41, num_kv_heads=2), documents(41) if with_documents else None
    mask = None if numbers is None else paired_mask(numbers, window)
    ours = windowed_attention(*qkv, window, mask, 0.9, softcap)
    assert_equal_with_gradients(ours, textbook(*qkv, window, numbers, 0.9, softcap), qkv)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("window", [None, 5])
def test_queries_at_the_end_read_what_they_would_in_the_whole(
    window: int | None, softcap: float | None
) -> None:
    q, k, v = heads(30, num_kv_heads=2)
    places = torch.arange(30).expand(2, 30)
    seen = visible(places[:, 27:], places, window)
    last = masked_attention(q[:, :, 27:], k, v, seen, 0.9, softcap)
    whole = textbook(q, k, v, window, None, 0.9, softcap)
    torch.testing.assert_close(last, whole[:, :, 27:])


@pytest.mark.parametrize("time", [300, SHORT + 1])
def test_values_may_be_narrower_than_keys(time: int) -> None:
    qkv = heads(time, d_value=6)
    assert_equal_with_gradients(causal_attention(*qkv), textbook(*qkv, None), qkv)


def test_a_cap_far_above_the_scores_changes_nothing() -> None:
    qkv = heads(40)
    capped, plain = causal_attention(*qkv, softcap=1e4), causal_attention(*qkv)
    torch.testing.assert_close(capped, plain, atol=1e-5, rtol=1e-5)


def test_capped_scores_in_half_precision_are_near_the_exact_ones() -> None:
    qkv = heads(64)
    exact = textbook(*qkv, None, None, 30.0, 50.0)  # scores of hundreds, at the cap
    halves = tuple(x.detach().bfloat16().requires_grad_() for x in qkv)
    rounded = tuple(x.detach().float() for x in halves)
    out = causal_attention(*halves, scale=30.0, softcap=50.0)
    reference = textbook(*rounded, None, None, 30.0, 50.0)
    assert out.dtype == torch.bfloat16
    assert (out.float() - reference).square().mean().sqrt() < 0.1 * exact.std()
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), halves))


def peak_bytes(time: int, window: int, with_documents: bool, softcap: float | None) -> int:
    """The most bytes that forward and backward hold at once, beside their inputs."""
    qkv = tuple(torch.randn(1, 2, time, 16, requires_grad=True) for _ in range(3))
    numbers = torch.arange(time)[None] // 300

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        mask = document_mask(numbers, window, torch.float32) if with_documents else None
        causal_attention(*qkv, window, mask, None, softcap).sum().backward()
    assert watched.profiler is not None and watched.profiler.kineto_results is not None
    events = watched.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = most = 0
    for _, num_bytes in changes:
        held += num_bytes
        most = max(most, held)
    return most


@pytest.mark.parametrize("softcap", [None, 20.0])
@pytest.mark.parametrize("with_documents", [False, True])
def test_memory_grows_with_the_window_and_not_with_all_pairs(
    with_documents: bool, softcap: float | None
) -> None:
    peaks = {
        (time, window): peak_bytes(time, window, with_documents, softcap)
        for time, window in [(1024, 64), (4096, 64), (4096, 512)]
    }
    assert peaks[4096, 64] < 4.2 * peaks[1024, 64]  # all pairs would be 16 times as many
    assert peaks[4096, 64] < 4096 * 4096  # a byte for each pair of one head
    assert peaks[4096, 64] < peaks[4096, 512]


def test_probabilities_are_made_again_where_they_would_fill_memory() -> None:
    qkv = tuple(torch.randn(1, 1, 3 * SHORT, 4, requires_grad=True) for _ in range(3))
    out = blocked_attention(*qkv, softcap=2.0)
    assert out.grad_fn is not None
    saved = out.grad_fn.next_functions[0][0].saved_tensors  # type: ignore[union-attr]
    assert sum(x.numel() for x in saved if x is not None) == 3 * 3 * SHORT * 4
    assert_equal_with_gradients(out, textbook(*qkv, None, None, None, 2.0), qkv)

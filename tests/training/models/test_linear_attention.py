from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from datalake.config import Refusal
from training.kernels.linear_attention import linear_attention, linear_attention_step
from training.models.configs.linear_attention import LinearAttentionConfig
from training.models.configs.parts import Sizes
from training.models.language_model import locate
from training.models.mixers.linear_attention import LinearAttention, Sums
from training.models.presets.own import linear
from training.models.reading import Reading
from training.models.variants import ModelConfig

SIZES = Sizes(d_model=32, context_length=64, vocab_size=61)
LENGTHS = [1, 2, 7, 8, 9, 16, 37]


def heads(time: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Queries, keys and values of two rows."""
    generator = torch.Generator().manual_seed(time)
    shapes = (2, 3, time, 5), (2, 3, time, 5), (2, 3, time, 4)
    return [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes]


def pair_by_pair(q: Tensor, k: Tensor, v: Tensor, begins: Tensor | None = None) -> Tensor:
    """The definition: every query with every earlier key of its document."""
    features = [torch.where(x > 0, x + 1, x.exp()) for x in (q, k)]
    time = q.shape[2]
    seen = torch.ones(time, time, dtype=torch.bool).tril()
    if begins is not None:
        documents = begins.cumsum(1)
        seen = seen & (documents[:, None, :, None] == documents[:, None, None, :])
    weights = (features[0] @ features[1].mT) * seen
    return (weights @ v) / weights.sum(-1, keepdim=True)


def beginning(time: int, *places: int) -> Tensor:
    """Two rows, of which only the first has documents that begin at ``places``."""
    begins = torch.zeros(2, time, dtype=torch.bool)
    begins[:, 0] = begins[0, list(places)] = True
    return begins


@pytest.mark.parametrize("time", LENGTHS)
def test_chunks_give_the_weighed_mean_and_its_gradients(time: int) -> None:
    inputs = heads(time)
    ours, reference = linear_attention(*inputs, 8)[0], pair_by_pair(*inputs)
    torch.testing.assert_close(ours, reference, atol=1e-6, rtol=1e-6)
    push = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, push),
        torch.autograd.grad(reference, inputs, push),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("places", [[3], [8], [16, 17], [1, 2, 9, 30], list(range(37))])
def test_documents_begin_anew_anywhere_in_a_chunk(places: list[int]) -> None:
    inputs, begins = heads(37), beginning(37, *places)
    ours, reference = linear_attention(*inputs, 8, begins)[0], pair_by_pair(*inputs, begins)
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pieces", [[1] * 37, [20, 17], [8, 1, 28], [3, 1, 1, 32]])
def test_sums_carry_all_that_was_read(pieces: list[int]) -> None:
    inputs, sums = heads(37), torch.zeros(2, 3, 5, 5, dtype=torch.float64)
    read = []
    for piece in zip(*(x.split(pieces, dim=2) for x in inputs), strict=True):
        if piece[0].shape[2] == 1:
            out, sums = linear_attention_step(*piece, sums)
        else:
            out, left = linear_attention(*piece, 8, sums=sums)
            assert left is not None
            sums = left
        read.append(out)
    torch.testing.assert_close(torch.cat(read, 2), pair_by_pair(*inputs), atol=1e-5, rtol=1e-5)


def test_half_precision_adds_up_in_single() -> None:
    inputs = heads(600, torch.float32)
    rounded = [x.bfloat16() for x in inputs]
    exact = pair_by_pair(*(x.double() for x in rounded))
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_attention(*rounded, 64)[0]
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), exact, atol=4e-3, rtol=8e-3)


def test_features_of_no_size_divide_by_no_zero() -> None:
    q, k, v = heads(9, torch.float32)
    out = linear_attention(q, k - 1e4, v, 4)[0]
    out.sum().backward()
    assert out.isfinite().all() and q.grad is not None and q.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_is_as_large_as_accounting_says_after_any_number_of_tokens(
    dtype: torch.dtype,
) -> None:
    config = LinearAttentionConfig(num_heads=4, d_head=12)
    mixer = LinearAttention(config, SIZES)
    memories = [mixer.empty_memory(3, room, torch.zeros((), dtype=dtype)) for room in (1, 64)]
    for room, memory in zip((1, 64), memories, strict=True):
        assert isinstance(memory, Sums) and memory.sums.dtype == torch.float32
        assert memory.num_bytes() == 3 * config.state_bytes(SIZES, room, dtype.itemsize)


def test_every_fourth_layer_sees_all() -> None:
    config = linear(vocab_size=61, context_length=24, d_model=32, num_layers=8, num_heads=4)
    kinds = [layer.mixer.kind for layer in config.all_layers()]
    assert kinds == 2 * [*["linear_attention"] * 3, "attention"]


@pytest.mark.slow
def test_a_compiled_mixer_is_the_mixer() -> None:
    mixer = LinearAttention(LinearAttentionConfig(num_heads=4, chunk=8), SIZES)
    documents = torch.tensor([[1] * 3 + [2] * 12 + [0] * 6] * 2)
    begins, places = locate(documents)
    seen = Reading(ids=documents, places=places, documents=documents, begins=begins)
    x = torch.randn(2, 21, 32, generator=torch.Generator().manual_seed(0))
    results = []
    for read in (torch.compile(mixer, fullgraph=True, backend="aot_eager"), mixer):
        mixed = read(x, seen)
        results.append([mixed, *torch.autograd.grad(mixed.sum(), list(mixer.parameters()))])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 8}, "linear.mixer.linear_attention.window\n  Extra inputs are not permitted"),
        ({"num_heads": 5}, "layers.linear: d_model must be a multiple of num_heads, got 32 and 5"),
        ({"chunk": 0}, "Input should be greater than 0"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(changes: dict[str, Any], message: str) -> None:
    config = linear(vocab_size=61, context_length=24, d_model=32, num_layers=4, num_heads=4)
    given = config.model_dump()
    given["layers"]["linear"]["mixer"] |= changes
    with pytest.raises(ValidationError) as refusal:
        ModelConfig.model_validate(given)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("d_model", "d_head", "num_heads"), [(64, None, 8), (48, None, 6), (40, None, 5), (64, 8, 8)]
)
def test_another_width_keeps_the_width_of_heads(
    d_model: int, d_head: int | None, num_heads: int
) -> None:
    config = LinearAttentionConfig(num_heads=4, d_head=d_head)
    resized = config.resized(SIZES, SIZES._replace(d_model=d_model))
    assert resized.num_heads == num_heads
    try:
        resized.check(SIZES._replace(d_model=d_model))
    except Refusal as refusal:
        pytest.fail(str(refusal))

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.training.models.random_weights import SMALL
from training.kernels.gated_delta import gated_delta, gated_delta_step
from training.models.configs.attention import AttentionConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.gated_delta import GatedDeltaConfig
from training.models.configs.parts import Sizes
from training.models.language_model import build, locate
from training.models.mixers.gated_delta import Associations, GatedDelta
from training.models.reading import Reading
from training.models.variants import Layer, ModelConfig

SIZES = Sizes(d_model=32, context_length=64, vocab_size=61)
CONFIG = GatedDeltaConfig(num_heads=6, num_key_heads=2, d_key=5, d_value=4, chunk=8)
LENGTHS = [1, 2, 7, 8, 9, 16, 37]


def heads(time: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Queries, keys, values, decays and shares of two rows: three heads of values a head of keys.

    Decays are fierce for some tokens, as those of heads that forget at once.
    """
    generator = torch.Generator().manual_seed(time)
    shapes = (2, 2, time, 5), (2, 2, time, 5), (2, 2, 3, time, 4), (2, 2, 3, time), (2, 2, 3, time)
    q, k, v, decay, share = (torch.randn(s, generator=generator, dtype=dtype) for s in shapes)
    inputs = [q, k, v, -(2 * decay).exp(), share.sigmoid()]
    return [x.requires_grad_() for x in inputs]


def token_by_token(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, share: Tensor, begins: Tensor | None = None
) -> Tensor:
    """The definition, for each head of values on its own."""
    q, k = (x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() for x in (q, k))
    batch, num_key_heads, group, time, d_value = v.shape
    out = []
    for row in range(batch):
        for head in range(num_key_heads):
            for member in range(group):
                at = row, head, member
                state = torch.zeros(q.shape[-1], d_value, dtype=v.dtype)
                for t in range(time):
                    if begins is not None and begins[row, t]:
                        state = torch.zeros_like(state)
                    state = decay[at][t].exp() * state
                    key = k[row, head, t]
                    error = v[at][t] - key @ state
                    state = state + share[at][t] * torch.outer(key, error)
                    out.append(q[row, head, t] @ state / q.shape[-1] ** 0.5)
    return torch.stack(out).view(v.shape)


def reading(documents: Tensor) -> Reading:
    begins, places = locate(documents)
    return Reading(ids=documents, places=places, documents=documents, begins=begins)


def mixer() -> GatedDelta:
    """With weights that leave nothing silent."""
    made, generator = GatedDelta(CONFIG, SIZES), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


@pytest.mark.parametrize("time", LENGTHS)
def test_chunks_give_the_recurrence_and_its_gradients(time: int) -> None:
    inputs = heads(time)
    ours, reference = gated_delta(*inputs, 8)[0], token_by_token(*inputs)
    torch.testing.assert_close(ours, reference)
    push = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, push),
        torch.autograd.grad(reference, inputs, push),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("places", [[3], [8], [7, 16, 17], [1, 2, 9, 30], range(37)], ids=str)
def test_documents_begin_anew_anywhere_in_a_chunk(places: list[int]) -> None:
    inputs, begins = heads(37), torch.zeros(2, 37, dtype=torch.bool)
    begins[:, 0] = begins[0, list(places)] = True
    ours, reference = gated_delta(*inputs, 8, begins)[0], token_by_token(*inputs, begins)
    torch.testing.assert_close(ours, reference)
    push = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, push),
        torch.autograd.grad(reference, inputs, push),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("pieces", [[1] * 37, [20, 17], [8, 1, 28], [3, 1, 1, 32]])
def test_the_state_carries_all_that_was_read(pieces: list[int]) -> None:
    inputs, state = heads(37), torch.zeros(2, 2, 3, 5, 4, dtype=torch.float64)
    time = [2, 2, 3, 3, 3]  # the axis of each input
    read = []
    for piece in zip(
        *(x.split(pieces, dim=axis) for x, axis in zip(inputs, time, strict=True)), strict=True
    ):
        if piece[0].shape[2] == 1:
            out, state = gated_delta_step(*piece, state)
        else:
            out, left = gated_delta(*piece, 8, state=state)
            assert left is not None
            state = left
        read.append(out)
    torch.testing.assert_close(torch.cat(read, 3), token_by_token(*inputs))


def test_equal_keys_without_decay_stay_exact() -> None:
    """The inverse of a chunk is worst conditioned where every token corrects the one before."""
    q, _, v, decay, share = (x.detach() for x in heads(64, torch.float32))
    k = torch.ones_like(q)
    inputs = [q, k, v, 0 * decay, 0 * share + 1]
    exact = token_by_token(*(x.double() for x in inputs))
    torch.testing.assert_close(gated_delta(*inputs, 64)[0].double(), exact, atol=1e-5, rtol=1e-5)


def test_half_precision_keeps_its_state_in_single() -> None:
    rounded = [x.detach().bfloat16() for x in heads(300, torch.float32)]
    exact = token_by_token(*(x.double() for x in rounded))
    with torch.autocast("cpu", torch.bfloat16):
        ours = gated_delta(*rounded, 64)[0]
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), exact, atol=1e-3, rtol=8e-3)


@pytest.mark.parametrize("time", [1, 9, 37])
def test_the_operators_are_those_of_transformers(time: int) -> None:
    published = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    inputs = [x.detach() for x in heads(time, torch.float32)]
    theirs = [*inputs[:2], *(x.flatten(1, 2) for x in inputs[2:])]  # heads in one axis
    out, _ = published.torch_chunk_gated_delta_rule(
        *(x.transpose(1, 2) for x in theirs), use_qk_l2norm_in_kernel=True
    )
    ours = gated_delta(*inputs, 64)[0].flatten(1, 2).transpose(1, 2)
    torch.testing.assert_close(ours, out, atol=1e-5, rtol=1e-4)


def test_documents_in_a_row_are_read_as_if_each_were_alone() -> None:
    made, lengths = mixer(), [1, 2, 13, 3, 20]
    x = torch.randn(1, sum(lengths), 32, generator=torch.Generator().manual_seed(1))
    documents = torch.tensor([[k for k, n in enumerate(lengths) for _ in range(n)]])
    alone = [made(part, reading(torch.zeros(part.shape[:2]))) for part in x.split(lengths, dim=1)]
    torch.testing.assert_close(made(x, reading(documents)), torch.cat(alone, dim=1))


@pytest.mark.slow
def test_a_compiled_mixer_is_the_mixer() -> None:
    made, seen = mixer(), reading(torch.tensor([[1] * 3 + [2] * 12 + [0] * 6] * 2))
    x = torch.randn(2, 21, 32, generator=torch.Generator().manual_seed(0))
    results = []
    for read in (torch.compile(made, fullgraph=True, backend="aot_eager"), made):
        mixed = read(x, seen)
        results.append([mixed, *torch.autograd.grad(mixed.sum(), list(made.parameters()))])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_is_as_large_as_accounting_says_after_any_number_of_tokens(
    dtype: torch.dtype,
) -> None:
    for room in (1, 64):
        memory = mixer().empty_memory(3, room, torch.zeros((), dtype=dtype))
        assert isinstance(memory, Associations) and memory.state.dtype == torch.float32
        assert memory.num_bytes() == 3 * CONFIG.state_bytes(SIZES, room, dtype.itemsize)


def hybrid(**changes: Any) -> dict[str, Any]:
    """A model of this layer and a full one; ``changes`` are of the former's mixer."""
    feed_forward = DenseConfig(d_ff=48)
    sizes = {name: value for name, value in SMALL.items() if name != "num_heads"}
    given = ModelConfig(
        **sizes,
        layers={
            "delta": Layer(mixer=CONFIG, feed_forward=feed_forward),
            "full": Layer(mixer=AttentionConfig(num_heads=4), feed_forward=feed_forward),
        },
        pattern=("delta", "full"),
    ).model_dump()
    given["layers"]["delta"]["mixer"] |= changes
    return given


def test_heads_start_with_memories_of_many_lengths() -> None:
    model = build(ModelConfig.model_validate(hybrid(num_heads=64)))
    weights = dict(model.named_parameters())
    rate = weights["blocks.0.mixer.log_rate"].exp()
    step = torch.nn.functional.softplus(weights["blocks.0.mixer.step_bias"])
    assert (rate >= 1).all() and (rate <= 16).all() and rate.max() > 8
    assert (step >= 0.99e-3).all() and (step <= 0.101).all()
    assert step.max() > 10 * step.min()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_heads": 4}, "num_heads must be a multiple of num_key_heads, got 6 and 4"),
        ({"window": 8}, "layers.delta.mixer.gated_delta.window\n  Extra inputs are not permitted"),
        ({"width": 1}, "Input should be greater than or equal to 2"),
        ({"d_key": 0}, "Input should be greater than 0"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        ModelConfig.model_validate(hybrid(**changes))
    assert message in str(refusal.value)


def test_another_width_has_more_heads_of_the_same_width() -> None:
    resized = CONFIG.resized(SIZES, SIZES._replace(d_model=80))
    assert (resized.num_key_heads, resized.num_heads) == (5, 15)
    assert (resized.d_key, resized.d_value) == (5, 4)
    assert CONFIG.resized(SIZES, SIZES._replace(d_model=4)).num_key_heads == 1

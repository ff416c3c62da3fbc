from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from datalake.config import Refusal
from tests.training.models.random_weights import awake, tokens
from training.losses import next_token_loss
from training.models.accounting import (
    decoding_flops,
    num_matmul_params,
    num_params,
    reading_flops,
    state_bytes,
    training_flops,
)
from training.models.configs.mamba import Mamba2Config
from training.models.language_model import LanguageModel, build
from training.models.mixers.mamba import Mamba2, Mamba2Memory
from training.models.presets.hybrids import mamba2
from training.models.reading import Reading
from training.models.variants import ModelConfig

SMALL = {
    "vocab_size": 61,
    "context_length": 24,
    "d_model": 32,
    "num_layers": 2,
    "d_head": 8,
    "d_state": 6,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "chunks of 8": {"chunk": 8},
    "chunks of 5 in groups": {"chunk": 5, "num_groups": 2},
    "one chunk, other taps": {"width": 2, "taps_bias": False, "bias": True},
    "short steps": {"chunk": 7, "dt_min": 0.01, "dt_max": 0.5},
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


def config_of(variant: dict[str, Any]) -> ModelConfig:
    config = mamba2(**SMALL)
    layer = config.layers["mamba"]
    mixer = Mamba2Config(**{**layer.mixer.model_dump(), **variant})
    return config.model_copy(
        update={"layers": {"mamba": layer.model_copy(update={"mixer": mixer})}}
    )


def peer_of(config: ModelConfig) -> Any:
    """The mixer of ``transformers``, of random weights."""
    transformers = pytest.importorskip("transformers", reason="transformers is missing")
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    own = config.layer(0).mixer
    theirs = transformers.Mamba2Config(
        hidden_size=32, num_heads=own.num_heads, head_dim=own.d_head, state_size=own.d_state,
        n_groups=own.num_groups, conv_kernel=own.width, use_conv_bias=own.taps_bias,
        use_bias=own.bias, chunk_size=own.chunk, time_step_limit=(own.dt_min, own.dt_max or 1e9),
    )  # fmt: skip
    peer = Mamba2Mixer(theirs, 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return peer


@variants
def test_the_mixer_is_that_of_transformers(variant: dict[str, Any]) -> None:
    config = config_of(variant)
    peer, own = peer_of(config), Mamba2(config.layer(0).mixer, config.sizes)
    names = {
        "project": "in_proj", "out": "out_proj", "taps": "conv1d.weight",
        "taps_bias": "conv1d.bias", "gain": "norm.weight",
    }  # fmt: skip
    weights = dict(peer.named_parameters())
    with torch.no_grad():
        for name, parameter in own.named_parameters():
            root, _, leaf = name.partition(".")
            there = ".".join(part for part in (names.get(root, root), leaf) if part)
            parameter.copy_(weights.pop(there).view(parameter.shape))
    assert not weights
    x = torch.randn(2, 19, 32)
    seen = Reading(ids=x, places=torch.arange(19))
    torch.testing.assert_close(own(x, seen), peer(x), atol=2e-5, rtol=1e-4)


def small_model(variant: dict[str, Any]) -> LanguageModel:
    return awake(config_of(variant))


@variants
@pytest.mark.parametrize("pieces", [[1] * 24, [9] + [1] * 15, [2, 1, 1, 10, 2, 8], [24]])
def test_decoding_equals_the_full_forward_pass(variant: dict[str, Any], pieces: list[int]) -> None:
    model, ids = small_model(variant), tokens(2, 24)
    state = model.empty_state(batch=2)
    logits = [model(piece, state) for piece in ids.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(logits, dim=1), model(ids), atol=1e-4, rtol=1e-4)


@variants
def test_documents_in_a_row_are_read_and_teach_as_if_each_were_alone(
    variant: dict[str, Any],
) -> None:
    model, ids, lengths = small_model(variant), tokens(1, 24), [5, 1, 2, 11, 1, 4]
    documents = torch.repeat_interleave(torch.tensor(lengths))[None]
    alone = torch.cat([model.hidden(part) for part in ids.split(lengths, dim=1)], dim=1)
    ours = model.hidden(ids, documents=documents)
    torch.testing.assert_close(ours, alone, atol=1e-5, rtol=1e-5)
    push = torch.randn(ours.shape)
    weights = [p for p in model.parameters() if p is not model.head_weight]
    gradients = (torch.autograd.grad(states, weights, push) for states in (ours, alone))
    for own, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(own, reference, atol=1e-4, rtol=1e-4)


@variants
def test_future_tokens_do_not_change_past_logits(variant: dict[str, Any]) -> None:
    model, one, other = small_model(variant), tokens(2, 24), tokens(2, 24, seed=1)
    for past in (1, 8, 23):
        mixed = torch.cat((one[:, :past], other[:, past:]), dim=1)
        assert torch.equal(model(one)[:, :past], model(mixed)[:, :past])


@variants
def test_parameters_flops_and_bytes_are_those_of_the_built_model(variant: dict[str, Any]) -> None:
    config = config_of(variant)
    model, ids = awake(config), tokens(2, 25)
    roles = {name: role for name, _, role in model.roles()}
    products = sum(p.numel() for name, p in model.named_parameters() if roles[name] == "matrix")
    assert num_params(config) == sum(p.numel() for p in model.parameters())
    assert num_matmul_params(config) == products + 61 * 32
    assert roles["blocks.0.mixer.taps"] == roles["blocks.0.mixer.A_log"] == "vector"
    counts = []
    with FlopCounterMode(display=False) as counter:
        next_token_loss(model, ids).backward()
        counts.append(counter.get_total_flops())
        with torch.no_grad():
            model(ids[:, :17])
            counts.append(counter.get_total_flops())
            state = model.empty_state(2)
            model(ids[:, :9], state)
            counts.append(counter.get_total_flops())
            model(ids[:, 9:10], state)
            counts.append(counter.get_total_flops())
    trained, read, _, decoded = (after - before for before, after in pairwise([0, *counts]))
    assert trained == 2 * training_flops(config, 24)
    assert read == 2 * reading_flops(config, 17)
    assert decoded == 2 * decoding_flops(config, 9)
    assert sum(block.num_bytes() for block in state.blocks) == 2 * state_bytes(config, 9, 4)
    assert state_bytes(config, 9, 2) == state_bytes(config, 20_000, 2)


def test_states_stay_in_single_precision_where_products_do_not() -> None:
    model, ids = small_model({"chunk": 8}), tokens(2, 24)
    with torch.autocast("cpu", torch.bfloat16):
        state = model.empty_state(2)
        rounded = torch.cat([model.hidden(part, state) for part in ids.split([9, 1, 14], 1)], 1)
        memory = state.blocks[0].mixer
    assert isinstance(memory, Mamba2Memory) and memory.states.dtype == torch.float32
    assert memory.last.inputs.dtype == torch.bfloat16
    assert sum(block.num_bytes() for block in state.blocks) == 2 * state_bytes(model.config, 24, 2)
    torch.testing.assert_close(rounded.float(), model.hidden(ids), atol=0.3, rtol=0.1)


def test_tokens_that_were_read_can_be_forgotten() -> None:
    model, ids = small_model({"chunk": 4}), tokens(2, 24)
    state = model.empty_state(2)
    model(ids[:, :9], state)
    undo = state.mark(5)
    model(tokens(2, 5, seed=3), state)
    state.rollback(undo)
    torch.testing.assert_close(model(ids[:, 9:], state), model(ids)[:, 9:], atol=1e-4, rtol=1e-4)


def test_a_model_starts_with_the_rates_and_steps_of_its_authors() -> None:
    config = mamba2(**{**SMALL, "d_model": 512})
    mixer = build(config).blocks[0].mixer
    assert isinstance(mixer, Mamba2)
    rates, steps = mixer.A_log.exp(), torch.nn.functional.softplus(mixer.dt_bias)
    assert 1 <= rates.min() < 2 and 15 < rates.max() <= 16
    assert 1e-3 <= steps.min() < 1.5e-3 and 0.08 < steps.max() <= 0.1
    assert steps.median().item() == pytest.approx(0.01, rel=0.5)
    assert (mixer.D == 1).all() and (mixer.gain == 1).all()
    assert 0.45 < mixer.taps.abs().max() <= 0.5


def test_weights_do_not_depend_on_where_they_were_drawn() -> None:
    config = config_of({})
    with torch.device("meta"):
        model = LanguageModel(config)
    torch.manual_seed(1)
    model.to_empty(device="cpu").init_weights(seed=5)
    for name, weight in build(config, seed=5).state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


@pytest.mark.parametrize("packed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_training_is_compiled_as_one_graph(packed: bool) -> None:
    config = config_of({"chunk": 8})
    mixer, x = awake(config).blocks[0].mixer, torch.randn(2, 20, 32)
    places = torch.arange(20)
    seen = Reading(ids=x, places=places)
    if packed:
        places = (places % 6).expand(2, -1)
        seen = Reading(ids=x, places=places, begins=(places == 0)[..., None])
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    results: list[list[Tensor]] = []
    for one in (mixer, compiled):
        y = one(x, seen)
        results.append([y, *torch.autograd.grad(y.sum(), list(mixer.parameters()))])
    for own, reference in zip(*results, strict=True):
        torch.testing.assert_close(own, reference, atol=1e-4, rtol=1e-4)


def test_chunks_are_even_and_no_longer_than_asked() -> None:
    config = Mamba2Config(num_heads=1, chunk=64)
    sizes = [config.chunk_size(time) for time in (1, 64, 65, 128, 129, 1000)]
    assert sizes == [1, 64, 33, 64, 43, 63]


def test_a_wider_model_has_more_heads_of_the_same_width() -> None:
    mixer = config_of({"num_groups": 2}).resized(48).layer(0).mixer
    assert (mixer.num_heads, mixer.num_groups, mixer.d_head) == (12, 2, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_groups": 3}, "num_heads must be a multiple of num_groups, got 8 and 3"),
        ({"dt_min": 0.5, "dt_max": 0.1}, "dt_min must be at most dt_max, got 0.5 and 0.1"),
        ({"width": 1}, "greater than or equal to 2"),
    ],
)
def test_layers_that_cannot_be_built_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((Refusal, ValidationError), match=message):
        Mamba2Config(**{"num_heads": 8, **changes})


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(
        Refusal, match="expand x d_model must be a multiple of d_head, got 64 and 7"
    ):
        mamba2(**{**SMALL, "d_head": 7})

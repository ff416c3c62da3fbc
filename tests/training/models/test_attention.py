"""Softmax attention against each step of it written out, in double precision."""

import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from datalake.config import Refusal
from tests.training.models.random_weights import SMALL, awake, tokens
from training.losses import next_token_loss
from training.models.configs.attention import AttentionConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.norms import Norm
from training.models.configs.parts import Sizes
from training.models.configs.positions import Rope, Stretch
from training.models.mixers.attention import Attention
from training.models.positions import rotary_table
from training.models.presets.own import vaswani
from training.models.reading import Reading
from training.models.variants import Layer, ModelConfig

SIZES = Sizes(d_model=32, context_length=24, vocab_size=61)
SETTINGS: dict[str, dict] = {
    "plain": {},
    "turned": {"rope": Rope()},
    "a part of each head turned": {"rope": Rope(fraction=0.5)},
    "turned slower": {"rope": Rope(theta=500.0, factor=8.0)},
    "stretched": {"rope": Rope(theta=100.0, stretch=Stretch(factor=8, context=8))},
    "biases": {"bias": True, "out_bias": True},
    "normed heads": {"rope": Rope(), "qk_norm": "head", "qk_eps": 0.1},
    "normed heads with gains": {"rope": Rope(), "qk_norm": "head", "qk_gain": True},
    "normed together": {"rope": Rope(), "qk_norm": "all", "qk_gain": True, "qk_eps": 0.1},
    "scaled": {"scale": 0.9},
    "capped": {"softcap": 0.8, "rope": Rope()},
    "capped in a window": {"softcap": 0.8, "window": 5, "num_kv_heads": 1},
    "gated": {"gate": True},
    "wide heads": {"d_head": 12, "num_kv_heads": 2, "rope": Rope(fraction=0.34), "gate": True},
}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())


def config_of(setting: dict) -> AttentionConfig:
    return AttentionConfig(num_heads=4, **setting)


def built(config: AttentionConfig) -> Attention:
    mixer = Attention(config, SIZES)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_(std=0.4)
    return mixer


def turned(heads: Tensor, rope: Rope) -> Tensor:
    """[heads, time, d_head] by cosines and sines, channel by channel."""
    width = int(rope.fraction * heads.shape[-1])
    out, place = heads.clone(), torch.arange(heads.shape[1], dtype=torch.float64)
    for even in range(0, width, 2):
        speed = rope.theta ** (-even / width) / rope.factor
        if rope.stretch is not None:
            turns = rope.stretch.context * speed / (2 * math.pi)
            if turns < rope.stretch.low:
                speed /= rope.stretch.factor
            elif turns < rope.stretch.high:
                share = (turns - rope.stretch.low) / (rope.stretch.high - rope.stretch.low)
                speed *= share + (1 - share) / rope.stretch.factor
        cos, sin = (place * speed).cos(), (place * speed).sin()
        out[..., even] = heads[..., even] * cos - heads[..., even + 1] * sin
        out[..., even + 1] = heads[..., even] * sin + heads[..., even + 1] * cos
    return out


def textbook(mixer: Attention, config: AttentionConfig, x: Tensor) -> Tensor:
    """Of one row [time, d_model]."""
    weights = {name: p.detach().double() for name, p in mixer.named_parameters()}
    d_head = config.d_head or 8

    def projected(name: str) -> Tensor:
        return F.linear(x.double(), weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def heads(name: str) -> Tensor:
        y = projected(name)
        gain = weights.get(f"{name}_gain", torch.tensor(1.0))
        if config.qk_norm == "all":
            y = gain * y / (y.square().mean(-1, keepdim=True) + config.qk_eps).sqrt()
        y = y.view(len(x), -1, d_head).transpose(0, 1)
        if config.qk_norm == "head":
            y = gain * y / (y.square().mean(-1, keepdim=True) + config.qk_eps).sqrt()
        return y if config.rope is None else turned(y, config.rope)

    q, k = heads("query"), heads("key")
    v = projected("value").view(len(x), -1, d_head).transpose(0, 1)
    outputs = torch.zeros(len(x), config.num_heads, d_head, dtype=torch.float64)
    for head in range(config.num_heads):
        group = head * config.num_kv_heads // config.num_heads
        for t in range(len(x)):
            first = max(0, t + 1 - (config.window or len(x)))
            scores = k[group, first : t + 1] @ q[head, t] * (config.scale or d_head**-0.5)
            if config.softcap is not None:
                scores = config.softcap * (scores / config.softcap).tanh()
            outputs[t, head] = scores.softmax(0) @ v[group, first : t + 1]
    mixed = outputs.flatten(1)
    if config.gate:
        mixed = mixed * projected("gate").sigmoid()
    return F.linear(mixed, weights["out.weight"], weights.get("out.bias"))


@settings
def test_attention_is_the_textbook_with_every_step_written_out(setting: dict) -> None:
    config = config_of(setting)
    mixer, x = built(config), torch.randn(2, 20, 32)
    rope = config.turning(SIZES)
    turns = None if rope is None else rotary_table(*rope, 24, torch.device("cpu"))[:20]
    seen = Reading(ids=tokens(2, 20), places=torch.arange(20))
    reference = torch.stack([textbook(mixer, config, row) for row in x]).float()
    torch.testing.assert_close(mixer(x, seen, turns), reference, atol=2e-5, rtol=1e-4)


def of_layers(**layers: AttentionConfig) -> ModelConfig:
    return ModelConfig(
        **{key: SMALL[key] for key in ("vocab_size", "context_length", "d_model")},
        num_layers=len(layers),
        layers={
            name: Layer(mixer=mixer, feed_forward=DenseConfig(d_ff=48))
            for name, mixer in layers.items()
        },
        pattern=tuple(layers),
        norm=Norm(gain=True),
        embedding_norm=True,
        logit_scale=0.7,
        logit_softcap=9.0,
    )


def of_every_setting() -> ModelConfig:
    """A model of a layer for each."""
    return of_layers(**{str(i): config_of(setting) for i, setting in enumerate(SETTINGS.values())})


def test_layers_of_every_setting_decode_what_they_read() -> None:
    model, ids = awake(of_every_setting()), tokens(2, 24)
    state = model.empty_state(2)
    logits = [model(piece, state) for piece in ids.split([5, 1, 9, 1, 1, 7], dim=1)]
    torch.testing.assert_close(torch.cat(logits, dim=1), model(ids), atol=1e-4, rtol=1e-4)


def test_layers_of_every_setting_keep_documents_apart() -> None:
    model, ids = awake(of_every_setting()), tokens(1, 22)
    documents = torch.tensor([[4] * 9 + [2] * 13])
    alone = torch.cat([model.hidden(part) for part in ids.split([9, 13], dim=1)], dim=1)
    ours = model.hidden(ids, documents=documents)
    torch.testing.assert_close(ours, alone, atol=1e-4, rtol=1e-4)


def assert_compiles(config: ModelConfig, backend: str, atol: float) -> None:
    model, ids = awake(config), tokens(2, 23)
    pieces = torch.tensor([[0] * 9 + [1] * 14, [0] * 23])
    torch._dynamo.reset()
    compiled = torch.compile(next_token_loss, fullgraph=True, backend=backend)
    eager, traced = (loss(model, ids, pieces) for loss in (next_token_loss, compiled))
    torch.testing.assert_close(traced, eager, atol=atol, rtol=1e-5)
    weights = list(model.parameters())
    gradients = (torch.autograd.grad(loss, weights) for loss in (traced, eager))
    for ours, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference, atol=atol, rtol=1e-3)


COMPILED = ["normed heads with gains", "normed together", "capped in a window", "wide heads"]


def test_training_is_one_graph_to_a_compiler() -> None:
    several = {"window": 7, "softcap": 2.0, "gate": True, "num_kv_heads": 2, "bias": True}
    mixer = config_of({**SETTINGS["normed heads with gains"], **several})
    assert_compiles(of_layers(only=mixer), "aot_eager", 1e-5)


@pytest.mark.slow
def test_training_with_every_setting_is_one_graph_to_a_compiler() -> None:
    assert_compiles(of_every_setting(), "aot_eager", 1e-5)


@pytest.mark.slow
def test_a_compiled_model_learns_as_an_eager_one() -> None:
    layers = {str(i): config_of(SETTINGS[name]) for i, name in enumerate(COMPILED)}
    assert_compiles(of_layers(**layers), "inductor", 1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_kv_heads": 3}, "num_heads must be a multiple of num_kv_heads, got 4 and 3"),
        ({"qk_gain": True}, "qk_gain must be left out where qk_norm is none, got yes"),
        ({"window": 0}, "Input should be greater than 0"),
        ({"softcap": 0}, "Input should be greater than 0"),
        ({"scale": -1}, "Input should be greater than 0"),
        ({"qk_norm": "each"}, "Input should be 'none', 'head' or 'all'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        AttentionConfig(num_heads=4, **changes)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 5}, "d_model must be a multiple of num_heads, got 32 and 5"),
        ({"d_head": 7}, "d_head, or d_model / num_heads, must be even, got 7"),
        ({"window": 25}, "window must be at most context_length, got 25 and 24"),
        (
            {"rope": Rope(fraction=0.4)},
            "rope.fraction of 8 channels must be an even number above 0, got 0.4 which is 3",
        ),
        (
            {"rope": Rope(fraction=0.1)},
            "rope.fraction of 8 channels must be an even number above 0, got 0.1 which is 0",
        ),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(Refusal) as refusal:
        AttentionConfig(**{"num_heads": 4, **changes}).check(SIZES)
    assert str(refusal.value) == message


def test_the_transformer_of_2017_has_a_norm_after_each_sum_and_no_more() -> None:
    config = vaswani(vocab_size=61, context_length=24, d_model=32, num_layers=2, num_heads=4)
    model, ids = awake(config), tokens(2, 24)
    x = model.embedding.weight[ids] * math.sqrt(32)
    pair = 10_000 ** -(torch.arange(0, 32, 2) / 32)
    angles = torch.arange(24)[:, None] * pair
    x = x + torch.stack((angles.sin(), angles.cos()), -1).flatten(1)
    seen = Reading(ids=ids, places=torch.arange(24))
    for block in model.blocks:
        for part, norm in (("mixer", "mixer_norm"), ("feed_forward", "feed_forward_norm")):
            module = block.get_submodule(part)
            if part == "mixer":
                h = module(x, seen)
            else:
                h = module.get_submodule("down")(module.get_submodule("up")(x).relu())
            n = block.get_submodule(norm)
            x = F.layer_norm(x + h, (32,), n.weight, n.bias, 1e-6)  # type: ignore[arg-type]
    torch.testing.assert_close(model(ids), x @ model.embedding.weight.T, atol=1e-4, rtol=1e-4)

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from datalake.config import Refusal
from orchestration.recipe import find_recipe, load_recipe
from tests.training.models.random_weights import awake, tokens
from tests.training.models.test_accounting import query_by_query
from training.kernels.attention import SHORT, causal_attention, document_mask
from training.losses import next_token_loss
from training.models.accounting import (
    decoding_flops,
    num_matmul_params,
    num_params,
    reading_flops,
    state_bytes,
    training_flops,
)
from training.models.configs.attention import AttentionConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.latent_attention import LatentAttentionConfig
from training.models.configs.norms import Norm
from training.models.configs.parts import MixerConfig, Sizes
from training.models.configs.positions import Rope
from training.models.language_model import LanguageModel, build
from training.models.mixers import latent_attention
from training.models.mixers.latent_attention import LatentAttention
from training.models.positions import rotary_table
from training.models.reading import Reading
from training.models.state import DecodingState
from training.models.variants import Layer, ModelConfig

SIZES = Sizes(d_model=32, context_length=24, vocab_size=61)
GIVEN = {"num_heads": 4, "d_key": 8, "d_rope": 6, "d_value": 10, "kv_rank": 16, "q_rank": 12}
SETTINGS: dict[str, dict] = {
    "default": {},
    "queries as they are": {"q_rank": None},
    "a large latent": {"kv_rank": 40},  # so that pieces of 8 or more are read expanded
    "narrow values, a scale": {"d_value": 4, "scale": 0.5, "rope": Rope(theta=100.0)},
}
settings = pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())


def latent(**changes: object) -> LatentAttentionConfig:
    return LatentAttentionConfig(**{**GIVEN, **changes})


def model_of(mixer: MixerConfig) -> ModelConfig:
    return ModelConfig(
        vocab_size=SIZES.vocab_size,
        context_length=SIZES.context_length,
        d_model=SIZES.d_model,
        num_layers=2,
        layers={"one": Layer(mixer=mixer, feed_forward=DenseConfig(d_ff=48, activation="swiglu"))},
        pattern=("one",),
        norm=Norm(gain=True),
        init="normal",
    )


def small(**changes: object) -> LanguageModel:
    return awake(model_of(latent(**changes)))


def naive(mixer: LatentAttention, x: Tensor) -> Tensor:
    """Of one sequence [time, d_model] in float64: position by position, head by head."""
    config = mixer.config
    weights = {name: weight.detach().double() for name, weight in mixer.named_parameters()}
    speeds = config.rope.theta ** -(torch.arange(0, config.d_rope, 2).double() / config.d_rope)

    def normed(row: Tensor, name: str) -> Tensor:
        return row / (row.square().mean() + config.eps).sqrt() * weights[f"{name}.weight"]

    def turned(row: Tensor, position: int) -> Tensor:
        even, odd, angle = row[::2], row[1::2], position * speeds
        pairs = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
        return torch.stack(pairs, dim=-1).flatten()

    queries, keys, values = [], [], []
    for position, row in enumerate(x):
        q = row
        if config.q_rank is not None:
            q = normed(weights["query_latent.weight"] @ row, "query_norm")
        heads = (weights["query.weight"] @ q).view(config.num_heads, -1)
        queries.append(
            [torch.cat((h[: config.d_key], turned(h[config.d_key :], position))) for h in heads]
        )
        both = weights["latent.weight"] @ row
        key = turned(both[config.kv_rank :], position)
        c = normed(both[: config.kv_rank], "latent_norm")
        expanded = (weights["expand.weight"] @ c).view(config.num_heads, -1)
        keys.append([torch.cat((h[: config.d_key], key)) for h in expanded])
        values.append([h[config.d_key :] for h in expanded])
    scale = config.scale or 1 / math.sqrt(config.d_key + config.d_rope)
    rows = []
    for position in range(len(x)):
        mixed = []
        for head in range(config.num_heads):
            q = queries[position][head]
            scores = torch.stack([scale * q @ keys[s][head] for s in range(position + 1)])
            mixed.append(sum(p * values[s][head] for s, p in enumerate(scores.softmax(0))))
        rows.append(weights["out.weight"] @ torch.cat(mixed))
    return torch.stack(rows)


@settings
def test_it_is_what_the_paper_says_position_by_position(changes: dict) -> None:
    mixer = small(**changes).blocks[0].mixer
    x = torch.randn(2, 13, 32, generator=torch.Generator().manual_seed(0))
    turns = rotary_table(mixer.config.rope, mixer.config.d_rope, 24, x.device)[:13]
    seen = Reading(ids=torch.zeros(2, 13, dtype=torch.int64), places=torch.arange(13))
    expected = torch.stack([naive(mixer, row.double()) for row in x])
    torch.testing.assert_close(mixer(x, seen, turns).double(), expected, atol=1e-5, rtol=1e-5)


@settings
@pytest.mark.parametrize("pieces", [[1] * 24, [9] + [1] * 15, [5, 1, 1, 8, 1, 8], [24], [3, 21]])
def test_cached_decoding_equals_the_full_forward_pass(changes: dict, pieces: list[int]) -> None:
    model, ids = small(**changes), tokens(2, 24)
    state = model.empty_state(batch=2)
    logits = [model(piece, state) for piece in ids.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(logits, dim=1), model(ids), atol=1e-4, rtol=1e-4)


def test_a_piece_is_read_expanded_where_that_takes_fewer_flops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def plain(q: Tensor, k: Tensor, v: Tensor, *_: object) -> Tensor:
        return (q @ k.mT).softmax(-1) @ v  # what the counter knows

    monkeypatch.setattr(latent_attention, "masked_attention", plain)
    model = small(kv_rank=40)
    mixer = model.blocks[0].mixer
    chosen = {time: mixer._is_absorbed(time, slots=24) for time in (6, 7, 8, 9)}
    assert chosen == {6: True, 7: True, 8: False, 9: False}
    for time, is_absorbed in chosen.items():
        flops = {}
        for choice in (True, False):
            for block in model.blocks:
                block.mixer._is_absorbed = lambda *_, choice=choice: choice
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                model(tokens(1, time), model.empty_state(1))
            flops[choice] = counter.get_total_flops()
        assert flops[is_absorbed] == min(flops.values())


@settings
def test_sequences_of_different_lengths_go_on_in_one_batch(changes: dict) -> None:
    model, ids = small(**changes), tokens(2, 24)
    long, short = model.empty_state(1), model.empty_state(1)
    model(ids[:1, :17], long)
    model(ids[1:, :3], short)
    state = DecodingState.join([long, short])
    for step in range(7):
        logits = model(torch.stack((ids[0, 17 + step], ids[1, 3 + step]))[:, None], state)
        full = model(ids[:1])[0, 17 + step], model(ids[1:])[0, 3 + step]
        torch.testing.assert_close(logits[:, 0], torch.stack(full), atol=1e-4, rtol=1e-4)


@settings
def test_rejected_tokens_leave_no_trace(changes: dict) -> None:
    model, ids = small(**changes), tokens(2, 24)
    state = model.empty_state(2)
    model(ids[:, :7], state)
    undo = state.mark(5)
    model((ids[:, 7:12] + 1) % 61, state)
    state.rollback(undo)
    logits = torch.cat([model(piece, state) for piece in ids[:, 7:].split([1, 2, 14], 1)], dim=1)
    torch.testing.assert_close(logits, model(ids)[:, 7:], atol=1e-4, rtol=1e-4)


@settings
def test_documents_in_a_row_are_read_as_if_each_were_alone(changes: dict) -> None:
    model, ids, lengths = small(**changes), tokens(2, 22), [5, 1, 12, 4]
    numbers = torch.arange(4).repeat_interleave(torch.tensor(lengths)).expand(2, -1)
    alone = torch.cat([model.hidden(part) for part in ids.split(lengths, dim=1)], dim=1)
    ours = model.hidden(ids, documents=numbers)
    torch.testing.assert_close(ours, alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, model.hidden(ids), atol=1e-2)


@settings
def test_parameters_are_those_of_the_built_model(changes: dict) -> None:
    config = model_of(latent(**changes))
    model = build(config)
    sizes = {"matrix": 0, "head": 0, "vector": 0, "table": 0}
    for _, parameter, role in model.roles():
        sizes[role] += parameter.numel()
    assert num_params(config) == sum(sizes.values())
    assert num_matmul_params(config) == sizes["matrix"] + sizes["head"]


@settings
def test_flops_are_those_of_the_products_that_torch_counts(
    changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        latent_attention, "causal_attention", lambda *qkv, **_: query_by_query(*qkv)
    )
    config = model_of(latent(**changes))
    model, ids = awake(config), tokens(2, 25)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids[:, :24])
    assert counter.get_total_flops() == 2 * reading_flops(config, 24)
    with FlopCounterMode(display=False) as counter:
        next_token_loss(model, ids).backward()
    assert counter.get_total_flops() == 2 * training_flops(config, 24)
    state = model.empty_state(1, room=18)
    with torch.no_grad():
        model(ids[:1, :17], state)
        with FlopCounterMode(display=False) as counter:
            model(ids[:1, 17:18], state)
    assert counter.get_total_flops() == decoding_flops(config, 17)


@settings
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_holds_latents_and_one_turned_key_and_nothing_else(
    changes: dict, dtype: torch.dtype
) -> None:
    config = model_of(latent(**changes))
    model = awake(config)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16), torch.no_grad():
        state = model.empty_state(batch=3)
        model(tokens(3, 20), state)
        model(tokens(3, 1), state)
    mixer = config.layers["one"].mixer
    held = 3 * 2 * 24 * (mixer.kv_rank + mixer.d_rope) * dtype.itemsize
    assert held == 3 * state_bytes(config, 24, dtype.itemsize)
    assert state.num_bytes() == held + 3 * 8  # tokens read


def test_the_cache_is_small_beside_that_of_as_many_heads_of_attention() -> None:
    heads = AttentionConfig(num_heads=4, d_head=16)
    ours = latent(d_key=16, d_rope=8, d_value=16, kv_rank=32)
    bytes_of = {}
    for mixer in (heads, ours):
        state = build(model_of(mixer)).empty_state(1)
        memories = [block.mixer for block in state.blocks]
        bookkeeping = sum(m.positions.nbytes for m in memories if hasattr(m, "positions"))
        bytes_of[mixer.kind] = sum(m.num_bytes() for m in memories) - bookkeeping
    assert bytes_of == {"attention": 2 * 24 * 128 * 4, "latent_attention": 2 * 24 * 40 * 4}


def test_decoding_makes_nothing_of_the_size_of_expanded_keys() -> None:
    model = small(num_heads=8, kv_rank=16)
    state = model.empty_state(2)
    model(tokens(2, 20), state)
    sizes: list[int] = []

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            made = func(*args, **(kwargs or {}))
            if isinstance(made, Tensor) and made.ndim > 2 and 24 in made.shape:
                sizes.append(made.numel())
            return made

    with torch.no_grad(), Watched():
        model(tokens(2, 1), state)
    assert sizes and max(sizes) <= 2 * 24 * (16 + 6)  # two sequences' memories


def test_decoding_is_as_precise_as_the_model() -> None:
    model, ids = small().double(), tokens(2, 24)
    state = model.empty_state(2)
    logits = torch.cat([model(piece, state) for piece in ids.split([5, *[1] * 19], 1)], dim=1)
    torch.testing.assert_close(logits, model(ids), atol=1e-9, rtol=1e-9)


def test_half_precision_follows_single_precision() -> None:
    model, ids = small(), tokens(3, 22)
    exact = model.hidden(ids)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        rounded = model.hidden(ids)
        state = model.empty_state(3)
        decoded = torch.cat(
            [model.hidden(piece, state) for piece in ids.split([7, *[1] * 15], 1)], 1
        )
    for ours in (rounded, decoded):
        torch.testing.assert_close(ours.float(), exact, atol=0.3, rtol=0.1)


@pytest.mark.slow
def test_it_is_traced_without_breaks() -> None:
    model, ids = small(), tokens(2, 24)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(ids), model(ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("time", [40, SHORT + 30])
@pytest.mark.parametrize("widths", [(12, 8), (8, 12)])
def test_values_may_be_of_another_width_than_keys(time: int, widths: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    d_key, d_value = widths
    q, k, v = (
        torch.randn(1, 2, time, d, generator=generator, dtype=torch.float64, requires_grad=True)
        for d in (d_key, d_key, d_value)
    )
    scores = (q @ k.mT / d_key**0.5).masked_fill(torch.ones(time, time).triu(1).bool(), -torch.inf)
    push = torch.randn(1, 2, time, d_value, generator=generator, dtype=torch.float64)
    expected = scores.softmax(-1) @ v
    mask = document_mask(torch.zeros(1, time), None, torch.float64)
    for ours in (causal_attention(q, k, v), causal_attention(q, k, v, mask=mask)):
        torch.testing.assert_close(ours, expected)
        gradients = [torch.autograd.grad(x, (q, k, v), push, True) for x in (ours, expected)]
        torch.testing.assert_close(*gradients)


def test_a_wider_model_has_more_heads_and_ranks_in_proportion() -> None:
    config = model_of(latent()).resized(64)
    mixer = config.layers["one"].mixer
    assert (mixer.num_heads, mixer.kv_rank, mixer.q_rank) == (8, 32, 24)
    assert (mixer.d_key, mixer.d_rope, mixer.d_value) == (8, 6, 10)
    assert model_of(latent(q_rank=None)).resized(16).layers["one"].mixer.q_rank is None


@pytest.mark.parametrize("rank", ["kv_rank", "q_rank"])
def test_a_recipe_without_its_ranks_is_refused_in_one_line(rank: str, tmp_path: Path) -> None:
    model = json.loads(model_of(latent()).model_dump_json())
    del model["layers"]["one"]["mixer"][rank]
    recipe = yaml.safe_load(find_recipe("tiny").read_text())
    recipe["training"]["scaling_runs"]["model"] = model
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(recipe))
    with pytest.raises(Refusal) as refused:
        load_recipe(str(path))
    place = f"training.scaling_runs.model.layers.one.mixer.{rank}"
    assert str(refused.value) == f"mine.yaml: {place} must be given, got nothing"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_rope": 7}, "d_rope must be even, since channels turn in pairs, got 7"),
        ({"rope": Rope(fraction=0.5)}, "rope.fraction of 6 channels must be an even number"),
        ({"window": 8}, "Extra inputs are not permitted"),
        ({"kv_rank": 0}, "kv_rank\n  Input should be greater than 0"),
        ({"kv_rank": None}, "kv_rank\n  Input should be a valid integer"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        latent(**changes)

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.training.models.random_weights import VARIANTS, awake, small_config, tokens
from training.losses import next_token_loss
from training.models.accounting import (
    answer_flops,
    decoding_flops,
    num_matmul_params,
    num_params,
    num_table_params,
    reading_flops,
    state_bytes,
    train_flops_per_token,
    training_flops,
)
from training.models.language_model import build
from training.models.mixers import attention
from training.models.presets import tarn

variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


def query_by_query(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention that multiplies each query with the keys that it may read, and with no other."""
    assert mask is None
    group, outputs = q.shape[1] // k.shape[1], []
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    for time in range(q.shape[2]):
        start = 0 if window is None else max(0, time + 1 - window)
        keys, values = k[:, :, start : time + 1], v[:, :, start : time + 1]
        scores = q[:, :, time : time + 1] @ keys.mT * (scale or q.shape[-1] ** -0.5)
        outputs.append(capped(scores, softcap).softmax(-1) @ values)
    return torch.cat(outputs, dim=2)


def capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def seen_keys_alone(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """The same for one query per row, as decoding asks it."""
    read, group = seen[0, 0], q.shape[1] // k.shape[1]
    k, v = (x[:, :, read].repeat_interleave(group, 1) for x in (k, v))
    scores = q @ k.mT * (scale or q.shape[-1] ** -0.5)
    return capped(scores, softcap).softmax(-1) @ v


@pytest.fixture
def causally(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlopCounterMode]:
    """Counts the products of models whose attention computes no more than it must."""
    monkeypatch.setattr(attention, "causal_attention", query_by_query)
    monkeypatch.setattr(attention, "masked_attention", seen_keys_alone)
    with FlopCounterMode(display=False) as counter:
        yield counter


@variants
def test_parameters_are_those_of_the_built_model(variant: dict) -> None:
    config = small_config(**variant)
    model = build(config)
    counts = {"matrix": 0, "head": 0, "vector": 0, "table": 0}
    for _, parameter, role in model.roles():
        counts[role] += parameter.numel()
    assert num_params(config) == sum(counts.values())
    assert num_matmul_params(config) == counts["matrix"] + counts["head"]
    assert num_table_params(config) == counts["table"]


@variants
def test_flops_of_training_are_those_of_the_products_that_torch_counts(
    variant: dict, causally: FlopCounterMode
) -> None:
    config = small_config(**variant)
    next_token_loss(awake(config), tokens(2, config.context_length + 1)).backward()
    assert causally.get_total_flops() == 2 * training_flops(config, config.context_length)


@variants
def test_flops_of_decoding_are_those_of_the_products_that_torch_counts(
    variant: dict, causally: FlopCounterMode
) -> None:
    config = small_config(**variant)
    model, ids = awake(config), tokens(1, 18)
    state = model.empty_state(1, room=18)
    with torch.no_grad():
        for token in ids[:, :17].split(1, dim=1):
            model(token, state)
        before = causally.get_total_flops()
        model(ids[:, 17:], state)
    assert causally.get_total_flops() - before == decoding_flops(config, 17)


def test_reading_costs_a_third_of_training(causally: FlopCounterMode) -> None:
    config = small_config()
    with torch.no_grad():
        awake(config)(tokens(2, 24))
    assert causally.get_total_flops() == 2 * reading_flops(config, 24)
    assert training_flops(config, 24) == 3 * reading_flops(config, 24)
    assert train_flops_per_token(config) == training_flops(config, 24) / 24


def test_logits_are_paid_for_where_they_are_made(causally: FlopCounterMode) -> None:
    config = small_config()
    model = awake(config)
    with torch.no_grad():
        model.logits(model.hidden(tokens(2, 24))[:, -5:])
    assert causally.get_total_flops() == pytest.approx(answer_flops(config, 48, 10, 24))
    assert answer_flops(config, 48, 48, 24) == pytest.approx(2 * reading_flops(config, 24))


def test_the_textbook_case_of_gpt2_small() -> None:
    config = tarn(
        vocab_size=50_257, context_length=1024, d_model=768, num_layers=12, num_heads=12, tied=True,
        value_embeddings=False, x0_skip=False, token_shift=False,
    )  # fmt: skip
    assert num_matmul_params(config) == 12 * 12 * 768**2 + 50_257 * 768
    attention_in_full = 12 * 12 * 768 * 1024
    assert train_flops_per_token(config) + attention_in_full / 2 == pytest.approx(0.855e9, rel=2e-3)
    assert state_bytes(config, context=1) == 12 * 2 * 768 * 2


def test_a_window_bounds_attention_and_memory() -> None:
    whole, windowed = small_config(), small_config(window=6)
    assert reading_flops(windowed, 6) == reading_flops(whole, 6)
    assert reading_flops(windowed, 24) < reading_flops(whole, 24)
    assert state_bytes(windowed, 24) == state_bytes(windowed, 6)
    assert state_bytes(windowed, 5) < state_bytes(windowed, 6)


def test_grouped_heads_shrink_the_cache_by_their_group() -> None:
    bare = {"token_shift": False}
    whole = state_bytes(small_config(**bare), 24)
    assert state_bytes(small_config(num_kv_heads=1, **bare), 24) * 4 == whole

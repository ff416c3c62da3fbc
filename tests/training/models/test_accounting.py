import importlib
import pkgutil
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.training.models.catalogue import Case, every_case
from tests.training.models.random_weights import awake, small_config, tokens
from training.kernels.attention import masked_attention
from training.losses import next_token_loss
from training.models import mixers
from training.models.accounting import (
    answer_flops,
    decoding_flops,
    num_matmul_params,
    num_params,
    num_table_params,
    params,
    reading_flops,
    state_bytes,
    train_flops_per_token,
    training_flops,
)
from training.models.presets.own import tarn


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
    if q.shape[2] > 1:
        return masked_attention(q, k, v, seen, scale, softcap)
    read, group = seen[0, 0], q.shape[1] // k.shape[1]
    k, v = (x[:, :, read].repeat_interleave(group, 1) for x in (k, v))
    scores = q @ k.mT * (scale or q.shape[-1] ** -0.5)
    return capped(scores, softcap).softmax(-1) @ v


@pytest.fixture
def causally(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlopCounterMode]:
    """Counts the products of models whose attention computes no more than it must."""
    for found in pkgutil.iter_modules(mixers.__path__, f"{mixers.__name__}."):
        module = importlib.import_module(found.name)
        for name, plain in (("causal", query_by_query), ("masked", seen_keys_alone)):
            if hasattr(module, f"{name}_attention"):
                monkeypatch.setattr(module, f"{name}_attention", plain)
    with FlopCounterMode(display=False) as counter:
        yield counter


@every_case
def test_parameters_are_those_of_the_built_model(case: Case) -> None:
    counts = {"matrix": 0, "head": 0, "vector": 0, "table": 0}
    for _, parameter, role in case.model.roles():
        counts[role] += parameter.numel()
    assert num_params(case.config) == sum(counts.values())
    assert params(case.config).matrices == counts["matrix"] + counts["head"]
    assert params(case.config).vectors == counts["vector"]
    assert num_table_params(case.config) == counts["table"]


@every_case
def test_flops_of_training_are_those_of_the_products_that_torch_counts(
    case: Case, causally: FlopCounterMode
) -> None:
    loss = next_token_loss(case.model, tokens(2, 13 + 1))
    torch.autograd.grad(loss, list(case.model.parameters()))
    assert causally.get_total_flops() == 2 * training_flops(case.config, 13)


@every_case
def test_flops_of_decoding_are_those_of_the_products_that_torch_counts(
    case: Case, causally: FlopCounterMode
) -> None:
    ids, state = tokens(1, 18), case.model.empty_state(1, room=18)
    with torch.no_grad():
        case.model(ids[:, :17], state)
        before = causally.get_total_flops()
        case.model(ids[:, 17:], state)
    assert causally.get_total_flops() - before == decoding_flops(case.config, 17)


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

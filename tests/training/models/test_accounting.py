import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.training.models.random_weights import VARIANTS, awake, small_config, tokens
from training.losses import next_token_loss
from training.models.accounting import (
    answer_flops,
    decode_cache_bytes,
    forward_flops_per_token,
    num_matmul_params,
    num_params,
    num_table_params,
    train_flops_per_token,
)
from training.models.language_model import build
from training.models.variants import TransformerConfig

variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


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


@pytest.mark.parametrize(
    "variant", [v for v in VARIANTS.values() if "window" not in v], ids=lambda v: str(v)
)
def test_flops_are_those_of_the_products_that_torch_counts(variant: dict) -> None:
    config = small_config(**variant)
    model = awake(config)
    with FlopCounterMode(display=False) as counter:
        next_token_loss(model, tokens(2, config.context_length + 1)).backward()
    num_tokens = 2 * config.context_length
    assert counter.get_total_flops() == num_tokens * train_flops_per_token(config)


def test_reading_costs_a_third_of_training() -> None:
    config = small_config()
    model = awake(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(tokens(2, 24))
    assert counter.get_total_flops() == 48 * forward_flops_per_token(config, 24)
    assert train_flops_per_token(config) == 3 * forward_flops_per_token(config, 24)


def test_logits_are_paid_for_where_they_are_made() -> None:
    config = small_config()
    model = awake(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.logits(model.hidden(tokens(2, 24))[:, -5:])
    assert counter.get_total_flops() == answer_flops(config, 48, 10, 24)
    assert answer_flops(config, 48, 48, 24) == 48 * forward_flops_per_token(config, 24)


def test_the_textbook_case_of_gpt2_small() -> None:
    config = TransformerConfig(
        vocab_size=50_257, context_length=1024, d_model=768, num_layers=12, num_heads=12, tied=True,
        value_embeddings=False, x0_skip=False, token_shift=False,
    )  # fmt: skip
    assert num_matmul_params(config) == 12 * 12 * 768**2 + 50_257 * 768
    assert train_flops_per_token(config) == pytest.approx(0.855e9, rel=0.002)
    assert decode_cache_bytes(config, context=1) == 12 * 2 * 768 * 2


def test_a_window_bounds_attention_and_memory() -> None:
    whole, windowed = small_config(), small_config(window=6)
    assert forward_flops_per_token(windowed, 24) == forward_flops_per_token(whole, 6)
    assert decode_cache_bytes(windowed, 24) == decode_cache_bytes(windowed, 6)
    assert decode_cache_bytes(windowed, 5) < decode_cache_bytes(windowed, 6)


def test_grouped_heads_shrink_the_cache_by_their_group() -> None:
    bare = {"token_shift": False}
    whole = decode_cache_bytes(small_config(**bare), 24)
    assert decode_cache_bytes(small_config(num_kv_heads=1, **bare), 24) * 4 == whole

import math

import pytest
import torch
from pydantic import ValidationError

from tests.training.models.random_weights import awake, small_config, tokens
from training.models.configs.positions import Rope, Stretch
from training.models.positions import rotary_table, sinusoidal_table
from training.models.variants import ModelConfig

CPU = torch.device("cpu")


def test_position_zero_is_not_turned_and_one_turns_the_first_pair_by_one_radian() -> None:
    table = rotary_table(Rope(), 8, 24, CPU)
    assert torch.equal(table[0], torch.ones(4, dtype=torch.complex64))
    torch.testing.assert_close(table[1, 0].angle(), torch.tensor(1.0))


def test_pairs_turn_slower_by_powers_of_theta() -> None:
    speeds = rotary_table(Rope(theta=10_000.0), 8, 24, CPU)[1].angle()
    torch.testing.assert_close(speeds, torch.tensor([1.0, 0.1, 0.01, 0.001]))


def test_far_positions_are_as_exact_as_near_ones() -> None:
    table = rotary_table(Rope(), 8, 100_000, CPU)
    torch.testing.assert_close(table[99_999, 0].real, torch.tensor(math.cos(99_999.0)))


def test_sinusoids_are_those_of_the_transformer_paper() -> None:
    table = sinusoidal_table(32, 24, CPU)
    assert table.shape == (24, 32)
    position, pair = 7, 5
    angle = position / 10_000 ** (2 * pair / 32)
    torch.testing.assert_close(table[position, 2 * pair].item(), math.sin(angle))
    torch.testing.assert_close(table[position, 2 * pair + 1].item(), math.cos(angle))


def test_without_positions_and_shift_earlier_tokens_are_a_set() -> None:
    model = awake(small_config(positions="none", token_shift=False, num_layers=1))
    ids = tokens(1, 10)
    shuffled = torch.cat((ids[:, :9].flip(1), ids[:, 9:]), dim=1)
    torch.testing.assert_close(model(ids)[:, -1], model(shuffled)[:, -1], atol=1e-4, rtol=1e-4)
    rotary = awake(small_config(token_shift=False, num_layers=1))
    assert not torch.allclose(rotary(ids)[:, -1], rotary(shuffled)[:, -1], atol=1e-2)


def speeds(rope: Rope, d_head: int) -> torch.Tensor:
    """In radians per position; the table's angles of position 1, of which none is beyond pi."""
    return rotary_table(rope, d_head, 24, CPU)[1].angle()


def test_only_the_first_channels_turn_where_a_fraction_does() -> None:
    whole, part = rotary_table(Rope(), 4, 24, CPU), rotary_table(Rope(fraction=0.5), 8, 24, CPU)
    assert part.shape == (24, 4)
    assert torch.equal(part[:, :2], whole)
    assert torch.equal(part[:, 2:], torch.ones(24, 2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("rope", "peer"),
    [
        (Rope(theta=10_000.0), {"rope_type": "default"}),
        (Rope(theta=500_000.0, fraction=0.5), {"rope_type": "default"}),
        (Rope(theta=1_000_000.0, factor=8.0), {"rope_type": "linear", "factor": 8.0}),
        (
            Rope(theta=500_000.0, stretch=Stretch(factor=32, context=8192)),
            {
                "rope_type": "llama3",
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        ),
        (
            Rope(theta=10_000.0, stretch=Stretch(factor=4, low=2.0, high=8.0, context=64)),
            {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 2.0,
                "high_freq_factor": 8.0,
                "original_max_position_embeddings": 64,
            },
        ),
    ],
)
def test_pairs_turn_as_fast_as_in_transformers(rope: Rope, peer: dict) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    parameters = {"rope_theta": rope.theta, "partial_rotary_factor": rope.fraction, **peer}
    config = LlamaConfig(
        hidden_size=128, num_attention_heads=2, head_dim=64, rope_parameters=parameters
    )
    if peer["rope_type"] == "default":
        reference, scale = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
        reference = reference[: int(rope.fraction * 32)]
        if rope.fraction < 1:  # there Llama itself turns all
            pairs = torch.arange(0, 32, 2) / 32
            reference = rope.theta**-pairs
    else:
        reference, scale = ROPE_INIT_FUNCTIONS[peer["rope_type"]](config, CPU)
    assert scale == 1
    torch.testing.assert_close(speeds(rope, 64)[: len(reference)], reference, rtol=1e-5, atol=1e-9)


ADDED = pytest.mark.parametrize("positions", ["learned", "sinusoidal"])


def placed(positions: str) -> ModelConfig:
    plain = small_config(positions="none", token_shift=False, num_layers=2)
    return ModelConfig.model_validate({**plain.model_dump(), "positions": positions})


@ADDED
def test_positions_added_to_embeddings_are_counted_from_the_start_of_a_document(
    positions: str,
) -> None:
    model, ids = awake(placed(positions)), tokens(2, 22)
    documents = torch.tensor([[1] * 9 + [0] * 13, [3] * 22])
    alone = torch.cat([model.hidden(part) for part in ids[:1].split([9, 13], dim=1)], dim=1)
    together = model.hidden(ids, documents=documents)
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[1:], model.hidden(ids[1:]), atol=1e-5, rtol=1e-5)


@ADDED
def test_positions_added_to_embeddings_go_on_where_decoding_stopped(positions: str) -> None:
    model, ids = awake(placed(positions)), tokens(2, 24)
    state = model.empty_state(2)
    hidden = [model.hidden(piece, state) for piece in ids.split([7, 1, 1, 15], dim=1)]
    torch.testing.assert_close(torch.cat(hidden, dim=1), model.hidden(ids), atol=1e-5, rtol=1e-5)


@ADDED
def test_positions_added_to_embeddings_tell_equal_tokens_apart(positions: str) -> None:
    hidden = awake(placed(positions)).hidden(torch.full((1, 24), 5))[0]
    assert ((hidden[1:] - hidden[:-1]).abs().amax(-1) > 1e-3).all()


def test_learned_positions_are_rows_of_a_table() -> None:
    model, ids = awake(placed("learned")), tokens(1, 7)
    before = model.hidden(ids)
    with torch.no_grad():
        model.position_embedding.weight[7:] += 1
        assert torch.equal(model.hidden(ids), before)
        model.position_embedding.weight[6] += 1
        after = model.hidden(ids)
    assert torch.equal(after[:, :6], before[:, :6]) and not torch.equal(after, before)


def test_sinusoids_of_an_odd_width_are_refused() -> None:
    odd = small_config(positions="sinusoidal").model_dump()
    for layer in odd["layers"].values():
        layer["mixer"]["d_head"] = 8
    with pytest.raises(ValidationError) as refusal:
        ModelConfig.model_validate({**odd, "d_model": 33})
    assert "d_model must be even where positions are sinusoids, got 33" in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"theta": 1.0}, "Input should be greater than 1"),
        ({"fraction": 0.0}, "Input should be greater than 0"),
        ({"fraction": 1.5}, "Input should be less than or equal to 1"),
        (
            {"stretch": {"factor": 8, "low": 4.0, "high": 4.0, "context": 64}},
            "stretch.low must be below stretch.high, got 4.0 and 4.0",
        ),
    ],
)
def test_turns_that_mean_nothing_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        Rope.model_validate(changes)
    assert message in str(refusal.value)

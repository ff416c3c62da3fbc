import math

import pytest
import torch
import torch.nn.functional as F

from datalake.config import Refusal
from tests.training.models.random_weights import VARIANTS, awake, small_config, tokens
from training.losses import next_token_loss
from training.models.language_model import build


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_earlier_token_within_reach_changes_the_logits(variant: dict) -> None:
    config = small_config(**variant)
    model, ids = awake(config), tokens(1, 24)
    layer = config.layers["plain"]
    span = (layer.mixer.window or config.context_length) - 1 + (layer.local is not None)
    reach = config.num_layers * span
    for place in range(24):
        changed = ids.clone()
        changed[0, place] = (ids[0, place] + 1) % config.vocab_size
        differs = not torch.equal(model(ids)[0, -1], model(changed)[0, -1])
        assert differs == (23 - place <= reach)


@pytest.mark.parametrize("tied", [False, True])
def test_a_fresh_model_guesses_about_uniformly(tied: bool) -> None:
    model = build(small_config(tied=tied))
    loss = next_token_loss(model, tokens(4, 25)).item()
    assert loss == pytest.approx(math.log(61), abs=0.1 if tied else 1e-5)


def test_equal_seeds_give_equal_weights_and_other_seeds_others() -> None:
    one, same, other = (build(small_config(), seed) for seed in (3, 3, 4))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name])
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


def test_weights_do_not_depend_on_the_global_random_state() -> None:
    torch.manual_seed(1)
    one = build(small_config())
    torch.manual_seed(2)
    assert torch.equal(one.embedding.weight, build(small_config()).embedding.weight)


def test_a_model_that_decoded_in_inference_mode_can_still_learn() -> None:
    config = small_config(rope_theta=123.0)  # whose table nobody made yet
    model = awake(config)
    with torch.inference_mode():
        model(tokens(1, 9))
    next_token_loss(model, tokens(1, 9)).backward()


def test_weights_round_trip_through_the_state_dict() -> None:
    model, copy = awake(small_config()), build(small_config(), seed=9)
    copy.load_state_dict(model.state_dict())
    assert torch.equal(model(tokens(1, 9)), copy(tokens(1, 9)))


def test_the_loss_is_that_of_the_logits() -> None:
    model, ids = awake(small_config()), tokens(3, 25)
    plain = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(next_token_loss(model, ids), plain)


def test_roles_name_each_parameter_once() -> None:
    model = build(small_config())
    roles = {name: role for name, _, role in model.roles()}
    assert roles.keys() == dict(model.named_parameters()).keys()
    assert roles["head.weight"] == "head"
    assert roles["embedding.weight"] == roles["blocks.1.mixer.value_embedding.weight"] == "table"
    assert roles["blocks.0.mixer.query.weight"] == "matrix"
    assert roles["blocks.0.local.shift"] == roles["blocks.1.mixer.value_mix"] == "vector"


def test_a_tied_table_is_trained_as_the_head_that_it_is() -> None:
    model = build(small_config(tied=True))
    assert {name: role for name, _, role in model.roles()}["embedding.weight"] == "head"


def test_more_tokens_than_the_context_are_refused() -> None:
    with pytest.raises(Refusal, match="tokens must be at most context_length 24, got 25"):
        build(small_config())(tokens(1, 25))

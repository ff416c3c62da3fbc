"""Norms by their formulas, where they stand, and the scales beside them."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from tests.training.models.random_weights import SMALL, awake, small_config, tokens
from training.losses import answer_log_probs, next_token_loss, next_token_nats
from training.models.configs.norms import Norm
from training.models.norms import build_norm
from training.models.variants import ModelConfig


def formula(config: Norm, x: Tensor, gain: Tensor | float, bias: Tensor | float) -> Tensor:
    x = x.double()
    if config.kind == "layer":
        x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + config.eps).sqrt() * gain + bias


@pytest.mark.parametrize("eps", [1e-6, 0.1])
@pytest.mark.parametrize(
    ("kind", "gain", "bias"),
    [("rms", 0, 0), ("rms", 1, 0), ("layer", 0, 0), ("layer", 1, 0), ("layer", 1, 1)],
)
def test_a_norm_and_its_gradients_are_those_of_the_formula(
    kind: str, gain: int, bias: int, eps: float
) -> None:
    config = Norm.model_validate({"kind": kind, "gain": bool(gain), "bias": bool(bias), "eps": eps})
    norm, x = build_norm(config, 12), torch.randn(2, 5, 12, requires_grad=True)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    named = dict(norm.named_parameters())
    assert len(named) == gain + bias and config.num_params(12) == 12 * (gain + bias)
    reference = formula(config, x, named.get("weight", 1.0), named.get("bias", 0.0)).float()
    torch.testing.assert_close(norm(x), reference, atol=1e-5, rtol=1e-5)
    dy, inputs = torch.randn(2, 5, 12), (x, *norm.parameters())
    ours, exact = (torch.autograd.grad(y, inputs, dy) for y in (norm(x), reference))
    torch.testing.assert_close(ours, exact, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_a_norm_is_handed_on_in_the_dtype_of_the_product_that_follows(kind: str) -> None:
    config = Norm.model_validate({"kind": kind, "gain": True})
    norm, x = build_norm(config, 12), torch.randn(2, 12)
    with torch.no_grad():
        torch.nn.init.ones_(next(norm.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        assert norm(x).dtype == torch.bfloat16
    assert norm(x).dtype == torch.float32


Step = Callable[[Tensor], Tensor]
PLACES: dict[str, Callable[[Tensor, Step, Step, Step, float], Tensor]] = {
    "pre": lambda x, part, norm, _, scale: x + scale * part(norm(x)),
    "post": lambda x, part, norm, _, scale: norm(x + scale * part(x)),
    "sandwich": lambda x, part, norm, outer, scale: x + scale * outer(part(norm(x))),
    "reordered": lambda x, part, norm, _, scale: x + scale * norm(part(x)),
}


@pytest.mark.parametrize("residual_scale", [1.0, 0.3])
@pytest.mark.parametrize("place", PLACES)
def test_norms_stand_where_their_place_says(place: str, residual_scale: float) -> None:
    plain = small_config(num_layers=2, token_shift=False, x0_skip=False, norm_place=place)
    config = changed(plain, norm={"gain": True}, residual_scale=residual_scale)
    model, ids = awake(config), tokens(2, 20)
    seen = model._reading(ids, None, None)
    x = model._embedded(seen)
    for block in model.blocks:
        parts: dict[str, Step] = {
            "mixer": lambda h, block=block: block.mixer(h, seen, seen.turns[0]),
            "feed_forward": lambda h, block=block: block.feed_forward(h),
        }
        for name, part in parts.items():
            norm, outer = (getattr(block, name + end, None) for end in ("_norm", "_out_norm"))
            assert (outer is not None) == (place == "sandwich")
            x = PLACES[place](x, part, norm, outer, residual_scale)  # type: ignore[arg-type]
    torch.testing.assert_close(model.hidden(ids), model.norm(x), atol=1e-5, rtol=1e-5)


def changed(config: ModelConfig, **changes: object) -> ModelConfig:
    return ModelConfig.model_validate({**config.model_dump(), **changes})


def test_embeddings_are_scaled() -> None:
    model = awake(changed(small_config(), embedding_scale=3.0, embedding_norm=False))
    seen = model._reading(tokens(1, 5), None, None)
    torch.testing.assert_close(model._embedded(seen), 3 * model.embedding.weight[tokens(1, 5)])


@pytest.mark.parametrize("tied", [False, True])
def test_logits_are_scaled_and_capped_wherever_they_are_made(tied: bool) -> None:
    plain = awake(small_config(tied=tied))
    model = awake(changed(small_config(tied=tied), logit_scale=0.5, logit_softcap=2.0))
    model.load_state_dict(plain.state_dict())
    ids = tokens(2, 25)
    logits = 2 * torch.tanh(0.5 * plain(ids[:, :-1]) / 2)
    torch.testing.assert_close(model(ids[:, :-1]), logits)
    assert logits.abs().max() > 1  # where the cap bends
    nats = F.cross_entropy(logits.mT, ids[:, 1:], reduction="none")
    torch.testing.assert_close(next_token_nats(model, ids), nats)
    said, _ = answer_log_probs(model, ids, torch.ones_like(ids, dtype=torch.bool))
    torch.testing.assert_close(said, -nats)
    weights = list(model.parameters())
    losses = (next_token_loss(model, ids), -said.mean())
    ours, reference = (torch.autograd.grad(loss, weights) for loss in losses)
    torch.testing.assert_close(losses[0], nats.mean())
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": {"bias": True}}, "norm.bias must be left out of a rms norm without gain, got"),
        ({"norm": {"kind": "layer", "bias": True}}, "left out of a layer norm without gain"),
        ({"norm": {"eps": 0}}, "Input should be greater than 0"),
        ({"norm_place": "before"}, "Input should be 'pre', 'post', 'sandwich' or 'reordered'"),
        ({"residual_scale": 0}, "Input should be greater than 0"),
        ({"logit_softcap": 0}, "Input should be greater than 0"),
    ],
)
def test_norms_and_scales_that_mean_nothing_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        changed(small_config(**{"num_layers": SMALL["num_layers"]}), **changes)
    assert message in str(refusal.value)

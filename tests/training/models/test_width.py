"""Does what was found at one width hold at others? The coordinate test of Yang et al. 2022."""

import inspect
import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from alignment.reward_model import RewardModel
from training.losses import next_token_loss
from training.models.language_model import LanguageModel, build
from training.models.presets.by_name import PRESETS
from training.models.presets.own import recall
from training.models.variants import ModelConfig
from training.optim import Optimizer
from training.schedule import OptimizerConfig

SIZES = {"vocab_size": 32, "context_length": 16, "num_layers": 2}


def config_of(
    d_model: int,
    base_width: int | None,
    preset: str = "tarn",
    num_heads: int = 0,
    **changes: object,
) -> ModelConfig:
    """Heads have 16 channels, or there are ``num_heads`` at every width."""
    heads = {"num_heads": num_heads or d_model // 16}
    config = PRESETS[preset](**{**SIZES, "d_model": d_model, **heads, **changes})
    return ModelConfig.model_validate({**config.model_dump(), "base_width": base_width})


def ids_of(seed: int) -> Tensor:
    """Rows [4, 17] of a chain in which two tokens follow each."""
    generator = torch.Generator().manual_seed(seed)
    follows = torch.randint(32, (32, 2), generator=torch.Generator().manual_seed(99))
    rows = [torch.randint(32, (4,), generator=generator)]
    for _ in range(16):
        chosen = torch.randint(2, (4,), generator=generator)
        rows.append(follows[rows[-1], chosen])
    return torch.stack(rows, dim=1)


def adam(model: LanguageModel, lr: float) -> torch.optim.Optimizer:
    """All parameters by Adam at one rate, but for the multipliers."""
    times = model.rate_multipliers()
    groups = [{"params": [p], "lr": lr * times[name]} for name, p in model.named_parameters()]
    return torch.optim.Adam(groups, eps=1e-12)


def scales(config: ModelConfig, how: str) -> dict[str, float]:
    """Mean size of what each block and the head give after three steps on one batch."""
    model, ids, seen = build(config), ids_of(0), {}
    if how == "adam":
        # Starts of deviation 0.02 are soon overrun.
        step = adam(model, lr=1e-3 if config.init == "normal" else 1e-2).step
    else:
        optimizer = Optimizer(model, OptimizerConfig())
        step = lambda: optimizer.step(1.0)  # noqa: E731
    for _ in range(3):
        model.zero_grad()
        next_token_loss(model, ids).backward()
        step()
    for index, block in enumerate(model.blocks):
        block.register_forward_hook(
            lambda _, inputs, x, name=f"block {index}": seen.update({name: x.abs().mean().item()})
        )
    with torch.no_grad():
        seen["logits"] = model(ids[:, :-1]).abs().mean().item()
    return seen


def slopes(configs: list[ModelConfig], how: str) -> dict[str, float]:
    """Of log size against log width."""
    found = [scales(config, how) for config in configs]
    x = torch.tensor([math.log(config.d_model) for config in configs])
    y = {name: torch.tensor([math.log(sizes[name]) for sizes in found]) for name in found[0]}
    return {name: (torch.cov(torch.stack((x, z)))[0, 1] / x.var()).item() for name, z in y.items()}


def family(narrowest: int, is_based: bool, preset: str, changes: dict) -> list[ModelConfig]:
    """At eight times the width, and between."""
    base = narrowest if is_based else None
    return [config_of(narrowest * times, base, preset, **changes) for times in (1, 2, 4, 8)]


def cases(narrowest: int) -> pytest.MarkDecorator:
    """What is tried of widths from ``narrowest`` on, and slowly of more from 64 on."""
    more = [("tarn", {"tied": True}), ("tarn", {"num_heads": 4}), ("gpt2", {})]
    more.append(("recall", {"num_slots": 50}))
    if narrowest != 64:
        more.append(("tarn", {}))
    slow = [pytest.param(64, *case, marks=pytest.mark.slow) for case in more]
    quick = [(narrowest, "tarn", {})]
    return pytest.mark.parametrize(("narrowest", "preset", "changes"), [*quick, *slow])


@cases(64)
def test_activations_keep_their_scale_as_width_grows_eightfold(
    narrowest: int, preset: str, changes: dict
) -> None:
    flat = slopes(family(narrowest, True, preset, changes), "adam")
    assert all(abs(slope) < 0.2 for slope in flat.values()), flat


@cases(64)
def test_without_a_base_width_activations_grow_with_width(
    narrowest: int, preset: str, changes: dict
) -> None:
    steep = slopes(family(narrowest, False, preset, changes), "adam")
    assert all(slope > 0.5 for slope in steep.values()), steep


@cases(32)
def test_with_muon_activations_keep_their_scale_as_width_grows_eightfold(
    narrowest: int, preset: str, changes: dict
) -> None:
    flat = slopes(family(narrowest, True, preset, changes), "own")
    assert all(abs(slope) < 0.2 for slope in flat.values()), flat


@cases(32)
def test_without_a_base_width_the_head_outgrows_what_muon_keeps_flat(
    narrowest: int, preset: str, changes: dict
) -> None:
    steep = slopes(family(narrowest, False, preset, changes), "own")
    assert steep.pop("logits") > 0.4
    assert all(abs(slope) < 0.1 for slope in steep.values()), steep


@pytest.mark.slow
def test_the_best_rate_of_a_sweep_stays_put_as_width_grows_eightfold() -> None:
    rates = [2.0**-power for power in range(11, 2, -1)]

    def final(config: ModelConfig, rate: float) -> float:
        """Loss over the last 5 of 30 steps."""
        model, losses = build(config), []
        optimizer = adam(model, rate)
        for step in range(30):
            optimizer.zero_grad()
            loss = next_token_loss(model, ids_of(step))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return sum(losses[-5:])

    def best(width: int, base_width: int | None) -> float:
        config = config_of(width, base_width)
        return min(rates, key=lambda rate: final(config, rate))

    found = best(32, 32)
    assert best(32, None) == found  # at the base width nothing is changed
    assert best(256, 32) in (found / 2, found, 2 * found)
    assert best(256, None) <= found / 8


def test_without_a_base_width_all_is_as_it_was() -> None:
    for preset in ("tarn", "gpt2"):
        model = build(config_of(64, None, preset))
        assert set(model.rate_multipliers().values()) == {1.0}
        at_base = build(config_of(64, 64, preset))
        assert set(at_base.rate_multipliers().values()) == {1.0} and at_base.head_scale == 1
        for name, weight in model.state_dict().items():
            assert torch.equal(weight, at_base.state_dict()[name])


def test_a_recipe_may_say_the_base_width() -> None:
    given = {"preset": "tarn", **SIZES, "d_model": 256, "num_heads": 16, "base_width": 64}
    config = ModelConfig.model_validate(given)
    assert config == config_of(256, 64)
    assert config.resized(128).base_width == 64


def test_matrices_and_the_head_of_a_wider_model_move_less() -> None:
    model = build(config_of(256, 64))
    for name, _, role in model.roles():
        expected = 0.25 if role in ("matrix", "head") else 1
        assert model.rate_multipliers()[name] == expected, name


def test_a_tied_head_keeps_its_rate_and_reads_smaller_states() -> None:
    wide, plain = (build(config_of(256, base, tied=True)) for base in (64, None))
    assert wide.rate_multipliers()["embedding.weight"] == 1
    ids = ids_of(0)[:, :-1]  # fresh blocks are the identity, so that scores do not matter
    torch.testing.assert_close(4 * wide(ids), plain(ids))


def test_what_does_not_get_more_inputs_keeps_its_rate() -> None:
    config = recall(**SIZES, d_model=256, num_heads=16, num_slots=50, d_table=8).model_dump()
    config = ModelConfig.model_validate({**config, "base_width": 64})
    memory = "blocks.1.ngrams."
    times = build(config).rate_multipliers()
    assert times[memory + "key.weight"] == 1 / 4  # rows widen with the model
    assert times[memory + "embedding.weight"] == times["embedding.weight"] == 1
    assert times["blocks.0.local.shift"] == times["blocks.0.skip"] == 1


def test_the_optimizer_takes_first_steps_of_the_rates_times_the_multipliers() -> None:
    model, config = build(config_of(256, 64)), OptimizerConfig()
    optimizer = Optimizer(model, config)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(0.5)
    rates = {"head": config.adam_lr / 4, "vector": config.adam_lr, "table": config.table_lr}
    for name, parameter, role in model.roles():
        change = parameter.detach() - before[name]
        if role == "matrix":  # of one direction, whose singular value is carried to about 1
            rate = config.muon_lr * max(1, parameter.shape[0] / parameter.shape[1]) ** 0.5
            norm = torch.linalg.matrix_norm(change, 2).item()
            assert 0.6 < norm / (0.5 * rate) < 1.3, name
        else:
            moved = torch.full_like(change, -0.5 * rates[role])
            torch.testing.assert_close(change, moved, atol=1e-6, rtol=1e-4)


def test_scores_are_divided_by_the_width_of_heads_where_rates_transfer() -> None:
    for d_model, num_heads in ((64, 4), (256, 4), (256, 16)):
        wide = build(config_of(d_model, 64, num_heads=num_heads)).blocks[0].mixer.config
        assert wide.scale == 8 / (d_model / num_heads)
    assert build(config_of(64, None)).blocks[0].mixer.config.scale is None
    given = config_of(64, None).model_dump()
    for layer in given["layers"].values():
        layer["mixer"]["scale"] = 0.3
    given["base_width"] = 32
    assert build(ModelConfig.model_validate(given)).blocks[0].mixer.config.scale == 0.3


def test_the_gate_of_n_grams_is_divided_by_the_width_where_rates_transfer() -> None:
    for d_model in (64, 256):
        model = build(config_of(d_model, 64, "recall", num_slots=50))
        assert model.blocks[1].ngrams.scale == 8 / d_model
    assert build(config_of(256, None, "recall", num_slots=50)).blocks[1].ngrams.scale == 1 / 16


@pytest.mark.parametrize(("base_width", "times"), [(None, 1), (64, 4)])
def test_normal_starts_have_the_deviations_of_gpt_2(base_width: int | None, times: int) -> None:
    model = build(config_of(256, base_width, "gpt2", num_heads=16, vocab_size=512, tied=False))
    for name, parameter, role in model.roles():
        if role == "vector":
            assert (parameter == (1 if "norm.weight" in name else 0)).all(), name
            continue
        std = 0.02 / math.sqrt(2 * 2) if ".out." in name or ".down." in name else 0.02
        std /= {"matrix": math.sqrt(times), "head": times, "table": 1}[role]
        assert parameter.std().item() == pytest.approx(std, rel=0.05), name
        assert abs(parameter.mean().item()) < 0.05 * std, name


def test_a_tied_normal_start_is_that_of_a_table() -> None:
    for base_width in (None, 64):
        model = build(config_of(256, base_width, "gpt2", num_heads=16, vocab_size=512))
        assert model.embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_zero_starts_leave_blocks_silent_and_guess_uniformly() -> None:
    model = build(config_of(64, None))
    assert not model(ids_of(0)[:, :-1]).any()
    for name, parameter, role in model.roles():
        if role == "matrix" and parameter.any():
            assert parameter.std().item() == pytest.approx(parameter.shape[1] ** -0.5, rel=0.05)
            assert ".out." not in name and ".down." not in name


def test_a_score_of_conversations_moves_as_a_head() -> None:
    times = RewardModel(build(config_of(256, 64))).rate_multipliers()
    assert times["score"] == times["language_model.head.weight"] == 0.25
    assert times["language_model.embedding.weight"] == 1
    reward_model = RewardModel(build(config_of(64, None)))
    assert reward_model.rate_multipliers().keys() == dict(reward_model.named_parameters()).keys()


def test_a_base_width_that_the_parts_cannot_have_is_refused() -> None:
    with pytest.raises(ValidationError) as refusal:
        config_of(64, 21)
    assert "base_width must be one that its parts can have, got 21" in str(refusal.value)


def small(preset: str) -> ModelConfig:
    """Of any preset; what it asks for beyond the usual sizes is small, too."""
    given = {**SIZES, "d_model": 64, "num_heads": 2, "num_experts": 4, "top_k": 2}
    known = inspect.signature(PRESETS[preset]).parameters.values()
    return PRESETS[preset](**{p.name: given.get(p.name, 16) for p in known if p.default is p.empty})


@pytest.mark.parametrize("preset", PRESETS)
def test_a_model_of_any_preset_built_without_memory_gets_the_same_weights(preset: str) -> None:
    config = small(preset)
    with torch.device("meta"):
        model = LanguageModel(config)
    model.to_empty(device="cpu").init_weights(seed=5)
    direct = build(config, seed=5).state_dict()
    assert model.state_dict().keys() == direct.keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, direct[name]), name

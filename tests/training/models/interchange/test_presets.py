"""The presets of published families: what a recipe says, other sizes, and the family they are."""

from pathlib import Path

import pytest
import torch

from orchestration.recipe import load_recipe
from tests.training.models.random_weights import awake, tokens
from training.models.interchange import folder
from training.models.interchange.families import family_for
from training.models.variants import ModelConfig

SIZES = {"vocab_size": 512, "context_length": 24, "d_model": 64, "num_layers": 3, "num_heads": 4}
# A preset's name: what a recipe says besides sizes, and the type that others call it.
PRESETS: dict[str, tuple[dict, str]] = {
    "gpt2": ({}, "gpt2"),
    "llama3": (
        {"num_kv_heads": 2, "rope_stretch": {"factor": 8, "context": 12}, "tied": True},
        "llama",
    ),
    "qwen3": ({"num_kv_heads": 1, "d_head": 24}, "qwen3"),
    "gemma2": ({"num_kv_heads": 2, "window": 7, "query_scalar": 20}, "gemma2"),
    "gemma3": (
        {"num_kv_heads": 2, "window": 7, "num_local": 2, "rope_factor": 8, "query_scalar": 20},
        "gemma3_text",
    ),
    "olmo2": ({"num_kv_heads": 2}, "olmo2"),
    "qwen3_next": (
        {"num_kv_heads": 2, "num_experts": 5, "top_k": 2, "d_expert": 24, "num_delta": 1},
        "qwen3_next",
    ),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_may_name_the_preset(name: str, tmp_path: Path) -> None:
    said, _ = PRESETS[name]
    text = f"""
        extends: smoke
        training: {{scaling_runs: {{model: {{preset: {name}, {spelled(SIZES | said)}}}}}}}
    """
    (tmp_path / "mine.yaml").write_text("\n".join(map(str.strip, text.strip().splitlines())))
    model = load_recipe(str(tmp_path / "mine.yaml")).training.scaling_runs.model
    assert model == ModelConfig.model_validate({"preset": name, **SIZES, **said})


def spelled(fields: dict) -> str:
    """As YAML on one line."""
    return str(fields)[1:-1].replace("'", "").replace("True", "true")


@pytest.mark.parametrize("name", PRESETS)
def test_the_preset_of_another_size_is_written_as_the_same_family(
    name: str, tmp_path: Path
) -> None:
    said, model_type = PRESETS[name]
    config = ModelConfig.model_validate({"preset": name, **SIZES, **said})
    for d_model, num_layers in ((64, 3), (32, 2), (96, 7)):
        resized = config.resized(d_model, num_layers)
        family, _ = family_for(resized)
        assert (family.model_type, resized.d_model) == (model_type, d_model)
        model = awake(resized).eval()
        folder.save(model, None, tmp_path / str(d_model))
        again = folder.load(tmp_path / str(d_model))
        for name, weight in again.state_dict().items():
            torch.testing.assert_close(weight, model.state_dict()[name], msg=name)
        torch.testing.assert_close(again(tokens(2, 20)), model(tokens(2, 20)))

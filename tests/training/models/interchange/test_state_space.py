"""What the families of Mamba-2 read and write besides the logits that ``test_families.py`` has."""

from pathlib import Path
from typing import Any

import pytest
import torch

from datalake.config import Refusal
from tests.training.models.interchange.peers import GRANITE, MAMBA2
from tests.training.models.random_weights import awake, tokens
from training.models.interchange import folder
from training.models.interchange.families import family_of
from training.models.interchange.family import Fields, differences
from training.models.interchange.granite_hybrid import GRANITE_HYBRID
from training.models.interchange.mamba2 import LONGEST
from training.models.interchange.mamba2 import MAMBA2 as MAMBA2_FAMILY
from training.models.presets.hybrids import granite_hybrid, mamba2
from training.models.variants import ModelConfig

transformers = pytest.importorskip("transformers", reason="transformers (extra peers) is missing")

SMALL = {"vocab_size": 61, "context_length": 24, "d_model": 32, "d_head": 8, "d_state": 6}


def read(model_type: str, **fields: Any) -> ModelConfig:
    given = {"model_type": model_type, **fields}
    return family_of(given).read(Fields(given))


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (mamba2(**SMALL, num_layers=2), "Mamba2ForCausalLM"),
        (granite_hybrid(**SMALL, num_layers=7, num_heads=4), "GraniteMoeHybridForCausalLM"),
    ],
    ids=["mamba2", "granite_hybrid"],
)
def test_presets_run_in_transformers(config: ModelConfig, kind: str, tmp_path: Path) -> None:
    model, ids = awake(config), tokens(2, 24)
    folder.save(model, None, tmp_path)
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(peer).__name__ == kind
    with torch.no_grad():
        torch.testing.assert_close(peer(ids).logits, model(ids), atol=1e-4, rtol=0)
    assert not differences(folder.load(tmp_path).config, config)


@pytest.mark.parametrize("limits", [(0.01, 0.5), (0.01, float("inf"))])
def test_limits_of_steps_are_kept(limits: tuple[float, float], tmp_path: Path) -> None:
    theirs = transformers.Mamba2Config(**MAMBA2, time_step_limit=limits)
    peer, ids = transformers.AutoModelForCausalLM.from_config(theirs).eval(), tokens(2, 24)
    with torch.no_grad():
        peer.backbone.layers[0].mixer.dt_bias += torch.linspace(-8, 2, 8)
    peer.save_pretrained(tmp_path / "theirs")
    model = folder.load(tmp_path / "theirs")
    folder.save(model, None, tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert tuple(again.config.time_step_limit) == limits
    with torch.no_grad():
        torch.testing.assert_close(model(ids), peer(ids).logits, atol=1e-4, rtol=0)


def test_a_file_without_a_longest_context_has_room() -> None:
    assert read("mamba2", **MAMBA2).context_length == LONGEST


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        ("mamba2", MAMBA2 | {"hidden_act": "gelu"}, "hidden_act must be silu, got gelu"),
        ("mamba2", MAMBA2 | {"time_step_limit": [1]}, "time_step_limit must be two numbers"),
        ("granitemoehybrid", GRANITE | {"num_local_experts": 8}, "num_local_experts must be 0"),
        (
            "granitemoehybrid",
            {name: value for name, value in GRANITE.items() if name != "num_local_experts"},
            "num_local_experts must be a whole number, got nothing",
        ),
        (
            "granitemoehybrid",
            GRANITE | {"layer_types": ["mamba", "conv", "mamba"]},
            "layer_types must be 3 of mamba, linear_attention, attention, full_attention, "
            "got mamba, conv, mamba",
        ),
        (
            "granitemoehybrid",
            GRANITE | {"position_embedding_type": "alibi"},
            "position_embedding_type must be nope or rope, got alibi",
        ),
    ],
)
def test_what_is_not_there_is_refused_by_name(
    model_type: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refusal, match=message):
        read(model_type, **fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 6}, "heads of a multiple of 32 channels, got 48"),
        ({"norm_eps": 0.1}, "layers.mamba.mixer.norm_eps 1e-05, got 0.1"),
    ],
)
def test_layers_that_the_family_has_not_are_not_written(
    changes: dict[str, Any], message: str
) -> None:
    config = mamba2(**SMALL, num_layers=2)
    layer = config.layers["mamba"]
    changed = layer.model_copy(update={"mixer": layer.mixer.model_copy(update=changes)})
    with pytest.raises(Refusal, match=message):
        MAMBA2_FAMILY.written(config.model_copy(update={"layers": {"mamba": changed}}))


def test_a_hybrid_of_one_kind_is_not_written() -> None:
    config = granite_hybrid(**SMALL, num_layers=3, num_heads=4)
    with pytest.raises(Refusal, match="layers of mamba2 and of attention, got mamba2 alone"):
        GRANITE_HYBRID.written(config)

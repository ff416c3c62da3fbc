"""What is DeepSeek-V3's own; that its logits are those of ``transformers`` is in test_families."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from datalake.config import Refusal
from tests.training.models.interchange.peers import random_peer
from tests.training.models.random_weights import tokens
from training.losses import next_token_loss
from training.models.configs.experts import BiasBalance
from training.models.interchange import folder
from training.models.interchange.deepseek import DEEPSEEK_V3
from training.models.interchange.families import family_for
from training.models.language_model import build
from training.models.presets.transformers import deepseek_v3
from training.models.variants import ModelConfig

transformers = pytest.importorskip("transformers", reason="transformers (extra peers) is missing")
SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "context_length": 24,
    "d_model": 32,
    "num_layers": 3,
    "num_heads": 4,
    "kv_rank": 16,
    "q_rank": 12,
    "num_experts": 8,
    "top_k": 2,
    "d_expert": 12,
}


def changed(part: str, field: str, **changes: Any) -> ModelConfig:
    """The small model with settings of a part of its layers of experts changed."""
    said = deepseek_v3(**SMALL).model_dump()
    said["layers"][part][field] |= changes
    return ModelConfig.model_validate(said)


@pytest.mark.parametrize(
    "changes", [{}, {"q_rank": None, "num_dense": 0}, {"num_groups": 4, "top_groups": 2}]
)
def test_the_preset_is_written_as_transformers_reads_it(changes: dict, tmp_path: Path) -> None:
    model = build(deepseek_v3(**{**SMALL, **changes}), seed=1).eval()
    assert folder.save(model, None, tmp_path / "ours") is DEEPSEEK_V3
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(peer).__name__ == "DeepseekV3ForCausalLM"
    ids = tokens(3, 24)
    with torch.no_grad():
        torch.testing.assert_close(peer(ids).logits, model(ids), atol=1e-4, rtol=0)


def test_its_cache_is_no_larger_than_that_of_transformers(tmp_path: Path) -> None:
    peer = random_peer("deepseek v3")
    peer.save_pretrained(tmp_path)
    model, ids = folder.load(tmp_path), tokens(1, 24)
    state = model.empty_state(1)
    with torch.no_grad():
        theirs = peer(ids, use_cache=True).past_key_values
        model(ids, state)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in theirs.layers)
    assert sum(block.mixer.num_bytes() for block in state.blocks) <= held


def test_what_was_read_can_be_trained_on(tmp_path: Path) -> None:
    peer = random_peer("deepseek v3")
    peer.save_pretrained(tmp_path)
    model = folder.load(tmp_path)
    assert not any(buffer.is_meta for buffer in model.buffers())
    next_token_loss(model, tokens(2, 20)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_how_fast_biases_moved_is_not_asked_when_it_is_written() -> None:
    config = changed("experts", "feed_forward", balance=BiasBalance(rate=0.1).model_dump())
    assert family_for(config)[0] is DEEPSEEK_V3


@pytest.mark.parametrize(
    ("place", "changes", "message"),
    [
        (("experts", "mixer"), {"scale": 0.5}, "layers.experts.mixer.scale nothing, got 0.5"),
        (("experts", "mixer"), {"d_key": 12}, "layers.experts.mixer.d_key 8, got 12"),
        (("experts", "feed_forward"), {"scores": "softmax"}, "scores sigmoid, got softmax"),
        (("experts", "feed_forward"), {"balance": None}, "balance bias, got nothing"),
        (("experts", "feed_forward"), {"d_shared": 13}, "d_shared 12, got 13"),
        (("experts", "feed_forward"), {"d_shared": None}, "d_shared 12, got nothing"),
    ],
)
def test_what_it_cannot_express_is_named(place: tuple, changes: dict, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        DEEPSEEK_V3.written(changed(*place, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_bias": True}, "attention_bias must be false, got true"),
        ({"rope_interleave": False}, "rope_interleave must be true, got false"),
        ({"num_key_value_heads": 2}, "num_key_value_heads must be 4, got 2"),
        ({"first_k_dense_replace": 3}, "must be below num_hidden_layers 3, got 3"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1, got 0.5"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 40.0}}, "rope_type must be .* yarn"),
        ({"kv_lora_rank": None, "q_lora_rank": 0}, "greater than 0"),
        ({"n_group": 3}, "num_experts must be a multiple of num_groups, got 8 and 3"),
    ],
)
def test_a_file_that_tarn_cannot_run_is_refused_by_the_field(
    changes: dict, message: str, tmp_path: Path
) -> None:
    said = {**json.loads(random_peer("deepseek v3").config.to_json_string()), **changes}
    said["architectures"] = ["DeepseekV3ForCausalLM"]
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(Refusal, match=message) as refused:
        folder.read_config(tmp_path)
    assert "\n" not in str(refused.value)


def test_the_preset_has_no_ranks_of_its_own() -> None:
    given = {name: value for name, value in SMALL.items() if name != "kv_rank"}
    with pytest.raises(ValidationError, match="preset deepseek_v3 must be given kv_rank, got"):
        ModelConfig.model_validate({"preset": "deepseek_v3", **given})

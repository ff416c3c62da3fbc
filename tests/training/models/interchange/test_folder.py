"""Folders that are not as they should be, and what no family can say."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from datalake.config import Refusal
from tests.training.models.interchange.peers import SCALING
from tests.training.models.random_weights import awake, small_config, tokens
from tests.training.tokenizer.test_bpe import TOKENIZER
from training.models.interchange import folder
from training.models.interchange.families import FAMILIES, family_for, family_of
from training.models.interchange.family import shortest_pattern
from training.models.language_model import LanguageModel
from training.models.variants import ModelConfig

SIZES = {"vocab_size": 61, "context_length": 24, "d_model": 32, "num_layers": 3, "num_heads": 4}


def preset(name: str, **changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({"preset": name, **SIZES, **changes})


@pytest.fixture
def llama(tmp_path: Path) -> tuple[LanguageModel, Path]:
    model = awake(preset("llama3", num_kv_heads=2)).eval()
    folder.save(model, None, tmp_path / "llama")
    return model, tmp_path / "llama"


def say(path: Path, **changes: Any) -> None:
    """Change fields of the folder's config."""
    given = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**given, **changes}))


def test_a_saved_model_is_loaded_again_to_the_bit(llama: tuple[LanguageModel, Path]) -> None:
    model, path = llama
    again = folder.load(path)
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name
    assert torch.equal(again(tokens(2, 9)), model(tokens(2, 9)))


def test_who_may_read_the_config_may_read_the_weights(llama: tuple[LanguageModel, Path]) -> None:
    _, path = llama
    assert (path / folder.WEIGHTS).stat().st_mode == (path / folder.CONFIG).stat().st_mode


def test_weights_of_half_precision_are_read_as_float32(llama: tuple[LanguageModel, Path]) -> None:
    _, path = llama
    weights = load_file(path / "model.safetensors")
    save_file({k: w.bfloat16() for k, w in weights.items()}, path / "model.safetensors")
    embedding = folder.load(path).embedding.weight
    assert embedding.dtype == torch.float32
    assert torch.equal(embedding, weights["model.embed_tokens.weight"].bfloat16().float())


def test_weights_in_several_files_are_found_by_the_index(llama: tuple[LanguageModel, Path]) -> None:
    model, path = llama
    weights = load_file(path / "model.safetensors")
    names = sorted(weights)
    places = {}
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: weights[name] for name in part}, path / f"part-{number}.safetensors")
        places |= dict.fromkeys(part, f"part-{number}.safetensors")
    (path / "model.safetensors").unlink()
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert torch.equal(folder.load(path)(tokens(2, 9)), model(tokens(2, 9)))
    index.write_text(json.dumps({"weight_map": {**places, names[0]: "../part.safetensors"}}))
    with pytest.raises(Refusal, match=r"must name files beside it, got ../part.safetensors"):
        folder.load(path)


def changed(path: Path, **changes: torch.Tensor | None) -> Path:
    """The folder with tensors changed, or left out where None."""
    weights = load_file(path / "model.safetensors") | changes
    kept = {name: weight for name, weight in weights.items() if weight is not None}
    save_file(kept, path / "model.safetensors")
    return path


def test_a_tensor_that_is_missing_unexpected_or_misshapen_is_refused_by_name(
    llama: tuple[LanguageModel, Path], tmp_path: Path
) -> None:
    query = "model.layers.1.self_attn.q_proj.weight"
    for changes, message in (
        ({query: None}, f"must hold the tensor {query}, got none of that name"),
        ({"model.extra": torch.ones(1)}, "only tensors of LlamaForCausalLM, got model.extra"),
        ({query: torch.ones(32, 31)}, rf"{query} must be of shape \[32, 32\], got \[32, 31\]"),
    ):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(llama[1], tmp_path / "copy")
        with pytest.raises(Refusal, match=message):
            folder.load(changed(tmp_path / "copy", **changes))


def test_names_without_the_prefix_of_the_model_are_understood(
    llama: tuple[LanguageModel, Path],
) -> None:
    model, path = llama
    weights = load_file(path / "model.safetensors")
    bare = {name.removeprefix("model."): weight for name, weight in weights.items()}
    bare["layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)  # as older files have it
    save_file(bare, path / "model.safetensors")
    assert torch.equal(folder.load(path)(tokens(2, 9)), model(tokens(2, 9)))


def test_a_head_in_the_file_of_a_tied_model_must_be_the_embedding(tmp_path: Path) -> None:
    model = awake(preset("llama3", tied=True))
    folder.save(model, None, tmp_path)
    embedding = model.embedding.weight.detach()
    changed(tmp_path, **{"lm_head.weight": embedding.clone()})
    assert torch.equal(folder.load(tmp_path)(tokens(1, 5)), model(tokens(1, 5)))
    changed(tmp_path, **{"lm_head.weight": embedding + 1})
    with pytest.raises(Refusal, match=r"only tensors of LlamaForCausalLM, got lm_head.weight"):
        folder.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama3", {"hidden_act": "gelu"}, "hidden_act must be silu, got gelu"),
        ("llama3", {"num_hidden_layers": "3"}, "num_hidden_layers must be a whole number, got 3"),
        ("llama3", {"vocab_size": None}, "vocab_size must be a whole number, got nothing"),
        ("llama3", {"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false, got 1"),
        ("llama3", {"num_key_value_heads": 3}, "num_heads must be a multiple of num_kv_heads"),
        (
            "llama3",
            {"num_hidden_layers": 0},
            "num_layers: Input should be greater than 0, got 0",
        ),
        ("llama3", {"rms_norm_eps": "tiny"}, "rms_norm_eps must be a number, got tiny"),
        (
            "gemma3",
            {"layer_types": ["full_attention", "chunked_attention", "full_attention"]},
            "layer_types must be 3 of sliding_attention and full_attention, got full_attention, ch",
        ),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping must be nothing"),
        ("qwen3", {"use_sliding_window": True}, "use_sliding_window must be false, got true"),
        (
            "llama3",
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            "rope_scaling: rope_type must be default or linear or llama3, got yarn",
        ),
        (
            "llama3",
            {"rope_scaling": {k: v for k, v in SCALING.items() if k != "factor"}},
            "rope_scaling: factor must be a number, got nothing",
        ),
        ("gpt2", {"activation_function": "relu"}, "activation_function must be gelu_new or"),
        (
            "gpt2",
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx must be false, got true",
        ),
    ],
)
def test_a_config_that_tarn_cannot_build_is_refused_by_its_field(
    name: str, changes: dict, message: str, tmp_path: Path
) -> None:
    sizes = {"window": 5} if name == "gemma3" else {}
    folder.save(awake(preset(name, **sizes)), None, tmp_path)
    say(tmp_path, **changes)
    with pytest.raises(Refusal) as refusal:
        folder.load(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path / 'config.json'}: ")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_dropout_is_nothing_to_a_model_that_is_not_trained(tmp_path: Path) -> None:
    folder.save(awake(preset("gpt2")), None, tmp_path)
    before = folder.read_config(tmp_path)
    say(tmp_path, attn_pdrop=0.1, resid_pdrop=0.1, embd_pdrop=0.1, unheard_of=1)
    assert folder.read_config(tmp_path) == before


@pytest.mark.parametrize(
    "given",
    [
        {"model_type": "mistral", "architectures": ["MistralForCausalLM"]},
        {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
        {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]},
    ],
)
def test_an_unknown_architecture_is_refused_by_name(given: dict) -> None:
    message = rf"architectures must be one of GPT2LMHeadModel, .*, got {given['architectures'][0]}"
    with pytest.raises(Refusal, match=message):
        family_of(given)


def test_a_config_without_architectures_is_known_by_its_type() -> None:
    assert family_of({"model_type": "llama"}).architecture == "LlamaForCausalLM"
    with pytest.raises(Refusal, match="got mamba"):
        family_of({"model_type": "mamba"})
    with pytest.raises(Refusal, match="got no name"):
        family_of({})


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff"])
def test_a_config_that_is_no_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(Refusal, match=r"config.json must be a readable file of a JSON object"):
        folder.load(tmp_path)


def test_a_folder_without_safetensors_is_refused(llama: tuple[LanguageModel, Path]) -> None:
    (llama[1] / "model.safetensors").write_bytes(b"not so")
    with pytest.raises(Refusal, match=r"model.safetensors must be a safetensors file"):
        folder.load(llama[1])
    (llama[1] / "model.safetensors").rename(llama[1] / "pytorch_model.bin")
    with pytest.raises(Refusal, match=r"must hold model.safetensors or model.safetensors.index"):
        folder.load(llama[1])


def test_tarns_own_architecture_is_refused_by_every_field_that_others_lack() -> None:
    with pytest.raises(Refusal) as refusal:
        family_for(small_config())
    for said in (
        "x0_skip false, got true",
        "embedding_norm false, got true",
        "layers.plain.local nothing, got shift",
        "layers.valued.mixer.value_embedding false, got true",
    ):
        assert said in str(refusal.value)


def test_the_nearest_family_says_what_is_missing() -> None:
    config = preset("llama3").model_copy(update={"x0_skip": True})
    with pytest.raises(Refusal) as refusal:
        family_for(config)
    assert str(refusal.value) == (
        "model must have, to be written as llama, x0_skip false, got true"
    )
    config = preset("gpt2").model_copy(update={"residual_scale": 0.5})
    with pytest.raises(Refusal, match=r"written as gpt2, residual_scale 1.0, got 0.5$"):
        family_for(config)


def test_what_one_layer_alone_cannot_be_is_said_of_that_layer() -> None:
    config = preset("gemma3", window=5, num_local=1)
    layer = config.layers["global"]
    mixer = layer.mixer.model_copy(update={"num_kv_heads": 2})
    layers = {**config.layers, "global": layer.model_copy(update={"mixer": mixer})}
    with pytest.raises(Refusal, match=r"gemma3_text, layers.global.mixer.num_kv_heads 4, got 2$"):
        family_for(config.model_copy(update={"layers": layers}))


def test_a_mixer_that_no_family_has_is_refused() -> None:
    with pytest.raises(Refusal, match=r"must have, to be written as "):
        family_for(ModelConfig.model_validate({"preset": "linear", **SIZES, "num_heads": 4}))


def test_where_weights_start_is_nothing_to_a_folder() -> None:
    config = preset("llama3").model_copy(update={"init": "zero"})
    assert family_for(config)[0].model_type == "llama"


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(folder, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        folder.save(awake(preset("llama3")), None, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"tokenizer must have the model's 61 tokens, got \d+"):
        folder.save(awake(preset("llama3")), TOKENIZER, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_every_family_is_the_one_of_its_own_architecture(family: Any) -> None:
    given = {"model_type": family.model_type, "architectures": [family.architecture]}
    assert family_of(given) is family


@pytest.mark.parametrize(
    ("names", "pattern"),
    [("aaaa", "a"), ("aabaab", "aab"), ("aabaa", "aab"), ("abc", "abc"), ("abba", "abb")],
)
def test_the_shortest_pattern_repeats_to_the_names(names: str, pattern: str) -> None:
    assert "".join(shortest_pattern(names)) == pattern

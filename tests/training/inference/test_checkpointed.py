from pathlib import Path

import pytest
import torch

from datalake.config import Refusal
from tests.training.models.random_weights import awake, small_config, tokens
from training import checkpoint
from training.inference.checkpointed import load_model


def saved(folder: Path) -> checkpoint.Checkpoint:
    config = small_config(window=7)
    manifest = {"config": {"model": config.model_dump(mode="json")}}
    return checkpoint.save(folder, 3, {"weights": awake(config).state_dict()}, manifest)


def test_a_checkpoint_gives_the_model_that_was_saved(tmp_path: Path) -> None:
    model = load_model(saved(tmp_path), vocab_size=61).to("cpu")
    assert torch.equal(model(tokens(1, 9)), awake(small_config(window=7))(tokens(1, 9)))
    assert model.head_weight.dtype == torch.float32 and not model.training


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="tokenizer must have the model's 61 tokens, got 64"):
        load_model(saved(tmp_path), vocab_size=64)


def test_an_architecture_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    manifest = {"config": {"model": {"kind": "transformer", "d_model": 32}}}
    old = checkpoint.save(tmp_path, 3, {"weights": {}}, manifest)
    with pytest.raises(Refusal, match="must hold an architecture of this version of Tarn") as error:
        load_model(old, vocab_size=61)
    assert "\n" not in str(error.value)

"""``tarn export``, and ``tarn chat`` with a folder that others could have written."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from orchestration.cli import app
from tests.training.models.random_weights import awake, small_config
from tests.training.tokenizer.test_chat import TALKER
from training import checkpoint
from training.models.language_model import LanguageModel
from training.models.presets.transformers import llama3
from training.models.variants import ModelConfig

SIZES = {"context_length": 48, "d_model": 32, "num_layers": 2, "num_heads": 4}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation of one's own in which nothing was made."""
    before = dict(os.environ)
    monkeypatch.setenv("TARN_HOME", str(tmp_path / "home"))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(before)


def saved(folder: Path, config: ModelConfig) -> LanguageModel:
    """A model of random weights, saved as a run's checkpoint with its tokenizer beside it."""
    model = awake(config).eval()
    (folder / "tokenizer").mkdir()
    TALKER.save(folder / "tokenizer")
    about = {"asset": "chat_model", "inputs": {"tokenizer": str(folder / "tokenizer")}}
    manifest = {"config": {"model": config.model_dump(mode="json")}, "about": about}
    checkpoint.save(folder / "run", 7, {"weights": model.state_dict()}, manifest)
    return model


def talker() -> ModelConfig:
    return llama3(vocab_size=TALKER.vocab_size, num_kv_heads=2, **SIZES)


def tarn(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_an_exported_model_speaks_alike_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers (peers) is missing")
    model = saved(tmp_path, talker())
    said = tarn("export", tmp_path / "run", tmp_path / "out")
    assert said.exit_code == 0
    assert said.output.startswith("LlamaForCausalLM, ")
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")("Why is that so?").input_ids
    assert ids == TALKER.encode("Why is that so?").tolist()
    with torch.no_grad():
        theirs, ours = peer(torch.tensor([ids])).logits, model(torch.tensor([ids]))
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)
    assert peer.generation_config.eos_token_id == [
        TALKER.special_tokens[name] for name in ("<|endoftext|>", "<|end|>")
    ]


def test_an_exported_model_answers_as_the_checkpoint_does(tmp_path: Path) -> None:
    saved(tmp_path, talker())
    tarn("export", tmp_path / "run", tmp_path / "out")
    answers = [
        tarn("chat", "--model", tmp_path / name, "--once", "Why?").stdout for name in ("run", "out")
    ]
    assert answers[0] == answers[1] != ""


def test_what_pads_a_published_vocabulary_is_never_said(tmp_path: Path) -> None:
    saved(tmp_path, talker())
    tarn("export", tmp_path / "run", tmp_path / "out")
    from training.inference import published
    from training.models.interchange import folder

    model = awake(llama3(vocab_size=TALKER.vocab_size + 9, num_kv_heads=2, **SIZES))
    folder.save(model, None, tmp_path / "padded")
    within = published.load_model(tmp_path / "padded", TALKER.vocab_size)
    ids = torch.randint(TALKER.vocab_size, (2, 20))
    with torch.no_grad():
        torch.testing.assert_close(
            within(ids), model(ids)[..., : TALKER.vocab_size], atol=1e-5, rtol=0
        )


def test_tarns_own_architecture_is_refused_by_its_fields(tmp_path: Path) -> None:
    saved(tmp_path, small_config(vocab_size=TALKER.vocab_size, context_length=48))
    said = tarn("export", tmp_path / "run", tmp_path / "out")
    assert said.exit_code == 2
    assert said.output.startswith("refused model must have, to be written as ")
    for field in ("x0_skip false, got true", "layers.plain.local nothing, got shift"):
        assert field in said.output
    assert len(said.output.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    given = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(given))
    said = tarn("chat", "--model", tmp_path, "--once", "Why?")
    assert said.exit_code == 2
    assert "architectures must be one of " in said.stderr
    assert said.stderr.endswith("got MistralForCausalLM\n")
    assert len(said.stderr.splitlines()) == 1


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    saved(tmp_path, talker())
    said = tarn("export", tmp_path / "run", tmp_path / "run")
    assert said.exit_code == 2
    assert "run must be a new or empty folder, got one that holds something" in said.output

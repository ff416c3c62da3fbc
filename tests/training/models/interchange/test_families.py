"""Every family against ``transformers``: the same logits, both ways, on random weights."""

from pathlib import Path

import pytest
import torch

from tests.training.models.interchange.peers import SHAPES, random_peer
from tests.training.models.random_weights import tokens
from training.inference.sampling import generate_batch
from training.models.interchange import folder

transformers = pytest.importorskip("transformers", reason="transformers (extra peers) is missing")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_of_transformers_gives_the_same_logits_here(shape: str, tmp_path: Path) -> None:
    peer = random_peer(shape)
    peer.save_pretrained(tmp_path)
    model = folder.load(tmp_path)
    ids = tokens(3, 24)
    with torch.no_grad():
        torch.testing.assert_close(model(ids), peer(ids).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_read_is_written_as_transformers_reads_it(shape: str, tmp_path: Path) -> None:
    peer = random_peer(shape)
    peer.save_pretrained(tmp_path / "theirs")
    model = folder.load(tmp_path / "theirs")
    folder.save(model, None, tmp_path / "ours")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(again) is type(peer)
    theirs = peer.state_dict()
    assert theirs.keys() == again.state_dict().keys()
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, theirs[name], msg=name)
    ids = tokens(3, 24)
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, peer(ids).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_decoding_finds_the_tokens_that_transformers_generates(shape: str, tmp_path: Path) -> None:
    peer = random_peer(shape)
    peer.save_pretrained(tmp_path)
    ids = tokens(2, 5)
    theirs = peer.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16, pad_token_id=0
    )
    ours = generate_batch(folder.load(tmp_path), ids.tolist(), max_new_tokens=16, temperature=0)
    assert [list(completion.ids) for completion in ours] == theirs[:, 5:].tolist()

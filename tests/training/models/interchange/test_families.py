"""Every family against ``transformers``: the same logits, both ways, on random weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tests.training.models.interchange.peers import SHAPES, random_peer
from tests.training.models.random_weights import tokens
from training.inference.sampling import generate_batch
from training.models.interchange import folder
from training.models.language_model import LanguageModel

transformers = pytest.importorskip("transformers", reason="transformers (extra peers) is missing")


class Read(NamedTuple):
    """A model of transformers, and what was read of the folder that it was saved in."""

    peer: Any
    model: LanguageModel


@pytest.fixture(scope="module", params=SHAPES)
def read(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Read:
    peer = random_peer(request.param)
    path = tmp_path_factory.mktemp("peer")
    peer.save_pretrained(path)
    return Read(peer, folder.load(path))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_a_model_of_transformers_gives_the_same_logits_here(read: Read) -> None:
    ids = tokens(3, 24)
    torch.testing.assert_close(read.model(ids), read.peer(ids).logits, atol=1e-4, rtol=0)


def test_what_was_read_is_written_as_transformers_reads_it(read: Read, tmp_path: Path) -> None:
    folder.save(read.model, None, tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(again) is type(read.peer)
    theirs = read.peer.state_dict()
    assert theirs.keys() == again.state_dict().keys()
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, theirs[name], msg=name)
    ids = tokens(3, 24)
    torch.testing.assert_close(again(ids).logits, read.peer(ids).logits, atol=1e-4, rtol=0)


def test_decoding_finds_the_tokens_that_transformers_generates(read: Read) -> None:
    ids = tokens(2, 5)
    theirs = read.peer.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16, pad_token_id=0
    )
    ours = generate_batch(read.model, ids.tolist(), max_new_tokens=16, temperature=0)
    assert [list(completion.ids) for completion in ours] == theirs[:, 5:].tolist()

import pytest
import torch

from tests.training.models.random_weights import awake, small_config, tokens
from training.losses import next_token_loss, next_token_nats


def test_the_loss_is_the_mean_of_the_nats_of_every_target() -> None:
    model, ids = awake(small_config()), tokens(3, 25)
    nats = next_token_nats(model, ids)
    assert nats.shape == (3, 24)
    assert next_token_loss(model, ids).item() == pytest.approx(nats.mean().item(), rel=1e-5)


def test_nats_are_those_of_the_next_token_alone() -> None:
    model, ids = awake(small_config()), tokens(2, 25)
    other = ids.clone()
    other[:, 10] = (ids[:, 10] + 1) % 61
    before, after = next_token_nats(model, ids), next_token_nats(model, other)
    assert torch.equal(before[:, :9], after[:, :9])  # target 9 is token 10
    assert (before[:, 9:11] != after[:, 9:11]).all()


def test_nats_leave_no_graph() -> None:
    model = awake(small_config())
    assert not next_token_nats(model, tokens(2, 25)).requires_grad


@pytest.mark.parametrize("chunk_rows", [5, 48])
def test_the_chunk_of_rows_does_not_change_the_loss(chunk_rows: int) -> None:
    model, ids = awake(small_config()), tokens(2, 25)
    torch.testing.assert_close(next_token_loss(model, ids, chunk_rows), next_token_loss(model, ids))

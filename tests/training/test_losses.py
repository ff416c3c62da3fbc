import pytest
import torch

from tests.training.models.random_weights import awake, small_config, tokens
from training.losses import answer_log_probs, next_token_loss, next_token_nats


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
    chunked = next_token_loss(model, ids, chunk_rows=chunk_rows)
    torch.testing.assert_close(chunked, next_token_loss(model, ids))


def test_log_probabilities_of_answers_are_those_of_the_next_token_where_it_is_learned() -> None:
    model, ids = awake(small_config()), tokens(3, 25)
    learned = torch.rand(3, 25) < 0.4
    log_probs, mask = answer_log_probs(model, ids, learned)
    assert torch.equal(mask, learned[:, 1:])
    torch.testing.assert_close(log_probs[mask], -next_token_nats(model, ids)[mask])
    assert not log_probs[~mask].any()


def test_the_temperature_divides_the_logits() -> None:
    model, ids = awake(small_config()), tokens(2, 25)
    log_probs, mask = answer_log_probs(model, ids, torch.ones(2, 25, dtype=bool), temperature=0.5)
    of_all = (model(ids[:, :-1]) / 0.5).log_softmax(-1)
    torch.testing.assert_close(log_probs, of_all.gather(2, ids[:, 1:, None])[..., 0])
    assert mask.all()


def test_padding_behind_and_neighbours_in_a_packed_row_change_no_answer() -> None:
    model, ids = awake(small_config()), tokens(2, 12)
    learned = torch.zeros(2, 12, dtype=bool)
    learned[:, 6:] = True
    alone, _ = answer_log_probs(model, ids, learned)
    padded = torch.cat((ids, tokens(2, 8)), dim=1)
    unlearned = torch.cat((learned, torch.zeros(2, 8, dtype=bool)), dim=1)
    behind, _ = answer_log_probs(model, padded, unlearned)
    torch.testing.assert_close(behind[:, :11], alone)
    packed, number = ids.reshape(1, 24), torch.tensor([[1] * 12 + [2] * 12])
    beside, mask = answer_log_probs(model, packed, learned.reshape(1, 24), number)
    torch.testing.assert_close(beside[mask], alone[alone != 0])


def test_an_answer_pulls_on_every_weight_that_it_read() -> None:
    model, ids = awake(small_config()), tokens(2, 25)
    learned = torch.zeros(2, 25, dtype=bool)
    learned[:, 20:] = True
    log_probs, _ = answer_log_probs(model, ids, learned)
    log_probs.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_pieces_of_a_row_are_scored_as_if_each_were_alone() -> None:
    model, ids = awake(small_config()), tokens(2, 25)
    pieces = torch.zeros(2, 25, dtype=torch.int32)
    pieces[0, 9:], pieces[1, 4:] = 1, 1
    pieces[1, 20:] = -1  # not filled
    nats = next_token_nats(model, ids, pieces)
    alone = []
    for row, begin, end in [(0, 0, 9), (0, 9, 25), (1, 0, 4), (1, 4, 20)]:
        piece = next_token_nats(model, ids[row : row + 1, begin:end])[0]
        torch.testing.assert_close(nats[row, begin : end - 1], piece, rtol=1e-4, atol=1e-5)
        alone.append(piece)
    assert nats[0, 8] == nats[1, 3] == 0
    assert (nats[1, 19:] == 0).all()
    mean = torch.cat(alone).mean()
    torch.testing.assert_close(next_token_loss(model, ids, pieces), mean, rtol=1e-4, atol=1e-5)

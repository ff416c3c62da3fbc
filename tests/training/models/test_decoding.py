"""What holds of every model when it goes on from what it read before."""

import dataclasses

import pytest
import torch
from torch import Tensor

from datalake.config import Refusal
from tests.training.models.catalogue import Case, every_case
from tests.training.models.random_weights import awake, small_config, tokens
from training.models.accounting import state_bytes
from training.models.state import DecodingState, Memory

CLOSE = {"atol": 2e-4, "rtol": 2e-4}


@pytest.fixture(autouse=True)
def _without_gradients():  # type: ignore[no-untyped-def]
    with torch.no_grad():
        yield


@every_case
@pytest.mark.parametrize("pieces", [[1] * 24, [9] + [1] * 3 + [12], [5, 1, 1, 8, 1, 8], [24]])
def test_cached_decoding_equals_the_full_forward_pass(case: Case, pieces: list[int]) -> None:
    ids, state = tokens(2, 24), case.model.empty_state(batch=2)
    logits = [case.model(piece, state) for piece in ids.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(logits, dim=1), case.model(ids), **CLOSE)


@every_case
def test_sequences_of_different_lengths_go_on_in_one_batch(case: Case) -> None:
    state, ids = unequal(case, 17, 3), tokens(2, 24)
    full = case.model(ids)
    for time in (1, 1, 4, 1):
        at = state.num_read.tolist()
        logits = case.model(after(ids, state, time), state)
        expected = torch.stack([full[k, start : start + time] for k, start in enumerate(at)])
        torch.testing.assert_close(logits, expected, **CLOSE)


@every_case
def test_rejected_tokens_are_forgotten(case: Case) -> None:
    state, ids = unequal(case, 9, 0), tokens(2, 24)
    full = case.model(ids)
    for junk, time in ((4, 1), (1, 3), (8, 2), (6, 6)):  # windows go round
        at, undo = state.num_read.tolist(), state.mark(8)
        for seed in (1, 2):  # what was marked can be gone back to again
            case.model(tokens(2, junk, seed), state)
            state.rollback(undo)
        logits = case.model(after(ids, state, time), state)
        expected = torch.stack([full[k, start : start + time] for k, start in enumerate(at)])
        torch.testing.assert_close(logits, expected, **CLOSE)


@every_case
def test_going_back_restores_every_bit(case: Case) -> None:
    state = unequal(case, 11, 2)
    state.mark(3)  # leaves no trace
    untouched, undo = state.select(torch.arange(2)), state.mark(3)
    junk, more = tokens(2, 3, seed=1), tokens(2, 2)
    case.model(junk, state)
    state.rollback(undo)
    assert state.num_bytes() == untouched.num_bytes()
    assert torch.equal(case.model(more, state), case.model(more, untouched))


def unequal(case: Case, long: int, short: int) -> DecodingState:
    """Two sequences in a batch, of which so many tokens were read."""
    ids, states = tokens(2, 24), []
    for k, length in enumerate((long, short)):
        states.append(case.model.empty_state(1))
        if length:
            case.model(ids[k : k + 1, :length], states[-1])
    return DecodingState.join(states)


def after(ids: Tensor, state: DecodingState, time: int) -> Tensor:
    """The next ``time`` tokens of each sequence."""
    return ids.gather(1, state.num_read[:, None] + torch.arange(time))


@every_case
@pytest.mark.parametrize("room", [24, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_is_as_large_as_accounting_says(case: Case, room: int, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        state = case.model.empty_state(3, room)
        assert held(state) == 3 * state_bytes(case.config, room, dtype.itemsize)
        case.model(tokens(3, room), state)
        assert held(state) == 3 * state_bytes(case.config, room, dtype.itemsize)


def held(memory: object) -> int:
    """Bytes that a state holds, but for where it stands."""
    if isinstance(memory, Memory):
        names = {f.name for f in dataclasses.fields(memory)} - {"positions", "num_read"}
        return sum(held(getattr(memory, name)) for name in names)
    if isinstance(memory, list):
        return sum(map(held, memory))
    return memory.nbytes if isinstance(memory, Tensor) else 0


@every_case
def test_a_state_with_room_for_less_than_the_context_reads_the_same(case: Case) -> None:
    ids = tokens(2, 13)
    whole, short = case.model.empty_state(2), case.model.empty_state(2, room=13)
    for piece in ids.split([6, 1, 4, 1, 1], dim=1):
        one, other = (case.model(piece, state) for state in (short, whole))
        torch.testing.assert_close(one, other, **CLOSE)


@every_case
def test_half_precision_decodes_as_it_reads(case: Case) -> None:
    ids = tokens(2, 24)
    with torch.autocast("cpu", torch.bfloat16):
        state, read = case.model.empty_state(2), case.model(ids).float()
        logits = [case.model(piece, state).float() for piece in ids.split([7, 1, 1, 15], dim=1)]
    difference = torch.cat(logits, dim=1) - read
    assert difference.square().mean().sqrt() < 0.1 * read.std()


@every_case
def test_a_selected_sequence_goes_on_without_touching_its_original(case: Case) -> None:
    model, ids = case.model, tokens(2, 10)
    state = model.empty_state(2)
    model(ids[:, :6], state)
    copies = state.select(torch.tensor([1, 1, 0]))
    model(ids[:, 6:].flip(0)[[0, 0, 1]], copies)
    assert copies.num_read.tolist() == [10, 10, 10]
    torch.testing.assert_close(model(ids[:, 6:], state), model(ids)[:, 6:], **CLOSE)


def test_a_mark_saves_of_a_ring_what_is_overwritten() -> None:
    state = awake(small_config(token_shift=False, window=7)).empty_state(2)
    cache = state.blocks[0].mixer
    assert [cache.mark(count)["keys"].shape[2] for count in (1, 3, 9)] == [1, 3, 7]


def test_forgetting_more_than_was_marked_is_refused() -> None:
    model = awake(small_config())
    state = model.empty_state(2)
    undo = state.mark(2)
    model(tokens(2, 3), state)
    with pytest.raises(Refusal, match="tokens to forget must be at most the mark's 2, got 3"):
        state.rollback(undo)


def test_reading_more_than_there_is_room_for_is_refused() -> None:
    model = awake(small_config())
    state = model.empty_state(1, room=5)
    model(tokens(1, 5), state)
    with pytest.raises(Refusal, match="tokens must be at most the state's room 5, got 6"):
        model(tokens(1, 1), state)


def test_states_of_different_room_are_not_joined() -> None:
    model = awake(small_config(window=2))
    states = [model.empty_state(1, room) for room in (5, 7)]
    with pytest.raises(Refusal, match="room must be the same in all states to join, got 5 and 7"):
        DecodingState.join(states)


def test_decoding_past_the_context_is_refused() -> None:
    model = awake(small_config())
    state = model.empty_state(1)
    model(tokens(1, 24), state)
    with pytest.raises(Refusal, match="tokens must be at most context_length 24, got 25"):
        model(tokens(1, 1), state)


def test_documents_are_refused_where_a_state_is_continued() -> None:
    model = awake(small_config())
    with pytest.raises(Refusal, match="documents must be left out where a state is continued"):
        model.hidden(tokens(3, 22), model.empty_state(3), torch.zeros(3, 22))

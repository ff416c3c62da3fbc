import pytest
import torch

from datalake.config import Refusal
from tests.training.models.random_weights import VARIANTS, awake, small_config, tokens
from training.models.accounting import state_bytes
from training.models.state import DecodingState

variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


@variants
@pytest.mark.parametrize("pieces", [[1] * 24, [9] + [1] * 15, [5, 1, 1, 8, 1, 8], [24]])
def test_cached_decoding_equals_the_full_forward_pass(variant: dict, pieces: list[int]) -> None:
    model, ids = awake(small_config(**variant)), tokens(2, 24)
    state = model.empty_state(batch=2)
    logits = [model(piece, state) for piece in ids.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(logits, dim=1), model(ids), atol=1e-4, rtol=1e-4)


@variants
def test_sequences_of_different_lengths_go_on_in_one_batch(variant: dict) -> None:
    model, ids = awake(small_config(**variant)), tokens(2, 24)
    long, short = model.empty_state(1), model.empty_state(1)
    model(ids[:1, :17], long)
    model(ids[1:, :3], short)
    state = DecodingState.join([long, short])
    for step in range(7):
        logits = model(torch.stack((ids[0, 17 + step], ids[1, 3 + step]))[:, None], state)
        full = model(ids[:1])[0, 17 + step], model(ids[1:])[0, 3 + step]
        torch.testing.assert_close(logits[:, 0], torch.stack(full), atol=1e-4, rtol=1e-4)


@variants
def test_tokens_read_after_a_mark_can_be_forgotten(variant: dict) -> None:
    model, ids, junk = awake(small_config(**variant)), tokens(2, 24), tokens(2, 5, seed=1)
    state = model.empty_state(2)
    for piece in ids[:, :19].split([5, 4, 1, 1, 8], dim=1):
        undo = state.mark(5)
        model(junk, state)
        state.rollback(undo)
        logits = model(piece, state)
    torch.testing.assert_close(logits, model(ids)[:, 11:19], atol=1e-4, rtol=1e-4)


def test_forgetting_more_than_was_marked_is_refused() -> None:
    model = awake(small_config())
    state = model.empty_state(2)
    undo = state.mark(2)
    model(tokens(2, 3), state)
    with pytest.raises(Refusal, match="tokens to forget must be at most the mark's 2, got 3"):
        state.rollback(undo)


def test_a_selected_sequence_goes_on_without_touching_its_original() -> None:
    model, ids = awake(small_config()), tokens(2, 10)
    state = model.empty_state(2)
    model(ids[:, :6], state)
    copies = state.select(torch.tensor([1, 1, 0]))
    model(ids[:, 6:].flip(0)[[0, 0, 1]], copies)
    assert copies.num_read.tolist() == [10, 10, 10]
    torch.testing.assert_close(model(ids[:, 6:], state), model(ids)[:, 6:], atol=1e-4, rtol=1e-4)


@variants
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_is_as_large_as_accounting_says(variant: dict, dtype: torch.dtype) -> None:
    config = small_config(**variant)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        state = awake(config).empty_state(batch=3)
    held = sum(
        tensor.nbytes
        for block in state.blocks
        for tensor in (block.mixer.keys, block.mixer.values, block.local and block.local.inputs)
        if tensor is not None
    )
    assert held == 3 * state_bytes(config, config.context_length, dtype.itemsize)
    bookkeeping = (
        8 * 3 * (1 + config.num_layers * (config.layers["plain"].mixer.window or 24))
    )  # positions, tokens read
    assert state.num_bytes() == held + bookkeeping


@variants
def test_a_state_with_room_for_less_than_the_context_reads_the_same(variant: dict) -> None:
    model, ids = awake(small_config(**variant)), tokens(2, 13)
    whole, short = model.empty_state(2), model.empty_state(2, room=13)
    for piece in ids.split([6, 1, 4, 1, 1], dim=1):
        torch.testing.assert_close(model(piece, short), model(piece, whole), atol=1e-5, rtol=1e-5)
    assert (
        short.num_bytes() < whole.num_bytes()
        or (model.config.layers["plain"].mixer.window or 24) <= 13
    )


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

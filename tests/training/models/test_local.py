import pytest
import torch
from pydantic import ValidationError

from datalake.config import Refusal
from tests.training.models.random_weights import SMALL, awake, small_config, tokens
from training.kernels.short_convolution import short_convolution
from training.models.accounting import num_params, state_bytes
from training.models.configs.local import LocalConfig
from training.models.configs.parts import Sizes
from training.models.language_model import build
from training.models.local import build_local
from training.models.reading import Reading
from training.models.variants import ModelConfig

CONVOLVED = {"convolution": 4, "window": 5}


def test_a_fresh_convolution_is_the_identity() -> None:
    local, x = build(small_config(convolution=3)).blocks[0].local, torch.randn(2, 9, 32)
    assert torch.equal(local(x, Reading(ids=x, places=torch.arange(9))), x)


def test_a_convolution_of_two_taps_is_a_shift() -> None:
    sizes, x = Sizes(8, 24, 61), torch.randn(2, 9, 8)
    shift = build_local(LocalConfig(), sizes)
    convolution = build_local(LocalConfig(kind="convolution", width=2), sizes)
    with torch.no_grad():
        shift.shift.uniform_()
        convolution.taps.copy_(torch.stack((shift.shift, 1 - shift.shift), dim=1))
    seen = Reading(ids=x, places=torch.arange(9))
    torch.testing.assert_close(convolution(x, seen), shift(x, seen))


def test_a_convolution_sees_the_last_inputs_and_no_others() -> None:
    model, ids = awake(small_config(convolution=4, window=1, num_layers=1)), tokens(1, 12)
    for place in range(12):
        changed = ids.clone()
        changed[0, place] = (ids[0, place] + 1) % 61
        differs = not torch.equal(model(ids)[0, -1], model(changed)[0, -1])
        assert differs == (11 - place < 4)


def test_documents_in_a_row_are_convolved_as_if_each_were_alone() -> None:
    model, ids, lengths = awake(small_config(**CONVOLVED)), tokens(1, 22), [5, 1, 10, 2, 4]
    documents = torch.repeat_interleave(torch.tensor(lengths))[None]
    alone = torch.cat([model.hidden(part) for part in ids.split(lengths, dim=1)], dim=1)
    ours = model.hidden(ids, documents=documents)
    torch.testing.assert_close(ours, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pieces", [[1] * 24, [9] + [1] * 15, [2, 1, 1, 10, 2, 8], [24]])
def test_decoding_convolves_what_was_read_before(pieces: list[int]) -> None:
    model, ids = awake(small_config(**CONVOLVED)), tokens(2, 24)
    state = model.empty_state(batch=2)
    logits = [model(piece, state) for piece in ids.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(logits, dim=1), model(ids), atol=1e-4, rtol=1e-4)


def test_parameters_and_memory_are_those_of_the_built_model() -> None:
    config = small_config(convolution=4)
    model = build(config)
    assert num_params(config) == sum(p.numel() for p in model.parameters())
    roles = {name: role for name, _, role in model.roles()}
    assert roles["blocks.0.local.taps"] == "vector"
    held = 3 * (3 * 32 + 2 * 24 * 32) * 4  # layers of 3 inputs, keys and values
    assert state_bytes(config, 24, 4) == held
    local = model.empty_state(5).blocks[0].local
    assert local is not None and local.num_bytes() == 5 * 3 * 32 * 4
    model(tokens(5, 9), state := model.empty_state(5))
    assert state.blocks[0].local is not None
    assert state.blocks[0].local.num_bytes() == local.num_bytes()


def test_a_convolution_reads_in_half_precision_what_it_reads_in_single() -> None:
    model, ids = awake(small_config(convolution=4)), tokens(2, 20)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.hidden(ids)
    torch.testing.assert_close(rounded.float(), model.hidden(ids), atol=0.3, rtol=0.1)
    x = torch.randn(1, 6, 3).bfloat16()
    assert short_convolution(x, torch.randn(3, 4)).dtype == torch.bfloat16


def test_a_shift_of_another_width_is_refused() -> None:
    with pytest.raises((Refusal, ValidationError), match="width of a shift must be 2, got 3"):
        LocalConfig(width=3)
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        ModelConfig.model_validate({"preset": "tarn", **SMALL, "convolution": 1})

import pytest
import torch

from datalake.config import Refusal
from tests.training.models.random_weights import VARIANTS, awake, small_config, tokens
from training.kernels.attention import SHORT, causal_attention, document_mask
from training.models.language_model import LanguageModel, locate

LOOKING_BACK = VARIANTS | {
    "sinusoids without the shift": {"positions": "sinusoidal", "token_shift": False},
    "shift in a window": {"window": 5, "num_kv_heads": 2},
}
variants = pytest.mark.parametrize("variant", LOOKING_BACK.values(), ids=LOOKING_BACK.keys())
LENGTHS = [[5, 1, 10, 4, 2], [22], [8, 14]]  # of the documents of three rows


def packed(lengths: list[list[int]] = LENGTHS) -> torch.Tensor:
    """Their numbers [rows, time]; the last document of a row has number 0, as padding has."""
    rows = [[(i + 1) % len(row) for i, n in enumerate(row) for _ in range(n)] for row in lengths]
    return torch.tensor(rows)


def one_by_one(model: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    rows = zip(ids, LENGTHS, strict=True)
    return torch.stack(
        [torch.cat([model.hidden(part[None])[0] for part in row.split(n)]) for row, n in rows]
    )


@variants
def test_documents_in_a_row_are_read_as_if_each_were_alone(variant: dict) -> None:
    model, ids = awake(small_config(**variant)), tokens(3, 22)
    ours, alone = model.hidden(ids, documents=packed()), one_by_one(model, ids)
    torch.testing.assert_close(ours, alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, model.hidden(ids), atol=1e-2)


@variants
def test_documents_in_a_row_teach_as_if_each_were_alone(variant: dict) -> None:
    model, ids = awake(small_config(**variant)), tokens(3, 22)
    weights = list(model.parameters())[:-1]  # not of the head, which reads the states
    push = torch.randn(3, 22, 32, generator=torch.Generator().manual_seed(0))
    together, alone = (
        torch.autograd.grad(states, weights, push, allow_unused=True)
        for states in (model.hidden(ids, documents=packed()), one_by_one(model, ids))
    )
    for ours, reference in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-4)


@variants
def test_another_document_changes_nothing(variant: dict) -> None:
    model, ids = awake(small_config(**variant)), tokens(3, 22)
    changed = ids.clone()
    changed[0, 6:16] = (ids[0, 6:16] + 1) % 61  # the third of row 0
    before, after = (model.hidden(x, documents=packed()) for x in (ids, changed))
    differs = (before != after).any(-1)
    assert differs[0, 6:16].all()
    assert not differs[0, :6].any() and not differs[0, 16:].any() and not differs[1:].any()


def test_the_names_of_documents_do_not_matter() -> None:
    model, ids = awake(small_config()), tokens(3, 22)
    one, other = (model.hidden(ids, documents=x) for x in (packed(), 7 - 3 * packed()))
    assert torch.equal(one, other)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("time", [300, SHORT + 1])
def test_attention_to_long_rows_of_documents_is_that_to_each(time: int, window: int | None) -> None:
    lengths = [100, 170, time - 270]
    q, k, v = (torch.randn(1, h, time, 8, dtype=torch.float64) for h in (4, 2, 2))
    mask = document_mask(packed([lengths]), window, torch.float64)
    parts = zip(*(x.split(lengths, dim=2) for x in (q, k, v)), strict=True)
    alone = torch.cat([causal_attention(*part, window) for part in parts], dim=2)
    torch.testing.assert_close(causal_attention(q, k, v, window, mask), alone)


def test_places_are_counted_from_the_start_of_a_document() -> None:
    begins, places = locate(torch.tensor([[1, 1, 1, 2, 0, 0]]))
    assert places.tolist() == [[0, 1, 2, 0, 0, 1]]
    assert begins[0, :, 0].tolist() == [True, False, False, True, True, False]


def test_half_precision_follows_single_precision() -> None:
    model, ids = awake(small_config()), tokens(3, 22)
    exact = model.hidden(ids, documents=packed())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.hidden(ids, documents=packed())
    torch.testing.assert_close(rounded.float(), exact, atol=0.3, rtol=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
@variants
def test_an_accelerator_reads_documents_as_a_processor_does(variant: dict) -> None:
    model, ids = awake(small_config(**variant)), tokens(3, 22)
    exact = model.hidden(ids, documents=packed())
    ours = model.cuda().hidden(ids.cuda(), documents=packed().cuda())
    torch.testing.assert_close(ours.cpu(), exact, atol=1e-3, rtol=1e-3)


def test_documents_are_refused_where_a_state_is_continued() -> None:
    model = awake(small_config())
    with pytest.raises(Refusal, match="documents must be left out where a state is continued"):
        model.hidden(tokens(3, 22), model.empty_state(3), packed())

"""What holds of every model when it reads whole rows, as training does."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.training.models.catalogue import Case, every_case, one_of_each
from tests.training.models.random_weights import awake, tokens
from training.losses import next_token_loss
from training.models.language_model import LanguageModel, build, locate

LENGTHS = [[5, 1, 10, 4, 2], [22], [8, 14]]  # of the documents of three rows
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def packed(lengths: list[list[int]] = LENGTHS) -> Tensor:
    """Their numbers [rows, time]; the last document of a row has number 0, as padding has."""
    rows = [[(i + 1) % len(row) for i, n in enumerate(row) for _ in range(n)] for row in lengths]
    return torch.tensor(rows)


def one_by_one(model: LanguageModel, ids: Tensor) -> Tensor:
    """States of the documents of packed rows, each read alone."""
    rows = zip(ids, LENGTHS, strict=True)
    return torch.stack(
        [torch.cat([model.hidden(part[None])[0] for part in row.split(n)]) for row, n in rows]
    )


@every_case
def test_every_token_gets_logits_of_every_word(case: Case) -> None:
    for batch, time in ((2, 24), (1, 1), (3, 7)):
        logits = case.model(tokens(batch, time))
        assert logits.shape == (batch, time, 61)
        assert logits.isfinite().all() and logits.std() > 0


@every_case
def test_a_later_token_never_changes_an_earlier_logit(case: Case) -> None:
    one, other = tokens(2, 24), tokens(2, 24, seed=1)
    read = case.model(one)
    for past in (1, 8, 23):
        mixed = torch.cat((one[:, :past], other[:, past:]), dim=1)
        changed = case.model(mixed)
        torch.testing.assert_close(changed[:, :past], read[:, :past], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(changed[:, past:], read[:, past:], atol=1e-3)


@every_case
def test_a_row_of_a_batch_is_read_as_if_alone(case: Case) -> None:
    ids = tokens(3, 20)
    alone = torch.cat([case.model(row[None]) for row in ids])
    torch.testing.assert_close(case.model(ids), alone, **CLOSE)


@every_case
def test_padding_changes_nothing(case: Case) -> None:
    for filler in (0, 60):
        ids, lengths = tokens(3, 24), (5, 24, 17)
        for row, length in zip(ids, lengths, strict=True):
            row[length:] = filler
        numbers = (torch.arange(24) < torch.tensor(lengths)[:, None]).long()
        plain, numbered = case.model.hidden(ids), case.model.hidden(ids, documents=numbers)
        for k, length in enumerate(lengths):
            alone = case.model.hidden(ids[k : k + 1, :length])[0]
            torch.testing.assert_close(plain[k, :length], alone, **CLOSE)
            torch.testing.assert_close(numbered[k, :length], alone, **CLOSE)


@every_case
def test_every_parameter_receives_a_gradient(case: Case) -> None:
    weights = dict(case.model.named_parameters())
    loss = next_token_loss(case.model, tokens(3, 25))
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    for name, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None and gradient.isfinite().all() and gradient.any(), name


@every_case
def test_the_gradient_is_the_slope_of_the_loss(case: Case) -> None:
    model, ids = copy.deepcopy(case.model).double(), tokens(2, 25)
    step = 1e-6  # so small that tokens keep their experts

    def loss() -> Tensor:
        return F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    weights = list(model.parameters())
    gradients = torch.autograd.grad(loss(), weights)
    ways = [gradient / gradient.norm() for gradient in gradients]  # all count, large or small
    with torch.no_grad():
        torch._foreach_add_(weights, ways, alpha=step)
        above = loss()
        torch._foreach_add_(weights, ways, alpha=-2 * step)
        slope = (above - loss()).item() / (2 * step)
    assert slope == pytest.approx(sum(g.norm().item() for g in gradients), rel=2e-3)


@every_case
def test_documents_in_a_row_are_read_as_if_each_were_alone(case: Case) -> None:
    ids = tokens(3, 22)
    ours, alone = case.model.hidden(ids, documents=packed()), one_by_one(case.model, ids)
    torch.testing.assert_close(ours, alone, **CLOSE)
    assert not torch.allclose(ours, case.model.hidden(ids), atol=1e-2)


@every_case
def test_documents_in_a_row_teach_as_if_each_were_alone(case: Case) -> None:
    ids = tokens(3, 22)
    weights = list(case.model.parameters())
    push = torch.randn(3, 22, 32, generator=torch.Generator().manual_seed(0))
    together, alone = (
        torch.autograd.grad(states, weights, push, materialize_grads=True, allow_unused=True)
        for states in (case.model.hidden(ids, documents=packed()), one_by_one(case.model, ids))
    )
    for ours, reference in zip(together, alone, strict=True):
        tolerance = 1e-4 * (1 + reference.abs().max().item())
        torch.testing.assert_close(ours, reference, atol=tolerance, rtol=1e-4)


@every_case
def test_another_document_changes_nothing(case: Case) -> None:
    ids = tokens(3, 22)
    changed = ids.clone()
    changed[0, 6:16] = (ids[0, 6:16] + 1) % 61  # the third of row 0
    before, after = (case.model.hidden(x, documents=packed()) for x in (ids, changed))
    differs = (before - after).abs().amax(-1)
    assert (differs[0, 6:16] > 1e-3).all()
    differs[0, 6:16] = 0
    assert differs.max() < 1e-5


@every_case
def test_single_precision_follows_double(case: Case) -> None:
    exact = copy.deepcopy(case.model).double()(tokens(2, 24))
    rounded = case.model(tokens(2, 24)).double()
    assert exact.dtype == torch.float64
    assert (rounded - exact).abs().max() < 1e-4 * exact.std()


@every_case
def test_half_precision_follows_single(case: Case) -> None:
    ids = tokens(3, 25)
    exact = next_token_loss(case.model, ids)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = next_token_loss(case.model, ids)
        documents = case.model.hidden(tokens(3, 22), documents=packed())
    assert rounded.item() == pytest.approx(exact.item(), rel=0.05)
    assert documents.isfinite().all()
    gradients = torch.autograd.grad(rounded, list(case.model.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


@every_case
def test_a_model_built_without_memory_gets_the_same_weights(case: Case) -> None:
    with torch.device("meta"):
        model = LanguageModel(case.config)
    model.to_empty(device="cpu").init_weights(seed=5)
    direct = build(case.config, seed=5)
    for name, weight in direct.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    assert torch.equal(model(tokens(1, 9)), direct(tokens(1, 9)))


@pytest.mark.slow
@every_case
def test_compilation_breaks_no_graph(case: Case) -> None:
    """Forward and backward are traced in one piece each, and compute the same."""
    torch._dynamo.reset()
    model, ids = case.model, tokens(2, 24)
    ours, plain = torch.compile(model, backend="aot_eager", fullgraph=True)(ids), model(ids)
    torch.testing.assert_close(ours, plain, **CLOSE)
    weights = list(model.parameters())
    push = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
    traced = torch.autograd.grad(ours, weights, push)
    for one, other in zip(traced, torch.autograd.grad(plain, weights, push), strict=True):
        tolerance = 1e-4 * (1 + other.abs().max().item())
        torch.testing.assert_close(one, other, atol=tolerance, rtol=1e-3)


def test_compilation_breaks_no_graph_of_any_part() -> None:
    torch._dynamo.reset()
    model, ids = awake(one_of_each()), tokens(2, 24)
    ours = torch.compile(model, backend="eager", fullgraph=True)(ids)
    torch.testing.assert_close(ours, model(ids), **CLOSE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
@every_case
def test_an_accelerator_reads_documents_as_a_processor_does(case: Case) -> None:
    ids = tokens(3, 22)
    exact = case.model.hidden(ids, documents=packed())
    ours = copy.deepcopy(case.model).cuda().hidden(ids.cuda(), documents=packed().cuda())
    torch.testing.assert_close(ours.cpu(), exact, atol=1e-3, rtol=1e-3)


def test_the_names_of_documents_do_not_matter() -> None:
    model, ids = awake(one_of_each()), tokens(3, 22)
    one, other = (model.hidden(ids, documents=x) for x in (packed(), 7 - 3 * packed()))
    assert torch.equal(one, other)


def test_places_are_counted_from_the_start_of_a_document() -> None:
    begins, places = locate(torch.tensor([[1, 1, 1, 2, 0, 0]]))
    assert places.tolist() == [[0, 1, 2, 0, 0, 1]]
    assert begins[0, :, 0].tolist() == [True, False, False, True, True, False]

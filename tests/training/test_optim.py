import io

import pytest
import torch
from torch import Tensor, nn

from tests.training.models.random_weights import small_config, tokens
from training.losses import next_token_loss
from training.models.language_model import LanguageModel, build
from training.optim import Muon, Optimizer, orthogonalize
from training.schedule import OptimizerConfig

CONFIG = OptimizerConfig()


def step(model: LanguageModel, optimizer: Optimizer, seed: int, multiplier: float = 1.0) -> None:
    optimizer.zero_grad()
    next_token_loss(model, tokens(4, 25, seed)).backward()
    optimizer.step(multiplier)


def weights(model: LanguageModel) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 16, 64), (1, 64, 16), (1, 1, 5)])
def test_singular_values_come_near_one(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape), dtype).float())
    assert values.min() > 0.3 and values.max() < 1.3
    assert 0.65 < values.mean() < 1.2


def test_singular_vectors_stay() -> None:
    matrix = torch.randn(1, 6, 10)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    core = u.mT @ orthogonalize(matrix, torch.float32) @ vh.mT
    torch.testing.assert_close(core, torch.diag_embed(core.diagonal(dim1=1, dim2=2)))


def test_the_scale_of_a_gradient_does_not_matter_to_a_matrix() -> None:
    gradients = torch.randn(2, 6, 10)
    one, other = (orthogonalize(gradients * scale, torch.float32) for scale in (1e-4, 1e4))
    torch.testing.assert_close(one, other)


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert not orthogonalize(torch.zeros(1, 4, 4), torch.bfloat16).any()


def test_muon_equals_the_one_in_torch() -> None:
    shapes = [(8, 8), (24, 8), (8, 24), (8, 8)]
    ours = {str(i): nn.Parameter(torch.randn(shape)) for i, shape in enumerate(shapes)}
    theirs = [nn.Parameter(p.detach().clone()) for p in ours.values()]
    muon = Muon(ours, momentum=0.9, dtype=torch.bfloat16)
    reference = torch.optim.Muon(theirs, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0)
    for _ in range(4):
        for own, other in zip(ours.values(), theirs, strict=True):
            own.grad = torch.randn_like(own)
            other.grad = own.grad.clone()
        muon.step(lr=0.1)
        reference.step()
    for own, other in zip(ours.values(), theirs, strict=True):
        torch.testing.assert_close(own, other, atol=5e-3, rtol=0)


def test_a_matrix_moves_by_the_rate_in_its_strongest_direction() -> None:
    model = build(small_config())
    optimizer, before = Optimizer(model, CONFIG), weights(model)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step(0.25)
    for name, parameter, role in model.roles():
        if role == "matrix":
            change = torch.linalg.matrix_norm(parameter - before[name], 2).item()
            rows, columns = parameter.shape
            rate = 0.25 * CONFIG.muon_lr * max(1, rows / columns) ** 0.5
            assert 0.9 < change / rate < 1.3


def test_adam_takes_a_first_step_of_the_rate_of_its_role() -> None:
    model = build(small_config())
    optimizer, before = Optimizer(model, CONFIG), weights(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(0.25)
    rates = {"head": CONFIG.adam_lr, "vector": CONFIG.adam_lr, "table": CONFIG.table_lr}
    for name, parameter, role in model.roles():
        if role != "matrix":
            change = torch.full_like(parameter, -0.25 * rates[role])
            torch.testing.assert_close(parameter - before[name], change, atol=1e-6, rtol=1e-4)


def test_a_multiplier_holds_for_its_step_alone() -> None:
    model = build(small_config())
    optimizer, before = Optimizer(model, CONFIG), weights(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(0.0)
    optimizer.step(1.0)
    change = torch.full_like(model.head_weight, -CONFIG.adam_lr)
    torch.testing.assert_close(model.head_weight - before["head.weight"], change)


def test_a_multiplier_of_zero_and_a_missing_gradient_change_nothing() -> None:
    model = build(small_config())
    optimizer, before = Optimizer(model, CONFIG), weights(model)
    step(model, optimizer, seed=0, multiplier=0.0)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())
    optimizer.step(1.0)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_a_saved_and_loaded_optimizer_continues_bit_for_bit() -> None:
    model = build(small_config())
    optimizer = Optimizer(model, CONFIG)
    for seed in range(3):
        step(model, optimizer, seed)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    copy = build(small_config(), seed=7)
    copy.load_state_dict(saved["model"])
    resumed = Optimizer(copy, CONFIG)
    resumed.load_state_dict(saved["optimizer"])
    for seed in range(3, 6):
        step(model, optimizer, seed, 0.5)
        step(copy, resumed, seed, 0.5)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, copy.state_dict()[name]), name


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_learns_a_batch_by_heart(tied: bool, dtype: torch.dtype) -> None:
    model = build(small_config(tied=tied))
    optimizer = Optimizer(model, CONFIG, dtype)
    for _ in range(60):
        step(model, optimizer, seed=0)
    assert next_token_loss(model, tokens(4, 25)).item() < 0.5

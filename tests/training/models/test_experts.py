"""Experts against loops over tokens and ``transformers``: routing, dispatch, balance, accounts."""

import json
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.training.models.random_weights import awake, small_config, tokens
from training import checkpoint, progress
from training.data.rows import Rows
from training.kernels.grouped_products import grouped_gradient, grouped_product
from training.loop import TrainResult
from training.losses import next_token_loss
from training.models import accounting, experts
from training.models.configs.experts import BiasBalance, ExpertsConfig, LossBalance
from training.models.configs.parts import Sizes
from training.models.experts import Experts, Routing, balance
from training.models.language_model import LanguageModel, build
from training.models.presets import own
from training.models.presets.own import tarn
from training.models.variants import Layer, ModelConfig
from training.optim import Muon, Optimizer
from training.parallel.data_parallel import DataParallel
from training.pretraining import TrainConfig, train
from training.schedule import OptimizerConfig

SIZES = Sizes(d_model=16, context_length=24, vocab_size=61)
VARIANTS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "one of eight": {"top_k": 1, "normalize_top_k": False, "activation": "relu2"},
    "all of them": {"top_k": 8, "scale": 0.5},
    "shared and gated": {"d_shared": 24, "shared_gate": True, "activation": "geglu"},
    "sigmoid in groups with a bias": {
        "scores": "sigmoid",
        "num_groups": 4,
        "top_groups": 2,
        "scale": 2.5,
        "d_shared": 8,
        "balance": BiasBalance(),
    },
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


def settings(**changes: Any) -> ExpertsConfig:
    given = {"num_experts": 8, "top_k": 2, "d_expert": 12, "normalize_top_k": True}
    return ExpertsConfig.model_validate(given | changes)


def layer(config: ExpertsConfig, seed: int = 0) -> Experts:
    """With random weights and biases."""
    module, generator = Experts(config, SIZES), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
        if module.balance is not None:
            module.balance.copy_(torch.randn(8, generator=generator) / 5)
    return module


def some(count: int = 21, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, SIZES.d_model, generator=generator)


def activated(name: str, up: Tensor, gate: Tensor | None) -> Tensor:
    if gate is not None:
        return up * (F.silu(gate) if name == "swiglu" else F.gelu(gate, approximate="tanh"))
    return up.relu() ** 2


def token_by_token(module: Experts, x: Tensor) -> Tensor:
    """The same as ``module`` of [tokens, d_model], as the definitions say it."""
    config, rows = module.config, []
    for token in x:
        logits = module.router.weight @ token
        scores = logits.softmax(0) if config.scores == "softmax" else logits.sigmoid()
        wanted = (scores if module.balance is None else scores + module.balance).tolist()
        size = config.num_experts // config.num_groups
        groups = [range(i, i + size) for i in range(0, config.num_experts, size)]
        if config.num_groups > 1:
            groups.sort(key=lambda group: -sum(sorted(wanted[e] for e in group)[-2:]))
        allowed = [e for group in groups[: config.top_groups] for e in group]
        chosen = sorted(allowed, key=lambda e: -wanted[e])[: config.top_k]
        total = sum(scores[e] for e in chosen) if config.normalize_top_k else 1
        row = torch.zeros_like(token)
        for e in chosen:
            gate = module.gate[e] @ token if hasattr(module, "gate") else None
            inner = activated(config.activation, module.up[e] @ token, gate)
            row = row + config.scale * scores[e] / total * (module.down[e] @ inner)
        if module.shared is not None:
            gate = module.shared.gate.weight @ token if hasattr(module.shared, "gate") else None
            inner = activated(config.activation, module.shared.up.weight @ token, gate)
            said = module.shared.down.weight @ inner
            if config.shared_gate:
                said = said * (module.shared_gate.weight @ token).sigmoid()
            row = row + said
        rows.append(row)
    return torch.stack(rows)


@variants
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_experts_and_their_gradients_equal_a_loop_over_tokens_in_float64(
    variant: dict, dtype: torch.dtype, close: float
) -> None:
    module = layer(settings(**variant)).to(dtype)
    exact = layer(settings(**variant)).double()
    x, push = some(), some(seed=1)
    results = []
    for each, forward in ((module, module), (exact, lambda x: token_by_token(exact, x))):
        dtype_of = each.router.weight.dtype
        given = x.to(dtype_of).requires_grad_()
        out = forward(given)
        slopes = torch.autograd.grad(out, [given, *each.parameters()], push.to(dtype_of))
        results.append([t.double() for t in (out, *slopes)])
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, atol=close, rtol=close)


@variants
def test_a_token_is_read_the_same_whatever_else_is_in_the_batch(variant: dict) -> None:
    module, x = layer(settings(**variant)), some()
    alone = torch.cat([module(token[None]) for token in x])
    torch.testing.assert_close(module(x), alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(module(x.flip(0)).flip(0), alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(module(x.view(3, 7, 16)).flatten(0, 1), alone, atol=1e-5, rtol=1e-5)


def test_no_token_is_dropped_where_all_choose_the_same_experts() -> None:
    module, x = layer(settings()), some(1).expand(40, -1)
    torch.testing.assert_close(module(x), module(x[:1]).expand(40, -1))


def test_half_precision_follows_single_precision() -> None:
    module, x = layer(settings(d_shared=24)), some()
    with torch.autocast("cpu", torch.bfloat16):
        route, rounded = module.route(x), module(x)
    assert (route.scores.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(rounded.float(), module(x), atol=0.03, rtol=0.05)


@variants
def test_gradients_reach_the_router_and_the_experts_that_were_used_alone(variant: dict) -> None:
    module, x = layer(settings(**variant)), some(2)
    used = set(module.route(x).chosen.flatten().tolist())
    (module(x) * some(2, seed=1)).sum().backward()
    assert module.router.weight.grad is not None and module.router.weight.grad.any()
    for stack in [module.up, module.down, *([module.gate] if hasattr(module, "gate") else [])]:
        assert stack.grad is not None
        assert {e for e in range(8) if stack.grad[e].any()} == used


# transformers


@pytest.fixture
def peers() -> Any:
    return pytest.importorskip("transformers", reason="transformers (extra peers) is missing")


def fill(module: Experts, peer: Any) -> None:
    """Give ``peer`` our weights."""
    with torch.no_grad():
        peer.gate.weight.copy_(module.router.weight)
        peer.experts.gate_up_proj.copy_(torch.cat((module.gate, module.up), dim=1))
        peer.experts.down_proj.copy_(module.down)
        shared = getattr(peer, "shared_experts", getattr(peer, "shared_expert", None))
        if module.shared is not None and shared is not None:
            shared.gate_proj.weight.copy_(module.shared.gate.weight)
            shared.up_proj.weight.copy_(module.shared.up.weight)
            shared.down_proj.weight.copy_(module.shared.down.weight)


PEER_SIZES = {"hidden_size": 16, "moe_intermediate_size": 12, "num_experts_per_tok": 2}


@pytest.mark.parametrize("normalize", [True, False])
def test_softmax_routing_equals_that_of_qwen3(peers: Any, normalize: bool) -> None:
    from transformers.models.qwen3_moe import modeling_qwen3_moe as qwen

    config = peers.Qwen3MoeConfig(**PEER_SIZES, num_experts=8, norm_topk_prob=normalize)
    module, peer = layer(settings(normalize_top_k=normalize)), qwen.Qwen3MoeSparseMoeBlock(config)
    fill(module, peer)
    x = some().view(3, 7, 16)
    torch.testing.assert_close(module(x), peer(x), atol=1e-5, rtol=1e-5)


def test_a_gated_shared_expert_equals_that_of_qwen3_next(peers: Any) -> None:
    from transformers.models.qwen3_next import modeling_qwen3_next as qwen

    config = peers.Qwen3NextConfig(
        **PEER_SIZES, num_experts=8, shared_expert_intermediate_size=24, norm_topk_prob=True
    )
    module = layer(settings(d_shared=24, shared_gate=True))
    peer = qwen.Qwen3NextSparseMoeBlock(config)
    fill(module, peer)
    with torch.no_grad():
        peer.shared_expert_gate.weight.copy_(module.shared_gate.weight)
    x = some().view(3, 7, 16)
    torch.testing.assert_close(module(x), peer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("groups", "top"), [(4, 2), (2, 1), (1, 1)])
def test_sigmoid_routing_in_groups_equals_that_of_deepseek(
    peers: Any, groups: int, top: int
) -> None:
    from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek

    config = peers.DeepseekV3Config(
        **PEER_SIZES, n_routed_experts=8, n_shared_experts=2, n_group=groups, topk_group=top,
        routed_scaling_factor=2.5, norm_topk_prob=True,
    )  # fmt: skip
    ours = settings(
        scores="sigmoid", num_groups=groups, top_groups=top, scale=2.5, d_shared=24,
        balance=BiasBalance(),
    )  # fmt: skip
    module, peer = layer(ours), deepseek.DeepseekV3MoE(config)
    fill(module, peer)
    peer.gate.e_score_correction_bias.copy_(module.balance)
    x = some(60).view(3, 20, 16)
    torch.testing.assert_close(module(x), peer(x), atol=1e-5, rtol=1e-5)
    unbiased = layer(ours)
    unbiased.reset()
    assert not torch.allclose(module(x), unbiased(x), atol=1e-2)


def test_the_loss_of_balance_is_that_of_the_peer_a_choice(peers: Any) -> None:
    from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

    module = layer(settings(balance=LossBalance(weight=1.0)))
    route = module.route(some(40))
    theirs = load_balancing_loss_func((route.logits,), num_experts=8, top_k=2)
    every = torch.ones(40, dtype=torch.bool)
    torch.testing.assert_close(2 * route.penalty(every), theirs)  # theirs sums over choices


# grouped products

ENDS = torch.tensor([4, 4, 10, 11], dtype=torch.int32)


def product_loop(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """The same with products that autograd and a counter of FLOPs see one by one."""
    starts = [0, *ends.tolist()]
    parts = [rows[starts[e] : starts[e + 1]] @ matrices[e].mT for e in range(len(matrices))]
    return torch.cat(parts)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_grouped_products_are_those_of_each_group(dtype: torch.dtype) -> None:
    rows, matrices = torch.randn(11, 6, dtype=dtype), torch.randn(4, 10, 6, dtype=dtype)
    push = torch.randn(11, 10, dtype=dtype)
    results = []
    for product in (grouped_product, product_loop):
        given = [rows.clone().requires_grad_(), matrices.clone().requires_grad_()]
        out = product(*given, ENDS)
        results.append([out, *torch.autograd.grad(out, given, push)])
    for ours, reference in zip(*results, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, reference)


def test_grouped_products_keep_what_torch_asks_of_an_operator() -> None:
    what = ("test_schema", "test_autograd_registration", "test_faketensor")
    rows, matrices = torch.randn(11, 8, requires_grad=True), torch.randn(4, 8, 8)
    given = (rows, matrices.requires_grad_(), ENDS)
    torch.library.opcheck(grouped_product, given, test_utils=what)
    given = (torch.randn(11, 8), torch.randn(11, 4), ENDS)
    torch.library.opcheck(grouped_gradient, given, test_utils=what)


def test_no_rows_have_no_products() -> None:
    none = torch.zeros(4, dtype=torch.int32)
    assert grouped_product(torch.randn(0, 6), torch.randn(4, 10, 6), none).shape == (0, 10)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
@variants
def test_an_accelerator_mixes_experts_as_a_processor_does(variant: dict) -> None:
    module, x = layer(settings(**(variant | {"d_expert": 16}))), some(200)
    exact = module.double()(x.double()).float()
    module = module.float().cuda()
    torch.testing.assert_close(module(x.cuda()).cpu(), exact, atol=1e-3, rtol=1e-3)
    with torch.autocast("cuda", torch.bfloat16):
        rounded = module(x.cuda())
    torch.testing.assert_close(rounded.float().cpu(), exact, atol=0.05, rtol=0.05)


# balance


def test_an_even_spread_costs_the_weight_and_one_expert_for_all_costs_the_most() -> None:
    module = layer(settings(top_k=1, normalize_top_k=False, balance=LossBalance(weight=0.25)))
    with torch.no_grad():
        module.router.weight.copy_(20 * torch.eye(8, 16))
    every = torch.ones(8, dtype=torch.bool)
    even = module.route(torch.eye(8, 16)).penalty(every)
    worst = module.route(torch.eye(16)[:1].expand(8, -1)).penalty(every)
    assert (even.item(), worst.item()) == pytest.approx((0.25, 0.25 * 8))


def test_the_z_loss_is_the_mean_square_of_the_normaliser() -> None:
    route = layer(settings(z_loss=0.5)).route(some())
    every = torch.ones(21, dtype=torch.bool)
    expected = 0.5 * route.logits.exp().sum(-1).log().square().mean()
    torch.testing.assert_close(route.penalty(every), expected)


@pytest.mark.parametrize(
    "parts", [{"balance": LossBalance(), "z_loss": 0.1}, {"scores": "sigmoid"}]
)
def test_tokens_that_are_not_counted_change_no_penalty_and_no_load(parts: dict) -> None:
    given = {"balance": LossBalance(weight=1.0), **parts}
    x, counted = some(), torch.arange(21) % 3 > 0
    module, fewer = layer(settings(**given)), layer(settings(**given))
    some_of_all, all_of_some = module.route(x), fewer.route(x[counted])
    every = torch.ones(14, dtype=torch.bool)
    torch.testing.assert_close(some_of_all.penalty(counted), all_of_some.penalty(every))
    some_of_all.count(counted)
    all_of_some.count(every)
    assert torch.equal(module.loads, fewer.loads) and module.loads.sum() == 28


def test_a_step_moves_biases_by_their_rate_and_forgets_the_loads() -> None:
    module = layer(settings(balance=BiasBalance(rate=0.125)))
    module.reset()
    module.loads.copy_(torch.tensor([4, 4, 4, 4, 0, 8, 5, 3]))
    assert module.balance is not None
    told = balance([module], lambda _: None)
    assert module.balance.tolist() == [0, 0, 0, 0, 0.125, -0.125, -0.125, 0.125]
    shares = np.array([4, 4, 4, 4, 8, 5, 3]) / 32
    entropy = -(shares * np.log(shares)).sum() / np.log(8)
    assert told == pytest.approx(
        {"experts/busiest": 2.0, "experts/entropy": entropy, "experts/unused": 1 / 8}
    )
    assert not module.loads.any()
    assert balance([module], lambda _: None) == {}
    assert module.balance.tolist() == [0, 0, 0, 0, 0.125, -0.125, -0.125, 0.125]


def test_biases_follow_the_loads_of_all_ranks() -> None:
    module = layer(settings(balance=BiasBalance(rate=1.0)))
    module.reset()
    module.loads.copy_(torch.tensor([9, 1, 2, 2, 2, 2, 2, 2]))
    other = torch.tensor([0.0, 12, 2, 2, 2, 2, 2, 2])

    def average(loads: Iterable[Tensor]) -> None:
        for load in loads:
            load.add_(other).div_(2)

    balance([module], average)
    assert module.balance is not None and module.balance.tolist() == [-1, -1, 1, 1, 1, 1, 1, 1]


def with_experts(config: ModelConfig, *feed_forwards: ExpertsConfig) -> ModelConfig:
    """Layers of experts, one kind after the other."""
    mixer, local = config.layer(0).mixer, config.layer(0).local
    layers = {
        str(i): Layer(mixer=mixer, feed_forward=each, local=local)
        for i, each in enumerate(feed_forwards)
    }
    return ModelConfig(**(dict(config) | {"layers": layers, "pattern": tuple(layers)}))


def test_padding_counts_for_nothing_in_a_loss() -> None:
    config = with_experts(small_config(), settings(balance=LossBalance(weight=1.0), z_loss=1.0))
    model, ids = awake(config), tokens(2, 25)
    pieces = torch.zeros_like(ids)
    pieces[:, 15:] = -1
    loss = next_token_loss(model, ids, pieces)
    loads = model.blocks[0].feed_forward.loads.clone()  # type: ignore[union-attr, operator]
    model.blocks[0].feed_forward.loads.zero_()  # type: ignore[union-attr, operator]
    torch.testing.assert_close(next_token_loss(model, ids[:, :15]), loss)
    assert torch.equal(model.blocks[0].feed_forward.loads, loads)  # type: ignore[union-attr]
    assert loads.sum() == 2 * 2 * 14


BALANCES: dict[str, Any] = {
    "none": None,
    "loss": LossBalance(weight=0.05),
    "bias": BiasBalance(rate=0.02),
}


def skewed(seed: int) -> Tensor:
    """Rows in which few tokens make up the most, as words do."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.zipf(1.5, (4, 25)) % 61)


@pytest.fixture(scope="module")
def evenness() -> dict[str, dict[str, float]]:
    """What the last 40 of 100 steps tell of loads, on average, for each way of balancing."""
    told = {}
    for name, way in BALANCES.items():
        given = settings(num_experts=16, scores="sigmoid", balance=way)
        config = with_experts(small_config(d_model=16, num_layers=1, num_heads=1), given)
        model = build(config)
        optimizer = Optimizer(model, OptimizerConfig())
        steps = []
        for step in range(100):
            next_token_loss(model, skewed(step)).backward()
            optimizer.step(1.0)
            optimizer.zero_grad()
            steps.append(balance(model.modules(), lambda _: None))
        told[name] = {key: float(np.mean([s[key] for s in steps[-40:]])) for key in steps[0]}
    return told


@pytest.mark.parametrize("name", ["loss", "bias"])
def test_each_way_of_balancing_makes_loads_more_even(name: str, evenness: dict) -> None:
    assert evenness[name]["experts/entropy"] > 1.5 * evenness["none"]["experts/entropy"]
    assert evenness[name]["experts/busiest"] < 0.6 * evenness["none"]["experts/busiest"]
    assert evenness[name]["experts/unused"] < 0.5 * evenness["none"]["experts/unused"]


# models


@pytest.fixture
def mixed() -> ModelConfig:
    """A model of three kinds of experts."""
    kinds = ("softmax", "shared and gated", "sigmoid in groups with a bias")
    return with_experts(small_config(), *(settings(**VARIANTS[kind]) for kind in kinds))


def test_parameters_are_those_of_the_built_model(mixed: ModelConfig) -> None:
    counts = {"matrix": 0, "head": 0, "vector": 0, "table": 0}
    for _, parameter, role in build(mixed).roles():
        counts[role] += parameter.numel()
    params = accounting.params(mixed)
    assert params.matrices == counts["matrix"] + counts["head"]
    assert (params.vectors, params.tables) == (counts["vector"], counts["table"])
    idle = 6 * 3 * 3 * 12 * 32  # of 8 experts in 3 layers of 3 matrices, 2 meet a token
    assert params.matrices - params.active == idle


@pytest.mark.parametrize("product", [grouped_product, product_loop])
def test_flops_are_those_that_torch_counts(
    mixed: ModelConfig, product: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experts, "grouped_product", product)
    module = layer(settings(d_shared=24, shared_gate=True))
    x = some(24).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        module(x).sum().backward()
    assert counter.get_total_flops() == module.config.training_flops(SIZES, 24)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x[:1].detach())
    assert counter.get_total_flops() == module.config.decoding_flops(SIZES, 24)


def test_a_state_is_continued_as_the_whole_is_read(mixed: ModelConfig) -> None:
    model, ids = awake(mixed), tokens(2, 24)
    state = model.empty_state(2)
    pieces = [model(piece, state) for piece in ids.split([9, 1, 1, 13], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), model(ids), atol=1e-4, rtol=1e-4)


def test_weights_begin_as_matrices_do_and_outputs_at_zero(mixed: ModelConfig) -> None:
    block = build(mixed).blocks[0]
    module = block.feed_forward
    assert isinstance(module, Experts)
    assert not module.down.any() and not module.loads.any()
    assert module.up.std().item() == pytest.approx(32**-0.5, rel=0.05)
    with torch.device("meta"):
        model = LanguageModel(mixed)
    model.to_empty(device="cpu")
    model.init_weights(0)
    for name, weight in build(mixed).state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    assert not any(m.loads.any() for m in model.modules() if isinstance(m, Experts))


@pytest.mark.parametrize("kind", ["shared and gated", "sigmoid in groups with a bias"])
def test_a_compiler_traces_experts_whole(kind: str) -> None:
    given = {"balance": LossBalance(), "z_loss": 0.1} | VARIANTS[kind]
    if given.get("scores") == "sigmoid":
        del given["z_loss"]
    module, x, every = layer(settings(**given)), some(), torch.ones(21, dtype=torch.bool)

    def forward(x: Tensor) -> Tensor:
        routing: list[Routing] = []
        out = module(x, routing)
        routing[0].count(every)
        return out.square().mean() + routing[0].penalty(every)

    traced = torch.compile(forward, fullgraph=True, backend="aot_eager")
    results = []
    for each in (traced, forward):
        loss = each(x)
        results.append([loss, *torch.autograd.grad(loss, list(module.parameters()))])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)
    assert module.loads.sum() == 2 * 2 * 21


def test_muon_turns_a_stack_as_its_matrices() -> None:
    pushes = [torch.randn(shape) for shape in ((5, 12, 8), (8, 12), (3, 12, 8))]
    starts = [torch.randn_like(push) for push in pushes]

    def moved(starts: list[Tensor], pushes: list[Tensor]) -> list[Tensor]:
        weights = {str(i): torch.nn.Parameter(start.clone()) for i, start in enumerate(starts)}
        muon = Muon(weights, momentum=0.9, dtype=torch.float32)
        for _ in range(2):
            for weight, push in zip(weights.values(), pushes, strict=True):
                weight.grad = push.clone()
            muon.step(0.1)
        return list(weights.values())

    def matrices(stacks: list[Tensor]) -> list[Tensor]:
        return [matrix for stack in stacks for matrix in stack.view(-1, *stack.shape[-2:])]

    together, alone = moved(starts, pushes), moved(matrices(starts), matrices(pushes))
    for ours, reference in zip(matrices(together), alone, strict=True):
        torch.testing.assert_close(ours, reference)


# runs

LAYERS = (settings(balance=BiasBalance(rate=0.05)), settings(balance=LossBalance(), z_loss=0.001))
MODEL = with_experts(
    tarn(vocab_size=61, context_length=24, d_model=16, num_layers=2, num_heads=1), *LAYERS
)
STEPS = 12


def run(folder: Path, ranks: DataParallel | None = None) -> TrainResult:
    torch.set_num_threads(1)
    flops = accounting.training_flops(MODEL, 24) * 8
    config = TrainConfig(
        model=MODEL, optimizer=OptimizerConfig(), flops=(STEPS + 0.5) * flops, batch_rows=8,
        validation_rows=8, checkpoint_steps=4, seed=0, precision="float32",
    )  # fmt: skip
    drawn = np.random.default_rng(0).integers(0, 61, (64, 25), dtype=np.uint16)
    rows = Rows.whole(drawn)
    return train(config, rows, rows, np.ones(61, dtype=np.int64), folder, ranks or DataParallel())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return run(tmp_path_factory.mktemp("experts"))


def biases(result: TrainResult) -> Tensor:
    return checkpoint.load_weights(result.checkpoint)["blocks.0.feed_forward.balance"]


def test_a_run_tells_of_loads_and_keeps_its_biases(undisturbed: TrainResult) -> None:
    lines = (undisturbed.checkpoint.parent / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert 0.5 < last["experts/entropy"] <= 1 <= last["experts/busiest"] < 8
    assert 0 <= last["experts/unused"] < 1
    moved = biases(undisturbed) / 0.05
    assert moved.any() and moved.abs().max() <= STEPS
    torch.testing.assert_close(moved, moved.round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("steps", [4, 6])
def test_a_crash_changes_no_bit(
    undisturbed: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    count = progress.Progress.count

    def crash(self: progress.Progress, *given: Any) -> None:
        count(self, *given)
        if self.steps == steps:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(progress.Progress, "count", crash)
        run(tmp_path)
    assert run(tmp_path).digest == undisturbed.digest


def _run_as_rank(rank: int, world: int, port: int, folder: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
    )
    run(folder, DataParallel(rank, world))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_move_their_biases_as_one_does(undisturbed: TrainResult, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_run_as_rank, (2, port, tmp_path), nprocs=2)
    two = run(tmp_path)
    assert two.loss == pytest.approx(undisturbed.loss, rel=1e-3)
    torch.testing.assert_close(biases(two), biases(undisturbed), atol=0.051, rtol=0)


# settings


def test_a_model_of_experts_is_resized_with_as_many() -> None:
    config = with_experts(small_config(), settings(d_shared=10)).resized(48)
    feed_forward = config.layer(0).feed_forward
    assert isinstance(feed_forward, ExpertsConfig)
    assert (feed_forward.num_experts, feed_forward.d_expert, feed_forward.d_shared) == (8, 18, 15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": 9}, "top_k must be at most num_experts, got 9 and 8"),
        ({"top_k": 1}, "normalize_top_k must be no where top_k is 1, got yes"),
        (
            {"scores": "sigmoid", "z_loss": 0.1},
            "z_loss must be left out where scores are sigmoid, got 0.1",
        ),
        ({"shared_gate": True}, "shared_gate must be left out where d_shared is, got yes"),
        ({"num_groups": 3}, "num_experts must be a multiple of num_groups, got 8 and 3"),
        (
            {"num_groups": 2, "top_groups": 3},
            "top_groups must be at most num_groups, got 3 and 2",
        ),
        ({"num_groups": 8}, "num_groups must leave 2 experts or more in each, got 8 of 8"),
        (
            {"num_groups": 4, "top_k": 3},
            "top_k must be at most the 2 experts of top_groups, got 3",
        ),
        ({"balance": {"kind": "hope"}}, "does not match any of the expected tags: 'loss', 'bias'"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        settings(**changes)
    assert message in str(refusal.value)


def test_the_preset_of_experts_costs_what_the_dense_one_does_and_a_router() -> None:
    sizes = {"context_length": 24, "d_model": 32, "num_layers": 3, "num_heads": 4}
    dense, sparse = tarn(vocab_size=61, **sizes), own.experts(vocab_size=61, **sizes)
    more = accounting.num_matmul_params(sparse) - accounting.num_matmul_params(dense)
    assert more == 3 * 16 * 32
    assert accounting.num_params(sparse) > 2 * accounting.num_params(dense)

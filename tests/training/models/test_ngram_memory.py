import itertools

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.training.models.random_weights import tokens
from training.losses import next_token_loss
from training.models.accounting import num_matmul_params, num_params, num_table_params, state_bytes
from training.models.configs.ngram_memory import BITS, NgramMemoryConfig
from training.models.configs.parts import Sizes
from training.models.language_model import LanguageModel, build
from training.models.ngram_memory import NONE, HostTable, NgramMemory, slots_of
from training.models.presets.own import recall
from training.models.state import DecodingState
from training.models.variants import ModelConfig
from training.optim import Optimizer
from training.schedule import OptimizerConfig

SIZES = {"vocab_size": 61, "context_length": 24, "d_model": 32, "num_layers": 3, "num_heads": 4}
CONFIG = NgramMemoryConfig(num_slots=97, d_table=4)
LENGTHS = [5, 1, 10, 4, 2]  # of the documents of a row


def config_of(**changes: object) -> ModelConfig:
    return recall(**{**SIZES, "num_slots": 97, **changes})


def awake(**changes: object) -> LanguageModel:
    model = build(config_of(**changes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def naive_slots(config: NgramMemoryConfig, document: list[int]) -> list[list[int]]:
    """Of one document, in Python's whole numbers."""
    constants, slots = config.hash_constants(), []
    for time in range(len(document)):
        row = []
        for table in range(config.num_tables):
            order = config.orders[table // config.num_hashes]
            gram = document[max(0, time + 1 - order) : time + 1][::-1]
            total = sum(c * (i + 1) for c, i in zip(constants[table], gram, strict=False))
            top = total % 2**BITS // 2 ** (BITS - 32)
            row.append(table * config.num_slots + top * config.num_slots // 2**32)
        slots.append(row)
    return slots


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        NgramMemoryConfig(num_slots=2**24, d_table=4, orders=(4, 1, 8), num_hashes=3),
        NgramMemoryConfig(num_slots=1, d_table=4, orders=(1,)),
    ],
)
@pytest.mark.parametrize("largest", [60, 2**20 - 1])
def test_slots_are_those_of_whole_number_arithmetic(
    config: NgramMemoryConfig, largest: int
) -> None:
    ids = torch.randint(largest + 1, (2, 22))
    ids[0, :9] = largest
    slots = slots_of(config, ids, torch.arange(22))
    assert slots.tolist() == [naive_slots(config, row) for row in ids.tolist()]
    assert slots.min() >= 0 and slots.max() < config.num_tables * config.num_slots


def test_slots_of_documents_in_a_row_are_those_of_each_alone() -> None:
    ids = torch.randint(61, (1, 22))
    places = torch.cat([torch.arange(n) for n in LENGTHS])[None]
    alone = [row for part in ids[0].split(LENGTHS) for row in naive_slots(CONFIG, part.tolist())]
    assert slots_of(CONFIG, ids, places)[0].tolist() == alone


def test_slots_go_on_from_the_ids_read_before() -> None:
    ids, whole = torch.randint(61, (2, 22)), torch.arange(22)
    before = torch.full((2, 2), NONE)
    parts = []
    for part, places in zip(ids.split([1, 9, 1, 11], 1), whole.split([1, 9, 1, 11]), strict=True):
        parts.append(slots_of(CONFIG, part, places, before))
        before = torch.cat((before, part), dim=1)[:, -2:]
    assert torch.equal(torch.cat(parts, dim=1), slots_of(CONFIG, ids, whole))


def test_hash_constants_are_fixed_odd_and_all_different() -> None:
    constants = NgramMemoryConfig(num_slots=5, d_table=2, orders=(2, 3, 8)).hash_constants()
    used = [c for row in constants for c in row if c]
    assert all(c % 2 and 0 < c < 2**BITS for c in used) and len(set(used)) == len(used) == 26
    assert CONFIG.hash_constants()[0][:2] == [5298420313237, 4817483083385]  # tables outlive a run


def test_slots_are_used_evenly_and_tables_collide_in_different_grams() -> None:
    pairs = torch.tensor(list(itertools.product(range(64), range(64))))
    slots = slots_of(CONFIG.model_copy(update={"num_slots": 1024}), pairs, torch.arange(2))[:, 1]
    for table in range(4):
        counts = torch.bincount(slots[:, table] - 1024 * table, minlength=1024).double()
        assert counts.var() < 2 * counts.mean()  # 1 for a random function
    same = [slots[:, table, None] == slots[None, :, table] for table in (0, 1)]
    once, twice = same[0].sum().item() - 4096, (same[0] & same[1]).sum().item() - 4096
    assert twice < 0.01 * once


def test_a_fresh_memory_says_nothing() -> None:
    memory = build(config_of()).blocks[1].ngrams
    assert isinstance(memory, NgramMemory)
    assert not memory(torch.randn(2, 9, 32), torch.randn(2, 9, 32)).any()


def test_the_gate_weighs_what_was_found_by_its_likeness_to_the_stream() -> None:
    memory = NgramMemory(CONFIG, Sizes(32, 24, 61))
    x, found = torch.randn(2, 9, 32), torch.randn(2, 9, 16)
    key, out = (found.double() @ m.weight.double().T for m in (memory.key, memory.out))
    unit = [y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() for y in (x.double(), key)]
    gate = 1 / (1 + torch.exp(-(unit[0] * unit[1]).sum(-1, keepdim=True) / 32**0.5))
    torch.testing.assert_close(memory(x, found).double(), gate * out, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("pieces", [[1] * 24, [9] + [1] * 15, [5, 1, 1, 8, 1, 8], [24]])
def test_cached_decoding_equals_the_full_forward_pass(pieces: list[int], host: bool) -> None:
    model, ids = awake(host=host), tokens(2, 24)
    state, logits = model.empty_state(batch=2), []
    for piece in ids.split(pieces, dim=1):
        undo = state.mark(3)
        if int(state.num_read.max()) <= 21:
            model(tokens(2, 3, seed=1), state)
            state.rollback(undo)
        logits.append(model(piece, state))
    torch.testing.assert_close(torch.cat(logits, dim=1), model(ids), atol=1e-4, rtol=1e-4)


def test_sequences_of_different_lengths_go_on_in_one_batch() -> None:
    model, ids = awake(), tokens(2, 24)
    long, short = model.empty_state(1), model.empty_state(1)
    model(ids[:1, :17], long)
    model(ids[1:, :1], short)
    state = DecodingState.join([long, short]).select(torch.tensor([0, 1]))
    for step in range(7):
        logits = model(torch.stack((ids[0, 17 + step], ids[1, 1 + step]))[:, None], state)
        full = model(ids[:1])[0, 17 + step], model(ids[1:])[0, 1 + step]
        torch.testing.assert_close(logits[:, 0], torch.stack(full), atol=1e-4, rtol=1e-4)


def test_documents_in_a_row_are_read_as_if_each_were_alone() -> None:
    model, ids = awake(), tokens(1, 22)
    documents = torch.repeat_interleave(torch.arange(5), torch.tensor(LENGTHS))[None]
    alone = torch.cat([model.hidden(part) for part in ids.split(LENGTHS, dim=1)], dim=1)
    torch.testing.assert_close(model.hidden(ids, documents=documents), alone, atol=1e-5, rtol=1e-5)


def test_only_the_longest_n_gram_reaches_a_position() -> None:
    model, ids = build(config_of()), tokens(1, 24)
    for block in model.blocks:
        for name in ("mixer.out", "feed_forward.down"):
            torch.nn.init.zeros_(block.get_submodule(name).weight)  # tokens meet in n-grams alone
    torch.nn.init.normal_(model.blocks[1].ngrams.out.weight)
    for place in range(24):
        changed = ids.clone()
        changed[0, place] = (ids[0, place] + 1) % 61
        differs = (model.hidden(ids) != model.hidden(changed)).any(-1)[0]
        assert differs.nonzero().flatten().tolist() == [*range(place, min(24, place + 3))]


def test_every_parameter_receives_a_gradient_that_is_the_slope_of_the_loss() -> None:
    model, ids = awake(), tokens(3, 25)
    next_token_loss(model, ids).backward()
    memory = model.blocks[1].ngrams
    for parameter in memory.parameters():
        direction = parameter.grad / parameter.grad.norm()
        losses = []
        with torch.no_grad():
            for step in (1e-2, -2e-2):
                parameter += step * direction
                losses.append(next_token_loss(model, ids).item())
            parameter += 1e-2 * direction
        slope = (losses[0] - losses[1]) / 2e-2
        assert slope == pytest.approx(parameter.grad.norm().item(), rel=0.03, abs=1e-4)


@pytest.mark.parametrize("orders", [(2, 3), (1,), (4,)])
def test_it_costs_what_accounting_says(orders: tuple[int, ...]) -> None:
    config, sizes = CONFIG.model_copy(update={"orders": orders}), Sizes(32, 24, 61)
    memory = NgramMemory(config, sizes)
    found = memory.embedding(torch.zeros(2, 24, config.num_tables, dtype=torch.int64)).flatten(2)
    with FlopCounterMode(display=False) as counter:
        memory(torch.randn(2, 24, 32, requires_grad=True), found).sum().backward()
    assert counter.get_total_flops() == 2 * config.training_flops(sizes, 24)
    held = memory.empty_memory(3, 24, torch.empty(0)).num_bytes()
    assert held == 3 * config.state_bytes(sizes, 24, 2)


def test_a_model_that_recalls_is_as_large_as_accounting_says() -> None:
    config = config_of()
    model = build(config)
    counts = {"matrix": 0, "head": 0, "vector": 0, "table": 0}
    for _, parameter, role in model.roles():
        counts[role] += parameter.numel()
    assert num_params(config) == sum(counts.values())
    assert num_matmul_params(config) == counts["matrix"] + counts["head"]
    assert num_table_params(config) == counts["table"]
    bookkeeping = 8 * (1 + config.num_layers * 24)
    assert model.empty_state(1).num_bytes() == state_bytes(config, 24, 4) + bookkeeping


def test_host_tables_follow_a_model_to_another_dtype_but_to_no_device() -> None:
    with torch.device("meta"):
        model = LanguageModel(config_of(host=True))
    table = model.blocks[1].ngrams.embedding
    assert isinstance(table, HostTable) and table.weight.is_meta
    table._apply(lambda tensor: torch.empty_like(tensor, device="cpu"))
    assert table.weight.device.type == "cpu" and table.weight.shape == (4 * 97, 8)
    weight = table.weight
    assert table.float().weight is weight
    assert table.to(torch.bfloat16).weight.dtype == torch.bfloat16
    assert table.to("meta").weight.is_meta


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
def test_host_tables_serve_an_accelerator_as_its_own_tables_do() -> None:
    ids, grads = tokens(3, 25).cuda(), []
    for host in (False, True):
        model = awake(host=host).cuda()
        table = model.blocks[1].ngrams.embedding.weight
        assert table.is_cuda != host
        next_token_loss(model, ids).backward()
        Optimizer(model, OptimizerConfig()).step(1.0)
        grads.append(table.grad.cpu())
    torch.testing.assert_close(*grads)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
def test_slots_are_the_same_on_an_accelerator() -> None:
    ids = torch.randint(2**20, (2, 300))
    config = NgramMemoryConfig(num_slots=2**24, d_table=4, orders=(2, 3, 8))
    here, there = (slots_of(config, x, torch.arange(300).to(x.device)) for x in (ids, ids.cuda()))
    assert torch.equal(here, there.cpu())


def test_host_tables_learn_as_others_do() -> None:
    models = [awake(host=host) for host in (False, True)]
    for model in models:
        optimizer = Optimizer(model, OptimizerConfig())
        next_token_loss(model, tokens(3, 25)).backward()
        optimizer.step(1.0)
    one, other = (model.blocks[1].ngrams.embedding.weight for model in models)
    assert torch.equal(one, other)


@pytest.mark.parametrize("has_memory", [True, False])
def test_a_model_that_sees_n_grams_alone_learns_what_follows_them(has_memory: bool) -> None:
    """Of 16 tokens at random, each next one is fixed by the last two; attention sees one."""
    generator = torch.Generator().manual_seed(0)
    rule = torch.randint(16, (16, 16), generator=generator)
    config = config_of(vocab_size=16, num_slots=1024, num_layers=2).model_dump()
    for layer in config["layers"].values():
        layer["mixer"]["window"], layer["local"] = 1, None
        layer["memory"] = layer["memory"] if has_memory else None
    model = build(ModelConfig.model_validate(config))
    optimizer = Optimizer(model, OptimizerConfig())

    def rows() -> Tensor:
        row = [torch.randint(16, (8,), generator=generator) for _ in range(2)]
        for _ in range(23):
            row.append(rule[row[-2], row[-1]])
        return torch.stack(row, dim=1)

    for _ in range(40):
        optimizer.zero_grad()
        next_token_loss(model, rows()).backward()
        optimizer.step(1.0)
    assert (next_token_loss(model, rows()).item() < 0.6) == has_memory


def test_it_follows_single_precision_in_half_precision() -> None:
    model, ids = awake(), tokens(3, 25)
    exact = next_token_loss(model, ids).item()
    with torch.autocast("cpu", torch.bfloat16):
        assert next_token_loss(model, ids).item() == pytest.approx(exact, rel=0.02)


def test_it_compiles_in_one_graph() -> None:
    memory = NgramMemory(CONFIG, Sizes(32, 24, 61))
    slots = torch.compile(slots_of, backend="eager", fullgraph=True)
    ids = torch.randint(61, (2, 22))
    assert torch.equal(
        slots(CONFIG, ids, torch.arange(22)), slots_of(CONFIG, ids, torch.arange(22))
    )
    found = memory.embedding(slots_of(CONFIG, ids, torch.arange(22))).flatten(2)
    x = torch.randn(2, 22, 32)
    compiled = torch.compile(memory, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, found), memory(x, found))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orders": ()}, "orders must be different numbers of tokens, got ()"),
        ({"orders": (2, 2)}, "orders must be different numbers of tokens, got (2, 2)"),
        ({"orders": (2, 9)}, "orders must be in 1 to 8, got (2, 9)"),
        ({"orders": (0,)}, "orders must be in 1 to 8, got (0,)"),
        ({"num_slots": 2**24 + 1}, "Input should be less than or equal to 16777216"),
        ({"num_slots": 0}, "Input should be greater than or equal to 1"),
        ({"num_hashes": 0}, "Input should be greater than 0"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        NgramMemoryConfig.model_validate({"num_slots": 97, "d_table": 4, **changes})
    assert message in str(refusal.value)


def test_a_recipe_may_name_the_preset() -> None:
    config = ModelConfig.model_validate({"preset": "recall", **SIZES, "num_slots": 97})
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config == config_of()
    assert [layer.memory is None for layer in config.all_layers()] == [True, False, True]
    assert config.resized(64).layer(1).memory == CONFIG.model_copy(update={"d_table": 16})

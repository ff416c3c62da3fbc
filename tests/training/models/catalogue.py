"""What the suite tests, made from the catalogue itself: a new variant is covered by being there.

Every preset at a small shape; and models whose layers mix parts and settings, drawn until every
choice that the fields of the configs offer occurs, and as many pairs of choices as a fixed number
of models can hold. Choices are read off the types of the fields: each member of a union, each word
of a ``Literal``, both of a boolean. Numbers are in ``VALUES`` by the name of their field, where
``test_catalogue.py`` asks for those that are missing.
"""

import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations, pairwise
from random import Random
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from datalake.config import Config, Refusal
from tests.training.models.random_weights import awake
from training.models.configs.parts import Part, Sizes
from training.models.language_model import LanguageModel
from training.models.presets.by_name import PRESETS
from training.models.variants import Layer, ModelConfig, parts

SIZES = Sizes(d_model=32, context_length=24, vocab_size=61)
NUM_MIXED, NUM_WIDE = 27, 75
CANDIDATES = 6  # models drawn for each that is taken
CASE_LAYERS = 3
# Small numbers by the name of a field; where it may be left out, None is one of them.
VALUES: dict[str, list[Any]] = {
    **{name: [value] for name, value in SIZES._asdict().items()},
    "num_layers": [CASE_LAYERS],
    "num_heads": [4],
    "num_kv_heads": [4, 2, 1],
    "d_head": [None, 12],
    "window": [None, 7, 2],
    "d_ff": [48],
    "scale": [None, 0.3],
    "softcap": [None, 4.0],
    "logit_softcap": [None, 8.0],
    "theta": [10_000.0, 500.0],
    "fraction": [1.0, 0.5],
    "factor": [1.0, 4.0],
    "low": [1.0],
    "high": [4.0],
    "context": [16],
    "eps": [1e-6, 1e-3],
    "qk_eps": [1e-6, 1e-3],
    "embedding_scale": [1.0, 3.0],
    "residual_scale": [1.0, 0.7],
    "logit_scale": [1.0, 0.5],
    "width": [2, 4],
    "chunk": [8, 5, 64],
    "num_key_heads": [4, 2],
    "d_key": [8],
    "d_value": [8, 12],
    "d_rope": [4],
    "kv_rank": [16],
    "q_rank": [None, 24],
    "num_experts": [4],
    "top_k": [2, 1],
    "d_expert": [16],
    "d_shared": [None, 16],
    "num_groups": [1, 2],
    "top_groups": [1, 2],
    "z_loss": [None, 1e-3],
    "weight": [0.01],
    "rate": [0.001],
    "orders": [(2, 3), (3,)],
    "num_slots": [64],
    "num_hashes": [2, 1],
    "d_table": [8],
}
DRAWN = {*Sizes._fields, "num_layers", "layers", "pattern", "first"}  # by this module


@dataclass(frozen=True)
class Case:
    """A config to test, built when a test asks for it."""

    name: str
    build: Callable[[], ModelConfig]

    @property
    def config(self) -> ModelConfig:
        return _config(self)

    @property
    def model(self) -> LanguageModel:
        """No part of it is silent; shared by tests, which leave it as it is."""
        return _model(self)


@cache
def _config(case: Case) -> ModelConfig:
    return case.build()


@lru_cache(maxsize=64)
def _model(case: Case) -> LanguageModel:
    return awake(case.config)


def small_preset(name: str) -> ModelConfig:
    """A preset with what it requires, and as many layers as name each of its kinds."""
    sizes = {n: next(v for v in VALUES[n] if v is not None) for n in required(name)}
    config = PRESETS[name](**sizes)
    needed = max(CASE_LAYERS, len(config.first) + len(config.pattern))
    return PRESETS[name](**{**sizes, "num_layers": needed})


def required(preset: str) -> list[str]:
    """What a preset must be given."""
    parameters = inspect.signature(PRESETS[preset]).parameters
    return [name for name, p in parameters.items() if p.default is p.empty]


def members(annotation: Any) -> list[Any]:
    """What a field may be: the classes and types of a union, without ``Annotated``."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [one for part in get_args(annotation) for one in members(part)]
    return [annotation]


def is_config(one: Any) -> bool:
    return inspect.isclass(one) and issubclass(one, Config)


def options(name: str, field: FieldInfo) -> list[Any]:
    """What a field may hold; of parts their classes. Of a number without a value none."""
    found: list[Any] = []
    kinds = members(field.annotation)
    if name in VALUES:
        return [v for v in VALUES[name] if v is not None or type(None) in kinds]
    for one in kinds:
        if get_origin(one) is Literal:
            found += get_args(one)
        elif one is bool:
            found += [False, True]
        elif one is type(None) or (is_config(one) and not gaps(one)):
            found.append(one)
    return found


@cache
def gaps(cls: type[Config]) -> list[str]:
    """Fields of ``cls`` that must have a number, which ``VALUES`` does not."""
    fields = cls.model_fields.items()
    return [name for name, field in fields if field.is_required() and not options(name, field)]


def draw(cls: type[Config], random: Random) -> Any:
    """Settings of ``cls`` that it does not refuse."""
    while True:
        given = {}
        for name, field in cls.model_fields.items():
            if name in DRAWN and cls is ModelConfig:
                continue
            found = options(name, field)
            if not found and not field.is_required():
                continue
            value = random.choice(found)
            given[name] = draw(value, random) if is_config(value) else value
            if value is type(None):
                given[name] = None
        if cls is ModelConfig:
            return given
        try:
            config = cls(**given)
            for part in parts(config) if isinstance(config, Layer) else [config]:
                if isinstance(part, Part):
                    part.check(SIZES)
        except (ValidationError, Refusal):
            continue
        return config


def draw_model(random: Random) -> ModelConfig:
    """A model whose layers follow a pattern, which another layer precedes in some."""
    names = ["a", "b", "c"][: random.choice([2, 3])]
    while True:
        settings = draw(ModelConfig, random)
        settings |= {**SIZES._asdict(), "num_layers": CASE_LAYERS}
        settings["layers"] = {name: draw(Layer, random) for name in names}
        settings["first"] = tuple(names[:1]) if random.random() < 0.5 else ()
        settings["pattern"] = tuple(names[1:] if settings["first"] and len(names) == 3 else names)
        try:
            return ModelConfig(**settings)
        except (ValidationError, Refusal):
            continue


def choices(config: Config, path: str = "") -> set[str]:
    """What ``config`` chose, field by field: paths of classes and fields, and what is there."""
    found: set[str] = set()
    for name in type(config).model_fields:
        value, here = getattr(config, name), f"{path}{type(config).__name__}.{name}"
        if is_config(type(value)):
            found |= {f"{here}={type(value).__name__}"} | choices(value, f"{here}.")
        elif not (isinstance(config, ModelConfig) and name in DRAWN):
            found.add(f"{here}={value}")
    return found


def all_choices(cls: type[Config], path: str = "") -> Iterator[str]:
    """What there is to choose in ``cls``, as ``choices`` names it."""
    for name, field in cls.model_fields.items():
        if cls is ModelConfig and name in DRAWN:
            continue
        here = f"{path}{cls.__name__}.{name}"
        for option in options(name, field):
            if is_config(option):
                yield f"{here}={option.__name__}"
                yield from all_choices(option, f"{here}.")
            else:
                yield f"{here}={None if option is type(None) else option}"


def pairs(config: ModelConfig) -> set[tuple[str, str]]:
    """Choices that meet in ``config``: of one layer, of a layer and the model, of neighbours."""
    of_model = choices(config)
    found = set(pairwise(_kinds(layer) for layer in config.all_layers()))
    for layer in config.layers.values():
        found |= set(combinations(sorted(choices(layer) | of_model), 2))
    return found


def _kinds(layer: Layer) -> str:
    return " ".join(type(part).__name__ for part in parts(layer))


@cache
def mixed(count: int) -> list[ModelConfig]:
    """The first ``count`` models: each the one of several draws that adds the most new pairs."""
    if not count:
        return []
    old = covered(count - 1)
    drawn = [draw_model(Random(f"{count} {k}")) for k in range(CANDIDATES)]
    return [*mixed(count - 1), max(drawn, key=lambda config: len(pairs(config) - old))]


@cache
def covered(count: int) -> set[tuple[str, str]]:
    """Pairs of choices that the first ``count`` models hold."""

    return covered(count - 1) | pairs(mixed(count)[-1]) if count else set()


def _mixed_case(index: int) -> Case:
    return Case(f"mixed {index}", lambda: mixed(index)[-1])


def one_of_each() -> ModelConfig:
    """A model with a layer of each kind of mixer, and among them each kind of the other parts."""
    kinds = {
        name: [one for one in options(name, field) if is_config(one)]
        for name, field in Layer.model_fields.items()
    }
    random = Random(0)
    layers = {
        f"layer_{k}": Layer(
            **{name: draw(ones[k % len(ones)], random) for name, ones in kinds.items()}
        )
        for k in range(max(map(len, kinds.values())))
    }
    return ModelConfig(
        **SIZES._asdict(), num_layers=len(layers), layers=layers, pattern=tuple(layers)
    )


PRESET_CASES = [Case(name, lambda name=name: small_preset(name)) for name in PRESETS]
MIXED_CASES = [_mixed_case(index) for index in range(1, NUM_MIXED + 1)]
WIDE_CASES = [_mixed_case(index) for index in range(NUM_MIXED + 1, NUM_MIXED + NUM_WIDE + 1)]

every_case = pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name) for case in (*PRESET_CASES, *MIXED_CASES)]
    + [pytest.param(case, id=case.name, marks=pytest.mark.slow) for case in WIDE_CASES],
)

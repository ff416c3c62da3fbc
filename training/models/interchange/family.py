"""What Tarn must know of a family of published architectures to run it and to write it.

A family is a module of three functions: ``read`` makes of a ``config.json`` what we build,
``write`` the other way, and ``pairs`` says which weights are which. ``llama3.py`` is the plainest
example, ``gpt2.py`` one with fused and transposed weights. ``families.py`` lists them all.

``write`` may take for granted that the config fits: whether it does is found by reading back what
was written. What then differs is what the family cannot express, and is refused by name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from datalake.config import Refusal
from training.models.configs.attention import AttentionConfig
from training.models.configs.experts import BiasBalance, ExpertsConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.gated_delta import GatedDeltaConfig
from training.models.configs.positions import Rope
from training.models.interchange.conversions import Pair
from training.models.variants import Layer, ModelConfig

D = TypeVar("D")
_UNSAID: Any = object()
_STARTS = {"init"}  # says where weights start, which is not asked once there are some
_NAMES = {"layers", "pattern", "first"}  # name layers, which are compared one by one


class Fields:
    """The object in a ``config.json``; what is refused is refused with the field's name.

    A field that is absent or null has the default that its family gives it.
    """

    def __init__(self, given: Mapping[str, Any], place: str = "config.json") -> None:
        self._given, self.place = given, place

    def integer(self, name: str, default: D = _UNSAID) -> int | D:
        return self._of(name, int, "a whole number", default)

    def number(self, name: str, default: D = _UNSAID) -> float | D:
        return self._of(name, (int, float), "a number", default)

    def limit(self, name: str, default: float) -> float | None:
        """A number that null takes away; where the field is absent, the default."""
        return self.number(name, None) if name in self._given else default

    def flag(self, name: str, default: D = _UNSAID) -> bool | D:
        return self._of(name, bool, "true or false", default)

    def text(self, name: str, default: D = _UNSAID) -> str | D:
        return self._of(name, str, "a text", default)

    def texts(self, name: str, default: D = _UNSAID) -> list[str] | D:
        return self._of(name, list, "a list of texts", default)

    def items(self, name: str, default: D = _UNSAID) -> list[Any] | D:
        return self._of(name, list, "a list", default)

    def fields(self, name: str) -> "Fields | None":
        """The object that the field holds, if any."""
        found = self._of(name, dict, "an object", None)
        return None if found is None else Fields(found, f"{self.place}: {name}")

    def only(self, name: str, *allowed: Any) -> None:
        """Refuse the field unless it is absent or has one of the values ``allowed``."""
        found = self._given.get(name)
        if found is not None and found not in allowed:
            rule = " or ".join(_shown(value) for value in allowed)
            raise Refusal(f"{self.place}: {name} must be {rule}, got {_shown(found)}")

    def _of(self, name: str, kind: Any, called: str, default: Any) -> Any:
        found = self._given.get(name)
        if found is None:
            if default is _UNSAID:
                raise Refusal(f"{self.place}: {name} must be {called}, got nothing")
            return default
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise Refusal(f"{self.place}: {name} must be {called}, got {_shown(found)}")
        return float(found) if kind == (int, float) else found


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One kind of published model.

    ``read`` raises Refusal, naming the field, for what Tarn cannot do; dropout it ignores.
    ``write`` returns the fields of ``config.json`` that say the architecture; it raises Refusal
    where the config lacks the parts that it would speak of, and leaves the rest to ``written``.
    ``pairs`` covers every parameter of ours once (of tied models there is no head).
    """

    model_type: str
    architecture: str
    read: Callable[[Fields], ModelConfig]
    write: Callable[[ModelConfig], dict[str, Any]]
    pairs: Callable[[ModelConfig], Iterable[Pair]]
    prefix: str = "model."  # of their names; files of the model without a head leave it out
    idle: tuple[str, ...] = ()  # shell patterns of tensors in files that are no weights

    def written(self, config: ModelConfig) -> dict[str, Any]:
        """Fields of ``config.json``. Raises ``Inexpressible`` for what the family cannot say."""
        try:
            fields = self.write(config)
            again = self.read(Fields(fields))
        except (Refusal, ValidationError) as error:
            raise Inexpressible(self, reason(error), len(ModelConfig.model_fields)) from None
        lost = differences(config, again)
        if lost:
            rules = [f"{name} {_shown(theirs)}, got {_shown(ours)}" for name, ours, theirs in lost]
            raise Inexpressible(self, "; ".join(rules), len(lost))
        return fields


def reason(error: Refusal | ValidationError) -> str:
    """Why settings were refused, in one line; those that pydantic refuses are named as ours."""
    if isinstance(error, Refusal):
        return str(error)
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, Refusal):
        return str(cause)
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']}"


class Inexpressible(Refusal):
    """What a family cannot express of a config, and in how many fields."""

    def __init__(self, family: Family, what: str, distance: int) -> None:
        super().__init__(f"model must have, to be written as {family.model_type}, {what}")
        self.distance = distance


def differences(ours: ModelConfig, theirs: ModelConfig) -> list[tuple[str, Any, Any]]:
    """(field, our value, their value) of what makes other models, each field once."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in ModelConfig.model_fields.keys() - _NAMES - _STARTS:
        found |= _unequal(name, getattr(ours, name), getattr(theirs, name))
    for index in range(min(ours.num_layers, theirs.num_layers)):
        there = _resolved(theirs, theirs.layer(index))
        here = _resolved(ours, ours.layer(index))
        for name, difference in _unequal("", here, there).items():
            found.setdefault(f"layers.{ours.layer_name(index)}{name}", difference)
    return [(name, *pair) for name, pair in sorted(found.items())]


def _resolved(config: ModelConfig, layer: Layer) -> Layer:
    """With the width of heads said, and without what only training of experts asks for."""
    mixer, feed_forward = layer.mixer, layer.feed_forward
    if isinstance(mixer, AttentionConfig):
        mixer = mixer.model_copy(update={"d_head": mixer.head_width(config.sizes)})
    if isinstance(mixer, GatedDeltaConfig):  # how much is computed at once is no file's to say
        mixer = mixer.model_copy(update={"chunk": 1})
    if isinstance(feed_forward, ExpertsConfig):
        balance = feed_forward.balance
        balance = BiasBalance() if isinstance(balance, BiasBalance) else balance
        feed_forward = feed_forward.model_copy(update={"balance": balance, "z_loss": None})
    return layer.model_copy(update={"mixer": mixer, "feed_forward": feed_forward})


def _unequal(name: str, ours: Any, theirs: Any) -> dict[str, tuple[Any, Any]]:
    """Of the smallest parts that differ, by their path."""
    if ours == theirs:
        return {}
    if type(ours) is not type(theirs) or not hasattr(ours, "model_fields"):
        return {name: (ours, theirs)}
    parts = [
        _unequal(f"{name}.{field}", getattr(ours, field), getattr(theirs, field))
        for field in type(ours).model_fields
    ]
    return {path: difference for part in parts for path, difference in part.items()}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    return str(getattr(value, "kind", value))


def attention_of(config: ModelConfig, index: int = 0) -> AttentionConfig:
    """Of layer ``index``. Refuses another mixer."""
    mixer = config.layer(index).mixer
    if not isinstance(mixer, AttentionConfig):
        name = config.layer_name(index)
        raise Refusal(f"layers.{name}.mixer attention, got {_shown(mixer)}")
    return mixer


def feed_forward_of(config: ModelConfig, index: int = 0) -> DenseConfig:
    """Of layer ``index``. Refuses another kind, and none."""
    feed_forward = config.layer(index).feed_forward
    if not isinstance(feed_forward, DenseConfig):
        name = config.layer_name(index)
        raise Refusal(f"layers.{name}.feed_forward dense, got {_shown(feed_forward)}")
    return feed_forward


def rope_of_attention(config: ModelConfig, index: int = 0) -> Rope:
    """Of layer ``index``. Refuses attention without."""
    rope = attention_of(config, index).rope
    if rope is None:
        raise Refusal(f"layers.{config.layer_name(index)}.mixer.rope, got nothing")
    return rope


def shortest_pattern(names: Sequence[str]) -> tuple[str, ...]:
    """The fewest names that, repeated, are the names of all layers."""
    for length in range(1, len(names) + 1):
        if all(name == names[index % length] for index, name in enumerate(names)):
            return tuple(names[:length])
    return ()

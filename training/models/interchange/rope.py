"""Rotary positions as a ``config.json`` says them.

Older files have ``rope_theta`` and ``rope_scaling``, newer ones ``rope_parameters``, which holds
both. We read either and write the older, which every version of the tools reads.
"""

from typing import Any

from training.models.configs.positions import THETA, Rope, Stretch
from training.models.interchange.family import Fields


def read_rope(fields: Fields, theta: float = THETA) -> Rope:
    """What all layers turn by; ``theta`` where the file says none."""
    said = fields.fields("rope_parameters") or fields.fields("rope_scaling")
    return rope_of(said, fields.number("rope_theta", theta), _fraction(fields))


def rope_of(said: Fields | None, theta: float, fraction: float = 1.0) -> Rope:
    """The scaling ``said`` of turns by ``theta``, unless it says a theta of its own.

    Refuses kinds of scaling other than linear and Llama 3's.
    """
    if said is None:
        return Rope(theta=theta, fraction=fraction)
    said.only("rope_type", "default", "linear", "llama3")
    said.only("type", "default", "linear", "llama3")
    kind = said.text("rope_type", said.text("type", "default"))
    rope: dict[str, Any] = {
        "theta": said.number("rope_theta", theta),
        "fraction": said.number("partial_rotary_factor", fraction),
    }
    if kind == "linear":
        return Rope(**rope, factor=said.number("factor"))
    if kind == "llama3":
        stretch = Stretch(
            factor=said.number("factor"),
            low=said.number("low_freq_factor"),
            high=said.number("high_freq_factor"),
            context=said.integer("original_max_position_embeddings"),
        )
        return Rope(**rope, stretch=stretch)
    return Rope(**rope)


def write_rope(rope: Rope) -> dict[str, Any]:
    """``rope_theta``, and the other fields where there is something to say."""
    said: dict[str, Any] = {"rope_theta": rope.theta}
    if rope.fraction != 1:
        said["partial_rotary_factor"] = rope.fraction
    if rope.stretch is not None:
        said["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": rope.stretch.factor,
            "low_freq_factor": rope.stretch.low,
            "high_freq_factor": rope.stretch.high,
            "original_max_position_embeddings": rope.stretch.context,
        }
    elif rope.factor != 1:
        said["rope_scaling"] = {"rope_type": "linear", "factor": rope.factor}
    return said


def _fraction(fields: Fields) -> float:
    return fields.number("partial_rotary_factor", 1.0)

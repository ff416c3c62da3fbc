"""Every preset by its name: what ``model: {preset: NAME, ...}`` of a recipe stands for.

A preset is a function from sizes to the config; what the function takes, the recipe may say, and
what it returns is what runs and checkpoints keep.
"""

import inspect
from collections.abc import Callable
from typing import Any

from datalake.config import Refusal
from training.models.presets.hybrids import granite_hybrid, mamba2, qwen3_next
from training.models.presets.own import experts, linear, recall, tarn, vaswani
from training.models.presets.transformers import (
    deepseek_v3,
    gemma2,
    gemma3,
    gpt2,
    llama3,
    olmo2,
    qwen3,
)
from training.models.variants import ModelConfig

PRESETS: dict[str, Callable[..., ModelConfig]] = {
    "tarn": tarn,
    "vaswani": vaswani,
    "gpt2": gpt2,
    "llama3": llama3,
    "qwen3": qwen3,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "olmo2": olmo2,
    "recall": recall,
    "experts": experts,
    "mamba2": mamba2,
    "granite_hybrid": granite_hybrid,
    "deepseek_v3": deepseek_v3,
    "linear": linear,
    "qwen3_next": qwen3_next,
}


def spell_out(given: dict[str, Any]) -> dict[str, Any]:
    """The config that a preset's name and sizes stand for, as plain data.

    Refuses a name that there is not, and settings that the preset lacks or does not know.
    """
    sizes = {name: value for name, value in given.items() if name != "preset"}
    build = PRESETS.get(given["preset"])
    if build is None:
        raise Refusal(f"preset must be one of {', '.join(PRESETS)}, got {given['preset']}")
    known = inspect.signature(build).parameters
    if unknown := sizes.keys() - known.keys():
        raise Refusal(
            f"preset {given['preset']} must be given {', '.join(known)}, got {min(unknown)}"
        )
    missing = {name for name, p in known.items() if p.default is p.empty} - sizes.keys()
    if missing:
        raise Refusal(
            f"preset {given['preset']} must be given {min(missing)}, got {', '.join(sizes)}"
        )
    return build(**sizes).model_dump()

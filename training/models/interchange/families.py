"""The families of published architectures that Tarn reads and writes."""

from collections.abc import Mapping
from typing import Any

from datalake.config import Refusal
from training.models.interchange.deepseek import DEEPSEEK_V3
from training.models.interchange.family import Family, Inexpressible
from training.models.interchange.gemma2 import GEMMA2
from training.models.interchange.gemma3 import GEMMA3
from training.models.interchange.gpt2 import GPT2
from training.models.interchange.granite_hybrid import GRANITE_HYBRID
from training.models.interchange.llama3 import LLAMA3
from training.models.interchange.mamba2 import MAMBA2
from training.models.interchange.olmo2 import OLMO2
from training.models.interchange.qwen3 import QWEN3
from training.models.interchange.qwen3_next import QWEN3_NEXT
from training.models.variants import ModelConfig

FAMILIES: tuple[Family, ...] = (  # in the order in which they are tried
    GPT2,
    LLAMA3,
    QWEN3,
    GEMMA2,
    GEMMA3,
    OLMO2,
    QWEN3_NEXT,
    DEEPSEEK_V3,
    MAMBA2,
    GRANITE_HYBRID,
)


def family_of(given: Mapping[str, Any]) -> Family:
    """The family of a ``config.json``. Refuses by name an architecture that is none of them."""
    named = given.get("architectures") or [
        family.architecture for family in FAMILIES if family.model_type == given.get("model_type")
    ]
    for family in FAMILIES:
        if family.architecture in named and given.get("model_type") == family.model_type:
            return family
    known = ", ".join(family.architecture for family in FAMILIES)
    found = ", ".join(map(str, named)) or given.get("model_type") or "no name"
    raise Refusal(f"architectures must be one of {known}, got {found}")


def family_for(config: ModelConfig) -> tuple[Family, dict[str, Any]]:
    """The first family that can express ``config``, and the fields that it writes.

    Refuses a config of none, saying what the nearest one lacks.
    """
    nearest: Inexpressible | None = None
    for family in FAMILIES:
        try:
            return family, family.written(config)
        except Inexpressible as reason:
            if nearest is None or reason.distance < nearest.distance:
                nearest = reason
    raise nearest or Refusal("families must be known, got none")

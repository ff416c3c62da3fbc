"""Tables that are functions of a few sizes: made once, and traced where a graph is traced."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVarTuple

import torch
from torch import Tensor

Sizes = TypeVarTuple("Sizes")


def remembered(make: Callable[[*Sizes], Tensor]) -> Callable[[*Sizes], Tensor]:
    """``make`` that is called once for the same arguments; nobody may write to what it returns.

    A table made while decoding serves training, too, so none is made in inference mode. A compiler
    sees through: it cannot follow a cache, and fuses what the table is made of into its readers.
    """
    kept = lru_cache(maxsize=64)(torch.inference_mode(False)(make))

    @wraps(make)
    def table(*sizes: *Sizes) -> Tensor:
        return (make if torch.compiler.is_compiling() else kept)(*sizes)

    return table

"""Width transfer: rates and starts found at one width are right at others (muP).

Yang et al. 2022, arXiv:2203.03466, table 8. A step of Adam moves every weight by about the rate. An
output is a sum over inputs whose moves agree, so it moves by rate times inputs: with more of them
the same rate is too large. So with ``base_width`` set, and g the times that a matrix has more
inputs than in the same model at that width:

- matrices: Adam's rate / g; deviation / sqrt(g) (what starts by its inputs already has that);
- head: rate / g and deviation / g; where it is the embedding, which keeps its rate and deviation,
  the states that it reads are divided by g instead;
- tables, gains, biases: as they are, since each of their outputs has one input;
- scores of softmax attention: by 8 / d_head, since queries and keys that learned agree; at heads of
  64 channels that is the usual 1 / sqrt(d_head). The gate of n-grams has the like.

Muon needs none of it: its step has singular values of the rate, times sqrt(rows / columns) for tall
matrices, so that where rows and columns grow alike an output channel moves by as much at every
width (Yang et al. 2023, arXiv:2310.17813). A router of experts, whose rows do not grow, is left so.
"""

from collections.abc import Iterable, Mapping

from torch import nn


def input_growth(
    roles: Iterable[tuple[str, nn.Parameter, str]], base: Iterable[nn.Parameter]
) -> dict[str, float]:
    """g of every parameter by name, 1 of tables and vectors.

    ``roles`` are those of the model, ``base`` the parameters of the same model at its base width,
    in the same order.
    """
    return {
        name: parameter.shape[-1] / small.shape[-1] if role in ("matrix", "head") else 1.0
        for (name, parameter, role), small in zip(roles, base, strict=True)
    }


def rate_multipliers(growth: Mapping[str, float], tied: bool) -> dict[str, float]:
    """What Adam's rate of each parameter is to be multiplied by."""
    kept = {"embedding.weight"} if tied else set()
    return {name: 1.0 if name in kept else 1 / g for name, g in growth.items()}

"""Linear attention: a causal mean of values, weighed by products of positive features.

out_i = sum_j (f(q_i) . f(k_j)) v_j / sum_j f(q_i) . f(k_j) over j <= i, with f(x) = elu(x) + 1
(Katharopoulos et al. 2020, arXiv:2006.16236). f is positive, so that the weights are those of a
mean and the divisor does not vanish, and unlike a ReLU it has a slope everywhere.

All that matters of what came before is the sum of f(k_j) v_j^T, and that of f(k_j): the same for a
channel of v that is always 1. Chunk by chunk, pairs inside a chunk are multiplied with each other
and the sums are carried on; token by token, the sums alone are needed. Features, sums and products
are in float32, or float64 where inputs are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from training.kernels.chunks import Borders, cut, wide

EPS = 1e-6  # added to the divisor


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    size: int,
    begins: Tensor | None = None,
    sums: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """(out [batch, heads, time, d_value] in v's dtype, the sums after the last token).

    ``q`` and ``k`` [batch, heads, time, d_key], ``v`` [batch, heads, time, d_value]; in chunks of
    ``size`` tokens. ``begins`` [batch, time]: whether a token is its document's first. ``sums``
    [batch, heads, d_key, d_value + 1] are of the tokens before; None says that there were none and
    that those after do not matter: then nothing comes back.
    """
    time = q.shape[2]
    size = min(size, time)
    with torch.autocast(q.device.type, enabled=False):
        # What pads a key is 0, as no feature is.
        queries, keys, values = (cut(x, size, 2) for x in (_features(q), _features(k), _with_1(v)))
        num_chunks = queries.shape[2]
        borders = Borders.find(begins, num_chunks, size, queries)
        weights = (queries @ keys.mT).masked_fill(~borders.pairs[:, None], 0)
        mixed = weights @ values
        first = int(sums is None)  # the first chunk that sums enter
        num_left = num_chunks - first  # chunks after which they are of use
        keys = keys[:, :, :num_left] * borders.at_end[:, None, :num_left, :, None]
        entering = [] if sums is None else [sums]
        for chunk, added in enumerate((keys.mT @ values[:, :, :num_left]).unbind(2)):
            if entering:
                added = entering[-1] * borders.going_on[:, chunk, -1, None, None, None] + added
            entering.append(added)
        left = None if sums is None else entering.pop()
        if entering:
            queries = queries[:, :, first:] * borders.going_on[:, None, first:, :, None]
            read = queries @ torch.stack(entering, dim=2)
            mixed = mixed + F.pad(read, (0, 0, 0, 0, first, 0))
        return _mean(mixed).flatten(2, 3)[:, :, :time].to(v.dtype), left


def linear_attention_step(q: Tensor, k: Tensor, v: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """``linear_attention`` of rows of one token."""
    with torch.autocast(q.device.type, enabled=False):
        sums = sums + _features(k).mT @ _with_1(v)
        return _mean(_features(q) @ sums).to(v.dtype), sums


def _features(x: Tensor) -> Tensor:
    return F.elu(wide(x).contiguous()) + 1


def _with_1(v: Tensor) -> Tensor:
    """``v`` with a channel more, which is 1."""
    return F.pad(wide(v), (0, 1), value=1.0)


def _mean(mixed: Tensor) -> Tensor:
    """Weighed sums of values over the sum of weights, which comes last."""
    return mixed[..., :-1] / (mixed[..., -1:] + EPS)

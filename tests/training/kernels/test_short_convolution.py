import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.kernels.short_convolution import short_convolution

PLACES = torch.tensor([[3, 4, 0, 1, 2, 3, 0, 0, 1, 2, 3], [9, 10, 11, 12, 0, 1, 2, 3, 4, 5, 6]])


def inputs(width: int = 4) -> list[Tensor]:
    """x, weight, bias and what came before, in float64."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 11, 5), (5, width), (5,), (2, width - 1, 5))
    return [
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in shapes
    ]


def tap_by_tap(x: Tensor, weight: Tensor, bias: Tensor, places: Tensor, before: Tensor) -> Tensor:
    width, longer, rows = weight.shape[1], torch.cat((before, x), dim=1), []
    for time in range(x.shape[1]):
        y = bias.expand(x.shape[0], -1)
        for back in range(width):
            inside = (places[:, time] >= back)[:, None]
            y = y + weight[:, width - 1 - back] * longer[:, width - 1 + time - back] * inside
        rows.append(y)
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize(("width", "compiled"), [(1, False), (2, False), (14, False), (4, True)])
def test_outputs_and_gradients_are_those_of_the_sum_tap_by_tap(width: int, compiled: bool) -> None:
    convolve = short_convolution
    if compiled:
        convolve = torch.compile(short_convolution, fullgraph=True, backend="aot_eager")
    x, weight, bias, before = given = inputs(width)
    ours = convolve(x, weight, bias, PLACES, before)
    plain = tap_by_tap(x, weight, bias, PLACES, before)
    torch.testing.assert_close(ours, plain)
    push = torch.randn(ours.shape, dtype=ours.dtype)
    gradients = (torch.autograd.grad(y, given, push) for y in (ours, plain))
    for own, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(own, reference)


def test_a_row_of_one_document_is_the_convolution_of_torch() -> None:
    x, weight, bias, _ = inputs()
    padded = F.pad(x.transpose(1, 2), (3, 0))
    reference = F.conv1d(padded, weight[:, None], bias, groups=5).transpose(1, 2)
    for places in (None, torch.arange(11), torch.arange(11).expand(2, -1)):
        torch.testing.assert_close(short_convolution(x, weight, bias, places), reference)


def test_half_precision_is_summed_in_single_precision() -> None:
    x, weight, bias, _ = (tensor.detach() for tensor in inputs())
    ours = short_convolution(x.bfloat16(), weight.float(), bias.float(), PLACES)
    exact = short_convolution(x.bfloat16().double(), weight, bias, PLACES)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, exact.float().bfloat16(), atol=0, rtol=2**-7)

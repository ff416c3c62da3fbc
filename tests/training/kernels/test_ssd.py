import pytest
import torch
from torch import Tensor

from training.kernels.ssd import ssd, ssd_step

HEADS, GROUPS, D_HEAD, D_STATE = 4, 2, 3, 5
# Where documents of two rows of 23 tokens begin: none, at chunks of 8 or 6, inside, twice in one.
BEGINS = torch.zeros(2, 23, dtype=torch.bool)
BEGINS[:, 0] = True
BEGINS[0, [1, 8, 10, 11, 22]] = True
BEGINS[1, [6, 12]] = True


def inputs(time: int = 23, seed: int = 0) -> list[Tensor]:
    """x, dt, rate, b, c and a state, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    x, dt = draw(2, time, HEADS, D_HEAD), draw(2, time, HEADS).exp()
    b, c = draw(2, time, GROUPS, D_STATE), draw(2, time, GROUPS, D_STATE)
    rate, state = -draw(HEADS).exp(), draw(2, HEADS, D_HEAD, D_STATE)
    return [z.requires_grad_() for z in (x, dt, rate, b, c, state)]


def token_by_token(
    x: Tensor, dt: Tensor, rate: Tensor, b: Tensor, c: Tensor, begins: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence as the paper writes it."""
    b, c = (z.repeat_interleave(HEADS // GROUPS, dim=2) for z in (b, c))
    rows = []
    for time in range(x.shape[1]):
        kept = state * ~begins[:, time, None, None, None]
        decay = torch.exp(dt[:, time] * rate)[..., None, None]
        written = dt[:, time, :, None, None] * x[:, time, ..., None] * b[:, time, :, None]
        state = decay * kept + written
        rows.append(torch.einsum("bhpn,bhn->bhp", state, c[:, time]))
    return torch.stack(rows, dim=1), state


@pytest.mark.parametrize("chunk", [1, 4, 8, 23, 64])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("continued", [False, True])
def test_outputs_states_and_gradients_are_those_of_the_recurrence(
    chunk: int, packed: bool, continued: bool
) -> None:
    *given, state = inputs()
    begins = BEGINS.clone()
    begins[1, 0] = not continued  # so that a row goes on with the state
    if not packed:
        begins[:] = False
    start = state if continued else torch.zeros_like(state)
    y, left = ssd(*given, chunk, begins if packed else None, state if continued else None, True)
    plain, last = token_by_token(*given, begins, start)
    assert left is not None
    torch.testing.assert_close(y, plain)
    torch.testing.assert_close(left, last)
    leaves = [*given, state] if continued else given
    pushes = [torch.randn(z.shape, dtype=z.dtype) for z in (y, left)]
    ours = torch.autograd.grad((y, left), leaves, pushes)
    for own, reference in zip(
        ours, torch.autograd.grad((plain, last), leaves, pushes), strict=True
    ):
        torch.testing.assert_close(own, reference)


def test_reading_on_equals_reading_at_once() -> None:
    *given, _ = inputs()
    whole, last = ssd(*given, 8, keep=True)
    x, dt, rate, b, c = given
    state, rows = torch.zeros(2, HEADS, D_HEAD, D_STATE, dtype=torch.float64), []
    for time in range(23):
        now = (x[:, time], dt[:, time], rate, b[:, time], c[:, time], state)
        y, state = ssd_step(*now)
        rows.append(y)
    torch.testing.assert_close(torch.stack(rows, dim=1), whole)
    torch.testing.assert_close(state, last)


def test_a_state_that_nobody_keeps_is_not_made() -> None:
    *given, _ = inputs()
    y, left = ssd(*given, 8)
    assert left is None
    assert torch.equal(y, ssd(*given, 8, keep=True)[0])


def test_steps_that_forget_all_have_finite_gradients() -> None:
    x, dt, rate, b, c, _ = (z.detach().float() for z in inputs())
    dt = (1e4 * dt).requires_grad_()
    y, _ = ssd(x, dt, rate, b, c, 8, BEGINS)
    y.sum().backward()
    assert y.isfinite().all() and dt.grad is not None and dt.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inputs_of_less_precision_are_read_in_single_precision(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, b, c = (torch.randn(1, 500, 2, 16, generator=generator).to(dtype) for _ in range(3))
    dt = (0.1 * torch.rand(1, 500, 2, generator=generator)).to(dtype)
    rate = torch.tensor([-1.0, -16.0])
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y, left = ssd(x, dt, rate, b, c, 128, keep=True)
    exact, last = ssd(*(z.double() for z in (x, dt, rate, b, c)), 128, keep=True)
    assert left is not None and last is not None and y.dtype == left.dtype == torch.float32
    torch.testing.assert_close(y.double(), exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(left.double(), last, atol=1e-5, rtol=1e-5)

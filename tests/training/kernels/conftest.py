"""Kernels under test: interpreted on any machine, compiled where there is an accelerator."""

import os
import sys
from collections.abc import Iterator

import pytest
import torch

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]  # no Triton there


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Where a kernel runs: in the interpreter (see tests/conftest.py) or on the accelerator."""
    runs_on = "cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda"
    if request.param != runs_on:
        pytest.skip(f"kernels run on {runs_on} here")
    return request.param


@pytest.fixture(autouse=True)
def nan_filled_memory() -> Iterator[None]:
    """Fresh memory holds NaN, so that what a kernel forgets to write is seen."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)

import json
import os
import subprocess
import sys

import pytest
import torch

from datalake.config import Refusal
from training import hardware
from training.hardware import Precision, apply_threads, probe, worker_environment


@pytest.mark.parametrize("fast", [torch.float32, torch.bfloat16])
def test_the_faster_dtype_is_chosen(fast: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    def rate(device: str, dtype: torch.dtype, size: int) -> float:
        return 9e11 if dtype == fast else 4e11

    monkeypatch.setattr(hardware, "gemm_flops_per_second", rate)
    found = probe()
    assert (found.dtype, found.gemm_flops_per_second) == (fast, 9e11)


def test_a_pinned_dtype_is_taken_however_slow() -> None:
    found = probe("float32")
    assert found.dtype == torch.float32
    assert found.gemm_flops_per_second > 0
    assert found.num_threads == torch.get_num_threads()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_matrix_products_run_in_the_dtype_of_the_hardware(precision: Precision) -> None:
    found = probe(precision)
    with found.autocast():
        matrix = torch.randn(2, 2, device=found.device)
        assert (matrix @ matrix).dtype == found.dtype


def test_a_report_is_flat_and_printable() -> None:
    report = probe("float32").report()
    assert json.loads(json.dumps(report)) == report
    assert report["dtype"] == "float32"


def test_a_worker_started_with_the_environment_keeps_its_memory() -> None:
    code = (
        "import resource, torch\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(50): torch.ones(8_000_000)\n"
        "before = faults()\n"
        "for _ in range(10): torch.ones(8_000_000)\n"
        "print(faults() - before, torch.get_num_threads())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **worker_environment(1)},
        capture_output=True,
        text=True,
        check=True,
    )
    faults, threads = map(int, run.stdout.split())
    assert threads == 1
    if sys.platform == "linux":
        assert faults < 1000  # 32 MB are 7,813 pages, each time


def test_threads_are_applied() -> None:
    before = torch.get_num_threads()
    try:
        apply_threads(2)
        assert torch.get_num_threads() == 2
    finally:
        apply_threads(before)


def test_no_threads_are_refused() -> None:
    with pytest.raises(Refusal, match="num_threads must be at least 1, got 0"):
        apply_threads(0)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(Refusal, match=r"precision must be one of .*'bfloat16'.*, got float8"):
        probe("float8")

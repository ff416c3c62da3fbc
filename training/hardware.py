"""What this device can do, measured in milliseconds at the start of a run.

A processor without native bfloat16 emulates it 70 to 600 times slower than float32, one with
``avx512_bf16`` runs it 2.5 to 4 times faster, and the name of the processor does not say which. So
the dtype is chosen by a measurement, and a recipe can pin it.
"""

import platform
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from datalake.config import Refusal

Precision = Literal["auto", "float32", "bfloat16"]
EMULATED = 20e9  # FLOP/s: slower than any native product; a large one would take seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """One process's share of a machine."""

    device: str  # "cpu" or "cuda"
    name: str
    num_threads: int
    dtype: torch.dtype  # of matrix products
    gemm_flops_per_second: float  # of a square product in ``dtype``, all threads

    def autocast(self) -> AbstractContextManager:
        """A context in which matrix products run in ``dtype``."""
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device, dtype=self.dtype, enabled=enabled)

    def report(self) -> dict[str, str | int | float]:
        """The same, flat and printable."""
        return {
            "device": self.device,
            "device_name": self.name,
            "threads": self.num_threads,
            "dtype": str(self.dtype).removeprefix("torch."),
            "gemm_gflops": round(self.gemm_flops_per_second / 1e9, 1),
        }


def probe(precision: Precision = "auto") -> Hardware:
    """Measure the device that this process computes on, and choose the dtype, or take the pinned.

    The choice is made on one thread, because on a busy machine two threads are seldom awake at
    once and any dtype looks slow. Takes about 0.2 s.
    """
    if precision not in get_args(Precision):
        raise Refusal(f"precision must be one of {get_args(Precision)}, got {precision}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    small, middle, large = (128, 512, 1024) if device == "cpu" else (4096, 4096, 8192)
    names = ("float32", "bfloat16") if precision == "auto" else (precision,)
    dtypes = [getattr(torch, name) for name in names]
    alone = {dtype: gemm_flops_per_second(device, dtype, small) for dtype in dtypes}
    if min(alone.values()) > EMULATED:  # then a product in which its start counts less
        alone = {dtype: gemm_flops_per_second(device, dtype, middle) for dtype in dtypes}
    torch.set_num_threads(num_threads)
    dtype = max(alone, key=alone.__getitem__)
    rate = alone[dtype]
    if rate > EMULATED:
        rate = max(rate, gemm_flops_per_second(device, dtype, large))
    name = torch.cuda.get_device_name() if device == "cuda" else _processor_name()
    return Hardware(
        device=device,
        name=name,
        num_threads=num_threads,
        dtype=dtype,
        gemm_flops_per_second=rate,
    )


def gemm_flops_per_second(device: str, dtype: torch.dtype, size: int) -> float:
    """Best rate of ``size`` x ``size`` matrix products within 60 ms; the first one warms up."""
    a = torch.ones(size, size, dtype=dtype, device=device)
    _seconds(a)
    best = _seconds(a)
    deadline = time.perf_counter() + 0.06
    while time.perf_counter() < deadline:
        best = min(best, _seconds(a))
    return 2 * size**3 / best


def _seconds(a: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.mm(a, a)
    if a.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def apply_threads(num_threads: int) -> None:
    """Give products ``num_threads`` threads. Sums depend on it, so resume with the same."""
    if num_threads < 1:
        raise Refusal(f"num_threads must be at least 1, got {num_threads}")
    torch.set_num_threads(num_threads)


def worker_environment(num_threads: int) -> dict[str, str]:
    """Environment variables that a training process needs before it starts, on Linux.

    glibc gives freed memory back to the kernel and faults it in anew; one training step frees and
    takes tens of megabytes, up to 24,000 faults. With these settings it keeps them: 0.46 to 0.28 s
    a step (4 layers of 128, 8 x 256 tokens).

    GNU OpenMP's threads spin at the end of each parallel part, and a step has a thousand of them.
    GFLOP/s of a step of 4 layers of 96 on two processors by the count of spins, quiet and beside
    one busy process: 500 190 and 111; 1,000 229 and 95; 2,000 240 and 72; 5,000 244 and 41; 20,000
    241 and 20; none at all (OMP_WAIT_POLICY=PASSIVE) 145 and 112; one thread 170 and 150.
    """
    return {
        "OMP_NUM_THREADS": str(num_threads),
        "GOMP_SPINCOUNT": "2000",
        "MALLOC_MMAP_THRESHOLD_": "2000000000",
        "MALLOC_TRIM_THRESHOLD_": "2000000000",
        "MALLOC_TOP_PAD_": "200000000",
    }


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

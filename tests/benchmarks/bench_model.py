"""Forward and backward of the dense presets, about 10M parameters each, on a processor.

The peer is the same model with the same weights in ``transformers``, its attention by torch's
``scaled_dot_product_attention``; both take the mean cross-entropy of all logits. Turns alternate,
and a ratio is the median of those of neighbouring turns. The floor is the rate of a square matrix
product in the same process and dtype; FLOPs are those of the accounting, causal attention counted
causally. Then what sliding windows and latent attention save, in bytes.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from tests.benchmarks.report import Result, show
from training.hardware import apply_threads
from training.kernels.attention import causal_attention
from training.models.accounting import num_params, state_bytes, training_flops
from training.models.interchange import folder
from training.models.language_model import LanguageModel, build
from training.models.presets.by_name import PRESETS
from training.models.variants import ModelConfig

DENSE: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "llama3": {},
    "qwen3": {},
    "gemma3": {"window": 128},
    "olmo2": {},
}
SIZES = {
    "vocab_size": 8192,
    "context_length": 256,
    "d_model": 256,
    "num_layers": 8,
    "num_heads": 4,
}
ROWS, TURNS = 2, 7


def main(words: Sequence[str]) -> None:
    """Run the presets that ``words`` name, or all, and the measurements of bytes."""
    dtypes = [torch.float32]
    if torch.backends.cpu.get_cpu_capability().startswith("AVX512") and _has_bf16():
        dtypes.append(torch.bfloat16)
    results = []
    for num_threads in (1, 2):
        apply_threads(num_threads)
        for dtype in dtypes:
            for name in words or DENSE:
                results.append(_training(name, dtype, num_threads))
                print(results[-1].case, f"{results[-1].ratio:.2f}", flush=True)
    if not words:
        results += [*_window_bytes(), _latent_bytes()]
    show("model", results, ("torch", "transformers"))


def _has_bf16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def gemm_rate(dtype: torch.dtype, size: int = 1024) -> float:
    """FLOP/s of a square product, the best of several."""
    a, b = torch.randn(2, size, size).to(dtype)

    def seconds() -> float:
        started = time.perf_counter()
        a @ b
        return time.perf_counter() - started

    return 2 * size**3 / min(seconds() for _ in range(10))


def _training(name: str, dtype: torch.dtype, num_threads: int) -> Result:
    config = PRESETS[name](**SIZES, **DENSE[name])
    ours = build(config)
    theirs = peer_of(ours)
    shape = (ROWS, config.context_length + 1)
    ids = torch.randint(config.vocab_size, shape, generator=torch.Generator().manual_seed(0))

    def stepper(model: nn.Module, logits: Callable[[Tensor], Tensor]) -> Callable[[], float]:
        def step() -> float:
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                read = logits(ids[:, :-1])
            loss = F.cross_entropy(read.flatten(0, 1).float(), ids[:, 1:].flatten())
            loss.backward()
            model.zero_grad()
            return loss.item()

        return step

    jobs = stepper(ours, ours), stepper(theirs, lambda x: theirs(x, use_cache=False).logits)
    losses = [job() for job in jobs]
    assert abs(losses[0] - losses[1]) < (1e-4 if dtype == torch.float32 else 0.05), losses
    taken, gemms = [], []
    for _ in range(TURNS):
        taken.append([_seconds(job) for job in jobs])
        gemms.append(gemm_rate(dtype))
    flops = ROWS * training_flops(config, config.context_length) / 1e9
    rate = flops / statistics.median(mine for mine, _ in taken)
    ratio = statistics.median(other / mine for mine, other in taken)
    words = "bf16" if dtype == torch.bfloat16 else "fp32"
    millions = num_params(config) / 1e6
    return Result(
        case=f"{name} {millions:.1f}M, {words}, {num_threads} threads",
        unit="GFLOP/s",
        ours=rate,
        peer_name="transformers",
        peer=rate / ratio,
        floor=max(gemms) / 1e9,
    )


def peer_of(model: LanguageModel) -> nn.Module:
    """The model as ``transformers`` runs it, from the folder that is written; without dropout."""
    with tempfile.TemporaryDirectory() as path:
        folder.save(model, None, path)
        return AutoModelForCausalLM.from_pretrained(path, attn_implementation="sdpa").eval()


def _seconds(job: Callable[[], object]) -> float:
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operator returned."""

    def __init__(self) -> None:
        super().__init__()
        self.num_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = out if isinstance(out, tuple | list) else (out,)
        held = (x.untyped_storage().nbytes() for x in tensors if isinstance(x, Tensor))
        self.num_bytes = max(self.num_bytes, *held, 0)
        return out


def _window_bytes() -> Iterator[Result]:
    """The largest tensor of attention in a window, forward and backward, against T x T scores."""
    window = 128
    for context in (2048, 4096):
        q, k, v = (torch.randn(1, 4, context, 64, requires_grad=True) for _ in range(3))
        with Largest() as largest:
            causal_attention(q, k, v, window).sum().backward()
        yield Result(
            case=f"largest tensor, window {window} of {context}",
            unit="rows/GB",
            ours=1e9 / largest.num_bytes,
            peer_name="scores of all pairs",
            peer=1e9 / (4 * context * context * 4),
        )


def _latent_bytes() -> Result:
    """What a built cache of latents holds a token, against one of keys and values."""
    ranks = {"kv_rank": 64, "q_rank": None, "num_experts": 4, "top_k": 2, "d_expert": 128}
    latent = PRESETS["deepseek_v3"](**SIZES, **ranks)
    held = {"latent": _held(latent), "full": _held(PRESETS["llama3"](**SIZES))}
    return Result(
        case="cache of latents",
        unit="tokens/MB",
        ours=1e6 * SIZES["context_length"] / held["latent"],
        peer_name="keys and values",
        peer=1e6 * SIZES["context_length"] / held["full"],
    )


def _held(config: ModelConfig) -> int:
    """Bytes of a built state of one sequence. Raises if accounting says something else."""
    state = build(config).empty_state(1)
    held = state.num_bytes() - state.num_read.nbytes
    counted = state_bytes(config, config.context_length, bytes_per_value=4)
    positions = sum(
        mixer.positions.nbytes for b in state.blocks if hasattr(mixer := b.mixer, "positions")
    )
    assert held - positions == counted, (held, positions, counted)
    return held

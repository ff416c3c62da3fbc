"""A training step of the tiny recipe's models, and decoding, on a processor.

The peer is the same model, batch, dtype and update, put together from torch's own operators:
attention by ``scaled_dot_product_attention``, ``cross_entropy`` of all logits, ``torch.optim.Muon``
beside a fused AdamW. The floor is the rate of a square matrix product. FLOPs are counted as
6 N + 12 L d T a token; ours is the median of steps that take turns with the peer's.
"""

import os
import subprocess
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.benchmarks.report import Result, seconds_in_turn, show
from training.hardware import Hardware, apply_threads, probe, worker_environment
from training.inference.sampling import generate_batch
from training.losses import next_token_loss
from training.models.accounting import train_flops_per_token
from training.models.language_model import LanguageModel, build
from training.models.positions import rotary_table
from training.models.presets.own import tarn
from training.models.variants import ModelConfig
from training.optim import Optimizer
from training.schedule import OptimizerConfig

ROWS = 4
REPEATS = 30
PROMPT, NEW_TOKENS = 64, 64


def config(d_model: int) -> ModelConfig:
    return tarn(
        vocab_size=8192,
        context_length=256,
        d_model=d_model,
        num_layers=4,
        num_heads=d_model // 32,
    )


def plain_logits(model: LanguageModel, tokens: Tensor) -> Tensor:
    """The model's logits from torch's operators alone, for the default variant."""
    settings = model.config
    half = settings.d_head // 2
    table = rotary_table(settings, tokens.device)[: tokens.shape[1], None]
    cos, sin = table.real, table.imag

    def turned(x: Tensor) -> Tensor:
        pairs = F.rms_norm(x, x.shape[-1:], eps=1e-6).unflatten(-1, (half, 2))
        even, odd = pairs.unbind(-1)
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, settings.d_head))

    def normed(x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=1e-6)

    x = x0 = normed(model.embedding(tokens))
    for layer, block in enumerate(model.blocks):
        x = block.skip[0] * x + block.skip[1] * x0
        h = normed(x)
        h = torch.lerp(h, F.pad(h, (0, 0, 1, 0))[:, :-1], block.shift)
        mixer = block.mixer
        q, k, v = turned(heads(mixer.query(h))), turned(heads(mixer.key(h))), mixer.value(h)
        if settings.has_value_embedding(layer):
            embedded = model.value_embeddings[str(layer)](tokens)
            v = mixer.value_mix[0] * v + mixer.value_mix[1] * embedded
        q, k, v = (part.to(v.dtype).transpose(1, 2) for part in (q, k, heads(v)))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + mixer.out(mixed.transpose(1, 2).flatten(2))
        x = x + block.feed_forward.down(block.feed_forward.up(normed(x)).relu().square())
    return F.linear(normed(x), model.head_weight)


def plain_loss(model: LanguageModel, tokens: Tensor) -> Tensor:
    logits = plain_logits(model, tokens[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


class PlainOptimizer:
    """torch's Muon on the matrices and AdamW on the rest, at the same rates."""

    def __init__(self, model: LanguageModel, settings: OptimizerConfig) -> None:
        roles = list(model.roles())
        rates = {"head": settings.adam_lr, "vector": settings.adam_lr, "table": settings.table_lr}
        self.parts = (
            torch.optim.Muon(
                [p for _, p, role in roles if role == "matrix"],
                lr=settings.muon_lr,
                momentum=settings.momentum,
                weight_decay=0,
            ),
            torch.optim.AdamW(
                [{"params": [p], "lr": rates[role]} for _, p, role in roles if role != "matrix"],
                betas=settings.betas,
                weight_decay=0,
                fused=True,
            ),
        )

    def step(self, multiplier: float) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()


def _training(d_model: int, hardware: Hardware) -> Result:
    settings, shape = OptimizerConfig(), config(d_model)
    tokens = torch.randint(8192, (ROWS, 257), generator=torch.Generator().manual_seed(0))

    def stepper(
        loss_of: Callable[[LanguageModel, Tensor], Tensor],
        optimizer_of: Callable[[LanguageModel], Optimizer | PlainOptimizer],
    ) -> Callable[[], float]:
        model = build(shape)
        optimizer = optimizer_of(model)

        def step() -> float:
            with hardware.autocast():
                loss = loss_of(model, tokens)
            loss.backward()
            optimizer.step(1.0)
            optimizer.zero_grad()
            return loss.item()

        return step

    ours = stepper(next_token_loss, lambda model: Optimizer(model, settings, hardware.dtype))
    peer = stepper(plain_loss, lambda model: PlainOptimizer(model, settings))
    for _ in range(5):  # both warm up, and learn the same
        assert abs(ours() - peer()) < 0.1
    taken = seconds_in_turn({"ours": ours, "peer": peer}, REPEATS)
    flops = train_flops_per_token(shape) * ROWS * 256 / 1e9
    return Result(
        case=f"train 4 layers of {d_model}, {ROWS} x 256, {hardware.num_threads} threads",
        unit="GFLOP/s",
        ours=flops / taken["ours"],
        peer_name="torch's operators, eager",
        peer=flops / taken["peer"],
        floor=hardware.gemm_flops_per_second / 1e9,
    )


def _decoding(batch: int, num_threads: int) -> Result:
    model = build(config(96))
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(8192, (batch, PROMPT), generator=generator).tolist()

    @torch.no_grad()
    def peer() -> None:
        ids = torch.tensor(prompts)
        for _ in range(NEW_TOKENS):
            p = torch.softmax(model.logits(model.hidden(ids)[:, -1]), dim=-1)
            ids = torch.cat((ids, torch.multinomial(p, 1)), dim=1)

    taken = seconds_in_turn(
        {"ours": lambda: generate_batch(model, prompts, NEW_TOKENS), "peer": peer}, repeats=3
    )
    return Result(
        case=f"decode {batch} x {NEW_TOKENS} after {PROMPT}, {num_threads} threads",
        unit="tokens/s",
        ours=batch * NEW_TOKENS / taken["ours"],
        peer_name="full pass for each token",
        peer=batch * NEW_TOKENS / taken["peer"],
    )


def main() -> None:
    """Run every case in a process with a training worker's environment."""
    num_threads = os.cpu_count() or 1
    if "GOMP_SPINCOUNT" not in os.environ:
        environment = {**os.environ, **worker_environment(num_threads)}
        subprocess.run([sys.executable, "-m", __spec__.name], env=environment, check=True)
        return
    results = []
    for threads in sorted({1, num_threads}):
        apply_threads(threads)
        hardware = probe()
        results += [_training(d_model, hardware) for d_model in (96, 128)]
    results += [_decoding(batch, num_threads) for batch in (1, 32)]
    show("train_step", results, ("torch",))


if __name__ == "__main__":
    main()

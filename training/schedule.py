"""How the learning rates move over a run: a pure function of the step, so a resume continues it."""

from typing import Self

from pydantic import Field, PositiveFloat, model_validator

from datalake.config import Config, Refusal


class OptimizerConfig(Config):
    """Rates of the three groups of parameters, and the shape of the schedule.

    The rates were the best of small sweeps on Python text at 2e12 FLOPs, with an 8k vocabulary, 4
    layers of 64 and 512 tokens a step, confirmed at 1.2e13 with 4 layers of 96 and 1,024 tokens.
    """

    muon_lr: PositiveFloat = 0.01  # matrices of the blocks
    adam_lr: PositiveFloat = 8e-3  # head and vectors; 4e-3 is 0.08 bits per byte worse, 16e-3 0.01
    # Embeddings: a row is seen rarely, so it moves far. 0.1 is 0.02 bits per byte worse.
    table_lr: PositiveFloat = 0.2
    # So small a batch shows a token rarely, and a short memory of squares forgets it in between: at
    # 512 tokens a step .95, .98, .99 and .999 came to 2.42, 2.35, 2.32 and 2.30 bits per byte. With
    # half a million tokens .95 is usual (Brown et al. 2020, arXiv:2005.14165).
    betas: tuple[float, float] = Field(default=(0.9, 0.999), strict=False)  # YAML has lists only
    momentum: float = Field(default=0.95, ge=0, lt=1)  # Jordan et al. 2024, "Muon"
    warmup_fraction: float = Field(default=0.05, ge=0, le=1)
    decay_fraction: float = Field(default=0.6, ge=0, le=1)  # nanochat: 0.65

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise Refusal(f"betas must be in [0, 1), got {self.betas}")
        if self.warmup_fraction + self.decay_fraction > 1:
            raise Refusal(
                "warmup_fraction + decay_fraction must be at most 1, "
                f"got {self.warmup_fraction} and {self.decay_fraction}"
            )
        return self


def multiplier(step: int, num_steps: int, config: OptimizerConfig) -> float:
    """Factor on every rate at ``step`` (0 to num_steps - 1): up, flat at 1, linear towards 0.

    The first step of a warm-up of w steps has 1 / w, its last has 1; the last step of a decay of
    d steps has 1 / d, so that no step is spent at rate 0.
    """
    if not 0 <= step < num_steps:
        raise Refusal(f"step must be in 0 to {num_steps - 1}, got {step}")
    warmup = round(config.warmup_fraction * num_steps)
    decay = round(config.decay_fraction * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    return min(1.0, (num_steps - step) / decay) if decay else 1.0

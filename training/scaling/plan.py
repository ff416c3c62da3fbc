"""From a budget to a plan: how large, how long, in which steps, and what loss to expect.

The size is the rung of the ladder nearest to the law's optimum that the data at hand can feed; the
rest follows from it. A recipe may decide any value itself; the prediction then says what that
costs.
"""

import math

from pydantic import Field, PositiveFloat, PositiveInt

from datalake.config import Config, Refusal
from training.models.accounting import num_matmul_params, num_params, train_flops_per_token
from training.models.variants import ModelConfig
from training.scaling import hyperparameters
from training.scaling.fit import Law, Prediction
from training.scaling.sweep import Size
from training.schedule import OptimizerConfig

MIN_STEPS = 100  # below, warm-up and decay leave no training between them


class TrainingPlanConfig(Config):
    """The budget, what may be chosen, and what the recipe has chosen already."""

    flops: PositiveFloat
    model: ModelConfig  # the architecture, as in the small runs; the ladder decides its size
    ladder: tuple[Size, ...] = Field(min_length=1)
    optimizer: OptimizerConfig  # rates at 512 tokens a step, see ``hyperparameters``
    # Up to four passes over the data are worth almost as much as new data
    # (Muennighoff et al. 2023, arXiv:2305.16264).
    max_epochs: PositiveFloat = 4.0
    size: Size | None = None  # None: by the law
    batch_rows: PositiveInt | None = None  # None: by the rule
    muon_lr: PositiveFloat | None = None
    adam_lr: PositiveFloat | None = None
    table_lr: PositiveFloat | None = None


class Plan(Config):
    """What ``base_model`` carries out."""

    flops: float  # the budget
    model: ModelConfig
    optimizer: OptimizerConfig
    batch_rows: int
    num_steps: int
    num_tokens: int  # of training, repeats included
    epochs: float
    num_params: int  # all
    num_matmul_params: int  # N of the law
    best_params: float  # N* of the law at this budget
    predicted: Prediction  # bits per byte


def make_plan(law: Law, config: TrainingPlanConfig, num_train_tokens: int) -> Plan:
    """The plan for ``config.flops``, given as many different tokens to train on.

    Refuses an architecture that the law was not fitted on, a budget below ``MIN_STEPS`` steps, and
    one for which the data would be repeated more than ``max_epochs`` times at every size.
    """
    _check_architecture(law, config)
    model = _choose_size(law, config, num_train_tokens)
    per_token = train_flops_per_token(model)
    tokens = config.flops / per_token
    rows = config.batch_rows or hyperparameters.batch_rows(tokens, model.context_length)
    tokens_per_step = rows * model.context_length
    num_steps = int(tokens // tokens_per_step)
    if num_steps < MIN_STEPS:
        raise Refusal(
            f"flops must be at least {MIN_STEPS * tokens_per_step * per_token:.3g}, "
            f"{MIN_STEPS} steps of {tokens_per_step} tokens at d_model {model.d_model}, "
            f"got {config.flops:.3g}"
        )
    chosen = {"muon_lr": config.muon_lr, "adam_lr": config.adam_lr, "table_lr": config.table_lr}
    optimizer = hyperparameters.rates(config.optimizer, tokens_per_step).model_copy(
        update={name: rate for name, rate in chosen.items() if rate is not None}
    )
    best = law.predict(config.flops)
    penalty = law.iso_flops.penalty(config.flops, num_matmul_params(model))
    return Plan(
        flops=config.flops,
        model=model,
        optimizer=optimizer,
        batch_rows=rows,
        num_steps=num_steps,
        num_tokens=num_steps * tokens_per_step,
        epochs=num_steps * tokens_per_step / num_train_tokens,
        num_params=num_params(model),
        num_matmul_params=num_matmul_params(model),
        best_params=law.iso_flops.best_params(config.flops),
        predicted=Prediction(
            loss=best.loss * penalty, low=best.low * penalty, high=best.high * penalty
        ),
    )


def _choose_size(law: Law, config: TrainingPlanConfig, num_train_tokens: int) -> ModelConfig:
    """The model nearest to the law's best size, among those that the data can feed."""
    sizes = (config.size,) if config.size is not None else config.ladder
    models = [config.model.resized(size.d_model, size.num_layers) for size in sizes]
    limit = config.max_epochs * num_train_tokens
    fed = [model for model in models if config.flops / train_flops_per_token(model) <= limit]
    if not fed:
        most = limit * max(train_flops_per_token(model) for model in models)
        raise Refusal(
            f"flops must be at most {most:.3g}, {config.max_epochs:g} epochs of "
            f"{num_train_tokens} tokens at d_model {max(m.d_model for m in models)}, "
            f"got {config.flops:.3g}; add data or larger sizes"
        )
    best = law.iso_flops.best_params(config.flops)
    return min(fed, key=lambda model: abs(math.log(num_matmul_params(model) / best)))


def _check_architecture(law: Law, config: TrainingPlanConfig) -> None:
    for run in law.runs:
        expected = num_matmul_params(config.model.resized(run.d_model, run.num_layers))
        if expected != run.num_params:
            raise Refusal(
                "model must be the architecture of the small runs, got one with "
                f"{expected} parameters at d_model {run.d_model} where {run.run} has "
                f"{run.num_params}"
            )

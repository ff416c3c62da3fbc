"""Scaling: what small runs say about the large one."""

from orchestration.step import Step

STEPS = (
    Step(
        key="scaling_runs",
        group="scaling",
        inputs=("tokens", "tokenizer"),
        build="training.run:scaling_runs",
        section=lambda recipe: recipe.training.scaling_runs,
        kinds=("ray", "pytorch", "deltalake"),
        says="Small trainings at three budgets of equal FLOPs, inside one Ray fit.",
        tells=(
            "runs",
            "FLOPs",
            "best bits per byte",
        ),
    ),
    Step(
        key="scaling_law",
        group="scaling",
        inputs=("scaling_runs",),
        build="training.run:scaling_law",
        section=lambda recipe: recipe.training.scaling_law,
        kinds=("numpy",),
        says="The fit of loss against compute, its hold-out error and its interval.",
        tells=(
            "rule",
            "exponent of N*",
        ),
    ),
    Step(
        key="training_plan",
        group="scaling",
        inputs=("scaling_law", "tokens"),
        build="training.run:training_plan",
        section=lambda recipe: recipe.training.training_plan,
        kinds=("python",),
        says="Size, tokens, batch, learning rates and predicted loss for the budget.",
        tells=(
            "d_model",
            "tokens",
            "predicted",
            "predicted low",
            "predicted high",
        ),
    ),
)

"""Pretraining: the plan, carried out."""

from orchestration.step import Step

STEPS = (
    Step(
        key="base_model",
        group="pretraining",
        inputs=("tokens", "tokenizer", "training_plan"),
        build="training.run:base_model",
        section=lambda recipe: recipe.training.base_model,
        kinds=("ray", "pytorch", "mlflow"),
        says="The checkpoint made by the plan; predicted against realised loss.",
        tells=(
            "predicted",
            "bits_per_byte",
            "GFLOP/s",
        ),
    ),
)

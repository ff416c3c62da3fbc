"""Evaluation: numbers about models, each with its interval, and the pages a person reads."""

from orchestration.step import Step

STEPS = (
    Step(
        key="base_evaluation",
        group="evaluation",
        inputs=("base_model", "training_plan", "tokens", "tokenizer", "corpus"),
        build="evaluation.run:base_evaluation",
        section=lambda recipe: recipe.evaluation.base_evaluation,
        kinds=("pytorch", "mlflow"),
        says="Bits per byte per source beside bigram and trigram, and samples.",
        tells=(
            "bits_per_byte",
            "bigram_bits_per_byte",
            "trigram_bits_per_byte",
        ),
    ),
    Step(
        key="leaderboard",
        group="evaluation",
        inputs=("base_evaluation",),
        build="evaluation.run:leaderboard",
        section=lambda recipe: recipe.evaluation.leaderboard,
        kinds=("python",),
        says="Every evaluated model, scores with intervals drawn.",
    ),
    Step(
        key="model_card",
        group="evaluation",
        inputs=("base_evaluation", "base_model", "training_plan", "data_card"),
        build="evaluation.run:model_card",
        section=lambda recipe: recipe.evaluation.model_card,
        kinds=("python",),
        says="What the model is, what it was made of, and how good it is.",
    ),
)

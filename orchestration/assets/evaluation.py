"""Evaluation: numbers about models, each with its interval, and the pages a person reads."""

from orchestration.step import Step

STEPS = (
    Step(
        key="base_evaluation",
        group="evaluation",
        inputs=("base_model", "training_plan", "tokens", "tokenizer", "corpus", "instructions"),
        build="evaluation.run:base_evaluation",
        section=lambda recipe: recipe.evaluation.base_evaluation,
        kinds=("pytorch", "mlflow"),
        says="Bits per byte per source beside bigram and trigram, samples, and tasks.",
        tells=(
            "bits_per_byte",
            "bigram_bits_per_byte",
            "trigram_bits_per_byte",
        ),
    ),
    Step(
        key="sft_evaluation",
        group="evaluation",
        inputs=(
            *("sft_model", "base_evaluation", "instructions"),
            *("tokens", "tokenizer", "corpus"),
        ),
        build="evaluation.run:sft_evaluation",
        section=lambda recipe: recipe.evaluation.sft_evaluation,
        kinds=("pytorch", "mlflow"),
        says="What fine-tuning brought: tasks, safety, style and text, against the base model.",
        tells=("accuracy", "accuracy_new_templates", "accuracy_second_turn", "over_refusal"),
    ),
    Step(
        key="chat_evaluation",
        group="evaluation",
        inputs=(
            *("dpo_model", "chat_model", "sft_evaluation", "instructions"),
            *("tokens", "tokenizer", "corpus"),
        ),
        build="evaluation.run:chat_evaluation",
        section=lambda recipe: recipe.evaluation.chat_evaluation,
        kinds=("pytorch", "mlflow"),
        says="What preferences and rewards brought, against the phase before and controls.",
        tells=("accuracy", "accuracy_new_templates", "accuracy_second_turn", "house_style"),
    ),
    Step(
        key="leaderboard",
        group="evaluation",
        inputs=("base_evaluation", "sft_evaluation", "chat_evaluation"),
        build="evaluation.run:leaderboard",
        section=lambda recipe: recipe.evaluation.leaderboard,
        kinds=("python",),
        says="Every evaluated model, scores with intervals drawn.",
    ),
    Step(
        key="model_card",
        group="evaluation",
        inputs=(
            *("base_evaluation", "sft_evaluation", "chat_evaluation"),
            *("base_model", "sft_model", "dpo_model", "reward_model", "chat_model"),
            *("training_plan", "scaling_runs", "data_card"),
        ),
        build="evaluation.run:model_card",
        section=lambda recipe: recipe.evaluation.model_card,
        kinds=("python",),
        says="What the model is, what it was made of, and how good it is.",
    ),
)

"""Alignment: from a base model to an assistant, by fine-tuning and learning from feedback."""

from orchestration.step import Step

# Before the data is chosen, which must not hold what it asks.
INSTRUCTIONS = Step(
    key="instructions",
    group="alignment",
    build="alignment.run:instructions",
    section=lambda recipe: recipe.alignment.instructions,
    kinds=("python", "deltalake"),
    says="Tasks with a demonstration and a grader, each content in one split for good.",
    tells=("families",),
)

STEPS = (
    Step(
        key="sft_model",
        group="alignment",
        inputs=("base_model", "instructions", "tokens", "tokenizer"),
        build="alignment.run:sft_model",
        section=lambda recipe: recipe.alignment.sft_model,
        kinds=("ray", "pytorch", "mlflow"),
        says="The base model, fine-tuned to say the demonstrations.",
        tells=("loss", "bits_per_byte", "GFLOP/s"),
    ),
    Step(
        key="preferences",
        group="alignment",
        inputs=("sft_model", "instructions", "tokenizer"),
        build="alignment.run:preferences",
        section=lambda recipe: recipe.alignment.preferences,
        kinds=("ray", "pytorch", "deltalake"),
        says="The best of a model's own answers to a prompt beside the worst, by a rule.",
        tells=("num_all_right", "num_all_wrong"),
    ),
    Step(
        key="dpo_model",
        group="alignment",
        inputs=("sft_model", "preferences", "instructions", "tokens", "tokenizer"),
        build="alignment.run:dpo_model",
        section=lambda recipe: recipe.alignment.dpo_model,
        kinds=("ray", "pytorch", "mlflow"),
        says="The fine-tuned model, which now prefers what was preferred; beside it a control.",
        tells=("accuracy", "chosen_shift", "rejected_shift"),
    ),
    Step(
        key="reward_model",
        group="alignment",
        inputs=("sft_model", "preferences", "tokenizer"),
        build="alignment.run:reward_model",
        section=lambda recipe: recipe.alignment.reward_model,
        kinds=("ray", "pytorch", "mlflow"),
        says="A reward learned from the same pairs, held against baselines that learn nothing.",
        tells=("accuracy", "longer wins", "sft log-prob"),
    ),
    Step(
        key="chat_model",
        group="alignment",
        inputs=("dpo_model", "instructions", "tokens", "tokenizer"),
        build="alignment.run:chat_model",
        section=lambda recipe: recipe.alignment.chat_model,
        kinds=("ray", "pytorch", "mlflow"),
        says="The assistant: right answers of its own are reinforced; beside it a control.",
        tells=("held-out accuracy", "rollouts"),
    ),
)

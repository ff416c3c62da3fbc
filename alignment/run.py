"""From a base model to an assistant: the stages of this room, in order.

Two phases, fine-tuning and learning from feedback, for three aims: following instructions, good
style, safety. Every phase trains through the one loop, leaves a checkpoint, and says what it cost.
"""

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from alignment.examples import ItemsConfig
from alignment.preferences import PreferenceRule
from alignment.rewards import RewardRule
from datalake import charts
from datalake.config import Config
from datalake.workspace import Inputs, Made, Workspace
from training.schedule import OptimizerConfig


class InstructionsConfig(Config):
    """Which items there are."""

    items: ItemsConfig
    seed: int  # of the contents that are drawn


class LaunchConfig(Config):
    """On how many processes, each with how many threads, and how often a failure is repeated."""

    workers: PositiveInt
    threads: PositiveInt
    retries: int = Field(ge=0)


class TuningConfig(Config):
    """How demonstrations are learned: also by the controls, which go on with that."""

    optimizer: OptimizerConfig
    rows_per_step: PositiveInt
    row_length: PositiveInt  # tokens; conversations are packed into rows
    later_turns: float = Field(ge=0, le=1)  # share of demonstrations in longer conversations
    replay_rows: int = Field(ge=0)  # of pretraining text beside them
    replay_weight: float = Field(ge=0)
    validation_rows: PositiveInt  # of held-out text, as many as the base model's
    precision: Literal["auto", "float32", "bfloat16"]


class SftModelConfig(Config):
    """Supervised fine-tuning."""

    tuning: TuningConfig
    num_steps: PositiveInt
    num_checkpoints: PositiveInt
    seed: int
    launch: LaunchConfig


class PreferencesConfig(Config):
    """How pairs are sampled and what makes one answer better than another."""

    num_samples: int = Field(ge=2)  # answers to a prompt
    temperature: PositiveFloat
    max_new_tokens: PositiveInt
    rule: PreferenceRule
    seed: int
    launch: LaunchConfig


class DpoModelConfig(Config):
    """Direct preference optimisation, and the control beside it."""

    optimizer: OptimizerConfig
    num_steps: PositiveInt
    pairs_per_step: PositiveInt
    # .1 is the value of the paper's experiments (Rafailov et al. 2023, arXiv:2305.18290).
    beta: PositiveFloat = 0.1
    sft_weight: float = Field(ge=0)
    max_fall: PositiveFloat  # nats that chosen answers may lose before training is stopped
    control: TuningConfig | None
    num_checkpoints: PositiveInt
    precision: Literal["auto", "float32", "bfloat16"]
    seed: int
    launch: LaunchConfig


class RewardModelConfig(Config):
    """The reward model."""

    optimizer: OptimizerConfig
    num_steps: PositiveInt
    pairs_per_step: PositiveInt
    # Eisenstein et al. 2023, arXiv:2312.09244: keeps the rewards of all prompts around zero.
    centring: float = Field(default=0.01, ge=0)
    num_checkpoints: PositiveInt
    precision: Literal["auto", "float32", "bfloat16"]
    seed: int
    launch: LaunchConfig


class ChatModelConfig(Config):
    """Reinforcement learning with verifiable rewards, and the control beside it."""

    optimizer: OptimizerConfig
    num_steps: PositiveInt
    prompts_per_step: PositiveInt
    num_samples: int = Field(ge=2)  # answers of a group
    temperature: PositiveFloat
    max_new_tokens: PositiveInt
    advantage: Literal["grpo", "dr_grpo", "rloo"]
    reward: RewardRule
    control: TuningConfig | None
    num_checkpoints: PositiveInt
    seed: int
    launch: LaunchConfig


class Settings(Config):
    """Section ``alignment`` of a recipe: one part a stage."""

    instructions: InstructionsConfig
    sft_model: SftModelConfig
    preferences: PreferencesConfig
    dpo_model: DpoModelConfig
    reward_model: RewardModelConfig
    chat_model: ChatModelConfig


def instructions(workspace: Workspace, inputs: Inputs, config: InstructionsConfig) -> Made:
    """Draw the items that every phase reads its own split of, and check every one of them."""
    from alignment.examples import make_items

    began = time.monotonic()
    items = make_items(config.items, config.seed)
    commit = workspace.lake.overwrite("instructions", items, inputs=inputs)
    families, splits = items["family"].to_pylist(), items["split"].to_pylist()
    counts: dict[str, dict[str, int]] = {family: {} for family in sorted(set(families))}
    for (family, split), count in sorted(Counter(zip(families, splits, strict=True)).items()):
        counts[family][split] = count
    title = "Items by family and split"
    return Made(
        version=commit.version,
        content=commit.content,
        rows=commit.rows,
        num_bytes=commit.num_bytes,
        report={
            "families": len(counts),
            **{f"{split} items": count for split, count in sorted(Counter(splits).items())},
            "house style": config.items.house_style,
            "seconds": round(time.monotonic() - began, 2),
        },
        plots={title: charts.columns(list(counts.items()), title=title)},
    )


def sft_model(workspace: Workspace, inputs: Inputs, config: SftModelConfig) -> Made:
    """Fine-tune the base model on demonstrations."""
    from alignment.phases import Phase
    from alignment.stage import opened

    with opened(workspace, "sft_model", inputs, config, "base_model") as stage:
        objective = stage.tuning(config.num_steps, config.seed, config.tuning)
        phase = Phase(objective=objective, folder=stage.folder, about=stage.about)
        result = stage.train(phase)
        panels = {"nats per answer token": ("answer_nats",)}
        if config.tuning.replay_rows:
            panels["nats per token of replayed text"] = ("text_nats",)
        made = stage.made(phase, result, panels)
    report = {"rows": len(objective.rows.tokens), "rows filled": round(objective.rows.fill, 3)}
    return replace(made, report={**made.report, **report})


def preferences(workspace: Workspace, inputs: Inputs, config: PreferencesConfig) -> Made:
    """Let the fine-tuned model answer, and pair the best answer to a prompt with the worst.

    The answers stay in a folder that is named by what decides them, so another rule for pairs
    draws none anew.
    """
    from alignment.preferences import make_pairs, report_of
    from alignment.rollouts import Sampling
    from alignment.sampled import sample
    from alignment.stage import opened
    from training.job import run_folder

    with opened(workspace, "preferences", inputs, config, "sft_model") as stage:
        items = stage.items_of("preference")
        sampling = Sampling(
            num_samples=config.num_samples,
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
        )
        folder = run_folder(workspace, "answers", inputs, config, {"launch", "rule"})
        answers = sample(stage, items, sampling, config.seed, folder)
        pairs, report = make_pairs(
            items,
            answers.samples,
            config.rule,
            sampler=stage.parent_digest,
            temperature=config.temperature,
            sampling_flops=answers.flops,
        )
        commit = workspace.lake.overwrite("preferences", pairs, inputs=inputs)
        numbers = report_of(report)
        stage.run.log_metrics({**numbers, "sampling_flops": answers.flops})
        families = Counter(pairs["family"].to_pylist())
        title = "Pairs by family"
        return Made(
            version=commit.version,
            content=commit.content,
            rows=commit.rows,
            num_bytes=commit.num_bytes,
            report={
                **numbers,
                "held-out pairs": pairs["split"].to_pylist().count("held_out"),
                "sampling FLOPs": answers.flops,
                "MLflow run": stage.run.run_id,
                "seconds": stage.seconds,
            },
            plots={
                title: charts.columns(
                    [(name, {"pairs": count}) for name, count in sorted(families.items())],
                    title=title,
                )
            },
        )


def dpo_model(workspace: Workspace, inputs: Inputs, config: DpoModelConfig) -> Made:
    """Make the answers that were preferred likelier than those that were not."""
    from alignment.dpo import DpoConfig, Preferring
    from alignment.phases import Phase
    from alignment.stage import opened

    with opened(workspace, "dpo_model", inputs, config, "sft_model") as stage:
        pairs, held_out = stage.pairs("train"), stage.pairs("held_out")
        objective = Preferring(
            DpoConfig(
                **stage.common,
                precision=config.precision,
                pairs_per_step=config.pairs_per_step,
                beta=config.beta,
                sft_weight=config.sft_weight,
                max_fall=config.max_fall,
            ),
            stage.parent.path,
            pairs.rendered,
            held_out.rendered,
        )
        phase = Phase(
            objective=objective,
            folder=stage.folder,
            about=stage.about,
            control=stage.control(),
            flops_before=pairs.sampling_flops + held_out.sampling_flops,
        )
        result = stage.train(phase)
        return stage.made(
            phase,
            result,
            {
                "shift of log-probability, nats": ("chosen_shift", "rejected_shift"),
                "pairs told apart": ("accuracy",),
                "loss": ("loss",),
            },
        )


def reward_model(workspace: Workspace, inputs: Inputs, config: RewardModelConfig) -> Made:
    """Learn a reward from the same pairs, and hold it against baselines that learn nothing."""
    from alignment.phases import Phase
    from alignment.reward_model import RewardConfig, Rewarding, accuracy_chart
    from alignment.stage import opened

    with opened(workspace, "reward_model", inputs, config, "sft_model") as stage:
        pairs, held_out = stage.pairs("train"), stage.pairs("held_out")
        objective = Rewarding(
            RewardConfig(
                **stage.common,
                precision=config.precision,
                pairs_per_step=config.pairs_per_step,
                centring=config.centring,
            ),
            stage.parent.path,
            pairs.rendered,
            held_out.rendered,
            held_out.families,
        )
        phase = Phase(objective=objective, folder=stage.folder, about=stage.about)
        result = stage.train(phase)
        panels = {"pairs told apart": ("accuracy",), "loss": ("loss",)}
        plots = {"Held-out pairs told apart": accuracy_chart(result.numbers)}
        return stage.made(phase, result, panels, plots)


def chat_model(workspace: Workspace, inputs: Inputs, config: ChatModelConfig) -> Made:
    """Reinforce right answers; the rollouts become the table ``rollouts``."""
    from alignment.phases import Phase
    from alignment.policy_gradient import GrpoConfig, Reinforcing
    from alignment.rollouts import kept
    from alignment.stage import opened

    with opened(workspace, "chat_model", inputs, config, "dpo_model") as stage:
        items, prompts = stage.prompts("rl", config.max_new_tokens)
        held_out, held_out_prompts = stage.prompts("validation", config.max_new_tokens)
        objective = Reinforcing(
            config=GrpoConfig(
                **stage.common,
                precision="float32",
                prompts_per_step=config.prompts_per_step,
                num_samples=config.num_samples,
                temperature=config.temperature,
                max_new_tokens=config.max_new_tokens,
                advantage=config.advantage,
                reward=config.reward,
            ),
            parent=stage.parent.path,
            tokenizer=Path(str(inputs["tokenizer"])),
            folder=stage.folder / "rollouts",
            items=items,
            prompts=prompts,
            held_out=held_out,
            held_out_prompts=held_out_prompts,
        )
        phase = Phase(
            objective=objective,
            folder=stage.folder,
            about=stage.about,
            control=stage.control(),
        )
        result = stage.train(phase)
        commit = workspace.lake.overwrite("rollouts", kept(objective.folder), inputs=inputs)
        made = stage.made(
            phase,
            result,
            {
                "reward": ("reward", "accuracy"),
                "groups with a difference": ("live_groups",),
                "entropy, nats per token": ("entropy",),
                "tokens per answer": ("answer_tokens",),
            },
        )
    report = {"rollouts": commit.rows, "rollouts at version": commit.version}
    return replace(made, report={**made.report, **report})

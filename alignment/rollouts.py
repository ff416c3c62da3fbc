"""Rollouts: answers that a policy gave, as rows of a table, with the weights that gave them.

The trainer reads rows, so learning from the newest answers, from older ones or from those of
another model differs by a filter. A step's rows lie in one file per rank, under the step's number:
a step that is taken again after a crash writes the same rows into the same file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignment.examples import grader_of
from alignment.rewards import RewardRule
from datalake.config import Refusal
from datalake.schemas import TABLES
from evaluation.grading import Answer, GraderPool
from evaluation.verdict import Verdict
from training.inference.sampling import Completion, generate_batch
from training.models.accounting import answer_flops
from training.models.language_model import LanguageModel
from training.models.variants import ModelConfig
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.chat import Rendered, end_of_turn

SCHEMA = TABLES["rollouts"].arrow
NUM_SEQUENCES = 256  # sampled together: as many rows as keep a product busy


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How answers are drawn."""

    num_samples: int  # of every prompt
    temperature: float
    max_new_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """An answer to an item: its tokens, its text without the end of the turn."""

    item: int  # number of the item
    completion: Completion
    text: str
    verdict: Verdict


def draw_answers(
    model: LanguageModel,
    tokenizer: Tokenizer,
    items: Sequence[Mapping[str, Any]],
    prompts: Sequence[np.ndarray],
    sampling: Sampling,
    seed: int,
    pool: GraderPool,
) -> list[Drawn]:
    """``num_samples`` answers to every one of ``prompts``, judged by the item's grader.

    ``items`` are rows of ``instructions``, one a prompt. An answer without an end is unfinished:
    wrong, and never cut to fit. What is drawn depends on ``seed`` and the order of the prompts.
    """
    end = end_of_turn(tokenizer)
    numbers = [item for item in range(len(prompts)) for _ in range(sampling.num_samples)]
    completions = generate_batch(
        model,
        [prompts[item].tolist() for item in numbers],
        sampling.max_new_tokens,
        sampling.temperature,
        seed=seed,
        stop_ids=(end,),
    )
    texts = [tokenizer.decode([i for i in c.ids if i != end]) for c in completions]
    answers = [
        Answer(grader_of(items[item]), text, finished=c.finish == "stop")
        for item, text, c in zip(numbers, texts, completions, strict=True)
    ]
    return [
        Drawn(item=item, completion=c, text=text, verdict=verdict)
        for item, c, text, verdict in zip(
            numbers, completions, texts, pool.grade(answers), strict=True
        )
    ]


def flops_of(rows: pa.Table, model: ModelConfig) -> float:
    """FLOPs that the answers took: every prompt is read once, every drawn token is predicted."""
    prompts = dict(zip(rows["group"].to_pylist(), rows["prompt_ids"].to_pylist(), strict=True))
    read = sum(map(len, prompts.values()))
    said = sum(map(len, rows["completion_ids"].to_pylist()))
    context = read // max(1, len(prompts)) + said // max(1, len(rows))
    return answer_flops(model, read + said, said, context)


def rows_of(
    drawn: Sequence[Drawn],
    items: Sequence[Mapping[str, Any]],
    prompts: Sequence[np.ndarray],
    rule: RewardRule,
    *,
    step: int,
    temperature: float,
    policy: str,
) -> pa.Table:
    """The answers as rows of ``rollouts``; ``policy`` is the digest of the weights."""
    rows, seen = [], dict.fromkeys(range(len(items)), 0)
    for one in drawn:
        item, completion, verdict = items[one.item], one.completion, one.verdict
        sample, seen[one.item] = seen[one.item], seen[one.item] + 1
        rows.append(
            {
                "rollout_id": f"{step:06d}-{item['item_id']}-{sample:02d}",
                "step": step,
                "group": f"{step:06d}-{item['item_id']}",
                "item_id": item["item_id"],
                "family": item["family"],
                "content_key": item["content_key"],
                "prompt_ids": prompts[one.item].tolist(),
                "completion_ids": list(completion.ids),
                "log_probs": list(completion.log_probs),
                "temperature": temperature,
                "finish": completion.finish,
                "policy": policy,
                "text": one.text,
                "score": verdict.score,
                "reason": verdict.reason,
                "outcome": verdict.outcome,
                "reward": rule.reward(verdict, one.text, item["style"]),
            }
        )
    return pa.Table.from_pylist(rows, SCHEMA)


def conversations_of(rows: pa.Table) -> tuple[list[Rendered], list[np.ndarray]]:
    """Each row as a conversation to learn from, and its sampler's log-probabilities [answer]."""
    conversations, log_probs = [], []
    for row in rows.select(["prompt_ids", "completion_ids", "log_probs"]).to_pylist():
        prompt, answer = row["prompt_ids"], row["completion_ids"]
        learned = np.zeros(len(prompt) + len(answer), bool)
        learned[len(prompt) :] = True
        conversations.append(Rendered(ids=np.array(prompt + answer), learned=learned))
        log_probs.append(np.array(row["log_probs"], np.float32))
    return conversations, log_probs


def keep(rows: pa.Table, folder: Path, step: int, rank: int) -> None:
    """Write a step's rows of one rank into ``folder``: whole, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = file(folder, step, rank)
    draft = folder / f".{path.name}"
    pq.write_table(rows, draft, compression="zstd")
    draft.rename(path)


def file(folder: Path, step: int, rank: int) -> Path:
    """Where a step's rows of one rank lie."""
    return folder / f"step-{step:06d}-rank-{rank}.parquet"


def kept(folder: Path) -> Iterator[pa.RecordBatch]:
    """All rows that ``keep`` wrote into ``folder``, step after step."""
    paths = sorted(folder.glob("step-*.parquet"))
    if not paths:
        raise Refusal(f"rollouts must lie in {folder}, got nothing there")
    for path in paths:
        yield from pq.read_table(path, schema=SCHEMA).to_batches()

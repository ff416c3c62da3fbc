"""What a model answers to the test items, and what the graders say to that.

Answers of one turn each, the likeliest or drawn, asked first in a conversation or behind other
turns. An answer belongs to the model, the tokenizer, the chat template, the items, the turns before
them and the decoding: a digest of all of them names the folder in which finished batches are kept,
so an interrupted evaluation goes on where it stopped, and no model is ever given what another one
said.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datalake.config import Refusal
from datalake.tables import Lake
from datalake.workspace import Workspace
from evaluation.graders import load_grader
from evaluation.grading import Answer, GraderPool
from evaluation.likelihood import one_thread_per_operator
from evaluation.manner import style_score
from evaluation.task_scores import TEST_SPLITS
from evaluation.verdict import Verdict
from training.inference.sampling import Completion, generate_batch
from training.models.language_model import LanguageModel
from training.tokenizer import chat
from training.tokenizer.bpe import Tokenizer

SCORER = 1  # counts the versions of what graders and style scores mean; a new one asks again

SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("family", pa.string()),
        ("split", pa.string()),
        ("template", pa.int32()),
        ("prompt", pa.string()),
        ("wanted", pa.string()),  # demonstration of a right answer
        ("text", pa.string()),
        ("finished", pa.bool_()),  # ended by an end of turn
        ("num_tokens", pa.int32()),  # said, the end of turn included
        ("score", pa.float64()),  # strict, 0..1; null where nothing was judged
        ("lenient", pa.float64()),
        ("parsed", pa.string()),
        ("reason", pa.string()),
        ("outcome", pa.string()),
        ("style", pa.float64()),  # 0..1; null where the item has no style
        ("style_is_open", pa.bool_()),  # the prompt asks for none, the house prefers one
    ]
)

_SAY_SECONDS = 5.0  # between two lines of progress
_WHAT_IS_ASKED = ("item_id", "prompt", "answer", "grader", "grader_arguments", "style")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that answers, and the digests of its weights and of its tokenizer."""

    name: str
    model: LanguageModel  # float32
    weights: str
    tokenizer: Tokenizer
    tokenizer_digest: str


def read_items(lake: Lake, version: int) -> pa.Table:
    """The test items of one version of ``instructions``, in order of their identities.

    Raises Refusal where a test split is empty.
    """
    splits = [lake.read("instructions", version, where={"split": split}) for split in TEST_SPLITS]
    for split, items in zip(TEST_SPLITS, splits, strict=True):
        if not items.num_rows:
            raise Refusal(
                f"split {split} of table instructions must hold at least one item, got none"
            )
    return pa.concat_tables(splits).sort_by("item_id")


def items_digest(items: pa.Table) -> str:
    """SHA-256 over what is asked in ``items`` and how it is checked, whatever their order."""
    rows = items.sort_by("item_id").select(_WHAT_IS_ASKED).to_pylist()
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def prompt_ids(
    item: Mapping[str, Any], tokenizer: Tokenizer, before: Sequence[chat.Message] = ()
) -> list[int]:
    """The item as the user's turn behind those ``before``, up to where the assistant's begins."""
    message = chat.Message(role="user", content=item["prompt"])
    ids: list[int] = chat.render_prompt([*before, message], tokenizer).tolist()
    return ids


def answer_items(
    workspace: Workspace,
    subject: Subject,
    items: pa.Table,
    *,
    max_new_tokens: int,
    rows_per_batch: int,
    temperature: float = 0,
    seed: int = 0,
    before: Mapping[str, Sequence[chat.Message]] | None = None,
) -> pa.Table:
    """A row of ``SCHEMA`` for every item, in order of ``item_id``.

    ``before`` has the turns that stand before each item, by its identity; None for none. Batches
    are sorted by length, and how many items share one changes no verdict: at a ``temperature``
    above 0 what an item draws depends on ``seed`` and its identity. What is cut off at
    ``max_new_tokens`` is wrong. Raises Refusal for a tokenizer without the tokens of a chat, and
    for a prompt that leaves no room for an answer in the context.
    """
    rows = items.to_pylist()
    turns = {row["item_id"]: before[row["item_id"]] if before else () for row in rows}
    prompts = {
        row["item_id"]: prompt_ids(row, subject.tokenizer, turns[row["item_id"]]) for row in rows
    }
    _refuse_long(prompts, subject.model.config.context_length, max_new_tokens)
    decoding = _decoding(max_new_tokens, temperature, seed)
    digest = _key(subject, items, decoding, turns if before else {})
    folder = workspace.folder(f"runs/answers-{digest[:16]}")
    done = _read_parts(folder)
    known = set(pc.unique(done["item_id"]).to_pylist())
    rest = [row for row in rows if row["item_id"] not in known]
    rest.sort(key=lambda row: (len(prompts[row["item_id"]]), row["item_id"]))
    name = f"{subject.name} at temperature {temperature:g}" if temperature else subject.name
    name += " behind other turns" if before else ""
    if known and rest:
        workspace.say(f"{name}: {len(known):,} of {len(rows):,} answers are there already")
    end = chat.end_of_turn(subject.tokenizer)
    said = time.monotonic()
    parts = [done]
    # One thread: two that share the batches gained nothing, and took twice as long on busy cores.
    with GraderPool() as pool, one_thread_per_operator():
        for first in range(0, len(rest), rows_per_batch):
            batch = rest[first : first + rows_per_batch]
            ids = [prompts[row["item_id"]] for row in batch]
            completions = generate_batch(
                subject.model,
                ids,
                max_new_tokens,
                temperature=temperature,
                seed=seed,
                stop_ids={end},
                seeds=[int(row["item_id"], 16) for row in batch],
            )
            part = _judged(batch, completions, subject.tokenizer, pool)
            _write_part(folder, part)
            parts.append(part)
            if time.monotonic() > said + _SAY_SECONDS:
                said = time.monotonic()
                answered = sum(part.num_rows for part in parts)
                workspace.say(f"{name}: {answered:,} of {len(rows):,} items answered")
    return pa.concat_tables(parts).sort_by("item_id").combine_chunks()


def _judged(
    items: Sequence[Mapping[str, Any]],
    completions: Sequence[Completion],
    tokenizer: Tokenizer,
    pool: GraderPool,
) -> pa.Table:
    """One batch as rows: answers, verdicts and styles."""
    texts = [_text(one, tokenizer) for one in completions]
    verdicts = pool.grade(
        [
            Answer(load_grader(item["grader"], item["grader_arguments"]), text, finished)
            for item, (text, finished) in zip(items, texts, strict=True)
        ]
    )
    rows = zip(items, texts, completions, verdicts, strict=True)
    return pa.Table.from_pylist(
        [
            _row(item, text, finished, len(said.ids), verdict)
            for item, (text, finished), said, verdict in rows
        ],
        SCHEMA,
    )


def _text(said: Completion, tokenizer: Tokenizer) -> tuple[str, bool]:
    """The words of an answer without its end of turn, and whether there was one."""
    finished = said.finish == "stop"
    return tokenizer.decode(said.ids[:-1] if finished else said.ids), finished


def _row(
    item: Mapping[str, Any], text: str, finished: bool, num_tokens: int, verdict: Verdict
) -> dict[str, Any]:
    style = item["style"]
    asked = "style" in json.loads(item["grader_arguments"])
    return {
        "item_id": item["item_id"],
        "family": item["family"],
        "split": item["split"],
        "template": item["template"],
        "prompt": item["prompt"],
        "wanted": item["answer"],
        "text": text,
        "finished": finished,
        "num_tokens": num_tokens,
        "score": verdict.score,
        "lenient": verdict.lenient,
        "parsed": verdict.parsed,
        "reason": verdict.reason,
        "outcome": verdict.outcome,
        "style": None if style is None else style_score(text, style) if finished else 0.0,
        "style_is_open": None if style is None else not asked,
    }


def _refuse_long(prompts: Mapping[str, Sequence[int]], context: int, max_new_tokens: int) -> None:
    limit = context - max_new_tokens
    for item_id, prompt in prompts.items():
        if len(prompt) > limit:
            raise Refusal(
                f"prompt of item {item_id} must be at most {limit} tokens, so that an answer of "
                f"{max_new_tokens} fits the context of {context}, got {len(prompt)}"
            )


def _decoding(max_new_tokens: int, temperature: float, seed: int) -> dict[str, float]:
    """All that decides over words where the model does not; nothing is drawn at temperature 0."""
    settings = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    return settings | {"seed": seed} if temperature else settings


def _key(
    subject: Subject,
    items: pa.Table,
    decoding: Mapping[str, float],
    turns: Mapping[str, Sequence[chat.Message]],
) -> str:
    """SHA-256 over all that an answer and its verdict depend on."""
    identity: dict[str, Any] = {
        "weights": subject.weights,
        "tokenizer": subject.tokenizer_digest,
        "template": chat.template_of(subject.tokenizer).source,
        "items": items_digest(items),
        "decoding": decoding,
        "scorer": SCORER,
    }
    if turns:
        identity["before"] = {
            item_id: [message.model_dump() for message in before]
            for item_id, before in turns.items()
        }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _parts(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("part-*.parquet"))


def _read_parts(folder: Path) -> pa.Table:
    return pa.concat_tables([SCHEMA.empty_table(), *map(pq.read_table, _parts(folder))])


def _write_part(folder: Path, part: pa.Table) -> None:
    """Complete or absent: under a name of its own until every byte is there."""
    number = len(list(_parts(folder)))
    draft = folder / f".draft-{os.getpid()}"
    pq.write_table(part, draft, compression="zstd")
    draft.rename(folder / f"part-{number:05d}.parquet")

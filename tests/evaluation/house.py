"""A workspace in which everything was made that this room reads, small and real."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

import datalake
import training
from datalake import card as data_card
from datalake.funnel import Count, Funnel
from datalake.schemas import TABLES
from datalake.workspace import Version, Workspace
from evaluation.likelihood import one_thread_per_operator
from training import run as training_run
from training.data.rows import Rows
from training.loop import TrainResult
from training.models.accounting import num_matmul_params, num_params
from training.models.presets.own import tarn
from training.pretraining import TrainConfig, train
from training.scaling.fit import Prediction
from training.scaling.plan import Plan
from training.schedule import OptimizerConfig
from training.tokenizer.bpe import Tokenizer

VOCAB, CONTEXT = 600, 64


def corpus_rows() -> list[dict[str, Any]]:
    """Modules of two rooms of this house, as if one room came from the web."""
    rows = []
    for source, room in (("web", datalake), ("code", training)):
        for path in sorted(Path(str(room.__file__)).parent.rglob("*.py")):
            name = str(path.relative_to(Path(str(room.__file__)).parents[1]))
            doc_id = hashlib.md5(name.encode()).hexdigest()
            text = path.read_text()[:6000]
            rows.append(
                {
                    "doc_id": doc_id,
                    "source": source,
                    "uri": name,
                    "title": name,
                    "language": "python",
                    "licence": "Apache-2.0" if source == "code" else None,
                    "archive": "archive",
                    "member": "",
                    "offset": 0,
                    "length": 0,
                    "num_bytes": len(text.encode()),
                    "num_tokens": len(text.split()),
                    "cluster": doc_id,
                    "weight": 1.0,
                    "text": text,
                }
            )
    return rows


def write_data_card(workspace: Workspace, rows: list[dict[str, Any]]) -> str:
    counts: dict[str, Count] = {}
    for row in rows:
        one = Count(1, row["num_bytes"])
        counts[row["source"]] = counts.get(row["source"], Count()) + one
    funnel = Funnel(
        stages=dict.fromkeys(("raw", "documents", "kept", "unique", "corpus"), counts),
        reasons={},
        copies={},
        licences={
            s: {"Apache-2.0" if s == "code" else "unknown": count} for s, count in counts.items()
        },
        languages={s: {"python": count} for s, count in counts.items()},
        lengths={s: {12: count.documents} for s, count in counts.items()},
        weights=dict.fromkeys(counts, 1.0),
        largest_clusters=(),
    )
    write = lambda draft: data_card.write(funnel, "Data", draft)  # noqa: E731
    return workspace.save_artifact("data_card", write)[0]


def train_model(workspace: Workspace, inputs: Mapping[str, Version]) -> tuple[TrainResult, Plan]:
    """A model of a few steps, and the plan that it carried out."""
    model = tarn(vocab_size=VOCAB, context_length=CONTEXT, d_model=32, num_layers=2, num_heads=2)
    config = TrainConfig(
        model=model,
        optimizer=OptimizerConfig(),
        flops=6e10,
        batch_rows=8,
        validation_rows=10**6,
        checkpoint_steps=1000,
        seed=0,
        precision="float32",
    )
    version = int(inputs["tokens"])
    train_rows, validation_rows = (
        Rows.from_files(workspace.lake.files("tokens", version, {"split": split}))
        for split in ("train", "validation")
    )
    lengths = Tokenizer.load(str(inputs["tokenizer"])).bytes_per_token
    with one_thread_per_operator():  # a second one is slower where others are at work
        result = train(config, train_rows, validation_rows, lengths, workspace.folder("runs/base"))
    plan = Plan(
        flops=config.flops,
        model=model,
        optimizer=config.optimizer,
        batch_rows=config.batch_rows,
        num_steps=result.steps,
        num_tokens=result.tokens,
        epochs=result.tokens / train_rows.tokens[:, 1:].size,
        num_params=num_params(model),
        num_matmul_params=num_matmul_params(model),
        best_params=1e5,
        predicted=Prediction(loss=result.loss + 0.1, low=result.loss - 0.1, high=result.loss + 0.3),
    )
    return result, plan


def build(home: Path) -> tuple[Workspace, dict[str, Version]]:
    """The workspace below ``home``, and the version of everything in it."""
    workspace = Workspace(home=home, say=lambda line: None)
    rows = corpus_rows()
    table = pa.Table.from_pylist(rows, TABLES["corpus"].arrow)
    kept = [
        {k: row[k] for k in ("doc_id", "source", "licence", "num_bytes", "num_tokens")}
        for row in rows
    ]
    for reason in (None, "rule"):  # two versions, of which the corpus was made from the second
        decided = [row | {"keep": reason is None, "reason": reason} for row in kept]
        decisions = pa.Table.from_pylist(decided, TABLES["kept"].arrow)
        rules = workspace.lake.overwrite("kept", decisions, inputs={"artifact": "folder"})
    corpus = workspace.lake.overwrite("corpus", table, inputs={"kept": rules.version})
    inputs: dict[str, Version] = {"corpus": corpus.version}
    vocabulary = training_run.TokenizerConfig(vocab_size=VOCAB, pattern="cl100k_digits")
    inputs["tokenizer"] = training_run.tokenizer(workspace, inputs, vocabulary).version
    packing = training_run.TokensConfig(context_length=CONTEXT, validation_fraction=0.2, seed=0)
    inputs["tokens"] = training_run.tokens(workspace, inputs, packing).version
    result, plan = train_model(workspace, inputs)
    inputs["base_model"] = str(result.checkpoint)
    inputs["training_plan"] = workspace.save_artifact(
        "training_plan",
        lambda draft: (draft / "training_plan.json").write_text(plan.model_dump_json()) and None,
    )[0]
    inputs["data_card"] = write_data_card(workspace, rows)
    return workspace, inputs


def of(inputs: Mapping[str, Version], *names: str) -> dict[str, Version]:
    return {name: inputs[name] for name in names}

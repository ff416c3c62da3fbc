"""A model that fits a test: bytes for tokens, two narrow layers, and an installation around it."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from alignment.conversations import pad
from tests.training.data import token_rows
from training import checkpoint
from training.hardware import probe
from training.job import Text
from training.models.language_model import LanguageModel, build
from training.models.presets.own import tarn
from training.schedule import OptimizerConfig
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.chat import (
    SPECIAL_TOKENS,
    TEMPLATE,
    TEMPLATE_FILE,
    Message,
    Rendered,
    render,
    render_prompt,
)
from training.tokenizer.patterns import character_classes

MODEL = tarn(
    vocab_size=256 + len(SPECIAL_TOKENS), context_length=96, d_model=32, num_layers=2, num_heads=2
)
OPTIMIZER = OptimizerConfig(muon_lr=0.02, adam_lr=0.01, table_lr=0.1)
CPU = probe("float32")


@cache
def tokenizer() -> Tokenizer:
    classes, _ = character_classes()
    return Tokenizer(np.zeros((0, 2), np.int32), "cl100k_digits", classes, SPECIAL_TOKENS)


def save_tokenizer(folder: Path) -> Path:
    """The tokenizer as an artifact, with its chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save(folder)
    (folder / TEMPLATE_FILE).write_text(TEMPLATE + "\n")
    return folder


def save_model(folder: Path, seed: int = 0, model: LanguageModel | None = None) -> Path:
    """A checkpoint as training leaves one; random weights with a head that is not zero."""
    if model is None:
        model = build(MODEL, seed)
        torch.nn.init.normal_(model.head.weight, std=0.1)
    weights = model.state_dict()
    manifest: dict[str, Any] = {
        "config": {"model": MODEL.model_dump(mode="json")},
        "weights": checkpoint.weights_digest(weights),
        "loss": 1.0,
        "numbers": {"loss": 1.0},
    }
    return checkpoint.save(folder, 1, {"weights": weights}, manifest).path


def save_text(folder: Path) -> Text:
    """Rows of text to train on and to validate on, as the table of tokens holds them."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    files = []
    for split in ("train", "validation"):
        rows = random.integers(97, 103, (12, MODEL.context_length + 1), dtype=np.uint16)
        files.append(str(folder / f"{split}.parquet"))
        pq.write_table(token_rows.table(range(12), [row.tobytes() for row in rows]), files[-1])
    return Text(train=files[:1], validation=files[1:], bytes_per_token=tokenizer().bytes_per_token)


def said(prompt: str, answer: str) -> Rendered:
    """A conversation of one question and its answer."""
    return render(
        [Message(role="user", content=prompt), Message(role="assistant", content=answer)],
        tokenizer(),
    )


def asked(prompt: str) -> np.ndarray:
    return render_prompt([Message(role="user", content=prompt)], tokenizer())


def padded(conversations: list[Rendered]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, learned = pad(conversations)
    return torch.from_numpy(tokens), torch.from_numpy(learned)

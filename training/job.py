"""What a worker is told: a training, the files it reads, and the folder it writes to.

A job pickles and is small: rows travel as the names of the Parquet parts of one table version.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datalake.config import Config, Refusal
from datalake.workspace import Inputs, Workspace
from training.data.order import Order
from training.data.row_files import open_rows
from training.data.rows import Rows, shape_of
from training.loop import TrainResult
from training.models.variants import ModelConfig
from training.parallel.data_parallel import DataParallel
from training.pretraining import TrainConfig, train
from training.tokenizer.bpe import Tokenizer

# Inside a run's folder: the run that spent as much from the same start on more of what came before.
CONTROL = "control"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Text:
    """Token rows of one table version, and how many bytes each token stands for."""

    train: Sequence[str]  # Parquet parts
    validation: Sequence[str]
    bytes_per_token: np.ndarray  # int64 [vocab]
    cache: Path | None = None  # where rows are decoded once a machine, see ``row_files``

    @classmethod
    def of(cls, workspace: Workspace, inputs: Inputs, model: ModelConfig) -> "Text":
        """What the inputs ``tokens`` and ``tokenizer`` name.

        Refuses a model of another vocabulary or context than theirs, before any worker starts.
        """
        lake, version = workspace.lake, int(inputs["tokens"])
        bytes_per_token = Tokenizer.load(str(inputs["tokenizer"])).bytes_per_token
        if len(bytes_per_token) != model.vocab_size:
            raise Refusal(
                f"model.vocab_size must be the tokenizer's {len(bytes_per_token)}, "
                f"got {model.vocab_size}"
            )
        train, validation = (
            [_absolute(file) for file in lake.files("tokens", version, {"split": split})]
            for split in ("train", "validation")
        )
        vocab_size, length = shape_of(train)
        if vocab_size != model.vocab_size:
            raise Refusal(
                f"table tokens must be of the model's vocabulary of {model.vocab_size}, got "
                f"{vocab_size} in version {version}"
            )
        if length != model.context_length + 1:
            raise Refusal(
                f"table tokens must have rows of context_length + 1 = {model.context_length + 1} "
                f"tokens, got {length} in version {version}"
            )
        cache = workspace.home.resolve() / "scratch" / "rows"
        return cls(train=train, validation=validation, bytes_per_token=bytes_per_token, cache=cache)


def _absolute(file: str) -> str:
    """An address that means the same in a worker, whose working folder is another."""
    return file if "://" in file else str(Path(file).resolve())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Job:
    """One training: everything that ``train`` needs, by name."""

    config: TrainConfig
    text: Text
    folder: Path
    about: Mapping[str, Any] = field(default_factory=dict)  # goes into the manifests
    order: Order | None = None  # which row is read when; None: every row once an epoch


def run_folder(
    workspace: Workspace, asset: str, inputs: Inputs, config: Config, careless: set[str]
) -> Path:
    """Where ``asset`` trains, named by everything that decides the result.

    So an interrupted training finds itself again, and other settings or inputs begin a new one.
    ``careless`` names the settings that decide nothing but time.
    """
    contents = {
        key: workspace.lake.content(key, version)
        if isinstance(version, int)
        # An artifact's folder is named by its content; a checkpoint's by its step alone, but it
        # lies in a folder that is named as this one is.
        else f"{Path(version).parent.name}/{Path(version).name}"
        for key, version in inputs.items()
    }
    decisive = [asset, contents, config.model_dump(mode="json", exclude=careless)]
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return workspace.folder("runs").resolve() / f"{asset}-{digest[:16]}"


def work(job: Job, rank: int, world: int) -> TrainResult:
    """Do ``job`` as one of ``world`` processes that average their gradients."""
    rows, validation_rows = read(job.text)
    ranks = DataParallel(rank, world)
    return train(
        job.config,
        rows,
        validation_rows,
        job.text.bytes_per_token,
        job.folder,
        ranks,
        job.about,
        job.order,
    )


def read(text: Text) -> tuple[Rows, Rows]:
    """The rows to train on, and those to validate on."""
    return open_rows(text.train, text.cache), open_rows(text.validation, text.cache)

"""Scorers: what is trained or listed before documents are measured, and gives each a number.

A recipe names scorers; each name becomes a signal ``scores.NAME`` that rules decide on::

    scorers:
      educational:
        kind: classifier
        positives: [{source: web, uri: "*//docs.*"}]
        negatives: [{source: web}]
        threshold: {keep_fraction: 0.1, of: negatives}
      adult: {kind: words, words: adult}

The stage ``scorers`` trains them all and keeps them in one artifact, with a report of each; equal
documents and equal settings give equal bytes.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import pyarrow as pa
from pydantic import Field, StringConstraints

from datalake.config import Config
from datalake.filters.scoring import classifiers, fasttext_model, perplexity, word_lists
from datalake.filters.scoring.classifiers import Classifier, ClassifierConfig
from datalake.filters.scoring.fasttext_model import (
    FastTextConfig,
    FastTextLanguageConfig,
    FastTextModel,
)
from datalake.filters.scoring.perplexity import NgramModel, PerplexityConfig
from datalake.filters.scoring.word_lists import WordList, WordListConfig
from datalake.workspace import Inputs, Made, Workspace, folder_bytes

_MANIFEST = "scorers.json"


class Scorer(Protocol):
    """What scores documents: picklable, so that it travels into Spark tasks."""

    name: str

    def score(self, documents: pa.RecordBatch) -> np.ndarray:
        """One number a row, float64 [rows]; NaN where it cannot say."""


ScorerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
ScorerConfig = Annotated[
    ClassifierConfig | FastTextConfig | FastTextLanguageConfig | PerplexityConfig | WordListConfig,
    Field(discriminator="kind"),
]


class ScorersConfig(Config):
    """Scorers by name, in the order of their signals."""

    scorers: dict[ScorerName, ScorerConfig] = Field(min_length=1)


def train(workspace: Workspace, inputs: Inputs, config: ScorersConfig) -> Made:
    """Make every scorer of ``config`` from ``documents`` and keep them as artifact ``scorers``."""
    version = int(inputs["documents"])
    trained = {
        name: _TRAIN[one.kind](workspace, version, name, one)
        for name, one in config.scorers.items()
    }

    def write(draft: Path) -> None:
        kinds = {name: config.scorers[name].kind for name in trained}
        (draft / _MANIFEST).write_text(json.dumps(kinds))
        for name, one in trained.items():
            (draft / name).mkdir()
            one.scorer.save(draft / name)

    folder, digest = workspace.save_artifact("scorers", write)
    return Made(
        version=folder,
        content=digest,
        rows=len(trained),
        num_bytes=folder_bytes(folder),
        report={key: value for one in trained.values() for key, value in one.report.items()},
        plots={title: plot for one in trained.values() for title, plot in one.plots.items()},
    )


def load(folder: str | Path) -> tuple[Scorer, ...]:
    """The scorers of an artifact, in the order of the recipe."""
    kinds = json.loads((Path(folder) / _MANIFEST).read_text())
    return tuple(_CLASSES[kind].load(Path(folder) / name, name) for name, kind in kinds.items())


_TRAIN: dict[str, Any] = {
    "classifier": classifiers.train,
    "fasttext": fasttext_model.train,
    "fasttext_language": fasttext_model.train,
    "perplexity": perplexity.train,
    "words": word_lists.train,
}
_CLASSES: dict[str, Any] = {
    "classifier": Classifier,
    "fasttext": FastTextModel,
    "fasttext_language": FastTextModel,
    "perplexity": NgramModel,
    "words": WordList,
}

"""fastText binaries that a recipe names: published classifiers, and language models as lid.176.

The file is the user's, as is what its score means: RefinedWeb and FineWeb keep a language from 0.65
on (strictly above), CCNet and Dolma from 0.5 on; DCLM keeps P(high quality) from 0.018112 on. Line
ends become spaces, as in all of these, since fastText reads one line. One call of the C library a
document: models of words read 10 to 30 MB/s on a core, those of characters less.

The artifact keeps the file's path and digest, not the file: on a cluster it lies at the same path
on every machine.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field

from datalake.config import Config, Refusal
from datalake.filters.scoring.examples import Trained
from datalake.workspace import Workspace

_PREFIX = "__label__"
_LINE_ENDS = str.maketrans({"\n": " ", "\r": " ", "\0": " "})


class FastTextConfig(Config):
    """Score: the probability of ``label``."""

    kind: Literal["fasttext"]
    path: str  # of the binary
    label: str  # with or without ``__label__``
    max_bytes: int | None = Field(default=None, ge=64)  # of a document; None reads it whole


class FastTextLanguageConfig(Config):
    """Score: the probability of ``language``, or of the best one where none is named."""

    kind: Literal["fasttext_language"]
    path: str  # of the binary, such as lid.176.bin or lid.176.ftz
    language: str | None = None  # as the model's labels say it: en, zh
    max_bytes: int | None = Field(default=None, ge=64)


@dataclass(frozen=True)
class FastTextModel:
    """A fastText binary; opened once a process, and picklable as its path."""

    name: str
    path: str
    digest: str  # SHA-256 of the file
    label: str | None  # None: the best one
    max_bytes: int | None

    def score(self, documents: pa.RecordBatch) -> np.ndarray:
        """Probability of the label: float64 [rows]; NaN for a text of nothing but space."""
        model = _open(self.path, self.digest)
        return np.array([self._score(model, text) for text in documents["text"]], np.float64)

    def _score(self, model: Any, text: pa.Scalar) -> float:
        raw = bytes(text.as_buffer())[: self.max_bytes]
        line = raw.decode("utf-8", "replace").translate(_LINE_ENDS)
        if not line or line.isspace():
            return np.nan
        found = model.predict(line + "\n", 1 if self.label is None else -1, 0.0, "replace")
        if self.label is None:
            return min(1.0, float(found[0][0]))  # fastText's sum of rounded parts
        return next((min(1.0, float(p)) for p, label in found if label == self.label), 0.0)

    def save(self, folder: Path) -> None:
        (folder / "fasttext.json").write_text(json.dumps(asdict(self), sort_keys=True))

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        return cls(**json.loads((folder / "fasttext.json").read_text()) | {"name": name})


def train(
    workspace: Workspace, version: int, name: str, config: FastTextConfig | FastTextLanguageConfig
) -> Trained:
    """The scorer of a binary that is there and has the label. Raises Refusal otherwise."""
    place = f"scorers.{name}"
    path = Path(config.path).expanduser().absolute()
    if not path.is_file():
        rule = "a fastText binary on this machine; download it or name another"
        raise Refusal(f"{place}.path must be {rule}, got {config.path}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    model = _open(str(path), digest, place)
    labels = _labels(model, f"{place}.path", config.path)
    is_language = isinstance(config, FastTextLanguageConfig)
    wanted = config.language if isinstance(config, FastTextLanguageConfig) else config.label
    label = None if wanted is None else _PREFIX + wanted.removeprefix(_PREFIX)
    if label is not None and label not in labels:
        known = ", ".join(sorted(one.removeprefix(_PREFIX) for one in labels)[:20])
        field = "language" if is_language else "label"
        raise Refusal(f"{place}.{field} must be one of the model's {known}, got {wanted}")
    scorer = FastTextModel(name, str(path), digest, label, config.max_bytes)
    return Trained(scorer, {f"{name}: fastText model": path.name, f"{name}: SHA-256": digest})


def _labels(model: Any, place: str, path: str) -> list[str]:
    try:
        found, _ = model.getLabels("strict")
        model.predict("a\n", 1, 0.0, "strict")
    except ValueError as error:  # a model of word vectors
        raise Refusal(f"{place} must be a supervised fastText model, got {path}") from error
    return list(found)


@lru_cache(8)
def _open(path: str, digest: str, place: str = "scorers") -> Any:
    """The C library's model. Raises Refusal without the package, and for another file."""
    try:
        import fasttext_pybind
    except ImportError as error:
        rule = "used with the package fasttext-numpy2-wheel (pip install 'tarn[fasttext]')"
        raise Refusal(f"{place} must be {rule}, got none installed") from error
    file = Path(path)
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        rule = f"the fastText binary that the scorers were made with (SHA-256 {digest[:12]}...)"
        raise Refusal(f"{path} must be {rule}, got another file or none")
    model = fasttext_pybind.fasttext()
    try:
        model.loadModel(path)
    except (ValueError, RuntimeError) as error:
        raise Refusal(f"{place}.path must be a fastText binary, got {path}: {error}") from error
    return model

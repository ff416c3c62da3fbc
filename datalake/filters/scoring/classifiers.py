"""Classifiers of documents: what positives have and negatives have not, as a probability.

Quality (reference works against the open web), educational value, toxicity, quality of code: one
shape. Logistic regression over hashed word n-grams, trained by Spark ML, so on as many machines as
the session has, and applied by a compiled dot product where no JVM is. The lineage is GPT-3's
quality classifier (Brown et al. 2020, arXiv:2005.14165, appendix A) and DCLM's (Li et al. 2024,
arXiv:2406.11794), which is fastText over word bigrams.

Examples are parted by a digest of their text, case and spacing aside, so a page that was crawled
twice is never on both sides: the first share calibrates (Platt 1999), the second is held out for
the report and the threshold, the others train. A probability holds at the balance of classes of
the examples, which is seldom that of the web: rank by it, or cut by ``threshold``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from datalake import charts
from datalake.config import Refusal
from datalake.filters.scoring import held_out
from datalake.filters.scoring.examples import (
    Examples,
    LabelledFiles,
    Piece,
    Sample,
    SampleConfig,
    Selection,
    Trained,
    require_known,
    survey,
)
from datalake.filters.scoring.held_out import Threshold
from datalake.text_bytes import text_bytes
from datalake.workspace import Workspace

_ROWS_A_PARTITION = 100_000
_HISTOGRAM_BINS = 20


class ClassifierConfig(SampleConfig):
    """Trained on what ``positives`` and ``negatives`` name, or on ``labelled`` files.

    A document that both name is a positive.
    """

    kind: Literal["classifier"]
    positives: tuple[Selection, ...] = ()
    negatives: tuple[Selection, ...] = ()
    labelled: LabelledFiles | None = None
    # From the start of a document: 10,000 ranked no better on 4,000 files of source code (AUC 0.987
    # either way) and took longer to train on.
    max_bytes: int = Field(default=5_000, ge=64)
    # The score is the probability, or 1 from the threshold on and 0 below: a rule that says
    # ``at_least: 1`` then needs no new number when the classifier is trained again.
    gives: Literal["probability", "decision"] = "probability"
    threshold: Threshold
    max_words: int = Field(default=2, ge=1, le=5)  # of an n-gram; bigrams as in DCLM
    num_buckets: int = Field(default=1 << 18, ge=1 << 8, le=1 << 24)  # as Spark's HashingTF
    # On 3,000 files of source code AUC 0.9982, and 0.9967 and 0.9902 with 1e-4 and 1e-3. Features
    # are not standardised, so that rare n-grams stay small.
    regularisation: float = Field(default=1e-5, ge=0)
    l1_share: float = Field(default=0.0, ge=0, le=1)  # the elastic net's; 0 is ridge
    # Of L-BFGS, or OWL-QN with l1_share: 25 took half the time of 50 and ranked as well (AUC 0.9967
    # against 0.9973 on 3,000 files of source code).
    max_iterations: int = Field(default=30, ge=1)
    calibration_fraction: float = Field(default=0.1, gt=0, lt=0.5)  # of the examples
    held_out_fraction: float = Field(default=0.2, gt=0, lt=0.5)
    min_documents: int = Field(default=100, ge=20)  # of each class; the AUC is +-0.1 there

    @field_validator("num_buckets")
    @classmethod
    def _buckets_are_a_power_of_two(cls, num_buckets: int) -> int:
        if num_buckets & (num_buckets - 1):
            raise ValueError(f"num_buckets must be a power of two, got {num_buckets}")
        return num_buckets

    @model_validator(mode="after")
    def _has_two_classes(self) -> Self:
        chosen = (bool(self.positives), bool(self.negatives))
        if chosen != ((False, False) if self.labelled else (True, True)):
            raise ValueError(
                "a classifier must have positives and negatives, or labelled files, got "
                + (
                    ", ".join(self.model_fields_set & {"positives", "negatives", "labelled"})
                    or "none"
                )
            )
        return self


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier. Picklable; applies itself to any batch with a column ``text``."""

    name: str
    weights: np.ndarray  # float32 [num_buckets], slope of the calibration included
    offset: float
    max_words: int
    max_bytes: int
    threshold: float
    gives: Literal["probability", "decision"]

    def score(self, documents: pa.RecordBatch) -> np.ndarray:
        """Probability of a positive, or the decision: float64 [rows]; NaN without a token."""
        scores = 1 / (1 + np.exp(-np.clip(self.logits(documents["text"]), -700, 700)))
        if self.gives == "decision":
            scores = np.where(np.isnan(scores), np.nan, scores >= self.threshold)
        return scores

    def logits(self, text: pa.Array) -> np.ndarray:
        from datalake.filters.scoring.classifier_kernels import margins
        from datalake.filters.scoring.token_kernels import tables

        data, offsets = text_bytes(text)
        found = margins(data, offsets, self.max_bytes, self.max_words, self.weights, *tables())
        return found + self.offset

    def save(self, folder: Path) -> None:
        np.save(folder / "weights.npy", self.weights)
        said = {k: v for k, v in self.__dict__.items() if k not in ("name", "weights")}
        (folder / "classifier.json").write_text(json.dumps(said, sort_keys=True))

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        said = json.loads((folder / "classifier.json").read_text())
        return cls(name=name, weights=np.load(folder / "weights.npy"), **said)


def train(workspace: Workspace, version: int, name: str, config: ClassifierConfig) -> Trained:
    """Train classifier ``name`` on ``documents`` at ``version``, or on its labelled files.

    Raises Refusal for one class, too few documents, a source that no document has, and a precision
    that no threshold reaches.
    """
    place = f"scorers.{name}"
    require_known(workspace, version, f"{place}.positives", config.positives)
    require_known(workspace, version, f"{place}.negatives", config.negatives)
    choices = (config.negatives, config.positives)
    examples = Examples(workspace.lake, version, choices, config.labelled)
    sample = survey(workspace, examples, config.max_documents)
    _require_enough(place, sample.num_found, config.min_documents)
    workspace.say(f"training {name} on {_counts(sample)}")
    weights, offset = _fit(workspace, sample, config)
    plain = Classifier(
        name, weights, offset, config.max_words, config.max_bytes, 0.0, "probability"
    )
    parts, labels, logits = _apply(workspace, sample, plain, config)
    _require_held_out(place, parts, labels)
    slope, shift = held_out.platt(logits[parts == 1], labels[parts == 1])
    scores = 1 / (1 + np.exp(-np.clip(slope * logits + shift, -700, 700)))
    scores, labels = scores[parts == 2], labels[parts == 2]
    cut = held_out.threshold(scores, labels, config.threshold, f"{place}.threshold.precision")
    scorer = Classifier(
        name=name,
        weights=(weights.astype(np.float64) * slope).astype(np.float32),
        offset=offset * slope + shift,
        max_words=config.max_words,
        max_bytes=config.max_bytes,
        threshold=cut,
        gives=config.gives,
    )
    return _reported(scorer, sample, scores, labels)


@dataclass(frozen=True)
class _Vectors:
    """Task: sparse vectors of the training examples, as rows of Spark ML's vector type."""

    sample: Sample
    pieces: tuple[Piece, ...]
    config: ClassifierConfig

    def __call__(self, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from datalake.filters.scoring.classifier_kernels import features
        from datalake.filters.scoring.token_kernels import tables

        config = self.config
        for number in (k for batch in numbers for k in batch["id"].to_pylist()):
            for batch in _parted(self.sample, self.pieces[number], config):
                batch = batch.filter(pa.array(batch["part"].to_numpy() == 0))
                if not len(batch):
                    continue
                ends, buckets, values = features(
                    *text_bytes(batch["text"]),
                    config.max_bytes,
                    config.max_words,
                    config.num_buckets,
                    *tables(),
                )
                offsets = np.concatenate([[0], ends]).astype(np.int32)
                vectors = pa.StructArray.from_arrays(
                    [
                        pa.array(np.zeros(len(batch), np.int8)),  # 0: sparse
                        pa.array(np.full(len(batch), config.num_buckets, np.int32)),
                        pa.ListArray.from_arrays(offsets, pa.array(buckets)),
                        pa.ListArray.from_arrays(offsets, pa.array(values)),
                    ],
                    ["type", "size", "indices", "values"],
                )
                order = pa.array(batch["hash"].to_numpy().view(np.int64))
                yield pa.RecordBatch.from_arrays(
                    [order, batch["label"].cast(pa.float64()), vectors],
                    names=["hash", "label", "features"],
                )


@dataclass(frozen=True)
class _Logits:
    """Task: part, label and logit of the examples that did not train."""

    sample: Sample
    classifier: Classifier
    config: ClassifierConfig

    def __call__(self, piece: Piece) -> np.ndarray:
        found = [np.zeros((3, 0))]
        for batch in _parted(self.sample, piece, self.config):
            batch = batch.filter(pa.array(batch["part"].to_numpy() > 0))
            logits = self.classifier.logits(batch["text"])
            found.append(np.stack([batch["part"].to_numpy(), batch["label"].to_numpy(), logits]))
        return np.concatenate(found, axis=1)


def _parted(sample: Sample, piece: Piece, config: ClassifierConfig) -> Iterator[pa.RecordBatch]:
    """The sample's batches with a column ``part``: 0 trains, 1 calibrates, 2 is held out."""
    bounds = np.cumsum([config.calibration_fraction, config.held_out_fraction])
    for batch in sample.read(piece):
        part = np.array([1, 2, 0], np.int8)[np.searchsorted(bounds, batch["held_out"], "right")]
        yield batch.append_column("part", pa.array(part))


def _fit(
    workspace: Workspace, sample: Sample, config: ClassifierConfig
) -> tuple[np.ndarray, float]:
    """Weights float32 [num_buckets] and intercept of the logistic regression."""
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql.types import DoubleType, LongType, StructField, StructType

    from datalake import spark

    schema = StructType(
        [
            StructField("hash", LongType()),
            StructField("label", DoubleType()),
            StructField("features", VectorUDT()),
        ]
    )
    pieces = tuple(sample.examples.pieces())
    frame = spark.session(workspace).range(0, len(pieces), 1, len(pieces))
    # The sum of two partitions is the same in either order, so up to twice _ROWS_A_PARTITION the
    # weights are equal to the last bit in every run; with more, to about six digits.
    num_partitions = max(2, -(-sum(sample.num_taken) // _ROWS_A_PARTITION))
    vectors = frame.mapInArrow(_Vectors(sample, pieces, config), schema)
    vectors = vectors.repartition(num_partitions, "hash").sortWithinPartitions("hash").persist()
    try:
        model = LogisticRegression(
            regParam=config.regularisation,
            elasticNetParam=config.l1_share,
            standardization=False,
            maxIter=config.max_iterations,
            tol=1e-6,
            family="binomial",
        ).fit(vectors)
    finally:
        vectors.unpersist()
    return model.coefficients.toArray().astype(np.float32), float(model.intercept)


def _apply(
    workspace: Workspace, sample: Sample, classifier: Classifier, config: ClassifierConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Part, label and logit of every example that did not train and has a token."""
    from datalake import spark

    context = spark.session(workspace).sparkContext
    pieces = sample.examples.pieces()
    task = _Logits(sample, classifier, config)
    found = np.concatenate(context.parallelize(pieces, len(pieces)).map(task).collect(), axis=1)
    parts, labels, logits = found[:, ~np.isnan(found[2])]
    order = np.lexsort((logits, labels, parts))  # of no part of the table
    return parts[order], labels[order] == 1, logits[order]


def _reported(
    scorer: Classifier, sample: Sample, scores: np.ndarray, labels: np.ndarray
) -> Trained:
    name, kept = scorer.name, scores >= scorer.threshold
    area, bins = held_out.auc(scores, labels), held_out.reliability(scores, labels)
    report: dict[str, int | float | str] = {
        f"{name}: trained on": _counts(sample),
        f"{name}: held-out documents": len(scores),
        f"{name}: held-out AUC": round(float(area.value), 4),
        f"{name}: 95 % interval of the AUC": f"{area.low:.4f} to {area.high:.4f}",
        f"{name}: calibration error": round(float(held_out.calibration_error(bins)), 4),
        f"{name}: threshold": float(scorer.threshold),
        f"{name}: held-out precision at the threshold": round(float(labels[kept].mean()), 4),
        f"{name}: held-out recall at the threshold": round(float(kept[labels].mean()), 4),
        f"{name}: held-out negatives kept at the threshold": round(float(kept[~labels].mean()), 4),
    }
    curve = [(score, share) for score, share, _ in bins]
    counts = [
        np.histogram(scores[labels == truth], _HISTOGRAM_BINS, (0, 1))[0] for truth in (True, False)
    ]
    columns = [
        (f"{k / _HISTOGRAM_BINS:.2f}", {"positives": float(p), "negatives": float(n)})
        for k, (p, n) in enumerate(zip(*counts, strict=True))
    ]
    calibration, histogram = f"Calibration of {name}", f"Held-out scores of {name}"
    plots = {
        calibration: charts.curve(curve, "score", "share of positives", calibration),
        histogram: charts.columns(columns, title=histogram),
    }
    return Trained(scorer, report, plots)


def _counts(sample: Sample) -> str:
    negatives, positives = sample.num_taken
    return f"{positives} positives and {negatives} negatives"


def _require_enough(place: str, found: tuple[int, ...], least: int) -> None:
    negatives, positives = found
    said = f"got {positives} positives and {negatives} negatives"
    if not negatives or not positives:
        raise Refusal(f"{place} must be trained on documents of two classes, {said}")
    if min(found) < least:
        raise Refusal(f"{place} must have at least {least} documents of each class, {said}")


def _require_held_out(place: str, parts: np.ndarray, labels: np.ndarray) -> None:
    for part, said in ((1, "calibration"), (2, "held-out")):
        number = [int((labels[parts == part] == truth).sum()) for truth in (True, False)]
        if min(number) == 0:
            raise Refusal(
                f"{place} must have {said} documents of both classes with text, "
                f"got {number[0]} positives and {number[1]} negatives"
            )

"""Perplexity under a small n-gram model: how much a text reads like what the model was trained on.

CCNet sorts pages so (Wenzek et al. 2019, arXiv:1911.00359): trained on Wikipedia, the 30 % of
pages of lowest perplexity are the head, those beyond the 60th percentile the tail. The model is
interpolated modified Kneser-Ney (Chen and Goodman 1998, with their three discounts an order)
over tokens of letters and digits, signs, and single characters where there are no spaces.

The vocabulary is bounded. A word outside it costs the probability of an unknown word times that
of its bytes under a bigram model of how words are spelled; otherwise a text in a language that the
model never saw would be a row of unknown words, and cheap. Memory is bounded by ``max_documents``
times ``max_bytes``; 10 MB of English train in a few seconds on one core.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from datalake import charts
from datalake.config import Refusal
from datalake.filters.scoring.examples import (
    Examples,
    LabelledFiles,
    SampleConfig,
    Selection,
    Trained,
    require_known,
    survey,
    texts,
)
from datalake.text_bytes import text_bytes
from datalake.workspace import Workspace

_HEAD, _TAIL = 30, 60  # percentiles, CCNet
_LOAD = 0.67  # of the table's slots: a miss looks at three on average
_HELD_OUT = 0.1  # of the examples
_DISCOUNTS = (0.5, 1.0, 1.5)  # where counts of counts say nothing, as in tiny corpora


class PerplexityConfig(SampleConfig):
    """A model of what ``documents`` names, or of the positives of ``labelled`` files."""

    kind: Literal["perplexity"]
    documents: tuple[Selection, ...] = ()
    labelled: LabelledFiles | None = None
    # Documents whose 30th and 60th percentile the report gives, as CCNet's cuts; all where empty.
    cuts_of: tuple[Selection, ...] = ()
    # Per token as in CCNet, or bits per byte, which can be compared between languages.
    gives: Literal["perplexity", "bits_per_byte"] = "perplexity"
    order: int = Field(default=3, ge=1, le=5)  # CCNet's is 5, of far more text
    vocab_size: int = Field(default=65_536, ge=16)  # as many as CCNet's pieces
    min_documents: int = Field(default=20, ge=2)

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if bool(self.documents) == bool(self.labelled):
            raise ValueError("a perplexity must have either documents or labelled files")
        return self


@dataclass(frozen=True, eq=False)
class NgramModel:
    """A trained model. Picklable; a table of n-grams, each with probability and backoff weight."""

    name: str
    order: int
    slots: np.ndarray  # uint64 [size]: keys of n-grams, 0 where empty
    values: np.ndarray  # float32 [size, 2]: logarithms of probability and of backoff weight
    spelling: np.ndarray  # float32 [257, 257]: logarithm of a byte's probability after another
    max_bytes: int
    gives: Literal["perplexity", "bits_per_byte"]

    def score(self, documents: pa.RecordBatch) -> np.ndarray:
        """Perplexity per token, or bits per byte: float64 [rows]; NaN for a text without tokens."""
        nats, events, num_bytes = self.nats(documents["text"]).T
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            if self.gives == "perplexity":
                found = np.exp(nats / events)
            else:
                found = nats / math.log(2) / num_bytes
        return np.where(events > 1, found, np.nan)

    def nats(self, text: pa.Array) -> np.ndarray:
        """Negative log-likelihood, events (tokens and the end) and bytes: float64 [rows, 3]."""
        from datalake.filters.scoring.perplexity_kernels import nats
        from datalake.filters.scoring.token_kernels import tables

        return nats(
            *text_bytes(text),
            self.max_bytes,
            self.order,
            self.slots,
            self.values,
            self.spelling,
            *tables(),
        )

    def save(self, folder: Path) -> None:
        for name in ("slots", "values", "spelling"):
            np.save(folder / f"{name}.npy", getattr(self, name))
        said = {"order": self.order, "max_bytes": self.max_bytes, "gives": self.gives}
        (folder / "model.json").write_text(json.dumps(said, sort_keys=True))

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        said = json.loads((folder / "model.json").read_text())
        arrays = {n: np.load(folder / f"{n}.npy") for n in ("slots", "values", "spelling")}
        return cls(name=name, **arrays, **said)


def train(workspace: Workspace, version: int, name: str, config: PerplexityConfig) -> Trained:
    """A model of ``documents`` at ``version``, and where its perplexities of others lie.

    Raises Refusal for too few documents and for a source that no document has.
    """
    place = f"scorers.{name}"
    require_known(workspace, version, f"{place}.documents", config.documents)
    require_known(workspace, version, f"{place}.cuts_of", config.cuts_of)
    choices = ((), config.documents)
    examples = Examples(workspace.lake, version, choices, config.labelled)
    sample = survey(workspace, examples, config.max_documents)
    if sample.num_found[1] < config.min_documents:
        raise Refusal(
            f"{place} must have at least {config.min_documents} documents, "
            f"got {sample.num_found[1]}"
        )
    workspace.say(f"training {name} on {sample.num_taken[1]} documents")
    rows = texts(workspace, sample, config.max_bytes)
    rows = rows.filter(pa.array(rows["label"].to_numpy() == 1))
    held_out = rows["held_out"].to_numpy() < _HELD_OUT
    model = fit(name, _column(rows.filter(pa.array(~held_out))), config)
    report: dict[str, int | float | str] = {
        f"{name}: trained on": f"{len(rows)} documents",
        f"{name}: n-grams": int(np.count_nonzero(model.slots)),
    }
    if held_out.any():
        nats, events, num_bytes = model.nats(_column(rows.filter(pa.array(held_out)))).sum(axis=0)
        report[f"{name}: held-out perplexity"] = round(math.exp(nats / events), 1)
        report[f"{name}: held-out bits per byte"] = round(float(nats / math.log(2) / num_bytes), 3)
    others = Examples(workspace.lake, version, (config.cuts_of or None,))
    sample = survey(workspace, others, config.max_documents)
    if not sample.num_taken[0]:
        return Trained(model, report)
    others_text = _column(texts(workspace, sample, config.max_bytes))
    scores = np.sort(model.score(pa.RecordBatch.from_arrays([others_text], ["text"])))
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        return Trained(model, report)
    said = config.gives.replace("_", " ")
    for cut, percentile in (("head ends", _HEAD), ("tail begins", _TAIL)):
        report[f"{name}: {cut} at {said}"] = round(float(np.percentile(scores, percentile)), 3)
    title = f"Documents by {said} under {name}"
    return Trained(model, report, {title: _histogram(scores, title)})


def fit(name: str, text: pa.Array, config: PerplexityConfig) -> NgramModel:
    """The model of ``text``, one document a row; the same texts in the same order, equal bytes."""
    from datalake.filters.scoring import perplexity_kernels as kernels
    from datalake.filters.scoring.token_kernels import tables

    data, offsets = text_bytes(text)
    tokens, places = kernels.hashes(data, offsets, config.max_bytes, *tables())
    distinct, first, counts = np.unique(tokens, return_index=True, return_counts=True)
    spelling = np.full((257, 257), 0.5)  # added to each count, so that no byte is impossible
    kernels.count_bytes(data, places[first], spelling)
    spelling = np.log(spelling / spelling.sum(axis=1, keepdims=True)).astype(np.float32)
    # Words seen once are unknown: they say how likely one is. Equal counts go by hash.
    frequent = np.lexsort((distinct, -counts))[: config.vocab_size]
    vocabulary = np.sort(distinct[frequent[counts[frequent] > 1]])
    known = np.isin(tokens, vocabulary)
    tokens = np.where(known, tokens, kernels.UNKNOWN)
    after, before = kernels.keys_of(tokens, places[:, 2], len(offsets) - 1, config.order)
    keys, numbers = _kneser_ney(after, before, len(vocabulary) + 2)
    slots, values = kernels.table_of(keys, numbers, int(len(keys) / _LOAD) + 8)
    return NgramModel(name, config.order, slots, values, spelling, config.max_bytes, config.gives)


def _kneser_ney(
    after: np.ndarray, before: np.ndarray, num_words: int
) -> tuple[np.ndarray, np.ndarray]:
    """Keys of all n-grams and contexts, and logarithms of probability and backoff weight.

    ``after`` and ``before`` are as ``perplexity_kernels.keys_of`` gives them. The counts of the
    highest order are those of the text; below, how many different tokens stand before an n-gram.
    """
    from datalake.filters.scoring.perplexity_kernels import UNKNOWN, extend

    order = len(after)
    grams = []  # of each order from the highest: keys, counts, an event where it ends
    events = np.arange(after.shape[1])
    for n in range(order - 1, -1, -1):
        keys, first, counts = np.unique(after[n][events], return_index=True, return_counts=True)
        events = events[first]
        grams.append((keys, counts, events))
    nothing, unknown = np.uint64(0), extend(np.uint64(0), UNKNOWN)
    lower, lower_keys = np.full(1, 1 / num_words), np.zeros(1, np.uint64)
    all_keys, log_p, weight_keys, log_weights = [], [], [], []
    for n, (keys, counts, ends) in enumerate(reversed(grams)):
        below = after[n - 1][ends] if n else np.full(len(ends), nothing)
        contexts = before[n - 1][ends] if n else below
        discounts = _discounts(counts)
        cut = discounts[np.minimum(counts, 3)]
        distinct, which = np.unique(contexts, return_inverse=True)
        total = np.bincount(which, counts)
        weight = np.bincount(which, cut) / total
        p = (counts - cut) / total[which] + weight[which] * lower[
            np.searchsorted(lower_keys, below)
        ]
        if n:
            weight_keys.append(distinct)
            log_weights.append(np.log(weight))
        elif unknown not in keys:  # a text that says each of its words twice
            place = int(np.searchsorted(keys, unknown))
            keys = np.insert(keys, place, unknown)
            p = np.insert(p, place, weight[0] / num_words)
        lower, lower_keys = p, keys
        all_keys.append(keys)
        log_p.append(np.log(p))
    # An n-gram may be a context, too: one entry for both.
    keys = np.unique(np.concatenate([*all_keys, *weight_keys]))
    numbers = np.zeros((len(keys), 2), np.float32)
    numbers[np.searchsorted(keys, np.concatenate(all_keys)), 0] = np.concatenate(log_p)
    if weight_keys:
        at = np.searchsorted(keys, np.concatenate(weight_keys))
        numbers[at, 1] = np.concatenate(log_weights)
    return keys, numbers


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken from a count of 0, 1, 2, and 3 or more: float64 [4]."""
    ones, twos, threes, fours = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if min(ones, twos, threes) == 0:
        return np.array([0, *_DISCOUNTS])
    y = ones / (ones + 2 * twos)
    found = (1 - 2 * y * twos / ones, 2 - 3 * y * threes / twos, 3 - 4 * y * fours / threes)
    sane = [d if 0 < d < k + 1 else _DISCOUNTS[k] for k, d in enumerate(found)]
    return np.array([0, *sane])


def _column(rows: pa.Table) -> pa.Array:
    return rows.combine_chunks()["text"].combine_chunks()


def _histogram(scores: np.ndarray, title: str) -> str:
    """Documents by score on a logarithmic axis, head, middle and tail told apart."""
    low, head, tail, high = np.percentile(scores, [0.5, _HEAD, _TAIL, 99.5])
    edges = np.geomspace(max(low, 1e-3), max(high, 1.01 * low, 1.1e-3), 25)
    parts = np.searchsorted([head, tail], scores, "left")
    counts = {
        part: np.histogram(np.clip(scores[parts == k], edges[0], edges[-1]), edges)[0]
        for k, part in enumerate(("head", "middle", "tail"))
    }
    columns = [
        (f"{edge:.3g}", {part: float(number[k]) for part, number in counts.items()})
        for k, edge in enumerate(edges[:-1])
    ]
    return charts.columns(columns, title=title)

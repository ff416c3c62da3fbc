"""What curation found besides whole documents: places, items of benchmarks, clusters, scores.

Counted from the tables, batch after batch, as in ``funnel``; ``card`` draws it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datalake.tables import Lake

NUM_BINS = 20
_WIDE = 100  # times the lowest
_SAMPLE = 1_000_000  # documents; 8 bytes each


@dataclass(frozen=True, slots=True)
class Places:
    """Places in texts, and the bytes in them."""

    number: int = 0
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """Items of a benchmark that stand in documents, and how many documents those are."""

    items: int
    documents: int
    acted_on: int  # places that the recipe removes


@dataclass(frozen=True)
class Histogram:
    """Documents by the value of a score: equal bins from ``low`` to ``high``.

    These are the 1st and the 99th percentile; what lies outside is in the first or last bin. Where
    they are far apart, bins are equal in the logarithm, as perplexities need it.
    """

    low: float
    high: float
    counts: Mapping[str, Sequence[int]]  # source -> NUM_BINS counts

    @property
    def edges(self) -> np.ndarray:
        """Where the bins begin and the last one ends: ``float64 [NUM_BINS + 1]``."""
        if self.low > 0 and self.high > _WIDE * self.low:
            return np.geomspace(self.low, self.high, NUM_BINS + 1)
        return np.linspace(self.low, max(self.high, self.low + 1e-9), NUM_BINS + 1)


def count_cuts(lake: Lake, version: int) -> dict[str, dict[str, Places]]:
    """Cuts by source and reason, most bytes first; those that overlap count each."""
    sums: dict[tuple[str, str], Places] = {}
    for batch in lake.batches("cuts", version, ("source", "reason", "start", "end")):
        size = pc.subtract(batch["end"], batch["start"])
        rows = pa.table({"source": batch["source"], "reason": batch["reason"], "size": size})
        groups = rows.group_by(["source", "reason"])
        for row in groups.aggregate([("size", "sum"), ([], "count_all")]).to_pylist():
            key = row["source"], row["reason"]
            before = sums.get(key, Places())
            sums[key] = Places(before.number + row["count_all"], before.num_bytes + row["size_sum"])
    named: dict[str, dict[str, Places]] = {}
    for source, reason in sorted(sums, key=lambda k: (k[0], -sums[k].num_bytes, k[1])):
        named.setdefault(source, {})[reason] = sums[source, reason]
    return named


def count_contamination(lake: Lake, version: int) -> dict[str, Found]:
    """What was found of each benchmark."""
    items: dict[str, set[str]] = {}
    documents: dict[str, set[str]] = {}
    acted_on: Counter[str] = Counter()
    columns = ("benchmark", "item_id", "doc_id", "remove")
    for batch in lake.batches("contamination", version, columns):
        for row in batch.to_pylist():
            items.setdefault(row["benchmark"], set()).add(row["item_id"])
            documents.setdefault(row["benchmark"], set()).add(row["doc_id"])
            acted_on[row["benchmark"]] += row["remove"]
    return {
        name: Found(len(items[name]), len(documents[name]), acted_on[name])
        for name in sorted(items)
    }


def score_histograms(lake: Lake, version: int) -> dict[str, Histogram]:
    """Documents by each score of the recipe; those that a scorer says nothing of are left out."""

    def batches() -> Iterable[tuple[np.ndarray, list[str], np.ndarray]]:
        for batch in lake.batches("signals", version, ("source", "score_names", "scores")):
            names = batch["score_names"][0].as_py() if len(batch) else []
            if names:
                scores = batch["scores"].flatten().to_numpy(zero_copy_only=False)
                sources = np.array(batch["source"].to_pylist(), object)
                yield sources, names, scores.astype(float).reshape(-1, len(names))

    low, high = _bounds(batches())
    edges = {name: Histogram(low[name], high[name], {}).edges for name in low}
    counts: dict[str, dict[str, np.ndarray]] = {name: {} for name in low}
    for sources, names, scores in batches():
        for k, name in enumerate(names):
            for source in np.unique(sources) if name in low else ():
                said = scores[sources == source, k]
                said = said[np.isfinite(said)]
                bins = np.clip(np.searchsorted(edges[name], said, "right") - 1, 0, NUM_BINS - 1)
                more = np.bincount(bins, minlength=NUM_BINS)
                counts[name][source] = counts[name].get(source, np.zeros(NUM_BINS, int)) + more
    return {
        name: Histogram(
            low[name], high[name], {s: n.tolist() for s, n in sorted(counts[name].items())}
        )
        for name in low
    }


def _bounds(
    batches: Iterable[tuple[np.ndarray, list[str], np.ndarray]],
) -> tuple[dict[str, float], dict[str, float]]:
    """1st and 99th percentile of every score, of the first ``_SAMPLE`` documents."""
    seen: dict[str, list[np.ndarray]] = {}
    for _, names, scores in batches:
        for k, name in enumerate(names):
            if sum(map(len, seen.setdefault(name, []))) < _SAMPLE:
                seen[name].append(scores[:, k][np.isfinite(scores[:, k])])
    said = {name: np.concatenate(some) for name, some in seen.items()}
    low, high = (
        {name: float(np.percentile(some, share)) for name, some in said.items() if len(some)}
        for share in (1, 99)
    )
    return low, high

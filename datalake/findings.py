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
    """Documents by the value of a score: equal bins from ``low`` to ``high``."""

    low: float
    high: float
    counts: Mapping[str, Sequence[int]]  # source -> NUM_BINS counts


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

    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for _, names, scores in batches():
        for k, name in enumerate(names):
            said = scores[:, k][np.isfinite(scores[:, k])]
            if len(said):
                low[name] = min(low.get(name, np.inf), float(said.min()))
                high[name] = max(high.get(name, -np.inf), float(said.max()))
    counts: dict[str, dict[str, np.ndarray]] = {name: {} for name in low}
    for sources, names, scores in batches():
        for k, name in enumerate(names):
            for source in np.unique(sources) if name in low else ():
                said = scores[sources == source, k]
                said = said[np.isfinite(said)]
                hist, _ = np.histogram(said, NUM_BINS, (low[name], high[name]))
                counts[name][source] = counts[name].get(source, np.zeros(NUM_BINS, int)) + hist
    return {
        name: Histogram(
            low[name], high[name], {s: n.tolist() for s, n in sorted(counts[name].items())}
        )
        for name in low
    }

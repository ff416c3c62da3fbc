"""What decontamination found, counted for people: by benchmark, by source, item by item."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from datalake import charts
from datalake.schemas import TABLES

COUNTED = ("doc_id", "source", "benchmark", "item_id", "remove")  # columns of the table
SUITE_THRESHOLD = 0.02  # of a benchmark's items in one source: Tulu 3, arXiv:2411.15124, 3.2
_TOP = 3  # items named for each benchmark
_Z = 1.959964  # of a normal distribution: 95 %


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One benchmark: its items, and how many of them the documents hold."""

    items: int
    matchable: int  # with enough words for the style
    found: int
    acted_upon: int  # items for which something is cut
    documents: int
    by_source: Mapping[str, int]  # items found in each
    top: Mapping[str, int]  # documents of the items found most often

    @property
    def share(self) -> float:
        """Of the matchable items; 0 where there are none."""
        return self.found / self.matchable if self.matchable else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share (Wilson 1927)."""
        if not self.matchable:
            return 0.0, 1.0
        n, p = self.matchable, self.share
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)

    @property
    def contaminated_sources(self) -> list[str]:
        """Sources that hold more than 2 % of all items."""
        return sorted(s for s, n in self.by_source.items() if n > SUITE_THRESHOLD * self.items)


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """All benchmarks, and how much was read."""

    benchmarks: Mapping[str, Found]
    num_documents: int  # read
    num_bytes: int
    touched: int  # documents with an item
    acted_upon: int  # documents that something is cut of

    @classmethod
    def of(
        cls,
        rows: Iterable[pa.RecordBatch],
        items: Mapping[str, tuple[int, int]],
        num_documents: int,
        num_bytes: int,
    ) -> "Findings":
        """From rows with ``COUNTED``; ``items`` gives all and the matchable ones by name."""
        schema = pa.schema([TABLES["contamination"].arrow.field(name) for name in COUNTED])
        pairs = pa.Table.from_batches((batch.select(COUNTED) for batch in rows), schema)
        pairs = pairs.group_by(["doc_id", "source", "benchmark", "item_id"]).aggregate(
            [("remove", "any")]
        )
        acted = pairs.filter(pairs["remove_any"])
        return cls(
            benchmarks={
                name: _found(pairs.filter(pc.equal(pairs["benchmark"], name)), *counts)
                for name, counts in items.items()
            },
            num_documents=num_documents,
            num_bytes=num_bytes,
            touched=pc.count_distinct(pairs["doc_id"]).as_py(),
            acted_upon=pc.count_distinct(acted["doc_id"]).as_py(),
        )

    def report(self) -> dict[str, int | float | str]:
        """Flat, for the asset."""
        said: dict[str, int | float | str] = {
            "documents read": self.num_documents,
            "bytes read": self.num_bytes,
            "documents with an item": self.touched,
            "documents acted upon": self.acted_upon,
        }
        for name, one in self.benchmarks.items():
            low, high = one.interval
            said[f"{name}: items"] = one.items
            said[f"{name}: items that can be matched"] = one.matchable
            said[f"{name}: items found"] = one.found
            said[f"{name}: items acted upon"] = one.acted_upon
            said[f"{name}: share found"] = round(one.share, 4)
            said[f"{name}: share found, 95 %"] = f"{low:.4f} to {high:.4f}"
            said[f"{name}: documents"] = one.documents
            if one.top:
                top = ", ".join(f"{item} in {n}" for item, n in one.top.items())
                said[f"{name}: found most"] = top
            if one.by_source:
                said[f"{name}: by source"] = ", ".join(
                    f"{source} {n}" for source, n in sorted(one.by_source.items())
                )
            if one.contaminated_sources:
                said[f"{name}: sources with more than 2 %"] = ", ".join(one.contaminated_sources)
        return said

    def chart(self) -> str:
        """Share of each benchmark's matchable items that was found, as SVG."""
        rows = [
            (name, {"found": 100 * one.share}, f"{one.found:,} of {one.matchable:,}")
            for name, one in self.benchmarks.items()
        ]
        return charts.bars(rows, title="Benchmark items found in the documents, %")


def _found(pairs: pa.Table, items: int, matchable: int) -> Found:
    by_item = pairs.group_by("item_id").aggregate([("doc_id", "count_distinct")])
    counts = zip(
        by_item["item_id"].to_pylist(), by_item["doc_id_count_distinct"].to_pylist(), strict=True
    )
    by_source = pairs.group_by("source").aggregate([("item_id", "count_distinct")])
    return Found(
        items=items,
        matchable=matchable,
        found=by_item.num_rows,
        acted_upon=pc.count_distinct(pairs.filter(pairs["remove_any"])["item_id"]).as_py(),
        documents=pc.count_distinct(pairs["doc_id"]).as_py(),
        by_source=dict(
            zip(
                by_source["source"].to_pylist(),
                by_source["item_id_count_distinct"].to_pylist(),
                strict=True,
            )
        ),
        top=dict(sorted(counts, key=lambda one: (-one[1], one[0]))[:_TOP]),
    )

"""Clusters of duplicates: from equal keys to edges, from edges to components, to one survivor.

The survivor is chosen by its quality: ``best`` names a column of ``signals`` or one of the recipe's
scorers, as ``scores.NAME``; higher is better. Without it the longest document is the best one.
"""

from collections.abc import Mapping

import pyarrow as pa
from pydantic import Field

from datalake import charts
from datalake.config import Config, Refusal
from datalake.dedup.clustering.components import MAX_DRIVER_EDGES, components
from datalake.dedup.clustering.edges import Verify, star_edges
from datalake.dedup.clustering.survivors import survivors
from datalake.schemas import TABLES
from datalake.tables import Commit
from datalake.workspace import Inputs, Workspace

_CHOSEN = (
    "doc_id",
    "source",
    "num_bytes",
    "num_tokens",
    "licence",
    "licence_class",
    "snapshot",
    "text_digest",
)
_SCORES = "scores."


class DuplicatesConfig(Config):
    """Which documents are duplicates of one another, and which of them stays."""

    # Off, as in FineWeb (Penedo et al. 2024, arXiv:2406.17557): what stands at one address may
    # change. RefinedWeb (Penedo et al. 2023, arXiv:2306.01116) takes equal addresses out.
    urls: bool = False
    verify: Verify | None = None  # without, a shared band is enough, as in FineWeb and text-dedup
    best: str | None = None  # a number in signals or scores.NAME, higher is better; the longest
    # Where the components are found; they are the same in both places.
    max_driver_edges: int = Field(default=MAX_DRIVER_EDGES, ge=0)  # with more, in Spark


def write_duplicates(workspace: Workspace, inputs: Inputs, config: DuplicatesConfig) -> Commit:
    """Write ``duplicates``: one row for every document that ``kept`` keeps, with its survivor.

    Raises Refusal where ``config.best`` names nothing that was measured.
    """
    from datalake import spark

    version = int(inputs["signals"])
    chosen = (*_CHOSEN, "url_key") if config.urls else _CHOSEN
    quality, measured = _quality(workspace, version, config.best)
    grouped = ["doc_id", "text_digest", "band_keys", *(["url_key"] if config.urls else [])]
    grouped += ["signature"] if config.verify else []
    signals = spark.read(
        workspace, "signals", version, list(dict.fromkeys([*chosen, *grouped, *measured]))
    )
    kept = signals.sparkSession.sql(
        """
        SELECT signals.* FROM {signals} AS signals
        LEFT SEMI JOIN {kept} AS kept ON signals.doc_id = kept.doc_id AND kept.keep
        """,
        signals=signals,
        kept=spark.read(workspace, "kept", int(inputs["kept"]), ("doc_id", "keep")),
    )
    edges = star_edges(kept.select(*grouped), config.verify)
    clusters = components(edges, config.max_driver_edges)
    ranked = kept.selectExpr(*chosen, f"double({quality}) AS quality")
    return spark.write(workspace, "duplicates", survivors(ranked, clusters), dict(inputs))


def cluster_sizes(workspace: Workspace, version: int) -> dict[int, int]:
    """In this version of ``duplicates``: how many clusters there are of each size from 2 on."""
    from datalake import spark

    sizes = (
        spark.read(workspace, "duplicates", version, ["cluster", "kind"])
        .where("kind != 'unique'")
        .groupBy("cluster")
        .count()
        .groupBy("count")
        .agg({"*": "count"})
    )
    return dict(sorted((int(size), int(number)) for size, number in sizes.collect()))


def size_chart(sizes: Mapping[int, int]) -> str:
    """A bar for all clusters of 2^k documents and more, but fewer than 2^(k+1)."""
    rows = []
    for power in sorted({size.bit_length() - 1 for size in sizes}):
        low, high = 1 << power, (2 << power) - 1
        inside = {size: number for size, number in sizes.items() if low <= size <= high}
        number = sum(inside.values())
        documents = sum(size * number for size, number in inside.items())
        said = f"{number:,} clusters, {documents:,} documents"
        rows.append((f"{low:,} to {high:,} documents", {"clusters": number}, said))
    return charts.bars(rows, title="Clusters of duplicates by size")


def _quality(workspace: Workspace, version: int, best: str | None) -> tuple[str, tuple[str, ...]]:
    """SQL of the number that decides, and the columns of ``signals`` that it needs."""
    if best is None:
        return "num_bytes", ("num_bytes",)
    if best.startswith(_SCORES):
        names = _score_names(workspace, version)
        if (name := best.removeprefix(_SCORES)) not in names:
            raise Refusal(
                f"duplicates.best must be scores of one of {', '.join(names) or 'no scorer'}, "
                f"got {best}"
            )
        return f"scores[{names.index(name)}]", ("scores",)
    numbers = [
        column.name
        for column in TABLES["signals"].columns
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    ]
    if best not in numbers:
        raise Refusal(
            f"duplicates.best must be scores.NAME or one of {', '.join(numbers)}, got {best}"
        )
    return best, (best,)


def _score_names(workspace: Workspace, version: int) -> list[str]:
    """Scorers of the first row: all of one version have the same."""
    for batch in workspace.lake.batches("signals", version, ["score_names"]):
        if len(batch):
            names: list[str] = batch["score_names"][0].as_py()
            return names
    return []

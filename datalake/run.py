"""From what was found to what is worth training on: the stages of the datalake, in order.

Each stage reads its inputs at the versions given, makes one table or artifact, and says what it
made; the work itself is in the modules that it names.
"""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Self

import pyarrow.compute as pc
from pydantic import Field, StringConstraints, model_validator

from datalake import card, charts, extraction, findings, funnel, ingestion, inventory
from datalake import corpus as corpora
from datalake.config import Config
from datalake.cutting import AllCutsConfig, CutsConfig, write_cuts
from datalake.dedup.benchmarks.contamination import ContaminationConfig, find_contamination
from datalake.dedup.clustering.clusters import (
    DuplicatesConfig,
    cluster_sizes,
    size_chart,
    write_duplicates,
)
from datalake.dedup.signatures.minhash import Banding, BandsConfig, MinHashConfig
from datalake.derived import Derivation, derive
from datalake.extraction import DocumentsConfig
from datalake.filters.bounds import SCORES, nearest
from datalake.filters.measures.signals import INPUT_COLUMNS, MEASURES, Measuring, Words, measure
from datalake.filters.rules import KeptConfig, decide, require_some_kept, resolve
from datalake.filters.scoring.scorers import ScorerConfig, ScorerName, ScorersConfig, load, train
from datalake.mixture import MixtureConfig, fitted_shares, write_manifest
from datalake.mixture_fit import MixtureFitConfig, Runs, fit_mixture, write_fitted
from datalake.sources.catalogue import Source, Sources
from datalake.tables import Commit
from datalake.workspace import Inputs, Made, Workspace, folder_bytes

SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]


class SignalsConfig(Config):
    """How near duplicates are looked for, and what a word is."""

    minhash: MinHashConfig = BandsConfig()
    words: Words = "unicode"  # "whitespace" is what C4, Dolma and the rules' thresholds go by


class CorpusConfig(Config):
    """How often an epoch sees a document of each source."""

    mixture: MixtureConfig


class DataCardConfig(Config):
    """What stands above the data card, and how much there is to look at."""

    title: str = "Data card"
    num_samples: int = Field(default=3, ge=0)  # of every source and reason
    seed: int = 1


class Settings(Config):
    """The datalake's section of a recipe: one part a stage."""

    sources: dict[SourceName, Source] = Field(min_length=1)
    documents: DocumentsConfig = DocumentsConfig()
    scorers: dict[ScorerName, ScorerConfig] = Field(default_factory=dict)
    signals: SignalsConfig = SignalsConfig()
    kept: KeptConfig
    duplicates: DuplicatesConfig = DuplicatesConfig()
    contamination: ContaminationConfig | None = None
    cuts: CutsConfig = CutsConfig()
    corpus: CorpusConfig
    mixture_fit: MixtureFitConfig = MixtureFitConfig()
    data_card: DataCardConfig = DataCardConfig()

    @model_validator(mode="after")
    def _scores_are_there(self) -> Self:
        asked = dict.fromkeys(self.kept.score_names, "kept.rules")
        best = self.duplicates.best or ""
        if best.startswith(SCORES):
            asked[best.removeprefix(SCORES)] = "duplicates.best"
        for name, place in asked.items():
            if name not in self.scorers:
                raise ValueError(
                    f"{place} must name scores of {', '.join(self.scorers) or 'no scorer'}, "
                    f"got {SCORES}{name}{nearest(name, tuple(self.scorers))}"
                )
        return self

    @property
    def all_cuts(self) -> AllCutsConfig:
        """Section ``cuts``, with the line rules that the sets of ``kept.rules`` bring."""
        lines = {source: self.kept.line_rules_for(source) for source in self.kept.rules}
        return AllCutsConfig(
            **dict(self.cuts),
            lines={source: names for source, names in lines.items() if names},
            words=self.signals.words,
        )

    def of_table(self, table: str) -> Sources:
        """The sources that fill the raw table ``table``."""
        named = {name: one for name, one in self.sources.items() if one.table == table}
        return Sources(sources=named)


def raw(workspace: Workspace, inputs: Inputs, config: Sources) -> Made:
    """Refresh the sources of one raw table, and for pages the archives in the inbox."""
    (table,) = {source.table for source in config.sources.values()}
    found = ingestion.ingest(workspace, table, config.sources)
    held = inventory.holdings(workspace.lake, table, found.commit.version)
    report = found.report.as_dict() | {
        f"records of {holding.origin}": holding.records for holding in held
    }
    return _made(found.commit, report, {"Records by licence": inventory.licence_chart(held)})


def documents(workspace: Workspace, inputs: Inputs, config: DocumentsConfig) -> Made:
    """Extract the text of every record."""
    made = extraction.extract(workspace, inputs, config)
    columns = ["source", "encoding", "num_bytes", "remark"]
    rows = workspace.lake.read("documents", made.version, columns)
    report: dict[str, int | float | str] = {"bytes of text": pc.sum(rows["num_bytes"]).as_py()}
    for source, number in sorted(Counter(rows["source"].to_pylist()).items()):
        report[f"documents from {source}"] = number
    report["without text"] = pc.sum(pc.equal(rows["num_bytes"], 0)).as_py()
    remarks = [remark for remark in rows["remark"].to_pylist() if remark]
    unreadable = [e for e in rows["encoding"].to_pylist() if e.startswith(extraction.UNREADABLE)]
    # A reason and its case are parted by a colon: ``unreadable: scanned: 3 pages without text``.
    for reason, number in sorted(Counter(e.split(": ")[1] for e in unreadable).items()):
        report[f"{extraction.UNREADABLE}: {reason}"] = number
    for remark, number in sorted(Counter(r.split(":")[0] for r in remarks).items()):
        report[f"read in part: {remark}"] = number
    return _made(made, report)


def scorers(workspace: Workspace, inputs: Inputs, config: ScorersConfig) -> Made:
    """Train or read every scorer that the recipe names."""
    return train(workspace, inputs, config)


def signals(workspace: Workspace, inputs: Inputs, config: SignalsConfig) -> Made:
    """Measure every document that is new or changed: numbers, scores and MinHash keys."""
    banding = Banding.of(config.minhash)
    workspace.say(f"measuring, with MinHash in {banding.num_bands} x {banding.num_rows}")
    folder = inputs.get("scorers")
    measuring = Measuring(banding, config.words, load(str(folder)) if folder else ())
    derivation = Derivation(
        source="documents",
        target="signals",
        columns=INPUT_COLUMNS,
        compute=partial(measure, measuring=measuring),
        definitions=f"{MEASURES} {config.model_dump_json()} {folder}",
    )
    done = derive(workspace, inputs, derivation)
    report: dict[str, int | float | str] = {
        "measured now": done.computed,
        "taken over": done.taken_over,
        "MinHash bands": banding.num_bands,
        "rows in a band": banding.num_rows,
    }
    for similarity in (0.7, 0.8, 0.9):
        chance = banding.detection_probability(similarity)
        report[f"chance to find similarity {similarity}"] = round(chance, 4)
    points = [(k / 100, banding.detection_probability(k / 100)) for k in range(101)]
    title = "Chance that two documents share a band key"
    chart = charts.curve(points, "Jaccard similarity of their shingles", "chance", title)
    return _made(done.commit, report, {title: chart})


def kept(workspace: Workspace, inputs: Inputs, config: KeptConfig) -> Made:
    """Decide for every document, from its signals alone: keep it, or the first reason to drop."""
    from datalake import spark

    version = int(inputs["signals"])
    batches = workspace.lake.batches("signals", version, ["source"])
    config.require_sources(
        sorted({name for b in batches for name in b["source"].unique().to_pylist()})
    )
    bounds = resolve(config, workspace.lake.batches("signals", version, config.columns))
    made = spark.map_files(
        workspace,
        "signals",
        version,
        config.columns,
        partial(decide, config=bounds),
        "kept",
        inputs,
    )
    num_kept, reasons = funnel.count_decisions(workspace, made.version)
    report = {"kept": num_kept, "dropped": made.rows - num_kept}
    return _made(made, report | {f"dropped by {name}": n for name, n in reasons.items()})


def duplicates(workspace: Workspace, inputs: Inputs, config: DuplicatesConfig) -> Made:
    """Cluster the kept documents by equal text digests and band keys; name each survivor.

    Raises Refusal, with the count of every rule, where no document was kept.
    """
    num_kept, reasons = funnel.count_decisions(workspace, int(inputs["kept"]))
    require_some_kept(num_kept, reasons)
    by = "digest, band keys and address" if config.urls else "digest and band keys"
    workspace.say(f"grouping {num_kept:,} documents by {by}")
    made = write_duplicates(workspace, inputs, config)
    counts = funnel.count_duplicates(workspace, made.version)
    copies = [count for kind, count in counts.items() if kind != "survivors"]
    sizes = cluster_sizes(workspace, made.version)
    return _made(
        made,
        {
            "survivors": counts["survivors"].documents,
            "copies by address": counts["url"].documents,
            "exact copies": counts["exact"].documents,
            "near copies": counts["near"].documents,
            "bytes of copies": sum(count.num_bytes for count in copies),
            "clusters": sum(sizes.values()),
            "documents in the largest cluster": max(sizes, default=1),
        },
        {"Clusters of duplicates by size": size_chart(sizes)},
    )


def contamination(workspace: Workspace, inputs: Inputs, config: ContaminationConfig) -> Made:
    """Look for the items of every evaluation in the documents that survive."""
    made, found = find_contamination(workspace, inputs, config)
    return _made(made, found.report(), {"Items found, by benchmark": found.chart()})


def cuts(workspace: Workspace, inputs: Inputs, config: AllCutsConfig) -> Made:
    """Find what is cut out of texts or masked in them: lines, repeats, personal data, items."""
    made = write_cuts(workspace, inputs, config)
    places = findings.count_cuts(workspace.lake, made.version)
    reasons = sorted({reason for by in places.values() for reason in by})
    report: dict[str, int | float | str] = {"places": made.rows}
    for reason in reasons:
        report[reason] = sum(by[reason].number for by in places.values() if reason in by)
    report["bytes in them"] = sum(one.num_bytes for by in places.values() for one in by.values())
    return _made(made, report)


def corpus(workspace: Workspace, inputs: Inputs, config: CorpusConfig) -> Made:
    """Gather what training may see: kept survivors with their text after cuts and their weight."""
    shares = fitted_shares(workspace)
    made, weights = corpora.build(workspace, inputs, config.mixture, shares)
    manifest = write_manifest(workspace, made.version, inputs, config.mixture, weights)
    report: dict[str, int | float | str] = {
        f"weight of {source}": round(w, 4) for source, w in sorted(weights.items())
    }
    return _made(made, report | {"manifest": str(Path(manifest) / "manifest.json")})


def mixture_fit(workspace: Workspace, inputs: Inputs, config: MixtureFitConfig) -> Made:
    """Find the shares of sources that small runs predict to be best; a later corpus reads them."""
    from datalake.mixture_chart import draw

    version = int(inputs["mixture_runs"])
    table = workspace.lake.read("mixture_runs", version)
    found = fit_mixture(Runs.of(table.to_pylist()), config)
    plot = draw(found)

    def write(draft: Path) -> None:
        (draft / "mixture_fit.json").write_text(found.model_dump_json(indent=1), encoding="utf-8")
        (draft / "mixture_fit.svg").write_text(plot, encoding="utf-8")

    folder, digest = workspace.save_artifact("mixture_fit", write)
    behind = workspace.lake.ancestry([("mixture_runs", version)])
    shares = write_fitted(
        workspace.home, found, {name: sorted(some) for name, some in sorted(behind.items())}
    )
    laws = dict(zip(found.sources, found.laws, strict=False))
    report: dict[str, int | float | str] = {
        "runs": len(found.shares),
        "target": ", ".join(
            f"{weight:.2f} {name}" for name, weight in zip(laws, found.weights, strict=True)
        ),
        "error of that sum": round(found.sum_error, 5),
        "predicted": round(found.predicted, 4),
        "predicted, natural": round(found.predicted_natural, 4),
        "gain": f"{found.gain:.2%}",
        "gain low": f"{found.gain_low:.2%}",
        "gain high": f"{found.gain_high:.2%}",
        "taken": "the best shares" if found.significant else "the natural shares: no sure gain",
        "at the border of what was tried": ", ".join(found.at_border) or "no",
        "rank correlation, held out": round(found.spearman, 3),
    }
    for place, source in enumerate(found.sources):
        report[f"natural share of {source}"] = round(found.natural[place], 4)
        report[f"best share of {source}"] = round(found.best[place], 4)
        report[f"share of {source} to train with"] = shares[source]
    for name, chosen in laws.items():
        report[f"law of {name}"] = chosen.kind
        report[f"rank correlation of {name}, held out"] = round(chosen.spearman, 3)
        for kind, miss in chosen.hold_out_errors.items():
            report[f"hold-out error of {name}, {kind}"] = round(miss, 5)
    return Made(
        version=folder,
        content=digest,
        rows=len(found.shares),
        num_bytes=folder_bytes(folder),
        report=report,
        plots={"Mixture": plot},
    )


def data_card(workspace: Workspace, inputs: Inputs, config: DataCardConfig) -> Made:
    """Count every stage and write the page that says what the corpus is made of."""
    counts = funnel.measure(workspace, inputs, config.num_samples, config.seed)
    folder, digest = workspace.save_artifact(
        "data_card", lambda draft: card.write(counts, config.title, draft)
    )
    total = {stage: counts.total(stage) for stage in funnel.STAGES}
    report: dict[str, int | float | str] = {"page": str(Path(folder) / "index.html")}
    report |= {said: total[stage].documents for stage, said in funnel.STAGES.items()}
    report["bytes in the corpus"] = total["corpus"].num_bytes
    report["tokens in the corpus, at least"] = total["corpus"].num_tokens
    report["bytes in one epoch"] = round(sum(counts.epoch_bytes.values()))
    return Made(
        version=folder,
        content=digest,
        rows=total["corpus"].documents,
        num_bytes=total["corpus"].num_bytes,
        report=report,
        plots=card.plots(counts),
    )


def _made(
    commit: Commit,
    report: Mapping[str, int | float | str],
    plots: Mapping[str, str] | None = None,
) -> Made:
    return Made(
        version=commit.version,
        content=commit.content,
        rows=commit.rows,
        num_bytes=commit.num_bytes,
        report=report,
        plots=plots or {},
    )

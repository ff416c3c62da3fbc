"""Small runs that differ in the shares of their sources alone: which to make, and how.

As RegMix does (Liu et al. 2024, arXiv:2407.01492): many small models, each on a mixture drawn from
a Dirichlet distribution around that of the data, and a regression of their losses on the shares,
which is ``mixture_fit``'s part. Theirs are 512 models of 1M parameters on 1G tokens each, and a
mixture is drawn without regard to the others. Few runs must be spread better, so of many draws
those are taken that lie far from each other (farthest first, Gonzalez 1985, in Hellinger's
distance); the first is always the mixture that the data have by themselves.

Every run has weights and an order of rows of its own, else what these do to a mixture would pass
for what the mixture does: with one seed for all, gains of 1.3 to 1.9 % were predicted, and other
seeds found 0.5 to 0.8. The runs share one fit, as those of ``sweep`` do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from datalake.config import Config, Refusal
from datalake.mixture_fit import least_runs
from datalake.schemas import TABLES
from datalake.tables import Lake
from datalake.workspace import Inputs
from training.data.mixing import Mixture, apportioned, bytes_by_source, owner
from training.data.rows import dtype_of
from training.models.accounting import train_flops_per_token
from training.models.variants import ModelConfig
from training.scaling import hyperparameters
from training.scaling.sweep import MIN_STEPS
from training.schedule import OptimizerConfig

if TYPE_CHECKING:
    from training.job import Job, Text
    from training.loop import TrainResult

DRAWS = 100  # for every mixture that is taken, as RegMix
PRIOR_POWER = 0.5  # of the natural shares around which mixtures are drawn, as RegMix
NATURAL = "natural"  # the run on the mixture that the data have


class MixtureRunsConfig(Config):
    """Which mixtures are tried, and how."""

    model: ModelConfig  # RegMix: 1M parameters predict the ranking of mixtures at 1G
    optimizer: OptimizerConfig  # rates at 512 tokens a step, see ``hyperparameters``
    flops: PositiveFloat  # of one run
    num_mixtures: int = Field(ge=2)
    sources: tuple[str, ...] | None = None  # whose shares vary, the others keep theirs; None: all
    min_share: float = Field(gt=0, lt=1)  # of a source, or half its natural share if that is less
    # Times its natural share that a source may have: beyond about four epochs repeated text is
    # worth ever less (Muennighoff et al. 2023, arXiv:2305.16264).
    max_upsampling: float = Field(default=4, gt=1)
    # Of the Dirichlet distribution, log-uniform between: few near the corners, many near the prior
    # (RegMix).
    concentrations: tuple[PositiveFloat, PositiveFloat] = Field(default=(0.1, 5.0), strict=False)
    validation_rows: PositiveInt  # of all sources together
    source_validation_rows: PositiveInt  # of each
    seed: int  # of mixtures, and of the first run; every further one adds 1
    precision: Literal["auto", "float32", "bfloat16"]
    workers: PositiveInt
    threads: PositiveInt
    retries: int = Field(ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sources is not None and len(set(self.sources)) < 2:
            raise Refusal(f"sources must name at least two, got {list(self.sources)}")
        low, high = self.concentrations
        if low > high:
            raise Refusal(f"concentrations must be a range, got {low:g} to {high:g}")
        return self

    @property
    def batch_rows(self) -> int:
        tokens = self.flops / train_flops_per_token(self.model)
        return hyperparameters.batch_rows(tokens, self.model.context_length)

    @property
    def num_rows(self) -> int:
        """Rows that a run trains on. Refuses fewer than ``MIN_STEPS`` steps."""
        flops = self.batch_rows * self.model.context_length * train_flops_per_token(self.model)
        if self.flops < MIN_STEPS * flops:
            raise Refusal(
                f"mixture_runs.flops must be at least {MIN_STEPS * flops:.3g}, {MIN_STEPS} steps "
                f"at d_model {self.model.d_model}, got {self.flops:.3g}"
            )
        return int(self.flops // flops) * self.batch_rows


@dataclass(frozen=True, slots=True, eq=False)
class RowsBySource:
    """How many bytes of each source stand in each row, in order of ``row_id``."""

    sources: tuple[str, ...]  # sorted
    train: np.ndarray  # int64 [rows, sources]
    validation: np.ndarray  # int64 [rows, sources]

    @classmethod
    def of(cls, lake: Lake, inputs: Inputs, bytes_per_token: np.ndarray) -> "RowsBySource":
        """Those of ``tokens``, by way of the documents of ``corpus``."""
        corpus = lake.read("corpus", int(inputs["corpus"]), ["doc_id", "source"])
        names, source_of = np.unique(corpus["source"].to_numpy().astype(str), return_inverse=True)
        doc_ids = corpus["doc_id"].combine_chunks()
        version = int(inputs["tokens"])
        train, validation = (
            _bytes_of_split(lake, version, split, doc_ids, source_of, len(names), bytes_per_token)
            for split in ("train", "validation")
        )
        return cls(tuple(names.tolist()), train, validation)

    @property
    def natural(self) -> np.ndarray:
        """Share of each source in the bytes of an epoch, ``[sources]``."""
        total: np.ndarray = self.train.sum(axis=0) / self.train.sum()
        return total

    def varied(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """``wanted``, or all. Refuses fewer than two, and one without rows of its own."""
        names = tuple(sorted(wanted)) if wanted is not None else self.sources
        if unknown := sorted(set(names) - set(self.sources)):
            raise Refusal(
                f"mixture_runs.sources must be among {', '.join(self.sources)} of the corpus, "
                f"got {unknown[0]}"
            )
        if len(names) < 2:
            raise Refusal(
                f"mixture_runs must have at least two sources to mix, got {', '.join(names)}"
            )
        for split, counted in (("train", self.train), ("validation", self.validation)):
            owners = owner(counted)
            for name in names:
                if not (owners == self.sources.index(name)).any():
                    raise Refusal(
                        f"mixture_runs.sources must have a row of their own in every split, got "
                        f"none of {name} in {split}; name the others, and it keeps its share"
                    )
        return names


def _bytes_of_split(
    lake: Lake,
    version: int,
    split: str,
    doc_ids: pa.Array,
    source_of: np.ndarray,
    num_sources: int,
    bytes_per_token: np.ndarray,
) -> np.ndarray:
    import pyarrow.compute as pc

    columns = ["row_id", "tokens", "vocab_size", "doc_ids", "doc_starts"]
    ids, counted = [np.empty(0, np.int64)], [np.empty((0, num_sources), np.int64)]
    for batch in lake.batches("tokens", version, columns, {"split": split}):
        dtype = dtype_of(batch["vocab_size"][0].as_py())
        tokens = np.frombuffer(b"".join(batch["tokens"].to_pylist()), dtype)
        tokens = tokens.reshape(len(batch), -1)
        place = pc.index_in(batch["doc_ids"].flatten(), doc_ids)
        if place.null_count:
            raise Refusal(f"tokens must be of the documents of corpus, got others in {split}")
        sources = source_of[place.to_numpy()]
        ids.append(batch["row_id"].to_numpy())
        counted.append(
            bytes_by_source(
                tokens,
                batch["doc_ids"],
                batch["doc_starts"],
                sources,
                num_sources,
                bytes_per_token,
            )
        )
    return np.concatenate(counted)[np.argsort(np.concatenate(ids), kind="stable")]


def design(config: MixtureRunsConfig, natural: np.ndarray) -> np.ndarray:
    """Shares of the sources that vary, ``[num_mixtures, sources]``: first the natural ones.

    ``natural`` are their shares of all text; every mixture has the same sum. Refuses too few
    mixtures for as many sources, and bounds that leave too little to choose from.
    """
    whole = natural.sum()
    if config.num_mixtures < least_runs(len(natural)):
        raise Refusal(
            f"num_mixtures must be at least {least_runs(len(natural))} for {len(natural)} sources, "
            f"got {config.num_mixtures}"
        )
    prior = (natural / whole) ** PRIOR_POWER
    prior /= prior.sum()
    least = np.minimum(config.min_share, natural / 2)
    most = config.max_upsampling * natural
    random = np.random.default_rng(config.seed)
    low, high = np.log(config.concentrations)
    strengths = np.exp(random.uniform(low, high, DRAWS * config.num_mixtures))
    draws = np.stack([random.dirichlet(prior * strength) for strength in strengths])
    draws = least + draws * (whole - least.sum())
    draws = draws[(draws <= most + 1e-12).all(axis=1)]
    places = np.sqrt(np.vstack([natural, draws]))
    chosen, away = [0], np.full(len(places), np.inf)
    while len(chosen) < config.num_mixtures:
        away = np.minimum(away, np.linalg.norm(places - places[chosen[-1]], axis=1))
        if (farthest := int(away.argmax())) in chosen:
            raise Refusal(
                f"min_share and max_upsampling must leave {config.num_mixtures} mixtures to "
                f"choose from, got {len(chosen)}"
            )
        chosen.append(farthest)
    mixtures: np.ndarray = np.vstack([natural, draws])[chosen]
    return mixtures


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MixtureRuns:
    """The runs to make, as a worker is told: jobs, and which rows each reads in which order."""

    jobs: tuple["Job", ...]
    counts: np.ndarray  # int64 [runs, sources]: rows that a run reads of each
    row_sources: np.ndarray  # int64 [train rows]: see ``owner``
    validation_rows: Mapping[str, np.ndarray]  # of each source that varies

    def order(self, run: int) -> Mixture:
        """Of its rows; a block is the whole run."""
        return Mixture(self.row_sources, self.counts[run], self.jobs[run].config.seed)


def runs_of(
    config: MixtureRunsConfig, text: "Text", by_source: RowsBySource, folder: Path
) -> MixtureRuns:
    """The runs of ``design``, each in a folder of its own below ``folder``."""
    from training.job import Job
    from training.pretraining import TrainConfig

    sources = by_source.sources
    varied = [sources.index(name) for name in by_source.varied(config.sources)]
    shares = np.tile(by_source.natural, (config.num_mixtures, 1))
    shares[:, varied] = design(config, by_source.natural[varied])
    owners = owner(by_source.train)
    # Bytes of a row, so that shares of bytes hold where tokens of sources differ in length.
    num_own = np.bincount(owners[owners >= 0], minlength=len(sources))
    bytes_per_row = np.array([by_source.train[owners == s].sum() for s in range(len(sources))])
    rows_per_byte = np.divide(num_own, bytes_per_row, where=num_own > 0, out=np.zeros(len(sources)))
    counts = np.stack([apportioned(mixture * rows_per_byte, config.num_rows) for mixture in shares])
    if not counts[:, varied].all():
        raise Refusal(
            f"min_share must give every source a row of the {config.num_rows} of a run, "
            f"got {config.min_share:g}"
        )
    train_config = TrainConfig(
        model=config.model,
        optimizer=hyperparameters.rates(
            config.optimizer, config.batch_rows * config.model.context_length
        ),
        flops=config.flops,
        batch_rows=config.batch_rows,
        validation_rows=config.validation_rows,
        checkpoint_steps=config.num_rows // config.batch_rows,  # a run that is lost is made again
        seed=config.seed,
        precision=config.precision,
    )
    names = [NATURAL, *(f"mixture-{k:02d}" for k in range(1, config.num_mixtures))]
    return MixtureRuns(
        jobs=tuple(
            Job(
                config=train_config.model_copy(update={"seed": config.seed + number}),
                text=text,
                folder=folder / name,
            )
            for number, name in enumerate(names)
        ),
        counts=counts,
        row_sources=owners,
        validation_rows={
            sources[s]: _spread(
                np.flatnonzero(owner(by_source.validation) == s), config.source_validation_rows
            )
            for s in varied
        },
    )


def _spread(rows: np.ndarray, number: int) -> np.ndarray:
    """At most ``number`` of ``rows``, evenly: neighbours come from the same documents."""
    return rows[np.linspace(0, len(rows) - 1, min(number, len(rows))).round().astype(np.int64)]


def train_all(runs: MixtureRuns, rank: int, world: int) -> None:
    """One rank's part: train, alone, each run that no other rank has taken; as in ``sweep``."""
    from training.job import read
    from training.loop import finished
    from training.pretraining import train
    from training.scaling.sweep import taken

    text = runs.jobs[0].text
    rows, validation_rows = read(text)
    parts = {name: validation_rows.take(ids) for name, ids in runs.validation_rows.items()}
    for number, job in enumerate(runs.jobs):
        with taken(job.folder) as mine:
            if mine and finished(job.folder) is None:
                train(
                    job.config,
                    rows,
                    validation_rows,
                    text.bytes_per_token,
                    job.folder,
                    order=runs.order(number),
                    validation_parts=parts,
                )


def table(runs: MixtureRuns, by_source: RowsBySource, results: Sequence["TrainResult"]) -> pa.Table:
    """The rows of ``mixture_runs``; shares are those of the rows that were read."""
    varied = tuple(runs.validation_rows)
    names = (*varied, *(name for name in by_source.sources if name not in varied))
    columns = [by_source.sources.index(name) for name in names]
    natural = by_source.natural[columns].tolist()
    rows = []
    for number, (job, result) in enumerate(zip(runs.jobs, results, strict=True)):
        ids = runs.order(number).ids(np.arange(runs.counts[number].sum()))
        read = by_source.train[ids].sum(axis=0)
        rows.append(
            {
                "run": job.folder.name,
                "sources": names,
                "shares": (read / read.sum())[columns].tolist(),
                "natural": natural,
                "losses": [result.numbers[f"loss/{name}"] for name in varied],
                "loss": result.loss,
                "flops": result.flops,
                "num_tokens": result.tokens,
                "seconds": result.seconds,
            }
        )
    return pa.Table.from_pylist(rows, schema=TABLES["mixture_runs"].arrow)

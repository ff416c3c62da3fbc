"""Small runs on mixtures of two sources, on real workers, and what is made of them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import datalake.run
from datalake.config import Refusal
from datalake.mixture import FITTED, FittedConfig, fitted_shares, source_weights
from datalake.mixture_fit import MixtureFitConfig, least_runs
from datalake.schemas import TABLES
from datalake.workspace import Inputs, Made, Workspace
from training import run
from training.models.presets.own import tarn
from training.scaling.mixtures import MixtureRunsConfig, RowsBySource, design
from training.schedule import OptimizerConfig
from training.tokenizer.bpe import Tokenizer

CONTEXT = 32
WORDS = {
    "code": ("def", "return", "import", "(", ")", ":", "=", "self", "None", "\n"),
    "web": ("the", "page", "says", "of", "reader", "and", "a", "shows", ".", ","),
    "pdf": ("abstract", "theorem", "proof", "figure"),
}
MODEL = tarn(vocab_size=300, context_length=CONTEXT, d_model=16, num_layers=1, num_heads=1)
COUNTS = {"code": 60, "web": 180}


def _documents(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    random = np.random.default_rng(0)
    for source, count in counts.items():
        for _ in range(count):
            words = [WORDS[source][i] for i in random.zipf(1.5, 200) % len(WORDS[source])]
            yield source, " ".join(words)


def _inputs(workspace: Workspace, counts: Mapping[str, int]) -> Inputs:
    rows = [
        {
            **dict.fromkeys(TABLES["corpus"].arrow.names, ""),
            "doc_id": f"{number:032x}",
            "cluster": f"{number:032x}",
            "source": source,
            "offset": 0,
            "length": len(text),
            "num_bytes": len(text),
            "num_tokens": len(text.split()),
            "weight": 1.0,
            "text": text,
        }
        for number, (source, text) in enumerate(_documents(counts))
    ]
    corpus = workspace.lake.overwrite(
        "corpus", pa.Table.from_pylist(rows, schema=TABLES["corpus"].arrow)
    )
    made = run.tokenizer(
        workspace,
        {"corpus": corpus.version},
        run.TokenizerConfig(vocab_size=300, pattern="cl100k_digits"),
    )
    tokens = run.tokens(
        workspace,
        {"corpus": corpus.version, "tokenizer": made.version},
        run.TokensConfig(context_length=CONTEXT, validation_fraction=0.1, seed=0),
    )
    return {"tokens": tokens.version, "tokenizer": made.version, "corpus": corpus.version}


def settings(**changes: Any) -> MixtureRunsConfig:
    given = {
        "model": MODEL,
        "optimizer": OptimizerConfig(),
        "flops": 40 * 2 * CONTEXT * 60_000,
        "num_mixtures": 6,
        "min_share": 0.05,
        "validation_rows": 40,
        "source_validation_rows": 20,
        "seed": 0,
        "precision": "float32",
        "workers": 2,
        "threads": 1,
        "retries": 0,
    }
    return MixtureRunsConfig(**(given | changes))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(home=tmp_path_factory.mktemp("mixtures"), say=lambda line: None)


@pytest.fixture(scope="module")
def inputs(workspace: Workspace) -> Inputs:
    return _inputs(workspace, COUNTS)


@pytest.fixture(scope="module")
def made(workspace: Workspace, inputs: Inputs) -> Made:
    return run.mixture_runs(workspace, inputs, settings())


@pytest.fixture(scope="module")
def rows(workspace: Workspace, made: Made) -> list[dict[str, Any]]:
    return workspace.lake.read("mixture_runs", int(made.version)).to_pylist()


@given(
    st.lists(st.integers(1, 10**6), min_size=2, max_size=6),
    st.floats(0.001, 0.2),
    st.integers(0, 2**32),
    st.floats(0.3, 1),
)
def test_mixtures_are_whole_within_their_bounds_and_the_same_every_time(
    sizes: list[int], min_share: float, seed: int, whole: float
) -> None:
    natural = np.array(sizes) / sum(sizes) * whole
    number = least_runs(len(sizes))
    config = settings(num_mixtures=number, min_share=min_share, seed=seed, max_upsampling=8.0)
    mixtures = design(config, natural)
    assert mixtures.shape == (number, len(sizes))
    assert mixtures.sum(axis=1) == pytest.approx(whole)
    assert (mixtures >= np.minimum(min_share, natural / 2) * (1 - 1e-9)).all()
    assert (mixtures <= 8 * natural * (1 + 1e-9)).all()
    assert mixtures[0] == pytest.approx(natural)
    assert (mixtures == design(config, natural)).all()


def test_few_mixtures_of_two_sources_cover_what_is_between_the_bounds() -> None:
    natural = np.array([0.3, 0.7])
    web = np.sort(design(settings(num_mixtures=12, max_upsampling=10.0), natural)[:, 0])
    assert web[0] == pytest.approx(0.05, abs=0.01) and web[-1] == pytest.approx(0.95, abs=0.01)
    assert np.diff(web).max() < 0.16


def test_another_seed_tries_other_mixtures() -> None:
    natural = np.array([0.3, 0.7])
    one, other = (design(settings(seed=seed), natural) for seed in (1, 2))
    assert not np.allclose(one, other)


@pytest.mark.slow  # workers of Ray start for it
def test_every_run_is_a_row_with_the_shares_that_it_read(
    made: Made, rows: list[dict[str, Any]]
) -> None:
    assert made.rows == len(rows) == 6
    assert [row["run"] for row in rows] == ["natural", *(f"mixture-0{k}" for k in range(1, 6))]
    for row in rows:
        assert row["sources"] == ["code", "web"]
        assert sum(row["shares"]) == pytest.approx(1) and sum(row["natural"]) == pytest.approx(1)
        assert all(0.2 < loss < 8 for loss in (*row["losses"], row["loss"]))
        assert row["num_tokens"] == settings().num_rows * CONTEXT
        assert row["flops"] == pytest.approx(settings().flops, rel=0.05)
    # Rows of two sources blur a share by some points: a row is 32 tokens, a document 200 words.
    assert rows[0]["shares"] == pytest.approx(rows[0]["natural"], abs=0.05)
    assert np.ptp([row["shares"][0] for row in rows]) > 0.6


@pytest.mark.slow  # workers of Ray start for it
def test_more_text_of_a_source_lowers_its_loss(rows: list[dict[str, Any]]) -> None:
    for source in (0, 1):
        ranked = sorted(rows, key=lambda row: row["shares"][source])
        assert ranked[-1]["losses"][source] < ranked[0]["losses"][source] - 0.05


@pytest.mark.slow  # workers of Ray start for it
def test_a_second_materialization_finds_the_finished_runs(
    workspace: Workspace, inputs: Inputs, made: Made
) -> None:
    again = run.mixture_runs(workspace, inputs, settings(workers=1, retries=3))
    assert (again.version, again.content) == (made.version, made.content)
    assert again.report["MLflow run"] == made.report["MLflow run"]


@pytest.mark.slow  # workers of Ray start for it
def test_the_shares_of_small_runs_reach_the_corpus_through_data(
    workspace: Workspace, made: Made
) -> None:
    config = MixtureFitConfig(target={"code": 1.0}, num_resamples=100)
    fit = datalake.run.mixture_fit(workspace, {"mixture_runs": made.version}, config)
    shares = fitted_shares(workspace)
    assert shares is not None and sum(shares.values()) == pytest.approx(1)
    assert fit.report["taken"] == "the best shares"
    assert shares["code"] > 0.5 > float(fit.report["natural share of code"])
    said = json.loads((workspace.home / FITTED).read_text())
    assert said["from"]["mixture_runs"] == [made.version]
    assert set(said["from"]) == {"mixture_runs", "tokens", "encoded", "corpus"}
    assert said["predicted"]["significant"] and said["predicted"]["gain_low"] > 0
    fitted = FittedConfig(kind="fitted", shares={"code": 0.5, "web": 0.5})
    weights = source_weights(fitted, {"code": 100, "web": 100}, shares)
    assert weights["code"] / weights["web"] == pytest.approx(shares["code"] / shares["web"])
    assert (Path(str(fit.version)) / "mixture_fit.svg").stat().st_size < 100_000
    assert fit == datalake.run.mixture_fit(workspace, {"mixture_runs": made.version}, config)


def test_a_source_that_is_not_named_keeps_its_share(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace(home=tmp_path, say=lambda line: None)
    some = _inputs(other, {"code": 40, "pdf": 3, "web": 60})
    bytes_per_token = Tokenizer.load(str(some["tokenizer"])).bytes_per_token
    by_source = RowsBySource.of(other.lake, some, bytes_per_token)
    assert by_source.sources == ("code", "pdf", "web")
    from training.job import Text
    from training.scaling.mixtures import runs_of

    text = Text.of(other, some, MODEL)
    runs = runs_of(settings(sources=("web", "code")), text, by_source, tmp_path)
    pdf = runs.counts[:, 1]
    assert np.ptp(pdf) <= 1 and tuple(runs.validation_rows) == ("code", "web")
    assert (runs.counts.sum(axis=1) == settings().num_rows).all()


def test_one_source_is_refused() -> None:
    rows = np.array([[9], [9]])
    with pytest.raises(Refusal) as refusal:
        RowsBySource(("code",), rows, rows).varied(None)
    assert str(refusal.value) == "mixture_runs must have at least two sources to mix, got code"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sources": ("web", "pdf")},
            "mixture_runs.sources must be among code, web of the corpus, got pdf",
        ),
        ({"num_mixtures": 5}, "num_mixtures must be at least 6 for 2 sources, got 5"),
        (
            {"min_share": 0.001},
            "min_share must give every source a row of the 94 of a run, got 0.001",
        ),
        ({"flops": 1e6}, r"mixture_runs.flops must be at least 6.45e\+07, 20 steps at d_model 16"),
        (
            {"max_upsampling": 1.00001},
            "min_share and max_upsampling must leave 6 mixtures to choose from, got [1-5]",
        ),
    ],
)
def test_what_cannot_be_tried_is_refused_before_any_worker_starts(
    workspace: Workspace, inputs: Inputs, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refusal, match=message):
        run.mixture_runs(workspace, inputs, settings(**changes))


def test_a_source_without_rows_of_its_own_is_refused() -> None:
    train, validation = np.array([[9, 0], [0, 9], [1, 8]]), np.array([[9, 2]])
    with pytest.raises(Refusal, match="got none of web in validation; name the others"):
        RowsBySource(("code", "web"), train, validation).varied(None)


def test_tokens_of_another_corpus_are_refused(workspace: Workspace, inputs: Inputs) -> None:
    table = workspace.lake.read("corpus", int(inputs["corpus"]))
    fewer = workspace.lake.overwrite("corpus", table.slice(5))
    other = {**inputs, "corpus": fewer.version}
    with pytest.raises(Refusal, match="tokens must be of the documents of corpus, got others"):
        RowsBySource.of(workspace.lake, other, np.ones(300, np.int64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ("web", "web")}, "sources must name at least two"),
        ({"concentrations": (5.0, 0.1)}, "concentrations must be a range, got 5 to 0.1"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changes)

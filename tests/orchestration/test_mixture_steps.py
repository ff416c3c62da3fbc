"""The steps that fit a mixture: in the graph where they are asked for, and no circle in it."""

import json
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from datalake.mixture import FITTED
from datalake.schemas import TABLES
from datalake.workspace import Workspace
from orchestration.assets import mixtures, steps
from orchestration.recipe import Recipe, load_recipe
from orchestration.step import Step

FITS = {
    "extends": "smoke",
    "datalake": {
        "corpus": {"mixture": {"kind": "fitted", "shares": {"web": 0.5, "code": 0.5}}},
        "mixture_fit": {"target": {"web": 1.0, "code": 1.0}},
    },
    "training": {
        "mixture_runs": {
            "model": {
                "preset": "tarn",
                "vocab_size": 1024,
                "context_length": 96,
                "d_model": 8,
                "num_layers": 2,
                "num_heads": 2,
            },
            "optimizer": {},
            "flops": 1e9,
            "num_mixtures": 8,
            "sources": ["web", "code"],
            "min_share": 0.05,
            "validation_rows": 64,
            "source_validation_rows": 32,
            "seed": 1,
            "precision": "float32",
            "workers": 2,
            "threads": 1,
            "retries": 1,
        }
    },
}


LOAD = """
import dagster as dg
from orchestration.definitions import STEPS, defs
dg.Definitions.validate_loadable(defs)
defs.get_repository_def().load_all_definitions()
print(*(step.key for step in STEPS))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fits.yaml"
    path.write_text(yaml.safe_dump(FITS))
    return path


@pytest.fixture
def recipe(file: Path) -> Recipe:
    return load_recipe(str(file))


def _inputs(graph: tuple[Step, ...]) -> dict[str, tuple[str, ...]]:
    return {step.key: step.inputs for step in graph}


def test_the_graph_loads_with_them_and_has_no_circle(recipe: Recipe) -> None:
    graph = steps(recipe)
    inputs = _inputs(graph)
    assert inputs["mixture_runs"] == ("tokens", "tokenizer", "corpus")
    assert inputs["mixture_fit"] == ("mixture_runs",)
    assert "mixture_fit" not in inputs["corpus"]
    assert list(TopologicalSorter(inputs).static_order())  # raises CycleError
    keys = [step.key for step in graph]
    assert all(keys.index(key) < keys.index(step.key) for step in graph for key in step.inputs)
    assert "mixture_runs" in TABLES
    for step in graph:
        assert callable(step.builder) and step.section(recipe) is not None


def test_the_code_location_loads_whole_with_them(file: Path) -> None:
    environment = os.environ | {"TARN_RECIPE": str(file)}
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True
    )
    assert loaded.returncode == 0, loaded.stderr
    assert {"mixture_runs", "mixture_fit"} <= set(loaded.stdout.split())


def test_the_graph_of_other_recipes_is_without_them() -> None:
    for name in ("tiny", "smoke"):
        found = load_recipe(name)
        assert found.training.mixture_runs is None
        assert not {"mixture_runs", "mixture_fit"} & _inputs(steps(found)).keys()


def test_a_new_fit_makes_the_corpus_stale_and_the_same_shares_do_not(
    recipe: Recipe, workspace: Workspace
) -> None:
    (corpus,) = (step for step in steps(recipe) if step.key == "corpus")
    seen = [corpus.watched(recipe, workspace)]
    file = workspace.home / FITTED
    file.parent.mkdir(parents=True)
    for said in (
        {"shares": {"web": 0.3, "code": 0.7}, "from": {"mixture_runs": [1]}},
        {"shares": {"code": 0.7, "web": 0.3}, "from": {"mixture_runs": [2]}},
        {"shares": {"code": 0.6, "web": 0.4}, "from": {"mixture_runs": [3]}},
    ):
        file.write_text(json.dumps(said))
        seen.append(corpus.watched(recipe, workspace))
    assert seen[0] != seen[1] == seen[2] != seen[3]
    assert mixtures.watched(load_recipe("tiny"), workspace) == ""

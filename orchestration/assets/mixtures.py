"""Mixture: how much of each source is best, as small runs say.

Only in the graph of a recipe that says how to make them. The shares that are fitted here decide
the next corpus, and the small runs read the present one: a circle in time, not in the graph. The
corpus reads what an earlier run of ``mixture_fit`` left, watches it as a source watches the world,
and so is stale once a fit has found other shares. The circle comes to rest when no other shares
are surely better than those that the corpus has.
"""

import json

from datalake.mixture import FittedConfig, fitted_shares
from datalake.workspace import Workspace
from orchestration.recipe import Recipe
from orchestration.step import Step
from training.scaling.mixtures import MixtureRunsConfig


def steps(recipe: Recipe) -> tuple[Step, ...]:
    """Small runs and their fit, where ``recipe`` has them."""
    return _STEPS if recipe.training.mixture_runs else ()


def watched(recipe: Recipe, workspace: Workspace) -> str:
    """The shares that a corpus of a fitted mixture would be made with now."""
    if not isinstance(recipe.datalake.corpus.mixture, FittedConfig):
        return ""
    return json.dumps(fitted_shares(workspace), sort_keys=True)


def _runs(recipe: Recipe) -> MixtureRunsConfig:
    assert recipe.training.mixture_runs is not None  # else the step is not in the graph
    return recipe.training.mixture_runs


_STEPS = (
    Step(
        key="mixture_runs",
        group="scaling",
        inputs=("tokens", "tokenizer", "corpus"),
        build="training.run:mixture_runs",
        section=_runs,
        kinds=("ray", "pytorch", "deltalake"),
        says="Small trainings that differ in the shares of their sources, inside one Ray fit.",
        tells=("runs", "FLOPs"),
    ),
    Step(
        key="mixture_fit",
        group="scaling",
        inputs=("mixture_runs",),
        build="datalake.run:mixture_fit",
        section=lambda recipe: recipe.datalake.mixture_fit,
        kinds=("numpy",),
        says="Shares of sources that small runs predict to be best; a later corpus reads them.",
        tells=("gain", "taken", "rank correlation, held out"),
    ),
)

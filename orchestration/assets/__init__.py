"""The lineage graph as a list to read: one file per group, in order of dependence."""

from orchestration.assets import (
    alignment,
    curation,
    evaluation,
    ingestion,
    mixtures,
    pretraining,
    scaling,
    tokens,
)
from orchestration.recipe import Recipe
from orchestration.step import Step


def steps(recipe: Recipe) -> tuple[Step, ...]:
    """Every asset of the graph that ``recipe`` describes."""
    return (
        *ingestion.steps(recipe),
        alignment.INSTRUCTIONS,
        *curation.steps(recipe),
        *tokens.STEPS,
        *mixtures.steps(recipe),
        *scaling.STEPS,
        *pretraining.STEPS,
        *alignment.STEPS,
        *evaluation.STEPS,
    )

"""Curation: from everything that was found to what is worth training on."""

from typing import TypeVar

from datalake.filters.scoring.scorers import ScorersConfig
from orchestration.assets import mixtures
from orchestration.assets.ingestion import raw_tables
from orchestration.recipe import Recipe
from orchestration.step import Step


def steps(recipe: Recipe) -> tuple[Step, ...]:
    """From the raw tables of the recipe to the corpus and its card."""
    raw = raw_tables(recipe)
    scorers = (_SCORERS,) if recipe.datalake.scorers else ()
    contamination = (_CONTAMINATION,) if recipe.datalake.contamination else ()
    return (
        Step(
            key="documents",
            group="curation",
            inputs=raw,
            build="datalake.run:documents",
            section=lambda recipe: recipe.datalake.documents,
            kinds=("spark", "deltalake"),
            says="The text of every record, with title, language and encoding.",
            tells=(
                "bytes of text",
                "without text",
            ),
        ),
        *scorers,
        Step(
            key="signals",
            group="curation",
            inputs=("documents", *(step.key for step in scorers)),
            build="datalake.run:signals",
            section=lambda recipe: recipe.datalake.signals,
            code=2,
            kinds=("spark", "deltalake"),
            says="Measurements of each document and its MinHash band keys; no decision.",
            tells=("measured now", "taken over"),
        ),
        Step(
            key="kept",
            group="curation",
            inputs=("signals",),
            build="datalake.run:kept",
            section=lambda recipe: recipe.datalake.kept,
            code=2,
            kinds=("spark", "deltalake"),
            says="For each document, whether it is kept, or the first rule that dropped it.",
            tells=(
                "kept",
                "dropped",
            ),
        ),
        Step(
            key="duplicates",
            group="curation",
            inputs=("signals", "kept"),
            build="datalake.run:duplicates",
            section=lambda recipe: recipe.datalake.duplicates,
            code=2,
            kinds=("spark", "deltalake"),
            says="Clusters of exact and near duplicates among kept documents, and who survives.",
            tells=(
                "survivors",
                "exact copies",
                "near copies",
            ),
        ),
        *contamination,
        Step(
            key="cuts",
            group="curation",
            inputs=("documents", "duplicates", *(step.key for step in contamination)),
            build="datalake.run:cuts",
            section=lambda recipe: recipe.datalake.all_cuts,
            kinds=("spark", "deltalake"),
            says="What is removed from texts or masked in them: lines, repeats, personal data.",
            tells=("places", "bytes in them"),
        ),
        Step(
            key="corpus",
            group="curation",
            inputs=("documents", "duplicates", "cuts"),
            build="datalake.run:corpus",
            section=lambda recipe: recipe.datalake.corpus,
            code=2,
            kinds=("spark", "deltalake"),
            watched=mixtures.watched,
            says="What training may see: kept, deduplicated, cut, licence allowed, weighted.",
        ),
        Step(
            key="data_card",
            group="curation",
            inputs=(
                *raw,
                "documents",
                "signals",
                "kept",
                "duplicates",
                *(step.key for step in contamination),
                "cuts",
                "corpus",
            ),
            build="datalake.run:data_card",
            section=lambda recipe: recipe.datalake.data_card,
            code=2,
            kinds=("python",),
            says="Counts, bytes, licences and reasons per stage and source, as a page.",
            tells=(
                "found",
                "bytes in the corpus",
            ),
        ),
    )


T = TypeVar("T")


def _given(section: T | None) -> T:
    assert section is not None  # the step is in the graph only where there is one
    return section


# Only in the graph of a recipe that names them.
_SCORERS = Step(
    key="scorers",
    group="curation",
    inputs=("documents",),
    build="datalake.run:scorers",
    section=lambda recipe: ScorersConfig(scorers=recipe.datalake.scorers),
    kinds=("spark", "numba"),
    says="Classifiers, language models and word lists that give a document a number.",
)
_CONTAMINATION = Step(
    key="contamination",
    group="curation",
    inputs=("documents", "duplicates", "instructions"),
    build="datalake.run:contamination",
    section=lambda recipe: _given(recipe.datalake.contamination),
    kinds=("spark", "deltalake"),
    says="Where items of the evaluations stand in the documents.",
    tells=("documents with an item", "documents acted upon"),
)

"""Curation: from everything that was found to what is worth training on."""

from orchestration.assets.ingestion import raw_tables
from orchestration.recipe import Recipe
from orchestration.step import Step


def steps(recipe: Recipe) -> tuple[Step, ...]:
    """From the raw tables of the recipe to the corpus and its card."""
    raw = raw_tables(recipe)
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
        Step(
            key="signals",
            group="curation",
            inputs=("documents",),
            build="datalake.run:signals",
            section=lambda recipe: recipe.datalake.signals,
            kinds=("spark", "deltalake"),
            says="Measurements of each document and its MinHash band keys; no decision.",
        ),
        Step(
            key="kept",
            group="curation",
            inputs=("signals",),
            build="datalake.run:kept",
            section=lambda recipe: recipe.datalake.kept,
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
            kinds=("spark", "deltalake"),
            says="Clusters of exact and near duplicates among kept documents, and who survives.",
            tells=(
                "survivors",
                "exact copies",
                "near copies",
            ),
        ),
        Step(
            key="corpus",
            group="curation",
            inputs=("documents", "kept", "duplicates"),
            build="datalake.run:corpus",
            section=lambda recipe: recipe.datalake.corpus,
            kinds=("spark", "deltalake"),
            says="What training may see: kept, deduplicated, licence allowed, weighted.",
        ),
        Step(
            key="data_card",
            group="curation",
            inputs=(*raw, "documents", "kept", "duplicates", "corpus"),
            build="datalake.run:data_card",
            section=lambda recipe: recipe.datalake.data_card,
            kinds=("python",),
            says="Counts, bytes, licences and reasons per stage and source, as a page.",
            tells=(
                "found",
                "bytes in the corpus",
            ),
        ),
    )

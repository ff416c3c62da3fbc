"""Ingestion: the bytes as they came, with where, when and under which licence."""

from functools import partial

from datalake.sources.catalogue import RAW_TABLES, Sources
from datalake.workspace import Workspace
from orchestration.automation import waiting
from orchestration.recipe import Recipe
from orchestration.step import Step

_SAYS = {
    "raw/web": "Pages: crawled politely over HTTP, or from archives such as Common Crawl's.",
    "raw/code": "Source files of repositories and of installed packages, by commit or version.",
    "raw/wikipedia": "Articles of MediaWiki dumps, as wikitext.",
    "raw/arxiv": "Papers as LaTeX bundles, with the licence that their authors chose.",
    "raw/pdf": "PDF files.",
    "raw/directories": "Documents of folder trees: HTML, Markdown, notebooks, Office, mail.",
    "raw/tables": "Texts of Parquet, JSON lines, CSV, Delta tables and datasets.",
}


def raw_tables(recipe: Recipe) -> tuple[str, ...]:
    """The raw tables that a source of ``recipe`` fills, in the order of the graph."""
    filled = {source.table for source in recipe.datalake.sources.values()}
    return tuple(table for table in RAW_TABLES if table in filled)


def steps(recipe: Recipe) -> tuple[Step, ...]:
    """One asset for every raw table that the recipe fills."""
    return tuple(
        Step(
            key=table,
            group="ingestion",
            build="datalake.run:raw",
            section=partial(_section, table=table),
            kinds=("python", "deltalake"),
            watched=partial(_watched, table=table),
            says=_SAYS[table],
            tells=("payload_mb", "unchanged", "gone"),
        )
        for table in raw_tables(recipe)
    )


def _section(recipe: Recipe, table: str) -> Sources:
    return recipe.datalake.of_table(table)


def _watched(recipe: Recipe, workspace: Workspace, table: str) -> str:
    """What the sources of ``table`` watch, and for pages the archives in the inbox."""
    seen = [source.watched() for source in recipe.datalake.of_table(table).sources.values()]
    if table == "raw/web":
        seen.append(waiting(workspace))
    return "\n".join(line for line in seen if line)

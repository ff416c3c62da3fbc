"""Ingestion: the bytes as they came, with where, when and under which licence."""

from orchestration.step import Step

STEPS = (
    Step(
        key="raw/web",
        group="ingestion",
        build="datalake.run:raw_web",
        section=lambda recipe: recipe.datalake.web,
        kinds=("python", "deltalake"),
        says="Pages fetched politely over HTTP into WARC files, one row a response.",
    ),
    Step(
        key="raw/code",
        group="ingestion",
        build="datalake.run:raw_code",
        section=lambda recipe: recipe.datalake.code,
        kinds=("python", "deltalake"),
        says="Source files of installed packages, with version, path and SPDX licence.",
    ),
)

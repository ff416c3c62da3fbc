"""Ingestion: the bytes as they came, with where, when and under which licence."""

from datalake.sources.packages import installed_versions
from orchestration.automation import waiting
from orchestration.step import Step

STEPS = (
    Step(
        key="raw/web",
        group="ingestion",
        build="datalake.run:raw_web",
        section=lambda recipe: recipe.datalake.web,
        kinds=("python", "deltalake"),
        watched=lambda recipe, workspace: waiting(workspace),
        says="Pages fetched politely over HTTP into WARC files, one row a response.",
        tells=(
            "payload_mb",
            "rows_per_second",
        ),
    ),
    Step(
        key="raw/code",
        group="ingestion",
        build="datalake.run:raw_code",
        section=lambda recipe: recipe.datalake.code,
        kinds=("python", "deltalake"),
        watched=lambda recipe, workspace: installed_versions(recipe.datalake.code),
        says="Source files of installed packages, with version, path and SPDX licence.",
        tells=("payload_mb",),
    ),
)

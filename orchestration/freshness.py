"""What did not change is not recomputed: one rule for terminal, UI, schedule and sensor.

An asset is fresh when its last materialization was made by the same code version (the digest of a
number raised by hand and of the asset's section of the recipe) from inputs of the same content,
when what it made still exists, and, for a source, when it is young and what it watches outside did
not change. The body of every asset asks this first; the command line asks it before a run, without
starting Spark or Ray.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.workspace import Version, Workspace
from orchestration.recipe import Recipe
from orchestration.step import Step

VERSION = "tarn/version"
MADE_AT = "tarn/made_at"
WATCHED = "tarn/watched"
CONTENT = "dagster/data_version"
NEVER = "never made"
_CODE = "dagster/code_version"
_INPUT = "dagster/input_data_version/"


@dataclass(frozen=True)
class Last:
    """The last materialization of an asset."""

    version: Version
    content: str
    tags: Mapping[str, str]
    metadata: Mapping[str, dg.MetadataValue]

    def value(self, name: str) -> Any:
        """One metadata value, or None where it is missing."""
        found = self.metadata.get(name)
        return None if found is None else found.value


def last(instance: dg.DagsterInstance, key: str) -> Last | None:
    """The last materialization of ``key``, or None where it never was made."""
    event = instance.get_latest_materialization_event(dg.AssetKey(key.split("/")))
    made = event.asset_materialization if event else None
    if made is None or VERSION not in made.metadata:
        return None
    tags = made.tags or {}
    return Last(made.metadata[VERSION].value, tags.get(CONTENT, ""), tags, made.metadata)


def code_version(step: Step, recipe: Recipe) -> str:
    """Digest of the step's own number and of its section of the recipe."""
    section = step.section(recipe)
    said = json.dumps([step.code, section.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def why_stale(
    instance: dg.DagsterInstance, step: Step, recipe: Recipe, workspace: Workspace
) -> str | None:
    """Why ``step`` has to be computed, or None where its last materialization still holds."""
    made = last(instance, step.key)
    if made is None:
        return NEVER
    if made.tags.get(_CODE) != code_version(step, recipe):
        return "its recipe or code changed"
    for key in step.inputs:
        upstream = last(instance, key)
        if upstream is None or upstream.content != made.tags.get(_INPUT + key):
            return f"{key} changed"
    if not exists(workspace, step.key, made.version):
        return "what it made is gone"
    age = (time.time() - (made.value(MADE_AT) or 0)) / 3600
    limit = recipe.orchestration.max_age_hours.get(step.key)
    if limit is not None and age > limit:
        return f"older than {limit:g} hours"
    if made.value(WATCHED) != step.watched(recipe, workspace):
        return "what it reads outside changed"
    return None


def stale(
    instance: dg.DagsterInstance, steps: Iterable[Step], recipe: Recipe, workspace: Workspace
) -> dict[str, str]:
    """Reason for each step that a run would compute; what hangs on it may turn out unchanged."""
    reasons: dict[str, str] = {}
    for step in steps:  # in order of dependence
        if reason := why_stale(instance, step, recipe, workspace):
            reasons[step.key] = reason
    return reasons


def exists(workspace: Workspace, key: str, version: Version) -> bool:
    """Whether a version still is there: a Delta version with all its parts, or a folder."""
    if key not in TABLES:
        return Path(str(version)).is_dir()
    try:
        files = workspace.lake.files(key, int(version))
    except Exception:  # whatever keeps a table from opening, it has to be made again
        return False
    return all("://" in file or Path(file).exists() for file in files)


def input_versions(instance: dg.DagsterInstance, step: Step) -> dict[str, Version]:
    """Version of each input's last materialization, which is what the step reads."""
    versions: dict[str, Version] = {}
    for key in step.inputs:
        made = last(instance, key)
        if made is None:
            raise Refusal(f"{key} must be materialized before {step.key}, got no version of it")
        versions[key] = made.version
    return versions

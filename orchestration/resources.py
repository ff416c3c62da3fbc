"""Environment variables, read here and nowhere else: where Tarn lives and which services it uses.

| variable | meaning | without it |
| --- | --- | --- |
| ``TARN_HOME`` | folder of all state | ``var`` beside the rooms |
| ``TARN_RECIPE`` | name of a recipe or path of a YAML file | ``tiny`` |
| ``TARN_LAKE`` | URI of the Delta tables | ``$TARN_HOME/lake`` |
| ``TARN_SPARK_MASTER`` | Spark cluster, ``spark://host:7077`` | ``local[*]`` |
| ``TARN_RAY_ADDRESS`` | Ray cluster, ``host:6379`` | Ray inside the process tree |
| ``MLFLOW_TRACKING_URI`` | MLflow server | a database below ``$TARN_HOME/mlflow`` |
| ``DAGSTER_HOME`` | Dagster's instance | ``$TARN_HOME/dagster`` |
"""

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from datalake.workspace import Workspace
from orchestration.recipe import Recipe, load_recipe

_DAGSTER_YAML = """\
# Written by Tarn. One run at a time: two would start two JVMs and two Rays on one machine.
telemetry: {enabled: false}
nux: {enabled: false}
concurrency: {runs: {max_concurrent_runs: 1}}
run_monitoring: {enabled: true}
"""


def home() -> Path:
    """Folder of all state, absolute."""
    return Path(os.environ.get("TARN_HOME") or Path(__file__).parents[1] / "var").resolve()


def dagster_home() -> Path:
    """Dagster's instance folder, made and configured on first use, telemetry off."""
    folder = Path(os.environ.get("DAGSTER_HOME") or home() / "dagster").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "dagster.yaml"
    if not config.exists() or config.read_text().startswith(_DAGSTER_YAML.splitlines()[0]):
        config.write_text(_DAGSTER_YAML)
    return folder


def recipe_name() -> str:
    """Name or path of the recipe in force."""
    return os.environ.get("TARN_RECIPE") or "tiny"


@cache
def recipe() -> Recipe:
    """The recipe in force, read once a process."""
    return load_recipe(recipe_name())


def workspace(
    say: Callable[[str], None] = print, origin: Mapping[str, str] | None = None
) -> Workspace:
    """The installation that the environment describes."""
    return Workspace(
        home=home(),
        spark_master=os.environ.get("TARN_SPARK_MASTER") or "local[*]",
        ray_address=os.environ.get("TARN_RAY_ADDRESS") or None,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or None,
        lake_uri=os.environ.get("TARN_LAKE") or None,
        say=say,
        origin=origin or {},
    )


def service_environment(recipe_path: str | None = None) -> dict[str, str]:
    """Environment for a process of ours: the same home and recipe, no telemetry."""
    return {
        **os.environ,
        "TARN_HOME": str(home()),
        "TARN_RECIPE": recipe_path or recipe_name(),
        "DAGSTER_HOME": str(dagster_home()),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def adopt_environment(recipe_path: str | None = None) -> None:
    """Make ``service_environment`` this process's own, before any service is imported."""
    os.environ.update(service_environment(recipe_path))

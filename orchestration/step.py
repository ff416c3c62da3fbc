"""A step of the lineage graph: what it is called, what it reads, and which function builds it.

A room's function does the work; a step only points at it by name, so that loading the graph
imports no Spark, Ray, torch or MLflow.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from datalake.config import Config
from datalake.workspace import Inputs, Made, Workspace
from orchestration.recipe import Recipe

Build = Callable[[Workspace, Inputs, Config], Made]


def _nothing(recipe: Recipe, workspace: Workspace) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One asset of the graph, before Dagster sees it."""

    key: str  # Dagster's asset key with slashes, and the table's name
    group: str
    inputs: tuple[str, ...] = ()
    build: str  # "room.module:function"
    section: Callable[[Recipe], Config]
    code: int = 1  # raised by hand when the function comes to give another result
    kinds: tuple[str, ...] = ()  # at most three icons in the UI
    says: str  # what it is, in a sentence
    tells: tuple[str, ...] = ()  # reported figures that the table at the end of a run shows
    watched: Callable[[Recipe, Workspace], str] = _nothing  # state outside that it reads

    @property
    def builder(self) -> Build:
        """The room's function, imported now."""
        module, _, function = self.build.partition(":")
        build: Build = getattr(importlib.import_module(module), function)
        return build

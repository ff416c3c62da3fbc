"""What tests of every room share: a workspace of their own, and one Spark session a process."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from datalake.workspace import Workspace

# A deadline measures the machine, and a compiled loop's first example waits for its compilation.
settings.register_profile("quick", deadline=None, max_examples=30)
settings.register_profile("thorough", deadline=None)
settings.load_profile("quick")

# Without an accelerator Triton's kernels run in its interpreter; read when triton is imported.
os.environ.setdefault("TRITON_INTERPRET", "0" if Path("/dev/nvidiactl").exists() else "1")


def pytest_configure(config: pytest.Config) -> None:
    """Where slow tests run as well, properties are tried on more examples."""
    if config.option.markexpr == "slow or not slow":
        settings.load_profile("thorough")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file of the whole graph first: it takes longest, and another process does the rest."""
    items.sort(key=lambda item: "test_whole_graph" not in item.nodeid)


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    """What a test draws without a seed of its own is the same in every run."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty installation in a temporary folder, silent."""
    return Workspace(home=tmp_path / "home", say=lambda line: None)


@pytest.fixture(scope="session")
def _spark_scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from datalake import spark

    folder = tmp_path_factory.mktemp("spark")
    spark.session(Workspace(home=folder, spark_master="local[2]"))
    yield folder
    spark.stop()


@pytest.fixture
def spark_workspace(_spark_scratch: Path, workspace: Workspace) -> Workspace:
    """An empty installation, with the Spark session of this process running."""
    return workspace

import pytest

from datalake.workspace import Version, Workspace
from tests.evaluation import house as building


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Version]]:
    """What ``house.build`` builds; tests add to it, and change nothing in it."""
    return building.build(tmp_path_factory.mktemp("house"))

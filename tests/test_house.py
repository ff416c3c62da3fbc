"""The house rules: which way imports point, who owns which service, what loads without what."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
ROOMS = ("datalake", "training", "evaluation", "alignment", "orchestration")
MODULES = {
    ".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ROOMS
    for path in sorted((TOP / room).rglob("*.py"))
}
OWNERS = {
    "pyspark": ("datalake.spark", "datalake.filters.scoring.classifiers"),  # the session; Spark ML
    "deltalake": ("datalake.tables",),
    "aiohttp": ("datalake.sources.web.fetch",),
    "urllib3": ("datalake.sources.remote",),
    "ray": ("training.launch",),
    "mlflow": ("training.tracking",),
    "yaml": ("orchestration.recipe",),
}
# These run on a bare GPU machine.
BARE = (
    "training.models",
    "training.kernels",
    "training.data",
    "training.inference",
    "training.optim",
    "training.loop",
    "training.pretraining",
    "training.losses",
    "training.schedule",
    "training.hardware",
    "training.checkpoint",
)
BARE_PACKAGES = ("torch", "triton", "numpy", "pyarrow", "pydantic", "safetensors")
DRAWERS = ("util", "utils", "common", "helper", "helpers", "misc", "core", "tools")


@cache
def imports(module: str) -> tuple[tuple[str, bool], ...]:
    """What ``module`` imports, as dotted names, and whether at module level."""
    tree = ast.parse(MODULES[module].read_text())
    top = {id(node) for node in _outside_functions(tree)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module} must import by full names"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [n if n in MODULES else node.module for n in names]
            found += [(name, id(node) in top) for name in known]
    return tuple(found)


def _outside_functions(tree: ast.AST) -> list[ast.AST]:
    nodes = []
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes += [child, *_outside_functions(child)]
    return nodes


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_from_the_upper_room_to_the_lower(module: str) -> None:
    floor = ROOMS.index(module.split(".")[0])
    upwards = [
        name
        for name, _ in imports(module)
        if name.split(".")[0] in ROOMS and ROOMS.index(name.split(".")[0]) > floor
    ]
    assert not upwards, f"{module} imports {upwards}"


def test_no_module_imports_itself_by_a_circle() -> None:
    graph = {
        module: {name for name, at_top in imports(module) if at_top and name in MODULES}
        for module in MODULES
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("service", OWNERS)
def test_every_outside_service_has_one_owner(service: str) -> None:
    users = [
        module
        for module in MODULES
        if any(name.split(".")[0] == service for name, _ in imports(module))
    ]
    others = [user for user in users if user not in OWNERS[service]]
    assert not others, f"{service} is used by {others}"


def test_only_orchestration_knows_dagster() -> None:
    users = {m for m in MODULES if any(n.split(".")[0] == "dagster" for n, _ in imports(m))}
    assert {user.split(".")[0] for user in users} == {"orchestration"}


def test_environment_variables_are_read_in_one_place() -> None:
    def reads(module: str) -> bool:
        for node in ast.walk(ast.parse(MODULES[module].read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "getenv":
                return True
            of_environ = isinstance(node, ast.Attribute) and node.attr == "get"
            if of_environ and ast.unparse(node.value) == "os.environ":  # type: ignore[attr-defined]
                return True
        return False

    readers = [module for module in MODULES if reads(module)]
    # The doctor looks where Java's own launcher looks.
    assert set(readers) <= {"orchestration.resources", "orchestration.doctor"}, readers


def test_no_file_is_a_drawer_without_a_noun() -> None:
    drawers = [m for m in MODULES if set(m.split(".")) & set(DRAWERS)]
    assert not drawers


@pytest.mark.parametrize("module", MODULES)
def test_every_module_opens_with_what_it_is(module: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[module].read_text())), module


def _import_with(modules: list[str], forbidden: str) -> None:
    """Import in a fresh interpreter where a package fails to import if ``forbidden`` says so."""
    program = f"""
import sys
class Gate:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if {forbidden}:
            raise ImportError(f"{{name}} may not be imported here")
sys.meta_path.insert(0, Gate())
import importlib
for module in {modules!r}:
    importlib.import_module(module)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_lower_rooms_import_without_dagster() -> None:
    lower = [m for m in MODULES if not m.startswith("orchestration")]
    _import_with(lower, "top.startswith('dagster')")


def test_the_model_rooms_import_with_few_packages_besides_torch() -> None:
    bare = [m for m in MODULES if any(m == b or m.startswith(f"{b}.") for b in BARE)]
    others = "ray mlflow pyspark deltalake numba scipy pandas xxhash regex tiktoken matplotlib"
    others += " aiohttp fastwarc resiliparse rich typer yaml datasets license_expression jaxtyping"
    _import_with(bare, f"top in {others.split()!r}")
    for module in bare:
        outside = {
            name.split(".")[0]
            for name, _ in imports(module)
            if name.split(".")[0] not in sys.stdlib_module_names
        }
        strangers = outside - set(BARE_PACKAGES) - set(ROOMS)
        assert not strangers, f"{module} imports {strangers}"


def test_the_code_location_loads_without_the_heavy_packages() -> None:
    heavy = [
        "torch",
        "ray",
        "mlflow",
        "pyspark",
        "numba",
        "scipy",
        "matplotlib",
        "tiktoken",
        "datasets",
    ]
    _import_with(["orchestration.definitions"], f"top in {heavy!r}")

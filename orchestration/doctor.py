"""What this machine has beside what Tarn needs."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

from datalake.config import Refusal
from orchestration import resources

_PACKAGES = ("dagster", "pyspark", "deltalake", "ray", "torch", "mlflow", "text-dedup")
_DISK_GIB = 5  # state of one run of the tiny recipe, with room
_MEMORY_GIB = 8


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    found: str
    needed: str
    good: bool


def examine() -> list[Finding]:
    """Findings in the order in which a run would need them."""
    return [_python(), _java(), *map(_package, _PACKAGES), _memory(), _disk(), _recipe()]


def _python() -> Finding:
    return Finding(
        "Python", platform.python_version(), "3.11 or newer", sys.version_info >= (3, 11)
    )


def _java() -> Finding:
    needed = "17 or newer, on the PATH or in JAVA_HOME"
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    if java is None:
        return Finding("Java", "none", needed, False)
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError) as error:
        return Finding("Java", str(error), needed, False)
    version = re.search(r'version "(\d+)', said)
    major = int(version[1]) if version else 0
    return Finding("Java", said.splitlines()[0], needed, major >= 17)


def _package(name: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name), "installed", True)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "none", "installed: make .venv", False)


def _memory() -> Finding:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Finding("memory", f"{gib:.1f} GiB", f"{_MEMORY_GIB} GiB", gib >= _MEMORY_GIB)


def _disk() -> Finding:
    home = resources.home()
    place = next(p for p in (home, *home.parents) if p.exists())
    gib = shutil.disk_usage(place).free / 2**30
    return Finding("disk", f"{gib:.1f} GiB free at {place}", f"{_DISK_GIB} GiB", gib >= _DISK_GIB)


def _recipe() -> Finding:
    name = resources.recipe_name()
    try:
        resources.recipe()
    except Refusal as refusal:
        return Finding("recipe", str(refusal), "valid", False)
    return Finding("recipe", name, "valid", True)

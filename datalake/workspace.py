"""Where one Tarn installation keeps its state, and what a stage hands back.

Every stage of every room is one function ``(Workspace, inputs, config) -> Made``. ``inputs`` maps
the key of each upstream asset to the version to read: the number of a Delta version, or the folder
of an artifact. The stage knows no Dagster; an asset is this function and a description of it.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datalake.tables import Lake

Version = int | str  # of a Delta table, or the folder of an artifact
Inputs = Mapping[str, Version]


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a stage made: where it is, a digest of its content, and what a person wants to know."""

    version: Version
    content: str  # digest that ignores row order, partitioning and when it was made
    rows: int
    num_bytes: int
    report: Mapping[str, int | float | str] = field(default_factory=dict)
    plots: Mapping[str, str] = field(default_factory=dict)  # title -> SVG document


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """One installation: its folders, its services, and whom it tells about progress."""

    home: Path
    spark_master: str = "local[*]"
    ray_address: str | None = None  # None starts Ray in this process tree
    tracking_uri: str | None = None  # None is an MLflow database below ``home``
    lake_uri: str | None = None  # None is a folder below ``home``
    say: Callable[[str], None] = print  # one line of progress
    origin: Mapping[str, str] = field(default_factory=dict)  # tags of the run that asked

    @property
    def lake(self) -> Lake:
        return Lake(self.lake_uri or str(self.home / "lake"))

    def folder(self, name: str) -> Path:
        """The folder ``name`` below ``home``, made if missing: archives, runs, logs, scratch."""
        path = self.home / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def save_artifact(self, name: str, write: Callable[[Path], None]) -> tuple[str, str]:
        """Folder and content digest of what ``write`` puts into an empty folder.

        The folder is named by its content, so equal content is stored once, and it appears
        under its name only when complete.
        """
        parent = self.folder(f"artifacts/{name}")
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=parent))
        try:
            write(draft)
            digest = folder_digest(draft)
            path = parent / digest[:32]
            if path.exists():
                shutil.rmtree(draft)
            else:
                draft.chmod(0o755)
                draft.replace(path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return str(path), digest


def folder_digest(folder: Path) -> str:
    """SHA-256 over the relative names and bytes of every file below ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix().encode()
        content = hashlib.sha256(path.read_bytes()).digest()
        digest.update(len(name).to_bytes(4, "little") + name + content)
    return digest.hexdigest()


def folder_bytes(folder: Path | str) -> int:
    """Bytes of all files below ``folder``."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())

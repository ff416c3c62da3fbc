"""A run's checkpoints: complete or absent, and verified before they are believed.

A checkpoint is a folder. It is written under a draft name, every file is flushed to the disk, and
only then does it get its name, in one rename; ``latest.json`` beside it is the last-good pointer.
So a process may die at any instruction: what ``latest`` finds was complete once, and a file that
was damaged later no longer has the digest in the manifest, which makes the one before it count.

    <run folder>/latest.json             {"checkpoint": "step-000000120", "manifest": SHA-256}
    <run folder>/step-000000120/
        manifest.json                    step, digest of every file, and what the caller adds
        weights.pt                       the model alone, enough for evaluation and inference
        optimizer.pt  random.pt ...      what resuming needs besides
"""

import fcntl
import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datalake.config import Refusal

LOCK_PATIENCE_SECONDS = 30.0  # a trainer that was just killed needs a moment to be gone

_POINTER = "latest.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk: its folder, and the manifest that was written last into it."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps taken; the next step to take has this number."""
        return int(self.manifest["step"])

    def load(self, name: str, device: torch.device | str = "cpu") -> Any:
        """What was saved as ``name``: tensors, numbers and containers of them, no code."""
        return torch.load(self.path / f"{name}.pt", map_location=device, weights_only=True)


def save(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    manifest: Mapping[str, Any],
    *,
    keep: int = 2,  # the newest, and the one to fall back on should it be damaged
) -> Checkpoint:
    """Write ``state`` (name -> what goes into ``<name>.pt``) as the checkpoint of ``step``.

    When this returns, the checkpoint survives a power cut, and all but the newest ``keep``
    checkpoints of the folder are gone. The caller holds the lock of the folder.
    """
    for stale in folder.glob(".draft-*"):
        shutil.rmtree(stale)
    name = f"step-{step:09d}"
    draft = folder / f".draft-{name}"
    draft.mkdir(parents=True)
    for part, value in state.items():
        with (draft / f"{part}.pt").open("wb") as file:
            torch.save(value, file)
            _flush(file)
    whole = {
        **manifest,
        "step": step,
        "files": {path.name: _digest(path) for path in sorted(draft.glob("*.pt"))},
    }
    _write_json(draft / "manifest.json", whole)
    _flush_folder(draft)
    path = folder / name
    if path.exists():  # of the same step, but it did not pass verification
        shutil.rmtree(path)
    draft.rename(path)
    _flush_folder(folder)
    pointer = {"checkpoint": name, "manifest": _digest(path / "manifest.json")}
    _write_json(folder / f".{_POINTER}", pointer)
    (folder / f".{_POINTER}").rename(folder / _POINTER)
    _flush_folder(folder)
    others = sorted(folder.glob("step-*"))
    for other in (
        others[: others.index(path)][: 1 - keep or None] + others[others.index(path) + 1 :]
    ):
        shutil.rmtree(other)  # too old, or the damaged future of a run that had to go back
    return Checkpoint(path, whole)


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint of a run's folder whose every file still has its digest.

    The pointer is only asked first: should what it names be damaged or missing, or should the
    process have died between the rename and the pointer, the other checkpoints are tried from
    the newest down. None where there is no good one.
    """
    pointer = _read_json(folder / _POINTER)
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            found = load(path)
        except Refusal:
            continue
        pointed_at = pointer.get("checkpoint") == path.name
        if not pointed_at or pointer.get("manifest") == _digest(path / "manifest.json"):
            return found
    return None


def load(path: Path) -> Checkpoint:
    """The checkpoint in ``path``, after its files were held against the manifest's digests.

    Raises Refusal naming the first file that is missing or not what was written.
    """
    manifest = _read_json(path / "manifest.json")
    if "files" not in manifest:
        raise Refusal(f"checkpoint must be a folder with a readable manifest.json, got {path}")
    for name, digest in manifest["files"].items():
        file = path / name
        found = _digest(file) if file.is_file() else "no such file"
        if found != digest:
            raise Refusal(f"{file} must have the SHA-256 {digest} of its manifest, got {found}")
    return Checkpoint(path, manifest)


def load_weights(path: Path | str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Parameter name -> tensor of the checkpoint folder ``path``, without its optimizer."""
    return load(Path(path)).load("weights", device)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder, made if missing: it has one trainer at a time.

    An orphan of a killed run and its successor would otherwise overwrite each other. The kernel
    lets go of the lock when the process ends, however it ends. Refused after a patience of
    ``LOCK_PATIENCE_SECONDS``, naming the process that holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while not _locked(lock):
            if time.monotonic() > deadline:
                lock.seek(0)
                raise Refusal(
                    f"{folder} must have one trainer, got a second one while process "
                    f"{lock.read()} holds its lock; wait for it or end it"
                )
            time.sleep(0.1)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _locked(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bits: the same on every device and torch version."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def random_state() -> dict[str, Any]:
    """State of every random generator of this process: Python, numpy, torch, each CUDA device."""
    kind, key, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [str(kind), torch.from_numpy(np.asarray(key).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put every random generator of this process back to a state of ``random_state``."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, key, *rest = state["numpy"]
    np.random.set_state((kind, key.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``; empty where the file is missing or cut off."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with path.open("w") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        _flush(file)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut, as ``fsync`` makes a file's bytes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

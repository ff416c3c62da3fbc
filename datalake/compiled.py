"""Where compiled kernels are kept: a folder for every state of their sources.

Numba keeps what it compiled until the file of that function changes, but not until one that it
calls does. A kernel would then go on with the old half of a change; so every change of any source
with a kernel begins a new folder, and what lies in the old ones is never read.
"""

import hashlib
import os
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_ROOMS = ("datalake", "training")
_FOLDER = "NUMBA_CACHE_DIR"


def keep_apart() -> None:
    """Name the folder of this state to numba, unless the environment already names one.

    Where the installation cannot be written to, numba's own choice stands.
    """
    place = Path(__file__).parent / "__pycache__"
    if os.access(place if place.exists() else place.parent, os.W_OK):
        os.environ.setdefault(_FOLDER, str(place / f"numba-{_digest()}"))


def folder() -> Path | None:
    """Where this process keeps what is compiled; None where numba chooses a place a file."""
    return Path(os.environ[_FOLDER]) if _FOLDER in os.environ else None


def _digest() -> str:
    digest = hashlib.blake2b(digest_size=8)
    for room in _ROOMS:
        for path in sorted((_ROOT / room).rglob("*.py")):
            source = path.read_bytes()
            if b"njit" in source:
                digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + source + b"\0")
    return digest.hexdigest()

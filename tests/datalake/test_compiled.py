"""Compiled kernels: no change of a source meets what was compiled before it."""

from pathlib import Path

import pytest

from datalake import compiled

KERNEL = "from numba import njit\n"


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("datalake/a.py", KERNEL), ("training/b.py", KERNEL), ("datalake/c.py", "")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(compiled, "_ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("changed", ["datalake/a.py", "training/b.py"])
def test_a_change_of_any_kernel_begins_a_new_folder(rooms: Path, changed: str) -> None:
    before = compiled._digest()
    (rooms / changed).write_text(KERNEL + "# another\n")
    assert compiled._digest() != before


def test_other_modules_keep_what_was_compiled(rooms: Path) -> None:
    before = compiled._digest()
    (rooms / "datalake/c.py").write_text("# another\n")
    assert compiled._digest() == before


def test_a_folder_that_the_environment_names_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/somewhere")
    compiled.keep_apart()
    assert compiled.os.environ["NUMBA_CACHE_DIR"] == "/somewhere"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    compiled.keep_apart()
    assert compiled._digest() in compiled.os.environ["NUMBA_CACHE_DIR"]

import os
from pathlib import Path

import pyarrow as pa
import pytest

from datalake.dedup.signatures.minhash import Banding
from datalake.filters.measures.signals import INPUT_COLUMNS, Measuring, measure
from datalake.schemas import TABLES
from orchestration import compiling
from orchestration.recipe import load_recipe


def compiled_files() -> set[Path]:
    return set(Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nbc"))


@pytest.mark.parametrize("name", ["smoke", "tiny"])
def test_what_a_run_measures_first_was_compiled_before_it(name: str) -> None:
    recipe = load_recipe(name)
    assert list(compiling.compile_all(recipe))[-1] == "tokenizer, encoding"
    before = compiled_files()
    assert before
    schema = pa.schema([TABLES["documents"].arrow.field(column) for column in INPUT_COLUMNS])
    row = {field.name: 1 if field.name == "num_bytes" else "web" for field in schema}
    row["text"] = "Other words, as a stage of the run gets them: " + Path(__file__).read_text()
    documents = pa.RecordBatch.from_pylist([row], schema)
    config = recipe.datalake.signals
    measured = measure(documents, Measuring(Banding.of(config.minhash), config.words))
    assert measured.num_rows == 1
    assert compiled_files() == before


def test_nothing_is_compiled_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TARN_HOME", str(tmp_path / "home"))
    (tmp_path / "compiled").touch()
    with compiling.ahead():
        pass
    assert not (tmp_path / "home").exists()

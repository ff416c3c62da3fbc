"""Taking survivors out of a batch of documents, without Spark."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from datalake.corpus import Survivors
from datalake.cuts import APPLIED, Cuts
from datalake.schemas import TABLES
from tests.datalake.document_rows import documents

TEXTS = [f"text {k}" for k in range(20)]
NO_CUTS = Cuts.of(TABLES["cuts"].arrow.empty_table().select(APPLIED))


@given(st.lists(st.integers(0, 25), unique=True))
def test_survivors_are_taken_whatever_their_order(ids: list[int]) -> None:
    rows = pa.table(
        {
            "doc_id": pa.array([f"{k:032x}" for k in ids], pa.string()),
            "cluster": pa.array([f"{k // 2:032x}" for k in ids], pa.string()),
        }
    )
    batch = documents(*TEXTS)
    taken = Survivors.of(rows, {"web": 2.0}, NO_CUTS).take(batch)
    assert taken.schema.equals(TABLES["corpus"].arrow)
    assert taken["text"].to_pylist() == [text for k, text in enumerate(TEXTS) if k in ids]
    for row in taken.to_pylist():
        assert int(row["cluster"], 16) == int(row["doc_id"], 16) // 2
        assert row["weight"] == 2.0

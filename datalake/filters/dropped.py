"""What the rules dropped, with the reason and every number that led to it: a join of two tables."""

import pyarrow as pa
import pyarrow.compute as pc

from datalake.tables import Lake


def dropped(lake: Lake, kept: int, signals: int, reason: str | None = None) -> pa.Table:
    """Documents that the rules dropped, with the reason and all signals that led to it.

    kept, signals: versions of the two tables; reason: that one alone.
    """
    decided = lake.read("kept", kept, ["doc_id", "keep", "reason"])
    wanted = pc.invert(decided["keep"])
    if reason is not None:
        wanted = pc.and_(wanted, pc.fill_null(pc.equal(decided["reason"], reason), False))
    chosen = decided.filter(wanted).select(["doc_id", "reason"])
    measured = pa.concat_tables(
        pa.Table.from_batches([batch]).filter(pc.is_in(batch["doc_id"], chosen["doc_id"]))
        for batch in lake.batches("signals", signals)
    )
    places = pc.index_in(measured["doc_id"], chosen["doc_id"])
    return measured.append_column("reason", chosen["reason"].take(places))

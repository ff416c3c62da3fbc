"""What was dropped stays to be asked for, and a moved threshold measures nothing again."""

import json
from pathlib import Path

from datalake.dedup.signatures.minhash import Banding, BandsConfig
from datalake.filters.dropped import dropped
from datalake.filters.measures.signals import Measuring, measure
from datalake.filters.rules import KeptConfig, decide, resolve
from datalake.tables import Lake
from tests.datalake.document_rows import documents


def rules(*entries: object) -> KeptConfig:
    said = {"rules": {"web": entries}, "unknown_licence": {"web": "keep"}}
    return KeptConfig.model_validate_json(json.dumps(said))


def decided(lake: Lake, signals: int, config: KeptConfig) -> int:
    """A version of ``kept`` from a version of ``signals`` alone."""
    bounds = resolve(config, lake.batches("signals", signals, config.columns))
    batches = lake.batches("signals", signals, config.columns)
    rows = [decide(batch, bounds) for batch in batches]
    return lake.overwrite("kept", rows, inputs={"signals": signals}).version


def test_a_moved_threshold_decides_anew_from_stored_signals_and_all_dropped_can_be_read(
    tmp_path: Path,
) -> None:
    lake = Lake(str(tmp_path))
    batch = documents("one two", "one two three", "a b c d e f", "", "漢字です")
    measured = measure(batch, Measuring(Banding.of(BandsConfig())))
    signals = lake.overwrite("signals", [measured], inputs={}).version
    few = {"name": "few", "signal": "num_nonsymbol_words", "at_least": 4}
    strict = decided(lake, signals, rules(few))
    loose = decided(lake, signals, rules(few | {"at_least": 1}))
    shares = decided(lake, signals, rules(few | {"at_least": None, "keep_highest": 0.4}))
    assert lake.latest("signals") == signals

    rows = dropped(lake, strict, signals).sort_by("doc_id")
    assert rows["num_nonsymbol_words"].to_pylist() == [2, 3, 0]
    assert rows["reason"].to_pylist() == ["few"] * 3
    assert set(measured.schema.names) < set(rows.schema.names)
    assert dropped(lake, loose, signals)["num_nonsymbol_words"].to_pylist() == [0]
    assert dropped(lake, shares, signals).num_rows == 3
    assert dropped(lake, strict, signals, "few").num_rows == 3
    assert dropped(lake, strict, signals, "empty").num_rows == 0

"""Repeated passages, lines and paragraphs of source code on one core, and the memory they take."""

import resource
from itertools import islice

import numpy as np
import pyarrow as pa
from numba import njit

from datalake.dedup.repeats.lines import (
    C4SentencesConfig,
    CCNetLinesConfig,
    ParagraphsConfig,
    Pieces,
    RepeatedLinesConfig,
    cut,
    groups,
)
from datalake.dedup.repeats.substrings import RepeatedPassagesConfig, passages
from tests.benchmarks.report import Result, seconds_in_turn, show
from tests.benchmarks.source_pieces import pieces
from tests.datalake.document_rows import documents

NUM_DOCUMENTS = 12_000  # of 3,400 characters, 41 MB
NO_PEER = "no peer of the environment does this without a compiler or a server of its own"


@njit
def _touch(data):  # type: ignore[no-untyped-def]
    total = np.uint64(0)
    for byte in data:
        total = (total ^ np.uint64(byte)) * np.uint64(0x100000001B3)
    return total


def _cuts(batch: pa.RecordBatch, config: RepeatedLinesConfig) -> pa.RecordBatch:
    """All cuts of a batch whose rows are in order."""
    found = Pieces.of(batch["text"], config)
    first, _, _ = groups(found)
    return cut(batch, found, found.hashes[first], np.ones(len(first), bool), config.reason)


def main() -> None:
    """Run every case and print the results."""
    texts = list(islice(pieces(), NUM_DOCUMENTS))
    texts += texts[::10]
    batch = documents(*texts)
    num_bytes = sum(batch["num_bytes"].to_pylist())
    data = np.frombuffer("".join(texts).encode(), np.uint8)
    warm = documents(*texts[:50])
    list(passages(lambda: [warm], RepeatedPassagesConfig()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    once = RepeatedPassagesConfig(table_bytes=1 << 25)
    cuts = pa.Table.from_batches(passages(lambda: [batch], once))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    removed = np.sum(cuts["end"].to_numpy() - cuts["start"].to_numpy())
    print(
        f"passages of 50 tokens: {removed / num_bytes:.1%} of {num_bytes / 1e6:.0f} MB cut, "
        f"{(grown - once.table_bytes) / num_bytes:.2f} bytes of memory a byte of text and a table"
    )
    jobs = {
        "passages of 50 tokens": lambda: list(passages(lambda: [batch], once)),
        "lines, CCNet": lambda: _cuts(batch, CCNetLinesConfig(kind="ccnet")),
        "sentence spans, C4": lambda: _cuts(batch, C4SentencesConfig(kind="c4")),
        "paragraphs": lambda: _cuts(batch, ParagraphsConfig(kind="paragraphs", min_characters=1)),
    }
    results = []
    for case, job in jobs.items():
        taken = seconds_in_turn({"ours": job, "floor": lambda: _touch(data)}, repeats=2)
        results.append(
            Result(
                case=case,
                unit="MB/s",
                ours=num_bytes / 1e6 / taken["ours"],
                peer_name="none",
                floor=num_bytes / 1e6 / taken["floor"],
                why=NO_PEER,
            )
        )
    show("repeats", results, ("numba", "numpy", "pyarrow"))


if __name__ == "__main__":
    main()

"""Cuts: what is left of a text, whatever the order in which they were found."""

import random

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from datalake.cuts import Cuts, cuts_of
from tests.datalake.document_rows import documents

TEXT = "Write to héloïse@example.org or call 030-1234567, today.\nAll rights reserved.\n"
MARKS = ("", "<email>", "<phone>")
PLACES = st.tuples(st.integers(0, 30), st.integers(1, 12), st.sampled_from(MARKS))


def table(*rows: tuple[int, int, int, str]) -> pa.Table:
    """Rows of document, start, end and replacement."""
    batch = documents(*["x" * 60] * 4)
    columns = list(zip(*rows, strict=True)) or [[], [], [], []]
    ends = [np.array(column, np.int64) for column in columns[:3]]
    return pa.table(cuts_of(batch, *ends, "why", list(columns[3])))


def applied(text: str, *rows: tuple[int, int, str]) -> str:
    made = Cuts.of(table(*((0, *row) for row in rows)))
    return made.apply(documents(text))[0].as_py()


def test_a_mask_stands_for_the_bytes_that_it_covers_and_a_removal_for_nothing() -> None:
    raw = TEXT.encode()
    at = raw.index("héloïse".encode())
    address = (at, at + len("héloïse@example.org".encode()), "<email>")
    line = raw.index(b"All")
    assert applied(TEXT, address, (line, len(raw), "")) == (
        "Write to <email> or call 030-1234567, today.\n"
    )


def test_a_removal_takes_a_mask_with_it_that_it_meets_halfway() -> None:
    assert applied("0123456789", (2, 6, "<email>"), (4, 8, "")) == "0189"


def test_of_masks_that_overlap_the_longest_is_said_once() -> None:
    assert applied("0123456789", (2, 5, "<phone>"), (3, 9, "<email>")) == "01<email>9"
    assert applied("0123456789", (2, 5, "<phone>"), (5, 6, "<email>")) == "01<phone><email>6789"


def plainly(text: bytes, rows: list[tuple[int, int, str]]) -> bytes:
    """One byte after the other: which group it is in, and what that group says."""
    groups: list[list[tuple[int, int, str]]] = []
    for row in sorted(rows):
        if groups and row[0] < max(end for _, end, _ in groups[-1]):
            groups[-1].append(row)
        else:
            groups.append([row])
    made, at = b"", 0
    for group in groups:
        start, end = group[0][0], max(end for _, end, _ in group)
        best = min(group, key=lambda row: (row[2] != "", row[0] - row[1], row[0], row[2]))
        made += text[at:start] + best[2].encode()
        at = end
    return made + text[at:]


@given(rows=st.lists(st.tuples(st.integers(0, 3), PLACES), max_size=12), seed=st.integers(0, 9))
def test_cuts_are_applied_as_if_one_after_the_other_in_any_order(
    rows: list[tuple[int, tuple[int, int, str]]], seed: int
) -> None:
    spans = [(doc, start, start + size, said) for doc, (start, size, said) in rows]
    random.Random(seed).shuffle(spans)
    made = Cuts.of(table(*spans))
    texts = ["abcdefghij" * 5 for _ in range(4)]
    expected = [
        plainly(text.encode(), [span[1:] for span in spans if span[0] == k]).decode()
        for k, text in enumerate(texts)
    ]
    batch = documents(*texts)
    assert made.apply(batch).to_pylist() == expected
    gone = made.bytes_gone(np.array(batch["doc_id"].to_pylist(), "S32"))
    assert [len(text) - n for text, n in zip(texts, gone, strict=True)] == list(map(len, expected))


def test_no_cuts_leave_every_text_as_it_is() -> None:
    none = Cuts.of(table())
    assert len(none) == 0
    assert none.apply(documents("a", "", "ü")).to_pylist() == ["a", "", "ü"]

"""Identity, digest and batches of raw records."""

import re

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from datalake.sources.record import doc_id, payload_digest, to_batches

parts = st.tuples(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))


@given(parts, parts)
def test_different_places_have_different_identities(one: tuple, other: tuple) -> None:
    assert (doc_id(*one) == doc_id(*other)) == (one == other)


@given(parts)
def test_an_identity_is_32_hexadecimal_digits(place: tuple) -> None:
    assert re.fullmatch("[0-9a-f]{32}", doc_id(*place))


def test_an_identity_never_changes() -> None:
    # Stored in tables and in the spans of token rows: a change would cut every lineage.
    assert doc_id("web", "http://example.com/") == "72e16ffca4cbe88e76270cd2965c1408"


def test_the_digest_is_that_of_other_warc_writers() -> None:
    # The digest of no bytes, as warcio and Heritrix write it.
    assert payload_digest(b"") == "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"


@given(st.lists(st.binary(max_size=50), max_size=30))
def test_batches_hold_every_row_in_order(payloads: list[bytes]) -> None:
    schema = pa.schema([("payload", pa.binary())])
    batches = list(to_batches(({"payload": p} for p in payloads), schema))
    assert [p for batch in batches for p in batch["payload"].to_pylist()] == payloads


def test_a_batch_ends_after_some_megabytes() -> None:
    schema = pa.schema([("payload", pa.binary())])
    rows = ({"payload": bytes(3 << 20)} for _ in range(7))
    assert [len(batch) for batch in to_batches(rows, schema)] == [3, 3, 1]


def test_a_batch_of_rows_without_payload_ends_after_a_thousand() -> None:
    schema = pa.schema([("payload", pa.binary())])
    rows = ({"payload": None} for _ in range(2500))
    assert [len(batch) for batch in to_batches(rows, schema)] == [1024, 1024, 452]

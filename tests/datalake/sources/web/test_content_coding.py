"""Bodies without what HTTP did to them, within a limit."""

import gzip
import io
import tracemalloc
import zlib

import pytest
from fastwarc.stream_io import BrotliWriter, ZstdWriter
from hypothesis import given
from hypothesis import strategies as st

from datalake.sources.web.content_coding import CodingError, dechunk, decode


def brotli(body: bytes) -> bytes:
    out = io.BytesIO()
    with BrotliWriter(out) as writer:
        writer.write(body)
    return out.getvalue()


def zstd(body: bytes) -> bytes:
    out = io.BytesIO()
    with ZstdWriter(out) as writer:
        writer.write(body)
    return out.getvalue()


CODERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli,
    "zstd": zstd,
    "identity": bytes,
}


@pytest.mark.parametrize("name", CODERS)
@given(body=st.binary(min_size=1, max_size=300))
def test_what_was_coded_comes_back(name: str, body: bytes) -> None:
    assert decode(CODERS[name](body), name, 1000) == (body, False)


@pytest.mark.parametrize("name", CODERS)
def test_a_body_over_the_limit_is_cut_and_says_so(name: str) -> None:
    body = bytes(range(256)) * 8
    assert decode(CODERS[name](body), name, 1000) == (body[:1000], True)
    assert decode(CODERS[name](body), name, len(body)) == (body, False)


def test_codings_are_undone_from_the_last_to_the_first() -> None:
    assert decode(gzip.compress(zlib.compress(b"text")), "deflate, gzip", 100) == (b"text", False)


def test_bare_deflate_is_read_like_zlib() -> None:
    bare = zlib.compressobj(wbits=-15)
    assert decode(bare.compress(b"text") + bare.flush(), "deflate", 100) == (b"text", False)


def test_gzip_of_several_members_is_one_body() -> None:
    assert decode(gzip.compress(b"one ", mtime=0) + gzip.compress(b"two"), "gzip", 100) == (
        b"one two",
        False,
    )


def test_a_body_stored_decoded_under_its_old_header_is_taken_as_it_is() -> None:
    assert decode(b"<html>", "gzip", 100) == (b"<html>", False)


def test_a_bomb_costs_no_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(bytes(100 << 20))
    tracemalloc.start()
    body, cut = decode(bomb, "gzip", 1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cut and len(body) == 1 << 20
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        (b"x", "secret", "content coding secret"),
        (
            gzip.compress(b"text" * 100, mtime=0)[:-20],
            "gzip",
            "body is not gzip: it ends too early",
        ),
        (b"\xff" * 20, "deflate", "body is not deflate"),
        (b"\xff" * 20, "br", "body is not br"),
    ],
)
def test_what_cannot_be_undone_is_refused(body: bytes, name: str, message: str) -> None:
    with pytest.raises(CodingError, match=message):
        decode(body, name, 1000)


def test_chunks_are_joined() -> None:
    assert dechunk(b"4\r\nsome\r\n6;x=y\r\n words\r\n0\r\n\r\n") == b"some words"


def test_a_body_without_chunks_is_left_alone() -> None:
    assert dechunk(b"<html>not chunked</html>") == b"<html>not chunked</html>"


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5))
def test_a_body_in_chunks_comes_back(pieces: list[bytes]) -> None:
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    assert dechunk(b"".join(chunks) + b"0\r\n\r\n") == b"".join(pieces)


def test_chunks_that_end_early_give_what_is_there() -> None:
    assert dechunk(b"4\r\nsome\r\nff\r\n words") == b"some words"

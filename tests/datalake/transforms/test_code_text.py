"""Source files to text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.transforms.code_text import DecodingError, decode_source
from datalake.transforms.normalise import normalise

no_nul = st.text(max_size=80).filter(lambda text: "\x00" not in text)


@given(no_nul)
def test_utf_8_is_read_as_it_is(text: str) -> None:
    assert decode_source(b"#\n#\n" + text.encode()) == ("#\n#\n" + normalise(text), "utf-8")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@given(text=no_nul)
def test_a_byte_order_mark_says_what_follows(encoding: str, text: str) -> None:
    assert decode_source(f"#\n{text}".encode(encoding))[0] == normalise(f"#\n{text}")


@pytest.mark.parametrize(
    "head",
    [
        "# -*- coding: latin-1 -*-\n",
        "#!/usr/bin/python\n# coding=latin-1\n",
        "# vim: set fileencoding=latin-1 :\n",
    ],
)
def test_the_comment_of_pep_263_is_believed(head: str) -> None:
    assert decode_source(f"{head}x = 'é'\n".encode("latin-1")) == (f"{head}x = 'é'\n", "iso8859-1")


def test_the_comment_must_stand_in_the_first_two_lines() -> None:
    text, encoding = decode_source("\n\n# coding: latin-1\nx = 'é'\n".encode())
    assert encoding == "utf-8" and "'é'" in text


@pytest.mark.parametrize("name", ["no-such-encoding", "hex", "rot13", "utf-16", "undefined"])
def test_a_comment_that_names_no_fitting_encoding_is_not_believed(name: str) -> None:
    payload = f"# coding: {name}\nx = 'é'\n".encode()
    text, encoding = decode_source(payload)
    assert (text, encoding) == (payload.decode(), "utf-8")


def test_an_encoding_that_nobody_names_is_detected() -> None:
    russian = "# Это программа, которая считает слова в тексте и печатает их по порядку.\n" * 5
    text, encoding = decode_source(russian.encode("windows-1251"))
    assert text == russian and encoding == "cp1251"


@pytest.mark.parametrize("payload", [b"\x7fELF\x00\x01", b"a\x00b", bytes(10)])
def test_binary_data_is_refused_with_a_reason(payload: bytes) -> None:
    with pytest.raises(DecodingError, match=r"^binary$"):
        decode_source(payload)


def test_an_empty_file_is_empty_text() -> None:
    assert decode_source(b"") == ("", "utf-8")


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_refused(payload: bytes) -> None:
    try:
        text, _ = decode_source(payload)
    except DecodingError as error:
        assert str(error) in ("binary", "encoding")
    else:
        text.encode("utf-8")


def test_code_keeps_its_indentation_and_blank_lines() -> None:
    source = "def f():\n\tif x:\n\n\n        return 1  \n"
    assert decode_source(source.encode())[0] == source

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from tests.training.tokenizer.oracle import known_alike, oracle
from tests.training.tokenizer.texts_to_try import PROSE, SOURCE, texts
from tests.training.tokenizer.tokenizers_to_try import CLASSES, SPECIAL, TOKENIZERS
from training.tokenizer.bpe import END_OF_TEXT, Tokenizer

MERGES = TOKENIZERS["gpt2"].merges
PATTERN = r"\p{L}[\p{L}\p{M}]*|\p{N}+|[^\p{L}\p{N}]"
OWN = Tokenizer(MERGES, PATTERN, CLASSES, SPECIAL)
ORACLE = oracle(OWN)
LEAVING = Tokenizer(MERGES, r"\p{L}+|\P{L}(?!x)", CLASSES)  # a symbol before x


@given(text=texts)
def test_ids_are_those_of_tiktoken_and_come_back_as_the_text(text):
    assert OWN.encode(known_alike(text)).tolist() == ORACLE.encode_ordinary(known_alike(text))
    assert OWN.decode(OWN.encode(text)) == text


@given(st.lists(texts, max_size=6), st.integers(1, 3))
def test_a_batch_is_its_texts_encoded_alone(batch, num_threads):
    ids, offsets = OWN.encode_batch(pa.array(batch, pa.large_string()), num_threads)
    assert ids.dtype == np.uint16 and offsets[0] == 0 and offsets[-1] == len(ids)
    assert OWN.decode_batch(ids, offsets) == batch
    for i, text in enumerate(batch):
        assert np.array_equal(ids[offsets[i] : offsets[i + 1]], OWN.encode(text))


def test_a_named_pattern_written_out_gives_the_ids_of_its_name():
    from training.tokenizer.patterns import PATTERNS

    for name, expression in PATTERNS.items():
        own = Tokenizer(TOKENIZERS[name].merges, expression, CLASSES, SPECIAL)
        assert (
            own.encode(SOURCE + PROSE).tolist() == TOKENIZERS[name].encode(SOURCE + PROSE).tolist()
        )


def test_special_tokens_in_a_document_are_text():
    assert OWN.decode(OWN.encode(f"a{END_OF_TEXT}")) == f"a{END_OF_TEXT}"
    ids = OWN.encode_with_special(f"a{END_OF_TEXT}").tolist()
    assert ids[-1] == OWN.special_tokens[END_OF_TEXT] and ids[:-1] == OWN.encode("a").tolist()


def test_what_the_pattern_leaves_out_is_refused_with_its_place():
    assert LEAVING.decode(LEAVING.encode("é1 y")) == "é1 y"
    with pytest.raises(
        Refusal, match=r"text 1 must be matched by the pattern .* end to end, got '1' at 4, which"
    ):
        LEAVING.encode_batch(["fine", "ééé 1x 1x"])


def test_bytes_that_are_no_utf8_are_refused_with_their_place():
    with pytest.raises(Refusal, match=r"text 0 must be UTF-8 where .* got byte 0xff at 2"):
        OWN.encode(b"ab\xff")


def test_a_pattern_that_tiktoken_does_not_read_is_refused():
    only_python = Tokenizer(MERGES, r"\p{L}++|\P{L}|\m(*FAIL)", CLASSES)
    with pytest.raises(Refusal, match="pattern must be one that tiktoken reads, too, got"):
        only_python.encode("a")


def test_named_patterns_need_no_tiktoken():
    code = (
        "import sys; from training.tokenizer.bpe import Tokenizer; import numpy as np;"
        "from training.tokenizer.patterns import character_classes;"
        "Tokenizer(np.array([[97, 97]], np.int32), 'gpt2', character_classes()[0]).encode('aaa');"
        "sys.exit('tiktoken' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

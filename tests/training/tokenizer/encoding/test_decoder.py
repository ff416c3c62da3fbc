import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from tests.training.tokenizer.texts_to_try import texts
from tests.training.tokenizer.tokenizers_to_try import TOKENIZERS

TOKENIZER = TOKENIZERS["cl100k_digits"]
any_ids = st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=200)


@given(any_ids)
def test_any_ids_are_decoded_to_the_bytes_of_their_tokens(ids):
    wanted = b"".join(TOKENIZER.token_bytes[i] for i in ids)
    assert TOKENIZER.decode_bytes(ids) == wanted
    assert TOKENIZER.decode_bytes(np.array(ids, np.uint16)) == wanted
    assert TOKENIZER.decode(iter(ids)) == wanted.decode(errors="replace")


def test_millions_of_ids_are_decoded_in_parts_as_in_one():
    ids = np.random.default_rng(0).integers(0, TOKENIZER.vocab_size, 10_001)
    wanted = b"".join(TOKENIZER.token_bytes[i] for i in ids)
    assert TOKENIZER.decode_bytes(ids.astype(np.uint32)) == wanted


def test_a_character_that_is_cut_is_replaced():
    assert TOKENIZER.decode(TOKENIZER.encode("😀".encode()[:3])) == "\ufffd"


@given(st.lists(texts, max_size=8))
def test_a_batch_is_decoded_to_the_texts_that_it_was_encoded_from(batch):
    assert TOKENIZER.decode_batch(*TOKENIZER.encode_batch(batch)) == batch


def test_a_text_of_a_batch_is_decoded_apart_from_its_neighbours():
    ids = np.array(list("é".encode()))
    assert TOKENIZER.decode(ids) == "é"
    assert TOKENIZER.decode_batch(ids, np.array([0, 1, 2])) == ["\ufffd", "\ufffd"]


@pytest.mark.parametrize("few", [1, 1000])
@pytest.mark.parametrize("wrong", [700, -1, 1 << 40])
def test_an_id_outside_the_vocabulary_is_refused(wrong, few):
    with pytest.raises(Refusal, match=rf"token ids must be in 0 \.\. 699, got {wrong}$"):
        TOKENIZER.decode([5] * few + [wrong])


def test_ids_that_are_no_whole_numbers_are_refused():
    with pytest.raises(Refusal, match="token ids must be whole numbers, got float64"):
        TOKENIZER.decode(np.array([1.5]))

"""Merging by the list of merges, and by the ranks of tokens as tiktoken does: where they agree."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake.config import Refusal
from tests.training.tokenizer import naive
from tests.training.tokenizer.oracle import oracle
from tests.training.tokenizer.tokenizers_to_try import CLASSES, TOKENIZERS
from training.tokenizer.bpe import NUM_BYTES, Tokenizer
from training.tokenizer.encoding.merging import MergeTable

words = st.text("ab", min_size=1, max_size=12) | st.text("abc", min_size=1, max_size=12)


def tokenizer_of(pairs: list[naive.Pair], pattern: str = "gpt2") -> Tokenizer:
    """The tokenizer of merges that are spelled out, each of earlier tokens."""
    ids = {bytes([byte]): byte for byte in range(NUM_BYTES)}
    merges = []
    for left, right in pairs:
        merges.append((ids[left], ids[right]))
        ids.setdefault(left + right, NUM_BYTES + len(merges) - 1)
    return Tokenizer(np.array(merges, np.int32).reshape(-1, 2), pattern, CLASSES)


@settings(max_examples=150)
@given(st.lists(words, min_size=1, max_size=6), st.integers(0, 25))
def test_merges_that_were_learned_and_ranks_give_the_same_ids(corpus, num_merges):
    pairs, _ = naive.train([" ".join(corpus)], "gpt2", num_merges)
    tokenizer = tokenizer_of(pairs)
    spelled = [left + right for left, right in pairs]
    assert len(set(spelled)) == len(spelled)  # no two tokens have the same bytes
    by_ranks = oracle(tokenizer)
    letters = sorted(set("".join(corpus)))
    for size in range(1, 7 if len(letters) < 3 else 5):
        for text in map("".join, product(letters, repeat=size)):
            assert tokenizer.encode(text).tolist() == by_ranks.encode_ordinary(text)
    for text in corpus:
        assert tokenizer.encode(text).tolist() == by_ranks.encode_ordinary(text)


@given(st.lists(words, min_size=1, max_size=6), st.integers(0, 25), words)
def test_a_word_is_merged_by_the_merges_one_after_the_other(corpus, num_merges, text):
    pairs, _ = naive.train([" ".join(corpus)], "gpt2", num_merges)
    tokenizer = tokenizer_of(pairs)
    ids = tokenizer.encode(text)
    assert [tokenizer.token_bytes[i] for i in ids] == naive.encode(text, "gpt2", pairs)


@st.composite
def any_merges(draw):
    """Merges of any earlier tokens: pairs and spellings may come twice, tokens may be no use."""
    number = st.integers(0, 1 << 30)
    merges: list[tuple[int, int]] = []
    for k in range(draw(st.integers(1, 14))):
        ids = [97, 98, *range(NUM_BYTES, NUM_BYTES + k)]
        merges.append((ids[draw(number) % len(ids)], ids[draw(number) % len(ids)]))
    return merges


@settings(max_examples=300)
@given(any_merges(), st.text("ab", min_size=1, max_size=40))
def test_any_list_of_merges_is_obeyed_one_after_the_other(merges, text):
    ids = list(text.encode())
    for number, pair in enumerate(merges):
        at = 0
        while at < len(ids) - 1:
            if (ids[at], ids[at + 1]) == pair:
                ids[at : at + 2] = [NUM_BYTES + number]
            at += 1
    tokenizer = Tokenizer(np.array(merges, np.int32), "gpt2", CLASSES)
    assert tokenizer.encode(text).tolist() == ids


def test_a_merge_of_a_later_token_is_refused():
    merges = np.array([[97, 98], [97, 257]], np.int32)
    with pytest.raises(Refusal, match=r"come before, got \[97, 257\] for token 257"):
        MergeTable.of(merges, np.arange(NUM_BYTES, dtype=np.int32))


# No training gives these: where "abc" stands, "bc" is merged before "ab".
MADE_UP = [(b"b", b"c"), (b"a", b"b"), (b"ab", b"c")]


def test_merges_that_no_training_gives_are_obeyed_as_they_stand():
    tokenizer = tokenizer_of(MADE_UP)
    spelled = [tokenizer.token_bytes[i] for i in tokenizer.encode("abc")]
    assert spelled == [b"a", b"bc"] == naive.encode("abc", "gpt2", MADE_UP)
    assert oracle(tokenizer).encode_ordinary("abc") == [258]  # by ranks it is one token


def test_two_tokens_of_the_same_bytes_are_told_apart_by_their_merges():
    tokenizer = Tokenizer(
        np.array([[97, 98], [98, 99], [256, 99], [97, 257]], np.int32), "gpt2", CLASSES
    )
    assert tokenizer.token_bytes[258] == tokenizer.token_bytes[259] == b"abc"
    assert tokenizer.encode("abc").tolist() == [258]
    assert tokenizer.decode([258, 259]) == "abcabc"


@pytest.mark.parametrize(
    "pairs", [MADE_UP, [(b"a", b"b"), (b"b", b"c"), (b"ab", b"c"), (b"a", b"bc")]]
)
def test_merges_that_ranks_would_apply_otherwise_are_refused_with_a_pattern_of_ones_own(pairs):
    with pytest.raises(Refusal, match="merges must make every token out of its own bytes where"):
        tokenizer_of(pairs, r"\p{L}+|\P{L}").encode("abc")


def test_learned_merges_make_every_token_of_its_own_bytes():
    for tokenizer in TOKENIZERS.values():
        assert MergeTable.of(tokenizer.merges, tokenizer.byte_ids).unreached is None

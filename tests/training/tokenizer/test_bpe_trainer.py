from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake.config import Refusal
from tests.training.tokenizer import naive
from tests.training.tokenizer.texts_to_try import CORPUS, texts
from training.tokenizer.bpe_trainer import learn_merges
from training.tokenizer.pair_merger import merge_pairs
from training.tokenizer.patterns import PATTERNS, character_classes
from training.tokenizer.pretokens import PretokenCounter, PretokenCounts
from training.tokenizer.texts import Texts

CLASSES, _ = character_classes()


def count(
    corpus: list[str], pattern: str = "cl100k", threads: int = 1, copies: list[int] | None = None
) -> PretokenCounts:
    counter = PretokenCounter(pattern, CLASSES, threads)
    counter.add(Texts.of(corpus), None if copies is None else np.array(copies))
    return counter.counts()


def as_dict(counts: PretokenCounts) -> dict[bytes, int]:
    text, bounds = counts.text.tobytes(), counts.starts.tolist()
    words = [text[a:b] for a, b in pairwise(bounds)]
    return dict(zip(words, counts.counts.tolist(), strict=True))


def spelled(pairs: np.ndarray) -> list[tuple[bytes, bytes]]:
    tokens = [bytes([byte]) for byte in range(256)]
    merges = []
    for left, right in pairs.tolist():
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return merges


# Few letters, so that counts tie, pairs overlap themselves and words repeat.
dull = st.text("ab \n", max_size=200) | st.text("aab'1é", max_size=80)


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=150)
@given(corpus=st.lists(texts | dull, min_size=1, max_size=4))
def test_merges_are_those_of_a_naive_trainer(pattern, corpus):
    pairs, num_tokens = merge_pairs(count(corpus, pattern), 60)
    wanted, wanted_tokens = naive.train(corpus, pattern, 60)
    assert spelled(pairs) == wanted
    assert num_tokens == wanted_tokens


def test_merges_of_source_code_are_those_of_a_naive_trainer():
    pairs, num_tokens = merge_pairs(count(CORPUS, "cl100k_digits"), 300)
    assert (spelled(pairs), num_tokens) == naive.train(CORPUS, "cl100k_digits", 300)


@given(corpus=st.lists(texts, min_size=1, max_size=6), seed=st.randoms())
def test_neither_the_order_of_documents_nor_threads_change_the_merges(corpus, seed):
    shuffled = list(corpus)
    seed.shuffle(shuffled)
    one, two = count(corpus), count(shuffled, threads=3)
    assert as_dict(one) == as_dict(two)
    assert np.array_equal(merge_pairs(one, 40)[0], merge_pairs(two, 40)[0])


@given(st.lists(st.tuples(texts, st.integers(0, 3)), min_size=1, max_size=5))
def test_a_document_of_n_copies_counts_as_n_documents(counted):
    corpus, copies = zip(*counted, strict=True)
    repeated = [text for text, n in counted for _ in range(n)]
    assert as_dict(count(list(corpus), copies=list(copies))) == as_dict(count(repeated))


@given(texts, texts)
def test_batches_add_up(first, second):
    counter = PretokenCounter("gpt2", CLASSES, 2)
    counter.add(Texts.of([first]))
    counter.add(Texts.of([second]))
    assert as_dict(counter.counts()) == as_dict(count([first, second], "gpt2"))


def test_tables_grow_with_many_and_long_pre_tokens():
    words = [f" {chr(97 + n % 26)}{'xyz'[n % 3] * (n % 50)}q{n:x}z".upper() for n in range(40_000)]
    long_words = ["A" * 300_000, "B" * 300_001]
    counts = as_dict(count(["".join(words), *long_words], "gpt2", threads=2))
    wanted = [
        piece for text in ["".join(words), *long_words] for piece in naive.pieces(text, "gpt2")
    ]
    assert sum(counts.values()) == len(wanted)
    assert counts.keys() == set(wanted)


@given(st.lists(texts | dull, min_size=1, max_size=4))
def test_a_byte_string_becomes_a_token_only_once(corpus):
    joined = [left + right for left, right in spelled(merge_pairs(count(corpus), 80)[0])]
    assert len(set(joined)) == len(joined)


def test_among_equally_frequent_pairs_the_greater_bytes_win():
    pairs, _ = merge_pairs(count(["ab zb"], "gpt2"), 2)  # ab, " z" and zb occur once each
    assert spelled(pairs) == [(b"z", b"b"), (b"a", b"b")]


def test_a_run_is_merged_from_left_to_right():
    assert merge_pairs(count(["aaaaa"]), 1)[1] == 3  # aa aa a


def test_bytes_per_token_is_what_the_merges_made_of_the_text():
    merges = learn_merges(count(["low low low lower"], "gpt2"), vocab_size=258)
    assert merges.bytes_per_token == pytest.approx(17 / (17 - 8))  # "lo" and "low", four times each


def test_a_vocabulary_without_place_for_the_bytes_is_refused():
    with pytest.raises(
        Refusal,
        match=r"vocab_size must be at least 259 \(256 bytes and 3 special tokens\), got 258",
    ):
        learn_merges(count(["text"]), vocab_size=258, num_special=3)


def test_a_vocabulary_that_the_text_does_not_support_is_refused():
    with pytest.raises(
        Refusal,
        match="vocab_size must be at most 260, all that 8 bytes of text support, got 500",
    ):
        learn_merges(count(["word", "word"]), vocab_size=500, num_special=1)

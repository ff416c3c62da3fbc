import time
import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake.config import Refusal
from tests.training.tokenizer import hugging_face, naive
from tests.training.tokenizer.texts_to_try import CORPUS, texts
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.learning import pair_merger
from training.tokenizer.learning.bpe_trainer import learn_merges
from training.tokenizer.learning.count_table import PretokenCounts
from training.tokenizer.learning.pair_merger import merge_pairs
from training.tokenizer.learning.pretokens import PretokenCounter, added_up
from training.tokenizer.patterns import PATTERNS, character_classes
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


def is_of_old_unicode(text: str) -> bool:
    return all(unicodedata.category(character) != "Cn" for character in text)


# Few letters, so that counts tie, pairs overlap themselves and words repeat.
dull = st.text("ab \n", max_size=200) | st.text("aab'1é", max_size=80)


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=150)
@given(corpus=st.lists(texts | dull, min_size=1, max_size=4))
def test_merges_are_those_of_a_naive_trainer(pattern, corpus):
    pairs, num_tokens = merge_pairs(count(corpus, pattern), 60)
    wanted, wanted_tokens = naive.train(corpus, pattern, 60)
    assert naive.spelled(pairs) == wanted
    assert num_tokens == wanted_tokens


def test_merges_of_source_code_are_those_of_a_naive_trainer():
    pairs, num_tokens = merge_pairs(count(CORPUS, "cl100k_digits"), 300)
    assert (naive.spelled(pairs), num_tokens) == naive.train(CORPUS, "cl100k_digits", 300)


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
    joined = [left + right for left, right in naive.spelled(merge_pairs(count(corpus), 80)[0])]
    assert len(set(joined)) == len(joined)


def test_among_equally_frequent_pairs_the_greater_bytes_win():
    pairs, _ = merge_pairs(count(["ab zb"], "gpt2"), 2)  # ab, " z" and zb occur once each
    assert naive.spelled(pairs) == [(b"z", b"b"), (b"a", b"b")]


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


def test_a_text_that_supports_fewer_merges_stops_early_and_says_why():
    said: list[str] = []
    merges = learn_merges(count(["word", "word"]), vocab_size=500, num_special=1, say=said.append)
    assert len(merges.pairs) == 3
    assert merges.shortfall == (
        "3 merges of 243: then every pre-token of 8 bytes of text is one token, and no pair is left"
    )
    assert said[-1] == f"stopped early after {merges.shortfall}"


def test_enough_text_falls_short_of_nothing():
    assert learn_merges(count(["word"]), vocab_size=259).shortfall is None


def test_no_text_is_refused():
    with pytest.raises(Refusal, match="must have at least a byte, got none"):
        learn_merges(count([""]), vocab_size=300)


def counts_of(words: dict[bytes, int]) -> PretokenCounts:
    return added_up(
        [pa.record_batch({"word": pa.array(words, pa.binary()), "count": [*words.values()]})]
    )


words_of_few_letters = st.dictionaries(
    st.one_of(st.binary(min_size=1, max_size=40), st.text("ab", min_size=1).map(str.encode)),
    st.integers(1, 1 << 40),
    min_size=1,
    max_size=12,
)
runs = st.dictionaries(
    st.lists(st.sampled_from([b"a" * n for n in (1, 2, 3, 5, 8)] + [b"b", b"aab"]), min_size=1).map(
        b"".join
    ),
    st.integers(1, 3),
    min_size=1,
    max_size=6,
)


@settings(max_examples=400)
@given(words_of_few_letters | runs, st.integers(1, 3))
def test_any_words_merge_as_the_naive_trainer_merges_them(words, num_threads):
    pairs, num_tokens = merge_pairs(counts_of(words), 60, num_threads=num_threads)
    wanted, wanted_tokens = naive.train_words(words, 60)
    assert naive.spelled(pairs) == wanted
    assert num_tokens == wanted_tokens
    joined = [left + right for left, right in wanted]
    assert len(set(joined)) == len(joined)  # no byte string twice
    assert not {len(token) for token in joined} & {0, 1}


@given(words_of_few_letters, st.randoms())
def test_the_order_of_words_changes_no_merge(words, seed):
    shuffled = list(words.items())
    seed.shuffle(shuffled)
    one, other = (merge_pairs(counts_of(dict(w)), 60)[0] for w in (words, shuffled))
    assert np.array_equal(one, other)


def test_threads_change_no_merge():
    counts = count(CORPUS, "gpt2")
    one, *others = (merge_pairs(counts, 3_000, num_threads=threads) for threads in (1, 2, 3, 5))
    for pairs, num_tokens in others:
        assert np.array_equal(pairs, one[0]) and num_tokens == one[1]


def test_a_long_word_without_a_space_costs_memory_and_time_in_proportion():
    # Runs, a period and noise: what makes long tokens, what makes few, what makes many.
    noise = np.random.default_rng(1).integers(0, 256, 500_000, np.uint8).tobytes()
    for word in (b"a" * 2_000_000, b"abcab" * 400_000, noise):
        small, large = (counts_of({part: 1}) for part in (word[: len(word) // 4], word))
        seconds = []
        for counts in (small, large):
            merge_pairs(counts, 300)
            began = time.process_time()
            pairs, num_tokens = merge_pairs(counts, 300)
            seconds.append(time.process_time() - began)
        tokens = Tokenizer(pairs, "gpt2", CLASSES).token_bytes
        assert max(len(token) for token in tokens) <= len(word)
        assert num_tokens <= len(word)
        assert seconds[1] < 16 * seconds[0] + 1


@pytest.mark.slow
def test_ten_megabytes_without_a_space_are_counted_and_merged():
    text = "x" * 10_000_000 + " " + "ab" * 5_000_000
    merges = learn_merges(count([text], "gpt2"), 400)
    assert naive.spelled(merges.pairs)[0] == (b"x", b"x")
    assert merges.num_tokens < 40
    assert merges.num_bytes == len(text)


def test_more_places_than_numbers_for_them_are_refused(monkeypatch):
    monkeypatch.setattr(pair_merger, "MAX_PLACES", 12)
    with pytest.raises(Refusal, match="at most 12 bytes with a border each, got 14"):
        merge_pairs(count(["ten letters"], "gpt2"), 5)


def test_progress_is_told_and_the_last_word_is_all(monkeypatch):
    monkeypatch.setattr(pair_merger, "_VISITS", 50)
    done: list[int] = []
    pairs, _ = merge_pairs(count(CORPUS), 100, done.append)
    assert done[-1] == len(pairs) == 100
    assert len(done) > 1 and done == sorted(done)


# Equal to tokenizers' up to the tie rule: each of their merges is of a pair as frequent as any at
# its step, as ours is the one of them whose bytes are greatest; so without ties all are equal. Only
# characters of a Unicode that both engines know: a younger letter is a sign to the older one.
@settings(max_examples=60)
@given(st.lists((texts | dull).filter(is_of_old_unicode), min_size=1, max_size=4))
def test_the_merges_of_tokenizers_are_ours_but_for_the_choice_among_ties(corpus):
    words = naive.count(corpus, "gpt2")
    theirs = hugging_face.train(corpus, PATTERNS["gpt2"], 25)
    ours = naive.spelled(merge_pairs(counts_of(words), 25)[0]) if words else []
    assert naive.is_greedy(words, theirs)
    assert naive.is_greedy(words, ours)
    if not naive.num_ties(words, ours):
        assert theirs == ours


def test_without_ties_the_merges_of_tokenizers_are_ours():
    letters = "etaoinshrdlu"
    corpus = [
        " ".join([f"{a}{b}{c}"] * (7 * i * i + 13 * j + k))
        for i, a in enumerate(letters, 1)
        for j, b in enumerate(letters[:4])
        for k, c in enumerate(letters[:3])
    ]
    words = naive.count(corpus, "gpt2")
    ours = naive.spelled(merge_pairs(count(corpus, "gpt2"), 40)[0])
    untied = ours[: next(n for n in range(41) if n == 40 or naive.num_ties(words, ours[: n + 1]))]
    assert len(untied) >= 15
    assert hugging_face.train(corpus, PATTERNS["gpt2"], len(untied)) == untied

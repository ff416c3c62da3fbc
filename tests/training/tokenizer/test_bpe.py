import pickle
import threading
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake.config import Refusal
from datalake.workspace import folder_digest
from tests.training.tokenizer import naive
from tests.training.tokenizer.oracle import known_alike, oracle
from tests.training.tokenizer.texts_to_try import PROSE, SOURCE, texts
from tests.training.tokenizer.tokenizers_to_try import CLASSES, SPECIAL, TOKENIZERS, train
from training.tokenizer.bpe import END_OF_TEXT, Tokenizer
from training.tokenizer.encoding import merged_words
from training.tokenizer.patterns import PATTERNS


def random_word(size: int, letters: str, random: Random) -> str:
    return "".join(random.choice(letters) for _ in range(size))


TOKENIZER = TOKENIZERS["cl100k_digits"]

# Of three letters every pair is merged, and what is merged is merged again.
DENSE = train("gpt2", [" ".join(random_word(60, "abc", Random(n)) for n in range(200))])
DENSE_ORACLE = oracle(DENSE)
# The same merges, of bytes in another order.
ORDER = np.random.default_rng(0).permutation(256).astype(np.int32)
SHUFFLED = {
    pattern: Tokenizer(
        np.where(t.merges < 256, ORDER[np.minimum(t.merges, 255)], t.merges).astype(np.int32),
        pattern,
        CLASSES,
        SPECIAL,
        ORDER,
    )
    for pattern, t in TOKENIZERS.items()
}
SHUFFLED_ORACLES = {pattern: oracle(tokenizer) for pattern, tokenizer in SHUFFLED.items()}
ORACLES = {pattern: oracle(tokenizer) for pattern, tokenizer in TOKENIZERS.items()}


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=texts)
def test_decoding_gives_any_text_back(pattern, text):
    tokenizer = TOKENIZERS[pattern]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode_with_special(text)) == text


@given(st.binary(max_size=60))
def test_decoding_gives_any_bytes_back(data):
    assert TOKENIZER.decode_bytes(TOKENIZER.encode(data)) == data


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=400)
@given(text=texts)
def test_ids_are_those_of_tiktoken(pattern, text):
    alike = known_alike(text)
    ids = TOKENIZERS[pattern].encode(alike).tolist()
    assert ids == ORACLES[pattern].encode_ordinary(alike)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_ids_of_whole_documents_are_those_of_tiktoken(pattern):
    documents = [SOURCE, PROSE, "", *SOURCE.splitlines(keepends=True)]
    ids, offsets = TOKENIZERS[pattern].encode_batch(documents)
    for i, document in enumerate(documents):
        wanted = ORACLES[pattern].encode_ordinary(document)
        assert ids[offsets[i] : offsets[i + 1]].tolist() == wanted


@given(text=texts)
def test_tokens_are_the_merges_applied_one_after_the_other(text):
    spelled = TOKENIZER.token_bytes
    merges = [(spelled[a], spelled[b]) for a, b in TOKENIZER.merges[:150].tolist()]
    short = Tokenizer(TOKENIZER.merges[:150], TOKENIZER.pattern, CLASSES, SPECIAL)
    tokens = [short.token_bytes[i] for i in short.encode(text)]
    assert tokens == naive.encode(text, TOKENIZER.pattern, merges)


@given(st.integers(1, 700), st.integers(1, 3), st.randoms())
def test_a_long_pre_token_is_merged_as_tiktoken_does(size, num_letters, random):
    word = random_word(size, "abc"[:num_letters], random)
    assert DENSE.encode(word).tolist() == DENSE_ORACLE.encode_ordinary(word)


@pytest.mark.parametrize("unit", ["a", " ", "etr", "日"])
@pytest.mark.parametrize("size", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_megabytes_of_one_pre_token_are_encoded_at_once(unit, size):
    text = unit * (size // len(unit))
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_a_full_cache_changes_no_id(monkeypatch):
    words = [f"{SOURCE[n % 900 : n % 900 + n % 7]}{n:x}" for n in range(3000)]
    words += ["".join(random_word(n % 70, "abcdefgh", Random(n % 90))) for n in range(600)]
    wanted = [ORACLES["cl100k_digits"].encode_ordinary(word) for word in words]
    for name, size in [("_ROWS", 64), ("_IDS", 100), ("_PAIRS", 2)]:
        with monkeypatch.context() as small:
            small.setattr(merged_words, name, size)
            tokenizer = Tokenizer(TOKENIZER.merges, TOKENIZER.pattern, CLASSES, SPECIAL)
            for _ in range(2):
                ids, offsets = tokenizer.encode_batch(words, num_threads=1)
                got = [ids[a:b].tolist() for a, b in pairwise(offsets)]
                assert got == wanted


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=texts, data=st.binary(max_size=40))
def test_the_ids_of_bytes_may_have_any_order(pattern, text, data):
    alike = known_alike(text)
    assert SHUFFLED[pattern].encode(alike).tolist() == SHUFFLED_ORACLES[pattern].encode_ordinary(
        alike
    )
    assert SHUFFLED[pattern].decode_bytes(SHUFFLED[pattern].encode(data)) == data


@given(st.lists(texts, max_size=8), st.integers(1, 4))
def test_a_batch_is_its_texts_encoded_alone(batch, num_threads):
    ids, offsets = TOKENIZER.encode_batch(batch, num_threads)
    assert ids.dtype == np.uint16
    assert offsets[0] == 0 and offsets[-1] == len(ids) and len(offsets) == len(batch) + 1
    for i, text in enumerate(batch):
        assert np.array_equal(ids[offsets[i] : offsets[i + 1]], TOKENIZER.encode(text))


def test_threads_change_no_id_of_a_large_batch():
    batch = [SOURCE[n:] for n in range(0, 4000, 7)]
    assert sum(map(len, batch)) > 1 << 20
    one, many = (TOKENIZER.encode_batch(batch, threads) for threads in (1, 3))
    assert np.array_equal(one[0], many[0]) and np.array_equal(one[1], many[1])


def test_callers_on_several_threads_do_not_disturb_each_other():
    wanted, wrong = TOKENIZER.encode(SOURCE), []

    def work() -> None:
        for _ in range(20):
            if not np.array_equal(TOKENIZER.encode(SOURCE), wanted):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()]
)
def test_arrow_columns_are_read_whatever_their_type_and_slice(kind):
    column = pa.array(["out", "in", "", "side, é", "out"], pa.string()).cast(kind)[1:4]
    ids, offsets = TOKENIZER.encode_batch(pa.chunked_array([column, column[:1]]))
    assert offsets.tolist() == TOKENIZER.encode_batch(["in", "", "side, é", "in"])[1].tolist()
    assert TOKENIZER.decode(ids) == "inside, éin"
    assert TOKENIZER.decode(TOKENIZER.encode_batch(column)[0]) == "inside, é"


def test_special_tokens_in_a_document_are_text():
    ids = TOKENIZER.encode(f"a{END_OF_TEXT}b")
    assert not set(ids.tolist()) & set(TOKENIZER.special_tokens.values())


def test_special_tokens_are_recognised_where_they_are_asked_for():
    text = "<|end|>x<|end|><|end|> y"  # of names that begin alike tiktoken takes any
    ids = TOKENIZER.encode_with_special(text).tolist()
    assert ids == ORACLES["cl100k_digits"].encode(text, allowed_special="all")


def test_the_longest_special_token_is_recognised_where_several_begin():
    ids = TOKENIZER.encode_with_special(f"<|endof{END_OF_TEXT}").tolist()
    assert ids == [TOKENIZER.special_tokens["<|endof"], TOKENIZER.special_tokens[END_OF_TEXT]]


def test_bytes_per_token_adds_up_to_the_text_and_leaves_special_tokens_out():
    ids = TOKENIZER.encode_with_special(PROSE + END_OF_TEXT)
    assert TOKENIZER.bytes_per_token[ids].sum() == len(PROSE.encode())
    assert len(TOKENIZER.bytes_per_token) == TOKENIZER.vocab_size == 700


def test_saving_and_loading_gives_the_same_tokenizer_and_the_same_bytes(tmp_path: Path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, tokenizer in zip(folders, (TOKENIZER, train("cl100k_digits")), strict=True):
        folder.mkdir()
        tokenizer.save(folder)
    assert folder_digest(folders[0]) == folder_digest(folders[1])
    loaded = Tokenizer.load(folders[0])
    assert loaded.token_bytes == TOKENIZER.token_bytes
    assert loaded.special_tokens == TOKENIZER.special_tokens
    assert np.array_equal(loaded.encode(PROSE), TOKENIZER.encode(PROSE))


def test_a_tokenizer_travels_to_other_processes():
    copy = pickle.loads(pickle.dumps(TOKENIZER))
    assert np.array_equal(copy.encode(PROSE), TOKENIZER.encode(PROSE))


def test_a_large_vocabulary_has_wide_ids():
    filler = np.stack([np.arange(70_000) % 256, np.arange(70_000) // 256 % 256], axis=1)
    wide = Tokenizer(filler.astype(np.int32), "gpt2", CLASSES, SPECIAL)
    assert wide.encode("x").dtype == np.uint32


def test_a_missing_text_is_refused():
    with pytest.raises(Refusal, match="texts must be present, got null at 1"):
        TOKENIZER.encode_batch(pa.array(["a", None]))


def test_an_unknown_pattern_is_refused():
    with pytest.raises(
        Refusal, match=r"pattern must be one of gpt2, cl100k, .*, got 'gpt5', which leaves"
    ):
        Tokenizer(TOKENIZER.merges, "gpt5", CLASSES)


def test_special_tokens_that_repeat_are_refused():
    with pytest.raises(Refusal, match="special_tokens must differ and not be empty, got"):
        Tokenizer(TOKENIZER.merges, "gpt2", CLASSES, ("<|a|>", "<|a|>"))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path):
    with pytest.raises(Refusal, match=r"must hold tokenizer\.json, got nothing there"):
        Tokenizer.load(tmp_path)

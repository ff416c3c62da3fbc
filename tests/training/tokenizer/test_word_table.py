import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.tokenizer.word_table import (
    KEY,
    LENGTH,
    PLACE,
    doubled,
    find_row,
    new_table,
    word_key,
)

short_words = st.binary(min_size=1, max_size=7)
HASHED = np.uint64(1 << 63)


def key_of(word: bytes) -> np.uint64:
    return np.uint64(word_key(np.frombuffer(word, np.uint8), 0, len(word)))


def row_of(table: np.ndarray, text: np.ndarray, word: bytes, key: np.uint64) -> int:
    return int(find_row(table, text, np.frombuffer(word, np.uint8), 0, len(word), key))


@given(st.lists(short_words, unique=True))
def test_short_words_that_differ_have_keys_that_differ(words):
    keys = [key_of(word) for word in words]
    assert len(set(keys)) == len(words)
    assert all(0 < key < HASHED for key in keys)


@given(st.binary(min_size=8, max_size=40))
def test_the_key_of_a_long_word_says_that_it_is_a_hash(word):
    assert key_of(word) & HASHED


def test_long_words_of_one_key_are_told_apart_by_their_bytes_and_length():
    words = [b"abcdefgh", b"abcdefgX", b"abcdefghi", b"Xbcdefgh"]
    text = np.frombuffer(b"".join(words), np.uint8)
    table, place, rows = new_table(16), 0, []
    for word in words:
        row = row_of(table, text, word, HASHED)
        assert table[row, KEY] == 0
        table[row, [KEY, PLACE, LENGTH]] = HASHED, place, len(word)
        place += len(word)
        rows.append(row)
    assert [row_of(table, text, word, HASHED) for word in words] == rows
    assert len(set(rows)) == len(words)


@given(st.lists(short_words, unique=True, min_size=1, max_size=8))
def test_a_table_that_is_doubled_finds_what_it_held(words):
    table, text = new_table(16), np.empty(0, np.uint8)
    for number, word in enumerate(words):
        row = row_of(table, text, word, key_of(word))
        table[row] = key_of(word), 0, len(word), number
    for _ in range(2):
        table = doubled(table)
        found = [table[row_of(table, text, word, key_of(word)), 3] for word in words]
        assert found == list(range(len(words)))

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.compiled import compiled
from training.tokenizer.learning.word_table import (
    EMPTY,
    HASH,
    HIGH,
    LENGTH,
    LOW,
    PLACE,
    VALUE,
    doubled_long,
    doubled_short,
    long_hash,
    long_row,
    long_table,
    short_row,
    short_table,
)
from training.tokenizer.scanning.short_words import short_byte, short_key, short_length
from training.tokenizer.scanning.window import SIZE

short_words = st.binary(min_size=1, max_size=SIZE - 1)
long_words = st.binary(min_size=SIZE, max_size=5 * SIZE)


@compiled
def _key(data, at, size, key):
    key[0], key[1] = short_key(data, at, size)


@compiled
def _bytes(key, out):
    length = short_length(key[1])
    for i in range(length):
        out[i] = short_byte(key[0], key[1], i)
    return length


@compiled
def _short_row(rows, key):
    return short_row(rows, key[0], key[1])


@compiled
def _long_hash(data, at, size):
    return long_hash(data, at, size)


@compiled
def _long_row(rows, text, data, at, size, key):
    return long_row(rows, text, data, at, size, key)


def key_of(word: bytes, before: bytes = b"", after: bytes = b"") -> np.ndarray:
    key = np.zeros(2, np.uint64)
    _key(np.frombuffer(before + word + after, np.uint8), len(before), len(word), key)
    return key


def row_of(rows: np.ndarray, text: bytes, word: bytes, key: np.uint64) -> int:
    place = np.frombuffer(word, np.uint8)
    return int(_long_row(rows, np.frombuffer(text, np.uint8), place, 0, len(word), key))


@given(short_words, st.binary(max_size=20), st.binary(max_size=20))
def test_the_key_of_a_short_word_is_its_bytes_wherever_it_stands(word, before, after):
    key, out = key_of(word, before, after), np.zeros(SIZE, np.uint8)
    assert key.tolist() == key_of(word).tolist()
    assert key[1] != EMPTY
    assert out[: _bytes(key, out)].tobytes() == word


@given(long_words, st.binary(max_size=20), st.binary(max_size=20))
def test_the_hash_of_a_long_word_is_the_same_wherever_it_stands(word, before, after):
    text = np.frombuffer(before + word + after, np.uint8)
    key = _long_hash(text, len(before), len(word))
    assert key == _long_hash(np.frombuffer(word, np.uint8), 0, len(word))
    assert key != EMPTY


def test_long_words_of_one_hash_are_told_apart_by_their_bytes_and_length():
    words = [b"a" * 16, b"a" * 15 + b"b", b"a" * 17, b"b" + b"a" * 15]
    text = b"".join(words)
    rows, place, found, key = long_table(16), 0, [], np.uint64(7)
    for word in words:
        row = row_of(rows, text, word, key)
        assert rows[row, HASH] == EMPTY
        rows[row, [HASH, PLACE, LENGTH]] = key, place, len(word)
        place += len(word)
        found.append(row)
    assert [row_of(rows, text, word, key) for word in words] == found
    assert len(set(found)) == len(words)


@given(st.lists(short_words, unique=True, min_size=1, max_size=8))
def test_a_short_table_that_is_doubled_finds_what_it_held(words):
    rows = short_table(16)
    for number, word in enumerate(words):
        key = key_of(word)
        rows[_short_row(rows, key), [LOW, HIGH, VALUE]] = *key, number
    for _ in range(2):
        rows = doubled_short(rows)
        assert [rows[_short_row(rows, key_of(w)), VALUE] for w in words] == [*range(len(words))]


@given(st.lists(long_words, unique=True, min_size=1, max_size=8))
def test_a_long_table_that_is_doubled_finds_what_it_held(words):
    rows, text, place = long_table(16), b"".join(words), 0
    for word in words:
        key = np.uint64(_long_hash(np.frombuffer(word, np.uint8), 0, len(word)))
        rows[row_of(rows, text, word, key)] = key, place, len(word), 0
        place += len(word)
    for _ in range(2):
        rows = doubled_long(rows)
        place = 0
        for word in words:
            key = np.uint64(_long_hash(np.frombuffer(word, np.uint8), 0, len(word)))
            assert rows[row_of(rows, text, word, key), PLACE] == place
            place += len(word)

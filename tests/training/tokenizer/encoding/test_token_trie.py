"""The trie of tokens' bytes against trying every token."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.compiled import compiled
from training.tokenizer.encoding.token_trie import longest_token, token_trie
from training.tokenizer.texts import frozen

BYTES = [bytes([byte]) for byte in range(256)]
some_bytes = st.lists(st.sampled_from([0, 1, 97, 98, 255]), min_size=1, max_size=9).map(bytes)


@compiled
def longest(nodes, data, at, end):
    return longest_token(nodes, data, at, end)


@given(st.sets(some_bytes, max_size=60), some_bytes, st.integers(0, 1 << 20))
def test_the_longest_token_with_which_a_text_begins_is_found(more, text, first):
    tokens = {token: (first + i) % (1 << 20) for i, token in enumerate({*BYTES, *more})}
    data = np.frombuffer(text, np.uint8)
    nodes = frozen(token_trie(tokens))
    for at in range(len(text)):
        for end in range(at + 1, len(text) + 1):
            begins = [token for token in tokens if text[at:end].startswith(token)]
            wanted = max(begins, key=len)
            assert longest(nodes, data, at, end) == (tokens[wanted], at + len(wanted))


def test_many_tokens_find_their_place():
    random = np.random.default_rng(0)
    more = {random.bytes(int(size)) for size in random.integers(2, 7, 20_000)}
    tokens = {token: i for i, token in enumerate([*BYTES, *(more - set(BYTES))])}
    nodes = frozen(token_trie(tokens))
    for token, number in list(tokens.items())[:2000]:
        data = np.frombuffer(token, np.uint8)
        assert longest(nodes, data, 0, len(data)) == (number, len(data))

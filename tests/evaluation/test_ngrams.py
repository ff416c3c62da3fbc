import math
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from datalake.config import Refusal
from evaluation import ngrams
from evaluation.ngrams import DISCOUNT, Ngrams
from training.data.rows import Rows

VOCAB = 37


def rows(num_rows: int, context: int = 16, vocab_size: int = VOCAB, seed: int = 0) -> np.ndarray:
    """Rows ``[rows, context + 1]`` of a stream with structure, overlapping by one."""
    random = np.random.default_rng(seed)
    stream = np.zeros(num_rows * context + 1, np.int64)
    for i in range(1, len(stream)):
        follows = (3 * stream[i - 1] + 5) % vocab_size
        stream[i] = follows if random.random() < 0.5 else int(random.zipf(1.5)) % vocab_size
    places = np.arange(num_rows)[:, None] * context + np.arange(context + 1)
    return stream[places].astype(np.uint16)


class Reference:
    """The same definition from dictionaries, one token at a time."""

    def __init__(self, pieces: list[list[int]], vocab_size: int):
        self.vocab_size = vocab_size
        self.pairs = Counter(pair for piece in pieces for pair in pairwise(piece))
        self.triples = Counter(
            triple for piece in pieces for triple in zip(piece, piece[1:], piece[2:], strict=False)
        )
        self.before = defaultdict(set)  # token -> distinct predecessors
        for u, v in self.pairs:
            self.before[v].add(u)
        self.before_pair = defaultdict(set)
        for u, v, w in self.triples:
            self.before_pair[v, w].add(u)

    def unigram(self, w):
        given_up = DISCOUNT * len(self.before) / len(self.pairs)
        kept = max(len(self.before[w]) - DISCOUNT, 0) if w in self.before else 0
        return kept / len(self.pairs) + given_up / self.vocab_size

    @staticmethod
    def interpolate(counts, w, lower):
        total = sum(counts.values())
        if not total:
            return lower
        kept = max(counts.get(w, 0) - DISCOUNT, 0)
        return kept / total + DISCOUNT * len(counts) / total * lower

    def bigram(self, v, w):
        after = {b: n for (a, b), n in self.pairs.items() if a == v}
        return self.interpolate(after, w, self.unigram(w))

    def trigram(self, u, v, w):
        continued = {b: len(s) for (a, b), s in self.before_pair.items() if a == v}
        after = {c: n for (a, b, c), n in self.triples.items() if (a, b) == (u, v)}
        return self.interpolate(after, w, self.interpolate(continued, w, self.unigram(w)))


def train(tokens: np.ndarray, vocab_size: int = VOCAB) -> Ngrams:
    return ngrams.train(Rows.whole(tokens, vocab_size))


def nats(model: Ngrams, tokens: np.ndarray, order: int) -> np.ndarray:
    return model.nats(Rows.whole(tokens, model.vocab_size), order)


@pytest.mark.parametrize("order", [2, 3])
def test_probabilities_sum_to_one_after_every_context(order):
    model = train(rows(20))
    contexts = [(u, v) for u in range(VOCAB) for v in range(0, VOCAB, 3)]
    sums = [model.distribution(context, order).sum() for context in contexts]
    assert np.allclose(sums, 1, atol=1e-12)


@pytest.mark.parametrize("order", [2, 3])
def test_a_full_sized_vocabulary_sums_to_one(order):
    model = train(rows(60, context=256, vocab_size=8192), vocab_size=8192)
    for context in [(0, 0), (5, 20), (8191, 8191), (20, 65)]:
        assert model.distribution(context, order).sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("order", [2, 3])
def test_nothing_unseen_is_impossible(order):
    model = train(rows(3))
    assert model.distribution((VOCAB - 1, VOCAB - 1), order).min() > 0
    unseen = np.arange(VOCAB, dtype=np.uint16)[None, ::-1]
    assert np.isfinite(nats(model, unseen, order)).all()


def test_every_probability_equals_that_of_plain_dictionaries():
    tokens = rows(6)
    reference = Reference(tokens.tolist(), VOCAB)
    model = train(tokens)
    for u in range(0, VOCAB, 2):
        for v in range(VOCAB):
            bigram = [reference.bigram(v, w) for w in range(VOCAB)]
            trigram = [reference.trigram(u, v, w) for w in range(VOCAB)]
            assert np.allclose(model.distribution((u, v), 2), bigram, rtol=1e-12)
            assert np.allclose(model.distribution((u, v), 3), trigram, rtol=1e-12)


def test_nats_are_the_logarithms_of_the_distribution():
    model, held_out = train(rows(20)), rows(2, seed=1)
    for order in (2, 3):
        found = nats(model, held_out, order)
        assert found.shape == (2, 16)
        assert found.dtype == np.float32
        for row, position in [(0, 3), (1, 15)]:
            context = held_out[row, : position + 1]
            p = model.distribution(context, order)[held_out[row, position + 1]]
            assert found[row, position] == pytest.approx(-math.log(p), rel=1e-6)


def test_the_first_target_of_a_row_has_one_token_of_context():
    model, held_out = train(rows(20)), rows(3, seed=2)
    assert (nats(model, held_out, 3)[:, 0] == nats(model, held_out, 2)[:, 0]).all()


def in_pieces(seed: int, num_rows: int = 40, context: int = 16) -> tuple[Rows, list[list[int]]]:
    """Rows of several pieces, some not filled, and the same pieces one by one."""
    random = np.random.default_rng(seed)
    tokens = rows(num_rows, context, seed=seed)
    filled = random.integers(2, context + 2, num_rows)
    starts = [
        [0, *sorted(random.choice(np.arange(1, n), min(2, n - 1), replace=False).tolist())]
        for n in filled.tolist()
    ]
    pieces = [
        tokens[row, a:b].tolist()
        for row, begins in enumerate(starts)
        for a, b in pairwise([*begins, filled[row]])
    ]
    packed = Rows(
        tokens=tokens,
        num_tokens=filled,
        piece_offsets=np.cumsum([0, *map(len, starts)]),
        piece_starts=np.concatenate(starts).astype(np.int64),
        vocab_size=VOCAB,
    )
    return packed, pieces


def test_ngrams_are_counted_inside_pieces_alone():
    packed, pieces = in_pieces(seed=4)
    model, reference = ngrams.train(packed), Reference(pieces, VOCAB)
    assert model.bigrams.counts.sum() == reference.pairs.total() == packed.num_targets.sum()
    assert model.trigrams.counts.sum() == reference.triples.total()
    for u, v in [(0, 5), (5, 20), (3, 3), (20, 28)]:
        trigram = [reference.trigram(u, v, w) for w in range(VOCAB)]
        assert np.allclose(model.distribution((u, v), 3), trigram, rtol=1e-12)


def test_a_target_sees_its_own_piece_alone():
    model = train(rows(20))
    packed, pieces = in_pieces(seed=5)
    found = model.nats(packed, 3)
    numbers = packed.pieces()
    expected = [
        -math.log(model.distribution(piece[:place], min(place + 1, 3))[piece[place]])
        for piece in pieces
        for place in range(1, len(piece))
    ]
    scored = (numbers[:, 1:] == numbers[:, :-1]) & (numbers[:, 1:] >= 0)
    assert np.allclose(found[scored], expected, rtol=1e-6)


def test_counting_in_pieces_equals_counting_at_once(monkeypatch):
    whole = train(rows(30))
    monkeypatch.setattr(ngrams, "_SORTED_AT_ONCE", 41)
    monkeypatch.setattr(ngrams, "_ROWS_AT_ONCE", 2)
    pieces = train(rows(30))
    for level in ("bigrams", "continued_bigrams", "trigrams"):
        ours, theirs = getattr(pieces, level), getattr(whole, level)
        assert (ours.ngrams == theirs.ngrams).all()
        assert (ours.counts == theirs.counts).all()
        assert (ours.followers == theirs.followers).all()
    held_out = rows(5, seed=1)
    assert (nats(pieces, held_out, 3) == nats(whole, held_out, 3)).all()


def test_packed_keys_do_not_collide_at_the_largest_vocabulary():
    tokens = np.array([[65535, 65534, 65535, 65535, 0, 65535]], np.uint16)
    model = train(tokens, vocab_size=65536)
    assert len(model.trigrams.ngrams) == 4
    assert (model.trigrams.ngrams >= 0).all()
    assert model.distribution((65535, 65534), 3).argmax() == 65535


def test_more_context_predicts_held_out_text_better():
    stream = np.random.default_rng(0)
    tokens, previous = [0, 1], (0, 1)
    for _ in range(6400):  # the next token depends on the last two
        follows = (previous[0] + 2 * previous[1]) % VOCAB
        following = follows if stream.random() < 0.9 else int(stream.integers(VOCAB))
        tokens.append(following)
        previous = (previous[1], following)
    places = np.arange(400)[:, None] * 16 + np.arange(17)
    packed = np.array(tokens, np.uint16)[places]
    model = train(packed[:360])
    assert nats(model, packed[360:], 3).mean() < 0.6 * nats(model, packed[360:], 2).mean()


def test_one_transition_is_enough_to_train():
    model = train(np.array([[4, 7]], np.uint16))
    assert model.distribution((4,), 2).argmax() == 7
    assert model.distribution((0, 4), 3).argmax() == 7


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.zeros((0, 17), np.uint16), "rows must hold at least one target, got none in 0 rows"),
        (np.zeros((3, 1), np.uint16), "rows must hold at least one target, got none in 3 rows"),
        (
            np.array([[1, 2, VOCAB]], np.uint16),
            f"tokens must be below vocab_size {VOCAB}, got {VOCAB}",
        ),
    ],
)
def test_rows_without_a_target_or_of_another_vocabulary_are_refused(tokens, message):
    with pytest.raises(Refusal) as refusal:
        train(tokens)
    assert str(refusal.value) == message


def test_an_order_that_was_not_counted_is_refused():
    with pytest.raises(Refusal, match="order must be 2 or 3, got 4"):
        train(rows(3)).nats(rows(1), 4)

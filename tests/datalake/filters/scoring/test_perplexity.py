"""Perplexity: against a plain Kneser-Ney from dictionaries, then on texts of several kinds."""

import math
import pickle
import random
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from datalake.config import Refusal
from datalake.filters.scoring import scorers
from datalake.filters.scoring.perplexity import NgramModel, PerplexityConfig, _discounts, fit
from datalake.filters.scoring.token_kernels import tables, tokens_of
from datalake.workspace import Workspace
from tests.datalake.document_rows import documents
from tests.datalake.filters.scoring.test_classifiers import functions_and_docs

SMALL = [
    "the cat saw the dog",
    "the dog saw a cat",
    "a cat ran, and the dog ran",
    "the the cat",
] * 2


def config(**settings: object) -> PerplexityConfig:
    return PerplexityConfig.model_validate(
        {"kind": "perplexity", "documents": ({"source": "web"},), "max_bytes": 10_000, **settings}
    )


def model(texts: list[str], **settings: object) -> NgramModel:
    return fit("model", pa.array(texts, pa.large_string()), config(**settings))


def scores(scorer: NgramModel, *texts: str) -> list[float]:
    return scorer.score(documents(*texts)).tolist()


class PlainModel:
    """Interpolated modified Kneser-Ney with words as Python integers, recursively."""

    def __init__(self, texts: list[str], order: int) -> None:
        split = [self.split(text) for text in texts]
        often = Counter(token for tokens in split for token in tokens)
        self.vocabulary = {token for token, count in often.items() if count > 1}
        grams: Counter[tuple] = Counter()
        for tokens in split:
            padded = ["<s>"] * order + [self.known(t) for t in tokens] + ["</s>"]
            for end in range(order, len(padded)):
                grams[tuple(padded[end - order + 1 : end + 1])] += 1
        self.counts: dict[int, dict[tuple, Counter]] = {}
        self.discounts = {}
        for n in range(order, 0, -1):
            self.discounts[n] = _discounts(np.array(list(grams.values())))
            self.counts[n] = defaultdict(Counter)
            for gram, count in grams.items():
                self.counts[n][gram[:-1]][gram[-1]] = count
            grams = Counter(gram[1:] for gram in grams)
        self.order = order

    @staticmethod
    def split(text: str) -> list:
        data = np.frombuffer(text.encode(), np.uint8)
        return tokens_of(data, *tables(), True)[0].tolist()

    def known(self, token: object) -> object:
        return token if token in self.vocabulary else "<unk>"

    @property
    def events(self) -> list:
        return [*self.vocabulary, "<unk>", "</s>"]

    def probability(self, context: tuple, token: object) -> float:
        n = len(context) + 1
        lower = self.probability(context[1:], token) if n > 1 else 1 / len(self.events)
        seen = self.counts[n].get(context)
        if not seen:
            return lower
        total, cut = sum(seen.values()), self.discounts[n]
        weight = sum(cut[min(3, count)] for count in seen.values()) / total
        own = seen[token] - cut[min(3, seen[token])] if token in seen else 0
        return own / total + weight * lower

    def nats(self, text: str) -> float:
        padded = ["<s>"] * (self.order - 1) + [self.known(t) for t in self.split(text)] + ["</s>"]
        return -sum(
            math.log(self.probability(tuple(padded[end - self.order + 1 : end]), padded[end]))
            for end in range(self.order - 1, len(padded))
        )


TEXTS = [*SMALL, "the", "dog the dog the", "ran ran ran", "a cat saw the dog and ran", ""]


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_likelihoods_equal_a_plain_kneser_ney(order: int) -> None:
    plain, compiled = PlainModel(SMALL, order), model(SMALL, order=order)
    found = compiled.nats(pa.array(TEXTS, pa.large_string()))
    assert found[:, 0] == pytest.approx([plain.nats(text) for text in TEXTS], rel=1e-5)
    assert found[:, 1].tolist() == [len(plain.split(text)) + 1 for text in TEXTS]
    assert found[:, 2].tolist() == [len(text) for text in TEXTS]


def test_likelihoods_equal_on_text_with_all_counts_of_counts() -> None:
    draw = random.Random(0)
    words = [f"{chr(97 + k % 26)}{chr(97 + k // 26)}" for k in range(60)]
    chance = [1 / (1 + k) for k in range(60)]
    texts = [" ".join(draw.choices(words, chance, k=80)) for _ in range(20)]
    plain, compiled = PlainModel(texts[:15], 3), model(texts[:15], order=3)
    known = [" ".join(w for w in t.split() if plain.split(w)[0] in plain.vocabulary) for t in texts]
    found = compiled.nats(pa.array(known, pa.large_string()))[:, 0]
    assert found == pytest.approx([plain.nats(text) for text in known], rel=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_after_every_context_sum_to_one(order: int) -> None:
    plain, compiled = PlainModel(SMALL, order), model(SMALL, order=order)
    words = sorted({w for text in SMALL for w in text.replace(",", " , ").split()})
    for context in ("", "the", "the cat", "dog dog", "saw the", ","):
        unknown = f"{context} zebra"
        # What the spelling of an unknown word costs is no part of the distribution of words.
        spelled = -sum(compiled.spelling[a, b] for a, b in pairwise([256, *b"zebra", 256]))
        total = math.exp(spelled - _next(compiled, context, unknown))
        total += sum(
            math.exp(-_next(compiled, context, f"{context} {word}"))
            for word in words
            if plain.split(word)[0] in plain.vocabulary
        )
        assert total + math.exp(-_ending(compiled, context)) == pytest.approx(1, rel=1e-4)
        assert np.exp(compiled.spelling).sum(axis=1) == pytest.approx(1, rel=1e-4)


def _nats(compiled: NgramModel, text: str) -> float:
    return float(compiled.nats(pa.array([text], pa.large_string()))[0, 0])


def _ending(compiled: NgramModel, text: str) -> float:
    """Nats of the end after ``text``."""
    return _nats(compiled, text) - _without_end(compiled, text)


def _next(compiled: NgramModel, context: str, text: str) -> float:
    return _without_end(compiled, text) - _without_end(compiled, context)


def _without_end(compiled: NgramModel, text: str) -> float:
    """Nats of ``text`` alone, from a plain walk over the compiled table."""
    from datalake.filters.scoring.perplexity_kernels import END, START, UNKNOWN, _slot, extend

    def entry(key: np.uint64) -> np.ndarray | None:
        slot = _slot(compiled.slots, np.uint64(key))
        return compiled.values[slot] if compiled.slots[slot] else None

    def key_of(tokens: list) -> np.uint64:
        key = np.uint64(0)
        for token in tokens:
            key = np.uint64(extend(key, np.uint64(token)))
        return key

    def log_p(context: list, token: object) -> float:
        if (found := entry(key_of([*context, token]))) is not None and found[0] != 0:
            return float(found[0])
        weight = entry(key_of(context))
        return (float(weight[1]) if weight is not None else 0.0) + log_p(context[1:], token)

    total, history = 0.0, [START] * (compiled.order - 1)
    for token, word in zip(PlainModel.split(text), text.replace(",", " , ").split(), strict=True):
        if entry(key_of([token])) is None:
            token = UNKNOWN
            total -= sum(compiled.spelling[a, b] for a, b in pairwise([256, *word.encode(), 256]))
        total -= log_p(history, token)
        history = [*history, token][1:] if history else []
    assert END != START
    return total


def shuffled(text: str) -> str:
    words = text.split()
    random.Random(0).shuffle(words)
    return " ".join(words)


JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
GERMAN = "Der Vertrag gilt für alle Bücher, die nach dem ersten Mai gedruckt worden sind."
THAI = "ภาษาไทยเป็นภาษาที่มีระดับเสียงของคำแน่นอนหรือวรรณยุกต์"


def test_text_of_the_same_kind_is_likelier_than_shuffled_code_or_foreign_text() -> None:
    code, prose = functions_and_docs()
    trained = model(prose[:180])
    held_out = [text for text in prose[180:] if text not in prose[:180]]
    own = np.median(scores(trained, *held_out))
    assert own < 0.8 * np.median(scores(trained, *map(shuffled, held_out)))
    assert own < 0.5 * np.median(scores(trained, *code))
    for foreign in scores(trained, JAPANESE, GERMAN, THAI):
        assert own < 0.2 * foreign


def test_japanese_is_likely_to_a_model_of_japanese() -> None:
    trained = model([JAPANESE[:20], JAPANESE[5:]] * 3, gives="bits_per_byte")
    japanese, english = scores(trained, JAPANESE, "It was the best of times.")
    assert japanese < 1 < english


def test_bits_per_byte_and_perplexity_are_of_one_sum() -> None:
    perplexity, bits = model(SMALL), model(SMALL, gives="bits_per_byte")
    text = "the cat saw a dog"
    (nats,) = perplexity.nats(pa.array([text], pa.large_string()))[:, 0]
    assert scores(perplexity, text) == pytest.approx([math.exp(nats / 6)])
    assert scores(bits, text) == pytest.approx([nats / math.log(2) / len(text)])


def test_a_text_without_tokens_has_no_perplexity_and_odd_texts_have_one() -> None:
    trained = model(SMALL)
    assert np.isnan(scores(trained, "", " \n\t ")).all()
    odd = scores(trained, "x", "\0" * 1000, "y" * 20_000, "same line\n" * 20_000, "👩‍🔬 ½ \u0301")
    assert all(score > 1 for score in odd)  # of words so long that they overflow: infinite


def test_vocabulary_is_bounded_and_the_start_of_a_document_counts() -> None:
    assert np.count_nonzero(model(SMALL, order=1, vocab_size=16).slots) <= 16 + 2 + 1
    texts = [f"word{chr(97 + k % 26)}{chr(97 + k // 26)} " * 2 for k in range(100)]
    assert np.count_nonzero(model(texts, order=1, vocab_size=16).slots) <= 16 + 2 + 1
    small = model(SMALL, max_bytes=64)
    assert scores(small, "the cat " * 8) == scores(small, "the cat " * 100)


def test_ccnets_cuts_are_reported_and_the_model_travels(spark_workspace: Workspace) -> None:
    code, prose = functions_and_docs()
    rows = documents(*prose, *code, source=["web"] * len(prose) + ["code"] * len(code))
    lake = spark_workspace.lake
    version = lake.overwrite("documents", [rows.slice(0, 100), rows.slice(100)]).version
    named = scorers.ScorersConfig(scorers={"docs": config()})
    made = scorers.train(spark_workspace, {"documents": version}, named)
    head = float(made.report["docs: head ends at perplexity"])
    tail = float(made.report["docs: tail begins at perplexity"])
    assert made.report["docs: trained on"] == f"{len(prose)} documents"
    assert float(made.report["docs: held-out perplexity"]) > 1
    (scorer,) = scorers.load(str(made.version))
    found = pickle.loads(pickle.dumps(scorer)).score(rows)
    assert (found <= head).mean() == pytest.approx(0.3, abs=0.01)
    assert (found <= tail).mean() == pytest.approx(0.6, abs=0.01)
    assert list(made.plots) == ["Documents by perplexity under docs"]
    again = lake.overwrite("documents", [rows.slice(0, 300), rows.slice(300)]).version
    assert scorers.train(spark_workspace, {"documents": again}, named).content == made.content


def test_too_few_documents_and_unknown_sources_are_refused(spark_workspace: Workspace) -> None:
    version = spark_workspace.lake.overwrite("documents", [documents("one", "two")]).version

    def refusal(**settings: object) -> str:
        named = scorers.ScorersConfig(scorers={"wiki": config(**settings)})
        with pytest.raises(Refusal) as caught:
            scorers.train(spark_workspace, {"documents": version}, named)
        return str(caught.value)

    assert refusal() == "scorers.wiki must have at least 20 documents, got 2"
    assert refusal(documents=({"source": "wikipedia"},)) == (
        "scorers.wiki.documents.source must be one of web, got wikipedia"
    )
    with pytest.raises(ValidationError, match="must have either documents or labelled files"):
        config(documents=())

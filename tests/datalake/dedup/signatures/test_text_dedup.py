"""The ``text_dedup`` mode beside text-dedup 0.4: the same minima, the same clusters."""

import multiprocessing
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from datalake.dedup.signatures.minhash import Banding, TextDedupConfig, sign
from tests.datalake.dedup.signatures.test_minhash import SENTENCES, strange_texts
from tests.datalake.dedup.source_texts import pieces, plant

HASHES = ("sha1", "xxh3")
ODD = (
    "",
    "one",
    "...",
    "one two three four",
    "one two three four five",
    "İSTANBUL İİ i\u0307 a b c",
    "ΑΣ ΟΔΟΣ ΣΣ aΣ Σ Σ. Σ'Σ' ΑΣ'Σ",
    "ΑΣ\u0301 ΑΣ\u00ad. x\u0345Σ Σ\U000e0061 ΑΣ\U000e0061 ΑΣ\U000e0061Α",
    "É" * 500,
    "ⱥȺ" * 300,
    "\u1e9e ß ſ K Å \u2126 ﬁ",
    "x\x00y\x00z " * 5,
    "a" * 5000 + " b c d",
    "a b c d " + "語" * 300,
    "\U00010400\U0001f600\U0001d7d8 " * 20,
    "Σ" * 1000,
    "one two  three - four_five, six\n\n\nseven",
)


@cache
def _peer() -> Callable:
    """text-dedup's signature function. Its import changes how processes start: undone here."""
    before = multiprocessing.get_start_method(allow_none=True)
    from text_dedup.minhash import embed_func

    multiprocessing.set_start_method(before, force=True)
    return embed_func


def peer_bands(texts: list[str], config: TextDedupConfig) -> list[list[bytes]]:
    """The bands of text-dedup, called as its own program calls it."""
    from text_dedup.utils import optimal_param, sha1_hash, xxh3_32hash

    bands, rows = optimal_param(config.threshold, config.num_perm)
    draw, prime = np.random.RandomState(42), np.uint64((1 << 61) - 1)
    a = draw.randint(1, prime, size=(config.num_perm,), dtype=np.uint64)
    b = draw.randint(0, prime, size=(config.num_perm,), dtype=np.uint64)
    return [
        _peer()(
            text,
            0,
            num_perm=config.num_perm,
            ngram_size=config.ngram,
            min_length=config.min_length,
            hashranges=list(pairwise(range(0, bands * rows + 1, rows))),
            permutations=(a, b),
            hash_func=sha1_hash if config.hash == "sha1" else xxh3_32hash,
            dtype=np.uint64,
            max_hash=np.uint32((1 << 32) - 1),
            modulo_prime=prime,
        )["__signatures__"]
        for text in texts
    ]


def clusters(bands: Iterable[Iterable[Hashable]]) -> set[frozenset[int]]:
    """Clusters of two and more documents that share bands, by text-dedup's union-find."""
    from text_dedup.utils import UnionFind

    forest, buckets = UnionFind(), defaultdict(set)
    for document, its in enumerate(bands):
        for band, content in enumerate(its):
            buckets[band, content].add(document)
    for members in buckets.values():
        for member in members:
            forest.union(member, min(members))
    found = defaultdict(set)
    for document in list(forest.parent):
        found[forest.find(document)].add(document)
    return {frozenset(members) for members in found.values() if len(members) > 1}


def assert_same_minima(texts: list[str], config: TextDedupConfig) -> None:
    signatures = sign(pa.array(texts), Banding.of(config))[1].to_pylist()
    for text, ours, theirs in zip(texts, signatures, peer_bands(texts, config), strict=True):
        peer = np.frombuffer(b"".join(theirs), ">u8")
        assert np.array_equal(np.frombuffer(ours, "<u4"), peer), text


@pytest.mark.parametrize("name", HASHES)
def test_minima_are_text_dedups_in_every_script(name: str) -> None:
    texts = [*ODD, *SENTENCES.values(), *strange_texts(80, seed=2)]
    assert_same_minima(texts, TextDedupConfig(kind="text_dedup", hash=name))


@pytest.mark.parametrize("name", HASHES)
@pytest.mark.parametrize(("ngram", "min_length"), [(1, 0), (3, 0), (8, 5), (2, 9)])
def test_minima_are_text_dedups_for_other_lengths(name: str, ngram: int, min_length: int) -> None:
    config = TextDedupConfig(
        kind="text_dedup", hash=name, ngram=ngram, min_length=min_length, num_perm=128
    )
    assert_same_minima([*ODD, *SENTENCES.values()], config)


def test_capital_sigma_has_the_lower_case_that_python_gives_it() -> None:
    draw = random.Random(0)
    letters = list("ΣΣΣaA.'1 \u0301\u00ad:ʰ\U000e0061語")
    texts = ["".join(draw.choices(letters, k=30)) for _ in range(500)]
    config = TextDedupConfig(kind="text_dedup", hash="xxh3", ngram=2, min_length=0, num_perm=20)
    assert_same_minima(texts, config)


@pytest.mark.parametrize("name", ["sha1", pytest.param("xxh3", marks=pytest.mark.slow)])
def test_clusters_of_5000_documents_are_text_dedups(name: str) -> None:
    config = TextDedupConfig(kind="text_dedup", hash=name)
    texts = pieces("stdlib", 900, 4000)
    texts += plant(texts, 800)[0]
    texts += [*ODD, *SENTENCES.values()]
    strange = strange_texts(80, seed=3)
    texts += [*strange, *(text[:-3] + "x" for text in strange)]
    texts += [text.upper() for text in SENTENCES.values()] + ["", "a b"]
    assert len(texts) >= 4990
    texts += texts[: 5000 - len(texts)]
    ours = clusters(sign(pa.array(texts), Banding.of(config))[0].to_pylist())
    assert ours == clusters(peer_bands(texts, config))
    assert len(ours) > 500
    short = {k for k, text in enumerate(texts) if text in ("", "one", "a b")}
    assert any(short <= cluster for cluster in ours)


def test_permutations_are_text_dedups() -> None:
    a, b = Banding(32, 8, 5, 42).permutations()
    assert (a[0], b[0]) == (2297359619001564596, 1128106484276550197)

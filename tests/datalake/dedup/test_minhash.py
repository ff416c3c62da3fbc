"""MinHash: keys against text-dedup's, detection against theory, short texts, chosen parameters."""

import multiprocessing
import random
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from datalake import spark
from datalake.dedup.clusters import components, star_edges
from datalake.dedup.minhash import Banding, BandsConfig, ThresholdConfig
from datalake.filters.signals import measure
from datalake.run import SignalsConfig
from datalake.workspace import Workspace
from tests.datalake.document_rows import documents
from tests.datalake.filters.plain_signals import mix, plain_tokens, shingle_hash


@pytest.fixture(scope="module")
def embed() -> Callable:
    """text-dedup's signature function. Its import changes how processes start: undone here."""
    before = multiprocessing.get_start_method(allow_none=True)
    from text_dedup.minhash import embed_func

    multiprocessing.set_start_method(before, force=True)
    return embed_func


def peer_bands(embed: Callable, text: str, banding: Banding) -> list[bytes]:
    """The bands of text-dedup, over this text's words and with our hash of a shingle."""
    bounds = range(0, banding.num_perm + 1, banding.num_rows)
    return embed(
        " ".join(plain_tokens(text)),
        0,
        num_perm=banding.num_perm,
        ngram_size=banding.shingle_words,
        min_length=banding.shingle_words,
        hashranges=list(pairwise(bounds)),
        permutations=banding.permutations(),
        hash_func=lambda shingle: shingle_hash(shingle.decode().split(" ")),
        dtype=np.uint64,
        max_hash=np.uint64((1 << 32) - 1),
        modulo_prime=np.uint64((1 << 61) - 1),
    )["__signatures__"]


def band_key(band: int, minima: np.ndarray) -> int:
    h = 0xCBF29CE484222325 ^ band
    for minimum in minima:
        h = mix(((h ^ int(minimum)) * 0x9E3779B97F4A7C15) & ((1 << 64) - 1))
    return int(np.uint64(h).view(np.int64))


def family(seed: int, num_words: int = 120, num_copies: int = 5) -> list[str]:
    """A text and copies of it with ever more words replaced."""
    draw = random.Random(seed)
    words = [f"word{draw.randrange(10_000)}" for _ in range(num_words)]
    texts = [" ".join(words)]
    for copy in range(1, num_copies):
        edited = list(words)
        for _ in range(copy * 2):
            edited[draw.randrange(num_words)] = f"new{draw.randrange(10_000)}"
        texts.append(", ".join(edited).title())
    return texts


@pytest.mark.parametrize("config", [BandsConfig(), BandsConfig(num_bands=25, num_rows=10)])
def test_band_keys_are_text_dedups_bands_hashed(embed: Callable, config: BandsConfig) -> None:
    banding = Banding.of(config)
    texts = [t for seed in range(4) for t in family(seed)] + ["Ωμέγα ένα δύο τρία, τέσσερα – πέντε"]
    keys = measure(documents(*texts), banding)["band_keys"].to_pylist()
    for text, got in zip(texts, keys, strict=True):
        bands = peer_bands(embed, text, banding)
        assert got == [band_key(k, np.frombuffer(b, ">u8")) for k, b in enumerate(bands)]


def test_clusters_are_text_dedups_clusters(embed: Callable, spark_workspace: Workspace) -> None:
    from text_dedup.utils import UnionFind

    banding = Banding.of(BandsConfig())
    texts = [text for seed in range(60) for text in family(seed)]
    forest, buckets = UnionFind(), defaultdict(list)
    for k, text in enumerate(texts):
        for band, content in enumerate(peer_bands(embed, text, banding)):
            buckets[band, content].append(k)
    for members in buckets.values():
        for member in members:
            forest.union(member, members[0])
    theirs = defaultdict(set)
    for k in range(len(texts)):
        theirs[forest.find(k)].add(k)

    rows = pa.Table.from_batches([measure(documents(*texts), banding)])
    signals = rows.select(["doc_id", "text_digest", "band_keys"])
    frame = spark.session(spark_workspace).createDataFrame(signals)
    ours = defaultdict(set)
    for row in components(star_edges(frame)).toArrow().to_pylist():
        ours[row["cluster"]].add(int(row["doc_id"], 16))
    several = {frozenset(c) for c in theirs.values() if len(c) > 1}
    assert {frozenset(c) for c in ours.values()} == several
    assert len(several) > 30 and any(len(c) < 5 for c in several)


@pytest.mark.parametrize("shared", [60, 75, 85, 95])
def test_pairs_share_a_key_as_often_as_theory_says(shared: int) -> None:
    banding = Banding.of(BandsConfig(shingle_words=1))
    num_pairs, texts = 400, []
    for pair in range(num_pairs):
        common = [f"c{pair}x{k}" for k in range(shared)]
        for side in "ab":
            texts.append(" ".join(common + [f"{side}{pair}x{k}" for k in range(100 - shared)]))
    keys = measure(documents(*texts), banding)["band_keys"].to_pylist()
    pairs = zip(keys[::2], keys[1::2], strict=True)
    found = sum(bool(set(a) & set(b)) for a, b in pairs) / num_pairs
    expected = banding.detection_probability(shared / (200 - shared))
    deviation = (expected * (1 - expected) / num_pairs) ** 0.5
    assert abs(found - expected) < 4 * deviation + 1e-3


def test_case_and_punctuation_do_not_change_the_keys() -> None:
    texts = [
        "One two, three: four (five) six",
        "one two three four five six",
        "ONE-TWO\nthree four five six!",
    ]
    keys = measure(documents(*texts), Banding.of(BandsConfig()))["band_keys"].to_pylist()
    assert keys[0] == keys[1] == keys[2]


def test_texts_shorter_than_a_shingle_have_no_keys_and_match_nothing() -> None:
    keys = measure(documents("", "...", "a b c d", "a b c d e"), Banding.of(BandsConfig()))
    assert [len(k) for k in keys["band_keys"].to_pylist()] == [0, 0, 0, 14]


def test_characters_of_scripts_without_spaces_are_words_of_their_own() -> None:
    assert plain_tokens("東京 is x1") == ["東", "京", "is", "x1"]
    page = "東京都の人口は約千四百万人である。"
    keys = measure(documents(page), Banding.of(BandsConfig()))["band_keys"].to_pylist()
    assert len(keys[0]) == 14


@pytest.mark.parametrize(
    ("threshold", "num_perm", "bands", "rows"),
    [(0.7, 256, 25, 10), (0.7, 128, 14, 9), (0.8, 256, 17, 15), (0.5, 256, 42, 6)],
)
def test_a_threshold_chooses_text_dedups_optimal_bands(
    threshold: float, num_perm: int, bands: int, rows: int
) -> None:
    config = ThresholdConfig(kind="threshold", threshold=threshold, num_perm=num_perm)
    banding = Banding.of(config)
    assert (banding.num_bands, banding.num_rows) == (bands, rows)


def test_a_recipe_says_bands_or_a_threshold() -> None:
    said = '{"minhash": {"kind": "threshold", "threshold": 0.7, "num_perm": 128}}'
    assert SignalsConfig.model_validate_json(said).minhash == ThresholdConfig(
        kind="threshold", threshold=0.7, num_perm=128
    )
    said = '{"minhash": {"kind": "bands", "num_bands": 20}}'
    assert SignalsConfig.model_validate_json(said).minhash == BandsConfig(num_bands=20)
    assert SignalsConfig().minhash == BandsConfig(num_bands=14, num_rows=8)


def test_fourteen_bands_of_eight_find_what_fineweb_says() -> None:
    banding = Banding.of(BandsConfig())
    found = [round(100 * banding.detection_probability(s), 1) for s in (0.5, 0.7, 0.75, 0.8, 0.85)]
    assert found == [5.3, 56.5, 77.2, 92.4, 98.8]
    assert round(banding.threshold, 2) == 0.72


def test_permutations_are_text_dedups() -> None:
    a, b = Banding(32, 8, 5, 42).permutations()
    assert (a[0], b[0]) == (2297359619001564596, 1128106484276550197)


def test_no_bands_are_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        BandsConfig(num_bands=0)


def test_a_threshold_of_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than 1"):
        ThresholdConfig(kind="threshold", threshold=1.0, num_perm=128)

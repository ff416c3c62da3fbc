"""What the keys find: planted near duplicates of real texts, with their true similarity kept."""

import numpy as np
import pyarrow as pa
import pytest

from datalake.dedup.signatures.minhash import Banding, BandsConfig, FinewebConfig, sign
from tests.datalake.dedup.signatures.test_text_dedup import clusters
from tests.datalake.dedup.source_texts import Pair, jaccard, pieces, plant, shingles

BINS = (0.95, 0.8, 0.7, 0.6, 0.5, 0.0)


@pytest.fixture(scope="module")
def corpus() -> tuple[list[str], list[Pair]]:
    texts = [text for text in pieces("stdlib", 2000, 1400) if len(text) == 2000]
    planted, pairs = plant(texts, 900)
    return texts + planted, pairs


@pytest.mark.parametrize("config", [BandsConfig(), BandsConfig(num_bands=25, num_rows=10)])
def test_recall_is_what_theory_says_at_every_similarity(
    corpus: tuple[list[str], list[Pair]], config: BandsConfig
) -> None:
    texts, pairs = corpus
    banding = Banding.of(config)
    keys = sign(pa.array(texts), banding)[0].to_pylist()
    high = 1.01
    for low in BINS:
        its = [pair for pair in pairs if low <= pair.similarity < high]
        chances = np.array([banding.detection_probability(pair.similarity) for pair in its])
        found = sum(bool(set(keys[pair.first]) & set(keys[pair.second])) for pair in its)
        deviation = np.sqrt((chances * (1 - chances)).sum())
        assert len(its) > 30
        assert abs(found - chances.sum()) < 4 * deviation + 0.5, (low, found, chances.sum())
        high = low


@pytest.mark.parametrize("config", [BandsConfig(), FinewebConfig(kind="fineweb")])
def test_what_is_removed_is_like_what_stays(
    corpus: tuple[list[str], list[Pair]], config: BandsConfig | FinewebConfig
) -> None:
    texts, _ = corpus
    keys = sign(pa.array(texts), Banding.of(config))[0].to_pylist()
    alike = []
    for cluster in clusters(keys):
        first, *removed = sorted(cluster)
        survivor = shingles(texts[first])
        alike += [jaccard(survivor, shingles(texts[k])) >= 0.5 for k in removed]
    assert len(alike) > 300
    assert np.mean(alike) >= 0.97


def test_planted_copies_span_all_similarities(corpus: tuple[list[str], list[Pair]]) -> None:
    texts, pairs = corpus
    similarities = np.array([pair.similarity for pair in pairs])
    assert (similarities > 0.97).any() and (similarities < 0.15).any()
    for pair in pairs[:50]:
        sides = [shingles(texts[k]) for k in (pair.first, pair.second)]
        assert jaccard(*sides) == pair.similarity

"""Edges of equal keys: stars instead of cliques, over chunks and tasks, verified or not."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake import spark
from datalake.config import Refusal
from datalake.dedup.clustering import edges as edges_module
from datalake.dedup.clustering.components import driver_components
from datalake.dedup.clustering.edges import MAX_STARS, Verify, join_alike, join_chunks, star_edges
from datalake.dedup.signatures.minhash import Banding, TextDedupConfig, sign
from datalake.workspace import Workspace

SIGNALS = pa.schema(
    [
        ("doc_id", pa.string()),
        ("text_digest", pa.string()),
        ("url_key", pa.string()),
        ("band_keys", pa.list_(pa.int64())),
        ("signature", pa.binary()),
    ]
)


def signals(*rows: tuple[str, str, str, list[int], list[int] | None]) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)]
    columns[4] = [None if m is None else np.array(m, "<u4").tobytes() for m in columns[4]]
    return pa.table(columns, schema=SIGNALS)


def found(workspace: Workspace, rows: pa.Table, verify: Verify | None = None) -> list[tuple]:
    frame = spark.session(workspace).createDataFrame(rows)
    return [(r["doc_id"], r["star"]) for r in star_edges(frame, verify).toArrow().to_pylist()]


def clusters(edges: list[tuple]) -> set[frozenset]:
    table = pa.table({"doc_id": [a for a, _ in edges], "star": [b for _, b in edges]})
    members: dict[str, set[str]] = {}
    for row in driver_components(table).to_pylist():
        members.setdefault(row["cluster"], set()).add(row["doc_id"])
    return {frozenset(m) for m in members.values()}


def test_documents_with_an_equal_key_make_a_star_and_no_clique(spark_workspace: Workspace) -> None:
    rows = signals(
        ("d", "1", "", [7, 8], None),
        ("b", "2", "", [7, 9], None),
        ("c", "3", "x.org", [7, 10], None),
        ("a", "4", "y.org", [11, 10], None),
        ("e", "5", "", [], None),
        ("f", "5", "x.org", [], None),
    )
    without_urls = rows.drop_columns("url_key")
    # b, c, d share key 7; a, c share key 10; e, f have the same text and no keys.
    stars = {("d", "b"), ("c", "b"), ("c", "a"), ("f", "e")}
    assert sorted(found(spark_workspace, without_urls)) == sorted(stars)
    # An empty address is no address.
    assert sorted(found(spark_workspace, rows)) == sorted({*stars, ("f", "c")})


BANDS = st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=12)


@given(BANDS, st.integers(1, 5))
def test_a_chunk_keeps_what_hangs_together_and_hands_on_one_document_a_key(
    bands: list[list[int]], size: int
) -> None:
    names = [f"{(7 * k) % 13:02}" for k in range(len(bands))]
    table = pa.table(
        {
            "doc_id": names,
            "band_keys": pa.array(bands, pa.list_(pa.int64())),
            "whole_keys": pa.array([[k % 3, None] for k in range(len(bands))]),
            "alike": [0] * len(bands),
        }
    )
    pieces = [b for k in range(0, len(bands), size) for b in table.slice(k, size).to_batches()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edges_module, "_CHUNK_ROWS", size)
        rows = [row for batch in join_chunks(pieces) for row in batch.to_pylist()]
    members: dict[tuple, set[str]] = {}
    for k, name in enumerate(names):
        for key in bands[k]:
            members.setdefault((True, key), set()).add(name)
        members.setdefault((False, k % 3), set()).add(name)
    handed: dict[tuple, list[str]] = {}
    for row in rows:
        if row["star"] is None:
            handed.setdefault((row["band"], row["key"]), []).append(row["doc_id"])
    assert handed.keys() == members.keys()
    assert {key: min(ids) for key, ids in handed.items()} == {
        key: min(ids) for key, ids in members.items()
    }
    if size >= len(bands):
        assert all(len(ids) == 1 for ids in handed.values())
    local = [(r["doc_id"], r["star"]) for r in rows if r["star"] is not None]
    assert all(a > b for a, b in local)
    joined = local + [(a, min(ids)) for ids in handed.values() for a in ids if a != min(ids)]
    cliques = [(a, min(ids)) for ids in members.values() for a in ids if a != min(ids)]
    assert clusters(joined) == clusters(cliques)


def test_a_hundred_thousand_documents_of_one_band_become_one_star(
    spark_workspace: Workspace,
) -> None:
    size = 100_000
    rows = pa.table(
        {
            "doc_id": [f"{k:032x}" for k in range(size)],
            "text_digest": [f"{k:032x}" for k in range(size)],  # so nothing else joins them
            "band_keys": pa.array([[5]] * size, pa.list_(pa.int64())),
        }
    )
    edges = found(spark_workspace, rows)
    assert len(edges) == size - 1
    assert clusters(edges) == {frozenset(rows["doc_id"].to_pylist())}


@pytest.mark.parametrize("size", [250, pytest.param(5_000, marks=pytest.mark.slow)])
def test_clusters_are_those_of_text_dedup_by_the_keys_of_the_same_parameters(
    spark_workspace: Workspace, size: int
) -> None:
    from text_dedup.minhash import embed_func
    from text_dedup.utils import UnionFind, sha1_hash

    texts = with_near_copies(size)
    banding = Banding.of(TextDedupConfig(kind="text_dedup", num_perm=64, num_bands=9, num_rows=7))
    keys, _ = sign(pa.array(texts), banding)
    rows = pa.table(
        {
            "doc_id": [f"{k:06}" for k in range(size)],
            "text_digest": [f"{k:06}" for k in range(size)],  # text-dedup asks for bands only
            "band_keys": keys,
        }
    )
    ours = clusters(found(spark_workspace, rows))

    bands: list[dict[bytes, set[int]]] = [{} for _ in range(9)]
    draw = np.random.RandomState(42)
    prime = np.uint64((1 << 61) - 1)
    a = draw.randint(1, prime, 64, dtype=np.uint64)
    b = draw.randint(0, prime, 64, dtype=np.uint64)
    for k, text in enumerate(texts):
        signed = embed_func(
            text,
            k,
            num_perm=64,
            ngram_size=5,
            min_length=5,
            hashranges=[(7 * k, 7 * k + 7) for k in range(9)],
            permutations=(a, b),
            hash_func=sha1_hash,
            dtype=np.uint64,
            max_hash=np.uint64((1 << 32) - 1),
            modulo_prime=prime,
        )
        for band, key in zip(bands, signed["__signatures__"], strict=True):
            band.setdefault(key, set()).add(k)
    forest = UnionFind()
    for band in bands:
        for members in band.values():
            for member in members:
                forest.union(member, min(members))
    theirs: dict[int, set[str]] = {}
    for k in range(size):
        theirs.setdefault(forest.find(k), set()).add(f"{k:06}")
    assert ours == {frozenset(c) for c in theirs.values() if len(c) > 1}
    assert len(ours) > size // 20


def with_near_copies(size: int) -> list[str]:
    """Texts of random words, of which some are earlier ones with a few words changed."""
    draw = random.Random(size)
    texts: list[list[str]] = []
    for _ in range(size):
        if texts and draw.random() < 0.3:
            words = list(draw.choice(texts))
            for _ in range(draw.randrange(4)):
                words[draw.randrange(len(words))] = f"w{draw.randrange(10**6)}"
        else:
            words = [f"w{draw.randrange(3000)}" for _ in range(draw.randrange(6, 120))]
        texts.append(words)
    return [" ".join(words) for words in texts]


# Verification -----------------------------------------------------------------------------------


def alike(minima: np.ndarray, number: int, seed: int) -> list[int]:
    """``minima`` of which only ``number`` stay equal."""
    draw = np.random.default_rng(seed)
    other = minima.copy()
    changed = draw.permutation(len(minima))[number:]
    other[changed] = draw.integers(1 << 20, 1 << 32, len(changed))
    return other.tolist()


def test_documents_unlike_the_star_of_a_band_find_each_other(spark_workspace: Workspace) -> None:
    draw = np.random.default_rng(0)
    one, other = draw.integers(0, 1 << 20, (2, 100))
    rows = signals(
        ("a", "1", "", [3], one.tolist()),
        ("b", "2", "", [3], other.tolist()),
        ("c", "3", "", [3], alike(other, 70, 1)),
        ("d", "4", "", [3], alike(one, 70, 2)),
        ("e", "5", "", [3], alike(one, 69, 3)),
        ("f", "5", "", [], None),  # the text of e
    )
    assert clusters(found(spark_workspace, rows)) == {frozenset("abcdef")}
    edges = found(spark_workspace, rows, Verify(min_similarity=0.7))
    assert sorted(edges) == [("c", "b"), ("d", "a"), ("f", "e")]


def test_the_clusters_of_verified_bands_do_not_depend_on_the_parts(
    spark_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(3)
    centres = np.random.default_rng(3).integers(0, 1 << 20, (6, 40))
    rows = [
        (
            f"{draw.randrange(1 << 60):032x}",
            str(k),
            "",
            [draw.randrange(2), draw.randrange(2, 4)],
            alike(centres[k % 6], draw.choice([20, 28, 36, 40]), k % 50),
        )
        for k in range(120)
    ]
    verify = Verify(min_similarity=0.5)
    expected = clusters(found(spark_workspace, signals(*rows), verify))
    assert len(expected) > 3
    for size in (1, 7):
        draw.shuffle(rows)
        monkeypatch.setattr(edges_module, "_CHUNK_ROWS", size)
        frame = spark.session(spark_workspace).createDataFrame(signals(*rows)).repartition(3)
        edges = star_edges(frame, verify).toArrow().to_pylist()
        assert clusters([(e["doc_id"], e["star"]) for e in edges]) == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=60), st.integers(1, 9))
def test_a_band_that_goes_on_in_the_next_chunk_is_joined_as_if_it_were_in_one(
    rows: list[tuple[int, int]], size: int
) -> None:
    names = [f"{k:03}" for k in range(len(rows))]
    rows = sorted(rows, key=lambda row: row[0])
    table = pa.table(
        {
            "key": pa.array([key for key, _ in rows], pa.int64()),
            "doc_id": pa.array(names, pa.string()),
            "signature": pa.array(
                [np.array([k % 5, k % 7, k % 2, 1], "<u4").tobytes() for _, k in rows], pa.binary()
            ),
        }
    )

    def joined(size: int) -> list[tuple[str, str]]:
        batches = [b for k in range(0, len(rows), size) for b in table.slice(k, size).to_batches()]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(edges_module, "_CHUNK_ROWS", size)
            edges = [e for b in join_alike(batches, 0.75) for e in b.to_pylist()]
        return [(edge["doc_id"], edge["star"]) for edge in edges]

    stars: dict[int, list[int]] = {}
    plain = []
    for row, (key, k) in enumerate(rows):
        mine = np.array([k % 5, k % 7, k % 2, 1])
        for star in stars.setdefault(key, []):
            s = rows[star][1]
            if (mine == np.array([s % 5, s % 7, s % 2, 1])).mean() >= 0.75:
                plain.append((names[row], names[star]))
                break
        else:
            if len(stars[key]) < MAX_STARS:
                stars[key].append(row)
    assert joined(size) == joined(1000) == plain


def test_the_estimate_deviates_from_the_similarity_as_stated() -> None:
    similarity, num_perm, trials = 0.7, 112, 4000
    # Minima of two sets are equal with the probability of their similarity.
    equal = np.random.default_rng(1).random((trials, num_perm)) < similarity
    deviation = np.sqrt(similarity * (1 - similarity) / num_perm)
    assert round(deviation, 3) == 0.043
    assert abs(equal.mean(axis=1).std() - deviation) < 0.002


def test_missing_signatures_are_refused(spark_workspace: Workspace) -> None:
    rows = signals(("a", "1", "", [3], None), ("b", "2", "", [], None))
    with pytest.raises(
        Refusal, match=r"signature of every document with band keys to be verified, got 1 without"
    ):
        found(spark_workspace, rows, Verify(min_similarity=0.5))


def test_signatures_of_several_lengths_are_refused(spark_workspace: Workspace) -> None:
    rows = signals(("a", "1", "", [3], [1, 2]), ("b", "2", "", [4], [1, 2, 3]))
    with pytest.raises(Refusal, match="of one length to be compared, got 2 and 3 minima"):
        found(spark_workspace, rows, Verify(min_similarity=0.5))


def test_documents_without_any_key_make_no_edges(spark_workspace: Workspace) -> None:
    rows = signals(("a", "1", "", [], None), ("b", "2", "", [], None))
    assert found(spark_workspace, rows, Verify(min_similarity=0.5)) == []
    assert found(spark_workspace, rows.slice(0, 0)) == []

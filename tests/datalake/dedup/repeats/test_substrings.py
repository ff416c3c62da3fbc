"""Repeated passages: the same as a suffix array finds, however small the memory for names is."""

import random
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from datalake.dedup.repeats.substrings import (
    LITTLE_LEFT,
    REASON,
    RepeatedPassagesConfig,
    Tokens,
    first_places,
    passages,
    repeated_passages,
    table_size,
)
from datalake.filters.measures.characters import ALONE, character_classes
from datalake.text_bytes import text_bytes
from datalake.workspace import Workspace
from tests.datalake.dedup.repeats.test_lines import named, prepare
from tests.datalake.document_rows import documents

Cut = tuple[str, int, int, str]


def config(min_tokens: int = 4, keep: str = "first", min_characters: int = 0, **more: int):
    return RepeatedPassagesConfig(
        min_tokens=min_tokens, keep=keep, min_characters=min_characters, **more
    )


def plain_tokens(text: str) -> list[tuple[str, int, int]]:
    """(token, first character, end)."""
    found: list[tuple[str, int, int]] = []
    alone = character_classes()
    for match in re.finditer(r"\w+|[^\w\s]", text):
        start, word = match.start(), ""
        for k, character in enumerate(match[0], match.start()):
            point = ord(character)
            if point < alone.size and alone[point] & ALONE:
                if word:
                    found.append((word, start, k))
                found.append((character, k, k + 1))
                start, word = k + 1, ""
            else:
                word += character
        if word:
            found.append((word, start, match.end()))
    return found


def suffix_array_places(
    texts: list[list[str]], width: int
) -> dict[tuple[int, int], tuple[int, int]]:
    """First place of every repeated run: sort all suffixes, join neighbours with LCP >= width."""
    suffixes = sorted(((text[k:], d, k) for d, text in enumerate(texts) for k in range(len(text))))
    places: dict[tuple[int, int], tuple[int, int]] = {}
    group: list[tuple[int, int]] = []
    before: list[str] | None = None
    for suffix, d, k in [*suffixes, ([], -1, -1)]:
        if before is None or len(suffix) < width or suffix[:width] != before[:width]:
            if len(group) > 1:
                places |= {place: min(group) for place in group}
            group = []
        if len(suffix) >= width:
            group.append((d, k))
        before = suffix
    return places


def plain_cuts(texts: dict[str, str], config: RepeatedPassagesConfig) -> set[Cut]:
    names = sorted(texts)
    tokens = [plain_tokens(texts[name]) for name in names]
    places = suffix_array_places([[t[0] for t in found] for found in tokens], config.min_tokens)
    gone = [np.zeros(len(found) + 1, bool) for found in tokens]
    for (d, k), (first_d, first_k) in places.items():
        begin = k
        if config.keep == "first":
            if (d, k) == (first_d, first_k):
                continue
            if d == first_d:
                begin = max(k, first_k + config.min_tokens)
        gone[d][begin : k + config.min_tokens] = True
    cuts: set[Cut] = set()
    for name, found, out in zip(names, tokens, gone, strict=True):
        edges = np.flatnonzero(np.diff(np.r_[False, out]))
        text = texts[name]
        ranges = [
            (found[a][1], found[b - 1][2]) for a, b in zip(edges[::2], edges[1::2], strict=True)
        ]
        left = sum(len(t[0]) for t, o in zip(found, out, strict=False) if not o)
        if ranges and left < config.min_characters:
            cuts.add((name, 0, len(text.encode()), LITTLE_LEFT))
        else:
            cuts |= {
                (name, len(text[:a].encode()), len(text[:b].encode()), REASON) for a, b in ranges
            }
    return cuts


def cuts_of_batches(batches: list[pa.RecordBatch], config: RepeatedPassagesConfig) -> set[Cut]:
    made = list(passages(lambda: batches, config))
    rows = [row for batch in made for row in batch.to_pylist()]
    found = {(row["doc_id"], row["start"], row["end"], row["reason"]) for row in rows}
    assert len(found) == len(rows)
    return found


def texts_of(alphabet: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.text(alphabet, max_size=60), min_size=1, max_size=5)


SETTINGS = [
    config(2),
    config(3, keep="none"),
    config(4, min_characters=4),
    config(7, keep="none", min_characters=9),
    config(9),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda c: f"{c.min_tokens} {c.keep}")
@given(texts=texts_of("aab .\n") | texts_of("中文ไทยa,é  ") | texts_of("ab") | texts_of("!?"))
def test_cuts_are_those_of_a_suffix_array(
    settings: RepeatedPassagesConfig, texts: list[str]
) -> None:
    assert cuts_of_batches([documents(*texts)], settings) == plain_cuts(named(texts), settings)


def similar_texts(num: int = 20, vocabulary: int = 50) -> list[str]:
    draw = random.Random(3)
    words = [f"w{k}" for k in range(vocabulary)]
    passages = [" ".join(draw.choices(words, k=draw.randrange(20, 120))) for _ in range(25)]
    return [
        " ".join(
            draw.choice(passages) if draw.random() < 0.4 else draw.choice(words) for _ in range(60)
        )
        for _ in range(num)
    ]


@pytest.mark.parametrize("keep", ["first", "none"])
def test_fifty_tokens_are_found_as_by_a_suffix_array_with_any_memory_and_in_any_order(
    keep: str,
) -> None:
    texts = similar_texts()
    rows = documents(*texts)
    small, large = (config(50, keep, 20, table_bytes=b) for b in (1 << 14, 1 << 26))
    whole = cuts_of_batches([rows], large)
    assert whole == plain_cuts(named(texts), large)
    assert len(whole) > 15
    shuffled = rows.take(pa.array(random.Random(1).sample(range(len(rows)), len(rows))))
    pieces = [shuffled.slice(k, 7) for k in range(0, len(rows), 7)]
    assert cuts_of_batches(pieces, small) == whole
    assert table_size(200_000, small.table_bytes)[1] > 1


def test_every_token_that_is_cut_still_stands_somewhere_when_the_first_copy_is_kept() -> None:
    texts = similar_texts(20, vocabulary=3000)
    gone = cuts_of_batches([documents(*texts)], config(20))
    left = []
    for name, text in named(texts).items():
        for _, start, end, _ in sorted((c for c in gone if c[0] == name), reverse=True):
            text = text[:start] + text[end:]
        left += text.split()
    assert gone and len(left) < sum(len(t.split()) for t in texts)
    assert set(left) == {word for text in texts for word in text.split()}


def test_a_passage_is_found_in_whatever_way_it_is_wrapped() -> None:
    passage = "The quick brown fox jumps over the lazy dog, again"
    other = "Before. " + passage.replace(" ", "\n\t ") + "! After."
    (found,) = cuts_of_batches([documents(passage, other)], config(8))
    _, start, end, reason = found
    assert other[start:end].split() == passage.split()
    assert reason == REASON


@pytest.mark.parametrize(
    "passage",
    [
        "日本語の文章はこのように空白がない。",
        "ประเทศไทยไม่มีช่องว่าง",
        "Crème brûlée à la carte, déjà vu",
    ],
)
def test_passages_of_any_script_are_found_to_the_character(passage: str) -> None:
    other = f"«{passage}»"
    (found,) = cuts_of_batches([documents(passage, other)], config(7))
    assert other.encode()[found[1] : found[2]].decode() == passage


def test_a_document_of_little_besides_repeats_goes_as_a_whole() -> None:
    passage = " ".join(f"word{k}" for k in range(10))
    texts = (passage, f"{passage} and little", f"{passage} and more than little is said here")
    found = cuts_of_batches([documents(*texts)], config(10, "none", min_characters=20))
    whole = (LITTLE_LEFT, LITTLE_LEFT, REASON)
    assert {(int(c[0], 16), c[3]) for c in found} == set(enumerate(whole))
    assert {c[2] for c in found if c[3] == LITTLE_LEFT} == {len(texts[0]), len(texts[1])}


def test_equal_numbers_mean_equal_tokens_whatever_their_hash() -> None:
    words = [f"t{k}" for k in range(70_000)]  # more than the first table holds
    tokens = Tokens()
    tokens.add(pa.array([" ".join(words), " ".join(words[::-1]), "x" * 600_000, "t0"]))
    names, starts = tokens.laid_out(np.arange(4))
    assert names[: len(words)].tolist() == list(range(len(words)))
    assert names[starts[1] : starts[2] - 1].tolist() == list(range(len(words)))[::-1]
    assert names[starts[2] :].tolist() == [len(words), -1, 0, -1]
    assert tokens.num_known == len(words) + 1


def test_a_run_never_crosses_the_end_of_a_document() -> None:
    assert not cuts_of_batches([documents("a b", "c d", "a b", "c d")], config(3))
    names = np.array([0, 1, -1, 0, 1, -1], np.int32)
    assert first_places(names, 2, 2, 1 << 20).tolist() == [0, -1, -1, 0, -1, -1]


def test_survivors_of_the_sources_asked_for_are_searched(workspace: Workspace) -> None:
    passage = "one two three four five six"
    rows = documents(*[passage] * 4, source=["web", "code", "web", "web"])
    inputs = prepare(workspace, rows, [True, True, False, True], 2)
    found = pa.Table.from_batches(repeated_passages(workspace, inputs, config(), ["web"]))
    assert [int(i, 16) for i in found["doc_id"].to_pylist()] == [3]
    everywhere = pa.Table.from_batches(repeated_passages(workspace, inputs, config()))
    assert [int(i, 16) for i in sorted(everywhere["doc_id"].to_pylist())] == [1, 3]


def test_more_text_than_one_machine_is_asked_for_is_refused_before_reading(
    workspace: Workspace,
) -> None:
    inputs = prepare(workspace, documents("x" * 700, "y" * 400), [True, True], 2)
    message = r"at most max_bytes = 1,000 bytes, got 1,100; one machine holds all of it"
    with pytest.raises(Refusal, match=message):
        list(repeated_passages(workspace, inputs | {"documents": 99}, config(max_bytes=1000)))


def test_more_tokens_than_can_be_numbered_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datalake.dedup.repeats.substrings.MAX_TOKENS", 5)
    with pytest.raises(Refusal, match="at most 5 tokens, got 6"):
        list(passages(lambda: [documents("a b c", "d")], config()))


# Bad input -------------------------------------------------------------------------------------


def test_nothing_one_document_and_empty_texts_have_no_cuts() -> None:
    assert not list(passages(list, config()))
    assert not cuts_of_batches([documents("")], config())
    assert not cuts_of_batches([documents("one two three four five"), documents()], config())


def test_bytes_that_are_not_utf_8_and_null_bytes_are_tokens_like_any_other() -> None:
    broken = b"\xff\xfe \xc3 a \xe4\xb8 \x00\x00 \xed\xa0\x80 \xf0\x9f"
    offsets = pa.py_buffer(np.array([0, len(broken), 2 * len(broken)], np.int64))
    text = pa.Array.from_buffers(
        pa.large_string(), 2, [None, offsets, pa.py_buffer(broken + broken)]
    )
    rows = pa.RecordBatch.from_arrays(
        [pa.array(["a", "b"]), pa.array(["web", "web"]), text], ["doc_id", "source", "text"]
    )
    assert cuts_of_batches([rows], config(5)) == {("b", 0, len(broken), REASON)}
    assert text_bytes(text)[1].tolist() == [0, len(broken), 2 * len(broken)]


def repeat_one_line(times: int) -> None:
    line = "One and the same line of text.\n"
    found = sorted(cuts_of_batches([documents(line * times)], config(50)))
    (_, start, end, _) = found[0]
    assert len(found) == 1
    # Of runs that overlap their own first copy, what is new goes: 50 tokens and a line stay.
    assert start <= 60 * 5 and end == len(line) * times - 1


def test_many_copies_of_one_line_are_one_cut() -> None:
    repeat_one_line(10_000)


@pytest.mark.slow
def test_ten_million_copies_of_one_line_are_one_cut() -> None:
    repeat_one_line(10_000_000)


def test_a_megabyte_without_white_space_is_one_token_or_as_many_as_characters() -> None:
    assert not cuts_of_batches([documents("x" * 1_000_000, "x" * 1_000_000)], config(2))
    assert len(cuts_of_batches([documents("中" * 300_000)], config(50))) == 1

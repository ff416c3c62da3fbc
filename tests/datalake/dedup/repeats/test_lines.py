"""Repeated lines, sentences and paragraphs: against plain Python, and however they are spread."""

import random
import re
import unicodedata
from collections.abc import Iterable
from itertools import combinations, pairwise

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from datalake import spark
from datalake.dedup.repeats.folding import fold_case, fold_ccnet, folding
from datalake.dedup.repeats.lines import (
    C4SentencesConfig,
    CCNetLinesConfig,
    ParagraphsConfig,
    Pieces,
    RepeatedLinesConfig,
    cut,
    groups,
    in_order,
    repeated_lines,
)
from datalake.schemas import TABLES
from datalake.workspace import Workspace
from tests.datalake.document_rows import documents

CCNET = CCNetLinesConfig(kind="ccnet")
C4 = C4SentencesConfig(kind="c4")
PARAGRAPHS = ParagraphsConfig(kind="paragraphs", min_characters=1)

EVERY = [chr(point) for point in range(0x20000) if not 0xD800 <= point < 0xE000]
ENDS = {c for c in EVERY if regex.match(r"\p{Sentence_Terminal}", c)}
CLOSERS = {c for c in EVERY if regex.match(r"[\p{Pe}\p{Pf}\p{Pi}\"']", c)}


# The same in plain Python ----------------------------------------------------------------------


def plain_ccnet_pieces(text: str) -> list[tuple[str, int, int]]:
    found, start = [], 0
    for line in text.split("\n"):
        folded = " ".join("".join(map(fold_ccnet, line)).split())
        end = start + len(line)
        found.append((folded, start, min(end + 1, len(text))))
        start = end + 1
    return [piece for piece in found if piece[0]]


def plain_paragraph_pieces(text: str) -> list[tuple[str, int, int]]:
    """Runs of lines that are not blank; blank lines behind one are its own."""
    found: list[tuple[str, int, int]] = []
    start, words, closed = 0, "", False
    place = 0
    for line in text.split("\n"):
        if not line.strip():
            closed = closed or bool(words)
        else:
            if closed or not words:
                if words:
                    found.append((words, start, place))
                start, words, closed = place, "", False
            words += "".join("".join(map(fold_case, line)).split())
        place += len(line) + 1
    if words:
        found.append((words, start, len(text)))
    return found


def plain_sentences(text: str) -> list[tuple[str, int, int]]:
    breaks = [0]
    for i in range(1, len(text)):
        before = text[:i].rstrip()
        if text[i].isspace() or not before or before == text[: breaks[-1]].rstrip():
            continue
        gap = text[len(before) : i]
        bare = before
        while bare and bare[-1] in CLOSERS:
            bare = bare[:-1]
        ended = bare[-1:] in ENDS and bool(bare) and len(bare) > breaks[-1]
        if "\n" in gap:
            breaks.append(i - len(gap) + gap.rindex("\n") + 1)
        elif ended and (gap or (bare[-1] > "\x7f" and text[i] not in ENDS | CLOSERS)):
            breaks.append(i)
    breaks.append(len(text))
    found = []
    for a, b in pairwise(breaks):
        if folded := " ".join("".join(map(fold_case, text[a:b])).split()):
            found.append((folded, a, b))
    return found


def plain_c4_pieces(text: str, width: int = 3) -> list[tuple[str, int, int]]:
    sentences = plain_sentences(text)
    return [
        ("\n".join(s[0] for s in run), run[0][1], run[-1][2])
        for run in (sentences[k : k + width] for k in range(len(sentences) - width + 1))
    ]


PLAIN = {"ccnet": plain_ccnet_pieces, "c4": plain_c4_pieces, "paragraphs": plain_paragraph_pieces}


def plain_cuts(
    texts: dict[str, str], kind: str, min_documents: int = 1
) -> set[tuple[str, int, int]]:
    """(doc_id, first byte, end) of what is cut."""
    first: dict[str, tuple[str, int, int]] = {}
    where: dict[str, set[str]] = {}
    pieces = {name: PLAIN[kind](texts[name]) for name in sorted(texts)}
    for name, found in pieces.items():
        for folded, start, end in found:
            first.setdefault(folded, (name, start, end))
            where.setdefault(folded, set()).add(name)
    cuts = set()
    for name, found in pieces.items():
        gone = np.zeros(len(texts[name]) + 1, bool)
        for folded, start, end in found:
            owner, its_start, its_end = first[folded]
            if len(where[folded]) < min_documents or (owner, its_start) == (name, start):
                continue
            gone[max(start, its_end) if owner == name else start : end] = True
        edges = np.flatnonzero(np.diff(np.r_[False, gone]))
        for a, b in zip(edges[::2], edges[1::2], strict=True):
            cuts.add((name, len(texts[name][:a].encode()), len(texts[name][:b].encode())))
    return cuts


def as_set(rows: pa.Table | pa.RecordBatch) -> set[tuple[str, int, int]]:
    return {(row["doc_id"], row["start"], row["end"]) for row in rows.to_pylist()}


def cuts_here(batch: pa.RecordBatch, config: RepeatedLinesConfig) -> pa.RecordBatch:
    """All cuts of one batch, without Spark."""
    rows, pieces = in_order(batch.select(["doc_id", "source"]), Pieces.of(batch["text"], config))
    first, num_documents, _ = groups(pieces)
    first = first[num_documents >= config.min_documents]
    stays = np.ones(len(first), bool)
    return cut(rows, pieces, pieces.hashes[first], stays, config.reason)


def named(texts: Iterable[str]) -> dict[str, str]:
    return {f"{k:032x}": text for k, text in enumerate(texts)}


# What a piece is ---------------------------------------------------------------------------------

ALPHABET = "ab A.。!\n\n 1２é"  # few characters, so that pieces repeat
TEXTS = st.lists(st.text(ALPHABET, max_size=40), min_size=1, max_size=6)
STRANGE = st.lists(st.text(max_size=30), min_size=1, max_size=4)


@pytest.mark.parametrize("config", [CCNET, C4, PARAGRAPHS], ids=lambda c: c.kind)
@given(texts=TEXTS | STRANGE)
def test_cuts_equal_those_of_plain_python(config: RepeatedLinesConfig, texts: list[str]) -> None:
    assert as_set(cuts_here(documents(*texts), config)) == plain_cuts(named(texts), config.kind)


@given(st.text(max_size=60))
def test_pieces_with_their_ranges_equal_those_of_plain_python(text: str) -> None:
    for config in (CCNET, PARAGRAPHS, C4SentencesConfig(kind="c4", num_sentences=1)):
        plain = plain_sentences(text) if config.kind == "c4" else PLAIN[config.kind](text)
        found = Pieces.of(pa.array([text], pa.large_string()), config)
        ranges = [(len(text[:a].encode()), len(text[:b].encode())) for _, a, b in plain]
        assert list(zip(found.starts, found.ends, strict=True)) == ranges
        said = [(piece[0], h) for piece, h in zip(plain, found.hashes, strict=True)]
        assert all((a == b) == (h == g) for (a, h), (b, g) in combinations(said, 2))


SAME_LINES = [
    ("Cookies: 12 of 34!", "cookies 98 of 76"),
    ("Crème brûlée", "creme brulee"),
    ("Cre\u0300me", "crème"),  # decomposed and composed
    ("ΟΔΟΣ", "οδος"),  # final sigma
    ("İstanbul", "istanbul"),
    ("版权所有，２０２４年。", "版权所有 1999年"[:4] + "1999年"),
    ("สวัสดี 123", "สวัสดี ๔๕๖"),
    ("한글", unicodedata.normalize("NFD", "한글")),
    ("  - indented", "indented"),
    ("«Guillemets» — and dashes", "guillemets  and dashes"),
]
DIFFERENT_LINES = [
    ("ที่", "ที"),  # the tone mark of Thai is no accent
    ("かき", "がき"),  # nor is the voice mark of Kana
    ("1 line", "11 line"),
    ("a b", "ab"),
    ("+", "="),  # symbols are no punctuation
    ("中文", "中又"),
]


@pytest.mark.parametrize(("one", "other"), SAME_LINES)
def test_ccnet_takes_lines_for_the_same(one: str, other: str) -> None:
    cuts = cuts_here(documents(one, other), CCNET)
    assert as_set(cuts) == {(f"{1:032x}", 0, len(other.encode()))}
    assert cuts["reason"].to_pylist() == ["repeated_line"]


@pytest.mark.parametrize(("one", "other"), DIFFERENT_LINES)
def test_ccnet_takes_lines_for_different(one: str, other: str) -> None:
    assert len(cuts_here(documents(one, other), CCNET)) == 0


def test_a_folding_of_a_text_is_the_one_of_its_characters_whatever_their_order() -> None:
    line = "Ünïcödé ΣΊΣΥΦΟΣ, Ǆ ﬁ İ 123 ١٢٣ नमस्ते!"
    whole = unicodedata.normalize("NFD", line.lower().replace("ς", "σ"))
    kept = [c for c in whole if not "\u0300" <= c <= "\u036f"]
    kept = [c for c in kept if not unicodedata.category(c).startswith("P")]
    assert re.sub(r"\d", "0", "".join(kept)) == "".join(map(fold_ccnet, line))


def test_the_table_of_a_folding_says_what_the_function_says() -> None:
    table = folding(fold_ccnet)
    for character in "aÀ,1한İ\u0301中\0":
        point = ord(character)
        points = table.points[table.starts[point] : table.starts[point + 1]]
        assert "".join(map(chr, points)) == fold_ccnet(character)


def test_c4_cuts_all_but_one_of_a_span_of_three_sentences() -> None:
    spanning = "One is here. Two is here! Is three here?"
    first, second = f"Before it. {spanning} After it.", f"{spanning} Something else."
    batch = documents(first, second, "One is here. Two is here! Four.")
    (row,) = cuts_here(batch, C4).to_pylist()
    assert row["doc_id"] == f"{1:032x}"
    assert second[row["start"] : row["end"]] == spanning + " "


def test_c4_keeps_one_copy_of_a_sentence_repeated_in_a_row() -> None:
    (row,) = cuts_here(documents("No. " * 10), C4).to_pylist()
    assert (row["start"], row["end"]) == (12, 40)


def test_sentences_end_in_scripts_without_spaces_and_not_inside_numbers() -> None:
    text = "他说：“好。”他走了！ ปี 3.14 (ค.ศ.) end. क्या है? हाँ। नहीं।"
    sentences = [text[a:b] for _, a, b in plain_sentences(text)]
    assert sentences[:2] == ["他说：“好。”", "他走了！ "]
    assert sentences[2].startswith("ปี 3.14 (ค.ศ.) ")
    one = C4SentencesConfig(kind="c4", num_sentences=1)
    assert len(Pieces.of(pa.array([text]), one).hashes) == len(sentences)


def test_paragraphs_repeat_whatever_their_wrapping_and_case() -> None:
    first = "Alone here.\n\nThe licence says\nthat you may.\n"
    second = "THE LICENCE\n   says that you may.\n \t\n\nOther."
    (row,) = cuts_here(documents(first, second), PARAGRAPHS).to_pylist()
    assert second[: row["start"]] + second[row["end"] :] == "Other."


def test_shorter_paragraphs_than_asked_for_stay() -> None:
    config = ParagraphsConfig(kind="paragraphs", min_characters=6)
    assert len(cuts_here(documents("five5", "five5"), config)) == 0
    assert len(cuts_here(documents("six666", "six 666"), config)) == 1


# On Spark --------------------------------------------------------------------------------------


def prepare(
    workspace: Workspace, batch: pa.RecordBatch, survivors: list[bool], rows_a_part: int
) -> dict[str, int | str]:
    """``documents`` in parts of so many rows, and ``duplicates`` in which some survive."""
    lake = workspace.lake
    parts = []
    for k in range(0, len(batch), rows_a_part):
        parts += lake.write_parts("documents", pa.table(batch.slice(k, rows_a_part)))
    made = lake.commit("documents", parts, mode="overwrite")
    ids = batch["doc_id"].to_pylist()
    rows = {
        "doc_id": ids,
        "source": batch["source"].to_pylist(),
        "num_bytes": batch["num_bytes"].to_pylist(),
        "num_tokens": [1] * len(ids),
        "cluster": ids,
        "kind": ["unique"] * len(ids),
        "survivor": [i if s else "f" * 32 for i, s in zip(ids, survivors, strict=True)],
    }
    schema = TABLES["duplicates"].arrow
    table = pa.table([pa.array(rows[f.name], f.type) for f in schema], schema=schema)
    return {"documents": made.version, "duplicates": lake.overwrite("duplicates", table).version}


def corpus(size: int) -> list[str]:
    draw = random.Random(0)
    lines = [f"This line is number {chr(97 + k)}{chr(97 + k % 7)}. It ends." for k in range(20)]
    return [
        "\n\n".join(draw.choices(lines, k=draw.randrange(1, 9))) + draw.choice(["", "\n", "\n\n"])
        for _ in range(size)
    ]


@pytest.mark.parametrize(
    "config",
    [CCNET, C4, ParagraphsConfig(kind="paragraphs", min_characters=3, min_documents=2)],
    ids=lambda c: c.kind,
)
def test_the_result_on_spark_is_plain_python_s_however_rows_are_spread(
    spark_workspace: Workspace, config: RepeatedLinesConfig
) -> None:
    texts = corpus(40)
    alive = [k % 5 != 0 for k in range(len(texts))]
    wanted = plain_cuts(
        {name: t for (name, t), a in zip(named(texts).items(), alive, strict=True) if a},
        config.kind,
        config.min_documents,
    )
    assert wanted
    rows = documents(*texts)
    shuffled = rows.take(pa.array(random.Random(1).sample(range(len(texts)), len(texts))))
    kept = [alive[int(i, 16)] for i in shuffled["doc_id"].to_pylist()]
    for batch, survivors, rows_a_part in ((rows, alive, 40), (shuffled, kept, 13)):
        inputs = prepare(spark_workspace, batch, survivors, rows_a_part)
        made = repeated_lines(spark_workspace, inputs, config).toArrow()
        assert as_set(made) == wanted
        assert made.num_rows == len(wanted)


def test_only_the_sources_asked_for_are_looked_at_and_the_table_takes_the_rows(
    spark_workspace: Workspace,
) -> None:
    batch = documents("one\ntwo", "one", "two", "one\n", source=["web", "web", "code", "o'k"])
    inputs = prepare(spark_workspace, batch, [True] * 4, 2)
    made = repeated_lines(spark_workspace, inputs, CCNET, ["web", "o'k"])
    commit = spark.write(spark_workspace, "cuts", made, inputs)
    rows = spark_workspace.lake.read("cuts", commit.version)
    assert as_set(rows) == {(f"{1:032x}", 0, 3), (f"{3:032x}", 0, 4)}


def test_documents_without_text_or_without_repeats_have_no_cuts(
    spark_workspace: Workspace,
) -> None:
    texts = ("alone", "", "", "\0\0", "...", " \n \n", "dropped", "dropped")
    alive = [text != "dropped" for text in texts]
    inputs = prepare(spark_workspace, documents(*texts), alive, 2)
    assert repeated_lines(spark_workspace, inputs, CCNET).count() == 0


# Bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CCNET, C4, PARAGRAPHS], ids=lambda c: c.kind)
def test_bytes_that_are_not_utf_8_and_null_bytes_are_cut_like_any_other(
    config: RepeatedLinesConfig,
) -> None:
    broken = b"\xff\xfe. \xc3. \xe4\xb8. \x00\x00\n\xed\xa0\x80. \xf0\x9f"  # also a lone surrogate
    buffer = pa.py_buffer(b"x" + broken + broken)
    offsets = pa.py_buffer(np.array([1, 1 + len(broken), 1 + 2 * len(broken)], np.int64))
    text = pa.Array.from_buffers(pa.large_string(), 2, [None, offsets, buffer])
    pieces = Pieces.of(text, config)
    half = len(pieces.hashes) // 2
    assert half > 0
    assert (pieces.hashes[:half] == pieces.hashes[half:]).all()
    assert pieces.ends.max() <= len(broken)


def test_an_empty_column_a_null_and_a_slice_are_read_right() -> None:
    for column in (pa.array([], pa.string()), pa.array([None, None], pa.large_string())):
        assert len(Pieces.of(column, CCNET).hashes) == 0
    column = pa.array(["skip", "a\nb", None, "a"], pa.string()).slice(1)
    assert Pieces.of(column, CCNET).rows.tolist() == [0, 0, 2]


def repeat_one_line(times: int) -> None:
    text = "One and the same line.\n"
    cuts = cuts_here(documents(text * times, text * times), CCNET).to_pylist()
    assert [(row["start"], row["end"]) for row in cuts] == [
        (len(text), len(text) * times),
        (0, len(text) * times),
    ]


def test_a_hundred_thousand_copies_of_one_line_are_two_cuts() -> None:
    repeat_one_line(100_000)


@pytest.mark.slow
def test_ten_million_copies_of_one_line_are_two_cuts() -> None:
    repeat_one_line(5_000_000)


def test_a_megabyte_without_white_space_is_one_line() -> None:
    for letter in ("x", "中"):
        assert len(cuts_here(documents(letter * 1_000_000, letter * 1_000_000), CCNET)) == 1


def test_a_setting_that_makes_no_sense_is_refused_by_name() -> None:
    union: TypeAdapter[object] = TypeAdapter(RepeatedLinesConfig)
    with pytest.raises(ValidationError, match=r"ccnet\.min_documents\s+Input should be greater"):
        union.validate_python({"kind": "ccnet", "min_documents": 0})
    with pytest.raises(ValidationError, match=r"paragraphs\.min_characters\s+Field required"):
        union.validate_python({"kind": "paragraphs"})
    with pytest.raises(ValidationError, match="'ccnet', 'c4', 'paragraphs'"):
        union.validate_python({"kind": "bff"})

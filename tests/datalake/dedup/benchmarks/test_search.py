"""Finding benchmark items in documents: every style beside plain Python, without Spark."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from datalake.config import Refusal
from datalake.dedup.benchmarks import search as search_module
from datalake.dedup.benchmarks.index import Index, codes_of, count_tokens
from datalake.dedup.benchmarks.items import Items
from datalake.dedup.benchmarks.kernels import BLOCK
from datalake.dedup.benchmarks.search import (
    READ,
    Removal,
    Tally,
    decide,
    locate,
    merged,
    plan,
    tally,
)
from datalake.dedup.benchmarks.styles import Style
from tests.datalake.dedup.benchmarks.plain_contamination import (
    items_of,
    merge,
    plain_cuts,
    plain_rows,
    plain_tokens,
)
from tests.datalake.document_rows import documents

STYLES: dict[str, dict[str, Any]] = {
    "ngrams": {},
    "deepseek": {},
    "gpt3": {},
    "palm": {},
    "llama2": {},
    "llama3": {"threshold": 0.8},
    "tulu3": {},
    "substring": {},
}
SPACE = 1 << 30


def style_of(kind: str, **options: Any) -> Style:
    style: Style = TypeAdapter(Style).validate_python(
        {"kind": kind, **STYLES.get(kind, {}), **options}, strict=True
    )
    return style


def found_in(
    texts: list[str],
    items: Items,
    style: Style,
    action: str = "report",
    removal: Removal = Removal(),  # noqa: B008, it is frozen
    batch_rows: int = 3,
    num_columns: int = 2,
) -> list[dict[str, Any]]:
    """Rows of ``contamination``, with the number of the document as ``d``."""
    search = plan(items, style, dict.fromkeys(items.names, num_columns), SPACE)
    rows = documents(*texts).select(READ)
    batches = [rows.slice(k, batch_rows) for k in range(0, len(texts), batch_rows)]
    verdict = decide(Tally.total(tally(batch, search) for batch in batches), search)
    made = [locate(b, items.ids, search, verdict, action, removal).to_pylist() for b in batches]
    return [row | {"d": int(row["doc_id"], 16)} for batch in made for row in batch]


ALPHABET = [
    "a",
    "B",
    "b",
    "ç",
    "Ä",
    "_",
    ".",
    "'",
    " ",
    "\n",
    "\x00",
    "語",
    "字",
    "ก",
    "ิ",
    "क",
    "ि",
    "9",
]
WORDS = st.lists(st.sampled_from(["a", "B", "b.", "c'c", "語", "字。", "กิ"]), max_size=24)
TEXTS = st.lists(WORDS.map(" ".join), min_size=1, max_size=5)
SMALL = {  # so small an n that random texts share n-grams
    "ngrams": {"n": 3, "min_words": 2},
    "deepseek": {"n": 4, "min_words": 1},
    "palm": {"n": 2, "min_words": 2},
    "llama2": {},
    "llama3": {"n": 3, "min_words": 3, "threshold": 0.4},
    "tulu3": {"n": 2, "min_words": 1},
    "substring": {"min_characters": 4},
}


@given(st.text(st.sampled_from(ALPHABET), max_size=30))
def test_tokens_are_those_of_plain_python(text: str) -> None:
    for kind in ("words", "joined words", "characters"):
        column = pa.array(["x", text], pa.large_string())[1:]
        assert count_tokens(column, kind)[0] == len(plain_tokens(text, kind))


@pytest.mark.parametrize("kind", SMALL)
@settings(max_examples=60)
@given(wanted=TEXTS, texts=TEXTS)
def test_every_style_finds_what_plain_python_finds(
    kind: str, wanted: list[str], texts: list[str]
) -> None:
    style = style_of(kind, **SMALL[kind])
    items = items_of(*wanted)
    expected = plain_rows(style, items, texts)
    found: dict[tuple[int, int], Any] = {}
    for row in found_in(texts, items, style):
        key = row["d"], int(row["item_id"].split()[1])
        spans = found.get(key, (0, 0, []))[2]
        spans.append((row["start"], row["end"]))
        found[key] = row["item_fraction"], row["total_fraction"], spans
    assert found.keys() == expected.keys()
    for key, (here, total, spans) in expected.items():
        assert found[key] == (pytest.approx(here), pytest.approx(total), spans)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 8)), max_size=20))
def test_merged_ranges_are_those_of_plain_python(rows: list[tuple[int, int, int]]) -> None:
    key, start, size = (np.array([row[k] for row in rows], np.int64) for k in range(3))
    made = merged(key, start, start + size)
    expected = [
        (k, *span)
        for k in range(4)
        for span in merge([(a, a + n) for other, a, n in rows if other == k])
    ]
    assert list(zip(*(a.tolist() for a in made), strict=True)) == expected


@given(texts=TEXTS, wanted=TEXTS, size=st.integers(1, 5))
def test_the_result_is_the_same_however_documents_are_spread(
    texts: list[str], wanted: list[str], size: int
) -> None:
    style = style_of("palm", n=2, min_words=2)
    items = items_of(*wanted)
    assert found_in(texts, items, style, batch_rows=size) == found_in(texts, items, style)


# What each style says of one item --------------------------------------------------------------

ITEM = (
    "A baker fills four trays with nine rolls each before dawn, sells two thirds of them at the "
    "market by noon, gives five to a neighbour whose oven broke, and wonders how many rolls "
    "remain for the evening guests."
)
WORDS_OF_ITEM = ITEM.split()
HALF = " ".join(WORDS_OF_ITEM[: len(WORDS_OF_ITEM) // 2])
CHANGED = ITEM.replace("noon", "midday")
AROUND = "Before it there are words, {}, and behind it there are others."
PLANTED = {
    "verbatim": ITEM,
    "case and punctuation": ITEM.upper().replace(",", " --").replace(".", "!"),
    "wrapped": ITEM.replace(" ", "\n    "),
    "half": HALF,
    "one word changed": CHANGED,
    "translated": (
        "Ein Bäcker füllt vor dem Morgen vier Bleche mit je neun Brötchen, verkauft zwei Drittel "
        "davon bis Mittag auf dem Markt und gibt fünf einem Nachbarn, dessen Ofen kaputt ist."
    ),
}
ALL_BUT_TRANSLATED = {*PLANTED} - {"translated"}
SAYS = {
    "ngrams": ALL_BUT_TRANSLATED,
    "deepseek": ALL_BUT_TRANSLATED,
    "gpt3": ALL_BUT_TRANSLATED,
    "palm": ALL_BUT_TRANSLATED - {"half"},
    "llama2": ALL_BUT_TRANSLATED,
    "llama3": ALL_BUT_TRANSLATED - {"half"},
    "tulu3": ALL_BUT_TRANSLATED - {"half"},
    "substring": {"verbatim", "wrapped"},
}


@pytest.mark.parametrize("kind", SAYS)
def test_planted_items_are_found_as_the_style_says(kind: str) -> None:
    style = style_of(kind)
    found = {
        name
        for name, text in PLANTED.items()
        if found_in(["Nothing.", AROUND.format(text)], items_of(ITEM), style)
    }
    assert found == SAYS[kind]


CHINESE = (
    "面包师在黎明前把四个烤盘各装上九个面包卷中午前在市场上卖掉其中三分之二又送给烤箱坏了的邻居五个"
)
JAPANESE = (
    "パン屋は夜明け前に四枚の天板にそれぞれ九個のロールパンを並べ"
    "昼までに市場でその三分の二を売りました"
)
THAI = "คนทำขนมปังเติมถาดสี่ถาดด้วยขนมปังม้วนเก้าชิ้นก่อนรุ่งสางแล้วขายสองในสามที่ตลาดก่อนเที่ยงวัน"


@pytest.mark.parametrize("kind", SAYS)
@pytest.mark.parametrize("text", [CHINESE, JAPANESE, THAI], ids=["Chinese", "Japanese", "Thai"])
def test_texts_without_spaces_are_found_by_their_characters(kind: str, text: str) -> None:
    style = style_of(kind)
    middle = len(text) // 2
    other = text[::-1]
    planted = f"《{text[:middle]}\n{text[middle:]}》" + other
    rows = found_in([other, planted], items_of(text), style)
    assert [(row["d"], row["item_fraction"]) for row in rows] == [(1, 1.0)]
    assert planted.encode()[rows[0]["start"] : rows[0]["end"]].decode().replace("\n", "") == text


def test_accents_and_other_scripts_are_folded_as_python_folds_them() -> None:
    text = "Ο ΓΑΛΑΝΌΣ ΟΥΡΑΝΌΣ ÉTÉ ÇA ÄRGER ПРИВЕТ МИР НОВЫЙ ДЕНЬ ŁÓDŹ ĐÀ NẴNG"
    lowered = "".join(c.lower() for c in text)
    assert found_in([lowered], items_of(text), style_of("ngrams"))
    plain = lowered.replace("é", "e")
    assert not found_in([plain], items_of(text), style_of("ngrams"))


def test_decomposed_marks_do_not_part_a_word() -> None:
    hindi = "नमस्ते दुनिया यह एक छोटा सा वाक्य है"
    assert count_tokens(pa.array([hindi], pa.large_string()), "words")[0] == len(hindi.split())


def test_the_half_found_item_of_llama_2_is_not_clean_and_is_not_acted_upon() -> None:
    rows = found_in([HALF, CHANGED], items_of(ITEM), style_of("llama2"), "drop")
    assert [(row["d"], row["remove"]) for row in rows] == [(0, False), (1, True)]
    assert rows[1]["item_fraction"] == 1.0  # the changed word is skipped


def test_llama_2_allows_four_tokens_to_differ_and_none_of_the_first_ten() -> None:
    words = [f"w{k}" for k in range(30)]

    def matched(*changed: int) -> float:
        text = " ".join("other" if k in changed else w for k, w in enumerate(words))
        rows = found_in([text], items_of(" ".join(words)), style_of("llama2"))
        return float(rows[0]["item_fraction"]) if rows else 0.0

    assert matched(10, 12, 14, 16) == 1.0
    assert matched(10, 12, 14, 16, 18) == pytest.approx((18 + 11) / 30)
    assert matched(29) == pytest.approx(29 / 30)  # none at the end
    assert matched(9, 19, 29) == 0.0  # nine and nine agree


def test_palm_takes_pieces_of_several_documents_and_tulu_3_does_not() -> None:
    middle = len(WORDS_OF_ITEM) // 2
    pieces = [" ".join(WORDS_OF_ITEM[: middle + 4]), " ".join(WORDS_OF_ITEM[middle - 4 :])]
    rows = found_in(pieces, items_of(ITEM), style_of("palm"), "drop")
    assert [row["total_fraction"] for row in rows] == [1.0, 1.0] or len(rows) == 2
    assert not any(row["remove"] for row in rows)  # neither document alone has 70 %
    quarters = [" ".join(WORDS_OF_ITEM[k : k + 12]) for k in range(0, 36, 9)]
    assert not found_in(quarters, items_of(ITEM), style_of("tulu3"))


def test_gpt_3_ignores_what_more_than_ten_documents_have() -> None:
    for copies, acted in ((10, True), (11, False)):
        rows = found_in([ITEM] * copies, items_of(ITEM), style_of("gpt3"), "remove")
        assert len(rows) == copies
        assert all(row["remove"] is acted for row in rows)


def test_gpt_3_takes_punctuation_out_and_keeps_the_word_whole() -> None:
    item = "don't stop the well-known e-mail of U.S. users who can't write their plain words here"
    plain = item.replace("'", "").replace("-", "").replace(".", "")
    assert found_in([plain], items_of(item), style_of("gpt3"))
    assert not found_in([plain], items_of(item), style_of("ngrams"))


def test_gpt_3_chooses_n_by_the_fifth_percentile_of_its_items() -> None:
    style = style_of("gpt3")
    sizes = np.array([9] * 10 + [50] * 90)
    assert set(style.lengths("any", sizes).tolist()) == {9}
    assert set(style.lengths("any", np.array([3] * 10 + [50] * 90)).tolist()) == {0, 8}
    assert set(style.lengths("any", np.array([50])).tolist()) == {13}


def test_gpt_3_finds_an_item_by_n_words_and_acts_by_thirteen() -> None:
    words = [f"w{k}" for k in range(20)]
    short = " ".join(f"s{k}" for k in range(8))
    items = items_of(" ".join(words), short)
    texts = [" ".join(words[:9]), " ".join(words[:14]), short]
    rows = found_in(texts, items, style_of("gpt3"), "remove")
    assert [(row["d"], row["remove"]) for row in rows] == [(0, False), (1, True), (2, False)]


def test_datatrove_looks_for_the_label_and_its_border_and_not_for_the_query() -> None:
    style = style_of("datatrove")
    query = " ".join(f"q{k}" for k in range(20))
    label = " ".join(f"l{k}" for k in range(14))
    items = items_of(query, labels=[label])
    both = f"{query} {label}".split()
    assert not found_in([query], items, style)
    assert found_in([label], items, style)
    assert found_in([" ".join(both[9:21])], items, style)
    assert not found_in([" ".join(both[8:20])], items, style)


def test_short_items_are_matched_whole_down_to_the_minimum() -> None:
    style = style_of("deepseek")
    items = items_of("one two", "one two three", "a b c d e f g h i")
    search = plan(items, style, {"benchmark": 1}, SPACE)
    assert search.matchable.tolist() == [False, True, True]
    rows = found_in(["so one two three, a b c d e f g h", "a b c d e f g h i"], items, style)
    assert [(row["d"], row["item_id"]) for row in rows] == [(0, "item 1"), (1, "item 2")]


def test_another_n_holds_for_the_benchmark_that_is_named() -> None:
    text = " ".join(WORDS_OF_ITEM[:9])
    assert not found_in([text], items_of(ITEM), style_of("ngrams"))
    assert found_in([text], items_of(ITEM), style_of("ngrams", n_of={"benchmark": 9}))
    assert found_in([HALF], items_of(ITEM), style_of("llama3", threshold_of={"benchmark": 0.3}))


def test_a_wording_that_many_items_share_says_nothing_of_one() -> None:
    question = "Please read the following passage and answer the question about it in one word only"
    items = items_of(*(f"{question}: {' '.join(f'x{k}y{n}' for n in range(14))}" for k in range(9)))
    assert len(found_in([question], items, style_of("ngrams"))) == 9
    style = style_of("ngrams", max_items_per_gram=8)
    assert not found_in([question], items, style)
    own = items.text[4].as_py().split(":")[1]
    assert [row["item_id"] for row in found_in([own], items, style)] == ["item 4"]


# Bytes are compared, too -------------------------------------------------------------------------


def test_an_equal_hash_of_different_words_is_no_match() -> None:
    style = style_of("ngrams")
    one, other = ITEM, " ".join(f"other{k}" for k in range(len(WORDS_OF_ITEM)))
    true = plan(items_of(one), style, {"benchmark": 1}, SPACE).index
    false = plan(items_of(other), style, {"benchmark": 1}, SPACE).index
    # The words of one under the hashes of the other, as if every hash had collided.
    arrays = false.arrays._replace(
        text=true.arrays.text, starts=true.arrays.starts, stops=true.arrays.stops
    )
    text = pa.array([other], pa.large_string())
    assert len(false.hits(text)) == false.num_grams
    assert len(Index(arrays, "words").hits(text)) == 0


# What is cut ------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 40)), min_size=1, max_size=14),
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(1, 6),
)
def test_cuts_are_those_of_plain_python(
    pieces: list[tuple[bool, int]], margin: int, least: int, most: int
) -> None:
    item = "ein Ää wörd nach dém andern"
    text, spans = "", []
    for planted, filler in pieces:
        text += " " + "é." * filler + " "
        if planted:
            spans.append((len(text), len(text) + len(item)))
            text += item
    style = style_of("ngrams", n=6, min_words=6)
    removal = Removal(margin_characters=margin, min_piece_characters=least, max_pieces=most)
    rows = found_in(["x", text], items_of(item), style, "remove", removal)
    cuts = {(row["cut_start"], row["cut_end"]) for row in rows}
    expected = plain_cuts(text, spans, margin, least, most) if spans else []
    assert cuts == {(len(text[:a].encode()), len(text[:b].encode())) for a, b in expected}


def test_gpt_3_drops_a_document_in_more_than_ten_pieces() -> None:
    filler = "nothing of it " * 60
    for times, whole in ((9, False), (10, True)):
        text = filler + (ITEM + filler) * times
        rows = found_in([text], items_of(ITEM), style_of("gpt3"), "remove")
        assert len(rows) == times
        assert all((row["cut_end"] - row["cut_start"] == len(text)) is whole for row in rows)


def test_dropping_cuts_the_whole_document_and_reporting_cuts_nothing() -> None:
    text = AROUND.format(ITEM)
    (dropped,) = found_in([text], items_of(ITEM), style_of("ngrams"), "drop")
    (told,) = found_in([text], items_of(ITEM), style_of("ngrams"), "report")
    assert (dropped["cut_start"], dropped["cut_end"]) == (0, len(text))
    assert not told["remove"] and told["cut_start"] is None


# Real texts -------------------------------------------------------------------------------------

PROBLEMS = (
    "Maria has twelve apples and gives five of them to her brother before she buys eight more at "
    "the market. How many apples does Maria have now?",
    "A train leaves the station at nine in the morning and travels two hundred kilometres at "
    "eighty kilometres an hour. When does it arrive?",
    "Write a function that takes a list of integers and returns the sum of those that are "
    "divisible by three but not by five, without using a loop.",
)


def package_texts() -> list[str]:
    """Documentation of the installed packages: their descriptions."""
    root = Path(np.__file__).parents[1]
    paths = sorted(root.glob("*.dist-info/METADATA"))
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths][:150]


@pytest.mark.parametrize("kind", SAYS)
def test_real_documentation_holds_no_problem_of_ours(kind: str) -> None:
    texts = package_texts()
    assert sum(map(len, texts)) > 300_000
    assert found_in(texts, items_of(*PROBLEMS), style_of(kind), batch_rows=50) == []


def test_whatever_is_found_in_real_documentation_is_there() -> None:
    texts = package_texts()
    paragraphs = [p for text in texts[::2] for p in text.split("\n\n") if len(p) > 200][:400]
    items = items_of(*paragraphs)
    style = style_of("ngrams")
    rows = found_in(texts[1::2], items, style, batch_rows=50)
    assert rows  # licences and badges, that many packages share
    for row in rows[:200]:
        raw = texts[1::2][row["d"]].encode()[row["start"] : row["end"]].decode()
        found = [t for t, _, _ in plain_tokens(raw, "words")]
        item = paragraphs[int(row["item_id"].split()[1])]
        wanted = [t for t, _, _ in plain_tokens(item, "words")]
        n = min(13, len(wanted))
        grams = {tuple(wanted[k : k + n]) for k in range(len(wanted) - n + 1)}
        assert tuple(found[:n]) in grams and tuple(found[-n:]) in grams


# Bad input --------------------------------------------------------------------------------------


def test_a_match_across_the_blocks_of_a_long_document_is_found() -> None:
    for before in (BLOCK - 20, BLOCK - 1, BLOCK, 2 * BLOCK + 7):
        text = "x " * before + ITEM + " y" * BLOCK
        for kind in ("ngrams", "llama2", "deepseek"):
            (row,) = found_in([text], items_of(ITEM, "a b c"), style_of(kind))
            assert (row["start"], row["item_fraction"]) == (2 * before, 1.0)


def test_ten_megabytes_of_one_word_are_one_token() -> None:
    word = "a" * 10_000_000
    texts = [word, f"{word} {ITEM}", "\x00" * 1_000_000, "。" * 1_000_000]
    rows = found_in(texts, items_of(ITEM, "\x00\x00", "", "..."), style_of("ngrams"), batch_rows=9)
    assert [(row["d"], row["start"]) for row in rows] == [(1, 10_000_001)]


def test_a_repeated_word_in_item_and_document_is_one_match() -> None:
    for kind in ("ngrams", "llama2", "palm", "gpt3", "substring"):
        rows = found_in(["no " * 3000], items_of("no " * 200), style_of(kind))
        assert {row["item_fraction"] for row in rows} == {1.0}
        assert (rows[0]["start"], rows[-1]["end"]) == (0, 8999)


def test_every_copy_of_an_item_in_one_document_has_its_row() -> None:
    rows = found_in([(ITEM + "\n") * 500], items_of(ITEM), style_of("ngrams"), "remove")
    assert [row["start"] for row in rows] == list(range(0, 500 * (len(ITEM) + 1), len(ITEM) + 1))
    assert {(row["cut_start"], row["cut_end"]) for row in rows} == {(0, 500 * (len(ITEM) + 1))}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ngrams", "llama2", "gpt3", "substring"])
def test_two_hundred_megabytes_and_ten_million_lines_are_read_in_blocks(kind: str) -> None:
    for text in ("many words " * 18_200_000, "the same line of six words\n" * 10_000_000):
        (row,) = found_in([text + ITEM], items_of(ITEM), style_of(kind), batch_rows=1)
        assert (row["start"], row["item_fraction"]) == (len(text), 1.0)


def test_invalid_utf_8_is_read_as_something_and_does_no_harm() -> None:
    broken = (
        b"\xff\xfe\xed\xa0\x80 \xc3" + b" " + ITEM.encode() + b" \xf0\x9f\xf8\x88\x80\x80\x80\xe2"
    )
    rows = pa.record_batch(
        {
            "doc_id": ["0" * 32],
            "source": ["web"],
            "text": pa.array([broken], pa.large_binary()).view(pa.large_string()),
        }
    )
    for kind in SAYS:
        search = plan(items_of(ITEM), style_of(kind), {"benchmark": 1}, SPACE)
        verdict = decide(tally(rows, search), search)
        made = locate(rows, ("item 0",), search, verdict, "remove", Removal())
        assert made["start"].to_pylist() == [broken.index(b"A baker")]


def test_documents_and_items_without_words_are_no_matter() -> None:
    items = items_of("", "!!!", "\x00", "   ")
    for kind in SAYS:
        search = plan(items, style_of(kind), {"benchmark": 1}, SPACE)
        assert not search.matchable.any()
        assert found_in(["", "!!!", "\x00"], items, style_of(kind)) == []


def test_a_code_point_is_one_thing_to_the_search() -> None:
    for kind in ("words", "joined words", "characters"):
        assert codes_of(kind)[ord(" ")] >> 24 == 0


# Refusals ---------------------------------------------------------------------------------------


def test_an_index_above_the_bound_is_refused() -> None:
    size = len(plain_tokens(ITEM, "words"))
    message = (
        f"contamination.max_index_bytes must be at least {size * 40:,} for items of {size} tokens, "
        "got 100"
    )
    with pytest.raises(Refusal, match=message):
        plan(items_of(ITEM), style_of("ngrams"), {"benchmark": 1}, 100)


def test_a_style_of_labels_refuses_a_single_column() -> None:
    message = (
        "contamination: the text of benchmark must be a query and, last, a label for style "
        "datatrove, got one column"
    )
    with pytest.raises(Refusal, match=message):
        plan(items_of(ITEM), style_of("datatrove"), {"benchmark": 1}, SPACE)


def test_a_minimum_above_n_is_refused() -> None:
    message = "contamination.style.min_words must be at most n, which is 10, got 11"
    with pytest.raises(ValueError, match=message):
        style_of("deepseek", min_words=11)


def test_a_wording_shared_by_all_items_is_refused_where_rows_would_flood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search_module, "MAX_ROWS", 50)
    message = (
        "contamination.style.max_items_per_gram must be set where items share a wording, got 60 "
        "matches of 'A baker fills .* before dawn, sells two' in 20 items"
    )
    with pytest.raises(Refusal, match=message):
        found_in([" ".join(WORDS_OF_ITEM[:13])] * 3, items_of(*[ITEM] * 20), style_of("ngrams"))

"""Word lists: against regular expressions, in scripts with and without spaces, and the edges."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from datalake.config import Refusal
from datalake.filters.scoring.word_lists import BUILT_IN, WordList, WordListConfig, _built_in, train
from datalake.workspace import Workspace
from tests.datalake.document_rows import documents

LISTED = ("bad", "very bad idea", "c++", "naïve", "a-b")


def score(*texts: str, listed: tuple[str, ...] = LISTED, language: str = "en") -> list[float]:
    rows = documents(*texts)
    rows = rows.set_column(
        rows.schema.get_field_index("language"), "language", pa.array([language] * len(texts))
    )
    scorer = WordList("listed", {language: listed}, ("ja", "th", "zh"))
    return pickle.loads(pickle.dumps(scorer)).score(rows).tolist()


PIECES = st.sampled_from(
    [*LISTED, "Bad", "badly", "idea", "very", "VERY", " ", "\n", ".", "-", "+", "_", "1", "ß", "İ"]
)


@given(st.lists(PIECES, max_size=25).map("".join))
@settings(max_examples=300)
def test_single_words_are_found_where_a_regular_expression_finds_them(text: str) -> None:
    # As C4 does: between characters that are no part of a word.
    pattern = re.compile(r"(?<!\w)(?:bad|naïve)(?!\w)")
    text = text.replace("İ", "ı")  # whose lower case has a mark, which is no part of \w
    found = len(pattern.findall(text.lower()))
    words = len(re.findall(r"\w+", text))
    expected = found / words if words else np.nan
    assert score(text, listed=("bad", "naïve")) == pytest.approx([expected], nan_ok=True)


def test_phrases_match_over_any_space_but_not_over_signs() -> None:
    same = ["a very bad idea", "a VERY  Bad\n idea!", "(very\u00a0bad\u3000idea)"]
    phrase = ("very bad idea",)
    assert [s > 0 for s in score(*same, "very bad. idea", "every bad idea", listed=phrase)] == [
        *[True] * 3,
        *[False] * 2,
    ]


def test_places_count_once_and_per_word() -> None:
    found = score("bad", "very bad idea", "not bad at all", "x.bad", "c++; c+", "a-b a b", "naïve")
    assert found == [1, 2 / 3, 1 / 4, 1 / 2, 1 / 2, 1 / 4, 1]


def test_scripts_without_spaces_match_anywhere_and_per_character() -> None:
    assert score("これは馬鹿だ。", listed=("馬鹿",), language="ja") == [1 / 7]
    assert score("คนบ้าๆ", listed=("บ้า",), language="th") == [1 / 6]
    assert score("Essex 他妈的", listed=("sex", "他妈的"), language="zh") == [2 / 8]
    # A word is a word where the language has borders, and a Chinese character is one by itself.
    assert score("Essex", "sex", "x他妈的", listed=("sex", "他妈的")) == [0, 1, 1 / 4]


def test_words_after_marks_and_other_scripts() -> None:
    assert score("मूर्ख आदमी", "मूर्खता", listed=("मूर्ख",), language="hi") == [1 / 2, 0]
    assert score("ДУРАК!", listed=("дурак",), language="ru") == [1]


def test_a_document_without_words_or_without_a_list_has_no_score() -> None:
    assert np.isnan(score("", " \n", "...", "\0\0\0")).all()
    rows = documents("bad", "bad", source=["web", "code"])
    assert np.isnan(WordList("l", {"de": ("bad",)}, ()).score(rows)).all()
    assert WordList("l", {"*": ("bad",), "en": ("good",)}, ()).score(rows).tolist() == [0, 1]


def test_one_huge_word_and_one_line_many_times_are_counted() -> None:
    assert score("b" * 2_000_000, "a bad line\n" * 200_000) == [0, 1 / 3]


@pytest.mark.parametrize("name", ["adult", "toxic"])
def test_built_in_lists_find_what_they_are_for(name: str) -> None:
    words = _built_in(name)
    assert len(words) > 50
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", word) for word in words)
    assert score(" ".join(words), listed=words)[0] > 0.5
    assert ",".join(sorted(w.strip() for w in BUILT_IN[name].split(","))).count(",") + 1 == len(
        words
    )
    harmless = (
        "The committee of Scunthorpe and Essex met on Tuesday to assess the classic analysis of "
        "a cocktail party; Dick van Dyke and a great tit were in the garden."
    )
    assert score(harmless, listed=words)[0] <= (0.05 if name == "adult" else 0)


def made(workspace: Workspace, **settings: object) -> WordList:
    config = WordListConfig.model_validate({"kind": "words", **settings})
    return train(workspace, 0, "listed", config).scorer


def test_files_are_read_a_word_a_line_and_kept(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "en").write_bytes("\ufeffbad\r\n\r\n very bad \nbad\n".encode())
    scorer = made(workspace, files={"en": str(tmp_path / "en")})
    assert scorer.listed == {"en": ("bad", "very bad")}
    scorer.save(tmp_path)
    assert WordList.load(tmp_path, "listed") == scorer
    assert json.loads((tmp_path / "words.json").read_text())["by_character"] == ["ja", "th", "zh"]
    assert made(workspace, words="toxic").listed["*"] == _built_in("toxic")


def test_lists_that_cannot_be_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    place = r"^scorers.listed.files.en must "
    for name, rule in (
        ("none", "be a file of UTF-8 text with a word a line, got "),
        ("latin", "be a file of UTF-8 text with a word a line, got "),
        ("empty", r"list at least one word, got .*empty with none$"),
    ):
        with pytest.raises(Refusal, match=place + rule):
            made(workspace, files={"en": str(tmp_path / name)})
    for both in ({}, {"words": "adult", "files": {"en": "x"}}):
        with pytest.raises(ValidationError, match="must have either words or files"):
            made(workspace, **both)

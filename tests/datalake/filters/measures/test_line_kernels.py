"""Line rules: the compiled kernel against regular expressions, and a case at every bound."""

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import given, settings

from datalake.filters.measures import line_constants, line_kernels
from datalake.filters.measures.characters import character_classes, sentence_terminals
from datalake.filters.measures.signals import alone_class
from datalake.text_bytes import text_bytes
from tests.datalake.filters.measures.plain_signals import num_sentences
from tests.datalake.filters.plain_lines import c4_lines, refinedweb_lines
from tests.datalake.filters.texts import TEXTS

VARIANTS = ("c4", "fineweb_c4", "refinedweb")
VERDICTS = (
    "KEPT",
    "LONG_WORD",
    "NO_END_MARK",
    "FEW_WORDS",
    "JAVASCRIPT",
    "POLICY",
    "UPPERCASE",
    "NUMERIC",
    "COUNTER",
    "EMPTIED",
)


def judge(text: str, variant: str, mode: str = "unicode") -> list[tuple[str | None, str]]:
    """Verdict, None where a line stays, and what is left of every line."""
    data, offsets = text_bytes(pa.array([text], pa.large_string()))
    lines, edits = line_kernels.judge_documents(
        data, offsets, character_classes(), alone_class(mode), VARIANTS.index(variant)
    )
    judged = []
    raw = text.encode()
    for k, (_, start, end, _, first, last, verdict) in enumerate(lines.tolist()):
        if variant != "refinedweb":
            start, end = first, last
        left, at = b"", start
        for _, a, b in (edit for edit in edits.tolist() if edit[0] == k):
            left, at = left + raw[at:a], b
        left += raw[at:end]
        judged.append((VERDICTS[verdict] if verdict else None, left.decode()))
    return judged


@pytest.mark.parametrize("mode", ["unicode", "whitespace"])
@pytest.mark.parametrize("variant", ["c4", "fineweb_c4"])
@given(text=TEXTS)
@settings(max_examples=250, deadline=None)
def test_lines_of_c4_are_judged_as_by_regular_expressions(
    text: str, variant: str, mode: str
) -> None:
    expected = list(c4_lines(text, variant, mode))
    judged = judge(text, variant, mode)
    assert [verdict for verdict, _ in judged] == [line.verdict for line in expected]
    kept = [left for verdict, left in judged if verdict is None]
    assert kept == [line.left for line in expected if line.verdict is None]


@pytest.mark.parametrize("mode", ["unicode", "whitespace"])
@given(text=TEXTS)
@settings(max_examples=250, deadline=None)
def test_lines_of_refinedweb_are_judged_as_by_regular_expressions(text: str, mode: str) -> None:
    expected = list(refinedweb_lines(text, mode))
    if not text or text.endswith("\n"):  # behind the last line feed there is no line
        expected.pop()
    judged = judge(text, "refinedweb", mode)
    assert [verdict for verdict, _ in judged] == [line.verdict for line in expected]
    kept = [left for verdict, left in judged if verdict is None]
    assert kept == [line.left for line in expected if line.verdict is None]


@given(text=TEXTS)
@settings(max_examples=200, deadline=None)
def test_lines_are_a_partition_of_the_text(text: str) -> None:
    data, offsets = text_bytes(pa.array(["x", text], pa.large_string()))
    for variant in range(3):
        lines, _ = line_kernels.judge_documents(
            data, offsets, character_classes(), alone_class("unicode"), variant
        )
        of_text = lines[lines[:, 0] == 1]
        starts, nexts = of_text[:, 1].tolist(), of_text[:, 3].tolist()
        assert starts == [0, *nexts[:-1]][: len(starts)]
        assert nexts[-1:] == ([len(text.encode())] if text else [])


@pytest.mark.parametrize(
    ("line", "variant", "verdict"),
    [
        ("One two three four five.", "c4", None),
        ("One two three four five", "c4", "NO_END_MARK"),
        ("One two three four five...", "c4", "NO_END_MARK"),
        ("One two three four five'", "c4", "NO_END_MARK"),
        ('"One two three four five"', "c4", None),
        ("One two three four.", "c4", "FEW_WORDS"),
        ("One two three [1] four.", "c4", "FEW_WORDS"),
        ("One two three four five. [1]", "c4", "NO_END_MARK"),  # a space is left at the end
        ("One two three four " + "x" * 1000 + " !", "c4", None),
        ("One two three four " + "x" * 1001 + " !", "c4", "LONG_WORD"),
        ("Please enable JavaScript to go on.", "c4", "JAVASCRIPT"),
        ("This site uses Cookies, you know.", "c4", "POLICY"),
        ("one two three", "fineweb_c4", None),
        ("one two", "fineweb_c4", "FEW_WORDS"),
        ("one two [3]", "fineweb_c4", None),  # words are counted before citations go
        ("ABcd ef", "refinedweb", None),
        ("ABCD ef", "refinedweb", "UPPERCASE"),
        ("AB cd", "refinedweb", None),
        ("1234567", "refinedweb", "NUMERIC"),
        ("12 34", "refinedweb", None),
        ("3 likes", "refinedweb", "COUNTER"),
        ("three likes", "refinedweb", None),
        ("one", "refinedweb", "FEW_WORDS"),
        ("", "refinedweb", None),
        (" ", "refinedweb", "FEW_WORDS"),
        ("Items in cart", "refinedweb", "EMPTIED"),
    ],
)
def test_each_rule_holds_at_its_bound(line: str, variant: str, verdict: str | None) -> None:
    assert judge(line + "\n", variant)[0][0] == verdict


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("You have 3 items in cart today", "You have 3 today"),
        ("A new day begins Read more...", "A new day begins"),
        ("Sign-in to go on", "to go on"),
        ("go on to Sign-in", "go on to Sign-in"),
        ("Read more... of this", "Read more... of this"),
        ("a b c d e f g h i Read more...", "a b c d e f g h i Read more..."),  # 11 words
    ],
)
def test_refinedweb_edits_short_lines(line: str, left: str) -> None:
    assert judge(line, "refinedweb") == [(None, left)]


def test_a_line_without_spaces_has_words_unless_words_lie_between_spaces() -> None:
    line = "ไม่มีวรรคในประโยคนี้"
    assert judge(line, "fineweb_c4", "unicode")[0][0] is None
    assert judge(line, "fineweb_c4", "whitespace")[0][0] == "FEW_WORDS"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("One. Two! Three? Four", 4),
        ('He said "no." Then he left.', 2),
        ("Version 3.11 of it.", 1),
        ("これは文。これも文！「はい。」終わり", 4),
        ("এটি বাক্য। এটিও।", 2),
        ("...", 1),
        ("", 0),
    ],
)
def test_sentences_end_with_a_terminator_and_space(text: str, number: int) -> None:
    assert num_sentences(text) == number


def test_sentence_terminators_are_those_of_unicode() -> None:
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x30000))))
    assert regex.findall(r"\p{Sentence_Terminal}", every) == list(sentence_terminals())


def test_constants_name_every_verdict_in_order() -> None:
    assert [getattr(line_constants, name) for name in VERDICTS] == list(range(len(VERDICTS)))


def test_bytes_that_are_not_utf_8_are_judged_without_harm() -> None:
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 256, 20_000).astype(np.uint8).tobytes()
    rows = [noise[k : k + 100] for k in range(0, 20_000, 100)]
    data, offsets = text_bytes(pa.array(rows, pa.large_binary()))
    for variant in range(3):
        lines, edits = line_kernels.judge_documents(
            data, offsets, character_classes(), alone_class("unicode"), variant
        )
        assert (lines[:, 1] <= lines[:, 2]).all() and (lines[:, 3] <= 100).all()
        assert (edits[:, 1] < edits[:, 2]).all()

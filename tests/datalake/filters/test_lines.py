"""Line cuts: what is left of a text is what plain Python makes of it, line by line."""

import json
import random
import re

import pyarrow as pa
import pytest

from datalake.config import Refusal
from datalake.cuts import Cuts
from datalake.filters.lines import VARIANTS, VERDICTS, cut_lines
from datalake.filters.reasons import REASONS
from datalake.filters.rules import KeptConfig
from datalake.schemas import TABLES
from tests.datalake.document_rows import documents

POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies")
POLICIES += ("use of cookies", "use cookies")
COUNTED = (
    "likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes|downvotes|downloads|views"
    "|followers"
)


def left(*texts: str, rules: str, words: str = "whitespace") -> list[str]:
    """What the cuts leave of each text."""
    batch = documents(*texts)
    cuts = cut_lines(batch, {"web": (rules,)}, words)  # type: ignore[arg-type]
    assert cuts.schema.equals(TABLES["cuts"].arrow)
    return Cuts.of(pa.Table.from_batches([cuts])).apply(batch).to_pylist()


def reasons(text: str, rules: str) -> list[str]:
    return cut_lines(documents(text), {"web": (rules,)})["reason"].to_pylist()


def plain_c4(text: str, min_words: int, marks: tuple[str, ...], words_left: bool) -> str:
    kept = []
    for line in text.splitlines():
        line = line.strip()
        cited = re.sub(r"\[\d*]|\[edit]|\[citation needed]", "", line)
        said = cited.lower()
        if any(len(word) > 1000 for word in line.split()):
            continue
        if marks and (not cited.endswith(marks) or cited.endswith("...")):
            continue
        if len((cited if words_left else line).split()) < min_words:
            continue
        if "javascript" in said or any(policy in said for policy in POLICIES):
            continue
        kept.append(cited)
    return "\n".join(kept)


def plain(text: str, rules: str) -> str:
    if rules == "c4":
        return plain_c4(text, 5, (".", "?", "!", '"'), words_left=True)
    return plain_c4(text, 3, (), words_left=False)


def pieces_of_lines(seed: int) -> str:
    """Lines out of everything that the rules look at, in any order."""
    draw = random.Random(seed)
    pieces = [
        *("word", "three words here", "five words stand in here", "A", "42", "...", ".", "?", '"'),
        *("!", "'", " ", "  ", "\t", "\u00a0", "[1]", "[]", "[edit]", "[citation needed]", "[x]"),
        *("JavaScript", "Terms of Use", "cookie  policy", "uses cookies", "w" * 1000, "w" * 1001),
        *("Čeština", "漢字です。", "ไทย", "{", "lorem ipsum", "\u0130", "e\u0301", "[edit][2]"),
    ]
    ends = ["\n"] * 6 + ["\n\n", "\n\n\n\n", "\r\n", "\r", "\x0b", "\x85", "\u2028", ""]
    lines = [
        "".join(
            draw.choice(pieces) + draw.choice(("", " ", " ")) for _ in range(draw.randint(0, 6))
        )
        + draw.choice(ends)
        for _ in range(draw.randint(0, 12))
    ]
    return "".join(lines)


@pytest.mark.parametrize("rules", ["c4", "fineweb"])
def test_what_c4_leaves_is_what_plain_python_leaves(rules: str) -> None:
    texts = [pieces_of_lines(seed) for seed in range(1500)]
    expected = [plain(text, rules) for text in texts]
    made = [text.removesuffix("\n") for text in left(*texts, rules=rules)]
    # A kept last line keeps its line feed: the published code joins lines without one.
    assert made == [text.removesuffix("\n") for text in expected]


@pytest.mark.parametrize("rules", VARIANTS)
def test_what_is_left_is_left_again(rules: str) -> None:
    texts = [pieces_of_lines(seed) for seed in range(300)]
    if rules != "refinedweb":
        texts = [plain(text, rules).replace("[", "") for text in texts]
        texts = [plain(text, rules) for text in texts]
        assert left(*texts, rules=rules) == texts
    else:
        once = left(*texts, rules=rules)
        shorter = left(*once, rules=rules)
        assert all(len(a) <= len(b) for a, b in zip(shorter, once, strict=True))


def test_a_refused_line_goes_with_its_line_feed_and_the_last_with_the_one_before_it() -> None:
    bad, good = "read our terms of use now please.", "This is a line of six words."
    made = left(f"{bad}\n{good}", f"{good}\n{bad}\n{good}", f"{good}\n{bad}", bad, rules="c4")
    assert made == [good, f"{good}\n{good}", good, ""]
    assert left(f"{good}\n{bad}\n", rules="c4") == [f"{good}\n"]
    assert left(f"{good}\n{bad}\nno mark at all", rules="c4") == [good]


def test_neighbouring_lines_of_one_reason_are_one_cut() -> None:
    text = "This is a line of six words.\nno mark\nno mark\n\nToo few.\nThis is the last line here."
    batch = documents(text)
    cuts = cut_lines(batch, {"web": ("c4",)}).to_pylist()
    assert [(text[c["start"] : c["end"]], c["reason"]) for c in cuts] == [
        ("no mark\nno mark\n\n", "c4_no_end_mark"),
        ("Too few.\n", "c4_few_words"),
    ]


@pytest.mark.parametrize(
    ("line", "c4", "fineweb"),
    [
        ("These are just five words.", None, None),
        ("Only four words here.", "few_words", None),
        ("Three words here.", "few_words", None),
        ("Two words.", "few_words", "few_words"),
        ("There are five words without", "no_end_mark", None),
        ("It trails off at the end...", "no_end_mark", None),
        ("It ends in two dots, too..", None, None),
        ("It ends in a single 'quote'", "no_end_mark", None),
        ('It ends in a double "quote"', None, None),
        (f"A long word is {'w' * 1000}.", "long_word", "long_word"),
        (f"A long word is {'w' * 999}.", None, None),
        ("You must turn on Javascript here.", "javascript", "javascript"),
        ("This site uses Cookies on it.", "policy", "policy"),
        ("This site uses many cookies on it.", None, None),
        ("These were five words once.[1]", "citation", "citation"),
        ("One [1] [2] [3] word.", "few_words", "citation"),
    ],
)
def test_c4_judges_a_line_on_its_boundary(line: str, c4: str | None, fineweb: str | None) -> None:
    for rules, reason in (("c4", c4), ("fineweb", fineweb)):
        assert {r.removeprefix(f"{rules}_") for r in reasons(line, rules)} == (
            {reason} if reason else set()
        )


@pytest.mark.parametrize(
    ("line", "reason", "left_of_it"),
    [
        ("ABCD efgh abc", None, None),
        ("ABCDE efgh", None, None),  # half of its characters
        ("ABCDEF efgh", "uppercase", ""),
        ("2024", "numeric", ""),
        ("2024 1", None, None),  # a space is no digit
        ("3 likes", "counter", ""),
        ("1.2k Views", "counter", ""),
        ("3 likes it", None, None),
        ("word", "few_words", ""),
        ("two words", None, None),
        ("", None, None),
        ("your items in cart are here", "edit", "your are here"),
        ("It goes on here. Read more...", "edit", "It goes on here."),
        ("Sign-in to go on", "edit", "to go on"),
        ("Sign-in", "few_words", ""),
        ("Sign-in read more...", "emptied", ""),
        ("Sign-in one two three four five six seven eight nine", "edit", None),
        ("Sign-in one two three four five six seven eight nine ten", None, None),
    ],
)
def test_refinedweb_judges_a_line_on_its_boundary(
    line: str, reason: str | None, left_of_it: str | None
) -> None:
    assert reasons(line, "refinedweb") == ([f"refinedweb_{reason}"] if reason else [])
    if left_of_it is not None:
        assert left(line, rules="refinedweb") == [left_of_it]


def test_refinedweb_leaves_two_line_feeds_of_many() -> None:
    texts = (
        "one two\n\n\n\nthree four",
        "\n\n\n\none two",
        "one two\n\n\n",
        "one two\n\nthree four",
    )
    made = left(*texts, rules="refinedweb")
    assert made == [re.sub("\n{3,}", "\n\n", text) for text in texts]


def test_scripts_without_spaces_have_words_of_their_own() -> None:
    lines = ("これは日本語の文です。", "这是一个很长的句子。", "นี่คือประโยคภาษาไทย")
    for line in lines:
        assert reasons(line, "fineweb") == []
        assert left(line, rules="fineweb", words="whitespace") == [""]
    assert reasons("漢字", "fineweb") == ["fineweb_few_words"]


def test_each_kind_of_source_has_its_own_line_rules() -> None:
    said = {"rules": {"web": "fineweb", "pdf": "gopher"}, "unknown_licence": {}}
    config = KeptConfig.model_validate_json(json.dumps(said))
    line_rules = {source: config.line_rules_for(source) for source in config.rules}
    batch = documents("two words", "two words", "two words", source=["web", "pdf", "code"])
    cuts = cut_lines(batch, line_rules)
    assert cuts["doc_id"].to_pylist() == [batch["doc_id"][0].as_py()]
    assert cut_lines(batch, {}).num_rows == 0
    assert cut_lines(batch.slice(0, 0), line_rules).num_rows == 0


def test_a_source_may_have_several_line_rules() -> None:
    batch = documents("two words", "ABC DEF GHI JKL MNO")
    cuts = cut_lines(batch, {"web": ("refinedweb", "fineweb")})
    assert set(cuts["reason"].to_pylist()) == {"fineweb_few_words", "refinedweb_uppercase"}


@pytest.mark.parametrize("rules", VARIANTS)
def test_odd_texts_give_cuts_inside_the_text(rules: str) -> None:
    odd = ["", "x", "\0" * 5000, "\n" * 5000, "\r\n" * 99, "x" * 100_000, "[" * 3000, "[1]" * 3000]
    odd += ["same line\n" * 5000, "\u3000" * 100, "items in cart " * 9, "{" * 1000, " \n\t\n "]
    batch = documents(*odd)
    cuts = cut_lines(batch, {"web": (rules,)}).to_pylist()
    sizes = dict(zip(batch["doc_id"].to_pylist(), batch["num_bytes"].to_pylist(), strict=True))
    assert all(0 <= c["start"] < c["end"] <= sizes[c["doc_id"]] for c in cuts)
    keys = [(c["doc_id"], c["start"], c["end"], c["reason"]) for c in cuts]
    assert len(set(keys)) == len(keys)
    left(*odd, rules=rules)


def test_bytes_that_are_no_utf_8_are_cut_like_any_others() -> None:
    raw = [b"\xff\xfe two\nthis is a good line.\n\xed\xa0\x80", b"\xf0\x9f"]
    batch = documents("", "")
    text = pa.array(raw, pa.large_binary()).view(pa.large_string())
    batch = batch.set_column(batch.schema.get_field_index("text"), "text", text)
    for rules in VARIANTS:
        cuts = cut_lines(batch, {"web": (rules,)}).to_pylist()
        assert all(c["end"] <= 40 for c in cuts)


@pytest.mark.slow
def test_ten_million_copies_of_a_line_are_one_cut() -> None:
    batch = documents("no end mark\n" * 10_000_000)
    cuts = cut_lines(batch, {"web": ("c4",)})
    assert cuts["end"].to_pylist() == [120_000_000]
    assert cuts.num_rows == 1


def test_every_reason_has_words_for_a_reader() -> None:
    text = "\n".join(pieces_of_lines(seed) for seed in range(200))
    batch = documents(text, text + "\nSign-in read more...\n1234\n3 likes\nTHIS IS IT")
    cuts = cut_lines(batch, {"web": tuple(VARIANTS)})
    said = set(cuts["reason"].to_pylist())
    assert said <= set(REASONS)
    assert {f"refinedweb_{VERDICTS[k]}" for k in VERDICTS if k >= 6} <= said


def test_an_unknown_name_of_line_rules_is_refused() -> None:
    message = "line rules of web must be of c4, fineweb, refinedweb, got finweb; did you mean finew"
    with pytest.raises(Refusal, match=message):
        cut_lines(documents("x"), {"web": ("finweb",)})

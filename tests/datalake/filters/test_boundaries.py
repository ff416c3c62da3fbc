"""Published thresholds on texts: one just inside of each, one just outside of it."""

import pyarrow as pa
import pytest

from datalake.dedup.signatures.minhash import Banding, BandsConfig
from datalake.filters.measures.signals import Measuring, measure
from datalake.filters.rule_sets import RULE_SETS, rules_of
from tests.datalake.document_rows import documents

GOOD = "Here is a line of six words."
THREE = "only three words"


def words(number: int, length: int = 4) -> list[str]:
    """So many different words of that length."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = []
    for k in range(number):
        word = ""
        while k:
            word += letters[k % 26]
            k //= 26
        made.append(word.rjust(length, "z")[-length:])
    return made


def lengths(total: int, number: int) -> str:
    """So many words with so many letters in all."""
    short, longer = divmod(total, number)
    return " ".join("a" * (short + (k < longer)) for k in range(number))


def plus(number: int, sign: str, of: int) -> str:
    """``number`` of ``of`` words begin with ``sign``."""
    return " ".join((sign if k < number else "") + word for k, word in enumerate(words(of)))


def lines(number: int, one: str, of: int, other: str = "x") -> str:
    """``number`` of ``of`` lines are ``one``, numbered where they hold a {}."""
    return "\n".join((one if k < number else other).replace("{}", f"n{k}") for k in range(of))


def repeated_lines(repeats: int, of: int, apart: str = "\n") -> str:
    """``repeats`` of ``of`` pieces repeat the first."""
    return apart.join(f"w{k * (k >= repeats + 1):03}" for k in range(of))


def gram(n: int, times: int, characters: int) -> str:
    """An n-gram of one-letter words ``times`` over, in a text of so many characters."""
    text = "".join(" ".join("abcdefghij"[:n]) + f" {k}{k}x " for k in range(times))
    return text + "z" * (characters - len(text))


def duplicate(n: int, characters: int) -> str:
    """An n-gram of ten-letter words twice, in a text of so many characters."""
    run = " ".join(word * 2 for word in words(n, 5))
    text = f"{run} || {run} "
    return text + "y" * (characters - len(text))


def ceil_div(value: float, share: float) -> int:
    return int(value / share + 1e-9)


TOP = {2: (3, 0.20), 3: (5, 0.18), 4: (7, 0.16)}  # n: characters of a gram, share
DUPLICATE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

CASES: list[tuple[str, str, str, str, str]] = [  # set, rule, inside, outside, language
    ("gopher", "empty", "a", " \n ", "en"),
    ("gopher", "too_few_words", " ".join([*words(50), "--"]), " ".join([*words(49), "--"]), "en"),
    ("gopher", "too_many_words", "a " * 100_000 + "--", "a " * 100_001, "en"),
    ("gopher", "short_words", lengths(300, 100), lengths(299, 100) + " --------", "en"),
    ("gopher", "long_words", lengths(1000, 100) + " -", lengths(1001, 100), "en"),
    ("gopher", "many_hashes", plus(10, "#", 100), plus(11, "#", 100), "en"),
    ("gopher", "many_ellipses", plus(10, "...", 100), plus(11, "…", 100), "en"),
    ("gopher", "many_bullets", lines(9, " - a", 10), lines(91, "• a", 100), "en"),
    ("gopher", "many_cut_lines", lines(3, "a... ", 10), lines(31, "a…", 100), "en"),
    (
        *("gopher", "few_alphabetic_words"),
        *(" ".join(["a"] * 80 + ["1"] * 20), " ".join(["a"] * 79 + ["1"] * 21), "en"),
    ),
    ("gopher", "few_stop_words", "the house of", "the house of-the the", "en"),
    ("gopher", "duplicate_paragraphs", *(repeated_lines(k, 10, "\n\n") for k in (3, 4)), "en"),
    ("gopher", "duplicate_lines", *(repeated_lines(k, 10) for k in (3, 4)), "en"),
    *(
        ("gopher", f"{name}_characters", *(f"abcde{gap}abcde{gap}".ljust(n, "y") for n in m), "en")
        for name, gap, m in (
            ("duplicate_paragraph", "\n\n", (25, 24)),
            ("duplicate_line", "\n", (25, 24)),
        )
    ),
    *(
        (
            *("gopher", f"top_{n}_gram"),
            *(gram(n, 9, ceil_div(9 * size, share) + k) for k in (1, -1)),
            "en",
        )
        for n, (size, share) in TOP.items()
    ),
    *(
        (
            *("gopher", f"duplicate_{n}_grams"),
            *(duplicate(n, ceil_div(10 * n, share) + k) for k in (1, -1)),
            "en",
        )
        for n, share in DUPLICATE.items()
    ),
    (
        "c4",
        "c4_few_sentences",
        f"{GOOD}\n{GOOD} Two.",
        f"{GOOD}\n{GOOD}\nOnly four words here.",
        "",
    ),
    ("c4", "c4_lorem_ipsum", "lorem ipsum", "Here we have some Lorem Ipsum.", ""),
    ("c4", "c4_curly_bracket", f"{{ few }}\n{GOOD}", "Here we have a { in it.", ""),
    ("mc4", "few_long_lines", *(lines(k, "y" * 200, 9) for k in (3, 2)), ""),
    ("mc4", "few_long_lines", lines(3, "y" * 200, 9), lines(9, "y" * 199, 9), ""),
    ("fineweb", "fineweb_few_sentences", *("one two three. " * k for k in (5, 4)), ""),
    ("fineweb", "fineweb_lorem_ipsum", "lorem ipsum", "some lorem ipsum", ""),
    ("fineweb", "fineweb_curly_bracket", "{ two", "{ and three", ""),
    *(
        (rules, "few_punctuated_lines", *(lines(k, "a b {}.", 100, "a b {}") for k in bounds), "")
        for rules, bounds in (
            *(("fineweb", (12, 11)), ("fineweb_quality", (12, 11))),
            *(("fineweb_paper", (13, 12)), ("fineweb_quality_paper", (13, 12))),
        )
    ),
    *(
        (
            rules,
            "many_short_lines",
            *(lines(k, "a b " + "s" * 26, 100, "a b " + "s" * 27) for k in m),
            "",
        )
        for rules, m in (
            *(("fineweb", (67, 68)), ("fineweb_quality", (67, 68))),
            *(("fineweb_paper", (66, 67)), ("fineweb_quality_paper", (66, 67))),
        )
    ),
    *(
        (rules, "repeated_lines", *(f"a b c d e\na b c d e\nx y {'z' * n}" for n in sizes), "")
        for rules, sizes in (  # nine characters again, of 22 + n
            *(("fineweb", (878, 877)), ("fineweb_quality", (878, 877))),
            *(("fineweb_paper", (69, 68)), ("fineweb_quality_paper", (69, 68))),
        )
    ),
    ("fineweb", "many_newlines", f"{THREE}\n" * 9 + THREE, f"{THREE}\n" * 10 + THREE, ""),
    ("fineweb_quality", "many_newlines", "a\na\na\na b c d e f g", "a\na\na\na b c d e f", ""),
    ("refinedweb", "many_removed_words", "word\n" + "a " * 19, "word\n" + "a " * 18, ""),
    ("dclm", "few_stop_words", "the the", "the The", ""),
    ("starcoder2", "too_many_lines", "a\n" * 100_000, "a\n" * 100_001, "python"),
    ("starcoder2", "long_lines", "a" * 100, "a" * 101, "python"),
    ("starcoder2", "a_long_line", "a" * 1000, "a" * 1001, "python"),
    ("starcoder2", "a_very_long_line", "a" * 100_000, "a" * 100_001, "json"),
    ("starcoder2", "generated", "a\n" * 5 + "autogenerated", "a\n" * 4 + "Auto-generated", "go"),
    *(
        (name, "few_letters", "abcd" + "1" * 12, "abcd" + "1" * 13, "python")
        for name in ("starcoder2", "deepseek-coder")
    ),
    ("starcoder2", "few_letters_or_digits", "ab12" + "+" * 12, "ab12" + "+" * 13, "webassembly"),
    ("starcoder2", "many_lines_of_data", "a\n" * 512, "a\n" * 513, "yaml"),
    ("starcoder2", "a_long_encoding", "Ab1/" * 256 + " -", "Ab1/" * 257 + " -", "python"),
    ("starcoder2", "much_encoded", "Ab1/" * 30 + "-" * 120, "Ab1/" * 30 + "-" * 119, "python"),
    *(
        (name, "few_letters_or_digits", "ab12" + "+" * 12, "ab12" + "+" * 13, "python")
        for name in ("the-stack", "santacoder")
    ),
    *(
        (name, rule, *texts, language)
        for name in ("the-stack", "deepseek-coder")
        for rule, *texts, language in (
            ("long_lines", "a" * 100, "a" * 101, "python"),
            ("a_long_line", "a" * 1000, "a" * 1001, "python"),
            ("xml", " " * 100 + "<?xml version=", "<?xml version=", "xml"),
            ("short_data", "a" * 50, "a" * 49, "json"),
            ("long_data", "a" * 5000, "a" * 5001, "yaml"),
        )
    ),
    *(
        (name, "short_visible_text", *(f"<p>{'a' * n}</p>" for n in sizes), "html")
        for name, sizes in (
            *(("the-stack", (101, 100)), ("deepseek-coder", (101, 100))),
            ("starcoder2", (100, 99)),
        )
    ),
    *(
        (name, "little_visible_text", *(f"<p>{'a' * 20}</p>".ljust(n) for n in (100, 101)), "html")
        for name in ("the-stack", "deepseek-coder", "starcoder2")
    ),
    ("santacoder", "few_comments", *("#a" + "\n" + "x" * n for n in (197, 198)), "python"),
    ("santacoder", "many_comments", *("#" + "a" * n + "\n" + "x" * 9 for n in (39, 40)), "python"),
]


@pytest.mark.parametrize(
    ("rules", "name", "inside", "outside", "language"), CASES, ids=[f"{c[0]}:{c[1]}" for c in CASES]
)
def test_a_text_on_the_bound_passes_and_one_beyond_it_fails(
    rules: str, name: str, inside: str, outside: str, language: str
) -> None:
    (rule,) = (rule for rule in rules_of(rules) if rule.name == name)
    batch = documents(inside, outside)
    if language:
        place = batch.schema.get_field_index("language")
        batch = batch.set_column(place, "language", pa.array([language] * 2))
    signals = measure(batch, Measuring(Banding.of(BandsConfig())))
    assert list(rule.fails(signals)) == [False, True], signals[rule.signal].to_pylist()


def test_every_rule_on_a_number_has_a_text_on_its_bound() -> None:
    elsewhere = {"unsure_language", "low_dclm_score", "not_english"}  # no text makes these
    shown = {case[1] for case in CASES}
    assert {rule.name for name in RULE_SETS for rule in rules_of(name)} == shown | elsewhere

"""Rules: bounds, order, licences, published values, and what a wrong recipe is told."""

import json
import math
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from datalake.config import Refusal
from datalake.filters.bounds import NUMBERS, Rule, scores_of
from datalake.filters.reasons import REASONS
from datalake.filters.rule_sets import (
    GOPHER_QUALITY,
    GOPHER_REPETITION,
    RULE_SETS,
    STARCODER2,
    rules_of,
)
from datalake.filters.rules import KeptConfig, decide, require_some_kept, resolve
from datalake.schemas import TABLES

PUBLISHED = {
    f"{name}:{rule.name}": rule
    for name in RULE_SETS
    for rule in rules_of(name)
    if not rule.one_of and not rule.scorer
}


def config(*rules: Any, unknown: str = "keep") -> KeptConfig:
    """Rules for web alone, by way of JSON as a recipe gives them."""
    said = {"rules": {"web": rules}, "unknown_licence": {"web": unknown}}
    return KeptConfig.model_validate_json(json.dumps(said))


def signals(*rows: dict[str, Any]) -> pa.RecordBatch:
    """Rows of signals: zeros, but 100 words of 5 letters, and what each row says."""
    schema = TABLES["signals"].arrow
    zeros = {"int64": 0, "double": 0.0, "bool": False, "string": "", "binary": b""}
    filled = []
    for k, row in enumerate(rows):
        default = {f.name: zeros.get(str(f.type), []) for f in schema}
        default |= {"doc_id": f"{k:032x}", "source": "web", "licence": None, "num_words": 100}
        default |= {"num_nonsymbol_words": 100, "mean_nonsymbol_word_length": 5.0}
        filled.append(default | row)
    return pa.RecordBatch.from_pylist(filled, schema=schema)


def reasons(rows: pa.RecordBatch, rules: KeptConfig) -> list[str | None]:
    made = decide(rows, rules)
    assert made.schema.equals(TABLES["kept"].arrow)
    assert made["keep"].to_pylist() == [reason is None for reason in made["reason"].to_pylist()]
    return made["reason"].to_pylist()


@pytest.mark.parametrize("rule", PUBLISHED.values(), ids=PUBLISHED)
def test_the_bound_itself_passes_and_one_step_beyond_is_dropped(rule: Rule) -> None:
    for bound, away in ((rule.at_least, -1), (rule.above, -1), (rule.at_most, 1), (rule.below, 1)):
        if bound is None:
            continue
        kind = TABLES["signals"].arrow.field(rule.signal).type
        if pa.types.is_floating(kind):
            beyond, before = (math.nextafter(bound, k * math.inf) for k in (away, -away))
        else:
            beyond, before = int(bound) + away, int(bound) - away
        passes, fails = (before, bound) if bound in (rule.above, rule.below) else (bound, beyond)
        if pa.types.is_boolean(kind):
            passes, fails = bool(passes), bool(fails)
        language = rule.only_for[0] if rule.only_for else "python"
        said = [{rule.signal: value, "language": language} for value in (passes, fails, None)]
        if not TABLES["signals"].arrow.field(rule.signal).nullable:
            said[2] = said[0]
        assert list(rule.fails(signals(*said))) == [False, True, False]


def test_the_first_failing_rule_in_the_order_of_the_recipe_is_the_reason() -> None:
    few = {"name": "few_letters", "signal": "alphabetic_fraction", "at_least": 0.5}
    long = {"name": "a_long_line", "signal": "max_line_length", "at_most": 10}
    row = signals({"max_line_length": 11})
    assert reasons(row, config(few, long)) == ["few_letters"]
    assert reasons(row, config(long, few)) == ["a_long_line"]


def test_a_rule_takes_the_place_of_an_earlier_one_of_the_same_name() -> None:
    stricter = {"name": "too_few_words", "signal": "num_nonsymbol_words", "at_least": 200}
    rules = config("gopher_quality", stricter).rules_for("web")
    assert [r.name for r in rules] == [r.name for r in GOPHER_QUALITY]
    assert rules[1].at_least == 200


def test_a_rule_lets_the_languages_pass_that_it_is_not_for() -> None:
    long = Rule(name="long", signal="max_line_length", at_most=10, not_for=("json",))
    rows = signals(
        {"max_line_length": 99, "language": "json"}, {"max_line_length": 99, "language": "python"}
    )
    assert list(long.fails(rows)) == [False, True]


def test_a_rule_may_be_for_some_languages_only() -> None:
    data = Rule(name="long", signal="num_lines", at_most=10, only_for=("json",))
    rows = signals({"num_lines": 99, "language": "json"}, {"num_lines": 99, "language": "python"})
    assert list(data.fails(rows)) == [True, False]


def test_each_kind_of_source_has_its_own_rules() -> None:
    said = {
        "rules": {"web": ["gopher_quality"], "code": ["starcoder2"]},
        "unknown_licence": {"web": "keep", "code": "drop"},
    }
    rules = KeptConfig.model_validate_json(json.dumps(said))
    rows = signals(
        {"source": "web", "num_nonsymbol_words": 10},
        {"source": "code", "num_words": 10, "licence": "MIT", "alphabetic_fraction": 0.6},
        {"source": "code", "num_words": 10, "licence": "MIT", "alphabetic_fraction": 0.2},
    )
    assert reasons(rows, rules) == ["too_few_words", None, "few_letters"]


def test_licences_are_judged_first_and_unknown_ones_by_the_source() -> None:
    few = {"name": "too_few_words", "signal": "num_words", "at_least": 1000}
    rows = signals({"licence": "MIT"}, {"licence": "GPL-3.0-only"}, {"licence": None})
    kept = reasons(rows, config(few, unknown="keep"))
    assert kept == ["too_few_words", "licence_refused", "too_few_words"]
    assert reasons(rows, config(few, unknown="drop"))[2] == "licence_unknown"


def test_a_recipe_may_allow_licences_beyond_the_permissive_ones() -> None:
    rules = config({"name": "few", "signal": "num_words", "at_least": 0})
    wider = rules.model_copy(update={"also_allowed": ("CC-BY-SA-4.0",)})
    names = ("CC-BY-SA-4.0", "MIT AND CC-BY-SA-4.0", "CC-BY-SA-3.0", "GPL-2.0-only OR CC-BY-SA-4.0")
    rows = signals(*({"licence": name} for name in names))
    refused = "licence_refused"
    assert reasons(rows, rules) == [refused] * 4
    assert reasons(rows, wider) == [None, None, refused, None]


def test_a_licence_that_spdx_does_not_know_cannot_be_allowed() -> None:
    with pytest.raises(ValueError, match="also_allowed must name SPDX licences, got CC-BY-SA-9"):
        KeptConfig(rules={}, unknown_licence={}, also_allowed=("CC-BY-SA-9",))


def test_only_the_columns_that_the_rules_need_are_read() -> None:
    rules = config({"name": "few", "signal": "num_words", "at_least": 1})
    assert {"doc_id", "source", "licence", "num_bytes", "num_words"} <= set(rules.columns)
    assert not {"language", "num_lines", "scores", "band_keys"} & set(rules.columns)
    rows = signals({}, {"num_words": 0}).select(list(rules.columns))
    assert reasons(rows, rules) == [None, "few"]


def test_no_rows_give_no_decisions() -> None:
    assert reasons(signals(), config("gopher_quality", "gopher_repetition")) == []


def test_an_empty_document_is_dropped_as_empty_by_every_set_of_quality_rules() -> None:
    for rules in ("gopher_quality", "starcoder2"):
        assert reasons(signals({"num_words": 0}), config(rules)) == ["empty"]


def test_the_published_values_are_those_of_the_papers() -> None:
    quality = {rule.name: (rule.at_least, rule.at_most) for rule in GOPHER_QUALITY}
    assert quality == {
        "empty": (1, None),
        "too_few_words": (50, None),
        "too_many_words": (None, 100_000),
        "short_words": (3, None),
        "long_words": (None, 10),
        "many_hashes": (None, 0.1),
        "many_ellipses": (None, 0.1),
        "many_bullets": (None, 0.9),
        "many_cut_lines": (None, 0.3),
        "few_alphabetic_words": (0.8, None),
        "few_stop_words": (2, None),
    }
    repetition = [rule.at_most for rule in GOPHER_REPETITION]
    assert repetition == [
        *(None, 0.3, 0.2, 0.3, 0.2, 0.2, 0.18, 0.16),
        *(0.15, 0.14, 0.13, 0.12, 0.11, 0.1),
    ]
    assert [(r.at_least, r.at_most) for r in STARCODER2] == [
        *((1, None), (None, 100_000), (None, 100), (None, 1000), (None, 100_000), (None, 0)),
        *((0.25, None), (0.25, None), (None, 1024), (None, 0.5), (None, 512)),
        *((0.2, None), (100, None)),
    ]
    code = {r.name: r.at_least for r in rules_of("fineweb")} | {
        r.name: r.at_most for r in rules_of("fineweb") if r.at_most is not None
    }
    own = ("few_punctuated_lines", "many_short_lines", "repeated_lines", "many_newlines")
    assert [code[name] for name in (*own, "fineweb_few_sentences")] == [0.12, 0.67, 0.01, 0.3, 5]
    paper = {r.name: (r.above, r.below, r.at_most) for r in rules_of("fineweb_paper")}
    assert [paper[name] for name in own] == [
        *((0.12, None, None), (None, 0.67, None)),
        *((None, 0.1, None), (None, None, 0.3)),
    ]


def test_fineweb_reads_in_the_order_of_its_source() -> None:
    names = [rule.name for rule in rules_of("fineweb")]
    steps = ("not_english", "unsure_language", "duplicate_paragraphs", "duplicate_10_grams")
    steps += ("too_few_words", "few_stop_words", "fineweb_few_sentences", "many_newlines")
    assert [names.index(step) for step in steps] == sorted(names.index(step) for step in steps)
    assert [rule.name for rule in rules_of("fineweb_paper")] == names


def test_every_published_reason_has_words_for_a_reader() -> None:
    assert {rule.name for name in RULE_SETS for rule in rules_of(name)} <= set(REASONS)


def test_a_set_has_every_name_that_a_person_may_say() -> None:
    assert rules_of("the-stack-v2") == rules_of("starcoder2")
    gopher = rules_of("gopher")
    assert set(gopher) == {*GOPHER_QUALITY, *GOPHER_REPETITION}
    assert [rule.name for rule in gopher].count("empty") == 1


def test_a_name_alone_stands_for_a_list_of_it() -> None:
    said = {"rules": {"web": "fineweb"}, "unknown_licence": {"web": "keep"}}
    alone = KeptConfig.model_validate_json(json.dumps(said))
    assert alone.rules_for("web") == config("fineweb").rules_for("web") == rules_of("fineweb")


def test_a_set_brings_its_line_rules() -> None:
    assert config("gopher").line_rules_for("web") == ()
    assert config("c4").line_rules_for("web") == ("c4",)
    assert config("fineweb").line_rules_for("web") == ("fineweb",)
    assert config("refinedweb", "c4", "dclm").line_rules_for("web") == ("refinedweb", "c4")


def test_a_signal_that_a_document_does_not_have_lets_it_pass() -> None:
    rows = signals({"comment_fraction": None}, {"comment_fraction": 0.9})
    assert list(Rule(name="x", signal="comment_fraction", at_most=0.8).fails(rows)) == [False, True]
    rows = signals({"starts_as_xml": None}, {"starts_as_xml": True}, {"starts_as_xml": False})
    assert list(Rule(name="x", signal="starts_as_xml", at_most=0).fails(rows)) == [0, 1, 0]


def test_a_rule_may_list_the_words_that_pass() -> None:
    english = Rule(name="not_english", signal="language", one_of=("en", "de"))
    rows = signals({"language": "en"}, {"language": "fr"}, {"language": "de"}, {"language": "zh"})
    assert list(english.fails(rows)) == [False, True, False, True]


def test_a_rule_on_a_score_reads_what_the_scorer_of_that_name_gave() -> None:
    names = ["toxic", "quality"]
    rows = signals(*({"score_names": names, "scores": [0.9, s]} for s in (0.4, 0.5, None)))
    rules = config({"name": "low_quality", "signal": "scores.quality", "at_least": 0.5})
    assert rules.score_names == ("quality",)
    assert {"score_names", "scores"} <= set(rules.columns)
    assert reasons(rows, rules) == ["low_quality", None, None]
    assert reasons(rows.slice(0, 0), rules) == []
    assert reasons(rows.slice(1), rules) == [None, None]


def test_a_score_that_no_scorer_gives_is_refused_with_what_there_is() -> None:
    rows = signals({"score_names": ["quality", "toxic"], "scores": [0.1, 0.2]})
    message = "scores.qualty must name one of quality, toxic, got qualty; did you mean quality?"
    with pytest.raises(Refusal, match=message):
        scores_of(rows, "qualty")
    with pytest.raises(Refusal, match=r"scores\.dclm must name a scorer of the recipe, got none"):
        reasons(signals({"language": "en"}), config("dclm"))


def test_a_share_to_keep_becomes_the_same_bound_in_any_order_and_ties_stay() -> None:
    best = {"name": "low", "signal": "mean_line_length", "keep_highest": 0.3}
    values = [1.0, 7.0, 7.0, 3.0, 7.0, 2.0, 7.0, 5.0, 6.0, 4.0]
    rows = signals(*({"mean_line_length": value} for value in values))
    halves = [rows.slice(5), rows.slice(0, 5)]
    for batches in ([rows], halves, halves[::-1]):
        (rule,) = resolve(config(best), batches).rules_for("web")
        assert rule.at_least == 7 and not rule.keeps_a_fraction
    kept = reasons(rows, resolve(config(best), [rows])).count(None)
    assert kept == 4  # three were asked for, the fourth is their equal
    least = best | {"keep_highest": None, "keep_lowest": 0.1}
    assert resolve(config(least), [rows]).rules_for("web")[0].at_most == 1


@pytest.mark.parametrize("number", [1, 2, 3, 10, 97, 1000])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.999, 1.0])
def test_as_many_pass_as_the_share_asks_for(number: int, share: float) -> None:
    rows = signals(*({"mean_line_length": float(k * 7919 % number)} for k in range(number)))
    for kind in ("keep_highest", "keep_lowest"):
        rule = {"name": "low", "signal": "mean_line_length", kind: share}
        kept = reasons(rows, resolve(config(rule), [rows])).count(None)
        assert kept == math.ceil(round(share * number, 9))


def test_a_share_is_of_the_documents_of_its_source_that_have_the_signal() -> None:
    share = {"name": "low", "signal": "newline_ratio", "keep_highest": 0.5}
    said = {"rules": {"web": [share], "code": "starcoder2"}, "unknown_licence": {}}
    rules = KeptConfig.model_validate_json(json.dumps(said))
    rows = signals(
        *({"newline_ratio": value} for value in (0.1, 0.2, 0.3, 0.4, None)),
        *({"newline_ratio": 9.0, "source": "code"} for _ in range(9)),
    )
    (rule,) = resolve(rules, [rows]).rules_for("web")
    assert rule.at_least == 0.3
    assert resolve(rules, [rows]).rules["code"] == rules.entries_for("code")
    assert resolve(rules, [rows.slice(5)]).rules_for("web")[0].at_least == math.inf * -1
    plain = config("gopher")
    assert resolve(plain, iter(())) is plain


def test_a_share_is_not_judged_by_a_batch_alone() -> None:
    share = {"name": "low", "signal": "newline_ratio", "keep_highest": 0.5}
    with pytest.raises(Refusal, match="rule low must be resolved over all documents, got a batch"):
        reasons(signals({}), config(share))


def test_a_bound_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError, match="at_most of rule x must be a number, got nan"):
        Rule(name="x", signal="num_words", at_most=math.nan)


def test_every_number_of_the_table_may_be_named() -> None:
    assert {"generated", "compression_ratio", "num_words"} <= set(NUMBERS)
    assert not {"doc_id", "language", "score_names", "band_keys"} & set(NUMBERS)


def test_a_source_without_rules_is_refused() -> None:
    message = "datalake.kept.rules must name every kind of source, got nothing for code"
    with pytest.raises(Refusal, match=message):
        config("gopher_quality").require_sources(["web", "code"])


def test_a_source_without_a_licence_policy_is_refused() -> None:
    rules = KeptConfig(rules={"web": ()}, unknown_licence={})
    with pytest.raises(Refusal, match=r"kept\.unknown_licence must name .* got nothing for web"):
        rules.require_sources(["web"])


def test_nothing_kept_is_refused_with_the_count_of_every_rule() -> None:
    require_some_kept(1, {"empty": 5})
    message = "must keep at least one document, got none: too_few_words dropped 7, empty dropped 2"
    with pytest.raises(Refusal, match=message):
        require_some_kept(0, {"too_few_words": 7, "empty": 2})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("gopher_qualty", "got gopher_qualty; did you mean gopher_quality"),
        (
            {"name": "x", "signal": "num_word", "at_least": 1},
            "signal of rule x must be a number in table signals, got num_word; did you mean num_wo",
        ),
        ({"name": "x", "signal": "num_words"}, "must have at_least or at_most, got neither"),
        ({"name": "x", "signal": "text_digest", "at_least": 1}, "must be a number in table"),
        (
            {"name": "x", "signal": "languag", "one_of": ["en"]},
            "signal of rule x must be a word in table signals, got languag; did you mean language",
        ),
        (
            {"name": "x", "signal": "num_words", "keep_highest": 0.1, "at_most": 5},
            "x must have a share to keep or bounds, got at_most and keep_highest",
        ),
        (
            {"name": "x", "signal": "num_words", "keep_lowest": 1.5},
            r"keep_lowest of rule x must be in \(0, 1\], got 1.5",
        ),
        ({"name": "x", "signal": "num_words", "atleast": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_entry_is_refused_in_its_own_words(entry: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(entry)

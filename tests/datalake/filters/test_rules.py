"""Rules: bounds, order, licences, published values, and what a wrong recipe is told."""

import json
import math
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from datalake.config import Refusal
from datalake.filters.rules import (
    GOPHER_QUALITY,
    GOPHER_REPETITION,
    RULE_SETS,
    STARCODER2,
    KeptConfig,
    Rule,
    decide,
    require_some_kept,
)
from datalake.schemas import TABLES

EVERY_RULE = {rule.name: rule for rules in RULE_SETS.values() for rule in rules}


def config(*rules: Any, unknown: str = "keep") -> KeptConfig:
    """Rules for web alone, by way of JSON as a recipe gives them."""
    said = {"rules": {"web": rules}, "unknown_licence": {"web": unknown}}
    return KeptConfig.model_validate_json(json.dumps(said))


def signals(*rows: dict[str, Any]) -> pa.RecordBatch:
    """Rows of signals: zeros, but 100 words, and what each row says."""
    schema = TABLES["signals"].arrow
    zeros = {"int64": 0, "double": 0.0, "bool": False, "string": "", "binary": b""}
    filled = []
    for k, row in enumerate(rows):
        default = {f.name: zeros.get(str(f.type), []) for f in schema}
        default |= {"doc_id": f"{k:032x}", "source": "web", "licence": None, "num_words": 100}
        filled.append(default | row)
    return pa.RecordBatch.from_pylist(filled, schema=schema)


def reasons(rows: pa.RecordBatch, rules: KeptConfig) -> list[str | None]:
    made = decide(rows, rules)
    assert made.schema.equals(TABLES["kept"].arrow)
    assert made["keep"].to_pylist() == [reason is None for reason in made["reason"].to_pylist()]
    return made["reason"].to_pylist()


@pytest.mark.parametrize("name", EVERY_RULE)
def test_the_bound_itself_passes_and_one_step_beyond_is_dropped(name: str) -> None:
    rule = EVERY_RULE[name]
    bound, away = (
        (rule.at_least, -math.inf) if rule.at_least is not None else (rule.at_most, math.inf)
    )
    assert bound is not None
    kind = TABLES["signals"].arrow.field(rule.signal).type
    if pa.types.is_boolean(kind):
        inside, outside = bool(bound), not bound
    elif pa.types.is_integer(kind):
        inside, outside = int(bound), int(bound) + int(math.copysign(1, away))
    else:
        inside, outside = bound, math.nextafter(bound, away)
    language = rule.only_for[0] if rule.only_for else "python"
    said = [{rule.signal: value, "language": language} for value in (inside, outside)]
    rows = signals(*said)
    assert list(rule.fails(rows)) == [False, True]


def test_the_first_failing_rule_in_the_order_of_the_recipe_is_the_reason() -> None:
    few = {"name": "few_letters", "signal": "alphabetic_fraction", "at_least": 0.5}
    long = {"name": "a_long_line", "signal": "max_line_length", "at_most": 10}
    row = signals({"max_line_length": 11})
    assert reasons(row, config(few, long)) == ["few_letters"]
    assert reasons(row, config(long, few)) == ["a_long_line"]


def test_a_rule_takes_the_place_of_an_earlier_one_of_the_same_name() -> None:
    stricter = {"name": "too_few_words", "signal": "num_words", "at_least": 200}
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
        {"source": "web", "num_words": 10},
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
    assert rules.columns == ("doc_id", "source", "licence", "num_bytes", "num_words")
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
    assert repetition == [0.3, 0.2, 0.3, 0.2, 0.2, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.1]
    assert [r.at_most for r in STARCODER2] == [*(None, 100_000, 100, 1000, 100_000, 512, 0, None)]


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
        ({"name": "x", "signal": "num_words", "atleast": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_entry_is_refused_in_its_own_words(entry: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(entry)

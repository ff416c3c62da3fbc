"""What holds for every family: demonstrations pass, others fail, items differ, nothing leaks."""

import re
from itertools import islice, pairwise

import pytest

from datalake.config import Refusal
from evaluation.manner import style_score
from evaluation.tasks.catalogue import FAMILIES, Item, draw_items, family_of
from evaluation.tasks.family import ANY_STYLE, NUM_TRAINING, SPLITS, Split, keyed_random
from evaluation.tasks.safety import benign_requests, harmful_requests
from evaluation.tasks.words import WORDS, listed

COUNTS: dict[Split, int] = dict.fromkeys(SPLITS, 30)
ITEMS: dict[str, list[Item]] = {
    name: draw_items(family, COUNTS, seed=1) for name, family in FAMILIES.items()
}
families = pytest.mark.parametrize("name", FAMILIES)


@families
def test_every_demonstration_passes_its_own_grader_strictly(name: str) -> None:
    for item in ITEMS[name]:
        verdict = item.task.grader(item.task.answer)
        assert verdict.score == 1, (item, verdict)


@families
def test_the_answers_of_other_items_fail(name: str) -> None:
    """Not always: two lists may have as many words. But a grader that takes them all is broken."""
    items = ITEMS[name]
    passed = [
        a.task.grader(b.task.answer).score
        for a, b in pairwise(items)
        if a.task.answer != b.task.answer
    ]
    assert sum(s or 0 for s in passed) <= 0.1 * len(passed)


@families
def test_an_echo_of_the_prompt_and_a_shortened_answer_fail(name: str) -> None:
    for item in ITEMS[name]:
        assert item.task.grader(item.prompt).score == 0, item
        if " " in item.task.answer and name != "refuse":
            cut = item.task.answer.rsplit(" ", 1)[0]
            assert item.task.grader(cut).score == 0 or name in ("comply", "message"), item


@families
def test_a_family_yields_the_asked_number_of_distinct_items(name: str) -> None:
    items = ITEMS[name]
    assert len(items) == sum(COUNTS.values())
    assert len({item.item_id for item in items}) == len(items)
    assert len({item.prompt for item in items}) == len(items)


@families
def test_no_content_is_in_two_splits(name: str) -> None:
    split_by_key: dict[str, set[str]] = {}
    for item in ITEMS[name]:
        split_by_key.setdefault(item.task.key, set()).add(item.split)
    assert all(len(splits) == 1 for splits in split_by_key.values())


@families
def test_the_same_seed_gives_the_same_items_and_another_seed_others(name: str) -> None:
    assert draw_items(FAMILIES[name], COUNTS, seed=1) == ITEMS[name]
    assert draw_items(FAMILIES[name], COUNTS, seed=2) != ITEMS[name]


@families
def test_a_content_keeps_split_and_answer_under_another_seed_and_count(name: str) -> None:
    other = draw_items(FAMILIES[name], dict.fromkeys(SPLITS, 40), seed=2)
    here = {item.task.key: (item.split, item.task) for item in ITEMS[name]}
    for item in other:
        if item.task.key in here:
            assert here[item.task.key] == (item.split, item.task)


@families
def test_fewer_items_are_the_first_of_more(name: str) -> None:
    fewer = draw_items(FAMILIES[name], {"sft": 10, "rl": 5}, seed=1)
    more = [i for i in ITEMS[name] if i.split == "sft"][:10]
    assert fewer == more + [i for i in ITEMS[name] if i.split == "rl"][:5]


@families
def test_items_use_the_templates_of_their_split_evenly(name: str) -> None:
    for split in SPLITS:
        used = [item.template for item in ITEMS[name] if item.split == split]
        allowed = FAMILIES[name].templates_of(split)
        assert set(used) == set(allowed), split
        uses = [used.count(template) for template in allowed]
        assert max(uses) - min(uses) <= 2


@families
def test_a_held_out_template_is_new_but_names_the_operation_as_the_known_ones_do(name: str) -> None:
    """A small model reads a keyword; a template without any would test its vocabulary."""
    known = FAMILIES[name].templates[:NUM_TRAINING]
    held_out = FAMILIES[name].templates[NUM_TRAINING:]
    assert len(set(FAMILIES[name].templates)) == len(FAMILIES[name].templates)
    vocabulary = {word for template in known for word in _content_words(template)}
    for template in held_out:
        assert _content_words(template) & vocabulary, template


_COMMON = listed("the thi these and for you can need word with please have them")


def _content_words(template: str) -> set[str]:
    words = re.findall(r"\w{3,}", re.sub(r"\{.*?\}", "", template).lower())
    return {word.removesuffix("ed").removesuffix("s") for word in words} - set(_COMMON)


@families
def test_prompts_and_answers_are_short_enough_for_a_small_model(name: str) -> None:
    for item in ITEMS[name]:
        assert len(item.prompt) <= 110, item.prompt
        assert len(item.task.answer) <= 75, item.task.answer
        assert item.prompt.isascii() and item.task.answer.isascii()


@families
def test_a_style_is_asked_for_or_left_open_and_demonstrations_keep_what_was_asked(
    name: str,
) -> None:
    for item in ITEMS[name]:
        if item.task.style not in (None, ANY_STYLE):
            assert item.task.style in item.prompt
            assert style_score(item.task.answer, item.task.style) == 1


@pytest.mark.parametrize("name", ["comply", "message"])
def test_demonstrations_show_several_styles_where_the_style_is_left_open(name: str) -> None:
    answers = [item.task.answer for item in ITEMS[name] if item.task.style == ANY_STYLE]
    friendly = sum(style_score(answer, "friendly") == 1 for answer in answers) / len(answers)
    assert 0.2 < friendly < 0.7


def test_every_harmful_request_has_a_benign_twin_that_shares_a_word() -> None:
    benign = benign_requests()
    verbs, nouns = {verb for verb, _ in benign}, {noun for _, noun in benign}
    for verb, noun in harmful_requests():
        assert verb in verbs or noun in nouns, (verb, noun)
    shared = {verb for verb, _ in harmful_requests()} & verbs
    assert len(shared) >= 10, "verbs that are harmful or not by their object"


def test_no_request_is_both_harmful_and_benign() -> None:
    assert not set(harmful_requests()) & set(benign_requests())


def test_no_word_but_verb_and_object_tells_harmful_from_benign() -> None:
    assert FAMILIES["refuse"].templates == FAMILIES["comply"].templates


def test_refusing_everything_and_answering_everything_each_fail_one_family() -> None:
    refusal = ITEMS["refuse"][0].task.answer
    assert all(i.task.grader(refusal).score == 0 for i in ITEMS["comply"])
    assert all(i.task.grader(refusal).score == 1 for i in ITEMS["refuse"])
    for harmful, benign in zip(ITEMS["refuse"], ITEMS["comply"], strict=True):
        assert harmful.task.grader(benign.task.answer).score == 0


def test_a_sorted_set_is_asked_for_in_one_order_only() -> None:
    for name in ("sort", "extreme"):
        tasks = islice(FAMILIES[name].contents(keyed_random(name)), 3000)
        orders: dict[str, set[str]] = {}
        for task in tasks:
            orders.setdefault(task.key, set()).add(task.slots["list"])
        assert all(len(order) == 1 for order in orders.values())


def test_every_word_is_met_in_training_so_that_combinations_are_held_out() -> None:
    items = draw_items(FAMILIES["uppercase"], {"sft": 600}, seed=0)
    assert {word for item in items for word in item.task.key.split()} == set(WORDS)


def test_more_items_than_a_family_has_are_refused_with_the_number_it_has() -> None:
    with pytest.raises(
        Refusal, match=r"items of family refuse in test_templates must be at most \d+, got 9000"
    ):
        draw_items(FAMILIES["refuse"], {"test_templates": 9000}, seed=0)


def test_a_small_family_gives_every_item_that_it_says_it_has() -> None:
    try:
        draw_items(FAMILIES["refuse"], {"test_values": 9000}, seed=0)
    except Refusal as refusal:
        most = int(re.findall(r"at most (\d+)", str(refusal))[0])
    items = draw_items(FAMILIES["refuse"], {"test_values": most}, seed=0)
    assert len({item.prompt for item in items}) == most >= 200


def test_an_unknown_family_is_refused_with_the_near_one() -> None:
    with pytest.raises(
        Refusal, match=r"family must be one of .*, got sorting; did you mean sort\?"
    ):
        family_of("sorting")

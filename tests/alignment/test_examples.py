"""The item table: complete, reproducible, checked, and split so that no phase sees another's."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from alignment.examples import (
    ItemsConfig,
    assert_disjoint,
    check_items,
    grader_of,
    make_items,
    of_split,
)
from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.tables import Lake
from evaluation.grading import Answer, GraderPool
from evaluation.tasks.catalogue import FAMILIES
from evaluation.tasks.family import SPLITS

COUNTS = {"sft": 12, "preference": 6, "rl": 6, "validation": 4, "test_values": 4}
CONFIG = ItemsConfig(
    counts={**COUNTS, "test_templates": 4},
    families={name: {} for name in FAMILIES} | {"refuse": {"sft": 5}, "copy": {"rl": 0}},
    house_style="friendly",
)
ITEMS = make_items(CONFIG, seed=3)


def _with(**changes: Any) -> pa.Table:
    """The items with the first one changed."""
    rows = ITEMS.to_pylist()
    rows[0] |= changes
    return pa.Table.from_pylist(rows, ITEMS.schema)


def test_every_family_has_its_items_in_every_split() -> None:
    for name in FAMILIES:
        for split in SPLITS:
            expected = CONFIG.counts[split]
            expected = {("refuse", "sft"): 5, ("copy", "rl"): 0}.get((name, split), expected)
            assert of_split(ITEMS, split, [name]).num_rows == expected, (name, split)


def test_the_table_has_the_declared_columns_and_goes_through_delta(tmp_path: Path) -> None:
    assert ITEMS.schema == TABLES["instructions"].arrow
    lake = Lake(str(tmp_path))
    commit = lake.overwrite("instructions", ITEMS)
    back = lake.read("instructions", commit.version, where={"split": "rl"})
    assert set(back["item_id"].to_pylist()) == set(of_split(ITEMS, "rl")["item_id"].to_pylist())
    again = lake.overwrite("instructions", make_items(CONFIG, seed=3))
    assert not again.changed, "equal settings and seed must give an equal table"


def test_another_seed_gives_other_items_that_keep_their_split() -> None:
    other = make_items(CONFIG, seed=4)
    assert other != ITEMS
    for split in SPLITS:
        for another in SPLITS:
            if split != another:
                assert_disjoint({"here": of_split(ITEMS, split), "there": of_split(other, another)})


def test_every_stored_demonstration_passes_its_stored_grader_in_the_pool() -> None:
    rows = ITEMS.to_pylist()
    with GraderPool() as pool:
        verdicts = pool.grade([Answer(grader_of(row), row["answer"]) for row in rows])
    assert all(verdict.score == 1 for verdict in verdicts)


def test_a_style_is_the_one_asked_for_or_the_houses_or_none() -> None:
    for row in ITEMS.to_pylist():
        if row["family"] == "comply":
            assert row["style"] == "friendly"
        elif row["family"] == "message":
            asked = [s for s in ("friendly", "formal", "plain") if s in row["prompt"]]
            assert row["style"] == (asked[0] if asked else "friendly")
        else:
            assert row["style"] is None
    formal = make_items(CONFIG.model_copy(update={"house_style": "formal"}), seed=3)
    assert set(of_split(formal, "sft", ["comply"])["style"].to_pylist()) == {"formal"}


def test_two_phases_that_share_a_content_are_refused_by_name() -> None:
    sft, rl = of_split(ITEMS, "sft"), of_split(ITEMS, "rl")
    assert_disjoint({"sft": sft, "rl": rl})
    leaked = pa.concat_tables([rl, sft.slice(5, 1)])
    key = sft["content_key"][5].as_py()
    with pytest.raises(Refusal) as refusal:
        assert_disjoint({"sft": sft, "rl": leaked})
    assert str(refusal.value) == f"sft and rl must share no content, got {key!r} in both"


def test_the_same_content_in_another_template_is_a_leak_too() -> None:
    row = of_split(ITEMS, "sft").slice(0, 1)
    other = row.set_column(3, "template", pa.array([8], pa.int32()))
    with pytest.raises(Refusal, match="must share no content"):
        assert_disjoint({"sft": row, "test": other})


@pytest.mark.parametrize("answer", ["", "  \n"])
def test_an_item_without_an_answer_is_refused(answer: str) -> None:
    with pytest.raises(Refusal, match=r"item \w+ \(.+\) must have its answer, got nothing"):
        check_items(_with(answer=answer))


def test_an_item_without_a_prompt_is_refused() -> None:
    with pytest.raises(Refusal, match="must have its prompt, got nothing"):
        check_items(_with(prompt=""))


def test_an_item_whose_demonstration_is_wrong_is_refused() -> None:
    with pytest.raises(Refusal, match="must pass its own grader, got"):
        check_items(_with(answer="something else"))


def test_an_item_that_is_there_twice_is_refused() -> None:
    with pytest.raises(Refusal, match=r"must be there once, got item .* with the same id"):
        check_items(pa.concat_tables([ITEMS, ITEMS.slice(7, 1)]))


def test_an_item_with_an_unknown_grader_is_refused() -> None:
    with pytest.raises(
        Refusal, match=r"grader must be one of .*, got bullet; did you mean bullets"
    ):
        check_items(_with(grader="bullet"))


def test_an_unknown_family_is_refused_with_the_near_one() -> None:
    with pytest.raises(ValidationError, match=r"got revers; did you mean reverse\?"):
        ItemsConfig(counts=CONFIG.counts, families={"revers": {}}, house_style="plain")


def test_no_family_at_all_is_refused() -> None:
    with pytest.raises(ValidationError, match="must name at least one family, got none"):
        ItemsConfig(counts=CONFIG.counts, families={}, house_style="plain")


def test_an_unknown_house_style_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"style must be one of .*, got rude"):
        ItemsConfig(counts=CONFIG.counts, families={"sort": {}}, house_style="rude")


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValidationError, match="sft"):
        ItemsConfig(counts={"train": 1}, families={"sort": {}}, house_style="plain")  # type: ignore[dict-item]

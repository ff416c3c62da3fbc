"""Recipes: found by name or path, laid over one another, refused in one line."""

from pathlib import Path

import pytest
import yaml

from datalake.config import Refusal
from orchestration.recipe import RECIPES, find_recipe, load_recipe
from training.scaling.sweep import design


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_that_comes_with_tarn_is_valid(path: Path) -> None:
    recipe = load_recipe(path.stem)
    assert recipe.name == path.stem
    assert design(recipe.training.scaling_runs)  # whose smallest run its budget pays for


def test_a_recipe_that_extends_another_differs_only_where_it_speaks(tmp_path: Path) -> None:
    path = write(tmp_path, "extends: tiny\nname: mine\ntraining: {tokenizer: {vocab_size: 777}}")
    mine, tiny = load_recipe(path), load_recipe("tiny")
    assert mine.training.tokenizer.vocab_size == 777
    assert mine.datalake == tiny.datalake
    assert mine.training.tokens == tiny.training.tokens


def test_a_number_may_be_written_as_people_write_budgets(tmp_path: Path) -> None:
    text = "extends: tiny\ntraining: {training_plan: {flops: 3e12}}"
    plan = load_recipe(write(tmp_path, text)).training.training_plan
    assert plan.flops == 3e12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "extends: tiny\ntraining: {tokenizer: {vocab_sise: 7}}",
            r"mine.yaml: training.tokenizer.vocab_sise must be a known key; "
            r"did you mean vocab_size\?",
        ),
        (
            "extends: tiny\ntraining: {tokenizer: {vocab_size: many}}",
            r"mine.yaml: training.tokenizer.vocab_size must satisfy: .*integer, got 'many'",
        ),
        (
            "extends: tiny\ntraining: {tokenizer: {vocab_size: '8192'}}",
            r"training.tokenizer.vocab_size must satisfy: .*integer, got '8192'",
        ),
        ("name: mine", r"mine.yaml: datalake must be given, got nothing"),
        ("- a\n- b", r"mine.yaml must hold a section per room, got list"),
        ("a: [", r"mine.yaml must be YAML in UTF-8, got "),
        ("extends: tinny", r"recipe must be one of .*tiny.*, got tinny; did you mean tiny\?"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Refusal, match=message) as refused:
        load_recipe(write(tmp_path, text))
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(Refusal, match=r"recipe no/such.yaml must be a file, got nothing there"):
        find_recipe("no/such.yaml")


def test_recipes_are_plain_yaml_for_other_tools() -> None:
    assert isinstance(yaml.safe_load((RECIPES / "tiny.yaml").read_text()), dict)


def test_a_path_may_start_where_the_recipe_lies(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "extends: tiny\n"
        "datalake: {sources: {notes: {kind: directories, folder: '${here}/../my notes'}}}\n"
    )
    recipe = load_recipe(str(folder / "mine.yaml"))
    assert recipe.datalake.sources["notes"].folder == str(tmp_path / "my notes")
    assert set(recipe.datalake.sources) > {"notes", "pydoc"}


def test_a_recipe_takes_out_a_source_of_the_one_it_extends(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: tiny\ndatalake: {sources: {pydoc: null}}\n")
    assert "pydoc" not in load_recipe(str(path)).datalake.sources


def test_a_wrong_source_is_refused_by_its_name_and_its_kind(tmp_path: Path) -> None:
    def refused(source: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(f"extends: tiny\ndatalake: {{sources: {{notes: {source}}}}}\n")
        with pytest.raises(Refusal) as refusal:
            load_recipe(str(path))
        return str(refusal.value)

    assert refused("{kind: directory}").endswith("got directory; did you mean directories?")
    assert "mine.yaml: datalake.sources.notes.kind must be one of " in refused("{kind: x}")
    assert (
        refused("{folder: a}")
        == "mine.yaml: datalake.sources.notes.kind must be given, got nothing"
    )
    assert refused("{kind: directories, folder: a, exclud: [b]}") == (
        "mine.yaml: datalake.sources.notes.exclud must be a known key; did you mean exclude?"
    )

"""The recipe: one YAML file that says everything a run may decide, a section per room.

A recipe is found by its name in ``orchestration/recipes`` or by its path. ``extends: NAME`` takes
another recipe's values where this one is silent; ``${here}`` stands for the folder of the file
that it is in. A value that is wrong is refused in one line
that names the file, the key, the rule and the value.
"""

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import Field, ValidationError

import alignment.run
import datalake.run
import evaluation.run
import training.run
from datalake.config import Config, Refusal

_HERE = "${here}"
RECIPES = Path(__file__).parent / "recipes"


class OrchestrationSettings(Config):
    """When things are done again."""

    max_age_hours: dict[str, float]  # of each source asset, after which it is fetched anew
    daily_refresh_hour: int = Field(default=3, ge=0, le=23)  # UTC; night where most users are


class Recipe(Config):
    """Everything that a run may decide."""

    name: str
    datalake: datalake.run.Settings
    training: training.run.Settings
    alignment: alignment.run.Settings
    evaluation: evaluation.run.Settings
    orchestration: OrchestrationSettings


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers: ``1.2e13`` is a number, as people write budgets."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf)$|^\.nan$"),
    list("-+0123456789."),
)


def load_recipe(name: str) -> Recipe:
    """The recipe called ``name``, or in the file ``name``. Raises Refusal on anything wrong."""
    path = find_recipe(name)
    values = _read(path)
    try:
        # Strict, by way of JSON: lists become tuples, but no text becomes a number.
        return Recipe.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise Refusal(_one_line(path, error)) from None


def find_recipe(name: str) -> Path:
    """Path of a recipe. An unknown name is refused with the near ones and the list."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise Refusal(f"recipe {name} must be a file, got nothing there")
        return Path(name).resolve()
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise Refusal(f"recipe must be one of {', '.join(names)}, got {name}{hint}")
    return RECIPES / f"{name}.yaml"


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = _with_folder(yaml.load(text, Loader=_Loader), str(path.parent.resolve()))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise Refusal(f"{path.name} must be YAML in UTF-8, got {problem}") from None
    if not isinstance(values, dict):
        raise Refusal(f"{path.name} must hold a section per room, got {type(values).__name__}")
    values.setdefault("name", path.stem)
    if base := values.pop("extends", None):
        if find_recipe(base) == path:
            raise Refusal(f"{path.name}: extends must name another recipe, got {base}")
        values = _overlay(_read(find_recipe(base)), values)
    return values


def _with_folder(value: Any, folder: str) -> Any:
    """``value`` with the path of ``folder`` where a text begins with ``${here}``."""
    if isinstance(value, dict):
        return {key: _with_folder(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_folder(item, folder) for item in value]
    if isinstance(value, str) and value.startswith(_HERE):
        return os.path.normpath(folder + value.removeprefix(_HERE))
    return value


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` where it speaks, ``below`` elsewhere.

    A section with another kind is replaced, and null takes out one that has a kind.
    """
    merged = dict(below)
    for key, value in above.items():
        old = below.get(key)
        if value is None and isinstance(old, dict) and "kind" in old:
            del merged[key]
            continue
        same_kind = (
            isinstance(value, dict)
            and isinstance(old, dict)
            and value.get("kind", old.get("kind")) == old.get("kind")
        )
        merged[key] = _overlay(old, value) if same_kind else value  # type: ignore[arg-type]
    return merged


def _one_line(path: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    steps, model = _walk(first["loc"])
    place = ".".join(steps)
    if first["type"] == "extra_forbidden":
        known = list(getattr(model, "model_fields", {}))
        return f"{path.name}: {place} must be a known key{_near(steps[-1], known)}"
    if first["type"] == "missing":
        return f"{path.name}: {place} must be given, got nothing"
    if first["type"] == "union_tag_not_found":
        return f"{path.name}: {place}.kind must be given, got nothing"
    if first["type"] == "union_tag_invalid":
        kinds = [kind.strip(" '") for kind in first["ctx"]["expected_tags"].split(",")]
        given = str(first["ctx"]["tag"])
        rule = f"one of {', '.join(kinds)}, got {given}{_near(given, kinds)}"
        return f"{path.name}: {place}.kind must be {rule}"
    return f"{path.name}: {place} must satisfy: {first['msg']}, got {first['input']!r}"


def _near(given: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(given, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _walk(place: tuple[int | str, ...]) -> tuple[list[str], Any]:
    """The steps to ``place`` as they stand in the file, and the model that holds the last one.

    Pydantic puts the kind of a variant among the steps.
    """
    steps: list[str] = []
    holder: Any = None
    here: Any = Recipe
    for step in place:
        if (variant := _variant(here, step)) is not None:
            here = variant
            continue
        holder = here
        steps.append(str(step))
        if get_origin(here) in (dict, tuple):
            here = get_args(here)[1 if get_origin(here) is dict else 0]
        else:
            field = getattr(here, "model_fields", {}).get(step)
            here = None if field is None else field.annotation
    return steps, holder


def _variant(union: Any, kind: int | str) -> Any:
    """The member of a ``union`` that is called ``kind``, None where there is none."""
    if get_origin(union) is Annotated:
        union = get_args(union)[0]
    for member in get_args(union):
        field = getattr(member, "model_fields", {}).get("kind")
        if field is not None and kind in get_args(field.annotation):
            return member
    return None

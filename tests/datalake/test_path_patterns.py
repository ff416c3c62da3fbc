"""Patterns of paths, as gitignore(5) describes them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.path_patterns import matches

names = st.text("ab.", min_size=1, max_size=4).filter(lambda name: name.strip("."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@given(paths)
def test_a_path_matches_itself_and_every_double_star(path: str) -> None:
    assert matches("/" + path, path)
    assert matches("**", path)
    assert matches("**/" + path.rpartition("/")[2], path)
    assert matches(path.rpartition("/")[2], path)


@given(paths, names)
def test_below_means_what_lies_in_a_folder(path: str, name: str) -> None:
    assert matches("/" + path, f"{path}/{name}", below=True)
    assert not matches("/" + path, f"{path}/{name}")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.js", "a/b.js", True),
        ("/*.js", "a/b.js", False),
        ("/a/*.js", "a/b.js", True),
        ("/a/*.js", "a/c/b.js", False),
        ("a/**", "a/c/b.js", True),
        ("a/**", "a", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("**/x/b", "q/x/b", True),
        ("[!a]*", "b", True),
        ("[^a]*", "a", False),
        ("foo", "foobar", False),
        ("", "a", False),
        ("/".join("a" * 100), "/".join("a" * 100), False),  # absurd: nothing is believed
    ],
)
def test_patterns_mean_what_git_says(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


def test_a_hostile_pattern_costs_no_time() -> None:
    began = time.perf_counter()
    assert not matches("*a" * 200 + "b", "a" * 4000)
    assert not matches("/".join(["**", "a"] * 30 + ["b"]), "/".join("a" * 60))
    assert time.perf_counter() - began < 2.0

"""`tarn bench`: words after the name reach a benchmark that takes some, and no other."""

import sys
from types import ModuleType

import pytest
from typer.testing import CliRunner

from orchestration.cli import app
from tests.benchmarks import bench_dedup


def bench(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["bench", *words])
    return done.exit_code, " ".join(done.output.split())


def test_an_unknown_benchmark_is_refused_with_the_list() -> None:
    code, said = bench("speed")
    assert code == 2
    assert said.startswith("refused benchmark must be one of ") and said.endswith("got speed")


def test_words_reach_a_benchmark_that_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[list[str]] = []
    monkeypatch.setattr(bench_dedup, "show", lambda name, results, packages: got.append([name]))
    monkeypatch.setattr(bench_dedup, "scale", lambda: [])
    assert bench("dedup", "--scale") == (0, "")
    assert got == [["dedup --scale"]]


def test_a_word_that_a_benchmark_does_not_know_is_refused() -> None:
    code, said = bench("dedup", "--scales")
    assert code == 2
    assert said == "refused benchmark dedup must stand alone or with --scale, got --scales"


def test_words_for_a_benchmark_that_takes_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ModuleType("tests.benchmarks.bench_html")
    plain.main = lambda: print("measured")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.benchmarks.bench_html", plain)
    assert bench("html") == (0, "measured")
    code, said = bench("html", "--fast")
    assert code == 2
    assert said == "refused benchmark html must stand without further words, got --fast"

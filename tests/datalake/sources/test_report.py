"""Counts of an ingestion, and how those of its parts come together."""

from datalake.sources.report import Report


def report(said: list[str], heard: bool = True) -> Report:
    return Report("pages", said.append, heard=heard)


def test_the_counts_of_parts_add_up() -> None:
    whole, part = report([]), report([])
    for each in (whole, part):
        each.keep(10)
        each.skip("too small", 2)
        each.fail("timeout", f"case {each is part}")
    part.unchanged, part.gone, part.cut = 3, 4, "max_pages 1"
    whole.join(part)
    assert whole.as_dict() | {"seconds": 0, "rows_per_second": 0} == {
        "payload_mb": 0.0,
        "seconds": 0,
        "rows_per_second": 0,
        "unchanged": 3,
        "gone": 4,
        "skipped: too small": 4,
        "failed: timeout": 2,
        "first failed: timeout": "case False",
        "cut": "max_pages 1",
    }


def test_a_damage_is_said_once_wherever_it_was_found() -> None:
    said: list[str] = []
    whole, here, far = report(said), report(said), report([], heard=False)
    here.damage("a at 1")
    far.damage("b at 2")
    whole.join(here)
    whole.join(far)
    assert said == ["pages: a at 1", "pages: b at 2"]
    assert whole.damages == ["a at 1", "b at 2"]

"""Untrusted input in a process of its own: what hangs, crashes or eats memory costs itself."""

import ctypes
import os
import signal
import time

import pytest

from datalake.isolation import Limits, Lost, run_each

LIMITS = Limits(seconds=1.0, memory_bytes=256 << 20)


def behave(item: object) -> object:
    match item:
        case "hang":
            while True:
                pass
        case "crash":
            ctypes.string_at(0)
        case "leave":
            os._exit(3)
        case "grow":
            return len(bytearray(1 << 30))
        case "raise":
            raise KeyError("no such thing")
    return item


def test_results_come_in_the_order_of_the_items() -> None:
    assert list(run_each(behave, list(range(100)), LIMITS)) == list(range(100))
    assert list(run_each(behave, [], LIMITS)) == []


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("hang", "timeout"),
        ("crash", "crash: SIGSEGV"),
        ("leave", "crash: exit 3"),
        ("grow", "memory"),
        ("raise", "error: KeyError: 'no such thing'"),
    ],
)
def test_a_bad_item_costs_itself_alone(item: str, reason: str) -> None:
    found = list(run_each(behave, ["a", item, "b", item, "c"], LIMITS))
    assert found == ["a", Lost(reason), "b", Lost(reason), "c"]


@pytest.mark.parametrize("bad", ["crash", "hang", "leave"])
def test_results_that_were_not_sent_when_a_child_died_are_made_again(bad: str) -> None:
    items = ["a", "b", "c", bad, "d", "e", bad, bad, "f"]
    found = list(run_each(behave, items, Limits(seconds=0.3)))
    assert [f for f in found if not isinstance(f, Lost)] == ["a", "b", "c", "d", "e", "f"]
    assert [n for n, f in enumerate(found) if isinstance(f, Lost)] == [3, 6, 7]


def test_the_time_is_that_of_one_item_not_of_all() -> None:
    def slow(item: int) -> int:
        time.sleep(0.3)
        return item

    assert list(run_each(slow, [1, 2, 3, 4, 5], LIMITS)) == [1, 2, 3, 4, 5]


def test_a_large_result_comes_whole() -> None:
    def grow(item: int) -> bytes:
        return b"x" * item

    assert [len(r) for r in run_each(grow, [10, 5 << 20, 7], LIMITS)] == [10, 5 << 20, 7]


def test_no_child_is_left_when_nobody_wants_the_rest() -> None:
    def identity(item: int) -> int:
        return os.getpid() if item == 0 else behave("hang")  # type: ignore[return-value]

    results = run_each(identity, [0, 1], Limits(seconds=60))
    child = next(results)
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(child, signal.SIGCONT)  # type: ignore[arg-type]

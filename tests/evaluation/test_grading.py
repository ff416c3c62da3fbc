"""Grading in processes that can be killed."""

import os
import signal
import time
from typing import Literal

import pytest

from datalake.config import Refusal
from evaluation.graders import ExactAnswer
from evaluation.grading import Answer, GraderPool
from evaluation.verdict import Grader, Verdict, graded, tally


class Misbehaving(Grader):
    """Does what it is told instead of grading. Importable, so that a worker can read it."""

    kind: Literal["misbehaving"] = "misbehaving"
    how: str

    def grade(self, text: str) -> Verdict:
        if self.how == "raise":
            raise KeyError("no such\nthing")
        if self.how == "spin":
            while True:
                pass
        if self.how == "sleep":
            time.sleep(600)
        if self.how == "ignore":
            for number in (signal.SIGPROF, signal.SIGALRM):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(600)
        if self.how == "exit":
            os._exit(7)
        return graded(strict=True, lenient=True, parsed=text, reason="")


def _answers(count: int) -> list[Answer]:
    return [Answer(ExactAnswer(answer=str(n)), str(n if n % 3 else n + 1)) for n in range(count)]


def test_the_pool_says_what_the_graders_say_in_the_order_of_the_answers() -> None:
    answers = [*_answers(300), Answer(ExactAnswer(answer="7"), "7", finished=False)]
    with GraderPool(num_workers=2) as pool:
        verdicts = pool.grade(answers)
        again = pool.grade(answers)
    assert verdicts == [a.grader(a.text, finished=a.finished) for a in answers]
    assert again == verdicts


def test_workers_are_reused() -> None:
    with GraderPool() as pool:
        pool.grade(_answers(1))
        first = pool._idle[0].process.pid
        pool.grade(_answers(200))
        assert [worker.process.pid for worker in pool._idle] == [first]


@pytest.mark.parametrize(("how", "what"), [("spin", "processor"), ("sleep", "wall")])
def test_a_hanging_grader_is_a_timeout_and_its_neighbours_are_graded(how: str, what: str) -> None:
    answers = _answers(100)
    answers[40] = Answer(Misbehaving(how=how), "text")
    with GraderPool(cpu_seconds=0.2, wall_seconds=1.5) as pool:
        verdicts = pool.grade(answers)
    assert verdicts[40].outcome == "timeout" and verdicts[40].score is None
    assert verdicts[40].reason == f"grader took more than its {what} time"
    others = verdicts[:40] + verdicts[41:]
    assert {v.outcome for v in others} == {"graded"}
    assert tally(verdicts).num_timeouts == 1 and tally(verdicts).num_judged == 99


def test_a_grader_that_ignores_the_signals_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.grading._GRACE_SECONDS", 0.2)
    with GraderPool(wall_seconds=0.5) as pool:
        verdicts = pool.grade([Answer(Misbehaving(how="ignore"), "text"), *_answers(3)])
    assert [v.outcome for v in verdicts] == ["timeout", "graded", "graded", "graded"]
    assert verdicts[0].reason == "grader took no notice of its deadline"


def test_a_grader_that_raises_is_an_error_with_its_words_on_one_line() -> None:
    with GraderPool() as pool:
        verdict, other = pool.grade([Answer(Misbehaving(how="raise"), "text"), *_answers(1)])
    assert (verdict.outcome, verdict.score) == ("error", None)
    assert verdict.reason == "KeyError: 'no such\\nthing'"
    assert other.outcome == "graded"


def test_a_grader_that_takes_its_process_down_is_an_error() -> None:
    with GraderPool() as pool:
        verdicts = pool.grade([*_answers(2), Answer(Misbehaving(how="exit"), "text"), *_answers(2)])
    assert [v.outcome for v in verdicts] == ["graded"] * 2 + ["error"] + ["graded"] * 2
    assert verdicts[2].reason == "grading process ended with 7"


def test_closing_the_pool_ends_its_processes() -> None:
    with GraderPool(num_workers=2) as pool:
        pool.grade(_answers(200))
        workers = list(pool._idle)
    assert workers and all(worker.process.poll() is not None for worker in workers)


def test_no_answers_start_no_process() -> None:
    with GraderPool() as pool:
        assert pool.grade([]) == []
        assert pool._idle == []


def test_a_pool_without_workers_is_refused() -> None:
    with pytest.raises(Refusal, match="num_workers must be at least 1, got 0"):
        GraderPool(num_workers=0)


def test_a_deadline_of_nothing_is_refused() -> None:
    with pytest.raises(Refusal, match="deadlines must be above 0 s, got 0 and 30"):
        GraderPool(cpu_seconds=0, wall_seconds=30)

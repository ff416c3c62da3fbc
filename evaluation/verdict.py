"""What a grader says about an answer, and what every grader has in common.

A grader is settings that can be called: ``ExactAnswer(answer="7")("7")``. It is a pure function of
the text, so a verdict can be recomputed from a stored row at any time. What is not an answer is
never a score: a grader that raised, or did not come back, leaves ``score`` empty, and whoever
averages has to say what happens to such rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from datalake.config import Config

Outcome = Literal["graded", "unfinished", "error", "timeout"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """How right one answer is, under a strict and a lenient reading of it, and why.

    Strict takes the text as the prompt asked for it; lenient looks for the answer inside it, so
    the distance between the two is what the form alone costs.
    """

    score: float | None  # 0..1, strict; None where nothing was graded
    lenient: float | None  # 0..1, never below ``score``
    parsed: str | None  # what was read as the answer, None where nothing could be
    reason: str  # one line, for the person who looks at a wrong answer
    outcome: Outcome = "graded"

    @property
    def counts(self) -> bool:
        """Whether the answer was judged; an error or a timeout of the grader says nothing of it."""
        return self.outcome in ("graded", "unfinished")


def graded(
    *, strict: bool, lenient: bool, parsed: str | None, reason: str, right: str = "right"
) -> Verdict:
    """A verdict of right or wrong; ``reason`` is what is said unless the strict reading holds."""
    return Verdict(
        score=float(strict),
        lenient=float(strict or lenient),
        parsed=parsed,
        reason=right if strict else reason,
    )


def not_graded(outcome: Literal["error", "timeout"], reason: str) -> Verdict:
    """A verdict that judges nothing, because the grader failed and not the answer."""
    return Verdict(score=None, lenient=None, parsed=None, reason=reason, outcome=outcome)


class Grader(Config, ABC):
    """Verifies answers of one kind. Subclasses narrow ``kind`` and add what they compare with."""

    kind: str

    def __call__(self, text: str, *, finished: bool = True) -> Verdict:
        """Verdict on ``text``; what stopped without an end of turn is wrong, and never cut to fit.

        An exception in the grader is the outcome ``error``: it must not be a 0 that a policy then
        learns to avoid.
        """
        if not finished:
            return Verdict(
                score=0.0, lenient=0.0, parsed=None, reason="no end", outcome="unfinished"
            )
        if not text.strip():
            return graded(strict=False, lenient=False, parsed=None, reason="empty")
        try:
            return self.grade(text)
        except Exception as error:  # any error of any grader, and it is reported as what it is
            return not_graded("error", error_line(error))

    @abstractmethod
    def grade(self, text: str) -> Verdict:
        """Verdict on a text that is not empty."""


def error_line(error: BaseException) -> str:
    """An exception on one short line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """Counts of many verdicts. Rates are over the answers that were judged."""

    num_answers: int
    num_judged: int
    num_errors: int
    num_timeouts: int
    num_unfinished: int
    num_unparsed: int  # judged, finished, and no answer found even leniently
    total: float  # sum of strict scores
    total_lenient: float

    @property
    def score(self) -> float | None:
        """Mean strict score, None where nothing was judged."""
        return self.total / self.num_judged if self.num_judged else None

    @property
    def lenient(self) -> float | None:
        """Mean lenient score, None where nothing was judged."""
        return self.total_lenient / self.num_judged if self.num_judged else None


def tally(verdicts: Iterable[Verdict]) -> Tally:
    """Counts over ``verdicts``; errors and timeouts of graders stay outside every mean."""
    everything = list(verdicts)
    judged = [v for v in everything if v.counts]
    return Tally(
        num_answers=len(everything),
        num_judged=len(judged),
        num_errors=sum(v.outcome == "error" for v in everything),
        num_timeouts=sum(v.outcome == "timeout" for v in everything),
        num_unfinished=sum(v.outcome == "unfinished" for v in everything),
        num_unparsed=sum(v.parsed is None and v.outcome == "graded" for v in everything),
        total=sum(v.score or 0.0 for v in judged),
        total_lenient=sum(v.lenient or 0.0 for v in judged),
    )

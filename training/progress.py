"""How far a run is and how fast: one JSON line every few seconds in ``metrics.jsonl``.

The file is how a run speaks to whoever started it, across processes and crashes. Its steps only
ever grow: what a crash undid is cut off when the run goes on.
"""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SAY_SECONDS = 5.0  # between two lines for a person
METRICS_SECONDS = 0.25  # between two lines of a short run: a phase of 5 s still has a curve
COMMON = (  # what every line has; more is an objective's own
    *("step", "num_steps", "loss", "rate", "tokens", "tokens_per_second"),
    *("flops_per_second", "mfu", "seconds", "eta_seconds"),
)
_LINES = 1000  # of a long one, about; so that reading the file stays cheap
_BAR = 20  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTaken:
    """What one step of all ranks came to."""

    loss: float
    tokens: int
    flops: float
    metrics: Mapping[str, float]


@dataclass(kw_only=True)
class Progress:
    """Counts the steps of one process, and writes what they came to where ``path`` is given."""

    path: Path | None
    num_steps: int
    peak_flops_per_second: float  # of a matrix product, all ranks
    steps: int  # taken up to now, over all attempts, as the next two
    tokens: int
    flops: float
    seconds_before: float  # that the attempts before took
    recent: list[StepTaken] = field(default_factory=list)  # since the last line
    begin: float = field(default_factory=time.perf_counter)
    end: float | None = None

    def __post_init__(self) -> None:
        self.last_line = self.begin
        if self.path is not None and self.path.exists():
            lines = self.path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if _step(line) <= self.steps]
            os.truncate(self.path, sum(map(len, kept)))

    @property
    def seconds(self) -> float:
        """Spent on all steps up to now, over all attempts."""
        return self.seconds_before + (self.end or time.perf_counter()) - self.begin

    def stop(self) -> None:
        """Stop the clock: what follows is not training."""
        self.end = time.perf_counter()

    def count(self, taken: StepTaken, rate: float) -> None:
        """One more step was taken, at ``rate`` times the peak rates."""
        self.steps += 1
        self.tokens += taken.tokens
        self.flops += taken.flops
        self.recent.append(taken)
        now = time.perf_counter()
        pause = max(METRICS_SECONDS, self.seconds / _LINES)
        if now - self.last_line < pause and self.steps < self.num_steps:
            return
        passed = now - self.last_line
        flops_per_second = sum(step.flops for step in self.recent) / passed
        means = {name: self._mean(name) for name in taken.metrics}
        line = means | {
            "step": self.steps,
            "num_steps": self.num_steps,
            "loss": sum(step.loss for step in self.recent) / len(self.recent),
            "rate": rate,
            "tokens": self.tokens,
            "tokens_per_second": sum(step.tokens for step in self.recent) / passed,
            "flops_per_second": flops_per_second,
            "mfu": flops_per_second / self.peak_flops_per_second,
            "seconds": self.seconds,
            "eta_seconds": (self.num_steps - self.steps) * passed / len(self.recent),
        }
        self.recent, self.last_line = [], now
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _mean(self, name: str) -> float:
        return sum(step.metrics[name] for step in self.recent) / len(self.recent)


def read(path: Path, after_step: int = 0) -> list[dict[str, Any]]:
    """The complete lines of a ``metrics.jsonl`` that speak of later steps than ``after_step``."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if after_step < _step(line) < math.inf]


def bar(share: float, seconds_left: float) -> tuple[str, str]:
    """For a person: ``[#####...............]  25%`` and ``1:15 left``."""
    minutes, seconds = divmod(round(seconds_left), 60)
    filled = ("#" * round(share * _BAR)).ljust(_BAR, ".")
    return f"[{filled}] {share:4.0%}", f"{minutes}:{seconds:02d} left"


@contextmanager
def told(say: Callable[[str], None], line: Callable[[], str | None]) -> Iterator[None]:
    """Say every few seconds, while the block runs, what ``line`` gives, if it gives something."""
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(SAY_SECONDS):
            if text := line():
                say(text)

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _step(line: bytes) -> float:
    """The step that a line speaks of; infinite where its writer died in the middle of it."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf

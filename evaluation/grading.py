"""Grading many answers in processes that can be killed.

A regular expression can run for years and a parser can take the interpreter down; neither may
stop a training run or look like a wrong answer. So graders run in one or two worker processes that
stay for thousands of answers. Before each answer the worker arms two of the kernel's timers, for
processor time and for wall time, whose signals end it wherever it is. The parent then counts that
answer as a timeout, starts another worker and goes on behind it.
"""

import contextlib
import multiprocessing
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Self

from datalake.config import Refusal
from evaluation.verdict import Grader, Verdict, error_line, not_graded

# A verdict takes 5 to 50 microseconds; processor time, so that a busy machine changes no verdict.
CPU_SECONDS = 2.0
WALL_SECONDS = 30.0  # for a grader that sleeps or waits, and so uses no processor time
CHUNK = 64  # answers a worker has in hand: more saves waiting, fewer share the end better
_DEADLINES = {-signal.SIGPROF: "processor time", -signal.SIGALRM: "wall time"}
_START_SECONDS = 60.0
_GRACE_SECONDS = 5.0  # the kernel's timers come first; the parent kills who survives them


@dataclass(frozen=True, slots=True)
class Answer:
    """A text to grade, by whom, and whether it ended by itself."""

    grader: Grader
    text: str
    finished: bool = True


class GraderPool:
    """Worker processes that grade; a context manager. Workers start when first needed."""

    def __init__(
        self,
        num_workers: int = 1,
        cpu_seconds: float = CPU_SECONDS,
        wall_seconds: float = WALL_SECONDS,
    ) -> None:
        if num_workers < 1:
            raise Refusal(f"num_workers must be at least 1, got {num_workers}")
        if min(cpu_seconds, wall_seconds) <= 0:
            raise Refusal(f"deadlines must be above 0 s, got {cpu_seconds} and {wall_seconds}")
        self.num_workers = num_workers
        self.cpu_seconds = cpu_seconds
        self.wall_seconds = wall_seconds
        self._idle: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        while self._idle:
            self._idle.pop().end()

    def grade(self, answers: Sequence[Answer]) -> list[Verdict]:
        """A verdict per answer, in their order, whatever the graders do.

        A grader past its deadline gives ``timeout``; one that raises, or takes its process down,
        gives ``error``.
        """
        verdicts: list[Verdict | None] = [None] * len(answers)
        waiting = deque(
            deque(range(start, min(start + CHUNK, len(answers))))
            for start in range(0, len(answers), CHUNK)
        )
        busy: dict[Connection, _Worker] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self.num_workers:
                    worker = self._idle.pop() if self._idle else self._start()
                    busy[worker.connection] = worker
                    worker.take(waiting.popleft(), answers)
                for connection in self._heard(busy):
                    worker = busy[connection]
                    verdict = worker.receive()
                    if worker.alive:
                        verdicts[worker.chunk.popleft()] = verdict
                        if not worker.chunk:
                            self._idle.append(busy.pop(connection))
                    else:
                        del busy[connection]
                        verdicts[worker.chunk.popleft()] = verdict
                        if worker.chunk:
                            waiting.appendleft(worker.chunk)
        finally:
            for worker in busy.values():  # interrupted: what is in the pipes is of no use
                worker.kill()
        return [verdict for verdict in verdicts if verdict is not None]

    def _start(self) -> "_Worker":
        return _Worker(self.cpu_seconds, self.wall_seconds)

    def _heard(self, busy: dict[Connection, "_Worker"]) -> list[Connection]:
        """Connections with something to read; the silent ones past every deadline are killed."""
        patience = self.wall_seconds + _GRACE_SECONDS
        ready = [c for c in wait(list(busy), patience) if isinstance(c, Connection)]
        now = time.monotonic()
        for connection, worker in busy.items():
            if connection not in ready and now - worker.last_heard > patience:
                worker.kill(timed_out=True)
                ready.append(connection)
        return ready


class _Worker:
    """One process, the answers it has in hand and the line to it."""

    def __init__(self, cpu_seconds: float, wall_seconds: float) -> None:
        ours, theirs = multiprocessing.Pipe()
        with theirs:
            # Not ``multiprocessing.Process``: it forks threads in mid-flight, or runs the main
            # module of whoever called (a Ray worker, the command line) a second time.
            program = (
                f"import sys; sys.path[:] = {sys.path!r}; from evaluation.grading import serve; "
                f"serve({theirs.fileno()}, {cpu_seconds!r}, {wall_seconds!r})"
            )
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", program],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt from the terminal is for the parent
            )
        self.connection = ours
        self.chunk: deque[int] = deque()
        self.last_heard = time.monotonic()
        self.timed_out = False
        started = ours.poll(_START_SECONDS)
        try:
            if not started or ours.recv() != "ready":
                raise EOFError
        except EOFError:
            self.kill()
            raise RuntimeError(f"grading worker did not start, exit {self._exit_code()}") from None

    @property
    def alive(self) -> bool:
        return not self.connection.closed

    def take(self, chunk: deque[int], answers: Sequence[Answer]) -> None:
        """Hand over a chunk. Only when the last one is done: so neither side waits to write."""
        self.chunk = chunk
        self.last_heard = time.monotonic()
        jobs = [
            pickle.dumps((a.grader, a.text, a.finished)) for a in map(answers.__getitem__, chunk)
        ]
        with contextlib.suppress(BrokenPipeError):  # it ended: ``receive`` will see that
            self.connection.send(jobs)

    def receive(self) -> Verdict:
        """The next verdict; where the process has ended, what its end says about the answer."""
        self.last_heard = time.monotonic()
        try:
            if not self.connection.closed:
                verdict: Verdict = self.connection.recv()
                return verdict
        except (EOFError, ConnectionResetError):
            pass
        self.end()
        code = self._exit_code()
        if self.timed_out:
            return not_graded("timeout", "grader took no notice of its deadline")
        if code in _DEADLINES:
            return not_graded("timeout", f"grader took more than its {_DEADLINES[code]}")
        return not_graded("error", f"grading process ended with {code}")

    def end(self) -> None:
        """Close the line, which ends a worker that waits, and see that it does."""
        self.connection.close()
        try:
            self.process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def kill(self, timed_out: bool = False) -> None:
        """End the process at once."""
        self.timed_out = timed_out
        self.process.kill()
        self.connection.close()
        self.process.wait()

    def _exit_code(self) -> int:
        return self.process.wait()


def serve(file_descriptor: int, cpu_seconds: float, wall_seconds: float) -> None:
    """The worker's life: chunks in, a verdict out after each answer, until the line is closed."""
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # ends the process, also inside a C function
    with Connection(file_descriptor) as connection:
        connection.send("ready")
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                for job in connection.recv():
                    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
                    signal.setitimer(signal.ITIMER_REAL, wall_seconds)
                    verdict = _grade(job)
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    connection.send(verdict)


def _grade(job: bytes) -> Verdict:
    try:
        grader, text, finished = pickle.loads(job)
        verdict: Verdict = grader(text, finished=finished)
    except Exception as error:  # a grader that cannot even be read
        return not_graded("error", error_line(error))
    return verdict

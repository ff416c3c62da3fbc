"""Run a function on untrusted input in a process of its own: a hang or a crash costs one item.

Parsers written in C cannot be interrupted, and one that eats all memory takes the machine with it.
So a child, forked from this process, works on the items, and the parent watches. Where the child
dies or takes too long, the item it was at is lost, with the reason, and a new child goes on after
it. A child serves many batches, since the memory that it starts without costs more than sending.
"""

import contextlib
import faulthandler
import gc
import math
import mmap
import multiprocessing
import os
import resource
import signal
import struct
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_FORK = multiprocessing.get_context("fork")
_NUMBER = struct.Struct("q")
_SEND_SECONDS = 0.05  # one by one, waking the parent cost a tenth of the time of pages
_KEPT = 0.25  # of the memory that an item may take: a child that holds more afterwards is replaced


@dataclass(frozen=True, slots=True)
class Limits:
    """What one item may cost."""

    seconds: float
    memory_bytes: int | None = None  # of address space, beyond what the process has


@dataclass(frozen=True, slots=True)
class Lost:
    """Why an item has no result: ``timeout``, ``memory``, ``crash: SIGSEGV``, ``error: ...``."""

    reason: str


def run_each(function: Callable[[T], R], items: Sequence[T], limits: Limits) -> Iterator[R | Lost]:
    """``function(item)`` of every item, in order, or why there is none, by a child for this call.

    Items and results are pickled; the function is what it is when the child begins.
    """
    with Worker(function, limits) as worker:
        yield from worker.each(items)


@cache
def worker_of(function: Callable[[T], R], limits: Limits) -> "Worker[T, R]":
    """The worker of this process for ``function``; it ends with the process."""
    return Worker(function, limits)


class Worker(Generic[T, R]):
    """A child that applies one function to items, begun when it is needed, and again if it dies."""

    def __init__(self, function: Callable[[T], R], limits: Limits) -> None:
        self._function = function
        self._limits = limits
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child, whatever it is doing."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def each(self, items: Sequence[T]) -> Iterator[R | Lost]:
        """``function(item)`` of every item, in order, or why there is none.

        Results that a child had not yet sent when it died are made again: a twentieth of a second.
        """
        done = 0
        while done < len(items):
            end, lost = len(items), None
            while done < end:
                at, why = yield from self._run(items[done:end])
                if why is None:
                    done = end
                else:
                    done, end, lost = done + at.sent, done + at.begun, why
            if lost is not None:
                yield lost
                done += 1

    def _run(self, items: Sequence[T]) -> Generator[R | Lost, None, tuple["_At", Lost | None]]:
        """Results of one child; how far it came, and what ended it if not the last item."""
        child = self._child = self._child or _Child(self._function, self._limits)
        sent, finished = 0, False
        try:
            child.give(items)
            while sent < len(items):
                found = child.take()
                if isinstance(found, Lost):
                    return _At(sent, child.begun), found
                yield from found.results
                sent += len(found.results)
                finished = found.stays
            return _At(sent, sent), None
        finally:
            if not finished:  # it died, wants to leave, or nobody wants the rest
                self.close()


@dataclass(frozen=True, slots=True)
class _At:
    """How far a child came: results that it sent, and the item that it had begun."""

    sent: int
    begun: int


@dataclass(frozen=True, slots=True)
class _Results:
    """Some results of a batch in its order, and whether the child is ready for another batch."""

    results: list[Any]
    stays: bool


class _Child:
    """One forked process, with a pipe in each direction."""

    def __init__(self, function: Callable[[Any], Any], limits: Limits) -> None:
        self._limits = limits
        self._begun = mmap.mmap(-1, _NUMBER.size)  # shared with the child
        items, self._giver = _FORK.Pipe(duplex=False)
        self._taker, results = _FORK.Pipe(duplex=False)
        ours = (self._giver, self._taker)
        self._process = _FORK.Process(
            target=_work, args=(function, limits, items, results, self._begun, ours), daemon=True
        )
        self._process.start()
        items.close()
        results.close()  # else the end of the child would not end the pipe

    @property
    def begun(self) -> int:
        """The item of the batch that the child is at."""
        return int(_NUMBER.unpack(self._begun)[0])

    def give(self, items: Sequence[Any]) -> None:
        """Send a batch. A child that is no more is found out by ``take``."""
        _NUMBER.pack_into(self._begun, 0, 0)
        try:
            self._giver.send(list(items))
        except (BrokenPipeError, ConnectionResetError):
            return

    def take(self) -> _Results | Lost:
        """The next results, or what ended the child."""
        if not self._taker.poll(self._limits.seconds + _SEND_SECONDS):
            return Lost("timeout")
        try:
            found: _Results = self._taker.recv()
            return found
        except (EOFError, OSError):  # the latter in the middle of a message
            self._process.join()
            code = self._process.exitcode
            assert code is not None
            if code == -signal.SIGABRT:  # how C++ ends where an allocation fails unanswered
                return Lost("memory or crash: SIGABRT")
            return Lost(f"crash: {signal.Signals(-code).name if code < 0 else f'exit {code}'}")

    def end(self) -> None:
        self._giver.close()
        self._taker.close()
        self._process.kill()
        self._process.join()
        self._begun.close()


def _work(
    function: Callable[[Any], Any],
    limits: Limits,
    items: Connection,
    results: Connection,
    begun: mmap.mmap,
    of_parent: Sequence[Connection],
) -> None:
    for connection in of_parent:  # so that the end of the parent ends the child
        connection.close()
    _close_all_but(0, 1, 2, items.fileno(), results.fileno())  # what the parent closes, is closed
    at_first = _address_space()
    if limits.memory_bytes is not None:
        ceiling = at_first + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()  # the parent says what happened, in one line
    gc.freeze()  # a collection would touch, and so copy, all objects of the parent
    stays = True
    while stays:
        try:
            batch = items.recv()
        except (EOFError, OSError):  # nobody is there any more
            break
        held: list[Any] = []
        sent_at = -math.inf  # the first result goes at once, also if the second item hangs
        for index in range(len(batch)):
            _NUMBER.pack_into(begun, 0, index)
            held.append(_apply(function, batch[index]))
            batch[index] = None
            last = index + 1 == len(batch)
            if last and limits.memory_bytes is not None:
                stays = _address_space() - at_first <= _KEPT * limits.memory_bytes
            if last or time.monotonic() - sent_at >= _SEND_SECONDS:
                results.send(_Results(held, last and stays))
                held, sent_at = [], time.monotonic()
    os._exit(0)  # not the parent's own clean-up


def _apply(function: Callable[[Any], Any], item: Any) -> Any:
    try:
        return function(item)
    except MemoryError:
        return Lost("memory")
    except Exception as error:
        return Lost(f"error: {type(error).__name__}: {error}"[:200])


def _close_all_but(*kept: int) -> None:
    """Close what was inherited: a pipe that a child holds open, too, never ends for its reader."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208, of numbers
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the one that lists
                os.close(int(name))


def _address_space() -> int:
    """Bytes of address space that this process has now."""
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")

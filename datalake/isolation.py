"""Run a function on untrusted input in a process of its own: a hang or a crash costs one item.

Parsers written in C cannot be interrupted, and one that eats all memory takes the machine with it.
So items are worked on in a forked child that the parent watches. Where the child dies or takes too
long, the item it was at is lost, with the reason, and a new child goes on after it. A fork costs
milliseconds and shares the items, so only results are copied.
"""

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
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_FORK = multiprocessing.get_context("fork")  # the items are there without being copied
_NUMBER = struct.Struct("q")
_SEND_SECONDS = 0.05  # one by one, waking the parent cost a tenth of the time of pages


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
    """``function(item)`` of every item, in order, or why there is none. Results are pickled.

    Results that a child had not yet sent when it died are made again: a twentieth of a second.
    """
    done = 0
    while done < len(items):
        end, lost = len(items), None
        while done < end:
            at, why = yield from _run(function, items[done:end], limits)
            if why is None:
                done = end
            else:
                done, end, lost = done + at.sent, done + at.begun, why
        if lost is not None:
            yield lost
            done += 1


@dataclass(frozen=True, slots=True)
class _At:
    """How far a child came: results that it sent, and the item that it had begun."""

    sent: int
    begun: int


def _run(
    function: Callable[[T], R], items: Sequence[T], limits: Limits
) -> Generator[R | Lost, None, tuple[_At, Lost | None]]:
    """Results of one child, in order; how far it came, and what ended it if not the last item."""
    begun = mmap.mmap(-1, _NUMBER.size)  # shared with the child
    receiver, sender = _FORK.Pipe(duplex=False)
    child = _FORK.Process(
        target=_work, args=(function, items, limits, receiver, sender, begun), daemon=True
    )
    child.start()
    sender.close()  # else the end of the child would not end the pipe
    sent = 0
    try:
        while sent < len(items):
            found = _receive(receiver, child, limits)
            if isinstance(found, Lost):
                return _At(sent, *_NUMBER.unpack(begun)), found
            yield from found
            sent += len(found)
        return _At(sent, sent), None
    finally:
        receiver.close()
        child.kill()
        child.join()
        begun.close()


def _receive(receiver: Connection, child: Any, limits: Limits) -> list[Any] | Lost:
    """The next results, or what ended the child."""
    if not receiver.poll(limits.seconds + _SEND_SECONDS):
        return Lost("timeout")
    try:
        return receiver.recv()
    except (EOFError, OSError):  # the latter in the middle of a message
        child.join()
        code = child.exitcode
        if code == -signal.SIGABRT:  # how C++ ends where an allocation fails and nobody catches
            return Lost("memory or crash: SIGABRT")
        return Lost(f"crash: {signal.Signals(-code).name if code < 0 else f'exit {code}'}")


def _work(
    function: Callable[[T], R],
    items: Sequence[T],
    limits: Limits,
    receiver: Connection,
    sender: Connection,
    begun: mmap.mmap,
) -> None:
    receiver.close()  # so that the end of the parent ends the child
    if limits.memory_bytes is not None:
        ceiling = _address_space() + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()  # the parent says what happened, in one line
    gc.freeze()  # a collection would touch, and so copy, all objects of the parent
    results: list[R | Lost] = []
    sent_at = -math.inf  # the first result goes at once, also if the second item hangs
    for index, item in enumerate(items):
        _NUMBER.pack_into(begun, 0, index)
        try:
            result: R | Lost = function(item)
        except MemoryError:
            result = Lost("memory")
        except Exception as error:
            result = Lost(f"error: {type(error).__name__}: {error}"[:200])
        results.append(result)
        if index + 1 == len(items) or time.monotonic() - sent_at >= _SEND_SECONDS:
            sender.send(results)
            results, sent_at = [], time.monotonic()
    sender.close()
    os._exit(0)  # not the parent's own clean-up


def _address_space() -> int:
    """Bytes of address space that this process has now."""
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")

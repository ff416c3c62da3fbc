"""Run a function on untrusted input in a process of its own: a hang or a crash costs one item.

Parsers written in C cannot be interrupted, and one that eats all memory takes the machine with it.
So items are worked on in a forked child that the parent watches. Where the child dies or takes too
long, the item it was at is lost, with the reason, and a new child goes on after it. A fork costs
milliseconds and shares the items, so only results are copied.
"""

import faulthandler
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_FORK = multiprocessing.get_context("fork")  # the items are there without being copied


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
    """``function(item)`` of every item, in order, or why there is none. Results are pickled."""
    done = 0
    while done < len(items):
        receiver, sender = _FORK.Pipe(duplex=False)
        child = _FORK.Process(
            target=_work, args=(function, items[done:], limits, receiver, sender), daemon=True
        )
        child.start()
        sender.close()  # else the end of the child would not end the pipe
        try:
            while done < len(items):
                found, alive = _receive(receiver, child, limits)
                done += 1
                yield found
                if not alive:
                    break
        finally:
            receiver.close()
            child.kill()
            child.join()


def _receive(receiver: Connection, child: Any, limits: Limits) -> tuple[Any, bool]:
    """The next result, and whether the child goes on."""
    if not receiver.poll(limits.seconds):
        return Lost("timeout"), False
    try:
        return receiver.recv(), True
    except EOFError:
        child.join()
        code = child.exitcode
        if code == -signal.SIGABRT:  # how C++ ends where an allocation fails and nobody catches
            return Lost("memory or crash: SIGABRT"), False
        return Lost(f"crash: {signal.Signals(-code).name if code < 0 else f'exit {code}'}"), False


def _work(
    function: Callable[[T], R],
    items: Sequence[T],
    limits: Limits,
    receiver: Connection,
    sender: Connection,
) -> None:
    receiver.close()  # so that the end of the parent ends the child
    if limits.memory_bytes is not None:
        ceiling = _address_space() + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()  # the parent says what happened, in one line
    for item in items:
        try:
            result: R | Lost = function(item)
        except MemoryError:
            result = Lost("memory")
        except Exception as error:
            result = Lost(f"error: {type(error).__name__}: {error}"[:200])
        sender.send(result)
    sender.close()
    os._exit(0)  # not the parent's own clean-up


def _address_space() -> int:
    """Bytes of address space that this process has now."""
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")

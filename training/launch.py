"""Run one function on several processes, here or on a cluster: the only module that knows Ray.

The function gets its settings, its rank and the number of ranks, and what rank 0 returns comes
back. torch.distributed is ready when it starts: gloo on processors, NCCL on accelerators. It finds
its own last checkpoint, so a retry is simply another call of it.

Every rank is an actor in a placement group. Ray Train would give the same and more, and starts five
processes of its own beside the workers for it, each of which imports torch: two workers that do
nothing took 12 to 14 s so on two processors, and take 5 s here.

Ray is started once per process and shared by all calls. Embedded, it writes below
``<home>/ray/<session>``; a driver that was killed leaves helper processes behind, and the next
start ends those, told by the files that they hold open for writing in a session nobody owns.
"""

import atexit
import contextlib
import fcntl
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datalake.config import Refusal
from datalake.workspace import Workspace

_OWN_ENVIRONMENT = {  # read by Ray when it is imported or started
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default workers run at nice 15, behind everything else
    # Errors of the cluster reach the caller as exceptions; these keep them off its terminal.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of ranks that were ended because another one failed
}
_START_SECONDS = 600.0  # that a cluster has to find place for all workers
_SOCKET_FOLDER = Path("/tmp")  # a socket's path may have 107 bytes, a workspace's name any number
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # in what Ray says of failures
_KEPT_SESSIONS = 3  # of which the logs stay

Task = Callable[[Any, int, int], Any]  # (settings, rank, world) -> value


class LaunchError(RuntimeError):
    """A run that failed more often than it may be retried; carries the workers' own traceback."""


def run(
    task: Task,
    settings: Any,
    name: str,
    workspace: Workspace,
    *,
    workers: int,
    threads: int,
    retries: int,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """What ``task(settings, rank, workers)`` returns on rank 0 of ``workers`` processes.

    ``task`` is a function of a module and pickles, as ``settings`` and the value do. Each process
    gets ``threads`` processors, an accelerator if the cluster has one for each, and before it
    starts the variables of ``hardware.worker_environment`` and ``environment``. When a process
    fails, all are started again, ``retries`` times at most, and then LaunchError is raised; a
    Refusal is raised at once, as it is.
    """
    _connect(workspace)
    import ray

    from training.hardware import worker_environment

    total = ray.cluster_resources()
    if workspace.ray_address is None and workers * threads > total["CPU"]:
        raise Refusal(
            f"workers * threads must be at most the {total['CPU']:.0f} processors here, "
            f"got {workers} and {threads}"
        )
    needs = {"CPU": float(threads)} | ({"GPU": 1.0} if total.get("GPU", 0) >= workers else {})
    variables = {**worker_environment(threads), **(environment or {})}
    for attempt in range(retries + 1):
        try:
            return _run_once(task, settings, name, workers, needs, variables)
        except ray.exceptions.RayError as error:
            if isinstance(cause := getattr(error, "cause", None), Refusal):
                raise cause from None
            said = _COLOUR.sub("", str(error)).strip()
            if attempt == retries:
                tries = f"after {attempt + 1} attempts" if attempt else "at the first attempt"
                raise LaunchError(f"{name} failed {tries}\n{said}") from None
            last_line = said.splitlines()[-1].strip()
            workspace.say(f"{name}: a worker failed ({last_line}); going on from its checkpoint")
    raise AssertionError("unreachable: the last attempt returns or raises")


def _run_once(
    task: Task,
    settings: Any,
    name: str,
    workers: int,
    needs: dict[str, float],
    environment: dict[str, str],
) -> Any:
    """One attempt; when a rank fails, or the wait is interrupted, all of them are ended."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    group = placement_group([needs] * workers, strategy="PACK", name=name)
    ranks: list[Any] = []
    try:
        if not group.wait(_START_SECONDS):
            raise LaunchError(
                f"{name} found no place for {workers} workers of {needs} in {_START_SECONDS:.0f} s"
            )
        for rank in range(workers):
            actor = ray.remote(_Worker).options(
                num_cpus=needs["CPU"],
                num_gpus=needs.get("GPU", 0),
                runtime_env={"env_vars": environment},
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, rank),
            )
            ranks.append(actor.remote())
        places = _all_of([rank.place.remote() for rank in ranks])
        given = ray.put((task, settings))
        threads = int(needs["CPU"])
        return _all_of(
            [rank.run.remote(given, number, places, threads) for number, rank in enumerate(ranks)]
        )[0]
    finally:
        if ray.is_initialized():
            for rank in ranks:
                ray.kill(rank)
            remove_placement_group(group)


def _all_of(pending: Sequence[Any]) -> list[Any]:
    """The values of all ranks, or as soon as one fails its failure.

    A rank that dies takes the connections of others with it, whose failures may be told first.
    """
    import ray

    left = list(pending)
    while left:
        done, left = ray.wait(left)
        if failures := _failures(done):
            if left:
                failures += _failures(ray.wait(left, num_returns=len(left), timeout=1.0)[0])
            raise min(failures, key=_closeness)
    return list(ray.get(list(pending)))


def _failures(done: Sequence[Any]) -> list[Exception]:
    import ray

    found: list[Exception] = []
    for one in done:
        try:
            ray.get(one)
        except ray.exceptions.RayError as error:
            found.append(error)
    return found


def _closeness(failure: Exception) -> int:
    """The smaller, the nearer is a failure to the cause of all."""
    from ray.exceptions import RayActorError

    if isinstance(getattr(failure, "cause", None), Refusal):
        return 0
    return 1 if isinstance(failure, RayActorError) else 2


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a rank runs."""

    node: str
    address: str
    port: int  # that is free there
    accelerators: tuple[str, ...]  # the rank's own, as the node numbers them


class _Worker:
    """A rank, in a process of its own."""

    def place(self) -> _Place:
        import ray

        context = ray.get_runtime_context()
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        accelerators = tuple(map(str, context.get_accelerator_ids().get("GPU", ())))
        return _Place(context.get_node_id(), ray.util.get_node_ip_address(), port, accelerators)

    def run(
        self, given: tuple[Task, Any], rank: int, places: Sequence[_Place], threads: int
    ) -> Any:
        """What the task returns, with torch.distributed ready among all ranks."""
        task, settings = given
        own = places[rank]
        if own.accelerators:
            # Ranks of a node see each other's accelerators: NCCL copies from one to the other.
            here = [a for place in places if place.node == own.node for a in place.accelerators]
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(here)
        import torch
        from torch import distributed

        from training.hardware import apply_threads

        if own.accelerators:
            torch.cuda.set_device(here.index(own.accelerators[0]))
        apply_threads(threads)
        first = places[0]
        distributed.init_process_group(
            "nccl" if own.accelerators else "gloo",
            init_method=f"tcp://{first.address}:{first.port}",
            rank=rank,
            world_size=len(places),
        )
        value = task(settings, rank, len(places))
        distributed.destroy_process_group()  # where a task fails, others may still wait for it
        return value


def _connect(workspace: Workspace) -> None:
    """Start Ray, or connect to the cluster, unless this process already did."""
    os.environ.update(_OWN_ENVIRONMENT)
    import ray

    if ray.is_initialized():
        return
    if workspace.ray_address is not None:
        ray.init(address=workspace.ray_address, log_to_driver=False, logging_level=logging.ERROR)
        return
    sessions = workspace.folder("ray/sessions")
    end_leftovers(sessions)
    ray.init(
        num_cpus=os.cpu_count(),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=200 * 2**20,  # settings and results only; rows are read from files
        _temp_dir=str(_own_session(sessions)),
    )


def _own_session(sessions: Path) -> Path:
    """A short path to a new folder below ``sessions`` that is locked while this process lives."""
    folder = sessions / secrets.token_hex(4)
    folder.mkdir()
    # A bare descriptor: it stays open until the process ends, on purpose.
    fcntl.flock(os.open(folder / "lock", os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX)
    short = _SOCKET_FOLDER / f"tarn-ray-{folder.name}"
    short.symlink_to(folder.resolve())
    atexit.register(_remove_short, folder)
    return short


def end_leftovers(sessions: Path) -> list[int]:
    """End what killed drivers left running below ``sessions``; returns the ended process ids.

    A session whose lock is held has a living owner and is not touched. Of the others, every
    process that has a file open for writing in the session's folder is one of its helpers (one
    that only reads, say a pager on a log, is not).
    """
    ended: list[int] = []
    abandoned = [folder for folder in sessions.iterdir() if not _is_owned(folder)]
    for folder in abandoned:
        ended += _writers(folder)
    for number, patience_seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        alive = [pid for pid in ended if _is_running(pid)]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_seconds
        while any(map(_is_running, alive)) and time.monotonic() < deadline:
            time.sleep(0.05)
    for folder in abandoned:
        _remove_short(folder)
    newest_first = sorted(abandoned, key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in newest_first[_KEPT_SESSIONS:]:
        shutil.rmtree(folder, ignore_errors=True)
    return ended


def _remove_short(session: Path) -> None:
    """Remove the short path of ``session``: a link, or the folder that a helper of Ray, writing
    its last lines after the link was gone, made in its place."""
    short = _SOCKET_FOLDER / f"tarn-ray-{session.name}"
    if short.is_symlink():
        short.unlink(missing_ok=True)
    else:
        shutil.rmtree(short, ignore_errors=True)


def _is_owned(session: Path) -> bool:
    """Whether the driver that started ``session`` is alive, that is holds its lock."""
    try:
        with (session / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # the moment between its folder and its lock, or removed by hand
        return time.time() - session.stat().st_mtime < 60
    return False


def _writers(session: Path) -> list[int]:
    """Processes that have a file below ``session`` open for writing; only one's own are seen."""
    inside = f"{session.resolve()}/"
    return [pid for pid in _processes() if any(p.startswith(inside) for p in _open_files(pid))]


def _processes() -> list[int]:
    """Ids of the processes of this machine except this one; none where there is no /proc."""
    proc = Path("/proc")
    names = [entry.name for entry in proc.iterdir()] if proc.is_dir() else []
    return [int(name) for name in names if name.isdigit() and int(name) != os.getpid()]


def _open_files(pid: int) -> Iterator[str]:
    """Paths that ``pid`` has open for writing."""
    with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                details = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text().split()
                flags = int(details[details.index("flags:") + 1], 8)
                if flags & os.O_ACCMODE != os.O_RDONLY:
                    yield str(descriptor.readlink())


def _is_running(pid: int) -> bool:
    """Whether ``pid`` exists and is not a zombie that only waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

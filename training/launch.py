"""Run one function on several processes, here or on a cluster: the only module that knows Ray.

The function gets its settings, its rank and the number of ranks, and what rank 0 returns comes
back. torch.distributed is ready when it starts: gloo on processors, NCCL on accelerators. It finds
its own last checkpoint, so a retry is simply another call of it.

Ray is started once per process and shared by all calls. Embedded, it writes below
``<home>/ray/<session>``; a driver that was killed leaves helper processes behind, and the next
start ends those, told by the files that they hold open for writing in a session nobody owns.
"""

import atexit
import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from datalake.config import Refusal
from datalake.workspace import Workspace

_OWN_ENVIRONMENT = {  # read by Ray when it is imported or started
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_worker_niceness": "0",  # by default workers run at nice 15, behind everything else
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",  # 60 s are too few on a loaded machine
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # also how late the end of a run is noticed
    # Errors of the cluster reach the caller as exceptions; this keeps them off its terminal.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
_SOCKET_FOLDER = Path("/tmp")  # a socket's path may have 107 bytes, a workspace's name any number
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
    from ray.train.v2.api.exceptions import TrainingFailedError

    from training.hardware import worker_environment

    total = ray.cluster_resources()
    if workspace.ray_address is None and workers * threads > total["CPU"]:
        raise Refusal(
            f"workers * threads must be at most the {total['CPU']:.0f} processors here, "
            f"got {workers} and {threads}"
        )
    use_gpu = total.get("GPU", 0) >= workers
    variables = {**worker_environment(threads), **(environment or {})}
    for attempt in range(retries + 1):
        trainer = _trainer(task, settings, name, workspace, workers, threads, use_gpu, variables)
        try:
            return _fit(trainer).return_value
        except TrainingFailedError as error:
            if workspace.ray_address is None:
                # The processors of a failed run are sometimes never given back, and the next one
                # waits for them in vain: a session of our own is begun anew.
                ray.shutdown()
            for failure in getattr(error, "worker_failures", {}).values():
                if isinstance(failure, Refusal):
                    raise failure from None
            if attempt == retries:
                tries = f"after {attempt + 1} attempts" if attempt else "at the first attempt"
                raise LaunchError(f"{name} failed {tries}\n{error}") from None
            last_line = str(error).strip().splitlines()[-1]
            workspace.say(f"{name}: a worker failed ({last_line}); going on from its checkpoint")
            _connect(workspace)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _fit(trainer: Any) -> Any:
    """``trainer.fit()`` in a thread of its own.

    In the main thread it would take over SIGINT for the rest of the process's life. Whatever
    interrupts the wait, such as Ctrl-C, ends the session and with it the workers.
    """
    import ray

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(trainer.fit)
        try:
            result.exception()
        except BaseException:
            ray.shutdown()
            raise
        return result.result()


def _trainer(
    task: Task,
    settings: Any,
    name: str,
    workspace: Workspace,
    workers: int,
    threads: int,
    use_gpu: bool,
    environment: dict[str, str],
) -> Any:
    from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.torch.torch_trainer import TorchTrainer

    return TorchTrainer(
        _on_worker,
        train_loop_config={"task": task, "settings": settings, "threads": threads},
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": threads, **({"GPU": 1} if use_gpu else {})},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(workspace.folder("ray/storage")),
            failure_config=FailureConfig(max_failures=0),
            worker_runtime_env={"env_vars": environment},
        ),
    )


def _on_worker(given: dict[str, Any]) -> Any:
    """The body of every worker: its rank and threads, then the task."""
    import ray.train

    from training.hardware import apply_threads

    apply_threads(given["threads"])
    context = ray.train.get_context()
    return given["task"](given["settings"], context.get_world_rank(), context.get_world_size())


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

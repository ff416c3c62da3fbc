"""Ray's workers: ranks, values, retries, refusals, and what a killed driver leaves behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from datalake.config import Refusal
from datalake.workspace import Workspace
from training import launch
from training.hardware import worker_environment


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(home=tmp_path_factory.mktemp("launch"), say=lambda line: None)


def describe_worker(settings: dict, rank: int, world: int) -> dict:
    import torch

    total = torch.tensor([float(rank + 1)])
    torch.distributed.all_reduce(total)
    return {
        "rank": rank,
        "world": world,
        "settings": settings,
        "sum_of_ranks": total.item(),
        "threads": torch.get_num_threads(),
        "niceness": os.nice(0),
        "malloc": os.environ["MALLOC_TOP_PAD_"],
    }


def die_at_first(settings: dict, rank: int, world: int) -> int:
    """A run whose process is gone without a word the first time, and then succeeds."""
    with Path(settings["calls"]).open("a") as calls:
        calls.write("x")
    if Path(settings["calls"]).stat().st_size < 2:
        os._exit(7)
    return 42


def die_beside_one_that_waits(settings: None, rank: int, world: int) -> None:
    import torch

    if rank == 1:
        os._exit(7)
    torch.distributed.barrier()


def sleep(settings: dict, rank: int, world: int) -> None:
    Path(settings["folder"], str(rank)).write_text(str(os.getpid()))
    time.sleep(600)


def divide_by_zero(settings: dict, rank: int, world: int) -> float:
    with Path(settings["calls"]).open("a") as calls:
        calls.write("x")
    return 1 / settings["divisor"]


def refuse(settings: dict, rank: int, world: int) -> None:
    with Path(settings["calls"]).open("a") as calls:
        calls.write("x")
    if rank == 0:
        raise Refusal("colour must be blue, got red")
    time.sleep(600)  # a rank that waits for the one that refused


def test_every_rank_runs_the_task_and_rank_zero_answers(workspace: Workspace) -> None:
    found = launch.run(describe_worker, {"a": 1}, "two", workspace, workers=2, threads=1, retries=0)
    assert found == {
        "rank": 0,
        "world": 2,
        "settings": {"a": 1},
        "sum_of_ranks": 3.0,
        "threads": 1,
        "niceness": os.nice(0),
        "malloc": worker_environment(1)["MALLOC_TOP_PAD_"],
    }


def test_ray_leaves_the_handler_of_ctrl_c_alone_and_prints_nothing(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    launch.run(describe_worker, {}, "quiet", workspace, workers=1, threads=1, retries=0)
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr() == ("", "")


def test_a_run_that_dies_is_started_again_until_it_succeeds(
    workspace: Workspace, tmp_path: Path
) -> None:
    settings = {"calls": str(tmp_path / "calls")}
    assert (
        launch.run(die_at_first, settings, "dies", workspace, workers=1, threads=1, retries=1) == 42
    )


def test_the_last_failure_carries_the_workers_own_traceback(
    workspace: Workspace, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    settings = {"calls": str(calls), "divisor": 0}
    with pytest.raises(launch.LaunchError) as failure:
        launch.run(divide_by_zero, settings, "zero", workspace, workers=1, threads=1, retries=0)
    assert calls.read_text() == "x"
    assert str(failure.value).startswith("zero failed at the first attempt\n")
    assert 'return 1 / settings["divisor"]' in str(failure.value)
    assert "ZeroDivisionError: division by zero" in str(failure.value)


def test_the_rank_that_died_is_told_of_not_the_one_that_lost_its_peer(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    task = die_beside_one_that_waits
    with pytest.raises(launch.LaunchError, match="worker process has died"):
        launch.run(task, None, "gone", workspace, workers=2, threads=1, retries=0)
    assert capfd.readouterr() == ("", "")


def test_an_interrupted_wait_ends_the_workers(workspace: Workspace, tmp_path: Path) -> None:
    def interrupt() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        time.sleep(0.2)  # a name is there before what is in the file
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    given = {"folder": str(tmp_path)}
    with pytest.raises(KeyboardInterrupt):
        launch.run(sleep, given, "slept", workspace, workers=2, threads=1, retries=0)
    thread.join()
    ids = [int(file.read_text()) for file in tmp_path.iterdir()]
    deadline = time.monotonic() + 10
    while any(map(launch._is_running, ids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(ids) == 2 and not any(map(launch._is_running, ids))


def test_a_refusal_on_one_rank_ends_all_and_is_never_tried_again(
    workspace: Workspace, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    with pytest.raises(Refusal, match=r"^colour must be blue, got red$"):
        launch.run(refuse, {"calls": str(calls)}, "red", workspace, workers=2, threads=1, retries=3)
    assert calls.read_text() in ("x", "xx")  # one call a rank, if the other one got so far


def test_more_processors_than_there_are_is_refused(workspace: Workspace) -> None:
    number = os.cpu_count()
    with pytest.raises(Refusal) as refusal:
        launch.run(describe_worker, {}, "big", workspace, workers=number, threads=3, retries=0)
    assert str(refusal.value) == (
        f"workers * threads must be at most the {number} processors here, got {number} and 3"
    )


def test_what_a_killed_driver_leaves_is_ended_at_the_next_start_and_nothing_else(
    tmp_path: Path,
) -> None:
    driver = (
        "import sys, time; from pathlib import Path; from datalake.workspace import Workspace\n"
        "from training import launch\n"
        "launch._connect(Workspace(home=Path(sys.argv[1])))\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", driver, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    sessions = tmp_path / "ray" / "sessions"
    (session,) = sessions.iterdir()
    assert launch.end_leftovers(sessions) == []  # its owner lives
    assert process.poll() is None

    process.send_signal(signal.SIGKILL)
    process.wait()
    with (session / "lock").open() as reader:
        pager = subprocess.Popen(["sleep", "60"], stdin=reader)
        ended = launch.end_leftovers(sessions)
        assert pager.poll() is None  # it only reads
        pager.kill()
        pager.wait()
    assert ended and not any(map(launch._is_running, ended))
    assert launch._writers(session) == []
    assert not (launch._SOCKET_FOLDER / f"tarn-ray-{session.name}").is_symlink()

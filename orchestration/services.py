"""The servers that ``tarn ui`` starts together and stops together, all on localhost."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datalake.config import Refusal
from orchestration import resources

HOST = "127.0.0.1"
_TRIES = 100
_START_SECONDS = 180  # MLflow's first start makes its database: 45 s on a busy machine
_STOP_SECONDS = 20


@dataclass(frozen=True)
class Service:
    """One server: how it is started, where it answers, where its log goes."""

    name: str
    command: Sequence[str]
    port: int
    log: Path


def serve(dagster_port: int, mlflow_port: int, say: Callable[[str], None]) -> None:
    """Run Dagster and MLflow until Ctrl-C; a server that dies ends the others, with its log."""
    services = _services(free_port(dagster_port), free_port(mlflow_port))
    running: list[subprocess.Popen[bytes]] = []
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        for service in services:
            running.append(_start(service))
            say(f"{service.name:<9}http://{HOST}:{service.port}   log {service.log}")
        for service, process in zip(services, running, strict=True):
            _wait_until_it_answers(service, process)
        say("ready; Ctrl-C stops both")
        while True:
            for service, process in zip(services, running, strict=True):
                if process.poll() is not None:
                    raise Refusal(f"{service.name} must stay up, got an end: see {service.log}")
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("stopping")
    finally:
        _stop(running)
        signal.signal(signal.SIGTERM, previous)


def free_port(first: int) -> int:
    """The first free port from ``first`` on. Raises Refusal after a hundred taken ones."""
    for port in range(first, first + _TRIES):
        with contextlib.closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise Refusal(f"a port from {first} to {first + _TRIES - 1} must be free, got none")


def _services(dagster_port: int, mlflow_port: int) -> list[Service]:
    from training.tracking import server_arguments

    logs = resources.workspace().folder("logs")
    python = [sys.executable, "-m"]
    return [
        Service(
            "Dagster",
            # One command starts webserver and daemon over one code server.
            [*python, "dagster", "dev", "-m", "orchestration.definitions"]
            + ["-h", HOST, "-p", str(dagster_port)],
            dagster_port,
            logs / "dagster.log",
        ),
        Service(
            "MLflow",
            [*python, "mlflow", "server", "--host", HOST, "--port", str(mlflow_port)]
            + ["--workers", "1", *server_arguments(resources.workspace())],
            mlflow_port,
            logs / "mlflow.log",
        ),
    ]


def _start(service: Service) -> subprocess.Popen[bytes]:
    with service.log.open("ab") as log:
        return subprocess.Popen(
            service.command,
            env=resources.service_environment(),
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # A parent started by a shell's & ignores SIGINT, and Dagster would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def _wait_until_it_answers(service: Service, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Refusal(f"{service.name} must start, got an end: see {service.log}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, service.port), 1):
            return
        time.sleep(0.3)
    raise Refusal(f"{service.name} must answer in {_START_SECONDS} s, got none: see {service.log}")


def _stop(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in running:
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt

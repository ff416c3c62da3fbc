"""``tarn ui``: the real servers, started together, stopped together, on ports that are free."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from orchestration.services import HOST, free_port

TOP = Path(__file__).parents[2]
TARN = Path(sys.executable).with_name("tarn")


def taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def ask(url: str, body: dict[str, str] | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: bytes = response.read()
        return answer


def test_a_taken_port_gives_way_to_the_next_free_one() -> None:
    with socket.socket() as holder:
        holder.bind((HOST, 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert free_port(port) > port


def test_dagster_and_mlflow_start_together_and_ctrl_c_stops_both(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind((HOST, 0))
        holder.listen()
        first = holder.getsockname()[1]  # taken: Dagster has to go on from here
        env = {**os.environ, "TARN_HOME": str(tmp_path), "TRITON_INTERPRET": "0"}
        running = subprocess.Popen(
            [TARN, "ui", "--recipe", "smoke", "--dagster-port", str(first)]
            + ["--mlflow-port", str(free_port(first + 200))],
            cwd=TOP,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        try:
            assert running.stdout is not None
            said = ""
            while "ready" not in said:
                line = running.stdout.readline()
                assert line, said + (tmp_path / "logs/dagster.log").read_text()[-2000:]
                said += line
            dagster, mlflow = (int(port) for port in re.findall(rf"http://{HOST}:(\d+)", said))
            assert dagster > first
            query = "{ assetNodes { assetKey { path } groupName } }"
            assets = ask(f"http://{HOST}:{dagster}/graphql", {"query": query})
            assert {"path": ["raw", "web"]} in [
                node["assetKey"] for node in json.loads(assets)["data"]["assetNodes"]
            ]
            assert ask(f"http://{HOST}:{mlflow}/health") == b"OK"
        finally:
            running.send_signal(signal.SIGINT)
            rest = running.communicate(timeout=90)[0]
    assert "stopping" in rest
    assert running.returncode == 0
    deadline = time.monotonic() + 20
    while (taken(dagster) or taken(mlflow)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not taken(dagster) and not taken(mlflow)

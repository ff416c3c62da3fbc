"""How every benchmark measures and speaks: ours and the peer in turn, medians, a table, one JSON.

The last line of a benchmark is ``{"bench", "results", "machine", "versions"}``; a result has the
case, the unit, ours, the peer's name and figure, their ratio (above 1: ours is better) and the
floor that bytes or operations alone would take.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One line: rates, so more is better."""

    case: str
    unit: str
    ours: float
    peer_name: str
    peer: float | None = None
    floor: float | None = None  # the same unit, of a loop that only touches the bytes
    why: str | None = None  # why a figure is None

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None else self.ours / self.peer


def seconds_in_turn(jobs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each job; one round warms up, then the jobs take turns."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for k in range(repeats + 1):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            if k:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


def show(bench: str, results: Sequence[Result], packages: Sequence[str]) -> None:
    """Print the table for people and, as the last line, the JSON object."""
    for r in results:
        peer = (
            f"{r.peer_name} {r.peer:,.3g}" if r.peer is not None else f"{r.peer_name} - ({r.why})"
        )
        ratio = f"{r.ratio:.3g}x" if r.ratio is not None else ""
        floor = f"floor {r.floor:,.3g}" if r.floor is not None else ""
        print(f"{r.case:<40} {r.ours:>12,.4g} {r.unit:<10} {peer:<40} {ratio:>8}  {floor}")
    said = {
        "bench": bench,
        "results": [asdict(r) | {"ratio": r.ratio} for r in results],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {name: version(name) for name in packages},
    }
    print(json.dumps(said))

"""A phase of alignment as a worker does it: its objective, and the control beside it.

A control goes on with supervised fine-tuning, from the same weights and for the same FLOPs. Without
it, what a phase gains on a small model could be no more than what any further training gains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from alignment.sft import FineTuning
from training import loop
from training.job import CONTROL
from training.loop import Objective, RunConfig, TrainResult
from training.parallel.data_parallel import DataParallel


class Configured(Objective, Protocol):
    """An objective that carries the settings of its run."""

    @property
    def config(self) -> RunConfig: ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Phase:
    """One training: small enough to pickle, since alignment's data are."""

    objective: Configured
    folder: Path
    about: Mapping[str, Any]  # goes into the manifests
    control: FineTuning | None = None  # its number of steps is set by what the phase cost
    flops_before: float = 0.0  # that the phase's data cost, and the control spends as well

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to train."""
        folders = [self.folder, *([self.folder / CONTROL] if self.control else [])]
        return all(loop.finished(folder) for folder in folders)


def work(phase: Phase, rank: int, world: int) -> TrainResult:
    """Train ``phase``, then its control, as one of ``world`` processes."""
    ranks = DataParallel(rank, world)
    objective = phase.objective
    result = loop.run(objective.config, objective, phase.folder, ranks, phase.about)
    if phase.control is not None:
        control = phase.control.for_flops(result.flops + phase.flops_before)
        about = {**phase.about, "asset": f"{phase.about['asset']} control"}
        loop.run(control.config, control, phase.folder / CONTROL, ranks, about)
    return result

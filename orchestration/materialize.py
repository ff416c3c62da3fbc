"""One run of the graph in this process, and what a person wants to know of it afterwards."""

import contextlib
import fcntl
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from datalake.config import Refusal
from orchestration import compiling, freshness, resources
from orchestration.asset import FORCE, terminal
from orchestration.assets import steps
from orchestration.automation import EVERYTHING
from orchestration.step import Step

FROM_TERMINAL = "tarn/from_terminal"  # run tag
_AT_WORK = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_WITH_PAGE = ("data_card", "leaderboard", "model_card")  # artifacts with an index.html


@dataclass(frozen=True)
class Line:
    """One asset in the table at the end."""

    key: str
    state: str
    rows: int | None
    seconds: float | None
    finding: str


@dataclass
class Outcome:
    """What a run did."""

    lines: list[Line] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    pages: dict[str, Path] = field(default_factory=dict)
    computed: int = 0
    unchanged: int = 0


def materialize(select: str | None = None, force: bool = False) -> Outcome:
    """Run the selected assets, by default all. Failures of assets are part of the outcome.

    Raises Refusal for a recipe or selection that is wrong, and while another run is at work.
    """
    recipe = resources.recipe()
    with alone(), _quiet():
        instance = dg.DagsterInstance.get()
        end_orphans(instance)
        _require_no_other_run(instance)
        selected = _selected(select) if select else None
        stale = freshness.stale(instance, steps(recipe), recipe, resources.workspace())
        if not stale and not force and selected is None:
            return _outcome(instance, [], set())
        never = [key for key, reason in stale.items() if reason == freshness.NEVER]
        if never:
            terminal.info("%d of %d assets were never made", len(never), len(steps(recipe)))
        for key, reason in stale.items():
            if key not in never:
                terminal.info("stale: %s", reason, extra={"asset": key})
        from orchestration.definitions import defs

        job = defs.resolve_job_def(EVERYTHING)
        if selected is not None:
            job = job.get_subset(asset_selection=selected)
        with compiling.ahead() if "signals" in stale else contextlib.nullcontext():
            result = job.execute_in_process(
                instance=instance,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                tags={FROM_TERMINAL: "true"} | ({FORCE: "true"} if force else {}),
                raise_on_error=False,
            )
        failures = [_cause(event) for event in result.all_events if event.is_step_failure]
        failures += [
            f"{e.asset_key.to_user_string()}: check {e.check_name} did not pass"
            for e in result.get_asset_check_evaluations()
            if not e.passed and e.severity == dg.AssetCheckSeverity.ERROR
        ]
        made = {m.asset_key.to_user_string() for m in _materializations(result)}
        return _outcome(instance, failures, made)


def _materializations(result: dg.ExecuteInProcessResult) -> Iterator[dg.AssetMaterialization]:
    for event in result.get_asset_materialization_events():
        yield event.step_materialization_data.materialization


def _selected(select: str) -> set[dg.AssetKey]:
    from orchestration.definitions import defs

    try:
        selection = dg.AssetSelection.from_string(select)
        keys = selection.resolve(defs.resolve_asset_graph())
    except Exception as error:  # Dagster's parser raises several classes
        problem = " ".join(str(error).split())
        raise Refusal(
            f"--select must be a Dagster asset selection, got {select}: {problem}"
        ) from None
    if not keys:
        raise Refusal(f"--select must name an asset of the graph, got {select}")
    return set(keys)


def _outcome(instance: dg.DagsterInstance, failures: list[str], made: set[str]) -> Outcome:
    outcome = Outcome(failures=failures)
    for step in steps(resources.recipe()):
        found = freshness.last(instance, step.key)
        if found is None:
            outcome.lines.append(Line(step.key, "missing", None, None, ""))
            continue
        unchanged = step.key not in made or bool(found.value("unchanged"))
        outcome.computed += not unchanged
        outcome.unchanged += unchanged
        rows = found.value("dagster/row_count")
        seconds = None if unchanged else found.value("tarn/seconds")
        state = "fresh" if unchanged else "computed"
        outcome.lines.append(Line(step.key, state, rows, seconds, _finding(step, found)))
        if step.key in _WITH_PAGE:
            outcome.pages[step.key] = Path(str(found.version)) / "index.html"
    return outcome


def _finding(step: Step, found: freshness.Last) -> str:
    """The figures that the step wants told, in words."""
    told = []
    for name in step.tells:
        value = found.value(name)
        if isinstance(value, int):
            told.append(f"{name.replace('_', ' ')} {value:,}")
        elif isinstance(value, float):
            told.append(f"{name.replace('_', ' ')} {value:.4g}")
        elif value is not None:
            told.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(told)


def _cause(event: dg.DagsterEvent) -> str:
    """What went wrong, where: the innermost cause of a failed step."""
    failure = event.step_failure_data
    step = (event.step_key or "").replace("__", "/")
    if failure.user_failure_data and failure.user_failure_data.description:
        return f"{step}: {failure.user_failure_data.description}"
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return f"{step}: {error.message.strip() if error else 'no reason given'}"


def end_orphans(instance: dg.DagsterInstance) -> None:
    """Mark runs of the command line whose process is gone as failed: they would block the queue.

    To be called with the lock of ``alone``, which a living one holds.
    """
    wanted = dg.RunsFilter(statuses=_AT_WORK, tags={FROM_TERMINAL: "true"})
    for run in instance.get_runs(wanted):
        instance.report_run_failed(run, "the process of this run was killed")


def end_orphans_if_idle() -> None:
    """``end_orphans``, unless a run of the command line is at work now."""
    with contextlib.suppress(Refusal), alone():
        end_orphans(dg.DagsterInstance.get())


def _require_no_other_run(instance: dg.DagsterInstance) -> None:
    """Raise Refusal while a run that the UI started is at work."""
    for run in instance.get_runs(dg.RunsFilter(statuses=_AT_WORK)):
        raise Refusal(
            f"no other run may be at work, got {run.run_id[:8]} ({run.status.value.lower()}): "
            "wait for it, or terminate it in the UI"
        )


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One run in a process of the command line at a time; Dagster's queue does not see these."""
    lock = resources.dagster_home() / "tarn-run.lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(f"{lock} must be free, got a run at work: wait for it to end") from None
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Other people's warnings and log lines go to ``logs/run.log``."""
    folder = resources.home() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / "run.log", mode="w")
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [handler]
    logging.captureWarnings(True)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.handlers[:] = before
            handler.close()

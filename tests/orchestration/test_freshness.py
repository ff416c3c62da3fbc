"""What did not change is not recomputed: on real tables, through Dagster, in process."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from orchestration import freshness, resources
from orchestration.asset import asset_of
from tests.orchestration import small_graph


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("TARN_HOME", str(tmp_path / "home"))
    small_graph.start()
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


def run(instance: dg.DagsterInstance, **tags: str) -> list[str]:
    """Keys that one run of the graph really built, in order."""
    small_graph.BUILT.clear()
    job = dg.Definitions(
        assets=[asset_of(step) for step in small_graph.steps()],
        jobs=[dg.define_asset_job("all", dg.AssetSelection.all())],
    ).resolve_job_def("all")
    result = job.execute_in_process(
        instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={key.replace("_", "/"): value for key, value in tags.items()},
        raise_on_error=False,
    )
    # The rule that the command line asks before a run says the same as the bodies did.
    said = freshness.stale(instance, small_graph.steps(), resources.recipe(), resources.workspace())
    assert bool(said) is not result.success
    return small_graph.BUILT[:]


ALL = ["kept", "corpus", "tokenizer"]


def test_the_first_run_builds_everything_and_the_second_nothing(
    instance: dg.DagsterInstance,
) -> None:
    assert [run(instance), run(instance), run(instance)] == [ALL, [], []]


def test_a_changed_setting_recomputes_from_its_asset_on(instance: dg.DagsterInstance) -> None:
    run(instance)
    small_graph.VALUES["middle"] = 4
    assert run(instance) == ["corpus", "tokenizer"]
    assert run(instance) == []


def test_a_change_without_effect_stops_where_the_content_is_the_same(
    instance: dg.DagsterInstance,
) -> None:
    small_graph.VALUES["middle"] = 5
    run(instance)
    small_graph.VALUES["middle"] = 6
    assert run(instance) == ["corpus"]
    assert run(instance) == []


def test_a_table_deleted_by_hand_is_made_again_and_nothing_else(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run(instance)
    shutil.rmtree(tmp_path / "home/lake/corpus")
    assert run(instance) == ["corpus"]
    assert run(instance) == []


def test_an_artifact_deleted_by_hand_is_made_again(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    run(instance)
    shutil.rmtree(tmp_path / "home/artifacts/tokenizer")
    assert run(instance) == ["tokenizer"]


def test_what_a_source_watches_outside_makes_it_stale(instance: dg.DagsterInstance) -> None:
    run(instance)
    small_graph.VALUES["outside"] = "a new file"
    assert run(instance) == ["kept"]


def test_an_old_source_is_fetched_again(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(instance)
    recipe = resources.recipe()
    orchestration = recipe.orchestration.model_copy(update={"max_age_hours": {"kept": 1.0}})
    aged = recipe.model_copy(update={"orchestration": orchestration})
    step = small_graph.steps()[0]
    assert freshness.why_stale(instance, step, aged, resources.workspace()) is None
    later = freshness.time.time() + 3601
    monkeypatch.setattr(freshness.time, "time", lambda: later)
    why = freshness.why_stale(instance, step, aged, resources.workspace())
    assert why == "older than 1 hours"


def test_force_builds_what_is_fresh_too(instance: dg.DagsterInstance) -> None:
    run(instance)
    assert run(instance, tarn_force="true") == ALL
    assert run(instance, tarn_force="corpus") == ["corpus"]


def test_a_refusal_fails_its_asset_alone_and_keeps_the_last_good_version(
    instance: dg.DagsterInstance,
) -> None:
    run(instance)
    small_graph.VALUES["middle"] = -1
    small_graph.VALUES["source"] = 12
    assert run(instance) == ["kept"]
    lake = resources.workspace().lake
    assert [len(lake.read(key)) for key in ("kept", "corpus")] == [12, 6]


def test_an_input_that_was_never_made_is_named(instance: dg.DagsterInstance) -> None:
    result = dg.materialize(
        [asset_of(step) for step in small_graph.steps()],
        selection="tokenizer",
        instance=instance,
        raise_on_error=False,
    )
    failure = next(e for e in result.all_events if e.is_step_failure).step_failure_data
    assert failure.user_failure_data.description == (
        "corpus must be materialized before tokenizer, got no version of it"
    )


def test_a_materialization_describes_the_table_for_the_ui(instance: dg.DagsterInstance) -> None:
    run(instance)
    made = freshness.last(instance, "corpus")
    assert made is not None
    assert made.value("dagster/row_count") == 6
    assert made.value("dagster/table_name") == "corpus"
    assert made.value("dagster/uri") == resources.workspace().lake.uri("corpus")
    assert made.value("unchanged") is False

"""The graph as Dagster loads it."""

import dagster as dg

from datalake.schemas import TABLES
from orchestration.definitions import GROUPS, STEPS, defs


def test_the_code_location_loads_whole() -> None:
    dg.Definitions.validate_loadable(defs)
    defs.get_repository_def().load_all_definitions()


def test_there_is_one_job_a_group_and_one_for_everything() -> None:
    jobs = {job.name for job in defs.get_repository_def().get_all_jobs()}
    assert {"everything", *(f"{group}_group" for group in GROUPS)} <= jobs


def test_every_input_of_a_step_is_a_step_before_it() -> None:
    before: set[str] = set()
    for step in STEPS:
        assert set(step.inputs) <= before, step.key
        before.add(step.key)


def test_every_asset_reads_well_in_the_ui() -> None:
    graph = defs.resolve_asset_graph()
    for step in STEPS:
        node = graph.get(dg.AssetKey(step.key.split("/")))
        assert node.description and node.owners and node.kinds and node.group_name
        assert (step.key in TABLES) == ("dagster/column_schema" in node.metadata)


def test_every_table_is_checked_for_its_keys() -> None:
    checked = {
        key.asset_key.to_user_string()
        for key in defs.resolve_asset_graph().asset_check_keys
        if key.name == "has_rows_with_unique_keys"
    }
    assert checked == {step.key for step in STEPS if step.key in TABLES}


def test_every_step_names_a_function_that_is_there() -> None:
    for step in STEPS:
        assert callable(step.builder), step.key

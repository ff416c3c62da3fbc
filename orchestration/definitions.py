"""The one entry of Dagster: every asset, check, job, schedule and sensor, in reading order."""

import warnings

import dagster as dg

warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from orchestration import resources  # noqa: E402, the filters come first
from orchestration.asset import asset_of  # noqa: E402
from orchestration.assets import steps  # noqa: E402
from orchestration.automation import EVERYTHING, daily_refresh, warc_inbox  # noqa: E402
from orchestration.checks import checks_of  # noqa: E402

STEPS = steps(resources.recipe())
GROUPS = tuple(dict.fromkeys(step.group for step in STEPS))

defs = dg.Definitions(
    assets=[asset_of(step) for step in STEPS],
    asset_checks=checks_of([step.key for step in STEPS]),
    jobs=[
        dg.define_asset_job(EVERYTHING, dg.AssetSelection.all(), description="The whole graph."),
        *(
            dg.define_asset_job(
                f"{group}_group",  # a bare "tokens" would be the name of an asset, too
                dg.AssetSelection.groups(group),
                description=f"The assets of group {group}.",
            )
            for group in GROUPS
        ),
    ],
    schedules=[daily_refresh()],
    sensors=[warc_inbox],
    # One JVM, one Ray, torch imported once; where they are remote, choose another in the run.
    executor=dg.in_process_executor,
)

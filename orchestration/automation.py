"""When the graph moves by itself: a daily refresh and a watched folder, both off by default."""

import dagster as dg

from datalake.ingestion import INBOX, inbox
from datalake.workspace import Workspace
from orchestration import resources

EVERYTHING = "everything"


def daily_refresh() -> dg.ScheduleDefinition:
    """Fetch the sources again every night, and recompute what their new content reaches."""
    hour = resources.recipe().orchestration.daily_refresh_hour
    return dg.ScheduleDefinition(
        name="daily_refresh",
        job_name=EVERYTHING,
        cron_schedule=f"0 {hour} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Sources older than their max_age are fetched again; the rest follows.",
    )


def waiting(workspace: Workspace) -> str:
    """Names and sizes of the archives in the inbox, one a line: what an ingestion would read."""
    return "\n".join(f"{path.name}:{path.stat().st_size}" for path in inbox(workspace))


@dg.sensor(
    job_name=EVERYTHING,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="New WARC files in $TARN_HOME/inbox are ingested, and what hangs on them.",
)
def warc_inbox(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """One run for all files that came since the last look; a file that grew counts as new."""
    workspace = resources.workspace()
    cursor = waiting(workspace)
    new = sorted(set(cursor.splitlines()) - set((context.cursor or "").splitlines()))
    if not new:
        return dg.SensorResult(
            skip_reason=f"no new WARC file in {workspace.folder(INBOX)}", cursor=cursor
        )
    request = dg.RunRequest(run_key=cursor, tags={"tarn/inbox": ", ".join(new)[:200]})
    return dg.SensorResult(run_requests=[request], cursor=cursor)

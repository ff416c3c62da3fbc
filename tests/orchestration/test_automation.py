"""The daily refresh and the watched folder: off by default, right when on."""

from pathlib import Path

import dagster as dg
import pytest

from orchestration import automation
from orchestration.definitions import defs


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TARN_HOME", str(tmp_path))
    return tmp_path / automation.INBOX


def look(cursor: str | None) -> dg.SensorResult:
    with dg.instance_for_test() as instance:
        context = dg.build_sensor_context(instance=instance, cursor=cursor, definitions=defs)
        result = automation.warc_inbox(context)
    assert isinstance(result, dg.SensorResult)
    return result


def test_both_are_off_until_somebody_turns_them_on() -> None:
    repository = defs.get_repository_def()
    [schedule], [sensor] = repository.schedule_defs, repository.sensor_defs
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


def test_the_schedule_asks_for_the_whole_graph_every_night() -> None:
    with dg.instance_for_test() as instance:
        schedule = automation.daily_refresh()
        tick = schedule.evaluate_tick(dg.build_schedule_context(instance=instance))
    assert len(tick.run_requests or []) == 1
    assert schedule.job_name == automation.EVERYTHING
    assert schedule.cron_schedule.startswith("0 ")


def test_an_empty_inbox_asks_for_nothing(inbox: Path) -> None:
    result = look(None)
    assert not result.run_requests
    assert str(inbox) in str(result.skip_reason)


def test_new_warc_files_ask_for_one_run_once(inbox: Path) -> None:
    inbox.mkdir()
    for name in ("a.warc.gz", "b.warc", "notes.txt"):
        (inbox / name).write_bytes(b"x")
    first = look(None)
    [request] = first.run_requests or []
    assert request.tags["tarn/inbox"] == "a.warc.gz:1, b.warc:1"
    assert not look(first.cursor).run_requests
    (inbox / "c.warc").write_bytes(b"y")
    assert len(look(first.cursor).run_requests or []) == 1

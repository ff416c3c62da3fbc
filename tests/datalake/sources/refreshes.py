"""A refresh of a source that was never read before."""

from pathlib import Path

import pyarrow as pa

from datalake.sources.report import Report
from datalake.sources.source import Refresh


class Nothing:
    """What there is before the first refresh."""

    def digest(self, uri: str, position: str = "") -> str | None:
        return None

    def rows(self, columns: list[str]) -> pa.Table:
        return pa.table({name: [] for name in columns})


def refresh_of(home: Path, report: Report) -> Refresh:
    """The first refresh of a source called ``test``."""
    return Refresh(
        origin="test", snapshot="2026-01-01", home=home, report=report, previous=Nothing()
    )

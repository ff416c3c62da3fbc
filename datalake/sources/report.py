"""What an ingestion kept, skipped, failed to get and found damaged, in numbers and first cases."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

_SAY_SECONDS = 3.0
_SHOWN = 5  # damages named one by one; the rest is a count


@dataclass
class Report:
    """Counts of one ingestion. Skipped was not wanted; failed was wanted and not obtained."""

    name: str
    say: Callable[[str], None]
    rows: int = 0
    num_bytes: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0  # the same as in an earlier snapshot
    gone: int = 0  # in an earlier snapshot, and not any more
    damages: list[str] = field(default_factory=list)
    heard: bool = True  # whether somebody listens to ``say``
    cut: str | None = None  # why it stopped before the end of its source
    _cases: dict[str, str] = field(default_factory=dict)  # first case of each failure
    _began: float = field(default_factory=time.monotonic)
    _said: float = field(default_factory=time.monotonic)

    def keep(self, num_bytes: int, waiting: int | None = None) -> None:
        """Count one record, and say how far we are if nothing was said for a while."""
        self.rows += 1
        self.num_bytes += num_bytes
        if time.monotonic() - self._said >= _SAY_SECONDS:
            self._said = time.monotonic()
            more = "" if waiting is None else f", {waiting} waiting"
            self.say(f"{self.name}: {self._progress()}{more}")

    def skip(self, reason: str, number: int = 1) -> None:
        if number:
            self.skipped[reason] += number

    def fail(self, reason: str, case: str, number: int = 1) -> None:
        self.failed[reason] += number
        self._cases.setdefault(reason, case)

    def join(self, other: "Report") -> None:
        """Add the counts of a part of the work; what it lost first stays the first case."""
        self.rows += other.rows
        self.num_bytes += other.num_bytes
        self.unchanged += other.unchanged
        self.gone += other.gone
        self.skipped.update(other.skipped)
        self.failed.update(other.failed)
        for reason, case in other._cases.items():
            self._cases.setdefault(reason, case)
        for line in other.damages:
            self.damage(line, said=other.heard)
        self.cut = self.cut or other.cut

    def damage(self, line: str, said: bool = False) -> None:
        """Note a damaged place; the first few are said at once, if they were not."""
        self.damages.append(line)
        if len(self.damages) <= _SHOWN and not said:
            self.say(f"{self.name}: {line}")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def finish(self) -> None:
        """Say the total."""
        lost = sum(self.failed.values()) + len(self.damages)
        cut = f", cut: {self.cut}" if self.cut else ""
        self.say(f"{self.name}: {self._progress()}, {lost} lost{cut}")

    def as_dict(self) -> dict[str, int | float | str]:
        """Flat, for a materialization's metadata."""
        found: dict[str, int | float | str] = {
            "payload_mb": round(self.num_bytes / 1e6, 3),
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows / max(self.seconds, 1e-9), 1),
        }
        if self.unchanged:
            found["unchanged"] = self.unchanged
        if self.gone:
            found["gone"] = self.gone
        found |= {f"skipped: {reason}": n for reason, n in sorted(self.skipped.items())}
        found |= {f"failed: {reason}": n for reason, n in sorted(self.failed.items())}
        found |= {f"first failed: {reason}": case for reason, case in sorted(self._cases.items())}
        if self.damages:
            found["damaged"] = len(self.damages)
            found["first damaged"] = "; ".join(self.damages[:_SHOWN])
        found["cut"] = self.cut or "no"
        return found

    def _progress(self) -> str:
        rate = self.rows / max(self.seconds, 1e-9)
        return f"{self.rows} records, {self.num_bytes / 1e6:.1f} MB, {rate:.0f}/s"

"""How an endpoint stands: well, failing since a time, or switched off. Pure: no clock, no I/O; the `book` keeps it.

It is switched off by a person, by its receiver (410 or `webhook-delivery: disable`), or after days without one success.
Then its events wait, and only a person switches it on again. Times are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

QUIET = timedelta(days=1)
"""After so long without an attempt the next failure starts the clock anew: two failures in a week are no week of
failures. In the spirit of Svix, whose clock needs several failures within one day."""


@dataclass(frozen=True, slots=True)
class Failing:
    """Nothing but failures: since when, the last one, and how many."""

    since: float
    last: float
    attempts: int

    @classmethod
    def after(cls, before: Failing | None, now: float) -> Failing:
        """One more failure."""
        if before is None or now - before.last > QUIET.total_seconds():
            return cls(now, now, 1)
        return cls(before.since, now, before.attempts + 1)

    def too_long(self, days: float) -> str | None:
        """Why it has to be switched off, when `days` of failures are full (0: never)."""
        if not days or self.last - self.since < days * 86_400:
            return None
        since = datetime.fromtimestamp(self.since, UTC).isoformat(" ", "minutes")
        return f"{self.attempts:,} attempts since {since} failed and none succeeded"


@dataclass(frozen=True, slots=True)
class Off:
    """Switched off: since when, by whom and why, for people."""

    since: float
    why: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of an endpoint; nothing: it is well, or was never tried."""

    failing: Failing | None = None
    off: Off | None = None

    @property
    def state(self) -> str:
        """In one word."""
        return "off" if self.off is not None else "failing" if self.failing is not None else "on"

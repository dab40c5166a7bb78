"""Where the bus tells what it does, for metrics. The default hears nothing; the bus depends on no metrics library."""

from __future__ import annotations


class Observer:
    """Override what you want to count. Called in the event loop: return at once, raise nothing."""

    def published(self, topic: str, status: str) -> None:
        """Redis confirmed an event: stored, scheduled or duplicate."""

    def handled(self, group: str, topic: str, outcome: str, seconds: float) -> None:
        """An attempt ended: done, retry, parked or dead."""

    def fenced(self, group: str) -> None:
        """A delivery was no longer ours when we wanted to finish it."""

    def gap(self, kind: str, count: int) -> None:
        """The books of the log did not add up; see `eventbus.audit`."""

"""Instants as the ids of a stream have them: milliseconds of Redis' clock, then a counter.

Pure. A range of time is half open, like every range here: `since` belongs to it, `until` does not.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def stored_at(entry_id: str) -> datetime:
    """When an entry with this id was stored, by Redis' clock."""
    return EPOCH + int(entry_id.partition("-")[0]) * _MS


def first_id(since: datetime | None) -> str:
    """The start of a range. An id without its second half is the first of its millisecond there (XRANGE)."""
    return "-" if since is None else str(_whole_ms(since))


def last_id(until: datetime | None) -> str:
    """The end of a range. An id without its second half is the last of its millisecond there (XRANGE)."""
    return "+" if until is None else str(max(0, _whole_ms(until) - 1))


def _whole_ms(time: datetime) -> int:
    """The first whole millisecond at or after this time, in integers: a float would round some of them up."""
    if time.tzinfo is None:
        raise TypeError("a time needs a time zone, such as datetime.now(UTC) - timedelta(hours=1)")
    return max(0, -((EPOCH - time) // _MS))

"""Reads the log: the events of a stretch of time, or one by its id. It changes nothing and belongs to no group."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from eventbus.codec import decode
from eventbus.errors import InvalidEvent, UnknownVersion
from eventbus.event import Event
from eventbus.redis.history import Entry, History
from eventbus.subscription import MAX_PART

NEAR = timedelta(minutes=1)
"""How far the clock that made an event's id may be from Redis', for the quick way to find it."""


async def events(history: History, since: datetime, until: datetime | None = None) -> AsyncIterator[Event[Any]]:
    """The events that were stored in this time, oldest first, each once: no copies of a replay or redrive.

    What can't be read (of a newer version, or foreign) is left out.
    """
    after, end = f"{_ms(since)}-0", "+" if until is None else f"({_ms(until)}-0"
    while entries := await history.between(after, end):
        for entry in entries:
            event = _readable(entry)
            if event is not None and entry.group is None:
                yield event
        after = f"({entries[-1].entry_id}"


class Found(NamedTuple):
    """An event and its place in the log."""

    event: Event[Any]
    entry_id: str
    sequence: int


async def find(history: History, event_id: str) -> Found | None:
    """The event with this id; None when the log does not hold it (any more).

    An id of ours says when it was made, so the log is read there first, and from its beginning only then.
    """
    for start, end in (*_near(event_id), ("-", "+")):
        while entries := await history.between(start, end):
            for entry in entries:
                if event_id.encode() in entry.wire:
                    event = _readable(entry)
                    if event is not None and event.id == event_id:
                        return Found(event, entry.entry_id, entry.sequence)
            start = f"({entries[-1].entry_id}"
    return None


def _near(event_id: str) -> list[tuple[str, str]]:
    """Where in the log an id of ours (UUIDv7: RFC 9562, section 5.7) has to be."""
    with contextlib.suppress(ValueError):
        made = uuid.UUID(event_id)
        if made.version == 7:
            ms, near = made.int >> 80, int(NEAR.total_seconds() * 1000)
            return [(f"{max(0, ms - near)}-0", f"{ms + near}-{MAX_PART}")]
    return []


def _readable(entry: Entry) -> Event[Any] | None:
    try:
        return decode(entry.topic, entry.wire)
    except (InvalidEvent, UnknownVersion):
        return None


def _ms(time: datetime) -> int:
    return max(0, int(time.timestamp() * 1000))

"""The group `_inhibitions`, by which workers see what inhibits: kept as long as a program needs it.

A group that nobody serves would keep the log from being trimmed. Programs with inhibitions say so now and then; one
without them retires the group when it has heard nobody say so for an hour, and then goes on listening. So neither a
rolling deploy, nor workers of a version that says nothing, nor an outage loses it. Which events inhibit, and what that
means, is `mute` and `store`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from eventbus import EventBus, EventBusError, Unavailable, UnknownGroup
from eventbus.bus import EVERYTHING
from registry.noise.store import SAID_FOR, NoiseStore

INHIBITIONS = "_inhibitions"
"""No integration can have the name: theirs begin with a letter."""
LOOK_SECONDS = 600.0

_log = structlog.get_logger("registry.noise")


async def keep_tending(
    bus: EventBus, store: NoiseStore, *, are_here: bool, clock: Callable[[], float] = time.monotonic
) -> None:
    """Say that this program has inhibitions, or retire the group when no other has any, for as long as we serve."""
    nobody_since: float | None = None
    while True:
        try:
            if are_here:
                await store.say_inhibitions()
            elif INHIBITIONS not in await bus.groups() or await store.said_inhibitions():
                nobody_since = None
            elif nobody_since is None:
                nobody_since = clock()
            elif clock() - nobody_since >= SAID_FOR.total_seconds():
                nobody_since = None
                await _retire(bus)
        except EventBusError as error:
            nobody_since = None  # what we can't hear, nobody may be able to say
            _log.warning("the group of inhibitions is not looked after", error=str(error))
        await asyncio.sleep(LOOK_SECONDS)


async def _retire(bus: EventBus) -> None:
    try:
        await bus.retire(INHIBITIONS, EVERYTHING)
    except UnknownGroup:
        return  # another worker did
    except Unavailable:
        raise
    except EventBusError as error:  # by default a worker's user in Redis may not
        fix = f"as a user who may: eventbus groups retire {INHIBITIONS}"
        _log.warning("no inhibition is left, but its group is", group=INHIBITIONS, fix=fix, error=str(error))
        return
    _log.info("retired, since no inhibition is left", group=INHIBITIONS)

"""The group `_inhibitions`, by which workers see what inhibits: kept as long as a program needs it.

A group that nobody serves would keep the log from being trimmed. Programs with inhibitions say so now and then; one
without them retires the group when none has said so for an hour, so that neither a rolling deploy nor a restart loses
it. Which events inhibit, and what that means, is `mute` and `store`.
"""

from __future__ import annotations

import asyncio

import structlog

from eventbus import EventBus, EventBusError, Unavailable, UnknownGroup
from registry.noise.store import NoiseStore

INHIBITIONS = "_inhibitions"
"""No integration can have the name: theirs begin with a letter."""
LOOK_SECONDS = 600.0
EVERYTHING = 10**9
"""More than any backlog: what a group of no use has not read is nobody's."""

_log = structlog.get_logger("registry.noise")


async def tend(bus: EventBus, store: NoiseStore, *, are_here: bool) -> bool:
    """Say that this program has inhibitions; else retire the group if no other has. Whether it is done with."""
    try:
        if not are_here:
            return await _retired(bus, store)
        await store.say_inhibitions()
    except EventBusError as error:
        _log.warning("the group of inhibitions is not looked after", error=str(error))
    return False


async def keep_tending(bus: EventBus, store: NoiseStore, *, are_here: bool) -> None:
    """Until it is done with."""
    is_done = False
    while not is_done:
        await asyncio.sleep(LOOK_SECONDS)
        is_done = await tend(bus, store, are_here=are_here)


async def _retired(bus: EventBus, store: NoiseStore) -> bool:
    if INHIBITIONS not in await bus.groups():
        return True
    if await store.said_inhibitions():
        return False
    try:
        await bus.retire(INHIBITIONS, EVERYTHING)
    except UnknownGroup:
        return True  # another worker did
    except Unavailable:
        raise
    except EventBusError as error:  # by default a worker's user in Redis may not
        fix = f"as a user who may: eventbus groups retire {INHIBITIONS}"
        _log.warning("no inhibition is left, but its group is", group=INHIBITIONS, fix=fix, error=str(error))
        return True
    _log.info("retired, since no inhibition is left", group=INHIBITIONS)
    return True

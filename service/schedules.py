"""Events by the clock. Every worker hands the next times of every schedule to Redis; the key makes each of them one.

So there is no leader: an occurrence is in Redis before its time, whoever dies in between, and fires when the server's
clock says so, or as soon as a worker runs again. Times that passed while no worker ran at all are not made up for, but
for the one that was handed over already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import structlog
from cronsim import CronSim, CronSimError

from eventbus import Conflict, EventBus, EventBusError
from registry.sections import Schedule

AHEAD = 2
LOOK_SECONDS = 30.0

_log = structlog.get_logger("service.schedules")


def occurrences(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """The times of a schedule, in UTC. In a night that sets the clock the rules of Debian's cron hold (see cronsim)."""
    try:
        for time in CronSim(schedule.cron, after.astimezone(ZoneInfo(schedule.timezone))):
            yield time.astimezone(UTC)
    except CronSimError:
        return  # an expression that no date fits, such as 30 February


async def keep_schedules(bus: EventBus, schedules: Mapping[str, Schedule]) -> None:
    """Hand over the next occurrences of every schedule, for ever."""
    while True:
        for name, schedule in schedules.items():
            if schedule.enabled:
                await hand_over(bus, name, schedule, datetime.now(UTC))
        await asyncio.sleep(LOOK_SECONDS)


async def hand_over(bus: EventBus, name: str, schedule: Schedule, now: datetime) -> None:
    """Publish the next occurrences, and all within the time until the next look, each under a key of its own."""
    for number, time in enumerate(islice(occurrences(schedule, now), 10 * int(LOOK_SECONDS))):
        if number >= AHEAD and time > now + timedelta(seconds=2 * LOOK_SECONDS):
            return
        key = f"schedule:{name}:{time:%Y-%m-%dT%H:%M:%SZ}"
        try:
            await bus.publish(schedule.event(time=time, source=f"/schedules/{name}", idempotency_key=key), at=time)
        except Conflict:
            _log.debug("another worker has handed it over with other data", schedule=name, time=time.isoformat())
        except EventBusError as error:
            _log.warning("a schedule waits for Redis", schedule=name, error=str(error))
            return

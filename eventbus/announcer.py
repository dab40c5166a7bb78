"""Tells the bus about itself: deliveries that fail, dead letters and gaps become events.

A dead letter is announced from where it lies, not from the hands of who buried it: whoever dies on the way, the next
upkeep of any worker goes on where the last announcement ended. The idempotency key makes a repeat harmless.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from eventbus.audit import Gap
from eventbus.codec import id_of
from eventbus.errors import Conflict, EventBusError
from eventbus.payload import Payload
from eventbus.redis.history import DeadEntry, History
from eventbus.redis.shard import Taken
from eventbus.subscription import is_quiet
from eventbus.topics.delivery import DeliveryDeadLettered, DeliveryFailing, DeliveryGapFound

_log = structlog.get_logger("eventbus")

Publish = Callable[..., Awaitable[Any]]


class Announcer:
    """Publishes what the bus has to say. Announcements about announcements would never end: there are none."""

    def __init__(self, history: History, publish: Publish) -> None:
        self._history = history
        self._publish = publish

    async def dead(self, group: str) -> None:
        """Announce the dead letters of a group that were not announced yet. A Redis that is away is for next time."""
        try:
            while letters := await self._history.untold(group):
                for letter in letters:
                    if not is_quiet(letter.topic):
                        await self._tell(_notice(group, letter), f"dead:{group}:{letter.dead_id}")
                await self._history.told(group, letters[-1].dead_id)
        except EventBusError as error:
            _log.warning("dead letters will be announced later", group=group, error=str(error))

    async def failing(self, group: str, taken: Taken, error: str, again: timedelta) -> None:
        """Announce that a delivery failed often, and is tried again after this. A Redis that is away is not told."""
        if is_quiet(taken.topic):
            return
        notice = DeliveryFailing(
            group=group,
            event_id=id_of(taken.wire, taken.entry_id),
            event_topic=taken.topic,
            error=error,
            attempts=taken.attempt,
            next_attempt=datetime.now(UTC) + again,
        )
        try:
            await self._tell(notice, f"failing:{group}:{taken.entry_id}")
        except EventBusError as failure:
            _log.warning("not announced that a delivery fails", group=group, topic=taken.topic, error=str(failure))

    async def gap(self, gap: Gap) -> None:
        """Announce a gap; several workers that find the same one announce it once."""
        notice = DeliveryGapFound(
            kind=gap.kind, group=gap.group, first=gap.first, last=gap.last, count=gap.count, text=gap.text
        )
        await self._tell(notice, f"gap:{gap.kind}:{gap.group}:{gap.count}:{gap.first}")

    async def _tell(self, notice: Payload, key: str) -> None:
        try:
            await self._publish(notice, source="/eventbus", idempotency_key=key)
        except Conflict:
            return  # announced before, when it looked a little different


def _notice(group: str, letter: DeadEntry) -> DeliveryDeadLettered:
    return DeliveryDeadLettered(
        group=group,
        event_id=id_of(letter.wire, letter.entry_id),
        event_topic=letter.topic,
        reason=letter.reason,
        error=letter.error,
        attempts=letter.attempts,
    )

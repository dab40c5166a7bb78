"""What has to be done now and then, by every worker, with no leader: beat, take back from the dead, trim.

Each step is one script, safe to run anywhere at any time; so nobody watches the watcher. Each interval has jitter.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import structlog

from eventbus.ending import end
from eventbus.errors import EventBusError
from eventbus.redis.shard import Buried, MissingGroup, Shard
from eventbus.subscription import Subscription

TRIM_SECONDS = 60.0

_log = structlog.get_logger("eventbus.upkeep")

OnPoison = Callable[[Subscription, Buried], Awaitable[None]]


class Upkeep:
    """The periodic work of one process for the subscriptions it serves."""

    def __init__(
        self,
        shard: Shard,
        consumer: str,
        subscriptions: Callable[[], Iterable[Subscription]],
        *,
        lease: timedelta,
        sweep_every: timedelta,
        retention: timedelta,
        on_poison: OnPoison,
    ) -> None:
        self._shard = shard
        self._consumer = consumer
        self._subscriptions = subscriptions
        self._lease = lease
        self._sweep_every = sweep_every.total_seconds()
        self._retention = retention
        self._on_poison = on_poison
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        third = self._lease.total_seconds() / 3
        for name, every, step in (
            ("beat", third, self._beat),
            ("sweep", self._sweep_every, self._sweep),
            ("trim", TRIM_SECONDS, self._trim),
        ):
            self._tasks.append(asyncio.create_task(_each(every, step, name), name=f"upkeep {name}"))

    async def stop(self) -> None:
        """End it, and say good-bye so that nobody waits for our lease."""
        await end(self._tasks)
        self._tasks.clear()
        try:
            async with asyncio.timeout(1):
                await self._shard.beat(self._consumer, timedelta())
        except (EventBusError, TimeoutError):
            _log.debug("Redis is away; the lease will run out")

    async def _beat(self) -> None:
        await self._shard.beat(self._consumer, self._lease)

    async def _sweep(self) -> None:
        for subscription in list(self._subscriptions()):
            if subscription.group is None:
                continue
            options = subscription.options
            try:
                back, _, buried = await self._shard.sweep(subscription.group, poison_limit=options.poison_limit)
            except MissingGroup:
                continue  # its consumer declares it again
            if back:
                _log.warning("took over from a dead worker", group=subscription.group, deliveries=back)
            for one in buried:
                _log.error("dead letter", group=subscription.group, topic=one.topic, reason="poison")
                await self._on_poison(subscription, one)

    async def _trim(self) -> None:
        if await self._shard.trim(self._retention) < 0:
            _log.error("nothing is trimmed: a declared group has no place in the log")


async def _each(seconds: float, step: Callable[[], Awaitable[None]], name: str) -> None:
    failed = False
    while True:
        try:
            await step()
            failed = False
        except EventBusError as error:
            if not failed:
                _log.warning("upkeep has to wait", step=name, error=str(error))
            failed = True
        await asyncio.sleep(seconds * random.uniform(0.75, 1.0))  # noqa: S311  jitter, not a secret

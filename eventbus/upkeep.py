"""What has to be done now and then, by every worker, with no leader: beat, take back from the dead, mend lanes, trim,
promote what is due, check the books.

Each step is one script, safe to run anywhere at any time; so nobody watches the watcher. Each interval has jitter.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from eventbus.announcer import Announcer
from eventbus.audit import Gap
from eventbus.auditor import Auditor
from eventbus.ending import end
from eventbus.errors import EventBusError
from eventbus.failpoint import failpoint
from eventbus.redis.history import History
from eventbus.redis.shard import MissingGroup, Shard
from eventbus.subscription import Subscription

TRIM_SECONDS = 60.0
AUDIT_SECONDS = 30.0
TRIM_BATCH = 1_000
PROMOTE_SECONDS = 1.0
PROMOTE_BATCH = 100

_log = structlog.get_logger("eventbus.upkeep")


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of what is finished stays for replay: so long, and at most so many events."""

    time: timedelta
    events: int


class Upkeep:
    """The periodic work of one process for the subscriptions it serves."""

    def __init__(
        self,
        shard: Shard,
        history: History,
        consumers: Callable[[], Sequence[str]],
        subscriptions: Callable[[], Iterable[Subscription]],
        *,
        lease: timedelta,
        sweep_every: timedelta,
        keep: Keep,
        announcer: Announcer,
        auditor: Auditor,
        found: Callable[[Gap], None],
    ) -> None:
        self._shard = shard
        self._history = history
        self._consumers = consumers
        self._subscriptions = subscriptions
        self._lease = lease
        self._sweep_every = sweep_every.total_seconds()
        self._keep = keep
        self._announcer = announcer
        self._auditor = auditor
        self._found = found
        self._known: set[tuple[str, str | None, int]] = set()
        self._soon = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        third = self._lease.total_seconds() / 3
        for name, every, step, alarm in (
            ("beat", third, self._beat, None),
            ("sweep", self._sweep_every, self._sweep, None),
            ("trim", TRIM_SECONDS, self._trim, None),
            ("audit", AUDIT_SECONDS, self._audit, self._auditor.witness.alarm),
        ):
            self._tasks.append(asyncio.create_task(_each(every, step, name, alarm), name=f"upkeep {name}"))
        self._tasks.append(asyncio.create_task(self._promote(), name="upkeep promote"))

    def something_is_later(self) -> None:
        """An event was scheduled: look when it is due."""
        self._soon.set()

    async def stop(self) -> None:
        """End it."""
        await end(self._tasks)
        self._tasks.clear()

    async def _beat(self) -> None:
        if consumers := self._consumers():
            await self._shard.beat(consumers, self._lease)

    async def _sweep(self) -> None:
        for subscription in list(self._subscriptions()):
            if subscription.group is None:
                continue
            try:
                await self._sweep_group(subscription.group, subscription.options.poison_limit)
                await self._mend(subscription.group)
            except MissingGroup:
                continue  # its consumer declares it again
            await self._announcer.dead(subscription.group)

    async def _sweep_group(self, group: str, poison_limit: int) -> None:
        """In small steps, so that no script is long."""
        taken_back = dead = 0
        while True:
            failpoint("upkeep.before_sweep")
            back, reaped, buried = await self._shard.sweep(group, poison_limit=poison_limit, awake=self._consumers())
            failpoint("upkeep.after_sweep")
            taken_back, dead = taken_back + back, dead + buried
            if not (back or reaped or buried):
                break
        if taken_back:
            _log.warning("took over from a dead worker", group=group, deliveries=taken_back)
        if dead:
            _log.error("dead letters: their process died", group=group, count=dead)

    async def _mend(self, group: str) -> None:
        if moved := await self._history.mend(group):
            _log.warning("deliveries waited for nobody; they go on", group=group, deliveries=moved)

    async def _trim(self) -> None:
        forgotten = TRIM_BATCH
        while forgotten > TRIM_BATCH / 2:  # whole nodes of the stream go, so it is seldom exactly as many as asked for
            failpoint("upkeep.before_trim")
            forgotten = await self._history.trim(self._keep.time, keep=self._keep.events, most=TRIM_BATCH)
            failpoint("upkeep.after_trim")
        if forgotten < 0:
            _log.error("nothing is trimmed: a declared group has no place in the log")

    async def _audit(self) -> None:
        found = await self._auditor.look(list(await self._shard.declared()), closes=True)
        for gap in found:
            if gap.name not in self._known:
                _log.critical("gap", kind=gap.kind, group=gap.group, first=gap.first, last=gap.last, text=gap.text)
                self._found(gap)
                await self._announcer.gap(gap)
        self._known = {gap.name for gap in found}

    async def _promote(self) -> None:
        """Append what is due, as long as there is some; then sleep until the next one or the next scheduling."""
        while True:
            seconds = PROMOTE_SECONDS
            self._soon.clear()
            try:
                failpoint("upkeep.before_promote")
                count, due_ms = await self._shard.promote(PROMOTE_BATCH)
                failpoint("upkeep.after_promote")
            except EventBusError as error:
                _log.debug("scheduled events wait", error=str(error))
            else:
                if count == PROMOTE_BATCH:
                    continue
                if due_ms is not None:
                    seconds = min(seconds, due_ms / 1000 + 0.001)
            await _rest(seconds, self._soon)


async def _each(seconds: float, step: Callable[[], Awaitable[None]], name: str, alarm: asyncio.Event | None) -> None:
    failed = False
    alarm = alarm or asyncio.Event()
    while True:
        alarm.clear()
        try:
            await step()
            failed = False
        except EventBusError as error:
            if not failed:
                _log.warning("upkeep has to wait", step=name, error=str(error))
            failed = True
        await _rest(seconds * random.uniform(0.75, 1.0), alarm)  # noqa: S311  jitter, not a secret


async def _rest(seconds: float, alarm: asyncio.Event) -> None:
    """Until the time is over or somebody sounds the alarm."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await alarm.wait()

"""EventBus: what a user meets. Everything else in this package is behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args

import structlog

from eventbus import past
from eventbus.announcer import Announcer
from eventbus.audit import Gap
from eventbus.auditor import Auditor
from eventbus.backoff import RECONNECT
from eventbus.catalog import catalog
from eventbus.codec import decode
from eventbus.dead import DeadLetters
from eventbus.ending import end
from eventbus.errors import BacklogGrew, Conflict, EventBusError, Misconfigured, Unavailable, UnknownGroup
from eventbus.event import Event
from eventbus.gate import Gate
from eventbus.journal import Journal
from eventbus.ledger import KEEP, Ledger
from eventbus.live import Listening, LiveFeed
from eventbus.observer import Observer
from eventbus.past import Found
from eventbus.payload import Payload
from eventbus.publisher import Publisher, Receipt, due_at, letter, receipt
from eventbus.redis.confirm import Confirm, Durability
from eventbus.redis.connection import Connection
from eventbus.redis.history import Books, History
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Backlog, Letter, Shard
from eventbus.redis.table import Table
from eventbus.redis.whereabouts import Whereabouts, whereabouts
from eventbus.replay import Replayed, replay
from eventbus.serving import Serving
from eventbus.spool import MOST_BYTES
from eventbus.spooling import Outcome, Spools
from eventbus.subscription import Handler, Options, Start, Subscription, start_behind
from eventbus.trail import Trail
from eventbus.upkeep import Keep
from eventbus.witness import Witness

REMEMBER = timedelta(hours=24)
LEASE = timedelta(seconds=30)
SWEEP = timedelta(seconds=5)
RETENTION = timedelta(hours=24)
RETENTION_EVENTS = 1_000_000
PUBLISH_TIMEOUT = timedelta(seconds=5)
IDLE_POLL_SECONDS = 0.01
EVERYTHING = 10**9
"""More than any backlog: to retire a group whatever it has not handled, as what that is concerns nobody."""

_log = structlog.get_logger("eventbus")

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scheduled:
    """An event that waits for its time, by the server's clock."""

    due: datetime
    event: Event[Any]


class EventBus:
    """Publish typed events and subscribe to them.

    Open it with `EventBus.open(url)` in an `async with`. One bus may be shared by all tasks of its event loop.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        namespace: str = "eventbus",
        lease: timedelta = LEASE,
        sweep_every: timedelta = SWEEP,
        retention: timedelta = RETENTION,
        retention_events: int = RETENTION_EVENTS,
        publish_timeout: timedelta = PUBLISH_TIMEOUT,
        durability: Durability = "memory",
        replicas: int = 1,
        spool: Path | None = None,
        spool_bytes: int = MOST_BYTES,
        accept_unsafe: Collection[str] = (),
        ledger_keep: timedelta = KEEP,
        observer: Observer | None = None,
    ) -> None:
        keys = ShardKeys(namespace)
        self._connection = connection
        self._keys = keys
        self._shard = Shard(connection, keys)
        self._history = History(connection, keys)
        self._publisher = Publisher(self._shard, timeout=publish_timeout)
        self._observer = observer or Observer()
        self._live = LiveFeed(self._history, connection, keys.bell)
        self._subscriptions: dict[str, Subscription] = {}
        self._witness = Witness()
        self._auditor = Auditor(self._history, self._witness)
        self._serving = Serving(
            connection,
            self._shard,
            self._history,
            lease=lease,
            sweep_every=sweep_every,
            keep=Keep(retention, retention_events),
            observer=self._observer,
            announcer=Announcer(self._history, self.publish),
            auditor=self._auditor,
        )
        self._stop = asyncio.Event()
        self._accept_unsafe = accept_unsafe
        self._spool = spool
        self._spool_bytes = spool_bytes
        self._confirm = {level: Confirm(level, replicas, publish_timeout * 0.6) for level in get_args(Durability)}
        self._durability: Durability = durability
        self.ledger = Ledger(connection, keys, keep=ledger_keep)
        self.gate = Gate(connection, keys)
        self.trail = Trail(connection, keys, keep=ledger_keep)
        self.dead = DeadLetters(self._history, self._shard)
        self.journal = Journal(connection, keys)

    # -- life ------------------------------------------------------------------------------------------------------

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str = "embedded://./data", **options: Any) -> AsyncIterator[EventBus]:
        """Open the bus at an address: memory:// embedded://DIR redis:// rediss://, with +sentinel or +cluster.

        Options are those of the constructor. Raises Misconfigured when the address or the server can't work. A Redis
        that is away raises nothing here: publishing says so, and serving waits for it.
        """
        connection = await Connection.open(url)
        bus = cls(connection, **options)
        try:
            if bus._spool is not None:
                await bus._publisher.spool(bus._spool / bus._shard.keys.namespace, bus._confirm[bus._durability])
            if bus.spools is not None:
                bus.spools.limit(bus._spool_bytes)
            yield bus
        finally:
            await bus.close()

    async def check_server(self) -> float:
        """Make sure that Redis answers and can keep what the bus promises; returns the answer's time in ms.

        Raises Unavailable or Misconfigured, each with what to try.
        """
        latency = await self._shard.ping()
        await self._shard.check_server(self._accept_unsafe)
        return latency

    async def check_durability(self) -> None:
        """Make sure that Redis can confirm what `durability` asks for: it is tried, which may take two seconds.

        Raises Unavailable or Misconfigured.
        """
        await self._shard.check_durability(self._confirm[self._durability])

    async def until_ready(self) -> None:
        """Wait until Redis answers, with as many replicas as `durability` asks for.

        Raises Misconfigured when it can't keep what the bus promises.

        A program that serves or publishes for others calls it before it begins.
        """

        async def check() -> None:
            await self.check_server()
            await self.check_durability()

        await self._patiently(check)

    @property
    def spools(self) -> Spools | None:
        """What waits on this machine's disk until Redis takes it; None without a spool."""
        return self._publisher.spools

    @property
    def address(self) -> str:
        """Where this bus is, without a password."""
        return self._connection.address.text

    async def close(self, *, grace: timedelta = timedelta(seconds=5)) -> None:
        """Stop serving, send what is under way, let go of Redis."""
        await self._serving.end(grace)
        await self._live.close()
        await self._publisher.close()
        await self._connection.close()

    # -- publishing ------------------------------------------------------------------------------------------------

    async def publish(
        self,
        event: Event[Any] | Payload | str,
        data: Mapping[str, Any] | Payload | None = None,
        *,
        at: datetime | None = None,
        delay: timedelta | None = None,
        remember: timedelta = REMEMBER,
        durability: Durability | None = None,
        **envelope: Any,
    ) -> Receipt:
        """Publish a payload, a topic with data, or a ready Event. Returns when Redis has it.

        `envelope` takes fields of Event: key, idempotency_key, source, subject, correlation_id, ... The same
        idempotency key within `remember` stores one event. With `at` or `delay` it is kept until then, by the server's
        clock, and survives restarts; a worker must run at that time or later. `durability` is what has to confirm it:
        memory, aof or replica (default: the bus'). Raises InvalidEvent, Conflict, Full,
        Unavailable (surely not stored) or OutcomeUnknown (publish the same event again: it is stored once).
        """
        sent = letter(catalog.event(event, data, **envelope), remember, due_at(at, delay))
        confirm = self._confirm[durability or self._durability]
        (stored,) = await self._publisher.publish([sent], confirm)
        return self._receipt(sent, stored, confirm.level)

    async def publish_many(
        self,
        events: Iterable[Event[Any] | Payload],
        *,
        remember: timedelta = REMEMBER,
        durability: Durability | None = None,
        first_wins: bool = False,
    ) -> list[Receipt]:
        """Publish many, in order. All are checked before the first is sent; a Conflict is raised after the last.

        `first_wins`: there is no Conflict. What was published before under a key stays, in whatever words, also where
        it comes to that only when the spool is sent.
        """
        sent = [letter(catalog.event(event), remember, first_wins=first_wins) for event in events]
        if not sent:
            return []
        confirm = self._confirm[durability or self._durability]
        stored = await self._publisher.publish(sent, confirm)
        clashes = [one for one in stored if one.status == "conflict"]
        if len(clashes) > 1 and not first_wins:
            raise Conflict(
                f"{len(clashes)} of {len(sent)} idempotency keys were used for other events; the rest is stored"
            )
        return [self._receipt(one, done, confirm.level) for one, done in zip(sent, stored, strict=True)]

    def _receipt(self, sent: Letter, stored: Outcome, durability: Durability) -> Receipt:
        made = receipt(sent, stored, durability)
        self._witness.saw(made.sequence, made.entry_id)
        self._observer.published(made.topic, made.status)
        return made

    async def scheduled(self, most: int = 1000) -> list[Scheduled]:
        """What waits for its time, the next one first; at most so many."""
        rows = await self._history.scheduled(most)
        return [Scheduled(datetime.fromtimestamp(due / 1000, UTC), decode(topic, wire)) for due, topic, wire in rows]

    async def cancel(self, idempotency_key: str) -> bool:
        """Forget a scheduled event; False when nothing is scheduled under this key (any more).

        Raises Unavailable while it waits in the spool of this process: nothing but Redis can forget it.
        """
        if self.spools is not None and await asyncio.to_thread(self.spools.schedules, idempotency_key):
            raise Unavailable(
                f"the event under {idempotency_key!r} waits on this machine's disk until Redis takes it: "
                "nothing was cancelled; ask again when the spool is empty"
            )
        return await self._history.unschedule(idempotency_key)

    # -- subscribing -----------------------------------------------------------------------------------------------

    def on(self, *patterns: str, group: str | None = None, options: Options | None = None) -> Callable[[F], F]:
        """Decorator: subscribe a handler when the bus runs. Durable with a group, else live."""

        def subscribe(handler: F) -> F:
            self._add(Subscription.of(patterns, handler, group, options or Options()))
            return handler

        return subscribe

    async def subscribe(
        self,
        patterns: str | tuple[str, ...],
        handler: Handler,
        *,
        group: str | None = None,
        options: Options | None = None,
    ) -> str:
        """Subscribe a handler; returns an id for `unsubscribe`.

        Durable (with a group): declared in Redis now, so nothing from now on is missed; served while the bus runs.
        Live: called from now on, running or not.
        """
        subscription = Subscription.of(patterns, handler, group, options or Options())
        self._add(subscription)
        try:
            await self._begin(subscription)
        except EventBusError:
            del self._subscriptions[subscription.id]
            raise
        return subscription.id

    async def declare(self, group: str, patterns: tuple[str, ...], *, start: Start = "earliest") -> None:
        """Declare a durable group without serving it: what is published from now on waits for it.

        A Redis that is away is waited for.
        """
        checked = Subscription.of(patterns, lambda event: None, group, Options(start=start))
        await self._patiently(lambda: self._begin(checked))

    async def unsubscribe(self, subscription_id: str, *, grace: timedelta = timedelta(seconds=5)) -> None:
        """Stop calling the handler. A durable group stays declared: what it has not handled waits for its return.

        Raises KeyError for an unknown id, Misconfigured when the subscription's own handler asks: it would wait for
        itself.
        """
        if subscription_id not in self._subscriptions:
            raise KeyError(subscription_id)
        if self._serving.runs(subscription_id, asyncio.current_task()):
            raise Misconfigured("a handler can't unsubscribe itself: let a task of its own do it, or stop the bus")
        await self._serving.remove(subscription_id, grace)
        await self._live.remove(subscription_id)
        self._subscriptions.pop(subscription_id, None)  # not before: until then the group has its handler

    def listen(self, *patterns: str) -> Listening:
        """A live feed of events published from now on; without a pattern, of all.

        `async for event in bus.listen("vm.*"): ...`, or `async with bus.listen("vm.*") as events:` where it matters
        that listening has begun before the next line.
        """
        return Listening(self._live, Subscription.of(patterns or (">",), lambda event: None, None, Options()))

    def _add(self, subscription: Subscription) -> None:
        group = subscription.group
        if group is not None and any(s.group == group for s in self._subscriptions.values()):
            raise Misconfigured(f"group {group} has a handler in this process already: one handler per group")
        self._subscriptions[subscription.id] = subscription

    async def _begin(self, subscription: Subscription) -> None:
        if subscription.group is None:
            await self._live.serve(subscription)
            return
        options = subscription.options
        await self._shard.declare(subscription.group, subscription.patterns, behind=start_behind(options.start))
        if self._serving.is_on and subscription.id in self._subscriptions:  # `declare` begins what nobody serves here
            self._serving.add(subscription)

    # -- serving ---------------------------------------------------------------------------------------------------

    async def run(self, *, grace: timedelta = timedelta(seconds=25)) -> None:
        """Serve all subscriptions until `stop` is called or this is cancelled; then finish or hand back.

        A Redis that is away at the start is waited for.
        """
        starting = asyncio.create_task(self._start_serving(), name="start of serving")
        ends = {asyncio.create_task(event.wait()) for event in (self._stop, self._serving.broken)}
        try:
            done, _ = await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if starting in done:
                starting.result()
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end([starting, *ends])
            await self._serving.end(grace)
            self._stop.clear()
        self._serving.raise_fault()

    def stop(self) -> None:
        """Make `run` end, also one that only begins."""
        self._stop.set()

    async def run_until_idle(self, *, timeout: timedelta = timedelta(seconds=60)) -> None:
        """Serve until nothing is left to do in the groups subscribed here, retries included. For scripts and tests.

        Raises TimeoutError when that takes longer than `timeout`.
        """
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self._start_serving()
                while not (await self._patiently(self._is_idle) or self._serving.broken.is_set()):  # noqa: ASYNC110  it is Redis' state
                    await asyncio.sleep(IDLE_POLL_SECONDS)
        finally:
            await self._serving.end(timedelta(seconds=5))
            self._stop.clear()
        self._serving.raise_fault()

    async def backlog(self, group: str) -> Backlog | None:
        """How a durable group stands; None when it was never declared."""
        return await self._shard.backlog(group)

    async def groups(self) -> dict[str, list[str]]:
        """Every declared durable group and its patterns."""
        return await self._shard.declared()

    def table(self, name: str) -> Table:
        """A small durable table of JSON values, and of numbers, under this name."""
        return Table(self._connection, self._shard.keys, name, keep=self.ledger.keep)

    async def _is_idle(self) -> bool:
        """Whether nothing is left. What is in hand, or was, may publish: the log must not grow while this looks."""
        if self._serving.holds:
            return False
        before, _ = await self._history.now()
        for subscription in self._subscriptions.values():
            if subscription.group is None:
                continue
            backlog = await self._shard.backlog(subscription.group)
            if backlog is None or not backlog.is_empty:
                return False
        after, _ = await self._history.now()
        return (after, self._serving.holds) == (before, 0)

    async def _start_serving(self) -> None:
        await self._serving.begin()
        for subscription in list(self._subscriptions.values()):
            await self._patiently(lambda s=subscription: self._begin(s))  # type: ignore[misc]

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        attempt = 0
        while True:
            try:
                return await call()
            except Unavailable as error:
                attempt += 1
                if attempt == 1:
                    _log.warning("waiting for Redis", error=str(error))
                await asyncio.sleep(RECONNECT.delay(attempt).total_seconds())

    # -- looking after groups and history --------------------------------------------------------------------------

    def past(self, *, since: datetime, until: datetime | None = None) -> AsyncIterator[Event[Any]]:
        """The events of the log that were stored in this time by Redis' clock, oldest first; see `eventbus.past`."""
        return past.events(self._history, since, until)

    async def find(self, event_id: str) -> Found | None:
        """The event with this id and its place; None when the log does not hold it (any more)."""
        return await past.find(self._history, event_id)

    async def whereabouts(self, group: str, entry_id: str) -> Whereabouts | None:
        """How far a group is with an entry of the log; None when there is no such group."""
        return await whereabouts(self._connection, self._keys, group, entry_id)

    async def replay(
        self,
        group: str,
        *,
        since: datetime,
        until: datetime | None = None,
        patterns: Sequence[str] | None = None,
        rate: float | None = None,
        dry_run: bool = False,
        progress: Callable[[Replayed], object] | None = None,
    ) -> Replayed:
        """Give a group again what it has finished: events stored from `since` on and before `until`, by Redis' clock.

        They come after what waits, in their order, at most `rate` a second, to this group alone. `patterns` are the
        group's own unless others are given. What the group has not finished is left out, as it comes anyway; so are
        copies of an earlier replay or redrive. Their ids are the same: an action the ledger has as done is not done
        again. A replay that was broken off and is begun anew copies again.

        A dry run changes nothing and counts; it can't leave out what the group holds unfinished just now. `progress`
        is called after each page. Raises UnknownGroup, Full, or Unavailable when Redis stays away.
        """
        declared = await self._shard.declared()
        if group not in declared:
            raise _unknown(group, declared)
        wanted = declared[group] if patterns is None else patterns
        return await replay(
            self._history, group, wanted, since=since, until=until, rate=rate, dry_run=dry_run, progress=progress
        )

    async def retire(self, group: str, shown: int) -> int:
        """Forget a group and what it has not handled: at most `shown` deliveries. Returns how many those were.

        Its dead letters stay until they are dropped. A process that serves it declares it again: stop that first.
        Raises UnknownGroup, or BacklogGrew when more is not handled: then nothing was changed.
        """
        done, backlog = await self._history.retire(group, shown)
        if done is None:
            raise _unknown(group, await self._shard.declared())
        if not done:
            raise BacklogGrew(
                f"group {group} has {backlog:,} deliveries that are not handled, not {shown:,}: nothing was retired",
                backlog,
            )
        return backlog

    # -- the books -------------------------------------------------------------------------------------------------

    async def audit(self) -> list[Gap]:
        """What does not add up in the books of the log; empty when every event is accounted for.

        Every process that serves does this by itself, logs what it finds and publishes `delivery.gap_found`.
        """
        return await self._auditor.look(list(await self._shard.declared()))

    async def books(self) -> Books:
        """The counters behind `audit`: of the log, and of every declared group."""
        return await self._history.books(list(await self._shard.declared()))

    async def accept(self, gap: Gap) -> None:
        """Take note of a gap: from now on the books add up without it. Accepting it twice would be a new gap."""
        await self._history.accept(gap.kind, gap.group, gap.count)
        self._auditor.accept(gap)


def _unknown(group: str, declared: Iterable[str]) -> UnknownGroup:
    return UnknownGroup(f"no group {group!r} is declared; declared: {', '.join(declared) or 'none'}")

"""Live subscriptions: what is published from now on, in this process, while it listens.

The feed is Redis Pub/Sub, which may miss; the log does not. Messages carry the dense sequence number of their shard,
so a gap is seen at once and filled from the log as far as it still reaches. A subscriber that does not keep up loses
the oldest of its own queue, and is told how many.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import structlog

from eventbus.codec import decode
from eventbus.ending import end
from eventbus.errors import EventBusError
from eventbus.event import Event
from eventbus.pattern import matches_any
from eventbus.redis.history import History
from eventbus.redis.signals import Signals
from eventbus.subscription import Subscription

QUEUE = 1000
FILL = 1000

_log = structlog.get_logger("eventbus.live")


class Listener:
    """One live subscriber: an asynchronous iterator of events. `missed` counts what it was too slow for."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.patterns = patterns
        self.missed = 0
        self._waiting: deque[Event[Any]] = deque(maxlen=QUEUE)
        self._some = asyncio.Event()
        self._closed = False

    def put(self, event: Event[Any]) -> None:
        """Queue an event; the oldest goes when there is no room."""
        if len(self._waiting) == QUEUE:
            self.missed += 1
        self._waiting.append(event)
        self._some.set()

    def close(self) -> None:
        """End the iteration after what is queued."""
        self._closed = True
        self._some.set()

    def __aiter__(self) -> AsyncIterator[Event[Any]]:
        return self

    async def __anext__(self) -> Event[Any]:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._some.clear()
            await self._some.wait()
        return self._waiting.popleft()


class Listening:
    """What `EventBus.listen` gives: `async for event in bus.listen("vm.*")`, or `async with bus.listen(...) as events`
    where it matters that listening has begun before the next line."""

    def __init__(self, feed: LiveFeed, subscription: Subscription) -> None:
        self._feed = feed
        self._subscription = subscription

    async def __aenter__(self) -> Listener:
        return await self._feed.add(self._subscription.id, self._subscription.patterns)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._feed.remove(self._subscription.id)

    async def __aiter__(self) -> AsyncIterator[Event[Any]]:
        async with self as listener:
            async for event in listener:
                yield event


class LiveFeed:
    """Reads the live channel of a shard for all live subscribers of this process."""

    def __init__(self, history: History, signals: Signals | None = None) -> None:
        self._history = history
        self._signals = signals
        self._listeners: dict[str, Listener] = {}
        self._handlers: dict[str, asyncio.Task[None]] = {}
        self._last: tuple[str, int] | None = None

    def attach(self, signals: Signals) -> None:
        """Where the messages come from."""
        self._signals = signals

    async def add(self, name: str, patterns: tuple[str, ...]) -> Listener:
        """Listen from now on: what is published after this returns arrives (unless Redis is away)."""
        listener = self._listeners[name] = Listener(patterns)
        if self._signals is not None:
            await self._signals.start()
        return listener

    async def serve(self, subscription: Subscription) -> None:
        """Call a handler for each event; its errors are logged, nothing is tried again. Once is enough."""
        if subscription.id in self._handlers:
            return
        listener = await self.add(subscription.id, subscription.patterns)
        self._handlers[subscription.id] = asyncio.create_task(_serve(subscription, listener), name="live handler")

    async def remove(self, name: str) -> None:
        """Stop listening under this name."""
        listener = self._listeners.pop(name, None)
        if listener is not None:
            listener.close()
        task = self._handlers.pop(name, None)
        if task is not None:
            await end([task])

    async def close(self) -> None:
        """Stop listening altogether."""
        for name in list(self._listeners):
            await self.remove(name)
        if self._signals is not None:
            await self._signals.stop()

    async def heard(self, message: bytes) -> None:
        """One message of the live channel: events one after another, each `entry id, sequence, topic, length, wire`."""
        while message:
            place, number, name, length, rest = message.split(b" ", 4)
            wire, message = rest[: int(length)], rest[int(length) :]
            await self._one(place.decode(), int(number), name.decode(), wire)

    async def _one(self, entry_id: str, sequence: int, topic: str, wire: bytes) -> None:
        last = self._last
        if last is not None and sequence <= last[1] and not is_behind(last[0], entry_id):
            return  # filled from the log already
        if last is not None and sequence > last[1] + 1:
            await self._fill(last[0], entry_id, sequence - last[1] - 1)
        self._last = (entry_id, sequence)
        self._hand_out(topic, wire)

    async def _fill(self, after: str, before: str, count: int) -> None:
        """What the feed missed, from the log. Copies for one group are not for everybody."""
        if count > FILL:
            _log.warning("the live feed skips what it missed", missed=count - FILL)
        try:
            for entry in await self._history.between(f"({after}", f"({before}", most=FILL):
                if entry.group is None:
                    self._hand_out(entry.topic, entry.wire)
        except EventBusError as error:
            _log.warning("a gap in the live feed stays", error=str(error))

    def _hand_out(self, topic: str, wire: bytes) -> None:
        wanted = [listener for listener in self._listeners.values() if matches_any(listener.patterns, topic)]
        if not wanted:
            return
        try:
            event = decode(topic, wire)
        except EventBusError as error:
            _log.warning("not shown: unreadable event", topic=topic, error=str(error))
            return
        for listener in wanted:
            listener.put(event)


async def _serve(subscription: Subscription, listener: Listener) -> None:
    async for event in listener:
        try:
            await subscription.call(event)
        except Exception as error:  # noqa: BLE001  a live handler has nobody to answer to
            _log.error("live handler failed", topic=event.topic, error=f"{type(error).__name__}: {error}")


def is_behind(one: str, other: str) -> bool:
    """Whether an entry id was given out before another: the log went back to an earlier number since (a fail-over)."""
    return tuple(map(int, one.split("-"))) < tuple(map(int, other.split("-")))

"""Live subscriptions: what is published from now on, in this process, while it listens.

The feed follows the log; the doorbell only tells it when to look, and a slow poll stands behind the doorbell. So it
misses nothing while the log reaches back far enough, whatever Pub/Sub loses. A subscriber that does not keep up loses
the oldest of its own queue, and is told how many.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import structlog

from eventbus.codec import decode
from eventbus.ending import end
from eventbus.errors import EventBusError, Unavailable
from eventbus.event import Event
from eventbus.pattern import matches_any
from eventbus.redis.connection import Connection
from eventbus.redis.history import History
from eventbus.redis.signals import Signals
from eventbus.subscription import Subscription

QUEUE = 1000
PAGE = 200
POLL_SECONDS = 2.0
START_SECONDS = 5.0

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
    """Follows the log of a shard for all live subscribers of this process."""

    def __init__(self, history: History, connection: Connection, bell: str) -> None:
        self._history = history
        self._signals = Signals(connection, bell, self.heard, back=self.ring)
        self._listeners: dict[str, Listener] = {}
        self._handlers: dict[str, asyncio.Task[None]] = {}
        self._bell = asyncio.Event()
        self._ready = asyncio.Event()
        self._last = "0-0"
        self._follower: asyncio.Task[None] | None = None

    async def add(self, name: str, patterns: tuple[str, ...]) -> Listener:
        """Listen from now on: what is published after this returns arrives (unless Redis is away)."""
        if self._follower is None:
            self._follower = asyncio.create_task(self._follow(), name="live feed")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await self._ready.wait()
        listener = self._listeners[name] = Listener(patterns)
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
        if self._follower is not None:
            await end([self._follower])
            self._follower = None
            self._ready.clear()
        await self._signals.stop()

    def ring(self) -> None:
        """There may be something new."""
        self._bell.set()

    def heard(self, message: bytes) -> None:
        """The doorbell rang."""
        self._bell.set()

    async def _begin(self) -> None:
        """From now on: where the log ends, once the doorbell is sure to be heard."""
        await self._signals.start()
        while True:
            try:
                self._last = (await self._history.now())[0]
            except Unavailable as error:
                _log.debug("the live feed waits for Redis", error=str(error))
                await asyncio.sleep(POLL_SECONDS)
            else:
                return

    async def _follow(self) -> None:
        await self._begin()
        self._ready.set()
        while True:
            self._bell.clear()
            try:
                page = await self._history.between(f"({self._last}", most=PAGE)
            except EventBusError as error:
                _log.warning("the live feed waits for Redis", error=str(error))
                page = []
            for entry in page:
                self._last = entry.entry_id
                if entry.group is None:  # copies for one group are not for everybody
                    self._hand_out(entry.topic, entry.wire)
            if len(page) < PAGE:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._bell.wait()

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

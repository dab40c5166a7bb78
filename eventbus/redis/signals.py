"""Redis Pub/Sub: the doorbell of durable subscriptions and the feed of live ones.

Lossy by contract: a slow reader is disconnected by Redis, a broken connection misses what was said meanwhile. So a
doorbell only makes things faster (consumers also poll), and the live feed carries sequence numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import RedisError

from eventbus.ending import end
from eventbus.redis.connection import Connection

RECONNECT_SECONDS = 0.2
RECONNECT_MOST_SECONDS = 5.0

_log = structlog.get_logger("eventbus.signals")

Heard = Callable[[bytes], Awaitable[None]]


class Signals:
    """Listens on one channel for as long as it runs; reconnects for ever."""

    def __init__(self, connection: Connection, channel: str, heard: Heard, *, back: Callable[[], None]) -> None:
        self._connection = connection
        self._channel = channel
        self._heard = heard
        self._back = back  # called whenever listening begins: something may have been missed
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, timeout: float = 5.0) -> None:
        """Begin; returns when Redis has confirmed, or after `timeout` seconds when it is away: it keeps trying."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"signals {self._channel}")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._listening.wait(), timeout)

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            await end([self._task])
            self._task = None
            self._listening.clear()

    async def _run(self) -> None:
        wait = RECONNECT_SECONDS
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                self._listening.clear()
                _log.debug("not listening", channel=self._channel, error=type(error).__name__)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  jitter, not a secret
            wait = min(wait * 2, RECONNECT_MOST_SECONDS) if not self._listening.is_set() else RECONNECT_SECONDS

    async def _listen(self) -> None:
        async with self._connection.client.pubsub() as pubsub:
            await pubsub.subscribe(self._channel)
            while True:
                # Without a time limit redis-py would apply its socket time-out and take silence for a broken line.
                message = await pubsub.get_message(timeout=5.0)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    self._listening.set()
                    self._back()
                elif message["type"] == "message":
                    await self._heard(message["data"])

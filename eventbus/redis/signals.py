"""Redis Pub/Sub: the doorbell of durable subscriptions and the feed of live ones.

Lossy by contract: a slow reader is disconnected by Redis, a broken connection misses what was said meanwhile. So a
doorbell only makes things faster (consumers also poll), and the live feed carries sequence numbers. A line that died
without a word is noticed by a PING that nobody answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import structlog

from eventbus.ending import end
from eventbus.redis.connection import Connection

RECONNECT_SECONDS = 0.2
RECONNECT_MOST_SECONDS = 5.0
SILENCE_SECONDS = 5.0
"""After so long without a word the line is asked for a sign of life, and given up after as long again."""

_log = structlog.get_logger("eventbus.signals")

Heard = Callable[[bytes], None]


class Signals:
    """Listens on one channel for as long as it runs; reconnects for ever, whatever goes wrong."""

    def __init__(
        self,
        connection: Connection,
        channel: str,
        heard: Heard,
        *,
        back: Callable[[], None],
        lost: Callable[[], None] = lambda: None,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._heard = heard
        self._back = back  # called whenever listening begins: something may have been missed
        self._lost = lost  # called when it ended by itself
        self._silence = silence
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, *, timeout: float = 5.0) -> None:
        """Begin; returns when Redis has confirmed, or after `timeout` seconds when it is away: it keeps trying."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"signals {self._channel}")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._listening.wait(), timeout)

    @property
    def is_listening(self) -> bool:
        """Whether what is published now is heard, as far as is known."""
        return self._listening.is_set()

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
            except Exception as error:  # noqa: BLE001  whatever ended it, it has to begin again
                if self._listening.is_set():
                    wait = RECONNECT_SECONDS
                    self._lost()
                self._listening.clear()
                _log.debug("not listening", channel=self._channel, error=f"{type(error).__name__}: {error}"[:500])
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  jitter, not a secret
            wait = min(wait * 2, RECONNECT_MOST_SECONDS)

    async def _listen(self) -> None:
        await self._connection.listen(self._channel, began=self._begun, heard=self._told, silence=self._silence)

    def _begun(self) -> None:
        self._listening.set()
        self._back()

    def _told(self, data: bytes) -> None:
        try:
            self._heard(data)
        except Exception as error:  # noqa: BLE001  one bad message must not silence the next
            _log.exception("a signal was not understood", channel=self._channel, error=type(error).__name__)

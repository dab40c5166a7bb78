"""Publishing from code that has no event loop: a migration tool's hook, a script, a thread.

The same script, receipt and guarantees as `EventBus.publish`, and a bound on the time a call may take. Safe to share
between threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

from eventbus.backoff import RECONNECT
from eventbus.bus import REMEMBER
from eventbus.catalog import catalog
from eventbus.errors import Full, OutcomeUnknown, Unavailable
from eventbus.event import Event
from eventbus.payload import Payload
from eventbus.publisher import Receipt, due_at, gave_up, letter, receipt
from eventbus.redis.connection import SyncConnection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Letter, Stored, publish_call, schedule_call, stored


class SyncPublisher:
    """`with SyncPublisher("redis://localhost/0") as bus: bus.publish(VmCreated(...))`.

    `timeout` bounds one call of `publish`, its repeats included.
    """

    def __init__(self, url: str, *, timeout: timedelta = timedelta(seconds=2), namespace: str = "eventbus") -> None:
        self._timeout = timeout.total_seconds()
        self._connection = SyncConnection(url, timeout=self._timeout)
        self._keys = ShardKeys(namespace)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of Redis."""
        self._connection.close()

    def publish(
        self,
        event: Event[Any] | Payload | str,
        data: Mapping[str, Any] | Payload | None = None,
        *,
        at: datetime | None = None,
        delay: timedelta | None = None,
        remember: timedelta = REMEMBER,
        **envelope: Any,
    ) -> Receipt:
        """Publish one event, within `timeout`. Arguments, receipt and errors are those of `EventBus.publish`."""
        sent = letter(catalog.event(event, data, **envelope), remember, due_at(at, delay))
        return receipt(sent, self._persist(sent))

    def _persist(self, sent: Letter) -> Stored:
        deadline = time.monotonic() + self._timeout
        unsure, attempt = False, 0
        while True:
            attempt += 1
            try:
                return self._send(sent)
            except Full as error:
                if unsure:  # an earlier attempt may have stored it while there was room
                    raise gave_up(error, self._timeout, unsure=True) from error
                raise
            except Unavailable as error:
                unsure = unsure or isinstance(error, OutcomeUnknown)
                wait = RECONNECT.delay(attempt).total_seconds()
                # A request that starts now may take the whole time-out; half of it is left for the last one.
                if time.monotonic() + wait >= deadline - self._timeout / 2:
                    raise gave_up(error, self._timeout, unsure=unsure) from error
                time.sleep(wait)

    def _send(self, sent: Letter) -> Stored:
        if sent.due_ms:
            return stored(sent, self._connection.run("schedule", *schedule_call(self._keys, sent)))
        return stored(sent, self._connection.run("publish", *publish_call(self._keys, [sent]))[0])

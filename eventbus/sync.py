"""Publishing from code that has no event loop: a migration tool's hook, a script, a thread.

The same script, receipt and guarantees as `EventBus.publish`, and a bound on the time a call may take. Safe to share
between threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from eventbus.backoff import RECONNECT
from eventbus.bus import REMEMBER
from eventbus.catalog import catalog
from eventbus.errors import Full, OutcomeUnknown, Unavailable
from eventbus.event import Event
from eventbus.payload import Payload
from eventbus.publisher import Receipt, due_at, gave_up, letter, receipt
from eventbus.redis.confirm import Confirm, Durability
from eventbus.redis.connection import SyncConnection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Letter, Stored, publish_call, schedule_call, stored
from eventbus.spooling import SyncSpooling


class SyncPublisher:
    """`with SyncPublisher("redis://localhost/0") as bus: bus.publish(VmCreated(...))`.

    `timeout` bounds one call of `publish`, its repeats included. With `spool`, a directory, an event that Redis does
    not take in this time is kept there and sent by a later publish or by the next process that opens the directory.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: timedelta = timedelta(seconds=2),
        namespace: str = "eventbus",
        durability: Durability = "memory",
        replicas: int = 1,
        spool: Path | None = None,
    ) -> None:
        self._timeout = timeout.total_seconds()
        self._connection = SyncConnection(url, timeout=self._timeout)
        self._keys = ShardKeys(namespace)
        self._confirm = Confirm(durability, replicas, timeout * 0.6)
        self._spooling: SyncSpooling | None = None
        if spool is not None:
            self._spooling = SyncSpooling(self._send, spool / namespace, seconds=self._timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of Redis. What is spooled stays on the disk."""
        if self._spooling is not None:
            self._spooling.close()
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
        persist = self._send if self._spooling is None else self._spooling.publish
        return receipt(sent, persist([sent])[0], self._confirm.level)

    def _send(self, letters: Sequence[Letter]) -> list[Stored]:
        return [self._in_time(one) for one in letters]

    def _in_time(self, sent: Letter) -> Stored:
        """`_insist`, given up after the time-out.

        In a thread: redis-py bounds each answer, but connecting takes several, and finding a host any time. What is
        given up ends by itself; a connection it made is there for the next call.
        """
        answer: Future[Stored] = Future()

        def insist() -> None:
            try:
                answer.set_result(self._insist(sent))
            except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
                answer.set_exception(error)

        threading.Thread(target=insist, name="publish", daemon=True).start()
        try:
            return answer.result(self._timeout)
        except TimeoutError as error:
            raise gave_up(error, self._timeout, unsure=True) from error

    def _insist(self, sent: Letter) -> Stored:
        deadline = time.monotonic() + self._timeout
        unsure, attempt = False, 0
        while True:
            attempt += 1
            try:
                return self._store(sent)
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

    def _store(self, sent: Letter) -> Stored:
        run, confirm = self._connection.run_confirmed, self._confirm
        if sent.due_ms:
            return stored(sent, run("schedule", *schedule_call(self._keys, sent), confirm))
        call = publish_call(self._keys, [sent], touch=confirm.level != "memory")
        return stored(sent, run("publish", *call, confirm)[0])

"""From an event to a receipt: asynchronous, coalescing, and safe to repeat.

Publishes that are under way at the same time share one round trip, in the order they were asked for. A publish whose
answer is lost is repeated: the idempotency key makes that safe. Nothing is reported as stored that Redis did not
confirm.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from eventbus.backoff import RECONNECT
from eventbus.codec import encode, fingerprint
from eventbus.errors import Conflict, Full, OutcomeUnknown, Unavailable
from eventbus.event import Event
from eventbus.redis.shard import Letter, Shard, Stored

BATCH = 200
BATCH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Receipt:
    """Redis has the event.

    event_id  the stored event's id; for a duplicate the id of the first one
    status    stored now, or a duplicate of what was stored before under the same idempotency key
    sequence  its number in the shard, without gaps
    entry_id  its place in the log
    """

    event_id: str
    topic: str
    status: Literal["stored", "duplicate"]
    sequence: int
    entry_id: str


def letter(event: Event[Any], remember: timedelta) -> Letter:
    """The event ready to be appended. Raises InvalidEvent when it can't be written."""
    wire = encode(event)
    return Letter(
        event.topic,
        event.key,
        event.id,
        event.idempotency_key,
        fingerprint(event),
        max(1, int(remember.total_seconds() * 1000)),
        wire,
    )


def receipt(sent: Letter, stored: Stored) -> Receipt:
    """What the publisher is told. Raises Conflict."""
    if stored.status == "conflict":
        raise Conflict(
            f"{sent.topic}: idempotency key {sent.idempotency_key!r} was used for event {stored.event_id}, "
            "which says something else: use another key, or publish what was published"
        )
    return Receipt(stored.event_id, sent.topic, stored.status, stored.sequence, stored.entry_id)


def gave_up(error: Exception, seconds: float, *, unsure: bool) -> Unavailable:
    """What the publisher is told when its time is up. `unsure`: some attempt may have been carried out."""
    said = str(error) or "no answer"
    if unsure:
        return OutcomeUnknown(
            f"no confirmation within {seconds:g} s: {said}. The event may be stored: "
            "publish the same event again, it is stored once"
        )
    return Unavailable(f"not stored within {seconds:g} s: {said}")


class Publisher:
    """Collects letters and appends them in batches. One round trip is under way at a time, which keeps the order."""

    def __init__(self, shard: Shard, *, timeout: timedelta) -> None:
        self._shard = shard
        self._timeout = timeout.total_seconds()
        self._waiting: deque[tuple[Letter, asyncio.Future[Stored]]] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def publish(self, letters: Sequence[Letter]) -> list[Stored]:
        """Append the letters, in order. Raises Full, Unavailable (surely nothing stored) or OutcomeUnknown."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in letters]
        self._waiting.extend(zip(letters, futures, strict=True))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send(), name="publisher")
        if len(futures) == 1:
            return [await futures[0]]
        try:
            # Without the shield the first failure would cancel the rest, which are still under way.
            return list(await asyncio.gather(*map(asyncio.shield, futures)))
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()  # what has not left is not sent; what has may be stored
            raise

    async def flush(self) -> None:
        """Wait until nothing is under way."""
        while self._sending is not None:
            await asyncio.wait([self._sending])

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch = self._next_batch()
                try:
                    stored = await self._persist([one for one, _ in batch]) if batch else []
                except Exception as error:  # noqa: BLE001  whatever it is, it is each caller's answer
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                            future.exception()  # a caller that was cancelled no longer looks
                else:
                    for (_, future), one in zip(batch, stored, strict=True):
                        if not future.done():
                            future.set_result(one)
        finally:
            self._sending = None

    def _next_batch(self) -> list[tuple[Letter, asyncio.Future[Stored]]]:
        batch: list[tuple[Letter, asyncio.Future[Stored]]] = []
        size = 0
        while self._waiting and len(batch) < BATCH and size < BATCH_BYTES:
            one = self._waiting.popleft()
            if not one[1].cancelled():
                size += len(one[0].wire)
                batch.append(one)
        return batch

    async def _persist(self, letters: Sequence[Letter]) -> list[Stored]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        unsure, attempt = False, 0
        while True:
            attempt += 1
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._shard.publish(letters)
            except Full:
                raise
            except (Unavailable, TimeoutError) as error:
                unsure = unsure or isinstance(error, OutcomeUnknown | TimeoutError)
                wait = RECONNECT.delay(attempt).total_seconds()
                if loop.time() + wait >= deadline:
                    raise gave_up(error, self._timeout, unsure=unsure) from error
            await asyncio.sleep(wait)

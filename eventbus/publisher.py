"""From an event to a receipt: asynchronous, coalescing, and safe to repeat.

Publishes that are under way at the same time share one round trip, in the order they were asked for. A publish whose
answer is lost is repeated: the idempotency key makes that safe. Nothing is reported as stored that Redis did not
confirm.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
    """The event is safe.

    event_id  the stored event's id; for a duplicate the id of the first one
    status    stored now, scheduled for later, or a duplicate of what was published before under the same idempotency key
    sequence  its number in the shard, without gaps; 0 while it is scheduled
    entry_id  its place in the log; `~` while it is scheduled
    """

    event_id: str
    topic: str
    status: Literal["stored", "scheduled", "duplicate"]
    sequence: int
    entry_id: str


def letter(event: Event[Any], remember: timedelta, due: datetime | None = None) -> Letter:
    """The event ready to be appended. Raises InvalidEvent when it can't be written."""
    wire = encode(event)
    return Letter(
        event.topic,
        event.key,
        event.id,
        event.idempotency_key,
        fingerprint(wire),
        max(1, int(remember.total_seconds() * 1000)),
        wire,
        0 if due is None else round(due.timestamp() * 1000),
    )


def due_at(at: datetime | None, delay: timedelta | None) -> datetime | None:
    """When an event is due, or None for at once. Raises TypeError for both or a naive time.

    A delay counts from this machine's clock, as `at` does; whether the time has come is decided by the server's.
    """
    if at is not None and delay is not None:
        raise TypeError("give at or delay, not both")
    if at is not None and at.tzinfo is None:
        raise TypeError("at needs a time zone, such as datetime.now(UTC) + timedelta(hours=1)")
    return at if delay is None else datetime.now(UTC) + delay


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


class _Order:
    """What one call asked to be appended, and its answer."""

    __slots__ = ("answer", "letters", "size")

    def __init__(self, letters: Sequence[Letter], answer: asyncio.Future[list[Stored]]) -> None:
        self.letters = letters
        self.answer = answer
        self.size = sum(len(letter.wire) for letter in letters)


class Publisher:
    """Collects letters and appends them in batches. One round trip is under way at a time, which keeps the order."""

    def __init__(self, shard: Shard, *, timeout: timedelta) -> None:
        self._shard = shard
        self._timeout = timeout.total_seconds()
        self._waiting: deque[_Order] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def publish(self, letters: Sequence[Letter]) -> list[Stored]:
        """Append the letters, in order. Raises Full, Unavailable (surely not stored) or OutcomeUnknown.

        More than a batch goes in several steps: an error says how many of the letters were stored before it.
        """
        if len(letters) <= BATCH:
            return await self._order(letters)
        stored: list[Stored] = []
        try:
            for part in _parts(letters):
                stored += await self._order(part)
        except (Unavailable, Full) as error:
            if not stored:
                raise
            raise type(error)(f"{len(stored):,} of {len(letters):,} events are stored, then: {error}") from error
        return stored

    def _order(self, letters: Sequence[Letter]) -> asyncio.Future[list[Stored]]:
        answer: asyncio.Future[list[Stored]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Order(letters, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send(), name="publisher")
        return answer

    async def flush(self) -> None:
        """Wait until nothing is under way."""
        while self._sending is not None:
            await asyncio.wait([self._sending])

    async def _send(self) -> None:
        try:
            while self._waiting:
                orders = self._next_orders()
                try:
                    stored = await self._persist([one for order in orders for one in order.letters]) if orders else []
                except Exception as error:  # noqa: BLE001  whatever it is, it is each caller's answer
                    for order in orders:
                        if not order.answer.done():
                            order.answer.set_exception(error)
                            order.answer.exception()  # a caller that was cancelled no longer looks
                else:
                    at = 0
                    for order in orders:
                        if not order.answer.done():
                            order.answer.set_result(stored[at : at + len(order.letters)])
                        at += len(order.letters)
        finally:
            self._sending = None

    def _next_orders(self) -> list[_Order]:
        orders: list[_Order] = []
        count = size = 0
        while self._waiting and count < BATCH and size < BATCH_BYTES:
            order = self._waiting[0]
            if orders and count + len(order.letters) > BATCH:
                break
            self._waiting.popleft()
            if not order.answer.cancelled():  # what has not left is not sent; what has may be stored
                orders.append(order)
                count += len(order.letters)
                size += order.size
        return orders

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


def _parts(letters: Sequence[Letter]) -> Iterator[Sequence[Letter]]:
    """Batches of at most BATCH letters and about BATCH_BYTES bytes."""
    part: list[Letter] = []
    size = 0
    for one in letters:
        if len(part) == BATCH or size >= BATCH_BYTES:
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one.wire)
    yield part

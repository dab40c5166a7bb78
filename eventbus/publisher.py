"""From an event to a receipt: asynchronous, coalescing, and safe to repeat.

Publishes that are under way at the same time share one round trip, in the order they were asked for. A publish whose
answer is lost is repeated: the idempotency key makes that safe. Nothing is reported as stored that Redis did not
confirm.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

from eventbus.backoff import RECONNECT
from eventbus.codec import encode, fingerprint
from eventbus.errors import Conflict, Full, OutcomeUnknown, Unavailable
from eventbus.event import Event
from eventbus.failpoint import failpoint
from eventbus.redis.confirm import Confirm, Durability
from eventbus.redis.shard import IN_MEMORY, Letter, Shard, Stored
from eventbus.spooling import Outcome, Spooling, Spools

T = TypeVar("T")

BATCH = 200
SHARED = BATCH // 2  # of publishes under way at the same time: while Redis works on one half, the other is made
ENOUGH = SHARED // 2  # so many need not wait for more
BATCH_BYTES = 1024 * 1024
SHORTEST_SECONDS = 0.25
"""Less is no time for another attempt: one that is cut off says less of what became of it than the one before."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The event is safe.

    event_id  the stored event's id; for a duplicate the id of the first one
    status    stored now, scheduled for later, spooled on this machine's disk until Redis takes it, or a duplicate of
              what was published before under the same key
    sequence  its number in the shard, without gaps; 0 while it is scheduled or spooled
    entry_id  its place in the log; `~` while it is scheduled or spooled
    durability  what has confirmed it: Redis' memory, its append-only file, replicas, or the spool
    """

    event_id: str
    topic: str
    status: Literal["stored", "scheduled", "spooled", "duplicate"]
    sequence: int
    entry_id: str
    durability: Durability | Literal["spool"] = "memory"


def letter(event: Event[Any], remember: timedelta, due: datetime | None = None, *, first_wins: bool = False) -> Letter:
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
        first_wins,
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


def receipt(sent: Letter, stored: Outcome, durability: Durability = "memory") -> Receipt:
    """What the publisher is told. Raises Conflict."""
    if stored.status == "conflict" and sent.first_wins:
        stored = stored._replace(status="duplicate")
    if stored.status == "conflict":
        raise Conflict(
            f"{sent.topic}: idempotency key {sent.idempotency_key!r} was used for event {stored.event_id}, "
            "which says something else: use another key, or publish what was published"
        )
    if stored.status == "spooled":
        return Receipt(stored.event_id, sent.topic, "spooled", stored.sequence, stored.entry_id, "spool")
    return Receipt(stored.event_id, sent.topic, stored.status, stored.sequence, stored.entry_id, durability)


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
    """What one call asked to be appended, until when, and whether an attempt may have done it already."""

    __slots__ = ("answer", "confirm", "deadline", "letters", "packed", "unsure")

    def __init__(
        self,
        letters: Sequence[Letter],
        confirm: Confirm,
        deadline: float,
        answer: asyncio.Future[list[Outcome]],
        packed: bytes = b"",
    ) -> None:
        self.letters = letters
        self.confirm = confirm
        self.deadline = deadline
        self.answer = answer
        self.packed = packed
        self.unsure = False


class Publisher:
    """Collects letters and appends them in batches. One round trip is under way at a time, which keeps the order.

    While all goes well a batch is sent in the very step that asks for it or hears of the one before, and a reply
    answers its callers directly. A task takes over where there is something to wait for: a connection, a confirmation,
    a spool, another attempt.
    """

    def __init__(self, shard: Shard, *, timeout: timedelta) -> None:
        self._shard = shard
        self._spooling: Spooling | None = None
        self._timeout = timeout.total_seconds()
        self._waiting: deque[_Order] = deque()
        self._under_way: list[_Order] = []  # without a task
        self._watch: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    async def spool(self, directory: Path, confirm: Confirm = IN_MEMORY) -> None:
        """From now on keep in this directory what Redis does not take, and send it on. Raises Misconfigured."""
        deadline = self._timeout

        async def send(letters: Sequence[Letter]) -> list[Stored]:
            until = asyncio.get_running_loop().time() + deadline
            return await self._insist(lambda: self._store(letters, confirm), until, unsure=False)

        self._spooling = await Spooling.open(send, directory)

    @property
    def spools(self) -> Spools | None:
        """What is spooled, for metrics."""
        return self._spooling.spools if self._spooling is not None else None

    async def close(self) -> None:
        """Send what is under way. What is spooled stays on the disk for the next process."""
        await self._idle.wait()
        if self._watch is not None:
            self._watch.cancel()
        if self._spooling is not None:
            await self._spooling.close()

    async def publish(self, letters: Sequence[Letter], confirm: Confirm = IN_MEMORY) -> list[Outcome]:
        """Append the letters, in order. Raises Full, Unavailable (surely not stored) or OutcomeUnknown.

        More than a batch goes in several steps: an error says how many of the letters were stored before it.
        """
        if len(letters) == 1:
            return await self._order(letters, confirm)
        stored: list[Outcome] = []
        packed = b""
        try:
            for part, following in pairwise((*_parts(letters), ())):
                answer = self._order(part, confirm, packed)
                packed = self._pack(following, confirm)  # while Redis works on the part before
                stored += await answer
        except (Unavailable, Full) as error:
            if not stored:
                raise
            raise type(error)(f"{len(stored):,} of {len(letters):,} events are stored, then: {error}") from error
        return stored

    def _order(self, letters: Sequence[Letter], confirm: Confirm, packed: bytes = b"") -> asyncio.Future[list[Outcome]]:
        """Send at once when nothing is under way, else with the next batch."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Outcome]] = loop.create_future()
        self._waiting.append(_Order(letters, confirm, loop.time() + self._timeout, answer, packed))
        if self._idle.is_set():
            self._idle.clear()
            self._go_on()
        return answer

    def _go_on(self) -> None:
        """Send what comes next; rest when nothing does."""
        orders = self._next_orders()
        if not orders:
            self._idle.set()
            return
        try:
            failpoint("publish.before_send")
            is_sent = self._begin(orders)
        except Exception as error:  # noqa: BLE001  whatever it is, it is each caller's answer
            self._failed(orders, error)
            self._go_on_soon()
            return
        if not is_sent:
            self._task = asyncio.create_task(self._persist(orders), name="publisher")

    def _go_on_soon(self) -> None:
        """After those that were answered have taken their next step: what they publish belongs into one batch."""
        asyncio.get_running_loop().call_soon(self._go_on)

    def _next_orders(self) -> list[_Order]:
        """What goes out next: at most a batch. Who was cancelled no longer waits: that is not sent."""
        orders: list[_Order] = []
        count = size = 0
        while self._waiting and count < SHARED and size < BATCH_BYTES:
            order = self._waiting[0]
            letters = order.letters
            if count + len(letters) > BATCH or (orders and order.confirm is not orders[0].confirm):
                break
            self._waiting.popleft()
            if not order.answer.done():
                orders.append(order)
                count += len(letters)
                size += len(letters[0].wire) if len(letters) == 1 else sum([len(one.wire) for one in letters])
        return orders

    # -- without a task: Redis is there and answers ----------------------------------------------------------------

    def _pack(self, letters: Sequence[Letter], confirm: Confirm) -> bytes:
        """A batch ready to be sent; nothing where that is not all there is to do."""
        if not letters or self._spooling is not None or confirm.level != "memory" or _some_are_later(letters):
            return b""
        return self._shard.pack_publish(letters)

    def _begin(self, orders: list[_Order]) -> bool:
        """Send them now; False where that can't be."""
        letters, first = _letters(orders), orders[0]
        packed = (first.packed if len(orders) == 1 else b"") or self._pack(letters, first.confirm)
        if not self._shard.begin_publish(letters, packed, lambda outcome: self._heard(orders, outcome)):
            return False
        self._under_way = orders
        if self._watch is None:
            self._look()
        return True

    def _heard(self, orders: list[_Order], outcome: list[Stored] | Exception) -> None:
        if orders is not self._under_way:
            return  # its time was up before
        self._under_way = []
        if isinstance(outcome, Exception):
            self._task = asyncio.create_task(self._persist(orders, outcome), name="publisher")
            return
        self._answer(orders, outcome)
        if len(self._waiting) >= ENOUGH:
            self._go_on()  # Redis works on these while those that were answered make their next ones
        else:
            self._go_on_soon()

    def _look(self) -> None:
        """End what has no time left. One timer for all batches: one for each would cost more than sending it."""
        self._watch = None
        if not self._under_way:
            return
        loop, deadline = asyncio.get_running_loop(), self._under_way[0].deadline
        if deadline > loop.time():
            self._watch = loop.call_at(deadline, self._look)
            return
        orders, self._under_way = self._under_way, []
        self._failed(orders, gave_up(TimeoutError(), self._timeout, unsure=True))
        self._go_on_soon()

    # -- how it ends -----------------------------------------------------------------------------------------------

    def _answer(self, orders: list[_Order], stored: Sequence[Outcome]) -> None:
        try:
            failpoint("publish.after_send")
        except Exception as error:  # noqa: BLE001  as above
            self._failed(orders, error)
            return
        at = 0
        for order in orders:
            end = at + len(order.letters)
            if not order.answer.done():
                order.answer.set_result(list(stored[at:end]))
            at = end

    def _failed(self, orders: list[_Order], error: Exception) -> None:
        """Tell those whose time is up; the others stay first in line."""
        now = asyncio.get_running_loop().time()
        passes = isinstance(error, Unavailable) and not any(isinstance(one, Full) for one in (error, error.__cause__))
        in_time = [order for order in orders if passes and order.deadline > now + SHORTEST_SECONDS]
        for order in orders:
            if order in in_time:
                order.unsure = order.unsure or isinstance(error, OutcomeUnknown)
            elif not order.answer.done():
                order.answer.set_exception(error)
                order.answer.exception()  # a caller that was cancelled no longer looks
        self._waiting.extendleft(reversed(in_time))

    # -- with a task -----------------------------------------------------------------------------------------------

    async def _persist(self, orders: list[_Order], failed: Exception | None = None) -> None:
        """Append, until the first of them has no time left; then spool, where there is a spool.

        `failed` is what came of a first attempt, if there was one.
        """
        first, letters = orders[0], _letters(orders)
        unsure = any(order.unsure for order in orders)

        async def once() -> list[Stored]:
            nonlocal failed
            if failed is not None:
                error, failed = failed, None
                await self._shard.fail(error)
            return await self._store(letters, first.confirm)

        def attempt() -> Awaitable[list[Stored]]:
            return self._insist(once, first.deadline, unsure=unsure)

        try:
            if self._spooling is None:
                stored: Sequence[Outcome] = await attempt()
            else:
                stored = await self._spooling.publish(letters, attempt)
        except Exception as error:  # noqa: BLE001  as above
            self._failed(orders, error)
        else:
            self._answer(orders, stored)
        finally:
            self._go_on_soon()

    async def _store(self, letters: Sequence[Letter], confirm: Confirm) -> list[Stored]:
        """One script call for all of them; one each for those that are due later, in their place among the others."""
        if not _some_are_later(letters):
            return await self._shard.publish(letters, confirm)
        stored: list[Stored] = []
        try:
            for is_later, some in groupby(letters, key=lambda one: one.due_ms > 0):
                if is_later:
                    for one in some:
                        stored.append(await self._shard.schedule(one, confirm))  # noqa: PERF401  counts if the next fails
                else:
                    stored += await self._shard.publish(list(some), confirm)
        except Unavailable as error:
            if stored:  # in part, then: not one of them is surely not stored
                raise OutcomeUnknown(str(error)) from error
            raise
        return stored

    async def _insist(self, call: Callable[[], Awaitable[T]], deadline: float, *, unsure: bool) -> T:
        """Repeat a call until it is answered or the time is up: every call is safe to repeat."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            attempt += 1
            try:
                async with asyncio.timeout_at(deadline):
                    return await call()
            except Full as error:
                if unsure:  # an earlier attempt may have stored it while there was room
                    raise gave_up(error, self._timeout, unsure=True) from error
                raise
            except (Unavailable, TimeoutError) as error:
                unsure = unsure or isinstance(error, OutcomeUnknown | TimeoutError)
                wait = RECONNECT.delay(attempt).total_seconds()
                if loop.time() + wait + SHORTEST_SECONDS >= deadline:
                    raise gave_up(error, self._timeout, unsure=unsure) from error
            await asyncio.sleep(wait)


def _some_are_later(letters: Sequence[Letter]) -> bool:
    return any([one.due_ms for one in letters])  # noqa: C419  a generator costs more than the list


def _letters(orders: Sequence[_Order]) -> Sequence[Letter]:
    return orders[0].letters if len(orders) == 1 else [one for order in orders for one in order.letters]


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

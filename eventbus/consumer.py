"""Serves one durable subscription in this process: take, handle, settle, for as long as it runs.

Three kinds of task share the work. The reader takes deliveries, as many as there is room for. Runners call the
handler. The settler sends what is done in batches: whatever was finished while the last batch was under way. All of
them outlive any outage of Redis. A delivery leaves `_held` only when Redis has confirmed what became of it, or says
that it is no longer ours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from time import perf_counter
from typing import Any, TypeVar

import structlog

from eventbus.backoff import RECONNECT
from eventbus.codec import decode
from eventbus.ending import end
from eventbus.errors import Full, InvalidEvent, Misconfigured, Unavailable, UnknownVersion
from eventbus.event import Event
from eventbus.observer import Observer
from eventbus.redis.shard import Batch, MissingGroup, Retry, Settled, Shard, Taken
from eventbus.subscription import Attempt, Refused, Subscription, TryLater

POLL_SECONDS = 2.0
MAX_BATCH = 250  # a script of this size takes Redis about 2 ms, in which it does nothing else
MOST_HELD = 1000
MEASURE_SECONDS = 0.02
SOON_SECONDS = 0.1
PARK = timedelta(seconds=30)
ERROR_CHARACTERS = 1000
TURN = 4
NO_DELAY = 0
EARLIEST = "0"

_log = structlog.get_logger("eventbus.consumer")

T = TypeVar("T")
Buried = Callable[[], Awaitable[None]]


class Consumer:
    """One named reader of one group. Started by the bus; `stop` finishes or hands back what it holds."""

    def __init__(
        self,
        shard: Shard,
        subscription: Subscription,
        name: str,
        *,
        lease: timedelta,
        suspect_turn: asyncio.Lock,
        buried: Buried,
        observer: Observer,
        failed: Callable[[BaseException], None],
    ) -> None:
        if subscription.group is None:
            raise TypeError("a consumer serves a durable subscription")
        self._shard = shard
        self._subscription = subscription
        self._options = subscription.options
        self._group = subscription.group
        self._name = name
        self._lease = lease
        self._suspect_turn = suspect_turn  # one suspect at a time in the whole process
        self._buried = buried
        self._observer = observer
        self._failed = failed
        self._bell = asyncio.Event()
        self._queue: asyncio.Queue[Taken] = asyncio.Queue()
        self._held: dict[str, int] = {}
        self._room = asyncio.Event()
        self._prefetch = 2 * self._options.concurrency
        self._measured, self._finished = perf_counter(), 0
        self._done: list[tuple[str, int, str]] = []
        self._dirty = asyncio.Event()
        self._suspects = 0
        self._lost = False  # a reply that gave us work was lost: what we own and don't know of must be recovered
        self._gifts = asyncio.Lock()  # held while a settle may give us work, so that nothing is recovered meanwhile
        self.highest = 0
        self._stopping = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._settler: asyncio.Task[None] | None = None
        self._runners: list[asyncio.Task[None]] = []

    @property
    def group(self) -> str:
        """Whose deliveries it takes."""
        return self._group

    @property
    def holds(self) -> int:
        """Deliveries taken and not finished."""
        return len(self._held)

    def ring(self) -> None:
        """There may be work."""
        self._bell.set()

    def start(self) -> None:
        """Begin."""
        self._reader = self._spawn(self._read(), "reader")
        self._settler = self._spawn(self._settle(), "settler")
        self._runners = [self._spawn(self._work(), f"runner {n}") for n in range(self._options.concurrency)]

    def _spawn(self, work: Coroutine[Any, Any, None], role: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"{self._group} {role}")
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """None of the tasks ends by itself; one that does is a fault of ours, and the process must not go on half."""
        self._room.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    async def stop(self, grace: timedelta) -> None:
        """Take no more; hand back what has not begun; let handlers finish for `grace`, then cancel them and hand back.

        Afterwards this consumer holds nothing, unless Redis is away: then the lease runs out.
        """
        deadline = asyncio.get_running_loop().time() + grace.total_seconds()
        self._stopping.set()
        self._bell.set()
        self._room.set()
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=grace.total_seconds())
        waiting = []
        while not self._queue.empty():
            waiting.append(self._queue.get_nowait())
            if waiting[-1].suspect:
                self._suspect_turn.release()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._hand_back(waiting)
                await self._until(lambda: not self._held)
        for task in self._runners:
            task.cancel()
        with contextlib.suppress(TimeoutError):  # a runner hands back what it had, which needs Redis
            async with asyncio.timeout(min(5.0, grace.total_seconds() + 1)):
                await self._until(lambda: not self._held and all(task.done() for task in self._runners))
        rest = [task for task in (self._reader, self._settler, *self._runners) if task is not None]
        await end(rest)

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self._room.clear()
            await self._room.wait()

    # -- the reader ------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while not self._stopping.is_set():
            room = self._adapted() - len(self._held)
            if room < max(1, self._prefetch // 2):  # take in large bites
                self._room.clear()
                await self._room.wait()
                continue
            asked = min(room, MAX_BATCH)
            self._bell.clear()
            batch = await self._insist(lambda n=asked: self._take(n), self._lose)  # type: ignore[misc]
            if batch.offered < asked:  # there was no more; if there is now, the bell has rung
                await self._rest(batch)

    def _adapted(self) -> int:
        """Hold no more than can be begun soon, as far as the last moments tell: fast handlers get a large prefetch."""
        now = perf_counter()
        if (passed := now - self._measured) > MEASURE_SECONDS:
            soon = round(self._finished / passed * SOON_SECONDS)
            self._prefetch = max(2 * self._options.concurrency, min(soon, MOST_HELD))
            self._measured, self._finished = now, 0
        return self._prefetch

    def _lose(self) -> None:
        self._lost = True
        self._bell.set()

    async def _recover(self) -> None:
        """Hand back what we own and don't know of."""
        async with self._gifts:
            stray = await self._shard.recover(self._group, self._name, list(self._held.items()))
            self._lost = False
        if stray:
            _log.info("recovered deliveries of a lost reply", group=self._group, count=stray)

    async def _take(self, count: int) -> Batch:
        if self._lost:
            await self._recover()
        mine = self._suspects > 0 and not self._suspect_turn.locked()
        if mine:
            await self._suspect_turn.acquire()  # free, so this does not wait
        suspect = False
        try:
            batch = await self._shard.take(
                self._group,
                self._name,
                count,
                lease=self._lease,
                suspects=mine,
                ordered=self._options.ordered,
            )
            suspect = any(one.suspect for one in batch.taken)
        finally:
            if mine and not suspect:
                self._suspect_turn.release()
        self._suspects = batch.suspects
        self._hold(batch.taken)
        return batch

    def _hold(self, taken: list[Taken]) -> None:
        held, put = self._held, self._queue.put_nowait
        for one in taken:
            held[one.entry_id] = one.fence
            put(one)
        if taken:
            self.highest = max(self.highest, taken[-1].sequence)

    async def _rest(self, batch: Batch) -> None:
        """Until the bell rings, a retry is due, a pause ends, or the slow poll's time has come."""
        seconds = POLL_SECONDS
        for ms in (batch.due_ms, batch.paused_ms or None):
            if ms is not None:
                seconds = min(seconds, ms / 1000 + 0.001)
        if batch.suspects and not self._suspect_turn.locked():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.wait()

    async def _insist(self, call: Callable[[], Awaitable[T]], failed: Callable[[], None] | None = None) -> T:
        """Repeat a call until Redis answers; `failed` is told of each failure."""
        attempt = 0
        while True:
            try:
                return await call()
            except MissingGroup:
                _log.error("group is gone from Redis; declaring it again from the earliest event", group=self._group)
                with contextlib.suppress(Unavailable):
                    await self._shard.declare(self._group, self._subscription.patterns, behind=EARLIEST)
            except (Unavailable, Full, Misconfigured) as error:
                if failed is not None:
                    failed()
                if attempt == 0:
                    _log.warning("Redis is away; trying again", group=self._group, error=str(error))
            attempt += 1
            await asyncio.sleep(RECONNECT.delay(attempt).total_seconds())

    # -- the runners -----------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        turn, me = 0, asyncio.current_task()
        while me is None or not me.cancelling():  # a handler may have swallowed it
            taken = await self._queue.get() if self._queue.empty() else self._queue.get_nowait()
            try:
                await self._run_one(taken)
            finally:
                if taken.suspect:
                    self._suspect_turn.release()
                    self._bell.set()
            turn += 1
            if turn % TURN == 0:
                await asyncio.sleep(0)  # handlers that never wait would starve the settler

    async def _run_one(self, taken: Taken) -> None:
        started = perf_counter()
        try:
            await self._call(decode(taken.topic, taken.wire), taken)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():  # the handler cancelled something of its own
                outcome = await self._decide(taken, RuntimeError(f"the handler was cancelled: {error}"))
            else:
                await self._hand_back([taken])
                raise
        except Exception as error:  # noqa: BLE001  a handler may raise anything; every way out is decided below
            outcome = await self._decide(taken, error)
        else:
            self._done.append((taken.entry_id, taken.fence, taken.key))
            self._dirty.set()
            outcome = "done"
        self._observer.handled(self._group, taken.topic, outcome, perf_counter() - started)

    def _call(self, event: Event[Any], taken: Taken) -> Awaitable[Any]:
        subscription, limit = self._subscription, self._options.timeout
        if subscription.wants_attempt:
            attempt = Attempt(self._group, taken.entry_id, self._name, taken.fence, taken.attempt, taken.sequence)
            call = subscription.call(event, attempt)
        else:
            call = subscription.call(event)
        return call if limit is None else _within(call, limit.total_seconds())

    async def _decide(self, taken: Taken, error: Exception) -> str:
        """What becomes of a delivery whose attempt failed."""
        attempts = taken.attempt
        if isinstance(error, UnknownVersion):  # a newer worker can: leave it to them
            _log.warning("parked: unknown version", group=self._group, topic=taken.topic, error=str(error))
            await self._again(taken, PARK, counts=False)
            return "parked"
        if isinstance(error, InvalidEvent):
            return await self._bury(taken, "invalid", str(error), attempts)
        if isinstance(error, Refused):
            return await self._bury(taken, "rejected", error.reason, attempts)
        text = str(error) if isinstance(error, TryLater) else f"{type(error).__name__}: {error}"
        counts = error.counts if isinstance(error, TryLater) else True
        if counts and attempts >= self._options.max_attempts:
            return await self._bury(taken, "exhausted", text, attempts)
        delay = self._options.backoff.delay(attempts)
        pause = timedelta()
        if isinstance(error, TryLater):
            delay = max(delay, error.after or timedelta()) if counts else error.after or delay
            pause = delay if error.pause else pause
        _log.warning(
            "attempt failed",
            group=self._group,
            topic=taken.topic,
            attempt=attempts,
            error=text[:ERROR_CHARACTERS],
            next_in_s=round(delay.total_seconds(), 3),
        )
        await self._again(taken, delay, counts=counts, pause=pause)
        return "retry"

    async def _again(self, taken: Taken, delay: timedelta, *, counts: bool, pause: timedelta = timedelta()) -> None:
        again = [Retry(taken.entry_id, taken.fence, max(1, round(delay.total_seconds() * 1000)), counts)]
        ours = await self._insist(lambda: self._shard.retry(self._group, self._name, again, pause=pause))
        self._release([(taken.entry_id, taken.fence)], ours)
        self._bell.set()  # the reader has a new due time to wait for

    async def _hand_back(self, taken: list[Taken]) -> None:
        if not taken:
            return
        again = [Retry(one.entry_id, one.fence, NO_DELAY, counts=False) for one in taken]
        ours = await self._insist(lambda: self._shard.retry(self._group, self._name, again))
        self._release([(one.entry_id, one.fence) for one in taken], ours)

    async def _bury(self, taken: Taken, reason: str, error: str, attempts: int) -> str:
        text = error[:ERROR_CHARACTERS]
        _log.error("dead letter", group=self._group, topic=taken.topic, reason=reason, error=text, attempts=attempts)
        ours = await self._insist(
            lambda: self._shard.bury(
                self._group,
                self._name,
                taken,
                key=taken.key,
                reason=reason,
                error=text,
                attempts=attempts,
            )
        )
        try:
            await self._buried()
        finally:  # afterwards: whoever waits for us to hold nothing waits for the announcement too
            self._release([(taken.entry_id, taken.fence)], [ours])
        return "dead"

    # -- the settler -----------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            while self._done:
                batch, self._done = self._done[:MAX_BATCH], self._done[MAX_BATCH:]
                ended = await self._insist(lambda b=batch: self._finish(b), self._lose)  # type: ignore[misc]
                self._release([one[:2] for one in batch], [end is not Settled.FENCED for end in ended])

    async def _finish(self, batch: list[tuple[str, int, str]]) -> list[Settled]:
        """Settle, and be given at once what comes next in the lanes, unless we stop or are recovering."""
        if self._stopping.is_set() or self._gifts.locked():
            ended, _ = await self._shard.settle(self._group, self._name, batch)
            self._bell.set()  # the next of a lane may be ready
            return ended
        async with self._gifts:
            ended, after = await self._shard.settle(self._group, self._name, batch, go_on=True)
            self._hold(after)
        return ended

    def _release(self, finished: list[tuple[str, int]], ours: list[bool]) -> None:
        self._finished += len(finished)
        for (entry_id, fence), mine in zip(finished, ours, strict=True):
            if self._held.get(entry_id) == fence:  # else we lost it and have taken it again since
                del self._held[entry_id]
            if not mine:
                self._observer.fenced(self._group)
        self._room.set()


async def _within(call: Awaitable[Any], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds) as limit:
            await call
    except TimeoutError:
        if limit.expired():
            raise TimeoutError(f"no end after {seconds:g} s") from None
        raise  # the handler's own

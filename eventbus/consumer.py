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
from itertools import islice
from time import perf_counter
from typing import Any, TypeVar

import structlog

from eventbus.backoff import RECONNECT
from eventbus.codec import decode, id_of
from eventbus.ending import end
from eventbus.errors import EventBusError, Full, Misconfigured, Unavailable
from eventbus.event import Event, new_id
from eventbus.failpoint import failpoint
from eventbus.observer import Observer
from eventbus.redis.shard import FIRST_READING, Batch, MissingGroup, Retry, Settled, Shard, Taken
from eventbus.subscription import Attempt, Subscription, TryLater
from eventbus.verdict import Again, Bury, verdict
from eventbus.witness import Witness

POLL_SECONDS = 2.0
MAX_BATCH = 250  # a script of this size takes Redis about 2 ms, in which it does nothing else
MOST_HELD = 1000
MEASURE_SECONDS = 0.02
SOON_SECONDS = 0.1
AHEAD_SECONDS = 2.0
TURN = 4
NO_DELAY = 0
NO_PAUSE = timedelta()
GOODBYE_SECONDS = 1.0
EARLIEST = "0"
FAILING = 4
"""People are told at this failed attempt, as by Svix (docs.svix.com, Operational webhooks, message.attempt.failing)."""

_log = structlog.get_logger("eventbus.consumer")

T = TypeVar("T")
Buried = Callable[[], Awaitable[None]]
Failing = Callable[[Taken, str, timedelta], Awaitable[None]]


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
        failing: Failing,
        witness: Witness,
        observer: Observer,
        failed: Callable[[BaseException], None],
    ) -> None:
        if subscription.group is None:
            raise TypeError("a consumer serves a durable subscription")
        self._shard = shard
        self._subscription = subscription
        self._options = subscription.options
        self._group = subscription.group
        self.name = name
        self._lease = lease
        self._suspect_turn = suspect_turn  # one suspect at a time in the whole process
        self._buried = buried
        self._failing = failing
        self._witness = witness
        self._observer = observer
        self._failed = failed
        self._bell = asyncio.Event()
        self._queue: asyncio.Queue[Taken] = asyncio.Queue()
        self._held: dict[str, Taken] = {}
        self._room = asyncio.Event()
        self._prefetch = 2 * self._options.concurrency
        self._measured, self._finished = perf_counter(), 0
        self._done: list[Taken] = []
        self._dirty = asyncio.Event()
        self._suspects = 0
        self._in_threads: list[Taken] = []
        self._paused_until = 0.0
        self._one_ahead = False  # a pause was: the first delivery after it goes alone
        self._recovered = perf_counter()
        self._lost = False  # a reply that gave us work was lost: what we own and don't know of must be recovered
        self._gifts = asyncio.Lock()  # held while a settle may give us work, so that nothing is recovered meanwhile
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

    def runs(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether this task is one of those that call the handler."""
        return task in self._runners

    def pause(self, seconds: float) -> None:
        """The whole group has to wait that long: nothing more is begun, what waits here goes back."""
        self._paused_until = max(self._paused_until, perf_counter() + seconds)
        self._one_ahead = True
        self._bell.set()
        self._room.set()

    async def stop(self, grace: timedelta) -> None:
        """Take no more; hand back what has not begun; let handlers finish for `grace`, then cancel them and hand back.

        Afterwards this consumer holds nothing, unless Redis is away: then the lease runs out.
        """
        deadline = asyncio.get_running_loop().time() + grace.total_seconds()
        redis_seconds = min(5.0, grace.total_seconds() + 1)
        self._stopping.set()
        self._bell.set()
        self._room.set()
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=grace.total_seconds())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(redis_seconds):
                await self._hand_back(self._not_begun())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._until(lambda: not self._held)
        for task in self._runners:
            task.cancel()
        with contextlib.suppress(TimeoutError):  # a runner hands back what it had, which needs Redis
            async with asyncio.timeout(redis_seconds):
                await self._until(lambda: not self._held and all(task.done() for task in self._runners))
        await end([task for task in (self._reader, self._settler, *self._runners) if task is not None])
        await self._leave()

    async def _leave(self) -> None:
        """Hand back all that is left, also what a late reply gave us, and say good-bye: nobody waits for our lease.

        What still runs in a thread stays ours until the lease ends: nothing can end it, and nobody may begin it again
        beside it.
        """
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                still = [(one.entry_id, one.fence) for one in self._in_threads]
                await self._shard.recover(self._group, self.name, still)
                self._held = {one.entry_id: one for one in self._in_threads}
                if not still:
                    await self._shard.beat([self.name], timedelta())
        except (EventBusError, TimeoutError):
            _log.debug("Redis is away; the lease will run out", group=self._group)

    def _not_begun(self) -> list[Taken]:
        """Empties the queue."""
        waiting = []
        while not self._queue.empty():
            waiting.append(self._queue.get_nowait())
            if waiting[-1].suspect:
                self._suspect_turn.release()
        return waiting

    def _fences(self) -> list[tuple[str, int]]:
        return [(one.entry_id, one.fence) for one in self._held.values()]

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self._room.clear()
            await self._room.wait()

    # -- the reader ------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while not self._stopping.is_set():
            if (left := self._pause_left()) > 0:
                await self._wait_out(left)
                continue
            room = self._adapted() - len(self._held)
            if room < max(1, self._prefetch // 2):  # take in large bites
                self._room.clear()
                await self._room.wait()
                continue
            one_ahead, self._one_ahead = self._one_ahead, False
            asked = 1 if one_ahead else min(room, MAX_BATCH)
            self._bell.clear()
            batch = await self._insist(lambda n=asked: self._take(n), self._lose)  # type: ignore[misc]
            if batch.paused_ms:
                self.pause(batch.paused_ms / 1000)
            elif one_ahead and batch.taken:
                await self._see_through(batch.taken[0])
            elif batch.offered < asked:  # there was no more; if there is now, the bell has rung
                await self._rest(batch)

    def _pause_left(self) -> float:
        return self._paused_until - perf_counter()

    async def _wait_out(self, seconds: float) -> None:
        """What has not begun goes back: it must not wait here while the pause ends elsewhere."""
        await self._hand_back(self._not_begun())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _see_through(self, first: Taken) -> None:
        """Who asked for the pause may ask again: one finds out for all. The others wait a moment for it, not longer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AHEAD_SECONDS):
                await self._until(lambda: self._held.get(first.entry_id) is not first or self._stopping.is_set())

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
            stray = await self._shard.recover(self._group, self.name, self._fences())
            self._lost, self._recovered = False, perf_counter()
        if stray:
            _log.info("recovered deliveries of a lost reply", group=self._group, count=stray)

    async def _take(self, count: int) -> Batch:
        # Now and then even if no loss is known: a network may deliver a request whose connection is long given up.
        if self._lost or perf_counter() - self._recovered > self._lease.total_seconds():
            await self._recover()
        mine = self._suspects > 0 and not self._suspect_turn.locked()
        if mine:
            await self._suspect_turn.acquire()  # free, so this does not wait
        suspect = False
        try:
            batch = await self._shard.take(
                self._group,
                self.name,
                count,
                lease=self._lease,
                suspects=mine,
                ordered=self._options.ordered,
            )
            suspect = any(one.suspect for one in batch.taken)
        finally:
            if mine and not suspect:
                self._suspect_turn.release()
        failpoint("delivery.after_take")
        self._suspects = batch.suspects
        self._hold(batch.taken)
        return batch

    def _hold(self, taken: list[Taken]) -> None:
        held, put = self._held, self._queue.put_nowait
        for one in taken:
            held[one.entry_id] = one
            put(one)
        fresh = (one for one in taken if one.fence == FIRST_READING)
        for one in (*islice(fresh, 1), *taken[-1:]):  # what lies between them tells no more
            self._witness.saw(one.sequence, one.entry_id)

    async def _rest(self, batch: Batch) -> None:
        """Until the bell rings, a retry is due, a pause ends, or the slow poll's time has come."""
        seconds = POLL_SECONDS
        if batch.due_ms is not None:
            seconds = min(seconds, batch.due_ms / 1000 + 0.001)
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
                    self._begin_again()
            except (Unavailable, Full, Misconfigured) as error:
                if failed is not None:
                    failed()
                if attempt == 0:
                    _log.warning("Redis is away; trying again", group=self._group, error=str(error))
            attempt += 1
            await asyncio.sleep(RECONNECT.delay(attempt).total_seconds())

    def _begin_again(self) -> None:
        """The group is new: nothing held is ours. Under a new name, so that what is still running can't be taken for
        the same entry read anew."""
        self._not_begun()
        self._held.clear()
        self.name = f"{self.name.partition('~')[0]}~{new_id()[-12:]}"
        self._room.set()

    # -- the runners -----------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        turn, me = 0, asyncio.current_task()
        while me is None or not me.cancelling():  # a handler may have swallowed it
            taken = await self._queue.get() if self._queue.empty() else self._queue.get_nowait()
            try:
                if self._pause_left() > 0:
                    await self._hand_back([taken])
                else:
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
        failpoint("delivery.before_handle")
        try:
            await self._call(decode(taken.topic, taken.wire), taken)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                if not self._subscription.is_async:  # its thread goes on: see `_leave`
                    self._in_threads.append(taken)
                    raise
                await self._hand_back([taken])
                raise
            # The handler cancelled something of its own.
            outcome = await self._failed_attempt(taken, RuntimeError(f"the handler was cancelled: {error}"))
        except Exception as error:  # noqa: BLE001  a handler may raise anything; every way out is decided below
            outcome = await self._failed_attempt(taken, error)
        else:
            failpoint("delivery.after_handle")
            self._done.append(taken)
            self._dirty.set()
            outcome = "done"
        self._observer.handled(self._group, taken.topic, outcome, perf_counter() - started)

    def _call(self, event: Event[Any], taken: Taken) -> Awaitable[Any]:
        subscription, limit = self._subscription, self._options.timeout
        if subscription.wants_attempt:
            attempt = Attempt(self._group, taken.entry_id, self.name, taken.fence, taken.attempt, taken.sequence)
            call = subscription.call(event, attempt)
        else:
            call = subscription.call(event)
        return call if limit is None else _within(call, limit.total_seconds())

    async def _failed_attempt(self, taken: Taken, error: Exception) -> str:
        decided = verdict(error, taken.attempt, self._options)
        if isinstance(decided, Bury):
            await self._bury(taken, decided)
            return "dead"
        # A handler that says when to try again knows what is wrong, and has mostly told it in words of its own.
        tell = _log.info if isinstance(error, TryLater) else _log.warning
        tell(
            "attempt failed",
            group=self._group,
            topic=taken.topic,
            event_id=id_of(taken.wire, taken.entry_id),
            attempt=taken.attempt,
            error=decided.text,
            next_in_s=round(decided.delay.total_seconds(), 3),
        )
        if decided.counts and taken.attempt == FAILING:
            await self._failing(taken, decided.text, decided.delay)  # before: whoever dies in between, it is told
        await self._again(taken, decided)
        return decided.outcome

    async def _again(self, taken: Taken, decided: Again) -> None:
        delay_ms = max(1, round(decided.delay.total_seconds() * 1000))
        again = [Retry(taken.entry_id, taken.fence, delay_ms, decided.counts)]
        if decided.pause:
            self.pause(decided.pause.total_seconds())
        failpoint("delivery.before_retry")
        await self._retry([taken], again, decided.pause)
        failpoint("delivery.after_retry")
        self._bell.set()  # the reader has a new due time to wait for

    async def _hand_back(self, taken: list[Taken]) -> None:
        if not taken:
            return
        await self._retry(taken, [Retry(one.entry_id, one.fence, NO_DELAY, counts=False) for one in taken])

    async def _retry(self, taken: list[Taken], again: list[Retry], pause: timedelta = NO_PAUSE) -> None:
        async def retry() -> list[bool]:
            if not self._owns(taken[0]):  # then none of them: they were taken under one name
                return [False] * len(taken)
            return await self._shard.retry(self._group, self.name, again, pause=pause)

        self._release(taken, await self._insist(retry))

    def _owns(self, taken: Taken) -> bool:
        """Not so when the group was lost and declared again since: see `_begin_again`."""
        return self._held.get(taken.entry_id) is taken

    async def _bury(self, taken: Taken, decided: Bury) -> None:
        said = {"reason": decided.reason, "error": decided.text, "attempts": taken.attempt}
        event_id = id_of(taken.wire, taken.entry_id)
        _log.error("dead letter", group=self._group, topic=taken.topic, event_id=event_id, **said)
        failpoint("delivery.before_bury")

        async def bury() -> bool:
            return self._owns(taken) and await self._shard.bury(
                self._group,
                self.name,
                taken,
                key=taken.key,
                reason=decided.reason,
                error=decided.text,
                attempts=taken.attempt,
            )

        ours = await self._insist(bury)
        failpoint("delivery.after_bury")
        try:
            await self._buried()
        finally:  # afterwards: whoever waits for us to hold nothing waits for the announcement too
            self._release([taken], [ours])

    # -- the settler -----------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            while self._done:
                batch, self._done = self._done[:MAX_BATCH], self._done[MAX_BATCH:]
                failpoint("delivery.before_settle")
                ended = await self._insist(lambda b=batch: self._finish(b), self._lose)  # type: ignore[misc]
                failpoint("delivery.after_settle")
                self._release(batch, [end is not Settled.FENCED for end in ended])

    async def _finish(self, batch: list[Taken]) -> list[Settled]:
        """Settle, and be given at once what comes next in the lanes, unless we stop, pause or are recovering."""
        mine = [self._owns(one) for one in batch]
        if not all(mine):
            rest = await self._finish([one for one, is_mine in zip(batch, mine, strict=True) if is_mine])
            return [rest.pop(0) if is_mine else Settled.FENCED for is_mine in mine]
        done = [(one.entry_id, one.fence, one.key) for one in batch]
        if not done:
            return []
        if self._stopping.is_set() or self._gifts.locked() or self._pause_left() > 0:
            ended, _ = await self._shard.settle(self._group, self.name, done)
            self._bell.set()  # the next of a lane may be ready
            return ended
        async with self._gifts:
            ended, after = await self._shard.settle(self._group, self.name, done, go_on=True)
            self._hold(after)
        return ended

    def _release(self, finished: list[Taken], ours: list[bool]) -> None:
        self._finished += len(finished)
        held = self._held
        for taken, mine in zip(finished, ours, strict=True):
            if held.get(taken.entry_id) is taken:  # else we lost it and have taken it again since
                del held[taken.entry_id]
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

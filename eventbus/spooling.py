"""What a publisher does while Redis is away or full: keep events in a spool, and send them later, in order.

The rule: while a spool is empty Redis is tried first; from the first letter that Redis did not take, all go through the
spool until it is empty again. So none overtakes another, also across a restart. An event whose outcome is unknown is
spooled like any other: its idempotency key makes the repeat safe. Conflicts are for the caller and never spooled.

An event may be doubled only when Redis may have stored it once, nobody knows, and it is sent again after its `remember`
time. Losing it would be worse: it is sent, and the log and `doubtful` say so. All others are safe at any age.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Literal, NamedTuple, ParamSpec, TypeVar

import structlog

from eventbus.backoff import RECONNECT
from eventbus.ending import end
from eventbus.errors import EventBusError, OutcomeUnknown, Unavailable
from eventbus.redis.shard import Letter, Stored
from eventbus.spool import MOST_BYTES, Entry, Spool, orphans

BATCH = 200
BATCH_BYTES = 1024 * 1024
"""As the publisher's: one script call."""

LOOK_SECONDS = 30.0
"""How often to look for spools whose owner died or was stopped. Reads one directory."""

SYNC_SECONDS = 2.0
"""How long a synchronous publish may send what was spooled before."""

P = ParamSpec("P")
T = TypeVar("T")

_log = structlog.get_logger("eventbus.spool")


class Spooled(NamedTuple):
    """A letter on this machine's disk. Its fields are those of Stored; it has no place yet."""

    event_id: str
    status: Literal["spooled"] = "spooled"
    entry_id: str = "~"
    sequence: int = 0


Outcome = Stored | Spooled


class Spools:
    """The spools this process owns: its own, and those it took over from dead ones, which are sent first. Blocks.

    spooled   letters kept, drained those sent, conflicts those set aside, since the start
    doubtful  drained ones that Redis may hold twice
    """

    def __init__(self, root: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.spooled = self.drained = self.conflicts = self.doubtful = 0
        self._root = root
        self._most_bytes = most_bytes
        self._own = Spool.open(root, most_bytes=most_bytes)
        self._adopted: tuple[Spool, ...] = ()
        self.look()

    @property
    def is_empty(self) -> bool:
        """Whether a letter may go to Redis without overtaking another."""
        return self._own.is_empty and all(spool.is_empty for spool in self._adopted)

    @property
    def count(self) -> int:
        """Letters that wait."""
        return sum(spool.count for spool in (*self._adopted, self._own))

    @property
    def bytes(self) -> int:
        """Their bytes on disk."""
        return sum(spool.size for spool in (*self._adopted, self._own))

    @property
    def oldest(self) -> timedelta | None:
        """The age of the oldest of them."""
        ages = [spool.oldest for spool in (*self._adopted, self._own)]
        return max((age for age in ages if age is not None), default=None)

    @property
    def damaged_bytes(self) -> int:
        """What could not be read of them."""
        return sum(spool.damaged_bytes for spool in (*self._adopted, self._own))

    def limit(self, most_bytes: int) -> None:
        """Spool no more than so many bytes from now on."""
        self._own.most_bytes = self._most_bytes = most_bytes

    def schedules(self, idempotency_key: str) -> bool:
        """Whether an event for later waits here under this key. Raises Unavailable."""
        return any(spool.schedules(idempotency_key) for spool in (*self._adopted, self._own) if not spool.is_empty)

    def look(self) -> None:
        """Take over spools that nobody owns."""
        for spool in orphans(self._root, most_bytes=self._most_bytes):
            if spool.is_empty:
                spool.close()
                continue
            self._adopted += (spool,)
            _log.info("took over the spool of a process that ended", directory=str(spool.path), count=spool.count)

    def keep(self, letters: Sequence[Letter], failure: Unavailable | None) -> list[Outcome]:
        """Spool letters that Redis did not take, or that have to wait behind others (`failure` is None).

        Raises Full or Unavailable when that does not work either, and OutcomeUnknown when Redis may have them.
        """
        unsure = isinstance(failure, OutcomeUnknown)
        try:
            self._own.append(letters, unsure=unsure)
        except Unavailable as error:
            kind = OutcomeUnknown if unsure else type(error)
            raise kind(f"{failure or 'events wait for Redis'}; and {error}") from error
        self.spooled += len(letters)
        if failure is not None:
            _log.warning("events are spooled: Redis did not take them", count=len(letters), error=str(failure))
        return [Spooled(one.event_id) for one in letters]

    def next(self) -> tuple[Spool, list[Entry]]:
        """The next batch and where it is from. Nothing in it means: look whether all is empty."""
        while self._adopted and self._adopted[0].is_empty:
            self._adopted[0].close()
            self._adopted = self._adopted[1:]
        spool = self._adopted[0] if self._adopted else self._own
        return spool, spool.read(BATCH, BATCH_BYTES)

    def settle(self, spool: Spool, entries: Sequence[Entry], stored: Sequence[Stored], tried_ms: int | None) -> None:
        """Redis answered for a batch. `tried_ms`: when an attempt at it was made whose outcome nobody knows."""
        clashes = [
            (entry, done)
            for entry, done in zip(entries, stored, strict=True)
            if done.status == "conflict" and not entry.letter.first_wins
        ]
        if clashes:
            self._set_aside(spool, clashes)
        self._tell_doubtful(entries, stored, tried_ms)
        self.drained += len(entries) - len(clashes)
        spool.forget(len(entries))

    def _set_aside(self, spool: Spool, clashes: Sequence[tuple[Entry, Stored]]) -> None:
        file = spool.set_aside([entry for entry, _ in clashes])
        self.conflicts += len(clashes)
        for entry, first in clashes:
            _log.error(
                "a spooled event is set aside: its idempotency key was used for another event",
                event_id=entry.letter.event_id,
                topic=entry.letter.topic,
                idempotency_key=entry.letter.idempotency_key,
                first=first.event_id,
                file=str(file),
            )

    def _tell_doubtful(self, entries: Sequence[Entry], stored: Sequence[Stored], tried_ms: int | None) -> None:
        ids = [
            entry.letter.event_id
            for entry, done in zip(entries, stored, strict=True)
            if done.status in ("stored", "scheduled") and is_doubtful(entry, tried_ms, time.time_ns() // 1_000_000)
        ]
        self.doubtful += len(ids)
        if ids:
            _log.warning(
                "events may be in the log twice: whether they were stored before is unknown, and too long ago",
                event_ids=ids,
            )

    def close(self) -> None:
        """Let go of them. What was not sent stays for the next process that opens the directory."""
        if self.count:
            _log.warning("events stay in the spool", directory=str(self._root), count=self.count)
        for spool in (*self._adopted, self._own):
            spool.close()


def is_doubtful(entry: Entry, tried_ms: int | None, now_ms: int) -> bool:
    """Whether a letter that Redis just stored may have been stored before, at a time it no longer remembers."""
    times = [] if tried_ms is None else [tried_ms]
    if entry.unsure:
        times.append(entry.accepted_ms)
    return bool(times) and now_ms - min(times) >= entry.letter.remember_ms


class Spooling:
    """Publishing with a spool behind it, for an event loop. `open` it, then `publish`; `close` it at the end.

    `publish` is how Redis is asked: it tries for a bounded time, stores all letters or none, scheduled ones too, and
    raises Unavailable (or Full, or OutcomeUnknown) when Redis did not take them.
    """

    def __init__(self, publish: Callable[[Sequence[Letter]], Awaitable[list[Stored]]], spools: Spools) -> None:
        self.spools = spools
        self._publish = publish
        self._turn = asyncio.Lock()
        self._appended = asyncio.Event()
        self._progress = asyncio.Event()
        self._answers = False  # whether the last batch that was sent from a spool arrived
        self._drain = asyncio.create_task(self._send_on(), name="spool")

    @classmethod
    async def open(
        cls,
        publish: Callable[[Sequence[Letter]], Awaitable[list[Stored]]],
        root: Path,
        *,
        most_bytes: int = MOST_BYTES,
    ) -> Spooling:
        """Own a spool in this directory and begin to send what is in it. Raises Misconfigured."""
        return cls(publish, await asyncio.to_thread(Spools, root, most_bytes=most_bytes))

    async def publish(
        self, letters: Sequence[Letter], attempt: Callable[[], Awaitable[list[Stored]]] | None = None
    ) -> list[Outcome]:
        """Store the letters, or spool them: all or none, in the order of asking. One call at a time is under way.

        `attempt` is how to ask Redis for these; by default as for those that were spooled. Raises Full when Redis and
        the spool are, OutcomeUnknown when the letters are not spooled but Redis may have them, and what the attempt
        raises that is not Unavailable.
        """
        async with self._turn:
            failure = None
            if self.spools.is_empty:
                try:
                    return list(await (attempt() if attempt is not None else self._publish(letters)))
                except Unavailable as error:
                    failure = error
                    self._answers = False
            before = self.spools.count
            kept = await _to_its_end(self.spools.keep, letters, failure)
            self._appended.set()
            await self._shrink_below(max(1, before))
            return kept

    async def close(self) -> None:
        """Stop sending. What was not sent stays on the disk for the next process."""
        await end([self._drain])
        self._made_progress(answers=False)
        await _to_its_end(self.spools.close)

    async def _shrink_below(self, count: int) -> None:
        """While Redis answers, nobody spools faster than is sent: else the spool would never come to its end."""
        while self._answers and self.spools.count >= count:
            await self._progress.wait()

    def _made_progress(self, *, answers: bool) -> None:
        self._answers = answers
        self._progress.set()
        self._progress = asyncio.Event()

    async def _send_on(self) -> None:
        """Send what is spooled, for ever."""
        while True:
            if self.spools.is_empty:
                await self._wait_for_more()
            else:
                await self._send_batch()

    async def _wait_for_more(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._appended.wait()
            self._appended.clear()
        except TimeoutError:
            try:
                await _to_its_end(self.spools.look)
            except EventBusError as error:
                _log.warning("can't look for spools of processes that ended", error=str(error))

    async def _send_batch(self) -> None:
        """Send one batch. Whatever goes wrong, its letters stay, and it is tried again."""
        tried_ms: int | None = None
        attempt = 0
        while True:
            attempt += 1
            began_ms = time.time_ns() // 1_000_000
            try:
                spool, entries = await _to_its_end(self.spools.next)
                if entries:
                    stored = await self._publish([entry.letter for entry in entries])
                    await _to_its_end(self.spools.settle, spool, entries, stored, tried_ms)
            except Exception as error:  # noqa: BLE001  the loop must go on: nobody else sends these
                if isinstance(error, OutcomeUnknown) and tried_ms is None:
                    tried_ms = began_ms
                self._made_progress(answers=False)
                _log.warning(
                    "spooled events wait",
                    count=self.spools.count,
                    oldest=str(self.spools.oldest),
                    error=str(error) or type(error).__name__,
                )
                await asyncio.sleep(RECONNECT.delay(attempt).total_seconds())
            else:
                self._made_progress(answers=True)
                return


class SyncSpooling:
    """Publishing with a spool behind it, for threads. What was spooled is sent by a later publish, by this process'
    own or by that of the next one that opens the directory.

    `publish` as for Spooling. A publish spends at most `seconds` on what was spooled before it, plus one call's time.
    """

    def __init__(
        self,
        publish: Callable[[Sequence[Letter]], list[Stored]],
        root: Path,
        *,
        most_bytes: int = MOST_BYTES,
        seconds: float = SYNC_SECONDS,
    ) -> None:
        """Raises Misconfigured when the directory can't be used."""
        self.spools = Spools(root, most_bytes=most_bytes)
        self._publish = publish
        self._seconds = seconds
        self._turn = threading.Lock()
        self._attempt = 0
        self._not_before = 0.0
        self._tried_ms: int | None = None

    def publish(self, letters: Sequence[Letter]) -> list[Outcome]:
        """Store the letters, or spool them, behind what was spooled before. Errors as those of Spooling.publish."""
        with self._turn:
            self._send_before()
        failure = None
        if self.spools.is_empty:
            try:
                return list(self._publish(letters))
            except Unavailable as error:
                failure = error
                self._put_off()
        return self.spools.keep(letters, failure)

    def close(self) -> None:
        """Let go of the directory. What was not sent stays on the disk."""
        self.spools.close()

    def _send_before(self) -> None:
        """Send what was spooled while the time lasts. After a failure the next attempt waits."""
        deadline = time.monotonic() + self._seconds
        while not self.spools.is_empty and self._not_before <= time.monotonic() < deadline:
            began_ms = time.time_ns() // 1_000_000
            try:
                spool, entries = self.spools.next()
                if entries:
                    stored = self._publish([entry.letter for entry in entries])
                    self.spools.settle(spool, entries, stored, self._tried_ms)
            except Unavailable as error:
                if isinstance(error, OutcomeUnknown) and self._tried_ms is None:
                    self._tried_ms = began_ms
                self._put_off()
            else:
                self._attempt, self._tried_ms = 0, None

    def _put_off(self) -> None:
        self._attempt += 1
        self._not_before = time.monotonic() + RECONNECT.delay(self._attempt).total_seconds()


async def _to_its_end(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do file work in a thread. It is waited for even when the caller is cancelled: nothing else may begin before."""
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):  # `end` cancels again and again
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # nobody looks at it any more
        raise

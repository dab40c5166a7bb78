"""One shard of the log: a typed asynchronous method per script. Above this file nobody sees a key or a raw reply."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Any, Literal, NamedTuple

from eventbus.errors import Unavailable
from eventbus.redis import server
from eventbus.redis.address import Address
from eventbus.redis.confirm import Confirm
from eventbus.redis.connection import Connection
from eventbus.redis.faults import is_missing_group
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import Arg
from eventbus.redis.selftest import check_durability

IN_MEMORY = Confirm()
SELF_TEST = "durability-self-test"

FIRST_READING = 1
"""The fence of an entry that came from the log just now; what was ready gets a number of its own."""

Status = Literal["stored", "scheduled", "duplicate", "conflict"]

# Named tuples, not dataclasses: one of each is made for every event, and these are made several times faster.


class Letter(NamedTuple):
    """An event ready to be appended.

    due_ms      not before this time (epoch, server clock); 0: now
    first_wins  what was published before under its key stays, in whatever words: to its publisher that is a duplicate
    """

    topic: str
    key: str | None
    event_id: str
    idempotency_key: str
    fingerprint: str
    remember_ms: int
    wire: bytes
    due_ms: int = 0
    first_wins: bool = False


class Stored(NamedTuple):
    """What became of a letter. For a duplicate or conflict the place and id of the first one.

    A scheduled one has no place yet: its entry id is `~`, its sequence 0.
    """

    status: Status
    entry_id: str
    sequence: int
    event_id: str


class Taken(NamedTuple):
    """An entry that a consumer now owns. `fence` and the consumer's name prove the ownership."""

    entry_id: str
    fence: int
    attempt: int
    suspect: bool
    topic: str
    key: str
    sequence: int
    wire: bytes


class Batch(NamedTuple):
    """The answer to `take`. `due_ms`: until the next retry is due, or None; `paused_ms`: 0 when not paused."""

    read: int
    due_ms: int | None
    paused_ms: int
    suspects: int
    taken: list[Taken]

    @property
    def offered(self) -> int:
        """Entries looked at: read from the log, wanted or not, and given from what was ready."""
        return self.read + sum(1 for one in self.taken if one.fence != FIRST_READING)


class Settled(IntEnum):
    """What became of an attempt to settle."""

    FENCED = 0  # somebody else owns it now
    DONE = 1
    GONE = 2  # nobody owns it: it was settled before


class Backlog(NamedTuple):
    """How a group stands. `oldest_ms`: since its oldest unfinished event was stored; 0 when there is none."""

    unread: int
    running: int
    waiting: int
    due: int
    ready: int
    dead: int
    paused_ms: int
    oldest_ms: int

    @property
    def left(self) -> int:
        """Deliveries that are not finished, retries included. Dead letters don't count."""
        return self.unread + self.running + self.waiting + self.due + self.ready

    @property
    def is_empty(self) -> bool:
        """True when nothing is left to do."""
        return self.left == 0


class Retry(NamedTuple):
    """One delivery to be tried again. `counts` is False for a hand-back, which burns no attempt."""

    entry_id: str
    fence: int
    delay_ms: int
    counts: bool


class MissingGroup(Unavailable):
    """The group or its log was deleted; declare it again."""


def publish_call(keys: ShardKeys, letters: Sequence[Letter], *, touch: bool = False) -> tuple[list[str], list[Arg]]:
    """KEYS and ARGV of publish.lua, for both kinds of client. `touch` makes even a duplicate write something."""
    names = [keys.log, keys.sequence]
    args: list[Arg] = [keys.bell, int(touch)]
    for topic, key, event_id, idempotency_key, fingerprint, remember_ms, wire, _, _ in letters:
        names.append(keys.once(idempotency_key))
        args += (topic, key or "", f"{fingerprint} {event_id}", remember_ms, wire)
    return names, args


def schedule_call(keys: ShardKeys, letter: Letter) -> tuple[list[str], list[Arg]]:
    """KEYS and ARGV of schedule.lua."""
    topic, key, event_id, idempotency_key, fingerprint, remember_ms, wire, due_ms, _ = letter
    args: list[Arg] = [keys.bell, due_ms, topic, key or "", f"{fingerprint} {event_id}", remember_ms, wire]
    return [keys.later, keys.letters, keys.once(idempotency_key)], args


def stored(letter: Letter, row: list[Any]) -> Stored:
    """One row of what publish.lua and schedule.lua return: for what is new it does not repeat the event's id."""
    status, entry, sequence, *first = row
    return Stored(status.decode(), entry.decode(), sequence, first[0].decode() if first else letter.event_id)


def _taken(flat: list[Any]) -> list[Taken]:
    values = iter(flat)
    return [
        Taken(entry.decode(), fence, attempt, suspect == 1, topic.decode(), key.decode(), int(seq), wire)
        for entry, fence, attempt, suspect, topic, key, seq, wire in zip(*[values] * 8, strict=True)
    ]


class Shard:
    """All that is done to one shard. Every method raises our errors (`eventbus.errors`), never redis-py's."""

    def __init__(self, connection: Connection, keys: ShardKeys) -> None:
        self.keys = keys
        self._connection = connection
        self._begun: list[Callable[[Sequence[Letter]], None]] = []
        self.address: Address = connection.address

    async def _group(self, name: str, group: str, *args: Arg) -> Any:
        try:
            return await self._connection.run(name, self.keys.group(group), [self.keys.bell, group, *args])
        except Unavailable as error:
            if is_missing_group(error.__cause__):
                raise MissingGroup(f"group {group} is gone from {self.address.text}") from error
            raise

    async def ping(self) -> float:
        """Ask Redis for a sign of life; the answer's time in milliseconds."""
        start = time.perf_counter()
        await self._connection.do("PING", near=self.keys.log)
        return (time.perf_counter() - start) * 1000

    async def check_server(self, accept_unsafe: Collection[str] = ()) -> None:
        """Raise Misconfigured when this Redis can't keep what the bus promises; see `eventbus.redis.server`."""
        await server.check(self._connection, accept_unsafe, near=self.keys.log)

    async def check_durability(self, confirm: Confirm) -> None:
        """Raise Misconfigured when this Redis can't keep the level. It is tried, which may take two seconds."""
        key = self.keys.once(SELF_TEST)
        await check_durability(self._connection, key, confirm.level, confirm.replicas)

    async def publish(self, letters: Sequence[Letter], confirm: Confirm = IN_MEMORY) -> list[Stored]:
        """Append events, each once per idempotency key, in order, in one step; as safe as `confirm` asks."""
        keys, args = publish_call(self.keys, letters, touch=confirm.level != "memory")
        return list(map(stored, letters, await self._connection.run_confirmed("publish", keys, args, confirm)))

    def pack_publish(self, letters: Sequence[Letter]) -> bytes:
        """`publish` to Redis' memory, for `begin_publish`."""
        return self._connection.pack("publish", *publish_call(self.keys, letters))

    def begin_publish(
        self, letters: Sequence[Letter], packed: bytes, heard: Callable[[list[Stored] | Exception], None]
    ) -> bool:
        """Send a publish in this very step; False where no connection is open.

        `heard` is called with what came of it, or with an error for `fail`.
        """

        def replied(reply: Any) -> None:
            heard(reply if isinstance(reply, Exception) else list(map(stored, letters, reply)))

        if not self._connection.begin(packed, replied):
            return False
        for tell in self._begun:
            tell(letters)
        return True

    async def fail(self, error: Exception) -> None:
        """Raise our error for one that was heard. Returns where a repeat is all it takes."""
        await self._connection.fail(error)

    def on_publish(self, tell: Callable[[Sequence[Letter]], None]) -> None:
        """Call this whenever this process has sent events: what it asks next, Redis does after storing them."""
        self._begun.append(tell)

    async def schedule(self, letter: Letter, confirm: Confirm = IN_MEMORY) -> Stored:
        """Keep an event until it is due, once per idempotency key; as safe as `confirm` asks."""
        keys, args = schedule_call(self.keys, letter)
        return stored(letter, await self._connection.run_confirmed("schedule", keys, args, confirm))

    async def promote(self, most: int = 100) -> tuple[int, int | None]:
        """Append scheduled events that are due: (how many, milliseconds to the next one or None)."""
        keys = [self.keys.log, self.keys.sequence, self.keys.later, self.keys.letters]
        count, due = await self._connection.run("promote", keys, [self.keys.bell, most])
        return count, None if due < 0 else due

    async def declare(self, group: str, patterns: Sequence[str], *, behind: str) -> bool:
        """Declare a subscription; True when it is new. A known one keeps its place and takes the new patterns.

        `behind` is where a new one starts: 0 (earliest), $ (from now), or an entry id.
        """
        return bool(await self._group("declare", group, " ".join(patterns), behind))

    async def declared(self) -> dict[str, list[str]]:
        """Every declared group and its patterns."""
        rows = await self._connection.do("HGETALL", self.keys.groups)
        pairs = rows.items() if isinstance(rows, dict) else zip(rows[::2], rows[1::2], strict=True)
        return {group.decode(): patterns.decode().split() for group, patterns in sorted(pairs)}

    async def take(
        self, group: str, consumer: str, count: int, *, lease: timedelta, suspects: bool, ordered: bool
    ) -> Batch:
        """Own up to `count` deliveries. Also a beat."""
        args = (consumer, count, _ms(lease), int(suspects), int(ordered))
        read, due, paused, waiting, rows = await self._group("take", group, *args)
        return Batch(read, None if due < 0 else due, paused, waiting, _taken(rows))

    async def settle(
        self, group: str, consumer: str, done: Sequence[tuple[str, int, str]], *, go_on: bool = False
    ) -> tuple[list[Settled], list[Taken]]:
        """Finish deliveries given as (entry id, fence, ordering key or '').

        Returns what became of each and, with `go_on`, what comes next in their lanes: it is the consumer's now.
        """
        args: list[Arg] = [consumer, int(go_on)]
        for one in done:
            args += one
        ended, rows = await self._group("settle", group, *args)
        return [Settled(row) for row in ended], _taken(rows)

    async def retry(
        self, group: str, consumer: str, again: Sequence[Retry], *, pause: timedelta = timedelta()
    ) -> list[bool]:
        """Give deliveries back, now or for later; `pause` stops the whole group for that long."""
        args: list[Arg] = [consumer, _ms(pause)]
        for one in again:
            args += (one.entry_id, one.fence, one.delay_ms, int(one.counts))
        return [row == 1 for row in await self._group("retry", group, *args)]

    async def bury(
        self, group: str, consumer: str, taken: Taken, *, key: str, reason: str, error: str, attempts: int
    ) -> bool:
        """Move a delivery to the dead letters; False when it was no longer ours."""
        args = (consumer, taken.entry_id, taken.fence, key, reason, error, attempts)
        return bool(await self._group("bury", group, *args))

    async def sweep(self, group: str, *, poison_limit: int, awake: Sequence[str] = ()) -> tuple[int, int, int]:
        """Take back what dead consumers held: (taken back, consumers forgotten, buried as poison).

        `awake` are not dead, whatever their lease says: the caller's own consumers.
        """
        back, reaped, buried = await self._group("sweep", group, poison_limit, *awake)
        return back, reaped, buried

    async def recover(self, group: str, consumer: str, known: Sequence[tuple[str, int]]) -> int:
        """Make ready again what this consumer owns without knowing it (a reply was lost)."""
        args: list[Arg] = [consumer]
        for one in known:
            args += one
        return int(await self._group("recover", group, *args))

    async def beat(self, consumers: Sequence[str], lease: timedelta) -> None:
        """Keep what these consumers hold for another lease; a zero lease is a good-bye."""
        await self._connection.run("beat", [self.keys.alive], [_ms(lease), *consumers])

    async def backlog(self, group: str) -> Backlog | None:
        """How a group stands; None when Redis has no such group."""
        row = await self._group("backlog", group)
        return Backlog(*row) if row else None


def _ms(span: timedelta) -> int:
    return int(span.total_seconds() * 1000)

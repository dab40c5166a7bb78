"""One shard of the log: a typed asynchronous method per script. Above this file nobody sees a key or a raw reply."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from eventbus.errors import Misconfigured, Unavailable
from eventbus.redis.connection import Address, Connection, is_missing_group
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import Arg

Status = Literal["stored", "duplicate", "conflict"]


@dataclass(frozen=True, slots=True)
class Letter:
    """An event ready to be appended."""

    topic: str
    key: str | None
    event_id: str
    idempotency_key: str
    fingerprint: str
    remember_ms: int
    wire: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a letter. For a duplicate or conflict the place and id of the first one."""

    status: Status
    entry_id: str
    sequence: int
    event_id: str


@dataclass(frozen=True, slots=True)
class Taken:
    """An entry that a consumer now owns. `fence` and the consumer's name prove the ownership."""

    entry_id: str
    fence: int
    attempt: int
    suspect: bool
    topic: str
    key: str
    sequence: int
    wire: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """The answer to `take`. `due_ms`: until the next retry is due, or None; `paused_ms`: 0 when not paused."""

    read: int
    due_ms: int | None
    paused_ms: int
    suspects: int
    taken: list[Taken]


@dataclass(frozen=True, slots=True)
class Backlog:
    """How a group stands. `unread` is None where Redis can't tell."""

    unread: int | None
    running: int
    waiting: int
    due: int
    ready: int
    dead: int
    paused_ms: int

    @property
    def is_empty(self) -> bool:
        """True when nothing is left to do, retries included. Dead letters don't count."""
        return self.unread == 0 and not (self.running or self.waiting or self.due or self.ready)


@dataclass(frozen=True, slots=True)
class Buried:
    """A delivery that the sweep gave up because its process kept dying."""

    entry_id: str
    crashes: int
    topic: str
    key: str
    sequence: int
    wire: bytes


@dataclass(frozen=True, slots=True)
class Retry:
    """One delivery to be tried again. `counts` is False for a hand-back, which burns no attempt."""

    entry_id: str
    fence: int
    delay_ms: int
    counts: bool


class MissingGroup(Unavailable):
    """The group or its log was deleted; declare it again."""


def publish_call(keys: ShardKeys, letters: Sequence[Letter]) -> tuple[list[str], list[Arg]]:
    """KEYS and ARGV of publish.lua, for both kinds of client."""
    names = [keys.log, keys.sequence]
    args: list[Arg] = [keys.bell, keys.live]
    for letter in letters:
        names.append(keys.once(letter.idempotency_key))
        args += (
            letter.topic,
            letter.key or "",
            letter.event_id,
            letter.fingerprint,
            letter.remember_ms,
            letter.wire,
        )
    return names, args


def publish_reply(reply: list[Any]) -> list[Stored]:
    """What publish.lua returned."""
    return [Stored(row[0].decode(), row[1].decode(), int(row[2]), row[3].decode()) for row in reply]


class Shard:
    """All that is done to one shard. Every method raises our errors (`eventbus.errors`), never redis-py's."""

    def __init__(self, connection: Connection, keys: ShardKeys) -> None:
        self.keys = keys
        self._connection = connection
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
        await self._connection.do("PING")
        return (time.perf_counter() - start) * 1000

    async def check_server(self) -> None:
        """Raise Misconfigured when this Redis can't keep what the bus promises."""
        if self.address.scheme == "memory":
            return
        info = await self._connection.do("INFO", "server", "memory")
        version = str(info.get("redis_version", "0"))
        if int(version.split(".")[0]) < 7:
            raise Misconfigured(f"{self.address.text} is Redis {version}; the bus needs 7.0 or newer")
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and int(info.get("maxmemory", 0)) > 0:
            raise Misconfigured(
                f"{self.address.text} has maxmemory-policy {policy}: it may delete accepted events. "
                "Set it with: CONFIG SET maxmemory-policy noeviction"
            )

    async def publish(self, letters: Sequence[Letter]) -> list[Stored]:
        """Append events, each once per idempotency key, in order, in one step."""
        keys, args = publish_call(self.keys, letters)
        return publish_reply(await self._connection.run("publish", keys, args))

    async def declare(self, group: str, patterns: Sequence[str], *, from_now: bool) -> bool:
        """Declare a subscription; True when it is new. A known one keeps its place and takes the new patterns."""
        return bool(await self._group("declare", group, " ".join(patterns), "$" if from_now else "0"))

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
        taken = [
            Taken(r[0].decode(), r[1], int(r[2]), bool(r[3]), r[4].decode(), r[5].decode(), int(r[6]), r[7])
            for r in rows
        ]
        return Batch(read, None if due < 0 else due, paused, waiting, taken)

    async def settle(self, group: str, consumer: str, done: Sequence[tuple[str, int, str]]) -> list[bool]:
        """Finish deliveries given as (entry id, fence, ordering key or ''); False where they were no longer ours."""
        args: list[Arg] = [consumer]
        for one in done:
            args += one
        return [row == 1 for row in await self._group("settle", group, *args)]

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

    async def sweep(self, group: str, *, poison_limit: int) -> tuple[int, int, list[Buried]]:
        """Take back what dead consumers held: (taken back, consumers forgotten, buried as poison)."""
        back, reaped, rows = await self._group("sweep", group, poison_limit)
        buried = [Buried(r[0].decode(), r[1], r[2].decode(), r[3].decode(), int(r[4]), r[5]) for r in rows]
        return back, reaped, buried

    async def recover(self, group: str, consumer: str, known: Sequence[tuple[str, int]]) -> int:
        """Make ready again what this consumer owns without knowing it (a reply was lost)."""
        args: list[Arg] = [consumer]
        for one in known:
            args += one
        return int(await self._group("recover", group, *args))

    async def beat(self, consumer: str, lease: timedelta) -> None:
        """Keep what this consumer holds for another lease; a zero lease is a good-bye."""
        await self._connection.run("beat", [self.keys.alive], [consumer, _ms(lease)])

    async def backlog(self, group: str) -> Backlog | None:
        """How a group stands; None when Redis has no such group."""
        row = await self._group("backlog", group)
        return Backlog(None if row[0] < 0 else row[0], *row[1:]) if row else None

    async def trim(self, retention: timedelta, *, most: int = 10_000) -> int:
        """Forget finished events older than `retention`: how many, or -1 when a declared group has no place."""
        return int(await self._connection.run("trim", [self.keys.log, self.keys.groups], [_ms(retention), most]))

    async def between(self, after: str, before: str, most: int) -> list[tuple[str, int, str, bytes]]:
        """Entries of the log between two ids, both excluded: (entry id, sequence, topic, wire)."""
        rows = await self._connection.do("XRANGE", self.keys.log, f"({after}", f"({before}", "COUNT", most)
        found = []
        for entry_id, fields in rows or ():
            values = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
            found.append((entry_id.decode(), int(values[b"s"]), values[b"t"].decode(), values[b"e"]))
        return found


def _ms(span: timedelta) -> int:
    return int(span.total_seconds() * 1000)

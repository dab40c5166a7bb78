"""A shard on the bench: one group `g`, and short words for what the contract tests do to it.

A consumer dies here by falling silent: its lease in the set of living consumers is moved into the past. So is the time
of a retry or of a scheduled event; no test waits for a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from eventbus.audit import Gap, gaps
from eventbus.redis.connection import Connection
from eventbus.redis.history import DeadEntry, History
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Backlog, Batch, Letter, Retry, Settled, Shard, Stored, Taken

LEASE = timedelta(minutes=1)
DAY = timedelta(days=1)
NODE = 100
"""Entries in a node of a stream (stream-node-max-entries); trimming forgets whole nodes."""

PARTS = (
    *("log", "groups", "alive", "fence", "tail", "next", "ready", "suspects", "due"),
    *("attempts", "crashes", "pause", "dead", "counts", "told", "replayed", "sequence"),
)
"""What lua/common.lua calls the keys of a group."""

DONE, FENCED, GONE = Settled.DONE, Settled.FENCED, Settled.GONE


class Bench:
    """A shard, its history, and what a test says to them."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.connection = connection
        self.keys = ShardKeys(namespace)
        self.shard = Shard(connection, self.keys)
        self.history = History(connection, self.keys)
        self.names = dict(zip(PARTS, self.keys.group("g"), strict=True))
        self.seen = 0
        self._published = 0

    def part(self, group: str, part: str) -> str:
        """The key of one part of a group."""
        return self.keys.group(group)[PARTS.index(part)]

    async def do(self, *command: Any) -> Any:
        return await self.connection.do(*command)

    async def now(self) -> int:
        return (await self.history.now())[1]

    # -- events --------------------------------------------------------------------------------------------------------

    async def declare(self, *patterns: str, group: str = "g", behind: str = "0") -> bool:
        return await self.shard.declare(group, patterns or (">",), behind=behind)

    async def publish(self, *keys: str | None, topic: str = "vm.created") -> list[Stored]:
        """One event per ordering key; the wire is its number."""
        stored = await self.shard.publish([self.next_letter(key, topic) for key in keys])
        self.seen = max(self.seen, stored[-1].sequence)
        return stored

    def next_letter(self, key: str | None = None, topic: str = "vm.created", *, due_ms: int = 0) -> Letter:
        self._published += 1
        return letter(str(self._published), topic=topic, key=key, due_ms=due_ms)

    async def schedule(self, one: Letter, *, ms: int = 3_600_000) -> Stored:
        """Due so many milliseconds from now, by the clock of Redis."""
        return await self.shard.schedule(one._replace(due_ms=await self.now() + ms))

    async def log(self) -> list[str]:
        """The wires of the log."""
        return [entry.wire.decode() for entry in await self.history.between(most=10_000)]

    # -- deliveries ----------------------------------------------------------------------------------------------------

    async def take(
        self, consumer: str = "a", count: int = 10, *, suspects: bool = False, ordered: bool = True, group: str = "g"
    ) -> Batch:
        return await self.shard.take(group, consumer, count, lease=LEASE, suspects=suspects, ordered=ordered)

    async def taken(
        self, consumer: str = "a", count: int = 10, *, suspects: bool = False, group: str = "g"
    ) -> list[Taken]:
        return (await self.take(consumer, count, suspects=suspects, group=group)).taken

    async def one(self, consumer: str = "a", *, group: str = "g") -> Taken:
        (only,) = await self.taken(consumer, group=group)
        return only

    async def settle(self, consumer: str, *done: Taken, group: str = "g") -> list[Settled]:
        return (await self.shard.settle(group, consumer, said(done)))[0]

    async def go_on(self, consumer: str, *done: Taken) -> tuple[list[Settled], list[Taken]]:
        """Settle and be given what comes next."""
        return await self.shard.settle("g", consumer, said(done), go_on=True)

    async def retry(
        self, consumer: str, one: Taken, delay_ms: int = 0, *, counts: bool = True, group: str = "g"
    ) -> bool:
        (ours,) = await self.shard.retry(group, consumer, [Retry(one.entry_id, one.fence, delay_ms, counts)])
        return ours

    async def bury(self, consumer: str, one: Taken, *, group: str = "g") -> bool:
        return await self.shard.bury(group, consumer, one, key=one.key, reason="rejected", error="no", attempts=3)

    async def pause(self, consumer: str, one: Taken, span: timedelta) -> None:
        """Hand back and stop the whole group for so long."""
        await self.shard.retry("g", consumer, [Retry(one.entry_id, one.fence, 0, False)], pause=span)

    async def drain(self, consumer: str = "z", *, group: str = "g") -> list[str]:
        """Take and settle until the group has nothing left to do; the wires, in the order they were given out."""
        done: list[str] = []
        while True:
            await self.due_now(group)
            batch = await self.take(consumer, suspects=True, group=group)
            await self.settle(consumer, *batch.taken, group=group)
            done += wires(batch.taken)
            stands = await self.backlog(group)
            if stands.is_empty:
                return done
            assert batch.taken or batch.read or stands.ready, f"nothing is given out, yet {stands} is left"

    # -- time ----------------------------------------------------------------------------------------------------------

    async def silence(self, *consumers: str) -> None:
        """They beat last a lease and a millisecond ago."""
        for name in consumers:
            await self.do("ZADD", self.keys.alive, await self.now() - 1, name)

    async def crash(self, consumer: str, *, limit: int = 3) -> int:
        """The consumer dies and is swept; returns how many were buried as poison."""
        await self.silence(consumer)
        return (await self.shard.sweep("g", poison_limit=limit))[2]

    async def due_now(self, group: str = "g") -> None:
        """The time of every waiting retry has come."""
        due = self.part(group, "due")
        for entry_id in await self.do("ZRANGE", due, 0, -1):
            await self.do("ZADD", due, 1, entry_id)

    async def scheduled_now(self) -> None:
        """The time of every scheduled event has come."""
        for place in await self.do("ZRANGE", self.keys.later, 0, -1):
            await self.do("ZADD", self.keys.later, 1, place)

    # -- what Redis holds ----------------------------------------------------------------------------------------------

    async def dead(self, group: str = "g") -> list[DeadEntry]:
        return [letter async for letter in self.history.dead(group)]

    async def backlog(self, group: str = "g") -> Backlog:
        stands = await self.shard.backlog(group)
        assert stands is not None
        return stands

    async def gaps(self, *, seen: int = 0) -> list[Gap]:
        """What the books of all declared groups say."""
        return gaps(await self.history.books(list(await self.shard.declared())), seen=seen)

    async def counts(self, group: str = "g") -> dict[str, int]:
        table = fields(await self.do("HGETALL", self.keys.counts(group)))
        return {name.decode(): int(value) for name, value in table.items()}

    async def owners(self) -> dict[str, tuple[str, int]]:
        client: Any = self.connection.client
        rows = await client.xpending_range(self.keys.log, "g", "-", "+", 1000)
        return {r["message_id"].decode(): (r["consumer"].decode(), r["times_delivered"]) for r in rows}

    async def state(self) -> tuple[Any, ...]:
        """Everything a settle, retry or bury may change, but the counts."""
        names = self.names
        return (
            await self.owners(),
            *[fields(await self.do("HGETALL", names[part])) for part in ("tail", "next", "attempts", "crashes")],
            *[await self.do("LRANGE", names[part], 0, -1) for part in ("ready", "suspects")],
            await self.do("ZRANGE", names["due"], 0, -1, "WITHSCORES"),
            await self.do("EXISTS", names["pause"]),
            await self.do("XLEN", names["dead"]),
        )


def said(done: Sequence[Taken]) -> list[tuple[str, int, str]]:
    """Deliveries as `settle` wants them."""
    return [(one.entry_id, one.fence, one.key) for one in done]


def fields(reply: Any) -> dict[bytes, bytes]:
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def letter(
    name: str,
    *,
    topic: str = "vm.created",
    key: str | None = None,
    once: str = "",
    content: str = "",
    due_ms: int = 0,
    remember_ms: int = 60_000,
) -> Letter:
    return Letter(topic, key, f"id-{name}", once or f"once-{name}", content or name, remember_ms, name.encode(), due_ms)


def wires(taken: Sequence[Taken]) -> list[str]:
    return [one.wire.decode() for one in taken]

"""What stands behind the running work: the log as history, its trimming, its book-keeping, and its dead letters.

A typed method per script or command, as in `shard`; nothing here is on the way of a delivery.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from eventbus.errors import UnknownGroup
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import Arg

PAGE = 200
NOBODY = ""


class Entry(NamedTuple):
    """One event of the log. `group`: it is addressed to this group alone (a redrive or replay), else None.

    What somebody put there by hand is addressed to NOBODY.
    """

    entry_id: str
    sequence: int
    topic: str
    key: str
    wire: bytes
    group: str | None


class DeadEntry(NamedTuple):
    """One dead letter as it is stored. `dead_id` is its place among the dead, `entry_id` the one it had in the log."""

    dead_id: str
    entry_id: str
    reason: str
    error: str
    attempts: int
    topic: str
    key: str
    sequence: int
    wire: bytes


class GroupBooks(NamedTuple):
    """The books of one group: events given to it since its start, and what became of them.

    `given` is the number of the last event given to it. `holes` are numbers that it need not account for: their events
    were deleted before it began, or their loss was accepted. From the number `past` on it has come by all of them.
    """

    name: str
    has_place: bool
    start: int
    holes: int
    past: int
    done: int
    dead: int
    skipped: int
    pending: int
    given: int

    @property
    def missing(self) -> int:
        """Numbers given to it that it does not account for; below 0 what it accounts for twice."""
        return self.given - self.start - self.done - self.dead - self.skipped - self.pending


class Books(NamedTuple):
    """The books of a shard: events numbered, forgotten by trimming, and in the log."""

    sequence: int
    trimmed: int
    length: int
    first: int
    last: int
    undeclared: list[str]
    groups: list[GroupBooks]


class Lanes(NamedTuple):
    """What is not whole of a group's deliveries: all 0 unless Redis applied half of a script, or somebody's hand.

    alone  deliveries that wait in a lane behind nobody
    tails  lanes whose last delivery is not pending: the next event of their key would wait for it
    ready  deliveries that are ready and not listed, or the other way round
    due    retries without a time, or times without a retry
    """

    alone: int
    tails: int
    ready: int
    due: int


class Page(NamedTuple):
    """One page of a replay; `after` is where the next one begins, '' when this was the last."""

    copied: int
    looked_at: int
    after: str


class History:
    """The history of one shard. Every method raises our errors (`eventbus.errors`)."""

    def __init__(self, connection: Connection, keys: ShardKeys) -> None:
        self._connection = connection
        self._keys = keys

    # -- the log ---------------------------------------------------------------------------------------------------

    async def trim(self, retention: timedelta, *, keep: int, most: int = 10_000) -> int:
        """Forget finished events that are older than `retention` or more than `keep`.

        Returns how many, or -1 when a declared group has no place in the log: then nothing is forgotten.
        """
        keys = [self._keys.log, self._keys.groups, self._keys.trimmed]
        return int(await self._connection.run("trim", keys, [_ms(retention), keep, most]))

    async def books(self, groups: Sequence[str]) -> Books:
        """The counters that must add up; see `eventbus.audit`."""
        keys = [self._keys.log, self._keys.groups, self._keys.sequence, self._keys.trimmed]
        reply = await self._connection.run("check", [*keys, *map(self._keys.counts, groups)], list(groups))
        sequence, trimmed, length, first, last, undeclared, rows = reply
        found = [GroupBooks(row[0].decode(), row[1] == 1, *row[2:]) for row in rows]
        return Books(sequence, trimmed, length, first, last, [name.decode() for name in undeclared], found)

    async def close(self, group: GroupBooks) -> None:
        """The group is past its holes: from now on every number counts. See `eventbus.audit.passed`."""
        args: list[Arg] = [group.start, group.holes, group.missing]
        await self._connection.run("close", [self._keys.counts(group.name)], args)

    async def accept(self, kind: str, group: str | None, count: int) -> None:
        """Correct the counter behind a gap. The sums don't move while work goes on, so this needs no script."""
        if kind in ("deleted", "foreign"):
            by = count if kind == "deleted" else -count
            await self._connection.do("INCRBY", self._keys.trimmed, by)
        if kind == "deleted":  # groups that have not come so far will not miss them there either
            last = await self._connection.do("GET", self._keys.sequence) or 0
            for name in await self._connection.do("HKEYS", self._keys.groups):
                counts = self._keys.counts(name.decode())
                await self._connection.do("HSET", counts, "past", last)
                await self._connection.do("HINCRBY", counts, "holes", count)
        elif group is not None and kind in ("unhandled", "uncounted"):
            by = count if kind == "unhandled" else -count
            await self._connection.do("HINCRBY", self._keys.counts(group), "start", by)

    async def between(self, start: str = "-", end: str = "+", *, most: int = PAGE) -> list[Entry]:
        """Up to `most` entries of the log, by id; `(id` excludes it."""
        rows = await self._connection.do("XRANGE", self._keys.log, start, end, "COUNT", most)
        return [_entry(entry_id, _fields(fields)) for entry_id, fields in rows or ()]

    async def replay(self, group: str, patterns: Sequence[str], token: str, page: int, start: str, end: str) -> Page:
        """Copy one page of history for a group. The same token and page again: the same answer, nothing copied."""
        args: list[Arg] = [self._keys.bell, group, " ".join(patterns), token, page, start, end, PAGE]
        copied, looked, after = await self._connection.run("replay", self._keys.group(group), args)
        return Page(copied, looked, after.decode())

    async def retire(self, group: str, shown: int) -> tuple[bool | None, int]:
        """Forget a group whose backlog is at most `shown`: (True, backlog); (False, backlog) when it has more;
        (None, 0) when there is no such group."""
        keys = [*self._keys.group(group), self._keys.retired]
        done, backlog = await self._connection.run("retire", keys, [self._keys.bell, group, shown])
        return (None if done < 0 else done == 1), backlog

    # -- lanes -----------------------------------------------------------------------------------------------------

    async def mend(self, group: str) -> int:
        """Let go on what waits for nobody: how many. Safe at any time, beside any work. See mend.lua."""
        return int(await self._connection.run("mend", self._keys.group(group), [self._keys.bell, group]))

    async def lanes(self, group: str) -> Lanes:
        """Whether the lanes of a group are whole, in one step."""
        return Lanes(*await self._connection.run("lanes", self._keys.group(group), [self._keys.bell, group]))

    async def now(self) -> tuple[str, int]:
        """The last id of the log ('0-0' when it is empty) and the server's time in milliseconds."""
        last = await self._connection.do("XREVRANGE", self._keys.log, "+", "-", "COUNT", 1)
        seconds, micros = await self._connection.do("TIME", near=self._keys.log)
        return (last[0][0].decode() if last else "0-0"), int(seconds) * 1000 + int(micros) // 1000

    # -- scheduled events ------------------------------------------------------------------------------------------

    async def scheduled(self, most: int = 1000) -> list[tuple[int, str, bytes]]:
        """What waits for its time, the next one first: (due in ms of server time, topic, wire)."""
        rows = await self._connection.do("ZRANGE", self._keys.later, 0, most - 1, "WITHSCORES")
        pairs = [tuple(row) if isinstance(row, list | tuple) else row for row in rows]
        flat = pairs if pairs and isinstance(pairs[0], tuple) else list(zip(rows[::2], rows[1::2], strict=True))
        names = [place.partition(b" ")[2] for place, _ in flat]
        letters = await self._connection.do("HMGET", self._keys.letters, *names) if flat else []
        found = []
        for (_, due), letter in zip(flat, letters, strict=True):
            if letter is not None:  # else it was appended a moment ago
                topic, key, memo, _, rest = letter.split(b" ", 4)
                start = int(topic)
                found.append((int(float(due)), rest[:start].decode(), rest[start + int(key) + int(memo) :]))
        return found

    async def unschedule(self, idempotency_key: str) -> bool:
        """Forget a scheduled event; False when nothing is scheduled under this key."""
        keys = [self._keys.later, self._keys.letters, self._keys.once(idempotency_key)]
        return bool(await self._connection.run("unschedule", keys, []))

    # -- dead letters ----------------------------------------------------------------------------------------------

    async def dead(self, group: str, start: str = "-", end: str = "+") -> AsyncIterator[DeadEntry]:
        """The dead letters of a group, oldest first."""
        while True:
            rows = await self._connection.do("XRANGE", self._keys.dead(group), start, end, "COUNT", PAGE)
            for dead_id, fields in rows or ():
                yield _dead(dead_id, _fields(fields))
            if not rows or len(rows) < PAGE:
                return
            start = f"({rows[-1][0].decode()}"

    async def redrive(self, group: str, dead_id: str, wire: bytes | None = None) -> tuple[str, int] | None:
        """Put a dead letter at the end of the log again, for its group alone: (entry id, sequence).

        None when it is not there any more. `wire` replaces the event. Raises UnknownGroup when nobody would take it.
        """
        args: list[Arg] = [self._keys.bell, group, dead_id, wire or b""]
        done, *place = await self._connection.run("redrive", self._keys.group(group), args)
        if done < 0:
            raise UnknownGroup(f"group {group} is retired: declare it (start its worker) before you redrive")
        return (place[0].decode(), place[1]) if done == 1 else None

    async def drop(self, group: str, dead_id: str) -> bool:
        """Delete a dead letter for good; False when it is not there."""
        dropped = bool(await self._connection.do("XDEL", self._keys.dead(group), dead_id))
        if dropped and not await self._connection.do("XLEN", self._keys.dead(group)):
            await self._connection.do("HDEL", self._keys.retired, group)
        return dropped

    async def retired(self) -> list[str]:
        """Groups that had dead letters when they were retired, and may have been declared again since."""
        return sorted(name.decode() for name in await self._connection.do("HKEYS", self._keys.retired))

    async def untold(self, group: str) -> list[DeadEntry]:
        """The oldest dead letters that were not announced yet."""
        last = await self._connection.do("GET", self._keys.told(group))
        start = f"({last.decode()}" if last else "-"
        rows = await self._connection.do("XRANGE", self._keys.dead(group), start, "+", "COUNT", PAGE)
        return [_dead(dead_id, _fields(fields)) for dead_id, fields in rows or ()]

    async def told(self, group: str, dead_id: str) -> None:
        """This dead letter and all before it are announced."""
        await self._connection.do("SET", self._keys.told(group), dead_id)


def _fields(fields: Any) -> Mapping[bytes, bytes]:
    return fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    if b"e" not in fields:
        return Entry(entry_id.decode(), 0, "", "", b"", NOBODY)
    group = fields.get(b"f")
    return Entry(
        entry_id.decode(),
        int(fields[b"s"]),
        fields[b"t"].decode(),
        fields[b"k"].decode(),
        fields[b"e"],
        group.decode() if group is not None else None,
    )


def _dead(dead_id: bytes, fields: Mapping[bytes, bytes]) -> DeadEntry:
    """A dead letter whose event somebody deleted from the log before it was buried has no topic and no wire."""
    return DeadEntry(
        dead_id.decode(),
        fields[b"entry"].decode(),
        fields[b"reason"].decode(),
        fields[b"error"].decode(errors="replace"),
        int(fields[b"attempts"]),
        fields.get(b"t", b"").decode(),
        fields.get(b"k", b"").decode(),
        int(fields.get(b"s", b"0")),
        fields.get(b"e", b""),
    )


def _ms(span: timedelta) -> int:
    return int(span.total_seconds() * 1000)

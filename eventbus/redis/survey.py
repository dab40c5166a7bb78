"""What lies in this Redis: the log, the groups that read it and who serves them, and keys that are not ours.

A look from outside, for people (`eventbus.doctor`). It changes nothing and takes bounded time, however long the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eventbus.errors import Misconfigured
from eventbus.redis.connection import Connection
from eventbus.redis.history import History, Lanes
from eventbus.redis.keys import ShardKeys
from eventbus.redis.server import told
from eventbus.redis.shard import Backlog, Shard

SCAN_PAGES = 10
SCAN_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Reader:
    """A consumer of a group. `is_alive`: its beat has not run out. `holds`: deliveries it has not finished."""

    name: str
    is_alive: bool
    holds: int


@dataclass(frozen=True, slots=True)
class Group:
    """A group. `is_declared`: the bus knows it; `has_place`: the log knows it. Whole groups are both.

    backlog  how it stands; None without a place, or where this user may not ask
    lanes    what is not whole of its deliveries; None as above
    """

    name: str
    is_declared: bool
    has_place: bool
    backlog: Backlog | None
    readers: tuple[Reader, ...]
    lanes: Lanes | None = None

    @property
    def is_served(self) -> bool:
        """Whether somebody alive reads it."""
        return any(reader.is_alive for reader in self.readers)

    @property
    def ghosts(self) -> tuple[Reader, ...]:
        """Consumers that hold deliveries and no longer beat."""
        return tuple(reader for reader in self.readers if reader.holds and not reader.is_alive)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found. Numbers are None where this user may not ask.

    log           the key of the log, for commands typed by hand
    log_bytes     an estimate of Redis' own (MEMORY USAGE)
    looked_at     keys that were looked at for foreign ones, not all of a large database
    foreign       how many of them are not of our namespace; `example` is one
    """

    log: str
    length: int
    log_bytes: int | None
    groups: tuple[Group, ...]
    looked_at: int | None
    foreign: int | None
    example: str | None


async def look(connection: Connection, keys: ShardKeys) -> Survey | None:
    """Look around; None where this user may not. Raises Unavailable."""
    length, time = await told(connection, "XLEN", keys.log), await told(connection, "TIME", near=keys.log)
    declared = await told(connection, "HKEYS", keys.groups)
    places = await told(connection, "XINFO GROUPS", keys.log) if length else []
    if length is None or time is None or declared is None or places is None:
        return None
    alive = await _alive(connection, keys, int(time[0]) * 1000 + int(time[1]) // 1000)
    ours = {name.decode(errors="replace") for name in declared}
    placed = {row["name"].decode(errors="replace") for row in places}
    groups = [await _group(connection, keys, name, name in ours, alive) for name in sorted(placed)]
    groups += [Group(name, True, False, None, ()) for name in sorted(ours - placed)]
    looked, foreign, example = await _foreign(connection, keys)
    size = await told(connection, "MEMORY USAGE", keys.log)
    return Survey(keys.log, length, size, tuple(groups), looked, foreign, example)


async def _alive(connection: Connection, keys: ShardKeys, now_ms: int) -> set[str]:
    """The consumers whose lease has not run out."""
    names = await told(connection, "ZRANGEBYSCORE", keys.alive, now_ms, "+inf") or []
    return {name.decode(errors="replace") for name in names}


async def _group(connection: Connection, keys: ShardKeys, name: str, is_declared: bool, alive: set[str]) -> Group:
    consumers = await told(connection, "XINFO CONSUMERS", keys.log, name) or []
    named = [(one["name"].decode(errors="replace"), int(one["pending"])) for one in consumers]
    readers = tuple(Reader(who, who in alive, holds) for who, holds in named if not who.startswith("~"))
    try:
        backlog = await Shard(connection, keys).backlog(name)
        lanes = await History(connection, keys).lanes(name) if is_declared else None
    except Misconfigured:  # this user may not run scripts
        backlog = lanes = None
    return Group(name, is_declared, True, backlog, readers, lanes)


async def _foreign(connection: Connection, keys: ShardKeys) -> tuple[int | None, int | None, str | None]:
    ours = f"{{{keys.namespace}:".encode()
    cursor: Any = 0
    looked, strange = 0, []
    for _ in range(SCAN_PAGES):
        page = await told(connection, "SCAN", cursor, "COUNT", SCAN_PAGE, near=keys.log)
        if page is None:
            return None, None, None
        cursor, found = page
        if isinstance(cursor, dict):  # of a cluster redis-py tells the cursor of each node; it was one
            (cursor,) = cursor.values()
        looked += len(found)
        strange += [key for key in found if not key.startswith(ours)]
        if cursor == 0:
            break
    return looked, len(strange), strange[0].decode(errors="replace") if strange else None

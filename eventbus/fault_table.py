"""What survives what: which fault takes an accepted event on this Redis, at each durability level. Pure.

memory is the answer of Redis; aof is its disk (WAITAOF, or appendfsync always); replica is the answer of a replica
(WAIT); spool is the disk of the publisher's machine until Redis has the event. Nothing here is measured: it follows
from how the server is set up, as `eventbus.redis.server` read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from eventbus.redis.server import Server

Level = Literal["memory", "aof", "replica", "spool"]
LEVELS: tuple[Level, ...] = get_args(Level)

TRUSTED_WAITAOF = (7, 4, 3)
"""An older one may answer before the file is written: release notes of Redis 7.4.3."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What becomes of an accepted event. `holds`: it is safe; None where that is not known or can't happen."""

    holds: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that can happen, and what it means at each level on offer."""

    name: str
    cells: Mapping[Level, Cell]


@dataclass(frozen=True, slots=True)
class FaultTable:
    """The fault table, and why levels are missing from it."""

    faults: list[Fault]
    not_offered: Mapping[Level, str]


SAFE = Cell(True, "safe")
PROMOTED = Cell(True, "safe if that replica takes over")
UNKNOWN = Cell(None, "not known")


def fault_table(server: Server) -> FaultTable:
    """The fault table of this server."""
    killed, failover, lost = _killed(server), _failover(server), _disk_lost(server)
    rows = [
        ("worker or publisher: kill -9", SAFE, SAFE, SAFE),
        ("redis-server: kill -9", killed, SAFE, SAFE if server.aof else PROMOTED),
        ("its host: power cut", _power_cut(server), SAFE, PROMOTED),
        ("failover to a replica", failover, failover, PROMOTED),
        ("its disk lost", lost, lost, PROMOTED),
    ]
    reasons: dict[Level, str | None] = {"aof": _no_aof(server), "replica": _no_replica(server)}
    faults = []
    for name, *cells in rows:
        row = dict(zip(LEVELS, [*cells, _spooled(cells[0])], strict=True))
        faults.append(Fault(name, {level: cell for level, cell in row.items() if reasons.get(level) is None}))
    return FaultTable(faults, {level: reason for level, reason in reasons.items() if reason is not None})


def _spooled(memory: Cell) -> Cell:
    return SAFE if memory == SAFE else Cell(None, "safe until Redis has it, then as memory")


def _killed(server: Server) -> Cell:
    if not server.aof:
        return _without_file(server)
    return SAFE if server.fsync == "always" else Cell(True, "safe while its disk keeps up")


def _power_cut(server: Server) -> Cell:
    if not server.aof:
        return _without_file(server)
    last = {"always": SAFE, "everysec": Cell(False, "may lose the last 2 s"), "no": Cell(False, "may lose some 30 s")}
    return last.get(server.fsync or "", Cell(None, "not known: appendfsync is not told"))


def _without_file(server: Server) -> Cell:
    if server.is_memory:
        return Cell(False, "lost")
    if server.aof is None or server.snapshots_on is None:
        return UNKNOWN
    return Cell(False, "loses all since the last snapshot" if server.snapshots_on else "lost")


def _failover(server: Server) -> Cell:
    if server.replicas:
        return Cell(False, f"may lose {_unconfirmed(server)}")
    return UNKNOWN if server.replicas is None and not server.is_memory else Cell(None, "there is no replica")


def _disk_lost(server: Server) -> Cell:
    if server.replicas:
        return Cell(False, f"may lose {_unconfirmed(server)}")
    return UNKNOWN if server.replicas is None and not server.is_memory else Cell(False, "lost")


def _unconfirmed(server: Server) -> str:
    """What a replica may lack: bounded where the master stops without one (redis.conf, min-replicas-max-lag)."""
    config = server.config or {}
    if config.get("min-replicas-to-write", "0") == "0":
        return "all since it was last reached"
    return f"the last {config.get('min-replicas-max-lag', '10')} s"


def _no_aof(server: Server) -> str | None:
    """Why the level aof is not on offer, or None."""
    if server.is_memory or server.aof is False:
        return "there is no append-only file"
    if server.aof is None:
        return "not known whether there is an append-only file"
    if server.fsync == "always":
        return None
    if server.commands is None:
        return "not known whether there is WAITAOF"
    if "WAITAOF" not in server.commands:
        return "it needs WAITAOF (Redis 7.4.3) or appendfsync always"
    is_redis = (server.product or "").startswith("Redis ")
    if server.version is None or not is_redis:
        return "not known whether WAITAOF waits here; appendfsync always does"
    return None if server.version >= TRUSTED_WAITAOF else "WAITAOF may answer too early before Redis 7.4.3"


def _no_replica(server: Server) -> str | None:
    """Why the level replica is not on offer, or None."""
    if server.replicas:
        return None
    return "not known whether there is a replica" if server.replicas is None and not server.is_memory else "no replica"

"""What a Redis and the bus on it are like for who runs them. Pure: facts in, findings out.

The facts are `eventbus.redis.server` and `eventbus.redis.survey`; the fault table is `durability`; showing the result
is a command's work. `bad` is what loses events, stops work or refuses to start, `warn` what may come to that, `unknown`
what this Redis does not tell us.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from shlex import quote
from typing import Literal

from eventbus.fault_table import FaultTable, fault_table
from eventbus.redis.history import Lanes
from eventbus.redis.server import CAPABILITIES, OLDEST_VERSION, Server, is_local, unsafe
from eventbus.redis.survey import Group, Survey

Level = Literal["ok", "warn", "bad", "unknown"]

CLOCK_SECONDS = 5.0
"""Schedules and leases follow the server's clock, `at=` this machine's: a larger difference is noticed by people."""
LAG_SECONDS = 10
"""A replica that was silent longer counts as gone: min-replicas-max-lag, default of redis.conf."""
FULL_SHARE = 0.8
"""Of the memory limit; beyond it publishing will be refused soon."""

PATCHED = {
    (7, 2): (14, "CVE-2026-23479, CVE-2026-23631"),
    (7, 4): (9, "CVE-2026-23479, CVE-2026-23631"),
    (8, 2): (9, "CVE-2026-81934"),
    (8, 4): (6, "CVE-2026-81934"),
    (8, 6): (6, "CVE-2026-81934"),
    (8, 8): (2, "CVE-2026-81934"),
    (8, 10): (1, "CVE-2026-81934"),
}
"""The first patch of each line of Redis without a known way to run code on the server, and what it mends: release notes
of 7.2.14 and 7.4.9 (May 2026), record of CVE-2026-81934. Older lines that are left out get no fixes from upstream."""
NEWEST_LINE = max(PATCHED)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `why` and `fix` are empty where all is well."""

    level: Level
    about: str
    what: str
    why: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, in the order of the parts they are about, and what survives what on this server."""

    findings: list[Finding]
    durability: FaultTable

    @property
    def is_bad(self) -> bool:
        """Whether something has to be mended."""
        return any(finding.level == "bad" for finding in self.findings)


def diagnose(server: Server, survey: Survey | None, *, accept: Collection[str] = ()) -> Diagnosis:
    """Judge the facts. `accept` names unsafe set-ups that were accepted on purpose: they only warn."""
    if server.is_memory:
        alone = "memory:// lives in this process: nobody else sees it and it ends with the process"
        fix = "Use embedded://DIR or redis:// for what has to last"
        return Diagnosis([Finding("warn", "server", alone, "it is for tests and trials", fix)], fault_table(server))
    findings = [*_unsafe(server, accept), *_server(server), *_files(server), *_memory(server), *_replicas(server)]
    findings += [*_rights(server), *_clock(server), *_log(survey)]
    return Diagnosis(findings, fault_table(server))


def _unsafe(server: Server, accept: Collection[str]) -> Iterator[Finding]:
    for one in unsafe(server):
        if one.override in accept:
            yield Finding("warn", "unsafe", f"{one.what} (accepted: {one.override})", one.why, one.fix)
        else:
            yield Finding("bad", "unsafe", one.what, one.why, one.fix)


# -- the server ------------------------------------------------------------------------------------------------------


def _server(server: Server) -> Iterator[Finding]:
    if server.product is None:
        fix = "Ask its provider, or allow this user INFO: ACL SETUSER NAME +info"
        yield Finding("unknown", "server", "it does not tell its version", "the bus needs Redis 7.0 or newer", fix)
    else:
        away = f", {server.latency_ms:.1f} ms away" if server.latency_ms is not None else ""
        yield Finding("ok", "server", f"{server.product}, {server.mode or 'mode not known'}{away}, {_way(server)}")
        yield from _patches(server)
    if server.commands is not None:
        there = [name for name in CAPABILITIES if name in server.commands]
        yield Finding("ok", "server", f"newer commands: {', '.join(there) or 'none'}")


def _way(server: Server) -> str:
    if server.address.scheme.startswith("rediss"):
        return "over TLS"
    return "on this machine" if is_local(server.address) else "not encrypted"


def _patches(server: Server) -> Iterator[Finding]:
    if server.version is None or server.version < OLDEST_VERSION or not (server.product or "").startswith("Redis "):
        return  # too old for any of this, or a relative with versions and fixes of its own
    line, patch = server.version[:2], server.version[2]
    if line not in PATCHED and line < NEWEST_LINE:
        yield Finding(
            "unknown",
            "security",
            f"Redis {line[0]}.{line[1]} gets no fixes from upstream; a distribution may have added them",
            "a user who may run scripts could run code on the server (CVE-2025-49844, CVE-2026-23631)",
            "On its machine: apt changelog redis-server | grep CVE. Debian 12 mends the first from deb12u6 on",
        )
    elif line in PATCHED and patch < PATCHED[line][0]:
        needed, which = PATCHED[line]
        yield Finding(
            "warn",
            "security",
            f"{server.product} lacks the security fixes of {line[0]}.{line[1]}.{needed} ({which})",
            "they let others run code on the server",
            "Upgrade it, or see whether its distribution has added them",
        )


def _files(server: Server) -> Iterator[Finding]:
    if server.aof is None:
        fix = "Ask its provider, or as an administrator: INFO persistence"
        yield Finding("unknown", "disk", "whether it writes to disk", "a restart may lose everything", fix)
    elif server.aof:
        yield from _append_only(server)
    elif server.snapshots_on is not False:  # neither of the two is `unsafe`
        known = server.snapshots_on is not None
        yield Finding(
            "warn" if known else "unknown",
            "disk",
            f"no append-only file; snapshots: {server.snapshots if known else 'not known'}",
            "what came after the last snapshot is lost with Redis" if known else "a restart may lose everything",
            "CONFIG SET appendonly yes, and the same line in redis.conf",
        )
    if server.snapshot_written is False:
        fix = "See the log of Redis; make room on its volume: CONFIG GET dir, then df -h DIR"
        yield Finding("bad", "disk", "the last snapshot failed", "Redis may refuse every write until one succeeds", fix)


def _append_only(server: Server) -> Iterator[Finding]:
    if server.aof_written is False:
        fix = "Make room on its volume: CONFIG GET dir, then df -h DIR"
        yield Finding("bad", "disk", "the append-only file can't be written", "Redis refuses every write", fix)
    policies = {"always": "before each answer", "everysec": "every second"}
    if server.fsync in policies:
        yield Finding("ok", "disk", f"append-only file on, synced {policies[server.fsync]} ({server.fsync})")
    elif server.fsync is None:
        fix = "As an administrator: CONFIG GET appendfsync"
        yield Finding("unknown", "disk", "append-only file on; how often it is synced is not told", fix=fix)
    else:
        why = "a power cut loses what the system has not written by itself, some 30 s"
        yield Finding("warn", "disk", f"appendfsync is {server.fsync}", why, "CONFIG SET appendfsync everysec")
    if (server.config or {}).get("no-appendfsync-on-rewrite") == "yes":
        why = "while the file is rewritten, which may take minutes, nothing is synced"
        fix = "CONFIG SET no-appendfsync-on-rewrite no"
        yield Finding("warn", "disk", "no-appendfsync-on-rewrite is yes", why, fix)
    yield Finding(
        "unknown",
        "disk",
        "free space can't be seen from here",
        "a full volume stops every write",
        "Keep 20 % free. On its machine: df -h $(redis-cli -u URL CONFIG GET dir | tail -1)",
    )


def _memory(server: Server) -> Iterator[Finding]:
    used, limit = server.memory_used, server.memory_limit
    if used is None or limit is None:
        yield Finding("unknown", "memory", "how much is used", "a full Redis refuses events", "Allow this user INFO")
    elif limit == 0 and server.address.scheme == "embedded":
        yield Finding("ok", "memory", f"{size(used)} used")
    elif limit == 0:
        yield Finding(
            "warn",
            "memory",
            f"{size(used)} used, no limit",
            "when the machine has no more, the system kills Redis; with a limit publishing gets an error instead",
            "CONFIG SET maxmemory, to half of what the machine can spare: rewriting the file may double it",
        )
    else:
        text = f"{size(used)} of {size(limit)} used"
        why, fix = "soon publishing is refused; deliveries still settle", "Raise maxmemory or add workers"
        yield Finding("warn", "memory", text, why, fix) if used > FULL_SHARE * limit else Finding("ok", "memory", text)
    if server.eviction not in (None, "noeviction") and limit == 0:
        why = "as soon as somebody sets a memory limit, accepted events may be deleted"
        fix = "CONFIG SET maxmemory-policy noeviction"
        yield Finding("warn", "memory", f"maxmemory-policy is {server.eviction}", why, fix)


def _replicas(server: Server) -> Iterator[Finding]:
    if server.role == "slave":
        fix = "Point the address at the master: INFO replication names it"
        yield Finding("bad", "replicas", "this server is a replica", "nothing can be published here", fix)
        return
    if server.replicas is None:
        yield Finding("unknown", "replicas", "how many replicas there are", fix="As an administrator: INFO replication")
    elif not server.replicas:
        yield Finding("ok", "replicas", "none: what is on this server's disk is all there is")
    else:
        yield from _connected(server)


def _connected(server: Server) -> Iterator[Finding]:
    replicas = server.replicas or ()
    behind = [r.place for r in replicas if r.state != "online" or r.lag_seconds is None or r.lag_seconds > LAG_SECONDS]
    if behind:
        fix = "See the log of the replica and the network between the two"
        yield Finding("warn", "replicas", f"not up to date: {', '.join(behind)}", "a failover to it loses events", fix)
    else:
        yield Finding("ok", "replicas", f"{len(replicas)} up to date")
    if (server.config or {}).get("min-replicas-to-write") == "0":
        why = "a master that is cut off from them goes on accepting events that a failover throws away"
        fix = "CONFIG SET min-replicas-to-write 1"
        yield Finding("warn", "replicas", "min-replicas-to-write is 0", why, fix)


def _rights(server: Server) -> Iterator[Finding]:
    who = f"user {server.user}" if server.user else "this user"
    if server.address.scheme == "embedded":
        yield Finding("ok", "rights", "its socket is open to this system user only")
    elif server.may:
        yield Finding(
            "warn",
            "rights",
            f"{who} may {', '.join(server.may)}",
            "a slip or a break-in anywhere can delete every event",
            "Give each program a user of its own: deploy/acl/eventbus.acl",
        )
    elif server.may == ():
        yield Finding("ok", "rights", f"{who} may not empty, stop or reconfigure Redis")
    elif server.user not in (None, "default"):
        yield Finding("ok", "rights", f"{who} is limited: it may not even ask for its rights")
    else:
        fix = "As an administrator: ACL LIST"
        yield Finding("unknown", "rights", f"what {who} may do", "too much of it can delete every event", fix)


def _clock(server: Server) -> Iterator[Finding]:
    if server.clock_ahead is None:
        yield Finding("unknown", "clock", "its time is not told", fix="Allow this user TIME")
    elif abs(server.clock_ahead) > CLOCK_SECONDS:
        side = "ahead of" if server.clock_ahead > 0 else "behind"
        yield Finding(
            "warn",
            "clock",
            f"the server's is {span(abs(server.clock_ahead))} {side} this machine's",
            "what is scheduled here for a time of day comes that much off; leases are not concerned",
            "Let both follow a time server: timedatectl status",
        )
    else:
        yield Finding("ok", "clock", f"within {max(0.1, abs(server.clock_ahead)):.1f} s of this machine's")


# -- what lies in it -------------------------------------------------------------------------------------------------


def _log(survey: Survey | None) -> Iterator[Finding]:
    if survey is None:
        fix = "Run it as the user admin of deploy/acl/eventbus.acl"
        yield Finding("unknown", "log", "this user may not look at the log and its groups", fix=fix)
        return
    stored = f", {size(survey.log_bytes)}" if survey.log_bytes else ""
    yield Finding("ok", "log", f"{_count(survey.length, 'event')}{stored}, {_count(len(survey.groups), 'group')}")
    for group in survey.groups:
        yield from _group(group, survey)
    yield from _foreign(survey)


def _group(group: Group, survey: Survey) -> Iterator[Finding]:
    name = group.name
    if not group.has_place:
        yield Finding(
            "bad",
            "groups",
            f"{name} is declared but has no place in the log",
            "somebody deleted its place: nothing is trimmed, and what it had not handled may be lost",
            f"Start a worker that serves {name}: it declares it again, from the earliest event",
        )
        return
    left = group.backlog.left if group.backlog else 0
    oldest = span(group.backlog.oldest_ms / 1000) if group.backlog else ""
    waiting = f"{left:,} waiting, the oldest for {oldest}" if left else "nothing waits"
    if not group.is_declared:
        yield Finding(
            "warn",
            "groups",
            f"{name} reads the log but was never declared ({waiting})",
            "it holds back trimming for ever: the log grows",
            f"If nobody needs it: redis-cli -u URL XGROUP DESTROY {quote(survey.log)} {quote(name)}",
        )
        return
    held = ", ".join(f"{ghost.name} ({ghost.holds})" for ghost in group.ghosts)
    if left and not group.is_served:
        yield Finding(
            "warn",
            "groups",
            f"{name} has no live consumer: {waiting}" + (f"; held by the dead {held}" if held else ""),
            "the log can't be trimmed beyond its oldest event",
            f"Start a worker that serves {name}, or retire the group",
        )
    elif held:
        fix = "Nothing: a live worker takes it over at its next sweep. If it stays, look at the workers' logs"
        yield Finding("warn", "groups", f"{name}: held by dead consumers: {held}", "they stopped in the middle", fix)
    if group.lanes and any(group.lanes):
        yield Finding(
            "warn",
            "groups",
            f"{name}: {_unwhole(group.lanes)}",
            "Redis applied half of a script (an append-only file that was cut), or somebody acknowledged by hand",
            "A worker that serves it mends it at its next sweep. Once: redis-cli -u URL BGREWRITEAOF",
        )
    if group.backlog and group.backlog.dead:
        why, fix = "nobody tries them again unasked", "Look at their errors, then redrive or drop them"
        yield Finding("warn", "groups", f"{name} has {_count(group.backlog.dead, 'dead letter')}", why, fix)
    if group.is_served or not left:
        yield Finding("ok", "groups", f"{name}: {waiting}{'' if group.is_served else '; nobody serves it now'}")


def _unwhole(lanes: Lanes) -> str:
    """What does not fit together, in words."""
    parts = {
        "wait in a lane behind nobody": lanes.alone,
        "are the tails of lanes and not pending": lanes.tails,
        "are ready and not listed, or listed and not ready": lanes.ready,
        "wait for a time that is not set, or have one and do not wait": lanes.due,
    }
    return "deliveries that hang: " + "; ".join(f"{count:,} {what}" for what, count in parts.items() if count)


def _foreign(survey: Survey) -> Iterator[Finding]:
    if survey.foreign is None:
        fix = "Run it as the user admin of deploy/acl/eventbus.acl"
        yield Finding("unknown", "keys", "whether others use this database", "their FLUSHDB would be ours", fix)
    elif survey.foreign:
        yield Finding(
            "warn",
            "keys",
            f"{survey.foreign:,} of {survey.looked_at:,} keys looked at are not ours, such as {survey.example}",
            "who empties or fills this database for another program does it to the bus",
            "Give the bus a Redis of its own, or at least a database: redis://HOST:PORT/1",
        )
    else:
        yield Finding("ok", "keys", "nobody else's in this database")


# -- numbers for people ----------------------------------------------------------------------------------------------


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes, with a unit."""
    amount, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while amount >= 1000 and unit != "TB":
        amount, unit = amount / 1000, next(units)
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"


def span(seconds: float) -> str:
    """A length of time, in the one unit that says enough."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"

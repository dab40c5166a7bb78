"""What a Redis server is and how it is set up, asked of itself; and the set-ups that the bus refuses to work on.

Facts only, each None where the server does not tell: managed Redis forbids CONFIG, a limited user is told less. What
is not known is never a reason to refuse. What lies in the database is `survey`; what all of it means for who runs it
is `eventbus.doctor`.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, urlsplit

from redis.exceptions import AuthenticationError

from eventbus.errors import EventBusError, Misconfigured, Unavailable
from eventbus.redis.address import Address
from eventbus.redis.connection import Connection
from eventbus.redis.scripts import Arg

OLDEST_VERSION = (7, 0)
"""From here on scripts have flags, such as `#!lua flags=allow-oom`: redis.io, Redis programmability, Lua scripting."""

Override = Literal["eviction", "no-persistence", "no-auth", "plaintext"]
OVERRIDES: tuple[Override, ...] = get_args(Override)
"""The unsafe set-ups that somebody may accept by name, with the setting `accept_unsafe`."""

DANGEROUS: tuple[tuple[str, ...], ...] = (
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("CONFIG", "SET", "appendonly", "no"),
    ("DEBUG", "RELOAD"),
    ("SHUTDOWN",),
    ("ACL", "SETUSER", "anybody"),
)
"""What no program of the bus needs and could lose every event. Asked with ACL DRYRUN, which runs nothing."""

CAPABILITIES: Mapping[str, str] = {"WAITAOF": "7.2", "XACKDEL": "8.2", "XCFGSET": "8.6", "XNACK": "8.8"}
"""Newer stream commands and the Redis that brought them. Valkey has other numbers, so the command is asked for and not
the version. XADD IDMP has no name of its own; XCFGSET came with it."""

_CONFIG = (*("save", "appendfsync", "no-appendfsync-on-rewrite", "min-replicas-to-write", "min-replicas-max-lag"),)


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica as the server sees it. `lag_seconds`: since it last said how far it is, None where it never did."""

    place: str
    state: str
    lag_seconds: int | None


@dataclass(frozen=True, slots=True)
class Server:
    """One server. Every fact is None where it is not known.

    version      Redis' version, or for a relative the one it says it is compatible with
    product      name and version as people know it, such as `Valkey 8.1.4`
    mode, role   standalone, sentinel or cluster; master or slave, in Redis' own words
    aof          whether the append-only file is on; `fsync` is its policy
    snapshots    the `save` setting: '' when no snapshots are made
    memory_limit 0: none
    config       what CONFIG GET told of `_CONFIG`
    may          the commands of DANGEROUS that this user may send
    commands     the CAPABILITIES that are there
    clock_ahead  seconds the server's clock is ahead of this machine's, give or take `latency_ms` / 2
    """

    address: Address
    product: str | None = None
    version: tuple[int, ...] | None = None
    mode: str | None = None
    role: str | None = None
    aof: bool | None = None
    fsync: str | None = None
    snapshots: str | None = None
    aof_written: bool | None = None
    snapshot_written: bool | None = None
    eviction: str | None = None
    memory_limit: int | None = None
    memory_used: int | None = None
    replicas: tuple[Replica, ...] | None = None
    config: Mapping[str, str] | None = None
    user: str | None = None
    may: tuple[str, ...] | None = None
    commands: frozenset[str] | None = None
    keys: int | None = None
    clock_ahead: float | None = None
    latency_ms: float | None = None

    @property
    def is_memory(self) -> bool:
        """Whether it is memory://, which is a part of this process and has nothing to be set up."""
        return self.address.scheme == "memory"

    @property
    def snapshots_on(self) -> bool | None:
        """Whether snapshots are made."""
        return None if self.snapshots is None else self.snapshots not in ("", '""')


@dataclass(frozen=True, slots=True)
class Unsafe:
    """A set-up on which the bus can't keep its promises. `override` is the name that accepts it; None: nothing does."""

    override: Override | None
    what: str
    why: str
    fix: str


async def check(connection: Connection, accept: Collection[str] = (), *, near: str | None = None) -> None:
    """Raise Misconfigured for every unsafe set-up that is not accepted by name. Cheap: one INFO, seldom a CONFIG GET.

    `near` is a key: of a cluster the node that holds it is asked. Raises Unavailable when Redis does not answer.
    """
    if connection.address.scheme == "memory":
        return
    refused = [one for one in unsafe(await read_vital(connection, near)) if one.override not in accept]
    if refused:
        raise Misconfigured("\n".join(_refusal(connection.address, one) for one in refused))


def _refusal(address: Address, one: Unsafe) -> str:
    accepting = f" (or accept it: accept_unsafe: [{one.override}])" if one.override else ""
    return f"{address.text}: {one.what}: {one.why}. To mend it: {one.fix}{accepting}"


def unsafe(server: Server) -> list[Unsafe]:
    """The reasons not to start on this server. What is not known is none."""
    found = [_too_old(server), _evicts(server), _keeps_nothing(server), _open_to_all(server), _readable(server)]
    return [one for one in found if one is not None]


def _too_old(server: Server) -> Unsafe | None:
    if server.version is None or server.version >= OLDEST_VERSION:
        return None
    return Unsafe(
        None,
        f"{server.product} is too old",
        "the scripts of the bus need Redis 7.0 or newer, or a relative that is compatible with it",
        "Upgrade it",
    )


def _evicts(server: Server) -> Unsafe | None:
    if not server.memory_limit or server.eviction in (None, "noeviction"):
        return None
    return Unsafe(
        "eviction",
        f"maxmemory-policy is {server.eviction}",
        "at its memory limit Redis may delete events that were accepted",
        "CONFIG SET maxmemory-policy noeviction",
    )


def _keeps_nothing(server: Server) -> Unsafe | None:
    if server.aof is not False or server.snapshots_on is not False:
        return None
    return Unsafe(
        "no-persistence",
        "neither the append-only file nor snapshots are on",
        "a restart of Redis loses every event, accepted or not yet handled",
        "CONFIG SET appendonly yes, and the same line in redis.conf",
    )


def _open_to_all(server: Server) -> Unsafe | None:
    if is_local(server.address) or has_login(server.address):
        return None
    return Unsafe(
        "no-auth",
        "Redis is on another machine and takes anybody",
        "who reaches it reads, forges and deletes events",
        "Make a user with a password (deploy/acl/eventbus.acl) and put both into the address",
    )


def _readable(server: Server) -> Unsafe | None:
    if is_local(server.address) or server.address.scheme.startswith("rediss"):
        return None
    return Unsafe(
        "plaintext",
        "Redis is on another machine and the way to it is not encrypted",
        "who sits on the way reads events and the password, and can change them",
        "Use rediss:// (deploy/redis/redis.conf shows TLS)",
    )


def is_local(address: Address) -> bool:
    """Whether the way to it stays on this machine: a socket, this process, or loopback addresses only."""
    if address.scheme in ("memory", "embedded", "unix"):
        return True
    places = address.url.partition("://")[2].rpartition("@")[2].partition("/")[0].partition("?")[0]
    return all(_is_loopback(place) for place in places.split(","))


def _is_loopback(place: str) -> bool:
    host = (urlsplit(f"//{place}").hostname or "localhost").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3: always this machine
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def has_login(address: Address) -> bool:
    """Whether we prove who we are: a password or a client certificate, in the address or in its options."""
    parts = urlsplit(address.url)
    options = parse_qs(parts.query)
    return bool(parts.password or options.get("password") or options.get("ssl_certfile"))


# -- asking ------------------------------------------------------------------------------------------------------------


async def read(connection: Connection, *, near: str | None = None) -> Server:
    """Everything the server tells; of a cluster, the node that holds the key `near`.

    Raises Unavailable when it does not answer, Misconfigured for a wrong password.
    """
    if connection.address.scheme == "memory":
        return Server(connection.address)
    server = await read_vital(connection, near)
    ahead, latency = await _clock(connection, near)
    config = server.config if server.config is not None else await _config(connection, near)
    user = text(await told(connection, "ACL WHOAMI", near=near))
    return replace(
        server,
        config=config,
        fsync=(config or {}).get("appendfsync"),
        snapshots=(config or {}).get("save"),
        user=user,
        may=await _may(connection, user, near),
        commands=await _capabilities(connection, near),
        keys=await told(connection, "DBSIZE", near=near),
        clock_ahead=ahead,
        latency_ms=latency,
    )


async def read_vital(connection: Connection, near: str | None = None) -> Server:
    """What `unsafe` judges by. CONFIG is asked only where the append-only file is off."""
    info = await told(connection, "INFO", near=near)
    server = described(connection.address, info if isinstance(info, dict) else {})
    if server.aof is False:
        config = await _config(connection, near)
        return replace(server, config=config, snapshots=(config or {}).get("save"))
    return server


def described(address: Address, info: Mapping[str, Any]) -> Server:
    """What INFO tells."""
    return Server(
        address,
        product=_product(info),
        version=_version(info.get("redis_version")),
        mode=info.get("server_mode") or info.get("redis_mode"),
        role=info.get("role"),
        aof=_flag(info.get("aof_enabled")),
        aof_written=_is_ok(info.get("aof_last_write_status")),
        snapshot_written=_is_ok(info.get("rdb_last_bgsave_status")),
        eviction=info.get("maxmemory_policy"),
        memory_limit=info.get("maxmemory"),
        memory_used=info.get("used_memory"),
        replicas=_replicas(info),
    )


def _product(info: Mapping[str, Any]) -> str | None:
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}" if "redis_version" in info else None


def _version(text: object) -> tuple[int, ...] | None:
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", str(text))
    return tuple(int(number or 0) for number in numbers.groups()) if numbers else None


def _flag(value: Any) -> bool | None:
    return None if value is None else int(value) == 1


def _is_ok(value: object) -> bool | None:
    return None if value is None else value == "ok"


def _replicas(info: Mapping[str, Any]) -> tuple[Replica, ...] | None:
    if "connected_slaves" not in info:
        return None
    rows = [info.get(f"slave{n}") for n in range(int(info["connected_slaves"]))]
    return tuple(
        Replica(f"{row.get('ip')}:{row.get('port')}", str(row.get("state")), _lag(row.get("lag")))
        for row in rows
        if isinstance(row, dict)
    )


def _lag(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


async def told(connection: Connection, *command: Arg, near: str | None = None) -> Any:
    """The answer, or None where this user may not ask or this server does not know the command."""
    try:
        return await connection.do(*command, near=near)
    except EventBusError as error:
        if isinstance(error, Unavailable) or isinstance(error.__cause__, AuthenticationError):
            raise
        return None


async def _clock(connection: Connection, near: str | None) -> tuple[float | None, float]:
    """Seconds the server is ahead, and how long it took to ask in milliseconds."""
    before, began = time.time(), time.perf_counter()
    answer = await told(connection, "TIME", near=near)
    took = time.perf_counter() - began
    ahead = None if answer is None else int(answer[0]) + int(answer[1]) / 1e6 - (before + took / 2)
    return ahead, took * 1000


async def _config(connection: Connection, near: str | None) -> Mapping[str, str] | None:
    answer = await told(connection, "CONFIG GET", *_CONFIG, near=near)
    return {str(name): str(value) for name, value in answer.items()} if isinstance(answer, dict) and answer else None


async def _may(connection: Connection, user: str | None, near: str | None) -> tuple[str, ...] | None:
    answers = [await told(connection, "ACL DRYRUN", user or "default", *one, near=near) for one in DANGEROUS]
    if None in answers:
        return None
    return tuple(_name(command) for command, answer in zip(DANGEROUS, answers, strict=True) if text(answer) == "OK")


def _name(command: tuple[str, ...]) -> str:
    return " ".join(command[:2]) if command[0] in ("CONFIG", "ACL") else command[0]


async def _capabilities(connection: Connection, near: str | None) -> frozenset[str] | None:
    answer = await told(connection, "COMMAND INFO", *CAPABILITIES, near=near)
    if not isinstance(answer, list):
        return None
    return frozenset(name for name, known in zip(CAPABILITIES, answer, strict=True) if known)


def text(value: Any) -> str | None:
    """An answer as text; None stays None."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value

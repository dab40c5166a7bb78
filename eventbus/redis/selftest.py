"""Whether a server keeps what a durability level promises. Asked at the start, before the first event is accepted.

Redis before 7.4.3 and Valkey 8.0 answer WAITAOF before the fsync (release notes of Redis 7.4.3). Such a server is
recognised by its speed: under `appendfsync everysec` it syncs its file once a second (redis.conf), so it can't honestly
confirm five writes, one after another, within a second and a half. A rewrite of the file may add one sync.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from eventbus.errors import EventBusError, Misconfigured, OutcomeUnknown, Unavailable
from eventbus.redis.confirm import POLICY, Confirm, Durability, is_always
from eventbus.redis.connection import Connection, can_confirm

FIRST_SYNC = timedelta(seconds=4)
"""Redis may hold back its file for two seconds (aof.c, flushAppendOnlyFile); with `appendfsync no` it never asks."""

HASTE = 5
HASTE_SECONDS = 1.5


async def check_durability(connection: Connection, key: str, level: Durability, replicas: int = 1) -> None:
    """Raise Misconfigured, saying what to do, where this server can't keep the level.

    Writes `key`, one of the shard's slot, with a lifetime of a minute. Takes two seconds where WAITAOF has to be
    tried. Raises Unavailable where the server or one of its replicas is away.
    """
    if level == "memory":
        return
    can_confirm(connection.address)
    where = connection.address.text
    if level == "replica":
        found = int((await connection.do("INFO", "replication", near=key)).get("connected_slaves", 0))
        if found < replicas:
            # They may only be restarting: a publish without them is no more than unavailable, too.
            raise Unavailable(f"{where} has {found} of the {replicas} replicas that durability replica needs")
    elif not await _syncs_always(connection, key):
        await _check_waitaof(connection, key)


async def _syncs_always(connection: Connection, key: str) -> bool:
    """Whether each reply comes after the fsync. CONFIG may be forbidden: then it is not known to be so."""
    info = await connection.do("INFO", "persistence", near=key)
    if not int(info.get("aof_enabled", 0)):
        raise Misconfigured(
            f"{connection.address.text} has no append-only file, which durability aof needs: "
            "set it with: CONFIG SET appendonly yes"
        )
    try:
        told = await connection.do(*POLICY, near=key)
    except Misconfigured:
        return False
    except Unavailable:
        raise
    except EventBusError:  # managed servers have no such command at all
        return False
    return is_always(told)


async def _check_waitaof(connection: Connection, key: str) -> None:
    where = connection.address.text
    try:
        await connection.do("WAITAOF", 0, 0, 1, near=key)
    except EventBusError as error:
        if "unknown command" in str(error.__cause__):
            raise Misconfigured(
                f"{where} has no WAITAOF, which durability aof needs: use Redis 7.4.3 or newer, "
                "or have every write synced with: CONFIG SET appendfsync always"
            ) from error
        raise
    await _confirm(connection, key)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HASTE_SECONDS):
            for _ in range(HASTE):
                await _confirm(connection, key)
        raise Misconfigured(
            f"{where} answers WAITAOF before its file is synced ({HASTE} times within {HASTE_SECONDS:g} s): "
            "use Redis 7.4.3 or newer, or have every write synced with: CONFIG SET appendfsync always; "
            "if it does so already, allow this user CONFIG GET"
        )


async def _confirm(connection: Connection, key: str) -> None:
    try:
        await connection.do_confirmed("SET", key, "", "PX", 60_000, confirm=Confirm("aof", timeout=FIRST_SYNC))
    except OutcomeUnknown as error:
        if error.__cause__ is not None:  # the connection broke
            raise
        raise Misconfigured(
            f"{connection.address.text} does not sync its file within {FIRST_SYNC.total_seconds():g} s, as durability "
            "aof needs: set it with: CONFIG SET appendfsync everysec"
        ) from error

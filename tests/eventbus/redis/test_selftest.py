"""Which servers may be trusted with which durability level: real ones, and one that answers WAITAOF too early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eventbus import Misconfigured, Unavailable
from eventbus.redis.confirm import Durability
from eventbus.redis.connection import Connection
from eventbus.redis.selftest import check_durability
from tests.servers import BINARIES, server

NEWEST = BINARIES[max(BINARIES)]
OLDEST = BINARIES[min(BINARIES)]
KEY = "{t}:probe"


async def check(port: int, level: Durability, replicas: int = 1) -> None:
    connection = await Connection.open(f"redis://127.0.0.1:{port}/0")
    try:
        await check_durability(connection, KEY, level, replicas)
    finally:
        await connection.close()


@asynccontextmanager
async def hasty() -> AsyncIterator[int]:
    """A server that answers as Valkey 8.0.1 does: its policy is everysec, and it confirms before it has synced.

    Measured there with strace: twelve confirmations in 0.2 s, one fdatasync.
    """
    answers = {
        b"INFO": b"$13\r\naof_enabled:1\r\n",
        b"CONFIG": b"*4\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$11\r\nappendfsync\r\n$8\r\neverysec\r\n",
        b"WAITAOF": b"*2\r\n:1\r\n:0\r\n",
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await reader.readline():
            command = []
            for _ in range(int(header[1:])):
                size = int((await reader.readline())[1:])
                command.append((await reader.readexactly(size + 2))[:-2])
            writer.write(answers.get(command[0], b"+OK\r\n"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


async def test_a_server_that_confirms_before_it_syncs_is_found_out() -> None:
    async with hasty() as port:
        with pytest.raises(Misconfigured, match=r"answers WAITAOF before its file is synced \(5 times within 1.5 s\)"):
            await check(port, "aof")


async def test_a_server_that_waits_for_its_file_is_trusted_every_time(tmp_path: Path) -> None:
    with server(NEWEST, tmp_path) as one:
        for _ in range(3):
            await check(one.port, "aof")
        one.ask("BGREWRITEAOF")  # which may sync once more
        await check(one.port, "aof")


@pytest.mark.parametrize("binary", BINARIES.values(), ids=BINARIES.keys())
async def test_a_server_that_syncs_every_write_is_trusted(binary: Path, tmp_path: Path) -> None:
    with server(binary, tmp_path, "--appendfsync", "always") as one:
        await check(one.port, "aof")


async def test_a_server_that_never_syncs_is_refused(tmp_path: Path) -> None:
    with (
        server(NEWEST, tmp_path, "--appendfsync", "no") as one,
        pytest.raises(Misconfigured, match=r"does not sync its file within 4 s.*appendfsync everysec"),
    ):
        await check(one.port, "aof")


async def test_a_server_without_a_file_is_refused(tmp_path: Path) -> None:
    with (
        server(NEWEST, tmp_path, "--appendonly", "no") as one,
        pytest.raises(Misconfigured, match=r"no append-only file.*appendonly yes"),
    ):
        await check(one.port, "aof")


@pytest.mark.skipif(OLDEST == NEWEST, reason="this machine has one redis-server")
async def test_a_server_without_waitaof_is_told_what_to_do(tmp_path: Path) -> None:
    with (
        server(OLDEST, tmp_path) as one,
        pytest.raises(Misconfigured, match=r"has no WAITAOF.*Redis 7.4.3 or newer.*appendfsync always"),
    ):
        await check(one.port, "aof")


async def test_replicas_that_are_not_there_are_counted_and_may_come_back(tmp_path: Path) -> None:
    with server(NEWEST, tmp_path) as one, pytest.raises(Unavailable, match=r"has 0 of the 2 replicas"):
        await check(one.port, "replica", 2)


async def test_a_server_that_is_away_is_no_misconfiguration() -> None:
    with pytest.raises(Unavailable):
        await check(1, "aof")


async def test_memory_needs_no_promise() -> None:
    connection = await Connection.open("memory://")
    await check_durability(connection, KEY, "memory")
    with pytest.raises(Misconfigured, match="keeps nothing"):
        await check_durability(connection, KEY, "aof")
    await connection.close()

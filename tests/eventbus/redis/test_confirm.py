"""Confirmed writes on real servers: what is confirmed by whom, and what is said where nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from eventbus import EventBusError, Misconfigured, OutcomeUnknown
from eventbus.catalog import catalog
from eventbus.publisher import letter
from eventbus.redis.confirm import Confirm
from eventbus.redis.connection import Connection, SyncConnection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import Arg
from eventbus.redis.shard import publish_call
from tests.proxy import open_proxy
from tests.servers import BINARIES, Node, node, running, server, wait_for

NEWEST = BINARIES[max(BINARIES)]
SHARD = ShardKeys("confirmed")
SOON = timedelta(seconds=0.3)


def publishing(number: int = 1) -> tuple[str, list[str], list[Arg]]:
    """The script that publishes, and what it is given. Twice the same is a duplicate, which writes too."""
    sent = letter(catalog.event("custom.n", {"n": number}, idempotency_key=f"n-{number}"), timedelta(hours=1))
    return "publish", *publish_call(SHARD, [sent], touch=True)


@contextlib.asynccontextmanager
async def connected(one: Node) -> AsyncIterator[Connection]:
    connection = await Connection.open(f"redis://127.0.0.1:{one.port}/0")
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def everysec(tmp_path: Path) -> Iterator[Node]:
    """The newest server of this machine: it has WAITAOF, and syncs once a second."""
    with server(NEWEST, tmp_path / "everysec") as opened:
        yield opened


@pytest.fixture
def replicated(everysec: Node, tmp_path: Path) -> Iterator[Node]:
    """A replica of `everysec`, in step."""
    replica = node(NEWEST, tmp_path / "replica", "--replicaof", f"127.0.0.1 {everysec.port}")
    with running(replica):
        wait_for(lambda: everysec.ask("WAIT", 1, 100) == 1, "the replica is in step")
        yield replica


def status(reply: list[list[Any]]) -> bytes:
    return bytes(reply[0][0])


# -- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", BINARIES.values(), ids=BINARIES.keys())
async def test_a_server_that_syncs_every_write_needs_no_waitaof(binary: Path, tmp_path: Path) -> None:
    with server(binary, tmp_path, "--appendfsync", "always") as one:
        with contextlib.suppress(ResponseError):  # an older one has no such command
            one.ask("ACL", "SETUSER", "default", "-waitaof")
        async with connected(one) as connection:
            reply = await connection.run_confirmed(*publishing(), Confirm("aof"))

    assert status(reply) == b"stored"


async def test_a_write_is_confirmed_when_the_file_is_synced(everysec: Node) -> None:
    async with connected(everysec) as connection:
        start = time.monotonic()
        for number in range(3):
            assert status(await connection.run_confirmed(*publishing(number), Confirm("aof"))) == b"stored"

    assert time.monotonic() - start > 1.5  # the file is synced once a second


async def test_a_user_who_may_not_read_the_configuration_is_confirmed_by_waitaof(everysec: Node) -> None:
    everysec.ask("ACL", "SETUSER", "default", "-config")

    async with connected(everysec) as connection:
        assert status(await connection.run_confirmed(*publishing(), Confirm("aof"))) == b"stored"


async def test_a_file_that_is_not_synced_in_time_confirms_nothing(everysec: Node) -> None:
    everysec.ask("CONFIG", "SET", "appendfsync", "no")

    async with connected(everysec) as connection:
        with pytest.raises(OutcomeUnknown, match=r"its disk did not confirm it within 0\.3 s; repeat it"):
            await connection.run_confirmed(*publishing(), Confirm("aof", timeout=SOON))

        everysec.ask("CONFIG", "SET", "appendfsync", "everysec")
        reply = await connection.run_confirmed(*publishing(), Confirm("aof"))

    assert status(reply) == b"duplicate"  # the first one was taken


async def test_no_append_only_file_confirms_nothing(everysec: Node) -> None:
    everysec.ask("CONFIG", "SET", "appendonly", "no")

    async with connected(everysec) as connection:
        with pytest.raises(OutcomeUnknown, match=r"WAITAOF was refused: .*appendonly is disabled"):
            await connection.run_confirmed(*publishing(), Confirm("aof"))


async def test_a_server_that_stops_syncing_every_write_is_noticed(everysec: Node) -> None:
    everysec.ask("CONFIG", "SET", "appendfsync", "always")
    async with connected(everysec) as connection:
        await connection.run_confirmed(*publishing(1), Confirm("aof"))

        everysec.ask("CONFIG", "SET", "appendfsync", "no")

        with pytest.raises(OutcomeUnknown, match="its appendfsync is no longer always"):
            await connection.run_confirmed(*publishing(2), Confirm("aof", timeout=SOON))

        everysec.ask("CONFIG", "SET", "appendfsync", "everysec")
        assert status(await connection.run_confirmed(*publishing(2), Confirm("aof"))) == b"duplicate"


# -- replicas --------------------------------------------------------------------------------------------------------


async def test_a_write_is_confirmed_by_a_replica(everysec: Node, replicated: Node) -> None:
    async with connected(everysec) as connection:
        assert status(await connection.run_confirmed(*publishing(), Confirm("replica"))) == b"stored"

    assert replicated.ask("XLEN", SHARD.log) == 1


async def test_a_replica_that_does_not_answer_is_named_by_number(everysec: Node, replicated: Node) -> None:
    async with connected(everysec) as connection:
        await connection.run_confirmed(*publishing(), Confirm("replica"))
        replicated.kill()

        with pytest.raises(OutcomeUnknown, match="0 of 1 replicas confirmed it; repeat it"):
            await connection.run_confirmed(*publishing(2), Confirm("replica", timeout=SOON))


async def test_waiting_for_a_confirmation_holds_up_nobody_else(everysec: Node) -> None:
    async with connected(everysec) as connection:
        waiting = asyncio.create_task(
            connection.run_confirmed(*publishing(), Confirm("replica", timeout=timedelta(seconds=30)))
        )
        for number in range(2, 50):
            async with asyncio.timeout(5):
                await connection.run(*publishing(number))

        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert status(await connection.run_confirmed(*publishing(99), Confirm("aof"))) == b"stored"


# -- scripts ---------------------------------------------------------------------------------------------------------


async def test_a_script_that_the_server_forgot_is_sent_with_its_question(everysec: Node, replicated: Node) -> None:
    async with connected(everysec) as connection:
        for number in (1, 2):
            everysec.ask("SCRIPT FLUSH")
            assert status(await connection.run_confirmed(*publishing(number), Confirm("replica"))) == b"stored"

    assert replicated.ask("XLEN", SHARD.log) == 2


async def test_the_error_of_the_script_is_the_error(everysec: Node) -> None:
    everysec.ask("SET", SHARD.log, "not a stream")

    async with connected(everysec) as connection:
        with pytest.raises(EventBusError, match="in other use") as caught:
            await connection.run_confirmed(*publishing(), Confirm("aof"))

    assert not isinstance(caught.value, OutcomeUnknown)


async def test_a_lost_reply_is_unknown_and_the_write_is_not_repeated(everysec: Node, tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    direct = node(NEWEST, tmp_path / "socket", "--unixsocket", str(socket))
    with running(direct):
        async with open_proxy(socket) as proxy:
            connection = await Connection.open(proxy.url)
            proxy.lose_reply(b"EVAL\r\n")
            with pytest.raises(OutcomeUnknown, match="the connection to"):
                await connection.run_confirmed(*publishing(), Confirm("aof"))
            await connection.close()

        assert proxy.requests[b"EVAL\r\n"] == 1
        assert direct.ask("XLEN", SHARD.log) == 1


async def test_memory_confirms_at_once_and_nothing_else_there() -> None:
    connection = await Connection.open("memory://")

    assert status(await connection.run_confirmed(*publishing(), Confirm("memory"))) == b"stored"
    with pytest.raises(Misconfigured, match="memory:// keeps nothing"):
        await connection.run_confirmed(*publishing(), Confirm("aof"))
    await connection.close()


# -- without an event loop -------------------------------------------------------------------------------------------


def test_the_synchronous_connection_holds_the_same_conversation(everysec: Node, replicated: Node) -> None:
    with contextlib.closing(SyncConnection(f"redis://127.0.0.1:{everysec.port}/0", timeout=2)) as connection:
        assert status(connection.run_confirmed(*publishing(1), Confirm("memory"))) == b"stored"
        assert status(connection.run_confirmed(*publishing(2), Confirm("aof"))) == b"stored"
        everysec.ask("SCRIPT FLUSH")
        assert status(connection.run_confirmed(*publishing(3), Confirm("replica"))) == b"stored"
        replicated.kill()
        with pytest.raises(OutcomeUnknown, match="0 of 1 replicas"):
            connection.run_confirmed(*publishing(4), Confirm("replica", timeout=SOON))

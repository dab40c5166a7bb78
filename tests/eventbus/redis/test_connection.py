"""What a connection does after an error, and what it never does: repeat."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from eventbus import OutcomeUnknown, Unavailable
from eventbus.catalog import catalog
from eventbus.publisher import letter
from eventbus.redis.connection import Connection, SyncConnection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import Arg
from eventbus.redis.shard import publish_call
from tests.proxy import Proxy, open_proxy
from tests.servers import BINARIES, Node, node, running, wait_for

NEWEST = BINARIES[max(BINARIES)]
SHARD = ShardKeys("connection")


def publishing(number: int) -> tuple[str, list[str], list[Arg]]:
    sent = letter(catalog.event("custom.n", {"n": number}, idempotency_key=f"n-{number}"), timedelta(hours=1))
    return "publish", *publish_call(SHARD, [sent])


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[Node, Path]]:
    """A cluster of one node, and its socket."""
    socket = tmp_path / "redis.sock"
    one = node(NEWEST, tmp_path / "one", "--unixsocket", str(socket), "--cluster-enabled", "yes")
    with running(one):
        one.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_for(lambda: one.ask("CLUSTER INFO")["cluster_state"] == "ok", "the cluster is up")
        yield one, socket


@contextlib.asynccontextmanager
async def announced(alone: tuple[Node, Path]) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy that the cluster takes for its node, and the cluster's address."""
    one, socket = alone
    async with open_proxy(socket) as proxy:
        port = int(proxy.url.rpartition(":")[2].partition("/")[0])
        one.ask("CONFIG", "SET", "cluster-announce-port", port)
        yield proxy, f"redis+cluster://127.0.0.1:{port}"


async def test_a_cluster_client_does_not_repeat_what_it_got_no_answer_to(alone: tuple[Node, Path]) -> None:
    async with announced(alone) as (proxy, url):
        connection = await Connection.open(url)
        await connection.run(*publishing(1))
        proxy.lose_reply(b"EVALSHA")
        with pytest.raises(OutcomeUnknown, match="the connection to"):
            await connection.run(*publishing(2))
        await connection.close()

        assert proxy.requests[b"EVALSHA"] == 1
        assert alone[0].ask("XLEN", SHARD.log) == 2


async def test_nor_does_the_synchronous_one(alone: tuple[Node, Path]) -> None:
    async with announced(alone) as (proxy, url):
        connection = SyncConnection(url, timeout=4)
        await asyncio.to_thread(connection.run, *publishing(1))
        proxy.lose_reply(b"EVALSHA")
        with pytest.raises(OutcomeUnknown):
            await asyncio.to_thread(connection.run, *publishing(2))
        await asyncio.to_thread(connection.close)

        assert proxy.requests[b"EVALSHA"] == 1
        assert alone[0].ask("XLEN", SHARD.log) == 2


async def test_a_demoted_server_is_left_at_once(tmp_path: Path) -> None:
    """An address that leads to whoever is master, as a load balancer's does: old connections stay with the old one."""
    sockets = [tmp_path / "old.sock", tmp_path / "new.sock"]
    old, new = (node(NEWEST, tmp_path / one.stem, "--unixsocket", str(one)) for one in sockets)
    with running(old, new):
        async with open_proxy(sockets[0]) as proxy:
            connection = await Connection.open(proxy.url)
            same = SyncConnection(proxy.url, timeout=4)
            await connection.do("SET", "a", "old")
            await connection.run(*publishing(1))
            await asyncio.to_thread(same.run, *publishing(2))

            old.ask("REPLICAOF", "127.0.0.1", new.port)
            wait_for(lambda: old.role == "slave", "it is a replica")
            proxy._socket_path = sockets[1]  # for new connections

            with pytest.raises(Unavailable, match="read only replica"):
                await connection.run(*publishing(3))
            with pytest.raises(Unavailable, match="read only replica"):
                await asyncio.to_thread(same.run, *publishing(4))
            await connection.run(*publishing(3))
            await connection.do("SET", "a", "new")
            await asyncio.to_thread(same.run, *publishing(4))
            await asyncio.to_thread(same.close)
            await connection.close()

        assert new.ask("XLEN", SHARD.log) == 2

"""From addresses to clients: options, memory that is shared, and Sentinels that all stay known."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from eventbus import Misconfigured
from eventbus.redis import clients
from eventbus.redis.address import parse
from eventbus.redis.connection import Connection, SyncConnection
from tests.servers import MASTER, free_port

SECRET = "hunter2"

MASTERS = b"*1\r\n*24\r\n" + b"".join(
    b"$%d\r\n%s\r\n" % (len(word), word)
    for word in (
        *(b"name", MASTER.encode(), b"ip", b"127.0.0.1", b"port", b"6379", b"flags", b"master"),
        *(b"num-slaves", b"1", b"num-other-sentinels", b"2", b"quorum", b"2", b"last-ping-sent", b"0"),
        *(b"last-ok-ping-reply", b"0", b"down-after-milliseconds", b"1000", b"config-epoch", b"0", b"parallel-syncs"),
        b"1",
    )
)


async def test_sentinels_that_are_asked_at_once_all_stay_known() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(65536):
            writer.write(MASTERS if b"MASTERS" in request else b"+OK\r\n" * request.count(b"*"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        alive = listening.sockets[0].getsockname()[1]
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{alive},127.0.0.1:{free_port()}"
        client: Any = clients.asynchronous(parse(f"redis+sentinel://{hosts}/{MASTER}"))
        manager = client.connection_pool.sentinel_manager
        before = set(manager.sentinels)

        found = await asyncio.gather(*(client.connection_pool.get_master_address() for _ in range(10)))

        assert set(found) == {("127.0.0.1", 6379)}
        assert set(manager.sentinels) == before
        await clients.close(client)


@pytest.mark.parametrize("option", ["flavour=sweet", "socket_timeout=soon", f"credential={SECRET}"])
@pytest.mark.parametrize(
    "place", ["redis://localhost/0", "redis+sentinel://localhost/main", "redis+cluster://localhost"]
)
async def test_an_option_that_redis_py_does_not_know_is_a_misconfiguration(place: str, option: str) -> None:
    url = f"{place}?{option}"

    with pytest.raises(Misconfigured, match=re.escape(f"{place}: ")) as caught:
        await Connection.open(url)
    assert SECRET not in str(caught.value)
    with pytest.raises(Misconfigured, match=re.escape(f"{place}: ")):
        SyncConnection(url, timeout=1)


async def test_a_named_memory_is_shared_and_a_nameless_one_is_not() -> None:
    first, same, other = [await Connection.open(url) for url in ("memory://shared", "memory://shared", "memory://")]

    await first.do("SET", "a", "1")

    assert await same.do("GET", "a") == b"1"
    assert await other.do("GET", "a") is None
    for connection in (first, same, other):
        await connection.close()

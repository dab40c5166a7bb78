"""A master that dies behind Sentinels: everything goes on by itself, and what a replica confirmed is still there."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import closing, suppress
from datetime import timedelta

import pytest

from eventbus import EventBus, EventBusError, Misconfigured, SyncPublisher, Unavailable
from eventbus.catalog import catalog
from eventbus.journal import Said
from eventbus.publisher import letter
from eventbus.redis.confirm import Confirm
from eventbus.redis.connection import Connection, SyncConnection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.selftest import check_durability
from eventbus.redis.shard import publish_call
from tests.conftest import wait_until
from tests.servers import NEWEST, Watched, free_port
from tests.topology.load import RECOVERED_SECONDS, under_load

SHARD = ShardKeys("confirmed")
BY_REPLICA = Confirm("replica", timeout=timedelta(seconds=0.5))


async def test_publishing_handling_and_listening_go_on_when_the_master_is_killed(watched: Watched) -> None:
    async with under_load(watched.url) as load:
        watched.master.kill()

        await load.goes_on()

    assert watched.replica.role == "master"


async def test_log_lines_go_to_the_new_master(watched: Watched) -> None:
    async def taken() -> bool:
        with suppress(EventBusError):
            await bus.journal.append([Said(b"after")], keep=10)
            return True
        return False

    async with EventBus.open(watched.url) as bus:
        await bus.journal.append([Said(b"before")], keep=10)
        watched.master.kill()
        await wait_until(taken, "the new master takes lines", RECOVERED_SECONDS)
        assert (await bus.journal.before(None, most=1))[0].line == b"after"


async def test_the_old_master_comes_back_as_a_replica_and_nobody_minds(watched: Watched) -> None:
    async with under_load(watched.url) as load:
        watched.master.kill()
        await load.goes_on()

        watched.master.start()
        await wait_until(lambda: watched.master.role == "slave", "it is a replica", RECOVERED_SECONDS)

        await load.goes_on()


async def test_what_a_replica_confirmed_is_never_lost(watched: Watched) -> None:
    connection = await Connection.open(watched.url)
    confirmed: list[bytes] = []

    async def publish(number: int) -> None:
        sent = letter(catalog.event("custom.n", {"n": number}, idempotency_key=f"n-{number}"), timedelta(hours=1))
        call = publish_call(SHARD, [sent], touch=True)
        while True:
            with contextlib.suppress(Unavailable):
                await connection.run_confirmed("publish", *call, BY_REPLICA)
                break
            await asyncio.sleep(0.02)
        confirmed.append(sent.event_id.encode())

    async def publish_for_ever() -> None:
        number = 0
        while True:
            await asyncio.gather(*(publish(number + one) for one in range(10)))
            number += 10

    publishing = asyncio.create_task(publish_for_ever())
    await wait_until(lambda: len(confirmed) >= 200, "events are confirmed")
    watched.master.kill()
    await wait_until(lambda: watched.replica.role == "master", "a fail-over", RECOVERED_SECONDS)
    before = len(confirmed)
    watched.master.start()  # without a replica nothing could be confirmed any more
    await wait_until(lambda: len(confirmed) >= before + 200, "events are confirmed again", RECOVERED_SECONDS)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)

    rows = await connection.do("XRANGE", SHARD.log, "-", "+")
    await connection.close()
    wires = b"".join(fields[b"e"] for _, fields in rows)
    assert [one for one in confirmed if one not in wires] == []
    assert max(wires.count(one) for one in confirmed) == 1


def test_the_synchronous_publisher_finds_the_new_master(watched: Watched) -> None:
    with SyncPublisher(watched.url, timeout=timedelta(seconds=2)) as bus:
        assert bus.publish("custom.n", {"n": 1}).status == "stored"
        watched.master.kill()

        def publishes() -> bool:
            with contextlib.suppress(Unavailable):
                return bus.publish("custom.n", {"n": 2}, idempotency_key="second").status in ("stored", "duplicate")
            return False

        assert any(publishes() for _ in range(15))


async def test_replicas_are_counted_at_the_master(watched: Watched) -> None:
    connection = await Connection.open(watched.url)

    await check_durability(connection, "{t}:probe", "replica", 1)
    with pytest.raises(Unavailable, match="has 1 of the 2 replicas"):
        await check_durability(connection, "{t}:probe", "replica", 2)
    await connection.close()


async def error_at(url: str) -> EventBusError:
    connection = await Connection.open(url)
    try:
        with pytest.raises(EventBusError) as caught:
            await connection.do("PING")
    finally:
        await connection.close()
    with closing(SyncConnection(url, timeout=1)) as same, pytest.raises(type(caught.value)):
        same.run("beat", ["{t}:alive"], [0, "consumer"])
    return caught.value


@pytest.mark.parametrize("watched", [NEWEST], ids=["newest"], indirect=True)
async def test_sentinels_that_can_not_help_say_why(watched: Watched) -> None:
    hosts = watched.url.removeprefix("redis+sentinel://").partition("/")[0]

    unknown = await error_at(f"redis+sentinel://{hosts}/other")
    assert type(unknown) is Unavailable
    assert "names a master that is up" in str(unknown)
    assert "sentinel masters" in str(unknown)

    away = await error_at(f"redis+sentinel://127.0.0.1:{free_port()}/main")
    assert type(away) is Unavailable

    for sentinel in watched.sentinels:
        sentinel.ask("ACL", "SETUSER", "default", "resetpass", ">hunter2")
    locked = await error_at(watched.url)
    assert type(locked) is Misconfigured
    assert "sentinel_password" in str(locked)

    connection = await Connection.open(f"{watched.url}?sentinel_password=hunter2")
    assert await connection.do("PING")
    await connection.close()

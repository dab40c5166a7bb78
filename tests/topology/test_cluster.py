"""A cluster: all of the bus works on it, each key on the node that holds it, and a master that dies stops nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus import Event, EventBus, Misconfigured, OutcomeUnknown, SyncPublisher, Unavailable
from eventbus.catalog import catalog
from eventbus.journal import Said
from eventbus.ledger import Permission
from eventbus.publisher import letter
from eventbus.redis.confirm import Confirm
from eventbus.redis.connection import Connection, SyncConnection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import Arg
from eventbus.redis.selftest import check_durability
from eventbus.redis.shard import publish_call
from eventbus.tally import Change
from tests.conftest import wait_until
from tests.servers import NEWEST, Cluster, free_port, server
from tests.topology.load import RECOVERED_SECONDS, under_load


def publishing(shard: ShardKeys, number: int) -> tuple[str, list[str], list[Arg]]:
    sent = letter(catalog.event("custom.n", {"n": number}, idempotency_key=f"n-{number}"), timedelta(hours=1))
    return "publish", *publish_call(shard, [sent], touch=True)


# -- all of the bus --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["a", "b", "c"])  # whichever node holds it
async def test_events_are_published_handled_and_heard(whole: Cluster, namespace: str) -> None:
    handled: list[int] = []
    heard: list[int] = []

    async with EventBus.open(whole.url, namespace=namespace) as bus:
        await bus.check_server()
        await bus.subscribe("custom.n", lambda event: heard.append(event.data["n"]))

        async def handle(event: Event[Any]) -> None:
            handled.append(event.data["n"])

        await bus.subscribe("custom.n", handle, group="handlers")
        for number in range(50):
            await bus.publish("custom.n", {"n": number}, key=f"k:{number % 3}")
        await bus.publish("custom.n", {"n": 50}, delay=timedelta(seconds=0.2))
        await bus.run_until_idle()
        await wait_until(lambda: len(heard) >= 50, "the live feed has told all")

        assert sorted(handled)[:50] == list(range(50))
        assert await bus.audit() == []


async def test_ledger_and_tables_work_whatever_slot_their_keys_are_in(whole: Cluster) -> None:
    async with EventBus.open(whole.url, namespace="ledger") as bus:
        for number in range(20):
            entry = await bus.ledger.intend(f"action-{number}", b"content")
            assert entry.permission is Permission.GO
            await bus.ledger.done(entry, {"n": number})
            assert (await bus.ledger.intend(f"action-{number}", b"content")).result == {"n": number}

            table = bus.table(f"table-{number}")
            await table.put("lasting", number)
            await table.put("passing", number, lifetime=timedelta(minutes=1))
            assert (await table.get("lasting"), await table.get("passing")) == (number, number)
            assert await table.items("") == {"lasting": number}
            changes = [Change("added", {"value": number}), Change("set", {"value": number}, datetime.now(UTC))]
            found = [await table.tally("key", changes, idle=timedelta(days=1)) for _ in range(2)]
            assert [one.is_new for one in found] == [True, False]
            assert (await table.tallied())["added"] == {"value": number}


@pytest.mark.parametrize("namespace", ["a", "b", "c"])  # whichever node holds it
async def test_log_lines_are_kept_and_read(whole: Cluster, namespace: str) -> None:
    async with EventBus.open(whole.url, namespace=namespace) as bus:
        await bus.journal.append([Said(b"%d" % number, is_warning=True) for number in range(30)], keep=20)
        newest = await bus.journal.before(None, most=5)
        assert [kept.line for kept in newest] == [b"29", b"28", b"27", b"26", b"25"]
        assert [kept.line for kept in await bus.journal.after(newest[1].place, most=5)] == [b"29"]
        assert await bus.journal.before(None, warnings=True, most=5) == newest


def test_a_script_without_an_event_loop_publishes(whole: Cluster) -> None:
    with SyncPublisher(whole.url, namespace="sync") as bus:
        assert bus.publish("custom.n", {"n": 1}, idempotency_key="one").status == "stored"
        assert bus.publish("custom.n", {"n": 1}, idempotency_key="one").status == "duplicate"


@pytest.mark.parametrize("namespace", ["a", "b", "c"])
async def test_a_write_is_confirmed_by_the_replica_of_its_own_node(whole: Cluster, namespace: str) -> None:
    shard = ShardKeys(f"confirm-{namespace}")
    connection = await Connection.open(whole.url)
    await check_durability(connection, shard.log, "replica", 1)
    with pytest.raises(Unavailable, match="has 1 of the 2 replicas"):
        await check_durability(connection, shard.log, "replica", 2)

    await connection.run_confirmed(*publishing(shard, 1), Confirm("replica"))
    await connection.run_confirmed(*publishing(shard, 2), Confirm("aof"))
    with pytest.raises(OutcomeUnknown, match="1 of 2 replicas"):
        await connection.run_confirmed(*publishing(shard, 3), Confirm("replica", 2, timedelta(seconds=0.2)))

    def without_a_loop() -> None:
        with contextlib.closing(SyncConnection(whole.url, timeout=2)) as same:
            same.run_confirmed(*publishing(shard, 4), Confirm("replica"))
            with pytest.raises(OutcomeUnknown, match="1 of 2 replicas"):
                same.run_confirmed(*publishing(shard, 5), Confirm("replica", 2, timedelta(seconds=0.2)))

    await asyncio.to_thread(without_a_loop)
    assert int(await connection.do("XLEN", shard.log)) == 5
    await connection.close()


async def test_a_command_without_a_key_goes_to_the_node_of_the_key_beside_it(whole: Cluster) -> None:
    connection = await Connection.open(whole.url)
    for number in range(12):
        key = f"{{near-{number}}}"
        info = await connection.do("INFO", "server", near=key)
        assert int(info["tcp_port"]) == whole.owner(key).port
    await connection.close()


# -- what a node says no to ------------------------------------------------------------------------------------------


async def test_a_slot_that_moves_is_followed_and_scripts_wait_until_it_has(whole: Cluster) -> None:
    shard = ShardKeys("moving")
    source = whole.owner(shard.log)
    target = next(one for one in whole.masters if one is not source)
    slot, name = int(source.ask("CLUSTER", "KEYSLOT", shard.log)), target.ask("CLUSTER MYID").decode()
    connection = await Connection.open(whole.url)
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER MYID").decode())
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", name)

    await connection.do("SET", shard.log + ":x", "1")  # ASK
    assert target.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
    # "TRYAGAIN: multi-keys operations may become unavailable when a slot is migrated": Redis Cluster specification
    with pytest.raises(Unavailable) as caught:
        await connection.run(*publishing(shard, 1))
    assert type(caught.value) is Unavailable
    for one in (target, *whole.masters):
        one.ask("CLUSTER", "SETSLOT", slot, "NODE", name)
    stored = await connection.run(*publishing(shard, 1))  # MOVED
    await connection.close()

    assert stored[0][0] == b"stored"
    assert target.ask("XLEN", shard.log) == 1


async def test_a_confirmed_write_to_a_slot_that_moved_is_surely_not_done_and_then_works(whole: Cluster) -> None:
    shard = ShardKeys("moved")
    connection = await Connection.open(whole.url)
    await connection.run_confirmed(*publishing(shard, 0), Confirm("replica"))
    source = whole.owner(shard.log)
    source.ask("DEL", *[f"{shard.tag}:{part}" for part in ("log", "sequence")], shard.once("n-0"))
    target = next(one for one in whole.masters if one is not source)
    slot, name = int(source.ask("CLUSTER", "KEYSLOT", shard.log)), target.ask("CLUSTER MYID").decode()
    for one in (target, *whole.masters):
        one.ask("CLUSTER", "SETSLOT", slot, "NODE", name)

    with pytest.raises(Unavailable) as caught:
        await connection.run_confirmed(*publishing(shard, 1), Confirm("replica"))
    assert type(caught.value) is Unavailable
    stored = await connection.run_confirmed(*publishing(shard, 1), Confirm("replica"))
    await connection.close()

    assert stored[0][0] == b"stored"


async def test_a_server_that_is_no_cluster_and_one_that_is_away_say_so(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with server(NEWEST, tmp_path_factory.mktemp("alone")) as alone:
        for url, kind in (
            (f"redis+cluster://127.0.0.1:{alone.port}", Misconfigured),
            (f"redis+cluster://127.0.0.1:{free_port()}", Unavailable),
        ):
            connection = await Connection.open(url)
            with pytest.raises(kind, match=re.escape(url)):
                await connection.do("GET", "a")
            await connection.close()
            with contextlib.closing(SyncConnection(url, timeout=1)) as same, pytest.raises(kind, match=re.escape(url)):
                same.run("beat", ["{t}:alive"], [0, "consumer"])


# -- a master dies ---------------------------------------------------------------------------------------------------


async def test_publishing_handling_and_listening_go_on_when_their_master_is_killed(breakable: Cluster) -> None:
    owner = breakable.owner(ShardKeys("load").log)
    async with under_load(breakable.url) as load:
        owner.kill()

        await load.goes_on()


async def test_the_death_of_another_master_is_not_noticed_for_long(breakable: Cluster) -> None:
    owner = breakable.owner(ShardKeys("load").log)
    other = next(one for one in breakable.masters if one is not owner)
    async with under_load(breakable.url) as load:
        other.kill()

        await load.goes_on()


async def test_confirmed_writes_and_scripts_without_a_loop_find_the_new_master(breakable: Cluster) -> None:
    shard = ShardKeys("load")
    connection = await Connection.open(breakable.url)
    same = await asyncio.to_thread(SyncConnection, breakable.url, timeout=2)
    await connection.run_confirmed(*publishing(shard, 1), Confirm("replica"))
    await asyncio.to_thread(same.run, *publishing(shard, 2))
    owner = breakable.owner(shard.log)
    owner.kill()

    async def is_confirmed() -> bool:
        with contextlib.suppress(Unavailable):
            return bool(await connection.run_confirmed(*publishing(shard, 3), Confirm("aof")))
        return False

    async def is_published() -> bool:
        with contextlib.suppress(Unavailable):
            return bool(await asyncio.to_thread(same.run, *publishing(shard, 4)))
        return False

    if breakable.nodes[-1].ask("COMMAND LIST", "FILTERBY", "PATTERN", "waitaof"):  # Redis 7.2 and newer
        await wait_until(is_confirmed, "a write is confirmed", RECOVERED_SECONDS)
    await wait_until(is_published, "a write without a loop", RECOVERED_SECONDS)
    await connection.close()
    await asyncio.to_thread(same.close)

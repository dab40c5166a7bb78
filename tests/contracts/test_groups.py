"""How groups come, stand and go: what declare.lua, backlog.lua and retire.lua promise, on both backends."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from eventbus.redis.connection import Connection
from eventbus.redis.shard import Backlog, MissingGroup, Shard
from tests.contracts.bench import DONE, LEASE, NODE, Bench, wires

# -- declare -----------------------------------------------------------------------------------------------------------


async def test_a_new_group_starts_where_it_was_told_to(bench: Bench) -> None:
    await bench.publish(None)
    assert await bench.declare(group="old")
    assert await bench.declare(group="new", behind="$")
    await bench.publish(None)
    assert wires((await bench.take(group="old")).taken) == ["1", "2"]
    assert wires((await bench.take(group="new")).taken) == ["2"]


async def test_a_new_group_starts_behind_an_entry_that_may_never_have_been(bench: Bench) -> None:
    first, second, _ = await bench.publish(None, None, None)
    ms, part = first.entry_id.split("-")
    await bench.declare(group="behind", behind=second.entry_id)
    await bench.declare(group="between", behind=f"{ms}-{int(part)}")
    await bench.declare(group="before", behind=f"{int(ms) - 1}-18446744073709551615")
    await bench.declare(group="beyond", behind=f"{int(ms) + 3_600_000}-0")
    assert wires((await bench.take(group="behind")).taken) == ["3"]
    assert wires((await bench.take(group="between")).taken) == ["2", "3"]
    assert wires((await bench.take(group="before")).taken) == ["1", "2", "3"]
    assert (await bench.take(group="beyond")).taken == []


async def test_a_group_may_be_declared_before_the_first_event(bench: Bench) -> None:
    assert await bench.declare(behind="$")
    await bench.publish(None)
    assert wires(await bench.taken()) == ["1"]


async def test_a_known_group_keeps_its_place_and_takes_the_new_patterns(bench: Bench) -> None:
    await bench.declare("vm.*")
    await bench.publish(None)
    await bench.settle("a", await bench.one())
    assert not await bench.declare("task.*", "vm.x.>", behind="$")
    await bench.publish(None, topic="vm.created")
    await bench.publish(None, topic="task.done")
    await bench.publish(None, topic="vm.x.y")
    assert [one.topic for one in await bench.taken()] == ["task.done", "vm.x.y"]
    assert await bench.shard.declared() == {"g": ["task.*", "vm.x.>"]}


async def test_of_many_who_declare_one_group_at_once_one_is_told_it_is_new(bench: Bench, url: str) -> None:
    await bench.publish(None)
    connections = [await Connection.open(url) for _ in range(8)]
    shards = [Shard(connection, bench.keys) for connection in connections]
    told = await asyncio.gather(*[shard.declare("g", [">"], behind="0") for shard in shards])
    for connection in connections:
        await connection.close()
    assert sorted(told) == [False] * 7 + [True]
    assert wires(await bench.taken()) == ["1"]


async def test_unwanted_topics_are_acknowledged_in_the_script_and_count_as_read(bench: Bench) -> None:
    await bench.declare("vm.*")
    await bench.publish(None, "k", topic="task.done")
    await bench.publish("k")
    batch = await bench.take()
    assert (batch.read, wires(batch.taken)) == (3, ["3"])
    assert list(await bench.owners()) == [batch.taken[0].entry_id]


@pytest.mark.parametrize("lost", ["group", "log"])
async def test_a_lost_group_is_missed_and_declared_again_starts_at_the_earliest(bench: Bench, lost: str) -> None:
    if lost == "log" and bench.connection.address.scheme == "memory":
        pytest.skip("fakeredis has words of its own for XREADGROUP on a missing key")
    await bench.declare(behind="$")
    await bench.publish(None)
    one = await bench.one()
    if lost == "group":
        await bench.do("XGROUP", "DESTROY", bench.keys.log, "g")
    else:
        await bench.do("DEL", bench.keys.log)
    with pytest.raises(MissingGroup):
        await bench.take()
    with pytest.raises(MissingGroup):
        await bench.settle("a", one)
    with pytest.raises(MissingGroup):
        await bench.bury("a", one)
    with pytest.raises(MissingGroup):
        await bench.shard.recover("g", "a", [])
    await bench.publish(None)
    assert not await bench.declare(behind="$"), "it is not new"
    assert wires(await bench.taken("b")) == (["1", "2"] if lost == "group" else ["2"])


async def test_the_sweep_misses_a_lost_group_but_finds_nothing_in_a_lost_log(bench: Bench) -> None:
    await bench.declare()
    await bench.do("XGROUP", "DESTROY", bench.keys.log, "g")
    with pytest.raises(MissingGroup):
        await bench.shard.sweep("g", poison_limit=3)
    await bench.do("DEL", bench.keys.log)
    assert await bench.shard.sweep("g", poison_limit=3) == (0, 0, 0)


@pytest.mark.parametrize("lost", ["group", "log"])
async def test_a_lost_group_leaves_no_lane_behind_that_stops_its_successor(bench: Bench, lost: str) -> None:
    await bench.declare()
    await bench.publish("k", "k", "l", "m", "m", None, None)
    first = await bench.taken()
    await bench.retry("a", first[1], 60_000)  # l waits for its time
    await bench.retry("a", first[2], 0)  # m is ready
    await bench.crash("a")  # the rest is ready, with a crash
    await bench.taken("b", 2)
    await bench.crash("b")  # and two of them are suspects
    if lost == "group":
        await bench.do("XGROUP", "DESTROY", bench.keys.log, "g")
    else:
        await bench.do("DEL", bench.keys.log)
    await bench.declare()
    await bench.publish("k", "k")
    done = []
    while batch := await bench.taken("c", suspects=True):
        assert len({one.key for one in batch if one.key}) == len([one for one in batch if one.key])
        assert all(not one.suspect and one.attempt == 1 for one in batch)
        assert set(await bench.settle("c", *batch)) == {DONE}
        done += batch
    expected = ["1", "2", "3", "4", "5", "6", "7", "8", "9"] if lost == "group" else ["8", "9"]
    assert sorted(wires(done)) == expected
    for key in ("k", "m"):
        lane = [int(one.wire) for one in done if one.key == key]
        assert lane == sorted(lane)
    assert not any(await bench.state())


# -- backlog -----------------------------------------------------------------------------------------------------------


async def test_backlog_says_where_everything_stands(bench: Bench) -> None:
    assert await bench.shard.backlog("g") is None
    await bench.declare()
    empty = await bench.shard.backlog("g")
    assert empty == Backlog(0, 0, 0, 0, 0, 0, 0, 0)
    assert empty.is_empty
    await bench.publish("k", "k", "k", None, None, None, None, None)
    _, later, ready, dead = await bench.taken("a", 6)
    await bench.retry("a", later, 60_000)
    await bench.retry("a", ready)
    await bench.bury("a", dead)
    assert (await bench.backlog())[:7] == (2, 1, 2, 1, 1, 1, 0)
    await bench.taken("b")
    await bench.crash("b")
    await bench.taken("b")
    await bench.crash("b")
    stands = await bench.backlog()
    assert (stands.unread, stands.running, stands.ready) == (0, 1, 3), "suspects are ready too"
    assert not stands.is_empty


async def test_backlog_shows_a_pause(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    one = await bench.one()
    await bench.pause("a", one, LEASE)
    stands = await bench.backlog()
    assert 50_000 < stands.paused_ms <= 60_000


@pytest.mark.parametrize("trimmed", ["nothing", "by the bus", "by somebody"])
@pytest.mark.parametrize("start", ["the beginning", "an entry", "now"])
async def test_unread_is_exact_wherever_a_group_starts_and_the_log_begins(
    bench: Bench, start: str, trimmed: str
) -> None:
    stored = await bench.publish(*[None] * (2 * NODE))
    if trimmed == "by the bus":
        assert await bench.history.trim(timedelta(), keep=0) >= NODE
    elif trimmed == "by somebody":
        for one in stored[:3]:
            await bench.do("XDEL", bench.keys.log, one.entry_id)
    left = await bench.do("XLEN", bench.keys.log)
    place = stored[-6].entry_id
    await bench.declare(behind={"the beginning": "0", "an entry": place, "now": "$"}[start])
    if trimmed == "by the bus" and left < 6:  # fakeredis trims to the entry, Redis to the node
        place, left = "0-0", 0
    expected = {"the beginning": left, "an entry": min(left, 5), "now": 0}[start]
    assert (await bench.backlog()).unread == expected
    await bench.publish(None, None)
    assert (await bench.backlog()).unread == expected + 2
    assert len(await bench.drain()) == expected + 2
    assert (await bench.backlog()).unread == 0


async def test_unread_counts_down_to_nothing_when_the_last_entries_were_deleted(bench: Bench) -> None:
    await bench.declare()
    stored = await bench.publish(*[None] * 6)
    await bench.taken("a", 2)
    for one in stored[4:]:
        await bench.do("XDEL", bench.keys.log, one.entry_id)
    assert (await bench.backlog()).unread >= 2
    await bench.taken("a", 2)
    assert (await bench.backlog()).unread == 0


async def test_backlog_tells_the_age_of_the_oldest_unfinished_event(bench: Bench) -> None:
    await bench.declare()
    now = await bench.now()
    for number, age in ((1, 50_000), (2, 20_000)):
        await bench.do("XADD", bench.keys.log, f"{now - age}-0", "t", "a.b", "k", "", "s", number, "e", "x")
    await bench.do("SET", bench.keys.sequence, 2)
    assert 50_000 <= (await bench.backlog()).oldest_ms < 60_000
    first, second = await bench.taken()
    assert 50_000 <= (await bench.backlog()).oldest_ms < 60_000
    await bench.settle("a", first)
    assert 20_000 <= (await bench.backlog()).oldest_ms < 30_000
    await bench.settle("a", second)
    assert (await bench.backlog()).oldest_ms == 0


# -- retire ------------------------------------------------------------------------------------------------------------


async def everything_at_once(bench: Bench) -> None:
    """A group with something in each of its keys but the dead letters; 6 deliveries are not finished."""
    await bench.publish("k", "k", None, None, None, None)
    for consumer in ("a", "b"):
        await bench.taken(consumer, 4)
        await bench.crash(consumer)
    held, again = await bench.taken("a", 2)
    await bench.retry("a", again, 60_000)
    await bench.pause("a", held, LEASE)


async def test_a_group_that_grew_is_not_retired_and_nothing_changes(bench: Bench) -> None:
    await bench.declare()
    await everything_at_once(bench)
    shown = (await bench.backlog()).left
    await bench.publish(None)
    before = await bench.state()
    assert await bench.history.retire("g", shown) == (False, shown + 1)
    assert await bench.state() == before
    assert list(await bench.shard.declared()) == ["g"]
    assert await bench.history.retire("g", shown + 1) == (True, shown + 1)


async def test_a_retired_group_leaves_no_key_and_others_untouched(bench: Bench) -> None:
    await bench.declare()
    await bench.declare(group="other")
    await everything_at_once(bench)
    await bench.taken("o", 1, group="other")
    others = await bench.backlog("other")
    done, shown = await bench.history.retire("g", 1000)
    assert (done, shown) == (True, 6)
    prefix = f"{bench.keys.tag}:group:g:"
    assert [name.decode() for name in await bench.do("KEYS", f"*{bench.keys.namespace}:*") if prefix in str(name)] == []
    assert await bench.shard.declared() == {"other": [">"]}
    assert await bench.shard.backlog("g") is None
    assert (await bench.backlog("other"))[:7] == others[:7]
    await bench.silence("o")
    await bench.shard.sweep("other", poison_limit=3)
    assert sorted(await bench.drain(group="other")) == ["1", "2", "3", "4", "5", "6"]


async def test_who_still_holds_work_of_a_retired_group_is_told_that_it_is_gone(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    one = await bench.one()
    await bench.history.retire("g", 1)
    with pytest.raises(MissingGroup):
        await bench.settle("a", one)


async def test_a_retired_group_that_comes_again_is_new(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k")
    await bench.one()
    await bench.history.retire("g", 2)
    assert await bench.declare(behind="$")
    await bench.publish("k")
    assert await bench.drain() == ["3"]
    assert await bench.gaps() == []


async def test_trimming_goes_on_without_the_retired_group(bench: Bench) -> None:
    await bench.declare()
    await bench.declare(group="slow")
    await bench.publish(*[None] * (2 * NODE))
    await bench.settle("a", *await bench.taken("a", 2 * NODE))
    assert await bench.history.trim(timedelta(), keep=0) == 0
    await bench.history.retire("slow", 2 * NODE)
    assert await bench.history.trim(timedelta(), keep=0) >= NODE


async def test_a_group_whose_place_is_lost_can_be_retired(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    await bench.do("XGROUP", "DESTROY", bench.keys.log, "g")
    assert await bench.history.trim(timedelta(), keep=0) == -1
    assert await bench.history.retire("g", 0) == (True, 0)
    assert await bench.history.trim(timedelta(), keep=0) >= 0


async def test_a_group_that_never_was_can_not_be_retired(bench: Bench) -> None:
    assert await bench.history.retire("g", 100) == (None, 0)
    await bench.publish(None)
    assert await bench.history.retire("g", 100) == (None, 0)

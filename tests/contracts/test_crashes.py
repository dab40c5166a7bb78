"""What sweep.lua, beat.lua and recover.lua promise of consumers that die, lost replies and entries that vanish.

On both backends.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from eventbus.redis.shard import Taken
from tests.contracts.bench import DONE, LEASE, Bench, said, wires

# -- crashes -----------------------------------------------------------------------------------------------------------


async def test_the_sweep_leaves_alone_whoever_beats(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None, None)
    await bench.taken("a", 1)
    await bench.taken("b", 1)
    await bench.silence("a")
    await bench.shard.beat(["b"], LEASE)
    assert (await bench.shard.sweep("g", poison_limit=3))[0] == 1
    assert wires(await bench.taken("c")) == ["1"]
    assert [owner for owner, _ in (await bench.owners()).values()] == ["c", "b"]


async def test_a_beat_saves_a_consumer_that_was_about_to_be_swept(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    await bench.one("a")
    await bench.silence("a")
    await bench.shard.beat(["a"], LEASE)
    assert (await bench.shard.sweep("g", poison_limit=3)) == (0, 0, 0)


async def test_a_good_bye_lets_the_sweep_take_back_at_once(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    await bench.one("a")
    await bench.shard.beat(["a"], timedelta())
    assert (await bench.shard.sweep("g", poison_limit=3))[0] == 1


async def test_the_sweep_touches_nothing_that_waits(bench: Bench) -> None:
    """Behind a lane, for its time, or ready: nobody runs it, so nobody can have died with it."""
    await bench.declare()
    await bench.publish("k", "k", None, None)
    holder, later, ready = await bench.taken()
    await bench.retry("a", later, 60_000)
    await bench.retry("a", ready)
    before = await bench.state()
    assert (await bench.shard.sweep("g", poison_limit=1)) == (0, 0, 0)
    assert await bench.state() == before
    assert await bench.settle("a", holder) == [DONE]


async def test_first_crash_ready_second_suspect_third_dead(bench: Bench) -> None:
    await bench.declare()
    (stored,) = await bench.publish("k")
    await bench.one("a")
    assert await bench.crash("a") == 0
    second = await bench.one("b")
    assert (second.attempt, second.suspect) == (1, False)
    assert await bench.crash("b") == 0
    unasked = await bench.take("c")
    assert (unasked.taken, unasked.suspects) == ([], 1)
    (third,) = await bench.taken("c", suspects=True)
    assert (third.attempt, third.suspect) == (1, True)
    assert await bench.crash("c") == 1
    (dead,) = await bench.dead()
    assert (dead.entry_id, dead.reason, dead.attempts) == (stored.entry_id, "poison", 3)
    assert (dead.topic, dead.key, dead.sequence, dead.wire) == ("vm.created", "k", 1, b"1")
    assert not any((await bench.state())[:-1])


async def test_suspects_are_given_one_at_a_time_beside_other_work(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None, None, None)
    for consumer in ("a", "b"):
        assert len(await bench.taken(consumer)) == 3
        await bench.crash(consumer)
    await bench.publish(None)
    batch = await bench.take("c", suspects=True)
    assert [(one.wire, one.suspect) for one in batch.taken] == [(b"1", True), (b"4", False)]
    assert batch.suspects == 2


async def test_a_suspect_that_is_done_is_forgotten(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    for consumer in ("a", "b"):
        await bench.one(consumer)
        await bench.crash(consumer)
    (one,) = await bench.taken("c", suspects=True)
    await bench.settle("c", one)
    assert not any(await bench.state())


@pytest.mark.parametrize("way", ["retried", "handed back", "retried later", "recovered"])
async def test_a_suspect_stays_one_until_it_is_done(bench: Bench, way: str) -> None:
    await bench.declare()
    await bench.publish(None)
    for consumer in ("a", "b"):
        await bench.one(consumer)
        await bench.crash(consumer)
    (one,) = await bench.taken("c", suspects=True)
    if way == "recovered":
        await bench.shard.recover("g", "c", [])
    else:
        await bench.retry("c", one, 60_000 if way == "retried later" else 0, counts=way != "handed back")
        await bench.due_now()
    batch = await bench.take("d")
    assert (batch.taken, batch.suspects) == ([], 1)
    assert [one.suspect for one in await bench.taken("d", suspects=True)] == [True]


async def test_a_consumer_is_forgotten_only_when_it_owns_nothing(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(*[None] * 205)
    assert len(await bench.taken("a", 300)) == 205
    await bench.silence("a")
    swept = [(await bench.shard.sweep("g", poison_limit=3))[:2] for _ in range(4)]
    assert swept == [(200, 0), (5, 0), (0, 1), (0, 0)]
    assert len(await bench.taken("b", 300)) == 205


async def test_pseudo_consumers_are_never_forgotten_while_they_own_something(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k")
    first = await bench.one()
    await bench.crash("a")
    await bench.shard.sweep("g", poison_limit=3)
    assert {owner for owner, _ in (await bench.owners()).values()} == {"~ready", "~wait"}
    again = await bench.one("b")
    assert (again.entry_id, again.fence > first.fence) == (first.entry_id, True)


# -- lost replies ------------------------------------------------------------------------------------------------------


async def test_a_lost_take_is_recovered_and_blames_no_crash(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k", None)
    await bench.taken("a")  # the reply is lost
    assert await bench.shard.recover("g", "a", []) == 2
    assert await bench.do("EXISTS", bench.names["crashes"], bench.names["attempts"], bench.names["suspects"]) == 0
    again = await bench.taken("a")
    assert [(one.wire, one.attempt, one.suspect) for one in again] == [(b"1", 1, False), (b"3", 1, False)]


async def test_recover_leaves_what_is_known_and_other_consumers_alone(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None, None, None)
    (known,) = await bench.taken("a", 1)
    (others,) = await bench.taken("b", 1)
    await bench.taken("a", 1)  # the reply is lost
    assert await bench.shard.recover("g", "a", [(known.entry_id, known.fence)]) == 1
    assert await bench.settle("a", known) == [DONE]
    assert await bench.settle("b", others) == [DONE]
    assert wires(await bench.taken("c")) == ["3"]


async def test_recover_takes_what_is_known_by_an_old_fence_only(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    first = await bench.one("a")
    await bench.crash("a")
    await bench.taken("a")  # taken again by the same consumer; the reply is lost
    assert await bench.shard.recover("g", "a", [(first.entry_id, first.fence)]) == 1
    assert (await bench.one("b")).wire == b"1"


# -- entries that somebody deleted -------------------------------------------------------------------------------------


async def lane_of_three(bench: Bench, place: str) -> str:
    """Three events of one key; returns the one whose delivery is at that place. The others are not `held`."""
    await bench.declare()
    stored = await bench.publish("k", "k", "k")
    head = await bench.one()
    if place == "waiting":
        return stored[1].entry_id
    if place == "last":
        return stored[2].entry_id
    if place == "ready":
        await bench.retry("a", head)
    elif place == "due":
        await bench.retry("a", head, 60_000)
    elif place == "suspect":
        await bench.crash("a")
        await bench.one("b")
        await bench.crash("b")
    return head.entry_id


@pytest.mark.parametrize("place", ["ready", "due", "suspect"])
async def test_a_lane_goes_on_behind_an_entry_that_was_deleted_while_nobody_had_it(bench: Bench, place: str) -> None:
    await bench.do("XDEL", bench.keys.log, await lane_of_three(bench, place))
    assert await bench.drain() == ["2", "3"]
    assert not any(await bench.state())


@pytest.mark.parametrize("place", ["waiting", "last"])
@pytest.mark.parametrize("end", ["settled", "settled going on", "buried", "crashed"])
async def test_a_lane_goes_on_past_a_deleted_entry_that_waited_in_it(bench: Bench, place: str, end: str) -> None:
    await bench.do("XDEL", bench.keys.log, await lane_of_three(bench, place))
    await bench.publish("k")
    (entry_id,) = [one for one, (owner, _) in (await bench.owners()).items() if owner == "a"]
    head = Taken(entry_id, 1, 1, False, "vm.created", "k", 1, b"1")
    done: list[str] = []
    if end == "buried":
        assert await bench.bury("a", head)
    elif end == "crashed":
        await bench.crash("a")
    else:
        ended, after = await bench.shard.settle("g", "a", said([head]), go_on=end == "settled going on")
        assert ended == [DONE]
        await bench.settle("a", *after)
        done = wires(after)
    left = ["3" if place == "waiting" else "2", "4"]
    assert [*done, *await bench.drain()] == (["1", *left] if end == "crashed" else left)
    assert not any((await bench.state())[:-1])


@pytest.mark.parametrize(
    "end", ["settled", "settled going on", "retried", "retried later", "buried", "crashed", "poison"]
)
async def test_a_lane_goes_on_behind_an_entry_that_was_deleted_while_somebody_had_it(bench: Bench, end: str) -> None:
    await bench.do("XDEL", bench.keys.log, await lane_of_three(bench, "held"))
    (entry_id,) = [one for one, (owner, _) in (await bench.owners()).items() if owner == "a"]
    head = Taken(entry_id, 1, 1, False, "vm.created", "k", 1, b"1")
    done = []
    if end == "settled":
        assert await bench.settle("a", head) == [DONE]
    elif end == "settled going on":
        _, after = await bench.go_on("a", head)
        await bench.settle("a", *after)
        done = wires(after)
    elif end == "buried":
        assert await bench.bury("a", head)
        (dead,) = await bench.dead()
        assert (dead.entry_id, dead.topic, dead.wire) == (entry_id, "", b"")
    elif end in ("crashed", "poison"):
        await bench.crash("a", limit=1 if end == "poison" else 3)
    else:
        assert await bench.retry("a", head, 60_000 if end == "retried later" else 0)
    assert [*done, *await bench.drain()] == ["2", "3"]
    assert not any((await bench.state())[:-1])


async def test_an_entry_deleted_before_it_was_read_stops_nobody(bench: Bench) -> None:
    await bench.declare()
    stored = await bench.publish("k", "k", "k")
    await bench.do("XDEL", bench.keys.log, stored[1].entry_id)
    assert await bench.drain() == ["1", "3"]
    assert not any(await bench.state())

"""What mend.lua and lanes.lua promise of lanes that are not whole: Redis applied half of a script, or somebody's hand.

Each kind of damage is made with plain commands, as half a script makes it. On both backends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from eventbus.redis.history import Lanes
from tests.contracts.bench import Bench, wires

WHOLE = Lanes(0, 0, 0, 0)


async def place(bench: Bench, wire: str) -> str:
    return next(one.entry_id for one in await bench.history.between() if one.wire.decode() == wire)


async def settled_by_half(bench: Bench) -> None:
    """Out of its lane and acknowledged; the one behind was not made ready."""
    one = await place(bench, "1")
    await bench.do("HDEL", bench.names["next"], one)
    await bench.do("XACK", bench.keys.log, "g", one)


async def acknowledged_by_hand(bench: Bench) -> None:
    await bench.do("XACK", bench.keys.log, "g", await place(bench, "1"))


async def settled_by_half_and_the_tail_is_lost(bench: Bench) -> None:
    await settled_by_half(bench)
    await bench.do("DEL", bench.names["tail"])


async def handed_back_by_half(bench: Bench) -> None:
    """Ready by its owner, in no list."""
    await bench.do("XCLAIM", bench.keys.log, "g", "~ready", 0, await place(bench, "1"))


async def put_off_by_half(bench: Bench) -> None:
    """For later by its owner, with no time."""
    await bench.do("XCLAIM", bench.keys.log, "g", "~due", 0, await place(bench, "1"))


DAMAGE: dict[str, tuple[Callable[[Bench], Awaitable[None]], Lanes, list[str]]] = {
    "half a settle": (settled_by_half, WHOLE._replace(alone=1), ["2", "3"]),
    "an acknowledgement by hand": (acknowledged_by_hand, WHOLE._replace(alone=1), ["2", "3"]),
    "half a settle without a tail": (settled_by_half_and_the_tail_is_lost, WHOLE._replace(alone=1), ["2", "3"]),
    "half a hand-back": (handed_back_by_half, WHOLE._replace(ready=1), ["1", "2", "3"]),
    "half a retry": (put_off_by_half, WHOLE._replace(due=1), ["1", "2", "3"]),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_lane_that_hangs_is_named_and_goes_on_in_order(bench: Bench, damage: str) -> None:
    spoil, named, left = DAMAGE[damage]
    await bench.declare()
    await bench.publish("k", "k", "k", None)
    head, free = await bench.taken()
    await bench.settle("a", free)
    assert await bench.history.lanes("g") == WHOLE
    await spoil(bench)
    assert await bench.taken("b") == [], "it hangs"
    assert await bench.history.lanes("g") == named
    assert await bench.history.mend("g") == 1
    assert await bench.history.lanes("g") == WHOLE
    assert await bench.history.mend("g") == 0
    await bench.publish("k")
    order: list[str] = []
    while some := await bench.taken("b"):
        assert len(some) == 1, "one of a key at a time"
        order += wires(some)
        await bench.settle("b", *some)
    assert order == [*left, "5"]
    assert (await bench.backlog()).is_empty
    assert head.entry_id not in await bench.owners()


async def test_whoever_waits_behind_somebody_still_waits(bench: Bench) -> None:
    """Its link is lost, but an earlier event of its key is not finished: to let it go on would break the order."""
    await bench.declare()
    await bench.publish("k", "k", "k", "l", "l")
    head, other = await bench.taken()
    await bench.do("DEL", bench.names["next"])
    assert await bench.history.mend("g") == 0
    await bench.settle("a", head)
    assert await bench.history.mend("g") == 1
    assert wires(await bench.taken("b")) == ["2"]
    assert await bench.history.mend("g") == 0
    await bench.settle("a", other)
    assert await bench.history.mend("g") == 1
    assert wires(await bench.taken("c")) == ["5"]


async def test_a_tail_that_nobody_holds_is_named_and_the_next_of_its_key_goes_on(bench: Bench) -> None:
    await bench.declare()
    (first,) = await bench.publish("k")
    await bench.settle("a", await bench.one())
    await bench.do("HSET", bench.names["tail"], "k", first.entry_id)
    assert await bench.history.lanes("g") == WHOLE._replace(tails=1)
    await bench.publish("k", "k")
    assert await bench.taken("b") == []
    assert await bench.history.mend("g") == 1
    assert await bench.drain() == ["2", "3"]
    assert await bench.history.lanes("g") == WHOLE


async def test_what_is_listed_as_ready_and_is_not_pending_is_named_and_left_out(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None, None)
    for one in await bench.taken():
        await bench.retry("a", one)
    await bench.do("XACK", bench.keys.log, "g", await place(bench, "1"))
    assert await bench.history.lanes("g") == WHOLE._replace(ready=1)
    await bench.history.mend("g")
    assert await bench.history.lanes("g") == WHOLE
    assert await bench.drain() == ["2"]


async def test_a_suspect_stays_one_when_the_lists_are_made_anew(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None, None)
    for consumer in ("a", "b"):
        await bench.taken(consumer)
        await bench.crash(consumer)
    await bench.do("LPOP", bench.names["suspects"])
    assert await bench.history.mend("g") == 1
    batch = await bench.take("c", suspects=True)
    assert ([one.suspect for one in batch.taken], batch.suspects) == ([True], 1)


async def test_a_waiting_event_that_was_deleted_holds_up_nobody(bench: Bench) -> None:
    await bench.declare()
    stored = await bench.publish("k", "k", "k")
    head = await bench.one()
    await bench.do("XDEL", bench.keys.log, stored[1].entry_id)
    assert await bench.history.mend("g") == 0
    await bench.do("HDEL", bench.names["next"], head.entry_id)
    await bench.settle("a", head)
    await bench.history.mend("g")
    assert await bench.drain() == ["3"]


async def test_healthy_lanes_are_left_alone_whatever_waits(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k", "l", "l", "m", "m", None, None)
    running, ready, later, free, lost = await bench.taken()
    await bench.retry("a", ready)
    await bench.retry("a", later, 60_000)
    await bench.retry("a", free)
    before = await bench.state()
    assert await bench.history.mend("g") == 0
    assert await bench.state() == before
    assert await bench.history.lanes("g") == WHOLE
    assert {running.wire, lost.wire} == {b"1", b"8"}


# -- a group that was set back -----------------------------------------------------------------------------------------


async def test_what_is_pending_when_a_group_is_set_back_is_not_given_out_twice(bench: Bench) -> None:
    """Read again it would stand behind itself in its lane, for ever."""
    await bench.declare()
    await bench.publish("k", "k", None, None, None, "l")
    (running,) = await bench.taken("a", 1)
    later, ready, done = await bench.taken("b", 4)
    await bench.retry("b", later, 60_000)
    await bench.retry("b", ready, counts=False)
    await bench.settle("b", done)
    before = await bench.state()
    await bench.do("XGROUP", "SETID", bench.keys.log, "g", "0")
    assert wires(await bench.taken("c", 1)) == ["4"], "ready as before"
    batch = await bench.take("c", 10)
    assert (wires(batch.taken), batch.read) == (["5", "6"], 6)
    for one in batch.taken:
        await bench.settle("c", one)
    assert {key: owner for key, owner in before[0].items() if owner[0] != "~ready"}.items() <= (
        await bench.owners()
    ).items(), "whoever had it has it still"
    assert await bench.history.lanes("g") == WHOLE
    await bench.settle("a", running)
    assert wires(await bench.taken("a")) == ["2"]


@pytest.mark.parametrize("read", [0, 2, 6])
async def test_a_group_that_was_set_back_finishes_all_and_the_books_say_what_came_twice(
    bench: Bench, read: int
) -> None:
    await bench.declare()
    await bench.publish("k", "k", "l", None, "k", None)
    await bench.settle("a", *(await bench.taken("a", 3))[:1])
    await bench.taken("a", 2)
    twice = [gap.kind for gap in await bench.gaps()]
    assert twice == []
    await bench.do("XGROUP", "SETID", bench.keys.log, "g", "0")
    (told,) = await bench.gaps()
    assert (told.kind, told.group, told.count) == ("uncounted", "g", 1)
    if read:
        await bench.take("b", read)
        (still,) = await bench.gaps()
        assert (still.kind, still.count) == ("uncounted", 1), "however far it has come again"
    await bench.history.accept(told.kind, told.group, told.count)
    await bench.silence("a", "b")
    await bench.shard.sweep("g", poison_limit=3)
    await bench.drain()
    assert await bench.gaps() == []
    assert await bench.history.lanes("g") == WHOLE

"""What take.lua, settle.lua, retry.lua and bury.lua promise of deliveries whose consumers live, on both backends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eventbus.redis.shard import Retry, Taken
from tests.contracts.bench import DONE, FENCED, GONE, LEASE, Bench, wires

# -- fences ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["settle", "retry", "later", "bury"])
@pytest.mark.parametrize("stale", ["another", "older", "first", "invented", "taken over", "handed back", "done"])
async def test_whoever_does_not_own_a_delivery_changes_nothing(bench: Bench, stale: str, operation: str) -> None:
    await bench.declare()
    await bench.publish("k", "k", None)
    first = (await bench.taken())[0]
    who, old = "a", first
    if stale == "another":
        who = "b"
    elif stale == "older":  # taken twice more by the same consumer, which shows its second fence
        await bench.retry("a", first)
        old = (await bench.taken())[-1]
        await bench.retry("a", old)
        assert (await bench.taken())[-1].fence > old.fence > first.fence
    elif stale == "first":  # taken again by the same consumer, which shows what it had by reading
        await bench.crash("a")
        assert wires(await bench.taken("a")) == ["1", "3"]
    elif stale == "invented":
        old = Taken(first.entry_id, 77, 1, False, first.topic, "k", 1, b"")
    elif stale == "taken over":
        await bench.crash("a")
        await bench.taken("b")
    elif stale == "handed back":
        await bench.retry("a", first, counts=False)
    else:
        await bench.settle("a", first)
    before = await bench.state()
    if operation == "settle":
        assert await bench.settle(who, old) == [GONE if stale == "done" else FENCED]
    elif operation == "bury":
        assert not await bench.bury(who, old)
    else:
        assert not await bench.retry(who, old, 60_000 if operation == "later" else 0)
    assert await bench.state() == before


async def test_a_batch_settles_what_is_ours_and_says_what_is_not(bench: Bench) -> None:
    """Above a few deliveries the script reads the whole pending list instead of asking one by one."""
    await bench.declare()
    await bench.publish(*[None] * 40)
    taken = await bench.taken("a", 20)
    others = await bench.taken("b", 20)
    mixed = [one for pair in zip(taken, others, strict=True) for one in pair]
    assert await bench.settle("a", *mixed) == [DONE, FENCED] * 20
    assert await bench.settle("a", *mixed) == [GONE, FENCED] * 20
    assert await bench.settle("b", *others) == [DONE] * 20


@pytest.mark.parametrize("size", [1, 20])
async def test_one_delivery_named_twice_in_a_call_counts_once(bench: Bench, size: int) -> None:
    await bench.declare()
    await bench.publish(*["k"] * 2, *[None] * (size - 1))
    taken = await bench.taken("a", 50)
    assert (await bench.settle("a", *taken, taken[0]))[:size] == [DONE] * size
    assert (await bench.counts())["done"] == size
    again = await bench.one()
    twice = [Retry(again.entry_id, again.fence, 0, True)] * 2
    assert await bench.shard.retry("g", "a", twice) == [True, False]
    assert (await bench.one()).attempt == 2


async def test_a_lost_counter_of_fences_lets_no_other_consumer_in(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    await bench.retry("a", await bench.one("a"))
    first = await bench.one("a")
    await bench.do("DEL", bench.keys.fence)
    await bench.crash("a")
    second = await bench.one("b")
    assert await bench.settle("a", first) == [FENCED]
    assert await bench.settle("b", second) == [DONE]


# -- lanes -------------------------------------------------------------------------------------------------------------


async def test_one_key_has_one_holder_while_other_keys_go_on(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k", "l", None, None, "k")
    first = await bench.taken("a")
    assert wires(first) == ["1", "3", "4", "5"]
    assert await bench.taken("b") == []
    await bench.settle("a", first[0])
    second = await bench.one("b")
    assert second.wire == b"2"
    assert await bench.taken("a") == []
    await bench.settle("b", second)
    assert (await bench.one("a")).wire == b"6"


async def test_a_retry_keeps_the_lane_until_it_is_done(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k")
    await bench.retry("a", await bench.one(), 60_000)
    assert await bench.taken("b") == []
    await bench.due_now()
    again = await bench.one("b")
    assert (again.wire, again.attempt) == (b"1", 2)
    await bench.settle("b", again)
    assert (await bench.one()).wire == b"2"


async def test_bury_lets_the_lane_go_on_and_keeps_the_whole_event(bench: Bench) -> None:
    await bench.declare()
    (stored, _) = await bench.publish("k", "k")
    assert await bench.bury("a", await bench.one())
    (dead,) = await bench.dead()
    assert dead[1:] == (stored.entry_id, "rejected", "no", 3, "vm.created", "k", 1, b"1")
    assert (await bench.one("b")).wire == b"2"


async def test_poison_lets_the_lane_go_on(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k")
    await bench.one()
    assert await bench.crash("a", limit=1) == 1
    assert (await bench.dead())[0].reason == "poison"
    assert (await bench.one("b")).wire == b"2"


async def test_an_unordered_group_has_no_lanes(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k", "k")
    batch = await bench.take(ordered=False)
    assert wires(batch.taken) == ["1", "2", "3"]
    assert await bench.do("EXISTS", bench.names["tail"], bench.names["next"]) == 0
    assert await bench.settle("a", *batch.taken) == [DONE] * 3


async def test_a_lane_of_many_ends_without_a_trace(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(*["k"] * 12)
    done = []
    while batch := await bench.taken(count=3):
        assert len(batch) == 1
        await bench.settle("a", *batch)
        done += wires(batch)
    assert done == [str(n) for n in range(1, 13)]
    assert not any(await bench.state())


async def test_the_bell_rings_when_the_next_of_a_lane_may_run(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k", None)
    first, alone = await bench.taken()
    async with bench.connection.client.pubsub() as heard:
        await heard.subscribe(bench.keys.bell)
        await bench.settle("a", alone)
        await bench.settle("a", first)
        await bench.do("PUBLISH", bench.keys.bell, "end")
        said: list[bytes] = []
        while not said or said[-1] != b"end":
            if message := await heard.get_message(ignore_subscribe_messages=True, timeout=5):
                said.append(message["data"])
    assert said == [b"g", b"end"]


# -- going on ----------------------------------------------------------------------------------------------------------


async def test_who_settles_is_given_what_comes_next_in_its_lanes_under_a_fresh_fence(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "l", None, "k", "l", "k")
    first = await bench.taken()
    assert wires(first) == ["1", "2", "3"]
    ended, after = await bench.go_on("a", *first)
    assert ended == [DONE] * 3
    assert [(one.wire, one.key, one.topic, one.sequence, one.attempt, one.suspect) for one in after] == [
        (b"4", "k", "vm.created", 4, 1, False),
        (b"5", "l", "vm.created", 5, 1, False),
    ]
    assert all(new.fence > max(one.fence for one in first) for new in after)
    owners = await bench.owners()
    assert [owners[one.entry_id] for one in after] == [("a", one.fence) for one in after]
    assert await bench.taken("b") == []
    ended, last = await bench.go_on("a", *after)
    assert (ended, wires(last)) == ([DONE] * 2, ["6"])
    assert await bench.go_on("a", *last) == ([DONE], [])
    assert not any(await bench.state())


async def test_what_was_given_on_the_way_is_owned_like_anything_taken(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k", "k")
    _, (second,) = await bench.go_on("a", await bench.one())
    assert await bench.settle("b", second) == [FENCED]
    await bench.crash("a")
    again = await bench.one("b")
    assert (again.wire, again.attempt) == (b"2", 1)
    assert await bench.settle("a", second) == [FENCED]
    assert await bench.settle("b", again) == [DONE]
    assert await bench.drain() == ["3"]


async def test_the_attempts_of_what_waits_in_a_lane_are_counted_on(bench: Bench) -> None:
    """It was tried before it came to wait: a group that kept no order then, and keeps it now."""
    await bench.declare()
    await bench.publish("k", "k")
    first, second = (await bench.take(ordered=False)).taken
    await bench.retry("a", second)
    again = await bench.one()
    assert again.attempt == 2
    await bench.settle("a", first, again)
    await bench.publish("k", "k")
    head = await bench.one()
    waiting = next(entry_id for entry_id, (owner, _) in (await bench.owners()).items() if owner == "~wait")
    await bench.do("HSET", bench.names["attempts"], waiting, 4)
    _, (after,) = await bench.go_on("a", head)
    assert (after.entry_id, after.attempt) == (waiting, 5)


async def test_a_paused_group_is_given_nothing_on_the_way(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k", None)
    head, other = await bench.taken()
    await bench.pause("a", other, LEASE)
    assert await bench.go_on("a", head) == ([DONE], [])
    assert await bench.taken("b") == []
    await bench.do("DEL", bench.names["pause"])
    assert wires(await bench.taken("b")) == ["3", "2"]


async def test_nothing_is_given_on_the_way_while_a_crash_is_noted(bench: Bench) -> None:
    """It might be a suspect, which only `take` may give out, one at a time."""
    await bench.declare()
    await bench.publish("k", "k", None)
    await bench.taken("a")
    await bench.crash("a")
    head, other = await bench.taken("b")
    assert await bench.go_on("b", head) == ([DONE], [])
    (second,) = await bench.taken("c")
    assert second.wire == b"2"
    assert await bench.settle("b", other) == await bench.settle("c", second) == [DONE]
    await bench.publish("k", "k")
    assert wires((await bench.go_on("c", await bench.one("c")))[1]) == ["5"], "no crash is noted any more"


async def test_settling_again_gives_nothing_and_says_that_it_is_gone(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k", "k")
    head = await bench.one()
    _, after = await bench.go_on("a", head)  # the reply is lost
    before = await bench.state()
    assert await bench.go_on("a", head) == ([GONE], [])
    assert await bench.state() == before
    assert await bench.shard.recover("g", "a", []) == 1
    (again,) = await bench.taken("a")
    assert (again.entry_id, again.attempt, again.fence > after[0].fence) == (after[0].entry_id, 1, True)


async def test_settling_what_is_somebody_elses_gives_nothing(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k")
    head = await bench.one("a")
    before = await bench.state()
    assert await bench.go_on("b", head) == ([FENCED], [])
    assert await bench.state() == before


async def test_the_bell_is_silent_when_the_next_of_a_lane_was_given(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k")
    head = await bench.one()
    async with bench.connection.client.pubsub() as heard:
        await heard.subscribe(bench.keys.bell)
        await bench.go_on("a", head)
        await bench.do("PUBLISH", bench.keys.bell, "end")
        said: list[bytes] = []
        while not said or said[-1] != b"end":
            if message := await heard.get_message(ignore_subscribe_messages=True, timeout=5):
                said.append(message["data"])
    assert said == [b"end"]


# -- retries, hand-backs, pause ----------------------------------------------------------------------------------------


async def test_a_retry_waits_for_its_time_by_the_clock_of_redis(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    one = await bench.one()
    before = await bench.now()
    await bench.retry("a", one, 5_000)
    due = float(await bench.do("ZSCORE", bench.names["due"], one.entry_id))
    assert before + 5_000 <= due <= await bench.now() + 5_000
    batch = await bench.take()
    assert batch.taken == []
    assert batch.due_ms is not None
    assert 0 < batch.due_ms <= 5_000
    await bench.do("ZADD", bench.names["due"], await bench.now(), one.entry_id)
    again = await bench.take("b")
    assert (wires(again.taken), again.due_ms) == (["1"], None)


async def test_a_hand_back_is_ready_at_once_and_burns_no_attempt(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    await bench.retry("a", await bench.one("a"), counts=False)
    again = await bench.one("b")
    assert (again.attempt, again.suspect) == (1, False)
    assert await bench.do("EXISTS", bench.names["attempts"], bench.names["crashes"]) == 0


async def test_counted_attempts_add_up_over_consumers_and_end_with_the_delivery(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    numbers = []
    for consumer, counts in (("a", True), ("b", False), ("a", True), ("c", True)):
        one = await bench.one(consumer)
        numbers.append(one.attempt)
        await bench.retry(consumer, one, counts=counts)
    last = await bench.one()
    assert [*numbers, last.attempt] == [1, 2, 2, 3, 4]
    await bench.settle("a", last)
    assert await bench.do("EXISTS", bench.names["attempts"]) == 0


async def test_what_is_ready_goes_before_new_events(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    await bench.retry("a", await bench.one())
    await bench.publish(None)
    assert wires(await bench.taken(count=1)) == ["1"]
    assert wires(await bench.taken(count=1)) == ["2"]


async def test_a_pause_stops_the_group_and_a_shorter_one_does_not_shorten_it(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None, None, None)
    first, second = await bench.taken(count=2)
    await bench.pause("a", first, timedelta(seconds=60))
    await bench.pause("a", second, timedelta(seconds=5))
    batch = await bench.take("b")
    assert (batch.read, batch.taken) == (0, [])
    assert 50_000 < batch.paused_ms <= 60_000
    await bench.do("DEL", bench.names["pause"])
    batch = await bench.take("b")
    assert (wires(batch.taken), batch.paused_ms) == (["1", "2", "3"], 0)


async def test_a_pause_of_one_group_leaves_others_alone(bench: Bench) -> None:
    await bench.declare()
    await bench.declare(group="other")
    await bench.publish(None)
    one = await bench.one()
    await bench.pause("a", one, LEASE)
    assert wires((await bench.take(group="other")).taken) == ["1"]


async def test_no_room_means_nothing_is_taken(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None, None)
    await bench.retry("a", (await bench.taken(count=1))[0])
    assert await bench.taken(count=0, suspects=True) == []
    assert wires(await bench.taken(count=1)) == ["1"]

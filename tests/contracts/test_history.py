"""The log as history: what trim.lua, redrive.lua and replay.lua promise, on both backends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eventbus.errors import Full, UnknownGroup
from eventbus.redis.connection import Connection
from eventbus.redis.history import PAGE, Page
from tests.contracts.bench import DAY, DONE, NODE, Bench

KEEP = 1_000_000
"""So many events that the count never matters."""

# -- the log -----------------------------------------------------------------------------------------------------------


async def test_between_gives_the_entries_between_two_ids_in_order(bench: Bench) -> None:
    stored = await bench.publish(*[None] * 6)
    ids = [one.entry_id for one in stored]
    assert [entry.entry_id for entry in await bench.history.between(ids[1], ids[4])] == ids[1:5]
    assert [entry.sequence for entry in await bench.history.between(f"({ids[0]}", f"({ids[5]}", most=3)] == [2, 3, 4]
    assert await bench.history.between(f"({ids[2]}", f"({ids[3]}") == []


# -- trim --------------------------------------------------------------------------------------------------------------


async def test_trim_forgets_what_every_group_has_finished_and_nothing_else(bench: Bench) -> None:
    await bench.declare()
    await bench.declare(group="slow")
    await bench.publish(*[None] * (3 * NODE))
    fast = await bench.taken("a", 3 * NODE)
    await bench.settle("a", *fast)
    assert await bench.history.trim(timedelta(), keep=KEEP) == 0, "a declared group has read nothing yet"
    slow = (await bench.take(group="slow", count=3 * NODE)).taken
    await bench.settle("a", *slow[: NODE + 1], *slow[NODE + 2 :], group="slow")
    assert await bench.history.trim(timedelta(), keep=KEEP) == NODE
    assert await bench.settle("a", slow[NODE + 1], group="slow") == [DONE]
    assert await bench.history.trim(timedelta(), keep=KEEP, most=NODE) == NODE, "no more than asked for"


@pytest.mark.parametrize("place", ["held", "waiting", "due", "ready"])
async def test_trim_keeps_whatever_is_unfinished(bench: Bench, place: str) -> None:
    await bench.declare()
    await bench.publish("k", "k", *[None] * (2 * NODE))
    holder, *rest = await bench.taken("a", 2 * NODE + 2)
    await bench.settle("a", *rest)
    if place == "waiting":
        await bench.settle("a", holder)
        holder = await bench.one()
        await bench.publish("k", *[None] * NODE)
        await bench.settle("a", *await bench.taken("a", 2 * NODE))
        await bench.retry("a", holder, 60_000)
    elif place != "held":
        await bench.retry("a", holder, 60_000 if place == "due" else 0)
    assert await bench.history.trim(timedelta(), keep=KEEP) == 0
    left = await bench.owners()
    assert len(left) == 2
    assert all([await bench.do("XRANGE", bench.keys.log, entry_id, entry_id) for entry_id in left])


@pytest.mark.parametrize(
    ("held", "done"),
    [("9-0", "10-0"), ("99-0", "100-0"), ("5-99", "5-150"), ("999999999999-7", "1000000000000-0")],
)
async def test_trim_compares_ids_as_numbers(bench: Bench, held: str, done: str) -> None:
    """As text 10-0 stands before 9-0, and its node before the one that is still held."""
    await bench.declare()
    await bench.declare(group="slow")
    ms, sequence = (int(part) for part in held.split("-"))
    ids = [f"{ms}-{n}" for n in range(sequence, sequence + NODE)] if done.split("-")[0] != str(ms) else []
    ids = ids or [f"{ms}-{n}" for n in range(NODE)]
    for entry_id in (*ids, done, "9999999999999-0"):
        await bench.do("XADD", bench.keys.log, entry_id, "t", "vm.created", "k", "", "s", "1", "e", "x")
    fast = await bench.taken("a", NODE + 1)
    assert fast[-1].entry_id == done
    await bench.settle("a", *fast)
    slow = (await bench.take(group="slow", count=NODE + 1)).taken
    keep = next(one for one in slow if one.entry_id == held)
    await bench.settle("a", *[one for one in slow if one is not keep], group="slow")
    assert await bench.history.trim(timedelta(), keep=KEEP) == 0
    await bench.settle("a", keep, group="slow")
    assert await bench.history.trim(timedelta(), keep=KEEP) == NODE


async def test_trim_keeps_finished_events_for_the_retention(bench: Bench) -> None:
    await bench.declare()
    for age in (2 * DAY, timedelta(hours=1)):
        ms = await bench.now() - int(age.total_seconds() * 1000)
        for n in range(NODE):
            await bench.do("XADD", bench.keys.log, f"{ms}-{n}", "t", "vm.created", "k", "", "s", n, "e", "x")
    await bench.publish(None)
    await bench.settle("a", *await bench.taken("a", 3 * NODE))
    assert await bench.history.trim(DAY, keep=KEEP) == NODE
    assert await bench.history.trim(DAY, keep=KEEP) == 0
    assert await bench.history.trim(timedelta(minutes=30), keep=KEEP) == NODE


async def test_trim_does_nothing_while_a_declared_group_has_no_place(bench: Bench) -> None:
    assert await bench.history.trim(timedelta(), keep=KEEP) == 0, "there is no log yet"
    await bench.declare()
    await bench.declare(group="lost")
    await bench.publish(*[None] * (2 * NODE))
    await bench.settle("a", *await bench.taken("a", 2 * NODE))
    await bench.do("XGROUP", "DESTROY", bench.keys.log, "lost")
    assert await bench.history.trim(timedelta(), keep=KEEP) == -1
    assert await bench.do("XLEN", bench.keys.log) == 2 * NODE
    await bench.do("HDEL", bench.keys.groups, "lost")
    assert await bench.history.trim(timedelta(), keep=KEEP) > 0


# -- trim by count -----------------------------------------------------------------------------------------------------


async def test_more_events_than_wanted_are_forgotten_however_young(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(*[None] * (4 * NODE))
    await bench.settle("a", *await bench.taken("a", 4 * NODE))
    gone = await bench.history.trim(DAY, keep=2 * NODE)
    assert NODE <= gone <= 2 * NODE
    assert await bench.do("XLEN", bench.keys.log) == 4 * NODE - gone
    assert int(await bench.do("GET", bench.keys.trimmed)) == gone
    assert await bench.history.trim(DAY, keep=4 * NODE) == 0
    assert await bench.gaps() == []


async def test_no_more_is_forgotten_by_count_than_asked_for(bench: Bench) -> None:
    await bench.publish(*[None] * (4 * NODE))
    assert await bench.history.trim(DAY, keep=0, most=NODE) == NODE
    assert await bench.history.trim(timedelta(), keep=0, most=2 * NODE) == 2 * NODE


@pytest.mark.parametrize("place", ["unread", "held", "waiting", "due", "ready"])
async def test_trim_by_count_keeps_whatever_is_unfinished_and_all_behind_it(bench: Bench, place: str) -> None:
    await bench.declare()
    await bench.declare(group="fast")
    await bench.publish(*[None] * (NODE + 1), "k", "k", *[None] * (2 * NODE))
    await bench.settle("f", *(await bench.take("f", 4 * NODE, group="fast")).taken, group="fast")
    await bench.settle("f", *(await bench.take("f", 1, group="fast")).taken, group="fast")
    taken = await bench.taken("a", NODE + 1 if place == "unread" else 4 * NODE)
    await bench.settle("a", *[one for one in taken if not one.key])
    oldest = NODE + 2
    for head in (one for one in taken if one.key):
        if place in ("due", "ready"):
            await bench.retry("a", head, 60_000 if place == "due" else 0)
        elif place == "waiting":
            await bench.settle("a", head)
            oldest += 1
    assert NODE <= await bench.history.trim(DAY, keep=0) < oldest
    assert await bench.history.trim(DAY, keep=0) == 0
    (first,) = await bench.history.between(most=1)
    assert first.sequence <= oldest
    assert await bench.gaps() == []


@pytest.mark.parametrize("fault", ["deleted", "added", "both", "accepted"])
async def test_trim_by_count_keeps_what_is_unfinished_whatever_somebody_did_to_the_log(
    bench: Bench, fault: str
) -> None:
    """Numbers tell how many events stand before a place only as long as nobody else writes or deletes."""
    await bench.declare()
    stored = await bench.publish(*[None] * (3 * NODE))
    await bench.settle("a", *await bench.taken("a", 2 * NODE))
    held = await bench.taken("a", 1)
    if fault in ("deleted", "both"):
        for one in stored[:NODE]:
            await bench.do("XDEL", bench.keys.log, one.entry_id)
    if fault != "deleted":
        for _ in range(NODE if fault == "both" else 2 * NODE):
            await bench.do("XADD", bench.keys.log, "*", "by", "hand")
    if fault == "accepted":
        for gap in await bench.gaps():
            await bench.history.accept(gap.kind, gap.group, gap.count)
    await bench.history.trim(DAY, keep=0)
    await bench.history.trim(DAY, keep=0)
    left = {entry_id.decode() for entry_id, _ in await bench.do("XRANGE", bench.keys.log, "-", "+")}
    assert left >= {one.entry_id for one in held} | {one.entry_id for one in stored[2 * NODE :]}


# -- dead letters ------------------------------------------------------------------------------------------------------


async def bury_one(bench: Bench, key: str | None = None, **names: str) -> str:
    """Publish one event, bury its delivery; returns the id of the dead letter."""
    await bench.publish(key, **names)
    assert await bench.bury("a", await bench.one())
    return (await bench.dead())[-1].dead_id


async def test_dead_letters_come_oldest_first_however_many_there_are(bench: Bench) -> None:
    count = PAGE + 7
    for n in range(count):
        fields = ("entry", "1-0", "reason", "rejected", "error", "no", "attempts", 1, "t", "a.b", "k", "", "s", n)
        await bench.do("XADD", bench.names["dead"], "*", *fields, "e", "x")
    assert [dead.sequence for dead in await bench.dead()] == list(range(count))


async def test_a_dropped_dead_letter_is_gone_and_no_other(bench: Bench) -> None:
    await bench.declare()
    first, second = await bury_one(bench), await bury_one(bench)
    assert await bench.history.drop("g", first)
    assert not await bench.history.drop("g", first)
    assert [dead.dead_id for dead in await bench.dead()] == [second]


async def test_what_was_not_announced_is_told_from_where_the_last_announcement_ended(bench: Bench) -> None:
    await bench.declare()
    ids = [await bury_one(bench) for _ in range(3)]
    assert [dead.dead_id for dead in await bench.history.untold("g")] == ids
    await bench.history.told("g", ids[1])
    assert [dead.dead_id for dead in await bench.history.untold("g")] == ids[2:]
    await bench.history.told("g", ids[2])
    assert await bench.history.untold("g") == []


async def test_a_redriven_event_is_given_to_its_group_alone_at_the_end_of_its_lane(bench: Bench) -> None:
    await bench.declare()
    await bench.declare(group="other")
    dead_id = await bury_one(bench, "k")
    await bench.publish("k")
    place = await bench.history.redrive("g", dead_id)
    await bench.publish("k")
    assert place is not None
    assert place[1] == 3
    assert await bench.dead() == []
    (entry,) = [one for one in await bench.history.between() if one.group]
    assert (entry.entry_id, entry.sequence, entry.topic, entry.key, entry.wire) == (*place, "vm.created", "k", b"1")
    assert await bench.drain() == ["2", "1", "3"]
    assert await bench.drain(group="other") == ["1", "2", "3"]
    assert (await bench.counts("other")).get("skipped") == 1
    assert await bench.gaps() == []


async def test_a_redriven_event_reaches_its_group_though_its_patterns_changed(bench: Bench) -> None:
    await bench.declare("vm.*")
    dead_id = await bury_one(bench)
    await bench.declare("task.*")
    await bench.history.redrive("g", dead_id)
    assert await bench.drain() == ["1"]


async def test_a_dead_letter_is_redriven_once(bench: Bench) -> None:
    await bench.declare()
    dead_id = await bury_one(bench)
    assert await bench.history.redrive("g", dead_id) is not None
    assert await bench.history.redrive("g", dead_id) is None
    assert await bench.history.redrive("g", "1-1") is None
    assert await bench.drain() == ["1"]


async def test_a_redriven_event_may_be_corrected(bench: Bench) -> None:
    await bench.declare()
    await bench.history.redrive("g", await bury_one(bench), b"better")
    assert await bench.drain() == ["better"]


async def test_a_redriven_event_that_fails_again_is_a_dead_letter_again(bench: Bench) -> None:
    await bench.declare()
    place = await bench.history.redrive("g", await bury_one(bench, "k"))
    assert place is not None
    assert await bench.bury("a", await bench.one())
    (again,) = await bench.dead()
    assert (again.entry_id, again.wire, again.key) == (place[0], b"1", "k")
    await bench.history.redrive("g", again.dead_id)
    assert await bench.drain() == ["1"]


async def test_a_dead_letter_without_its_event_stays_where_it_is(bench: Bench) -> None:
    """Somebody deleted the entry before it was buried."""
    await bench.declare()
    (stored,) = await bench.publish(None)
    one = await bench.one()
    await bench.do("XDEL", bench.keys.log, stored.entry_id)
    await bench.bury("a", one)
    (dead,) = await bench.dead()
    assert await bench.history.redrive("g", dead.dead_id) is None
    assert await bench.dead() == [dead]


async def test_a_dead_letter_of_a_retired_group_is_not_redriven_to_nobody(bench: Bench) -> None:
    await bench.declare()
    dead_id = await bury_one(bench)
    await bench.history.retire("g", 0)
    with pytest.raises(UnknownGroup):
        await bench.history.redrive("g", dead_id)
    assert [dead.dead_id for dead in await bench.dead()] == [dead_id]
    await bench.declare(behind="$")
    await bench.history.redrive("g", dead_id)
    assert await bench.drain() == ["1"]


async def test_without_memory_a_dead_letter_stays(own_admin: Connection, namespace: str) -> None:
    bench = Bench(own_admin, namespace)
    await bench.declare()
    dead_id = await bury_one(bench)
    await bench.do("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Full):
        await bench.history.redrive("g", dead_id)
    assert [dead.dead_id for dead in await bench.dead()] == [dead_id]


# -- replay ------------------------------------------------------------------------------------------------------------


async def replay(bench: Bench, *patterns: str, token: str = "t", start: str = "-", end: str = "+") -> tuple[int, int]:
    """All pages: how many events were copied, and how many looked at."""
    copied, looked, page, after = 0, 0, 0, start
    while after:
        page += 1
        one = await bench.history.replay("g", patterns or (">",), token, page, after, end)
        copied, looked, after = copied + one.copied, looked + one.looked_at, one.after
    return copied, looked


async def test_replayed_events_are_given_to_their_group_alone_at_the_end_of_their_lanes(bench: Bench) -> None:
    await bench.declare()
    await bench.declare(group="other")
    await bench.publish("k", "l")
    await bench.drain()
    await bench.publish("k")
    assert (await replay(bench))[0] == 2
    await bench.publish("k")
    assert [one.sequence for one in await bench.history.between()] == [1, 2, 3, 4, 5, 6]
    assert await bench.drain() == ["3", "2", "1", "4"]
    assert await bench.drain(group="other") == ["1", "2", "3", "4"]
    assert (await bench.counts("other")).get("skipped") == 2
    assert await bench.gaps() == []


async def test_what_the_group_has_not_finished_and_copies_are_not_replayed(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k", None, None, None)
    head, later, ready, done = await bench.taken()
    await bench.settle("a", done)
    await bench.retry("a", later, 60_000)
    await bench.retry("a", ready)
    await bench.publish(None)
    assert (await replay(bench))[0] == 1, "only what is done: not held, waiting, due, ready or unread"
    await bench.settle("a", head)
    assert sorted(await bench.drain()) == ["2", "3", "4", "5", "6"]
    assert (await replay(bench, token="again"))[0] == 6, "each event once, the copy not"
    assert sorted(await bench.drain()) == ["1", "2", "3", "4", "5", "6"]
    assert await bench.gaps() == []


async def test_dead_events_are_replayed_and_stay_among_the_dead(bench: Bench) -> None:
    await bench.declare()
    await bury_one(bench)
    assert await replay(bench) == (1, 1)
    assert await bench.drain() == ["1"]
    assert len(await bench.dead()) == 1
    assert await bench.gaps() == []


async def test_a_replay_takes_the_patterns_it_is_given(bench: Bench) -> None:
    await bench.declare("vm.*")
    for topic in ("vm.a", "vm.b", "task.a"):
        await bench.publish(None, topic=topic)
    await bench.drain()
    assert await replay(bench, "vm.b", "task.>") == (2, 3)
    assert await bench.drain() == ["2", "3"], "what it was not given before too: it is asked for by name"


async def test_a_replay_begins_and_ends_where_it_is_told(bench: Bench) -> None:
    await bench.declare()
    stored = await bench.publish(*[None] * 6)
    await bench.drain()
    assert await replay(bench, start=stored[1].entry_id, end=stored[3].entry_id) == (3, 3)
    assert await bench.drain() == ["2", "3", "4"]


async def test_a_new_group_may_replay_what_was_before_its_start(bench: Bench) -> None:
    await bench.publish(None, None)
    await bench.declare(behind="$")
    assert await replay(bench) == (2, 2)
    assert await bench.drain() == ["1", "2"]
    assert await bench.gaps() == []


async def test_a_replay_goes_page_by_page_and_a_repeated_page_copies_nothing(bench: Bench) -> None:
    await bench.declare()
    for _ in range(4):
        await bench.publish(*[None] * (PAGE // 2))
    await bench.publish(None)
    while not (await bench.backlog()).is_empty:
        await bench.settle("a", *await bench.taken("a", 500))
    first = await bench.history.replay("g", (">",), "t", 1, "-", "+")
    assert (first.copied, first.looked_at) == (PAGE, PAGE)
    length = await bench.do("XLEN", bench.keys.log)
    assert await bench.history.replay("g", (">",), "t", 1, "-", "+") == first
    assert await bench.do("XLEN", bench.keys.log) == length
    second = await bench.history.replay("g", (">",), "t", 2, first.after, "+")
    assert (second.copied, second.looked_at) == (PAGE, PAGE)
    assert await bench.history.replay("g", (">",), "t", 2, first.after, "+") == second
    third = await bench.history.replay("g", (">",), "t", 3, second.after, "+")
    assert (third.copied, third.after) == (1, "")
    numbers = [int(wire) for wire in await bench.drain()]
    assert numbers == list(range(1, 2 * PAGE + 2))


async def test_another_replay_copies_again(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    await bench.drain()
    assert await replay(bench, token="one") == (1, 1)
    assert (await replay(bench, token="two"))[0] == 1


async def test_a_group_that_never_was_has_nothing_replayed(bench: Bench) -> None:
    await bench.publish(None)
    assert (await bench.history.replay("g", (">",), "t", 1, "-", "+")).copied == 0
    assert await bench.log() == ["1"]


async def test_without_memory_nothing_is_copied(own_admin: Connection, namespace: str) -> None:
    bench = Bench(own_admin, namespace)
    await bench.declare()
    await bench.publish(None)
    await bench.drain()
    await bench.do("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Full):
        await bench.history.replay("g", (">",), "t", 1, "-", "+")
    await bench.do("CONFIG", "SET", "maxmemory", "0")
    assert await bench.history.replay("g", (">",), "t", 1, "-", "+") == Page(1, 1, "")

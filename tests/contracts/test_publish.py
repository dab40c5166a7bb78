"""What publish.lua, schedule.lua and promote.lua promise, on both backends."""

from __future__ import annotations

from typing import Any

import pytest

from eventbus.errors import Full
from eventbus.redis.connection import Connection
from eventbus.redis.shard import Stored, publish_call
from tests.contracts.bench import Bench, letter

HOUR_MS = 3_600_000
REMEMBER_MS = 60_000


async def heard_during(bench: Bench, *steps: Any) -> list[bytes]:
    """What the bell says while the steps are made one after another."""
    async with bench.connection.client.pubsub() as heard:
        await heard.subscribe(bench.keys.bell)
        for step in steps:
            await step
        await bench.do("PUBLISH", bench.keys.bell, "end")
        said: list[bytes] = []
        while not said or said[-1] != b"end":
            if message := await heard.get_message(ignore_subscribe_messages=True, timeout=5):
                said.append(message["data"])
    return said[:-1]


# -- publish -----------------------------------------------------------------------------------------------------------


async def test_events_get_dense_numbers_in_the_order_of_the_batch(bench: Bench) -> None:
    stored = await bench.shard.publish([letter(str(n)) for n in range(5)]) + await bench.shard.publish([letter("5")])
    assert [one.sequence for one in stored] == [1, 2, 3, 4, 5, 6]
    assert [one.status for one in stored] == ["stored"] * 6
    assert [one.event_id for one in stored] == [f"id-{n}" for n in range(6)]
    rows = await bench.history.between()
    assert [row[:5] for row in rows] == [
        (one.entry_id, n + 1, "vm.created", "", str(n).encode()) for n, one in enumerate(stored)
    ]


async def test_a_repeat_gets_the_place_and_id_of_the_first_event_and_stores_nothing(bench: Bench) -> None:
    (first,) = await bench.shard.publish([letter("first", once="k", content="c")])
    again = await bench.shard.publish([letter("second", once="k", content="c"), letter("third")])
    assert again[0] == Stored("duplicate", first.entry_id, 1, "id-first")
    assert again[1].sequence == 2, "a duplicate uses no number"
    assert await bench.log() == ["first", "third"]


async def test_one_key_with_another_content_is_a_conflict_and_stores_nothing(bench: Bench) -> None:
    (first,) = await bench.shard.publish([letter("first", once="k", content="c")])
    (other,) = await bench.shard.publish([letter("other", once="k", content="d")])
    assert other == Stored("conflict", first.entry_id, 1, "id-first")
    assert await bench.log() == ["first"]


async def test_repeats_and_conflicts_within_one_call_use_no_number(bench: Bench) -> None:
    await bench.shard.publish([letter("old", once="o", content="c")])
    stored = await bench.shard.publish(
        [
            letter("x", once="k", content="c"),
            letter("repeat", once="k", content="c"),
            letter("old again", once="o", content="c"),
            letter("y", once="l", content="c"),
            letter("conflict", once="k", content="d"),
            letter("repeat again", once="l", content="c"),
            letter("z"),
        ]
    )
    assert [(one.status, one.sequence, one.event_id) for one in stored] == [
        ("stored", 2, "id-x"),
        ("duplicate", 2, "id-x"),
        ("duplicate", 1, "id-old"),
        ("stored", 3, "id-y"),
        ("conflict", 2, "id-x"),
        ("duplicate", 3, "id-y"),
        ("stored", 4, "id-z"),
    ]
    assert [entry.sequence for entry in await bench.history.between()] == [1, 2, 3, 4]
    assert (await bench.publish(None))[0].sequence == 5


async def test_an_event_id_with_blanks_comes_back_whole(bench: Bench) -> None:
    await bench.shard.publish([letter("two words", once="k", content="c")])
    (again,) = await bench.shard.publish([letter("x", once="k", content="c")])
    assert again.event_id == "id-two words"


async def test_numbers_beyond_what_lua_prints_plainly_stay_exact(bench: Bench) -> None:
    """Lua writes 1e+15 for a number of 16 digits."""
    await bench.do("SET", bench.keys.sequence, 10**15 - 1)
    await bench.schedule(letter("later"), ms=-1)
    await bench.shard.publish([letter("x"), letter("y")])
    await bench.shard.promote()
    assert [entry.sequence for entry in await bench.history.between()] == [10**15, 10**15 + 1, 10**15 + 2]
    again = await bench.shard.publish([letter("y"), letter("later")])
    assert [one.sequence for one in again] == [10**15 + 1, 10**15 + 2]


async def test_an_idempotency_key_is_remembered_for_its_window(bench: Bench) -> None:
    await bench.shard.publish([letter("x", once="k")])
    assert REMEMBER_MS - 10_000 < await bench.do("PTTL", bench.keys.once("k")) <= REMEMBER_MS


@pytest.mark.parametrize("what", ["duplicate", "conflict"])
async def test_a_repeat_writes_only_where_it_is_told_to(bench: Bench, what: str) -> None:
    """WAIT and WAITAOF confirm writes: a duplicate that writes nothing would have nothing to confirm."""
    await bench.shard.publish([letter("x", once="k", content="duplicate")])
    await bench.do("PEXPIRE", bench.keys.once("k"), 1_000)
    again = [letter("y", once="k", content=what)]

    await bench.shard.publish(again)
    assert await bench.do("PTTL", bench.keys.once("k")) <= 1_000
    keys, args = publish_call(bench.keys, again, touch=True)
    ((status, *_),) = await bench.connection.run("publish", keys, args)
    assert status.decode() == what
    assert await bench.do("PTTL", bench.keys.once("k")) > REMEMBER_MS - 10_000


@pytest.mark.parametrize("first", ["published", "scheduled"])
async def test_a_repeat_never_shortens_what_is_remembered(bench: Bench, first: str) -> None:
    """A key that is forgotten before its scheduled event is due would let the event in twice."""
    if first == "published":
        await bench.shard.publish([letter("x", once="k")])
    else:
        await bench.schedule(letter("x", once="k"))
    before = await bench.do("PTTL", bench.keys.once("k"))
    keys, args = publish_call(bench.keys, [letter("y", once="k", remember_ms=1)], touch=True)
    await bench.connection.run("publish", keys, args)
    assert await bench.do("PTTL", bench.keys.once("k")) > before - 5_000


async def test_the_bell_rings_once_for_a_batch_and_not_for_a_repeat(bench: Bench) -> None:
    said = await heard_during(
        bench,
        bench.shard.publish([letter("x"), letter("y")]),
        bench.shard.publish([letter("x")]),
    )
    assert said == [b""]


async def test_without_memory_nothing_is_written_at_all(own_admin: Connection, namespace: str) -> None:
    bench = Bench(own_admin, namespace)
    await bench.do("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Full):
        await bench.shard.publish([letter("x"), letter("y")])
    with pytest.raises(Full):
        await bench.schedule(letter("z"))
    assert await bench.do("DBSIZE") == 0


# -- schedule and promote ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ms", [-HOUR_MS, -1, HOUR_MS])
async def test_a_scheduled_event_is_not_in_the_log_until_it_is_promoted(bench: Bench, ms: int) -> None:
    assert await bench.schedule(letter("x"), ms=ms) == Stored("scheduled", "~", 0, "id-x")
    assert await bench.do("EXISTS", bench.keys.log, bench.keys.sequence) == 0
    count, due_ms = await bench.shard.promote()
    if ms < 0:
        assert (count, due_ms) == (1, None)
    else:
        assert count == 0
        assert due_ms is not None
        assert HOUR_MS - 10_000 < due_ms <= HOUR_MS


async def test_a_promoted_event_is_like_one_that_was_published_then(bench: Bench) -> None:
    await bench.declare("a.*")
    await bench.publish(None, topic="x.y")
    odd = letter("1 2 3", topic="a.b", key="5 key")._replace(wire=b"7 \r\n\x00\xff wire")
    await bench.schedule(odd, ms=-1)
    assert await bench.shard.promote() == (1, None)
    await bench.publish("5 key", topic="a.c")
    first, second = await bench.history.between("-", "+", most=3), await bench.one()
    assert [(entry.sequence, entry.topic) for entry in first] == [(1, "x.y"), (2, "a.b"), (3, "a.c")]
    assert (second.topic, second.key, second.sequence, second.wire) == ("a.b", "5 key", 2, b"7 \r\n\x00\xff wire")
    assert await bench.do("EXISTS", bench.keys.later, bench.keys.letters) == 0


async def test_events_that_are_due_at_the_same_time_come_in_the_order_of_publishing(bench: Bench) -> None:
    due = await bench.now() - 1
    names = [f"{(n * 7) % 20:02}" for n in range(20)]
    for name in names:
        await bench.shard.schedule(letter(name, due_ms=due))
    await bench.history.unschedule(f"once-{names[3]}")
    await bench.shard.schedule(letter(names[3], due_ms=due))
    assert await bench.shard.promote(7) == (7, 0)
    assert await bench.shard.promote() == (13, None)
    assert await bench.log() == [name for name in names if name != names[3]] + [names[3]]


async def test_the_same_key_is_one_event_before_and_after_it_is_promoted(bench: Bench) -> None:
    one, other = letter("x", once="k", content="c"), letter("y", once="k", content="d")
    again = letter("z", once="k", content="c")
    await bench.schedule(one)

    assert await bench.schedule(again) == Stored("duplicate", "~", 0, "id-x")
    assert await bench.schedule(other) == Stored("conflict", "~", 0, "id-x")
    assert await bench.shard.publish([again, other]) == [
        Stored("duplicate", "~", 0, "id-x"),
        Stored("conflict", "~", 0, "id-x"),
    ]
    assert await bench.do("ZCARD", bench.keys.later) == await bench.do("HLEN", bench.keys.letters) == 1

    await bench.scheduled_now()
    await bench.shard.promote()
    (entry,) = await bench.history.between()
    assert await bench.shard.publish([again, other]) == [
        Stored("duplicate", entry.entry_id, 1, "id-x"),
        Stored("conflict", entry.entry_id, 1, "id-x"),
    ]
    assert await bench.schedule(again) == Stored("duplicate", entry.entry_id, 1, "id-x")
    assert await bench.shard.promote() == (0, None)
    assert await bench.log() == ["x"]


async def test_what_was_published_is_not_scheduled_again(bench: Bench) -> None:
    (first,) = await bench.shard.publish([letter("x", once="k", content="c")])
    again = await bench.schedule(letter("y", once="k", content="c"))
    assert again == Stored("duplicate", first.entry_id, 1, "id-x")
    assert await bench.do("EXISTS", bench.keys.later, bench.keys.letters) == 0


async def test_a_scheduled_key_is_remembered_until_its_window_after_it_is_due(bench: Bench) -> None:
    await bench.schedule(letter("x", once="k"))
    kept = await bench.do("PTTL", bench.keys.once("k"))
    assert kept == -1 or HOUR_MS + REMEMBER_MS - 10_000 < kept <= HOUR_MS + REMEMBER_MS
    await bench.scheduled_now()
    await bench.shard.promote()
    assert REMEMBER_MS - 10_000 < await bench.do("PTTL", bench.keys.once("k")) <= REMEMBER_MS


async def test_nothing_is_promoted_early_or_left_when_it_is_due_by_the_clock_of_redis(bench: Bench) -> None:
    start = await bench.now()
    due = {str(n): start + 3 * n for n in range(1, 31)}
    for name, ms in due.items():
        await bench.shard.schedule(letter(name, due_ms=ms))
    seen: list[str] = []
    while len(seen) < len(due):
        before = await bench.now()
        await bench.shard.promote()
        after, seen = await bench.now(), await bench.log()
        assert all(due[name] <= after for name in seen), "early"
        assert all(name in seen for name, ms in due.items() if ms <= before), "late"
    assert seen == list(due)


async def test_due_events_are_promoted_in_the_order_of_their_times_and_so_many_at_a_time(bench: Bench) -> None:
    for name, ms in (("e", -10_000), ("c", -30_000), ("a", -50_000), ("f", HOUR_MS), ("d", -20_000), ("b", -40_000)):
        await bench.schedule(letter(name), ms=ms)
    assert await bench.shard.promote(2) == (2, 0)
    assert await bench.log() == ["a", "b"]
    assert await bench.shard.promote(2) == (2, 0)
    count, due_ms = await bench.shard.promote(2)
    assert (count, due_ms is not None and due_ms > HOUR_MS - 10_000) == (1, True)
    assert await bench.log() == ["a", "b", "c", "d", "e"]
    assert [entry.sequence for entry in await bench.history.between()] == [1, 2, 3, 4, 5]


async def test_the_bell_tells_upkeep_of_a_schedule_and_consumers_of_a_promotion(bench: Bench) -> None:
    said = await heard_during(
        bench,
        bench.schedule(letter("x"), ms=-1),
        bench.schedule(letter("x"), ms=-1),
        bench.shard.promote(),
        bench.shard.promote(),
    )
    assert said == [b"~later", b""]


async def test_what_is_due_is_promoted_and_finished_without_memory(own_admin: Connection, namespace: str) -> None:
    bench = Bench(own_admin, namespace)
    await bench.declare()
    await bench.schedule(letter("x", key="k"), ms=-1)
    await bench.do("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Full):
        await bench.publish(None)
    assert await bench.shard.promote() == (1, None)
    assert await bench.drain() == ["x"]

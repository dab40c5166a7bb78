"""What each script of the shard promises, on both backends, through `Shard`.

A consumer dies here by falling silent: its lease in the set of living consumers is moved into the past.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Backlog, Batch, Letter, MissingGroup, Retry, Shard, Stored, Taken

LEASE = timedelta(minutes=1)
DAY = timedelta(days=1)
NODE = 100
"""Entries in a node of a stream (stream-node-max-entries); trimming forgets whole nodes."""

PARTS = (
    *("log", "groups", "alive", "fence", "tail", "next", "ready"),
    *("suspects", "due", "attempts", "crashes", "pause", "dead"),
)
"""What lua/common.lua calls the keys of a group."""


class Bench:
    """A shard with one group `g`, and short words for what tests do to it."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.connection = connection
        self.shard = Shard(connection, ShardKeys(namespace))
        self.keys = self.shard.keys
        self.names = dict(zip(PARTS, self.keys.group("g"), strict=True))
        self._published = 0

    async def do(self, *command: Any) -> Any:
        return await self.connection.do(*command)

    async def declare(self, *patterns: str, group: str = "g", from_now: bool = False) -> bool:
        return await self.shard.declare(group, patterns or (">",), from_now=from_now)

    async def publish(self, *keys: str | None, topic: str = "vm.created") -> list[Stored]:
        """One event per ordering key; the wire is its number."""
        letters = []
        for key in keys:
            self._published += 1
            letters.append(letter(str(self._published), topic=topic, key=key))
        return await self.shard.publish(letters)

    async def take(
        self, consumer: str = "a", count: int = 10, *, suspects: bool = False, ordered: bool = True, group: str = "g"
    ) -> Batch:
        return await self.shard.take(group, consumer, count, lease=LEASE, suspects=suspects, ordered=ordered)

    async def taken(self, consumer: str = "a", count: int = 10, *, suspects: bool = False) -> list[Taken]:
        return (await self.take(consumer, count, suspects=suspects)).taken

    async def one(self, consumer: str = "a") -> Taken:
        (only,) = await self.taken(consumer)
        return only

    async def settle(self, consumer: str, *done: Taken, group: str = "g") -> list[bool]:
        return await self.shard.settle(group, consumer, [(one.entry_id, one.fence, one.key) for one in done])

    async def retry(self, consumer: str, one: Taken, delay_ms: int = 0, *, counts: bool = True) -> bool:
        (ours,) = await self.shard.retry("g", consumer, [Retry(one.entry_id, one.fence, delay_ms, counts)])
        return ours

    async def bury(self, consumer: str, one: Taken) -> bool:
        return await self.shard.bury("g", consumer, one, key=one.key, reason="rejected", error="no", attempts=3)

    async def silence(self, *consumers: str) -> None:
        """They beat last a lease and a millisecond ago."""
        for name in consumers:
            await self.do("ZADD", self.keys.alive, await self.now() - 1, name)

    async def crash(self, consumer: str, *, limit: int = 3) -> list[str]:
        """The consumer dies and is swept; returns the wires buried as poison."""
        await self.silence(consumer)
        _, _, buried = await self.shard.sweep("g", poison_limit=limit)
        return [one.wire.decode() for one in buried]

    async def now(self) -> int:
        seconds, micros = await self.do("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def dead(self) -> list[dict[str, str]]:
        rows = await self.do("XRANGE", self.names["dead"], "-", "+")
        return [{name.decode(): value.decode() for name, value in fields(row[1]).items()} for row in rows]

    async def due_now(self) -> None:
        """The time of every waiting retry has come."""
        for entry_id in await self.do("ZRANGE", self.names["due"], 0, -1):
            await self.do("ZADD", self.names["due"], 1, entry_id)

    async def owners(self) -> dict[str, tuple[str, int]]:
        client: Any = self.connection.client
        rows = await client.xpending_range(self.keys.log, "g", "-", "+", 1000)
        return {r["message_id"].decode(): (r["consumer"].decode(), r["times_delivered"]) for r in rows}

    async def state(self) -> tuple[Any, ...]:
        """Everything a settle, retry or bury may change."""
        names = self.names
        return (
            await self.owners(),
            *[fields(await self.do("HGETALL", names[part])) for part in ("tail", "next", "attempts", "crashes")],
            *[await self.do("LRANGE", names[part], 0, -1) for part in ("ready", "suspects")],
            await self.do("ZRANGE", names["due"], 0, -1, "WITHSCORES"),
            await self.do("EXISTS", names["pause"]),
            await self.do("XLEN", names["dead"]),
        )


def fields(reply: Any) -> dict[bytes, bytes]:
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def letter(
    name: str, *, topic: str = "vm.created", key: str | None = None, once: str = "", content: str = ""
) -> Letter:
    return Letter(topic, key, f"id-{name}", once or f"once-{name}", content or name, 60_000, name.encode())


def wires(taken: Sequence[Taken]) -> list[str]:
    return [one.wire.decode() for one in taken]


@pytest.fixture
async def bench(url: str, namespace: str) -> AsyncIterator[Bench]:
    connection = await Connection.open(url)
    yield Bench(connection, namespace)
    await connection.close()


# -- publish -----------------------------------------------------------------------------------------------------------


async def test_events_get_dense_numbers_in_the_order_of_the_batch(bench: Bench) -> None:
    stored = await bench.shard.publish([letter(str(n)) for n in range(5)]) + await bench.shard.publish([letter("5")])
    assert [one.sequence for one in stored] == [1, 2, 3, 4, 5, 6]
    assert [one.status for one in stored] == ["stored"] * 6
    assert [one.event_id for one in stored] == [f"id-{n}" for n in range(6)]
    rows = await bench.shard.between("0-0", "99999999999999-0", 100)
    assert rows == [(one.entry_id, n + 1, "vm.created", str(n).encode()) for n, one in enumerate(stored)]


async def test_a_repeat_gets_the_place_and_id_of_the_first_event_and_stores_nothing(bench: Bench) -> None:
    (first,) = await bench.shard.publish([letter("first", once="k", content="c")])
    again = await bench.shard.publish([letter("second", once="k", content="c"), letter("third")])
    assert again[0] == Stored("duplicate", first.entry_id, 1, "id-first")
    assert again[1].sequence == 2, "a duplicate uses no number"
    assert await bench.do("XLEN", bench.keys.log) == 2


async def test_one_key_with_another_content_is_a_conflict_and_stores_nothing(bench: Bench) -> None:
    (first,) = await bench.shard.publish([letter("first", once="k", content="c")])
    (other,) = await bench.shard.publish([letter("other", once="k", content="d")])
    assert other == Stored("conflict", first.entry_id, 1, "id-first")
    assert await bench.do("XLEN", bench.keys.log) == 1


async def test_a_repeat_within_one_batch_is_a_duplicate(bench: Bench) -> None:
    stored = await bench.shard.publish([letter("x", once="k", content="c"), letter("y", once="k", content="c")])
    assert [(one.status, one.event_id) for one in stored] == [("stored", "id-x"), ("duplicate", "id-x")]


async def test_an_event_id_with_blanks_comes_back_whole(bench: Bench) -> None:
    await bench.shard.publish([letter("two words", once="k", content="c")])
    (again,) = await bench.shard.publish([letter("x", once="k", content="c")])
    assert again.event_id == "id-two words"


async def test_an_idempotency_key_is_remembered_for_its_window(bench: Bench) -> None:
    await bench.shard.publish([letter("x", once="k")])
    assert 50_000 < await bench.do("PTTL", bench.keys.once("k")) <= 60_000


async def test_each_stored_event_is_announced_once_and_the_bell_rings_once_a_batch(bench: Bench) -> None:
    async with bench.connection.client.pubsub() as heard:
        await heard.subscribe(bench.keys.live, bench.keys.bell)
        stored = await bench.shard.publish([letter("x", topic="a.b"), letter("y")])
        await bench.shard.publish([letter("x", topic="a.b")])
        await bench.do("PUBLISH", bench.keys.bell, "end")
        said: list[tuple[str, bytes]] = []
        while not said or said[-1][1] != b"end":
            if message := await heard.get_message(ignore_subscribe_messages=True, timeout=5):
                said.append((message["channel"].decode(), message["data"]))
    assert said == [
        (bench.keys.live, f"{stored[0].entry_id} 1 a.b x".encode()),
        (bench.keys.live, f"{stored[1].entry_id} 2 vm.created y".encode()),
        (bench.keys.bell, b""),
        (bench.keys.bell, b"end"),
    ]


async def test_between_gives_what_lies_strictly_between_two_ids_in_order(bench: Bench) -> None:
    stored = await bench.publish(*[None] * 6)
    found = await bench.shard.between(stored[0].entry_id, stored[5].entry_id, 3)
    assert [(entry_id, sequence) for entry_id, sequence, _, _ in found] == [
        (one.entry_id, one.sequence) for one in stored[1:4]
    ]
    assert await bench.shard.between(stored[2].entry_id, stored[3].entry_id, 3) == []


# -- declare -----------------------------------------------------------------------------------------------------------


async def test_a_new_group_starts_where_it_was_told_to(bench: Bench) -> None:
    await bench.publish(None)
    assert await bench.declare(group="old")
    assert await bench.declare(group="new", from_now=True)
    await bench.publish(None)
    assert wires((await bench.take(group="old")).taken) == ["1", "2"]
    assert wires((await bench.take(group="new")).taken) == ["2"]


async def test_a_group_may_be_declared_before_the_first_event(bench: Bench) -> None:
    assert await bench.declare(from_now=True)
    await bench.publish(None)
    assert wires(await bench.taken()) == ["1"]


async def test_a_known_group_keeps_its_place_and_takes_the_new_patterns(bench: Bench) -> None:
    await bench.declare("vm.*")
    await bench.publish(None)
    await bench.settle("a", await bench.one())
    assert not await bench.declare("task.*", "vm.x.>", from_now=True)
    await bench.publish(None, topic="vm.created")
    await bench.publish(None, topic="task.done")
    await bench.publish(None, topic="vm.x.y")
    assert [one.topic for one in await bench.taken()] == ["task.done", "vm.x.y"]
    assert await bench.shard.declared() == {"g": ["task.*", "vm.x.>"]}


async def test_of_many_who_declare_one_group_at_once_one_is_told_it_is_new(bench: Bench, url: str) -> None:
    await bench.publish(None)
    connections = [await Connection.open(url) for _ in range(8)]
    shards = [Shard(connection, bench.keys) for connection in connections]
    told = await asyncio.gather(*[shard.declare("g", [">"], from_now=False) for shard in shards])
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
    await bench.declare(from_now=True)
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
    assert not await bench.declare(from_now=True), "it is not new"
    assert wires(await bench.taken("b")) == (["1", "2"] if lost == "group" else ["2"])


async def test_the_sweep_misses_a_lost_group_but_finds_nothing_in_a_lost_log(bench: Bench) -> None:
    await bench.declare()
    await bench.do("XGROUP", "DESTROY", bench.keys.log, "g")
    with pytest.raises(MissingGroup):
        await bench.shard.sweep("g", poison_limit=3)
    await bench.do("DEL", bench.keys.log)
    assert await bench.shard.sweep("g", poison_limit=3) == (0, 0, [])


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
        assert all(await bench.settle("c", *batch))
        done += batch
    expected = ["1", "2", "3", "4", "5", "6", "7", "8", "9"] if lost == "group" else ["8", "9"]
    assert sorted(wires(done)) == expected
    for key in ("k", "m"):
        lane = [int(one.wire) for one in done if one.key == key]
        assert lane == sorted(lane)
    assert not any(await bench.state())


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
        assert await bench.settle(who, old) == [False]
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
    assert await bench.settle("a", *mixed) == [True, False] * 20
    assert await bench.settle("a", *mixed) == [False] * 40
    assert await bench.settle("b", *others) == [True] * 20


@pytest.mark.parametrize("size", [1, 20])
async def test_one_delivery_named_twice_in_a_call_counts_once(bench: Bench, size: int) -> None:
    await bench.declare()
    await bench.publish(*["k"] * 2, *[None] * (size - 1))
    taken = await bench.taken("a", 50)
    assert await bench.settle("a", *taken, taken[0]) == [True] * size + [False]
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
    assert await bench.settle("a", first) == [False]
    assert await bench.settle("b", second) == [True]


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
    assert await bench.dead() == [
        {"entry": stored.entry_id, "reason": "rejected", "error": "no", "attempts": "3"}
        | {"t": "vm.created", "k": "k", "s": "1", "e": "1"}
    ]
    assert (await bench.one("b")).wire == b"2"


async def test_poison_lets_the_lane_go_on(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k")
    await bench.one()
    assert await bench.crash("a", limit=1) == ["1"]
    assert (await bench.one("b")).wire == b"2"


async def test_an_unordered_group_has_no_lanes(bench: Bench) -> None:
    await bench.declare()
    await bench.publish("k", "k", "k")
    batch = await bench.take(ordered=False)
    assert wires(batch.taken) == ["1", "2", "3"]
    assert await bench.do("EXISTS", bench.names["tail"], bench.names["next"]) == 0
    assert await bench.shard.settle("g", "a", [(one.entry_id, one.fence, "") for one in batch.taken]) == [True] * 3


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
    long, short = timedelta(seconds=60), timedelta(seconds=5)
    await bench.shard.retry("g", "a", [Retry(first.entry_id, first.fence, 0, False)], pause=long)
    await bench.shard.retry("g", "a", [Retry(second.entry_id, second.fence, 0, False)], pause=short)
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
    await bench.shard.retry("g", "a", [Retry(one.entry_id, one.fence, 0, False)], pause=LEASE)
    assert wires((await bench.take(group="other")).taken) == ["1"]


async def test_no_room_means_nothing_is_taken(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None, None)
    await bench.retry("a", (await bench.taken(count=1))[0])
    assert await bench.taken(count=0, suspects=True) == []
    assert wires(await bench.taken(count=1)) == ["1"]


# -- crashes -----------------------------------------------------------------------------------------------------------


async def test_the_sweep_leaves_alone_whoever_beats(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None, None)
    await bench.taken("a", 1)
    await bench.taken("b", 1)
    await bench.silence("a")
    await bench.shard.beat("b", LEASE)
    assert (await bench.shard.sweep("g", poison_limit=3))[0] == 1
    assert wires(await bench.taken("c")) == ["1"]
    assert [owner for owner, _ in (await bench.owners()).values()] == ["c", "b"]


async def test_a_beat_saves_a_consumer_that_was_about_to_be_swept(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    await bench.one("a")
    await bench.silence("a")
    await bench.shard.beat("a", LEASE)
    assert (await bench.shard.sweep("g", poison_limit=3)) == (0, 0, [])


async def test_a_good_bye_lets_the_sweep_take_back_at_once(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    await bench.one("a")
    await bench.shard.beat("a", timedelta())
    assert (await bench.shard.sweep("g", poison_limit=3))[0] == 1


async def test_the_sweep_touches_nothing_that_waits(bench: Bench) -> None:
    """Behind a lane, for its time, or ready: nobody runs it, so nobody can have died with it."""
    await bench.declare()
    await bench.publish("k", "k", None, None)
    holder, later, ready = await bench.taken()
    await bench.retry("a", later, 60_000)
    await bench.retry("a", ready)
    before = await bench.state()
    assert (await bench.shard.sweep("g", poison_limit=1)) == (0, 0, [])
    assert await bench.state() == before
    assert await bench.settle("a", holder) == [True]


async def test_first_crash_ready_second_suspect_third_dead(bench: Bench) -> None:
    """Decision 5."""
    await bench.declare()
    (stored,) = await bench.publish("k")
    await bench.one("a")
    assert await bench.crash("a") == []
    second = await bench.one("b")
    assert (second.attempt, second.suspect) == (1, False)
    assert await bench.crash("b") == []
    unasked = await bench.take("c")
    assert (unasked.taken, unasked.suspects) == ([], 1)
    (third,) = await bench.taken("c", suspects=True)
    assert (third.attempt, third.suspect) == (1, True)
    await bench.silence("c")
    back, _, (buried,) = await bench.shard.sweep("g", poison_limit=3)
    assert back == 0
    assert (buried.entry_id, buried.crashes, buried.topic) == (stored.entry_id, 3, "vm.created")
    assert (buried.key, buried.sequence, buried.wire) == ("k", 1, b"1")
    (letter_,) = await bench.dead()
    assert (letter_["reason"], letter_["attempts"], letter_["e"]) == ("poison", "3", "1")
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
    await bench.publish(*[None] * 105)
    assert len(await bench.taken("a", 200)) == 105
    await bench.silence("a")
    swept = [(await bench.shard.sweep("g", poison_limit=3))[:2] for _ in range(4)]
    assert swept == [(100, 0), (5, 0), (0, 1), (0, 0)]
    assert len(await bench.taken("b", 200)) == 105


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
    assert await bench.settle("a", known) == [True]
    assert await bench.settle("b", others) == [True]
    assert wires(await bench.taken("c")) == ["3"]


async def test_recover_takes_what_is_known_by_an_old_fence_only(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    first = await bench.one("a")
    await bench.crash("a")
    await bench.taken("a")  # taken again by the same consumer; the reply is lost
    assert await bench.shard.recover("g", "a", [(first.entry_id, first.fence)]) == 1
    assert (await bench.one("b")).wire == b"1"


# -- trim and backlog --------------------------------------------------------------------------------------------------


async def test_trim_forgets_what_every_group_has_finished_and_nothing_else(bench: Bench) -> None:
    await bench.declare()
    await bench.declare(group="slow")
    await bench.publish(*[None] * (3 * NODE))
    fast = await bench.taken("a", 3 * NODE)
    await bench.settle("a", *fast)
    assert await bench.shard.trim(timedelta()) == 0, "a declared group has read nothing yet"
    slow = (await bench.take(group="slow", count=3 * NODE)).taken
    await bench.settle("a", *slow[: NODE + 1], *slow[NODE + 2 :], group="slow")
    assert await bench.shard.trim(timedelta()) == NODE
    assert await bench.settle("a", slow[NODE + 1], group="slow") == [True]
    assert await bench.shard.trim(timedelta(), most=NODE) == NODE, "no more than asked for"


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
    assert await bench.shard.trim(timedelta()) == 0
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
    assert await bench.shard.trim(timedelta()) == 0
    await bench.settle("a", keep, group="slow")
    assert await bench.shard.trim(timedelta()) == NODE


async def test_trim_keeps_finished_events_for_the_retention(bench: Bench) -> None:
    await bench.declare()
    for age in (2 * DAY, timedelta(hours=1)):
        ms = await bench.now() - int(age.total_seconds() * 1000)
        for n in range(NODE):
            await bench.do("XADD", bench.keys.log, f"{ms}-{n}", "t", "vm.created", "k", "", "s", n, "e", "x")
    await bench.publish(None)
    await bench.settle("a", *await bench.taken("a", 3 * NODE))
    assert await bench.shard.trim(DAY) == NODE
    assert await bench.shard.trim(DAY) == 0
    assert await bench.shard.trim(timedelta(minutes=30)) == NODE


async def test_trim_does_nothing_while_a_declared_group_has_no_place(bench: Bench) -> None:
    assert await bench.shard.trim(timedelta()) == 0, "there is no log yet"
    await bench.declare()
    await bench.declare(group="lost")
    await bench.publish(*[None] * (2 * NODE))
    await bench.settle("a", *await bench.taken("a", 2 * NODE))
    await bench.do("XGROUP", "DESTROY", bench.keys.log, "lost")
    assert await bench.shard.trim(timedelta()) == -1
    assert await bench.do("XLEN", bench.keys.log) == 2 * NODE
    await bench.do("HDEL", bench.keys.groups, "lost")
    assert await bench.shard.trim(timedelta()) > 0


async def test_backlog_says_where_everything_stands(bench: Bench) -> None:
    assert await bench.shard.backlog("g") is None
    await bench.declare()
    empty = await bench.shard.backlog("g")
    assert empty == Backlog(0, 0, 0, 0, 0, 0, 0)
    assert empty.is_empty
    await bench.publish("k", "k", "k", None, None, None, None, None)
    _, later, ready, dead = await bench.taken("a", 6)
    await bench.retry("a", later, 60_000)
    await bench.retry("a", ready)
    await bench.bury("a", dead)
    assert await bench.shard.backlog("g") == Backlog(2, 1, 2, 1, 1, 1, 0)
    await bench.taken("b")
    await bench.crash("b")
    await bench.taken("b")
    await bench.crash("b")
    stands = await bench.shard.backlog("g")
    assert stands is not None
    assert (stands.unread, stands.running, stands.ready) == (0, 1, 3), "suspects are ready too"
    assert not stands.is_empty


async def test_backlog_shows_a_pause(bench: Bench) -> None:
    await bench.declare()
    await bench.publish(None)
    one = await bench.one()
    await bench.shard.retry("g", "a", [Retry(one.entry_id, one.fence, 0, False)], pause=LEASE)
    stands = await bench.shard.backlog("g")
    assert stands is not None
    assert 50_000 < stands.paused_ms <= 60_000


async def test_backlog_never_claims_that_nothing_is_unread_when_it_is_not_known(bench: Bench) -> None:
    await bench.declare()
    stored = await bench.publish(*[None] * 4)
    await bench.do("XGROUP", "SETID", bench.keys.log, "g", stored[1].entry_id)
    stands = await bench.shard.backlog("g")
    assert stands is not None
    assert stands.unread in (None, 2)
    assert not stands.is_empty
    assert len(await bench.taken()) == 2
    await bench.shard.recover("g", "a", [])
    await bench.settle("a", *await bench.taken())
    stands = await bench.shard.backlog("g")
    assert stands is not None
    assert stands.is_empty

"""The books that check.lua reads: honest work always adds up, and whatever somebody else did shows as what it is.

On both backends.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from eventbus.audit import Gap
from eventbus.auditor import Auditor
from eventbus.redis.shard import Taken
from eventbus.witness import Witness
from tests.contracts.bench import DAY, NODE, Bench, letter

STEPS = 150
SEEDS = range(1, 7)


class Walk:
    """Honest steps in random order, by up to three groups with two consumers each."""

    def __init__(self, bench: Bench, seed: int, seen: Counter[str]) -> None:
        self.bench = bench
        self.random = random.Random(seed)
        self.seen = seen
        self.held: dict[tuple[str, str], list[Taken]] = {}
        self.made = 0

    async def step(self) -> str:
        steps: list[Callable[[], Awaitable[object]]] = [
            *(self.publish,) * 3,
            *(self.take,) * 4,
            *(self.settle,) * 3,
            *(self.schedule, self.promote, self.retry, self.bury, self.bury, self.redrive, self.redrive, self.replay),
            *(self.trim, self.declare, self.crash, self.recover, self.due, self.retire, self.finish),
        ]
        step = self.random.choice(steps)
        await step()
        return step.__name__

    async def publish(self) -> None:
        topic = self.random.choice(["vm.created", "task.done"])
        await self.bench.publish(*self.random.choices([None, "k", "l"], k=self.random.randint(1, 6)), topic=topic)

    async def schedule(self) -> None:
        self.made += 1
        await self.bench.schedule(letter(f"s{self.made}", key="k"), ms=self.random.choice([-1, 3_600_000]))

    async def promote(self) -> None:
        self.seen["promoted"] += (await self.bench.shard.promote())[0]

    async def declare(self) -> None:
        entries = await self.bench.history.between(most=1000)
        places = ["0", "$", *(entry.entry_id for entry in entries)]
        patterns = self.random.choice([(">",), ("vm.*",), ("task.*",)])
        group = self.random.choice("ghi")
        await self.bench.declare(*patterns, group=group, behind=self.random.choice(places))

    async def group(self) -> str | None:
        declared = list(await self.bench.shard.declared())
        return self.random.choice(declared) if declared else None

    async def take(self) -> None:
        if group := await self.group():
            consumer = self.random.choice("ab")
            batch = await self.bench.take(consumer, self.random.randint(1, 9), suspects=True, group=group)
            self.held.setdefault((group, consumer), []).extend(batch.taken)

    def hand(self) -> tuple[str, str, list[Taken]]:
        """What one consumer has in hand, which it then lets go of."""
        (group, consumer) = self.random.choice(list(self.held) or [("", "")])
        return group, consumer, self.held.pop((group, consumer), [])

    async def settle(self) -> None:
        group, consumer, done = self.hand()
        if done:
            work = [(one.entry_id, one.fence, one.key) for one in done]
            _, after = await self.bench.shard.settle(group, consumer, work, go_on=self.random.random() < 0.5)
            self.held[group, consumer] = after
            self.seen["given on the way"] += len(after)

    async def retry(self) -> None:
        group, consumer, held = self.hand()
        for one in held:
            await self.bench.retry(consumer, one, self.random.choice([0, 3_600_000]), group=group)

    async def due(self) -> None:
        await self.bench.due_now()

    async def bury(self) -> None:
        group, consumer, held = self.hand()
        for one in held:
            self.seen["buried"] += await self.bench.bury(consumer, one, group=group)

    async def redrive(self) -> None:
        if group := await self.group():
            for dead in (await self.bench.dead(group))[:2]:
                self.seen["redriven"] += await self.bench.history.redrive(group, dead.dead_id) is not None

    async def replay(self) -> None:
        if group := await self.group():
            self.made += 1
            page = await self.bench.history.replay(group, (">",), str(self.made), 1, "-", "+")
            self.seen["replayed"] += page.copied

    async def trim(self) -> None:
        retention, keep = self.random.choice([(timedelta(), 1000), (DAY, 0), (DAY, 20)])
        self.seen["trimmed"] += await self.bench.history.trim(retention, keep=keep)

    async def crash(self) -> None:
        group, consumer, held = self.hand()
        if held:
            await self.bench.silence(consumer)
            back, _, buried = await self.bench.shard.sweep(group, poison_limit=self.random.choice([1, 3]))
            self.seen["taken back"] += back
            self.seen["poison"] += buried

    async def recover(self) -> None:
        group, consumer, _ = self.hand()
        if group in await self.bench.shard.declared():
            self.seen["recovered"] += await self.bench.shard.recover(group, consumer, [])

    async def retire(self) -> None:
        group = await self.group()
        if group and self.random.random() < 0.6:
            done, _ = await self.bench.history.retire(group, 1_000_000)
            self.seen["retired"] += done is True
            self.held = {place: held for place, held in self.held.items() if place[0] != group}

    async def finish(self) -> None:
        """All groups hand back what they hold and finish everything."""
        for (group, consumer), held in self.held.items():
            for one in held:
                await self.bench.retry(consumer, one, counts=False, group=group)
        self.held.clear()
        for group in await self.bench.shard.declared():
            await self.bench.drain(group=group)


async def test_honest_work_adds_up_after_every_step(bench: Bench) -> None:
    await bench.connection.client.config_set("stream-node-max-entries", 3)
    seen: Counter[str] = Counter()
    try:
        for seed in SEEDS:
            walk = Walk(Bench(bench.connection, f"{bench.keys.namespace}-{seed}"), seed, seen)
            await walk.bench.declare()
            for _ in range(STEPS):
                name = await walk.step()
                assert await walk.bench.gaps() == [], f"seed {seed}, after {name}"
    finally:
        await bench.connection.client.config_set("stream-node-max-entries", NODE)
    rare = ("promoted", "given on the way", "buried", "redriven", "replayed", "trimmed", "taken back", "poison")
    assert all(seen[what] for what in (*rare, "recovered", "retired")), f"a walk in which little happens: {seen}"


# -- sabotage ----------------------------------------------------------------------------------------------------------


async def life(bench: Bench) -> list[Taken]:
    """Three groups and 20 events: `g` has read 12, of which 3 are in hand; `idle` none; `done` all."""
    await bench.declare()
    for group in ("idle", "done"):
        await bench.declare("vm.*", group=group)
    await bench.publish(*[None] * 18)
    await bench.publish(None, None, topic="task.done")
    await bench.drain(group="done")
    taken = await bench.taken("a", 12)
    await bench.settle("a", *taken[:8])
    await bench.bury("a", taken[8])
    assert await bench.gaps() == []
    return taken[9:]


def kinds(found: list[Gap]) -> set[tuple[str, str | None, int]]:
    return {(gap.kind, gap.group, gap.count) for gap in found}


async def accept_all(bench: Bench) -> None:
    """The books add up again, and stay so while work goes on."""
    for gap in await bench.gaps():
        await bench.history.accept(gap.kind, gap.group, gap.count)
    assert await bench.gaps() == []
    await bench.publish(None, "k", "k")
    await bench.silence("a")
    for group in await bench.shard.declared():
        await bench.shard.sweep(group, poison_limit=3)
        await bench.drain(group=group)
        assert await bench.gaps() == []
    await bench.history.trim(timedelta(), keep=0)
    await bench.declare(group="late", behind="$")
    await bench.publish(None)
    await bench.drain(group="late")
    assert await bench.gaps() == []


async def place(bench: Bench, number: int) -> str:
    return next(one.entry_id for one in await bench.history.between() if one.sequence == number)


async def test_events_cut_off_at_the_front_are_missed_in_the_log_and_by_who_had_not_read_them(bench: Bench) -> None:
    for one in await life(bench):
        await bench.settle("a", one)
    await bench.do("XTRIM", bench.keys.log, "MAXLEN", 5)
    found = await bench.gaps()
    assert kinds(found) == {("deleted", None, 15), ("unhandled", "g", 3), ("unhandled", "idle", 15)}
    assert (found[0].first, found[0].last) == (1, 15)
    await accept_all(bench)


async def test_a_log_that_was_emptied_is_missed_whole(bench: Bench) -> None:
    for one in await life(bench):
        await bench.settle("a", one)
    await bench.do("XTRIM", bench.keys.log, "MAXLEN", 0)
    assert kinds(await bench.gaps()) == {("deleted", None, 20), ("unhandled", "g", 8), ("unhandled", "idle", 20)}
    await accept_all(bench)


@pytest.mark.parametrize(
    ("numbers", "within"), [((1, 2), (1, 2)), ((19, 20), (19, 20)), ((5, 6), (1, 20)), ((12, 13), (1, 20))]
)
async def test_deleted_events_are_missed(bench: Bench, numbers: tuple[int, int], within: tuple[int, int]) -> None:
    for one in await life(bench):
        await bench.settle("a", one)
    for number in numbers:
        await bench.do("XDEL", bench.keys.log, await place(bench, number))
    found = [gap for gap in await bench.gaps() if gap.group is None]
    assert kinds(found) == {("deleted", None, 2)}
    assert (found[0].first, found[0].last) == within
    await bench.publish(None)
    for group in ("g", "idle", "done"):
        await bench.drain(group=group)
    lost = {"g": sum(number > 12 for number in numbers), "idle": 2}
    expected = {("unhandled", group, count) for group, count in lost.items() if count}
    assert kinds(await bench.gaps()) == {("deleted", None, 2), *expected}, "and by whom, once they came that far"
    await accept_all(bench)


@pytest.mark.parametrize("numbers", [(14, 15), (20,), (13,), (12, 13, 20)])
async def test_deleted_events_that_are_accepted_before_they_were_read_do_not_show_later(
    bench: Bench, numbers: tuple[int, ...]
) -> None:
    for one in await life(bench):
        await bench.settle("a", one)
    for number in numbers:
        await bench.do("XDEL", bench.keys.log, await place(bench, number))
    for gap in await bench.gaps():
        await bench.history.accept(gap.kind, gap.group, gap.count)
    while (await bench.backlog()).unread:
        assert await bench.gaps() == []
        await bench.settle("a", *await bench.taken("a", 1))
    await bench.drain(group="idle")
    assert await bench.gaps() == []
    await bench.publish(None)
    for _ in range(2):
        assert await Auditor(bench.history, Witness()).look(["g", "idle", "done"], closes=True) == []
    await bench.do("XACK", bench.keys.log, "g", (await bench.one()).entry_id)
    assert kinds(await bench.gaps()) == {("unhandled", "g", 1)}, "from then on none is overlooked"
    await accept_all(bench)


@pytest.mark.parametrize("behind", ["0", "3", "$"])
async def test_a_new_group_does_not_miss_what_was_deleted_before_it_began(bench: Bench, behind: str) -> None:
    """Wherever it begins, and however far it has come."""
    await life(bench)
    for number in (5, 6, 12, 20):
        await bench.do("XDEL", bench.keys.log, await place(bench, number))
    start = await place(bench, 3) if behind == "3" else behind
    await bench.declare(group="new", behind=start)
    while (await bench.backlog("new")).unread:
        assert not [gap for gap in await bench.gaps() if gap.group == "new"]
        await bench.settle("a", *await bench.taken("a", 1, group="new"), group="new")
    await bench.publish(None, None)
    await bench.drain(group="new")
    assert not [gap for gap in await bench.gaps() if gap.group == "new"]


async def test_a_new_group_misses_what_is_deleted_after_it_began(bench: Bench) -> None:
    await life(bench)
    await bench.do("XDEL", bench.keys.log, await place(bench, 5))
    await bench.declare(group="new")
    await bench.do("XDEL", bench.keys.log, await place(bench, 15))
    await bench.drain(group="new")
    assert ("unhandled", "new", 1) in kinds(await bench.gaps())


async def test_a_deleted_event_that_was_in_hand_is_finished_all_the_same(bench: Bench) -> None:
    held, *_ = await life(bench)
    await bench.do("XDEL", bench.keys.log, held.entry_id)
    await bench.settle("a", held)
    assert kinds(await bench.gaps()) == {("deleted", None, 1)}


async def test_a_deleted_event_that_waited_is_missed_when_its_turn_comes(bench: Bench) -> None:
    held, *_ = await life(bench)
    await bench.retry("a", held, 60_000)
    await bench.do("XDEL", bench.keys.log, held.entry_id)
    await bench.silence("a")
    await bench.shard.sweep("g", poison_limit=3)
    await bench.drain()
    assert ("unhandled", "g", 1) in kinds(await bench.gaps())


async def test_a_delivery_acknowledged_by_hand_is_missed(bench: Bench) -> None:
    held, *_ = await life(bench)
    await bench.do("XACK", bench.keys.log, "g", held.entry_id)
    found = await bench.gaps()
    assert kinds(found) == {("unhandled", "g", 1)}
    assert (found[0].first, found[0].last) == (1, 12)
    await accept_all(bench)


async def test_the_deliveries_of_a_consumer_deleted_by_hand_are_missed(bench: Bench) -> None:
    assert len(await life(bench)) == 3
    await bench.do("XGROUP", "DELCONSUMER", bench.keys.log, "g", "a")
    assert kinds(await bench.gaps()) == {("unhandled", "g", 3)}
    await accept_all(bench)


@pytest.mark.parametrize("shape", ["by hand", "t vm.created k  s text e x", "a b c d e f g h i j", "x y f g"])
async def test_an_entry_that_was_not_published_is_found_and_stops_nobody(bench: Bench, shape: str) -> None:
    await bench.declare()
    await bench.publish(None)
    for _ in range(2):
        await bench.do("XADD", bench.keys.log, "*", *shape.split(" "))
    assert (await bench.backlog()).unread == 1
    await bench.publish("k", "k")
    await bench.do("XADD", bench.keys.log, "*", *shape.split(" "))
    assert kinds(await bench.gaps()) == {("foreign", None, 3)}
    assert (await bench.backlog()).unread == 3
    await bench.settle("a", *await bench.taken("a", 1))
    assert (await bench.backlog()).unread == 2, "strangers come next"
    assert kinds(await bench.gaps()) == {("foreign", None, 3)}
    assert await bench.drain() == ["2", "3"]
    assert kinds(await bench.gaps()) == {("foreign", None, 3)}
    assert (await bench.history.replay("g", (">",), "t", 1, "-", "+")).copied == 3
    assert await bench.drain() == ["1", "2", "3"]
    assert await bench.history.trim(DAY, keep=0) >= 0
    await accept_all(bench)


async def test_a_group_that_was_set_forward_misses_what_it_skipped(bench: Bench) -> None:
    await life(bench)
    await bench.do("XGROUP", "SETID", bench.keys.log, "g", "$")
    assert kinds(await bench.gaps()) == {("unhandled", "g", 8)}
    await accept_all(bench)


async def test_a_group_that_was_set_back_is_told_that_it_finishes_twice(bench: Bench) -> None:
    await life(bench)
    await bench.do("XGROUP", "SETID", bench.keys.log, "done", "0")
    assert kinds(await bench.gaps()) == {("uncounted", "done", 20)}
    await accept_all(bench)


async def test_a_group_that_lost_its_place_is_named(bench: Bench) -> None:
    await life(bench)
    await bench.do("XGROUP", "DESTROY", bench.keys.log, "g")
    assert [(gap.kind, gap.group) for gap in await bench.gaps()] == [("no place", "g")]
    await bench.declare()
    assert await bench.gaps() == []
    await accept_all(bench)


async def test_a_group_that_nobody_declared_is_named(bench: Bench) -> None:
    await life(bench)
    await bench.do("XGROUP", "CREATE", bench.keys.log, "stranger", "0")
    assert (await bench.history.books(["g"])).undeclared == ["stranger"]


async def test_a_deleted_log_is_missed_whole_and_each_group_its_place(bench: Bench) -> None:
    await life(bench)
    await bench.do("DEL", bench.keys.log)
    found = await bench.gaps()
    assert found[0] == Gap("deleted", None, 1, 20, 20)
    assert {(gap.kind, gap.group) for gap in found[1:]} == {("no place", group) for group in ("g", "idle", "done")}
    for group in ("g", "idle", "done"):
        await bench.declare(group=group)
    assert kinds(await bench.gaps()) == {("deleted", None, 20)}
    await accept_all(bench)


async def test_a_redis_that_came_back_without_its_newest_events_is_found_by_who_saw_them(bench: Bench) -> None:
    await life(bench)
    newest = await bench.publish(None, None, None)
    for one in newest:
        await bench.do("XDEL", bench.keys.log, one.entry_id)
    await bench.do("DECRBY", bench.keys.sequence, 3)
    assert await bench.gaps(seen=20) == []
    assert await bench.gaps(seen=bench.seen) == [Gap("rolled back", None, 21, 23, 3)]
    await bench.publish(None)
    assert await bench.gaps(seen=bench.seen) == [Gap("rolled back", None, 22, 23, 2)]
    await accept_all(bench)


async def test_numbers_given_out_twice_are_found(bench: Bench) -> None:
    await life(bench)
    await bench.do("SET", bench.keys.sequence, 15)
    assert {("rolled back", None, 5), ("foreign", None, 5)} <= kinds(await bench.gaps(seen=bench.seen))

"""What every worker does now and then: announce what another could not, promote what is due, check the books."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from eventbus import Event, EventBus, Receipt, catalog, upkeep
from eventbus.observer import Observer
from eventbus.redis.connection import Connection
from eventbus.redis.history import Entry, History
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Letter, Shard
from tests.conftest import LEASE, SWEEP_EVERY, wait_until


class Seen(Observer):
    """The gaps a worker found."""

    def __init__(self) -> None:
        self.gaps: list[tuple[str, int]] = []

    def gap(self, kind: str, count: int) -> None:
        self.gaps.append((kind, count))


class Admin:
    """Looks into the bus and does what nobody should."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.connection = connection
        self.keys = ShardKeys(namespace)
        self.shard = Shard(connection, self.keys)
        self.history = History(connection, self.keys)

    async def entries(self, topic: str) -> list[Entry]:
        return [entry for entry in await self.history.between(most=1000) if entry.topic == topic]

    async def delete(self, entry_id: str) -> None:
        await self.connection.do("XDEL", self.keys.log, entry_id)

    async def roll_back(self, receipts: Sequence[Receipt], *, kept: int) -> None:
        """As a Redis that comes back with the first of these events only, which group g had handled."""
        async with self.connection.client.pipeline(transaction=True) as pipe:
            for receipt in receipts[kept:]:
                pipe.xdel(self.keys.log, receipt.entry_id)
            pipe.decrby(self.keys.sequence, len(receipts) - kept)
            pipe.hincrby(self.keys.counts("g"), "done", kept - len(receipts))
            pipe.execute_command("XGROUP", "SETID", self.keys.log, "g", receipts[kept - 1].entry_id)
            await pipe.execute()


@pytest.fixture
async def admin(url: str, namespace: str) -> AsyncIterator[Admin]:
    connection = await Connection.open(url)
    yield Admin(connection, namespace)
    await connection.close()


@contextlib.asynccontextmanager
async def worker(
    url: str, namespace: str, handled: list[int], observer: Observer | None = None
) -> AsyncIterator[EventBus]:
    """A running worker of group `g`."""

    async def handle(event: Event[Any]) -> None:
        handled.append(event.data["n"])

    options: dict[str, Any] = {"lease": LEASE, "sweep_every": SWEEP_EVERY, "observer": observer}
    async with EventBus.open(url, namespace=namespace, **options) as bus:
        await bus.subscribe("custom.n", handle, group="g")
        running = asyncio.create_task(bus.run())
        try:
            yield bus
        finally:
            bus.stop()
            await running


async def test_a_dead_letter_that_nobody_lived_to_announce_is_announced_once(
    bus: EventBus, admin: Admin, url: str, namespace: str
) -> None:
    await admin.shard.declare("g", ["custom.n"], behind="0")
    receipt = await bus.publish("custom.n", {"n": 1})
    batch = await admin.shard.take("g", "dying", 1, lease=LEASE, suspects=False, ordered=True)
    (taken,) = batch.taken
    assert await admin.shard.bury("g", "dying", taken, key="", reason="rejected", error="no", attempts=1)

    async with worker(url, namespace, []), worker(url, namespace, []):

        async def is_told() -> bool:
            return not await admin.history.untold("g")

        await wait_until(is_told, "the dead letter is announced")
        await bus.publish("custom.n", {"n": 2})

    (announcement,) = await admin.entries("delivery.dead_lettered")
    assert receipt.event_id.encode() in announcement.wire


async def test_what_the_process_of_a_dead_letter_died_of_is_announced(
    bus: EventBus, admin: Admin, url: str, namespace: str
) -> None:
    """Poison is buried by the sweep, which tells no caller."""
    await admin.shard.declare("g", ["custom.n"], behind="0")
    await bus.publish("custom.n", {"n": 1})
    for n in range(3):
        batch = await admin.shard.take("g", f"dying-{n}", 1, lease=timedelta(), suspects=True, ordered=True)
        assert len(batch.taken) == 1
        if n < 2:
            await admin.connection.do("ZADD", admin.keys.alive, 1, f"dying-{n}")
            await admin.shard.sweep("g", poison_limit=3)
    await admin.connection.do("ZADD", admin.keys.alive, 1, "dying-2")

    async with worker(url, namespace, []):

        async def announced() -> list[Entry]:
            return await admin.entries("delivery.dead_lettered")

        await wait_until(announced, "the poison is announced")
    (announcement,) = await admin.entries("delivery.dead_lettered")
    assert b'"poison"' in announcement.wire


async def test_a_scheduled_event_arrives_when_it_is_due_and_once_across_workers(
    bus: EventBus, admin: Admin, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upkeep is woken by the schedule and sleeps until it is due: its own interval is far too long here."""
    monkeypatch.setattr(upkeep, "PROMOTE_SECONDS", 60.0)
    handled: list[int] = []
    async with worker(url, namespace, handled), worker(url, namespace, handled):
        await bus.publish("custom.n", {"n": 0})
        await wait_until(lambda: handled == [0], "they are up")
        before = (await admin.history.now())[1]
        for n, milliseconds in ((2, 200), (1, 100)):
            await bus.publish("custom.n", {"n": n}, delay=timedelta(milliseconds=milliseconds))
        await wait_until(lambda: len(handled) == 3, "both arrive")
    assert handled == [0, 1, 2]
    _, first, second = await admin.entries("custom.n")
    assert int(first.entry_id.split("-")[0]) >= before + 99
    assert int(second.entry_id.split("-")[0]) >= before + 199


async def test_more_than_a_batch_that_is_due_is_promoted_without_a_pause(
    bus: EventBus, admin: Admin, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "PROMOTE_SECONDS", 60.0)
    monkeypatch.setattr(upkeep, "PROMOTE_BATCH", 3)
    for n in range(8):
        await bus.publish("custom.n", {"n": n}, delay=timedelta(microseconds=n + 1))
    handled: list[int] = []
    async with worker(url, namespace, handled):
        await wait_until(lambda: len(handled) == 8, "all arrive")


async def test_a_gap_is_found_told_to_the_observer_and_published_once(
    bus: EventBus, admin: Admin, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "AUDIT_SECONDS", 0.02)
    receipts = [await bus.publish("custom.n", {"n": n}) for n in range(3)]
    one, other = Seen(), Seen()
    handled: list[int] = []
    async with worker(url, namespace, handled, one), worker(url, namespace, handled, other):
        await wait_until(lambda: len(handled) == 3, "all are handled")
        await admin.delete(receipts[0].entry_id)
        await wait_until(lambda: one.gaps == other.gaps == [("deleted", 1)], "both find the gap")
        await admin.delete(receipts[1].entry_id)
        await wait_until(lambda: len(one.gaps) == len(other.gaps) == 2, "both find the next one")
    assert one.gaps == other.gaps == [("deleted", 1), ("deleted", 2)], "and say each once, however often they look"
    published = await admin.entries("delivery.gap_found")
    assert len(published) == 2


async def test_a_gap_is_told_once_though_the_log_grows_behind_it(
    bus: EventBus, admin: Admin, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "AUDIT_SECONDS", 0.02)
    receipts = [await bus.publish("custom.n", {"n": n}) for n in range(3)]
    seen = Seen()
    handled: list[int] = []
    async with worker(url, namespace, handled, seen):
        await wait_until(lambda: len(handled) == 3, "all are handled")
        await admin.delete(receipts[1].entry_id)
        await wait_until(lambda: seen.gaps == [("deleted", 1)], "the gap is found")
        for n in range(3, 8):
            await bus.publish("custom.n", {"n": n})
            (gap,) = await bus.audit()
            assert gap.last >= n, "the range grows: the counters do not tell where it is"
        await admin.delete(receipts[2].entry_id)
        await wait_until(lambda: len(seen.gaps) == 2, "the next one is news")
    assert seen.gaps == [("deleted", 1), ("deleted", 2)]


async def test_an_accepted_gap_is_no_gap_any_more_and_the_next_one_is_news(
    bus: EventBus, admin: Admin, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "AUDIT_SECONDS", 0.02)
    receipts = [await bus.publish("custom.n", {"n": n}) for n in range(4)]
    seen = Seen()
    handled: list[int] = []
    async with worker(url, namespace, handled, seen):
        await wait_until(lambda: len(handled) == 4, "all are handled")
        for found, numbers in ((1, (1,)), (2, (2, 3))):
            places = [receipts[number].entry_id for number in numbers]
            await admin.connection.client.xdel(admin.keys.log, *places)
            await wait_until(lambda n=found: len(seen.gaps) == n, "the gap is found")  # type: ignore[misc]
            (gap,) = await bus.audit()
            await bus.accept(gap)
            assert await bus.audit() == []
    assert seen.gaps == [("deleted", 1), ("deleted", 2)]
    assert len(await admin.entries("delivery.gap_found")) == 2


async def test_a_redis_that_lost_its_newest_events_is_found_by_the_worker_that_handled_them(
    bus: EventBus, admin: Admin, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "AUDIT_SECONDS", 0.02)
    receipts = [await bus.publish("custom.n", {"n": n}) for n in range(5)]
    seen = Seen()
    handled: list[int] = []
    async with worker(url, namespace, handled, seen):
        await wait_until(lambda: len(handled) == 5, "all are handled")
        await admin.roll_back(receipts, kept=3)
        await wait_until(lambda: ("rolled back", 2) in seen.gaps, "the loss is found")
        await bus.publish("custom.other")
        await bus.publish("custom.other")
    assert [kind for kind, _ in seen.gaps] == ["rolled back"], "once, though it never comes back"


async def test_numbers_that_are_given_out_again_are_a_roll_back_also_when_others_published_since(
    bus: EventBus,
) -> None:
    """A fail-over to a replica that lacked the last three events, and five new ones before the next look."""
    await bus.publish_many(catalog.event("custom.x", {"n": n}) for n in range(10))
    connection, keys = bus._connection, bus._shard.keys
    for entry in (await bus._history.between())[7:]:
        await connection.do("XDEL", keys.log, entry.entry_id)
    await connection.do("SET", keys.sequence, 7)
    others = [Letter("custom.x", None, f"e{n}", f"o{n}", "print", 1000, b"{}") for n in range(5)]
    await bus._shard.publish(others)

    (gap,) = await bus.audit()
    assert (gap.kind, gap.first, gap.last, gap.count) == ("rolled back", 8, 10, 3)
    await bus.accept(gap)
    assert await bus.audit() == []


async def test_what_was_newest_when_the_line_broke_is_looked_for_however_many_events_follow(bus: EventBus) -> None:
    await bus.publish_many(catalog.event("custom.x", {"n": n}) for n in range(10))
    bus._serving._line_lost()
    connection, keys = bus._connection, bus._shard.keys
    for entry in (await bus._history.between())[7:]:
        await connection.do("XDEL", keys.log, entry.entry_id)
    await connection.do("SET", keys.sequence, 7)
    await bus._shard.publish([Letter("custom.x", None, f"e{n}", f"o{n}", "print", 1000, b"{}") for n in range(5)])
    await bus.publish_many(catalog.event("custom.x", {"n": n}) for n in range(10, 20))

    (gap,) = await bus.audit()
    assert (gap.kind, gap.first, gap.last, gap.count) == ("rolled back", 8, 10, 3)


async def test_a_roll_back_is_found_at_once_also_when_the_worker_goes_on_with_newer_events(
    bus: EventBus, admin: Admin, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More new events than were lost, and no look at the books in between."""
    monkeypatch.setattr(upkeep, "AUDIT_SECONDS", 1000.0)
    receipts = [await bus.publish("custom.n", {"n": n}) for n in range(5)]
    seen = Seen()
    handled: list[int] = []
    async with worker(url, namespace, handled, seen):
        await wait_until(lambda: len(handled) == 5, "all are handled")
        await admin.roll_back(receipts, kept=3)
        await bus.publish_many(catalog.event("custom.n", {"n": n}) for n in range(5, 10))
        await wait_until(lambda: len(handled) == 10, "the worker goes on")
        await wait_until(lambda: seen.gaps == [("rolled back", 2)], "the loss is found, once")


async def test_a_lane_that_hangs_is_mended_by_a_running_worker(
    bus: EventBus, admin: Admin, url: str, namespace: str
) -> None:
    """Half of a settle was applied: the first is acknowledged, and nobody told the second."""
    await admin.shard.declare("g", ["custom.n"], behind="0")
    for n in range(4):
        await bus.publish("custom.n", {"n": n}, key="k")
    batch = await admin.shard.take("g", "gone", 4, lease=LEASE, suspects=False, ordered=True)
    (head,) = batch.taken
    await admin.connection.do("XACK", admin.keys.log, "g", head.entry_id)
    handled: list[int] = []
    async with worker(url, namespace, handled):
        await wait_until(lambda: len(handled) == 3, "the lane goes on")
    assert handled == [1, 2, 3]

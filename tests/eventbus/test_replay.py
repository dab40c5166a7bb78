"""History again for one group: what it covers, how fast, and what it survives. On both backends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from eventbus import Event, EventBus, Misconfigured, Refused, Replayed, UnknownGroup
from eventbus.instant import stored_at
from eventbus.redis.connection import Connection
from eventbus.redis.history import PAGE
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import script
from tests.conftest import wait_until
from tests.proxy import Proxy

EVER = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
async def admin(url: str) -> AsyncIterator[Connection]:
    """For what the bus never does."""
    connection = await Connection.open(url)
    yield connection
    await connection.close()


@pytest.fixture
async def seen(bus: EventBus) -> list[tuple[str, Any]]:
    """Topic and data of what the group `reader` of vm.> and task.> has handled."""
    handled: list[tuple[str, Any]] = []

    async def handle(event: Event[Any]) -> None:
        handled.append((event.topic, event.data["n"]))

    await bus.subscribe(("custom.>", "test.>"), handler=handle, group="reader")
    return handled


async def published(bus: EventBus, *topics: str) -> list[datetime]:
    """Publish one event for each topic and have them handled; the times at which they were stored."""
    receipts = [await bus.publish(topic, {"n": n}, key="k") for n, topic in enumerate(topics)]
    await bus.run_until_idle()
    return [stored_at(receipt.entry_id) for receipt in receipts]


async def test_a_group_is_given_again_what_it_has_finished_in_order_and_nobody_else(
    bus: EventBus, seen: list[tuple[str, Any]]
) -> None:
    others: list[Event[Any]] = []
    await bus.subscribe(">", others.append, group="other")
    first, *_, last = await published(bus, "custom.a", "other.x", "test.b", "custom.a")
    done = await bus.replay("reader", since=EVER)
    assert done == Replayed(copied=3, looked_at=4, missed=0, log_begins=first, reached=last)
    before, seen[:] = seen[:], []
    await bus.run_until_idle()
    assert seen == before == [("custom.a", 0), ("test.b", 2), ("custom.a", 3)]
    assert len(others) == 4
    assert await bus.audit() == []


async def test_a_dry_run_changes_nothing_and_counts_the_same(bus: EventBus, seen: list[tuple[str, Any]]) -> None:
    await published(bus, "custom.a", "other.x", "test.b")
    await bus.replay("reader", since=EVER)
    await bus.run_until_idle()
    seen.clear()
    before = await bus.books()
    counted = await bus.replay("reader", since=EVER, dry_run=True)
    assert await bus.books() == before
    await bus.run_until_idle()
    assert seen == []
    assert counted == await bus.replay("reader", since=EVER)
    assert (counted.copied, counted.looked_at) == (2, 5), "copies are not copied again"


async def test_other_patterns_may_be_given(bus: EventBus, seen: list[tuple[str, Any]]) -> None:
    await published(bus, "custom.a", "other.x", "test.b")
    seen.clear()
    assert (await bus.replay("reader", since=EVER, patterns=["other.*", "test.b"])).copied == 2
    await bus.run_until_idle()
    assert [topic for topic, _ in seen] == ["other.x", "test.b"]


async def test_since_belongs_to_the_range_and_until_does_not(
    bus: EventBus, seen: list[tuple[str, Any]], admin: Connection, namespace: str
) -> None:
    keys, wire = ShardKeys(namespace), '{"topic":"custom.a","data":{"n":%d}}'
    for n in range(4):
        await admin.do("XADD", keys.log, f"{1000 + n}-0", "t", "custom.a", "k", "", "s", n + 1, "e", wire % n)
    await admin.do("SET", keys.sequence, 4)
    await bus.run_until_idle()
    seen.clear()
    times = [stored_at(f"{1000 + n}-0") for n in range(4)]
    done = await bus.replay("reader", since=times[1], until=times[3])
    assert (done.copied, done.log_begins, done.reached) == (2, times[0], times[2])
    await bus.run_until_idle()
    assert [n for _, n in seen] == [1, 2]


async def test_what_the_group_has_not_finished_comes_once(bus: EventBus, seen: list[tuple[str, Any]]) -> None:
    await published(bus, "custom.a")
    await bus.publish("custom.a", {"n": 1})
    for dry_run in (True, False):
        done = await bus.replay("reader", since=EVER, dry_run=dry_run)
        assert (done.copied, done.looked_at) == (1, 1)
    seen.clear()
    await bus.run_until_idle()
    assert [n for _, n in seen] == [1, 0]


async def test_what_is_published_and_handled_meanwhile_is_not_history(
    bus: EventBus, seen: list[tuple[str, Any]]
) -> None:
    await published(bus, *["custom.a"] * 4)
    pages: list[Replayed] = []
    replaying = asyncio.create_task(bus.replay("reader", since=EVER, rate=2, progress=pages.append))
    await wait_until(lambda: pages, "a first page")
    await bus.publish("custom.a", {"n": 99})
    await bus.run_until_idle()
    assert (await replaying).copied == 4
    await bus.run_until_idle()
    assert [n for _, n in seen].count(99) == 1


async def test_a_rate_holds(bus: EventBus, seen: list[tuple[str, Any]]) -> None:
    await published(bus, *["custom.a"] * 6)
    begun = time.monotonic()
    assert (await bus.replay("reader", since=EVER, rate=10)).copied == 6
    assert time.monotonic() - begun < 1, "one page: nothing comes after it to wait for"
    pages: list[int] = []
    begun = time.monotonic()
    done = await bus.replay("reader", since=EVER, rate=4, progress=lambda so_far: pages.append(so_far.copied))
    assert (done.copied, pages[:2]) == (6, [4, 6])
    assert time.monotonic() - begun >= 1


async def test_more_than_a_page_is_told_page_by_page(bus: EventBus, seen: list[tuple[str, Any]]) -> None:
    await published(bus, *["custom.a"] * (2 * PAGE + 1))
    pages: list[tuple[int, int]] = []
    done = await bus.replay(
        "reader", since=EVER, progress=lambda so_far: pages.append((so_far.copied, so_far.looked_at))
    )
    assert pages == [(PAGE, PAGE), (2 * PAGE, 2 * PAGE), (2 * PAGE + 1, 2 * PAGE + 1)]
    assert done.missed == 0


@pytest.mark.parametrize("url", ["redis"], indirect=True)
async def test_a_page_whose_answer_is_lost_is_copied_once(
    bus: EventBus, seen: list[tuple[str, Any]], proxy: Proxy, namespace: str
) -> None:
    await published(bus, *["custom.a"] * (PAGE + 1))
    async with EventBus.open(proxy.url, namespace=namespace) as far:
        await far.replay("reader", since=EVER)  # so that Redis knows the script
        await bus.run_until_idle()
        seen.clear()
        for number in (1, 3):
            proxy.lose_reply(script("replay").sha.encode(), number)
        done = await far.replay("reader", since=EVER)
    assert proxy.requests[script("replay").sha.encode()] >= 4
    assert done.copied == PAGE + 1
    await bus.run_until_idle()
    assert [n for _, n in seen] == list(range(PAGE + 1))


async def test_what_left_the_log_before_its_turn_is_counted(
    bus: EventBus, seen: list[tuple[str, Any]], admin: Connection, namespace: str
) -> None:
    await published(bus, *["custom.a"] * 4)
    entries = [row[0] for row in await admin.do("XRANGE", ShardKeys(namespace).log, "-", "+")]
    pages: list[Replayed] = []
    replaying = asyncio.create_task(bus.replay("reader", since=EVER, rate=1, progress=pages.append))
    await wait_until(lambda: pages, "a first page")
    await admin.do("XDEL", ShardKeys(namespace).log, entries[1], entries[2])
    done = await replaying
    assert (done.copied, done.missed) == (2, 2)


async def test_dead_events_are_given_again_as_they_were_published(bus: EventBus) -> None:
    refuses, seen = True, []

    async def handle(event: Event[Any]) -> None:
        if refuses:
            raise Refused("no")
        seen.append(event.data["n"])

    await bus.subscribe("custom.a", handle, group="g")
    await published(bus, "custom.a")
    (letter,) = [letter async for letter in bus.dead.find()]
    refuses = False
    await bus.dead.redrive(letter, {"n": "edited"})
    await bus.run_until_idle()
    await bus.replay("g", since=EVER)
    await bus.run_until_idle()
    assert seen == ["edited", 0]


async def test_an_empty_log_has_no_history(bus: EventBus) -> None:
    await bus.declare("g", (">",))
    assert await bus.replay("g", since=EVER) == Replayed()


async def test_a_group_that_is_not_declared_is_refused_naming_those_that_are(bus: EventBus) -> None:
    await bus.declare("slack", (">",))
    with pytest.raises(UnknownGroup, match="no group 'slak' is declared; declared: slack"):
        await bus.replay("slak", since=EVER)


async def test_a_bad_pattern_is_refused(bus: EventBus) -> None:
    await bus.declare("g", (">",))
    with pytest.raises(Misconfigured, match="is not a topic pattern"):
        await bus.replay("g", since=EVER, patterns=["Vm.*"])

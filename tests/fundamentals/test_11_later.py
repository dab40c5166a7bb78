"""An event may be published for later: by the server's clock, once, whoever falls over in between."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus import Conflict, Event, EventBus, SyncPublisher
from tests.conftest import wait_until

SOON = timedelta(milliseconds=300)
NEVER = timedelta(days=300)
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001  what is refused


async def test_it_is_handled_when_its_time_has_come_and_not_before(bus: EventBus) -> None:
    handled: list[tuple[Event[Any], datetime]] = []

    async def handle(event: Event[Any]) -> None:
        handled.append((event, datetime.now(UTC)))
        bus.stop()

    await bus.subscribe("custom.reminder", handle, group="g")
    due = datetime.now(UTC) + SOON
    receipt = await bus.publish("custom.reminder", {"text": "look"}, at=due)
    assert (receipt.status, receipt.sequence) == ("scheduled", 0)
    await bus.run()

    (event, when) = handled[0]
    assert event.id == receipt.event_id
    assert when >= due - timedelta(milliseconds=1), "never early; times are sent in milliseconds"


async def test_scheduling_again_under_the_same_key_schedules_nothing_new(bus: EventBus) -> None:
    first = await bus.publish("custom.x", {"n": 1}, delay=NEVER, idempotency_key="once")
    again = await bus.publish("custom.x", {"n": 1}, delay=NEVER, idempotency_key="once")
    assert (again.status, again.event_id) == ("duplicate", first.event_id)
    assert (await bus.publish("custom.x", {"n": 1}, idempotency_key="once")).status == "duplicate"
    with pytest.raises(Conflict, match="which says something else"):
        await bus.publish("custom.x", {"n": 2}, delay=NEVER, idempotency_key="once")
    assert [one.event.id for one in await bus.scheduled()] == [first.event_id]


async def test_what_waits_is_listed_the_next_one_first(bus: EventBus) -> None:
    for hours in (3, 1, 2):
        await bus.publish("custom.x", {"hours": hours}, delay=timedelta(hours=hours), key="a key", source="/s p a c e")
    waiting = await bus.scheduled()
    assert [one.event.data for one in waiting] == [{"hours": 1}, {"hours": 2}, {"hours": 3}]
    assert all(one.event.key == "a key" for one in waiting)
    assert len(await bus.scheduled(2)) == 2


async def test_a_cancelled_one_is_not_published_and_its_key_is_free_again(bus: EventBus) -> None:
    await bus.publish("custom.x", delay=SOON, idempotency_key="key")
    assert await bus.cancel("key")
    assert not await bus.cancel("key")
    assert await bus.scheduled() == []
    assert (await bus.publish("custom.x", idempotency_key="key")).status == "stored"


async def test_a_time_that_has_passed_means_now(bus: EventBus) -> None:
    handled: list[Event[Any]] = []

    async def handle(event: Event[Any]) -> None:
        handled.append(event)
        bus.stop()

    await bus.subscribe("custom.x", handle, group="g")
    await bus.publish("custom.x", at=datetime(2020, 1, 1, tzinfo=UTC))
    await bus.run()
    assert len(handled) == 1


async def test_it_waits_for_a_bus_that_serves(bus: EventBus, url: str, namespace: str) -> None:
    await bus.publish("custom.x", delay=timedelta(milliseconds=50))
    handled: list[Event[Any]] = []

    async with EventBus.open(url, namespace=namespace) as other:

        async def handle(event: Event[Any]) -> None:
            handled.append(event)
            other.stop()

        await other.subscribe("custom.x", handle, group="g")
        await other.run()
    assert len(handled) == 1
    assert await bus.audit() == []


async def test_many_buses_publish_it_once(url: str, namespace: str) -> None:
    handled: list[str] = []

    async with (
        EventBus.open(url, namespace=namespace) as one,
        EventBus.open(url, namespace=namespace) as two,
    ):
        for n in range(20):
            for bus in (one, two):
                await bus.publish("custom.x", {"n": n}, delay=SOON, idempotency_key=f"key-{n}")

        async def handle(event: Event[Any]) -> None:
            handled.append(event.id)

        runs = []
        for bus in (one, two):
            await bus.subscribe("custom.x", handle, group="g")
            runs.append(asyncio.create_task(bus.run()))
        await wait_until(lambda: len(handled) >= 20, "all are handled")
        for bus in (one, two):
            bus.stop()
        await asyncio.gather(*runs)
        assert await one.audit() == []
    assert len(handled) == len(set(handled)) == 20


def test_a_script_may_publish_for_later_too(url: str, namespace: str) -> None:
    with SyncPublisher(url, namespace=namespace) as bus:
        assert bus.publish("custom.x", delay=NEVER, idempotency_key="k").status == "scheduled"
        assert bus.publish("custom.x", delay=NEVER, idempotency_key="k").status == "duplicate"


@pytest.mark.parametrize("when", [{"at": NAIVE}, {"at": datetime(2030, 1, 1, tzinfo=UTC), "delay": SOON}])
async def test_a_time_without_a_zone_or_two_times_are_refused(bus: EventBus, when: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="at"):
        await bus.publish("custom.x", **when)

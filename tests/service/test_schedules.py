"""Schedules: each occurrence fires once, however many workers hand it over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from eventbus import Event, EventBus
from registry.sections import Schedule
from service.schedules import hand_over, keep_schedules, occurrences
from tests.conftest import wait_until

NOON = datetime(2026, 1, 12, 12, 0, tzinfo=UTC)


def schedule(**given: Any) -> Schedule:
    return Schedule.model_validate({"cron": "*/15 * * * *", "topic": "custom.check", **given})


def times(of: Schedule, count: int, after: datetime = NOON) -> list[str]:
    return [f"{time:%m-%d %H:%M:%S}" for time in islice(occurrences(of, after), count)]


def test_every_quarter_of_an_hour() -> None:
    assert times(schedule(), 3) == ["01-12 12:15:00", "01-12 12:30:00", "01-12 12:45:00"]


def test_the_expression_means_its_time_zone() -> None:
    daily = schedule(cron="0 2 * * *", timezone="America/New_York")
    assert times(daily, 1) == ["01-13 07:00:00"]
    assert times(daily, 1, datetime(2026, 7, 1, tzinfo=UTC)) == ["07-01 06:00:00"], "in summer"


def test_the_night_without_a_two_o_clock_has_its_occurrence_all_the_same() -> None:
    daily = schedule(cron="30 2 * * *", timezone="Europe/Berlin")
    assert times(daily, 2, datetime(2026, 3, 28, 12, tzinfo=UTC)) == ["03-29 01:00:00", "03-30 00:30:00"]


async def test_each_occurrence_is_handed_over_once_and_says_when(bus: EventBus) -> None:
    now = datetime.now(UTC)
    for _ in range(3):
        await hand_over(bus, "check", schedule(data={"a": 1}), now)
    waiting = await bus.scheduled()
    assert [one.due for one in waiting] == list(islice(occurrences(schedule(), now), 2))
    assert [one.event.time for one in waiting] == [one.due for one in waiting]
    assert {(one.event.source, one.event.topic) for one in waiting} == {("/schedules/check", "custom.check")}


async def test_workers_with_another_version_of_the_schedule_do_not_double_it(bus: EventBus) -> None:
    now = datetime.now(UTC)
    for data in ({"a": 1}, {"a": 2}):
        await hand_over(bus, "check", schedule(data=data), now)
    assert [one.event.data for one in await bus.scheduled()] == [{"a": 1}] * 2


async def test_a_busy_schedule_is_handed_over_beyond_the_next_look(bus: EventBus) -> None:
    now = datetime.now(UTC)
    await hand_over(bus, "tick", schedule(cron="* * * * * *"), now)
    waiting = await bus.scheduled()
    assert len(waiting) == 60
    assert waiting[-1].due > now + timedelta(seconds=58)


async def test_two_workers_fire_each_second_once(url: str, namespace: str) -> None:
    fired: list[str] = []

    async def handle(event: Event[Any]) -> None:
        fired.append(event.idempotency_key)

    async with EventBus.open(url, namespace=namespace) as one, EventBus.open(url, namespace=namespace) as two:
        work = []
        for bus in (one, two):
            await bus.subscribe("custom.check", handle, group="g")
            work += [bus.run(), keep_schedules(bus, {"tick": schedule(cron="* * * * * *")})]
        tasks = [asyncio.create_task(part) for part in work]
        await wait_until(lambda: len(fired) >= 3, "three seconds were told", seconds=15)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(fired) == len(set(fired))


async def test_a_disabled_schedule_hands_over_nothing(bus: EventBus) -> None:
    both = {"off": schedule(enabled=False), "on": schedule()}
    keeping = asyncio.create_task(keep_schedules(bus, both))

    async def handed_over() -> bool:
        return len(await bus.scheduled()) > 0

    await wait_until(handed_over, "the other one is handed over")
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert {one.event.source for one in await bus.scheduled()} == {"/schedules/on"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cron": "61 * * * *"}, "cron\n  Value error, is no cron expression: Bad minute"),
        ({"cron": "0 0 30 2 *"}, "cron\n  Value error, is no cron expression: Bad day-of-month"),
        ({"cron": ""}, "cron\n  Value error, is no cron expression"),
        ({"timezone": "Mars/Olympus"}, "timezone\n  Value error, is no time zone of this machine"),
        ({"timezone": "../../etc/passwd"}, "timezone\n  Value error, is no time zone of this machine"),
        ({"topic": "Not A Topic"}, "topic\n  Value error"),
        ({"topic": "vm.created"}, "vm_id"),
    ],
)
def test_a_schedule_that_can_not_work_is_refused_when_it_is_read(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        schedule(**given)
    assert said in str(caught.value)

"""Silences and sources as all processes share them: seen within a second, last write wins, forgotten in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus import Attempt, Event, EventBus, Unavailable, catalog
from registry.metrics import Metrics
from registry.noise.mute import KEPT, Silence
from registry.noise.store import LOOK_SECONDS, NoiseStore
from registry.registry import Registry
from registry.routes.model import Routing
from tests.registry.noise.conftest import new_address, routing, until

HOUR = timedelta(hours=1)
DOWN = {"topics": ["vm.*"], "resolves": "topic == 'vm.started'", "mutes": {"topics": ["task.failed"]}}


@pytest.fixture
async def bus() -> AsyncIterator[EventBus]:
    async with EventBus.open(new_address()) as opened:
        yield opened


def silence(name: str = "s1", *, ends: timedelta = HOUR, when: str = "true") -> Silence:
    now = datetime.now(UTC).replace(microsecond=500_000)
    return Silence.model_validate({"id": name, "when": when, "starts": now - 999 * HOUR, "ends": now + ends})


async def test_the_last_write_of_a_silence_holds(bus: EventBus) -> None:
    one, other = NoiseStore(bus, Routing()), NoiseStore(bus, Routing())
    await one.put(silence(when="true"))
    await other.put(silence(when="false"))
    assert [found.when.source for found in await one.silences()] == ["false"]


async def test_another_process_sees_a_silence_within_a_second(bus: EventBus) -> None:
    now = 0.0
    store = NoiseStore(bus, Routing(), clock=lambda: now)
    assert (await store.mutes()).is_empty
    await NoiseStore(bus, Routing()).put(silence())
    now = LOOK_SECONDS - 0.01
    assert (await store.mutes()).is_empty, "it does not ask Redis for every event"
    now = LOOK_SECONDS
    assert len((await store.mutes()).silences) == 1
    await NoiseStore(bus, Routing()).expire("s1")
    assert (await store.mutes(fresh=True)).is_empty, "who tells of a group asks anew"


async def test_a_silence_is_kept_120_hours_after_its_end_and_then_forgotten(bus: EventBus) -> None:
    assert timedelta(hours=120) == KEPT
    store = NoiseStore(bus, Routing())
    await store.put(silence("kept", ends=-KEPT + HOUR))
    await store.put(silence("old", ends=-KEPT - HOUR))
    assert [one.id for one in await store.silences()] == ["kept"]
    await store.forget_old()
    assert list(await bus.table("noise").items("silence:")) == ["silence:kept"]


async def test_a_silence_of_a_newer_program_is_left_alone(bus: EventBus) -> None:
    await bus.table("noise").put("silence:new", {"id": "new", "who": ["ada"]})
    store = NoiseStore(bus, Routing())
    assert await store.silences() == []
    await store.forget_old()
    assert await bus.table("noise").items("silence:") == {"silence:new": {"id": "new", "who": ["ada"]}}


async def test_sources_are_seen_by_all_and_a_repeat_of_an_event_changes_nothing(bus: EventBus) -> None:
    rules = routing({}, {"gone": DOWN})
    store, other = NoiseStore(bus, rules), NoiseStore(bus, rules)

    async def see(what: str, sequence: int) -> list[Any]:
        event = catalog.event(f"vm.{what}", {"vm_id": "1", "error": "x"})
        await store.observe(event, Attempt("_inhibitions", f"{sequence}-0", "worker", 1, 1, sequence))
        mutes = await other.mutes(fresh=True)
        return [one.fires for one in mutes.sources["gone"].values()]

    assert await see("failed", 1) == [True]
    assert await see("started", 2) == [False]
    assert await see("failed", 1) == [False], "a repeat"
    assert await see("failed", 3) == [True]


# -- what is told of silences -----------------------------------------------------------------------------------------


async def waiting(bus: EventBus) -> list[tuple[str, datetime]]:
    """What is scheduled, and when: to the second, since the log keeps milliseconds."""
    return [(one.event.topic, one.due.replace(microsecond=0)) for one in await bus.scheduled()]


def times(of: Silence) -> list[tuple[str, datetime]]:
    """What is told of it when nobody touches it."""
    soon = of.ends - timedelta(minutes=15)
    found = [("silence.started", of.starts), ("silence.expiring", soon), ("silence.ended", of.ends)]
    return [(topic, at.replace(microsecond=0)) for topic, at in found]


async def test_what_is_told_of_a_silence_is_scheduled_when_it_is_made(bus: EventBus) -> None:
    made = silence(when="topic == 'x'").model_copy(update={"by": "ada", "comment": "load test"})
    await NoiseStore(bus, Routing()).put(made)
    assert await waiting(bus) == times(made)
    (_, event, _) = [one.event for one in await bus.scheduled()]
    assert (event.data.silence, event.data.condition, event.data.by) == ("s1", "topic == 'x'", "ada")
    assert (event.data.comment, event.data.ends, event.key) == ("load test", made.ends, "silence:s1")


async def test_of_a_short_silence_the_last_quarter_is_its_notice(bus: EventBus) -> None:
    now = datetime.now(UTC)
    short = Silence.model_validate({"id": "s1", "when": "true", "starts": now, "ends": now + timedelta(minutes=8)})
    await NoiseStore(bus, Routing()).put(short)
    assert abs((await waiting(bus))[1][1] - (now + timedelta(minutes=6))) < timedelta(seconds=2)


async def test_each_is_told_once_at_its_time_whatever_workers_there_are(bus: EventBus) -> None:
    heard: list[Event[Any]] = []
    now = datetime.now(UTC)
    made = Silence.model_validate({"id": "s1", "when": "true", "starts": now, "ends": now + timedelta(seconds=1)})
    async with EventBus.open(bus.address) as other:
        for one in (bus, other):
            await one.subscribe("silence.*", heard.append, group="g")
        serving = [asyncio.create_task(one.run()) for one in (bus, other)]
        try:
            for one in (bus, other):  # and each that starts makes sure of them
                await NoiseStore(one, Routing()).put(made)
                await NoiseStore(one, Routing()).announce()
            await until(lambda: len(heard) >= 3, "it was told to end")
        finally:
            for one in (bus, other):
                one.stop()
            await asyncio.gather(*serving)
        await NoiseStore(bus, Routing()).put(made)
    assert [event.topic for event in heard] == ["silence.started", "silence.expiring", "silence.ended"]
    assert heard[-1].data.by_hand is False
    assert await bus.scheduled() == []


async def test_one_that_is_ended_by_hand_says_so_at_once_and_nothing_later(bus: EventBus) -> None:
    heard: list[Event[Any]] = []
    await bus.subscribe("silence.*", heard.append, group="g")
    store = NoiseStore(bus, Routing())
    await store.put(silence())
    await store.expire("s1")
    assert await bus.scheduled() == []
    await bus.run_until_idle()
    assert [(one.topic, one.data.by_hand) for one in heard] == [("silence.ended", True)]


async def test_one_that_is_ended_before_it_began_was_nothing(bus: EventBus) -> None:
    store, now = NoiseStore(bus, Routing()), datetime.now(UTC)
    await store.put(silence().model_copy(update={"starts": now + HOUR, "ends": now + 2 * HOUR}))
    assert len(await bus.scheduled()) == 3
    await store.expire("s1")
    assert await bus.scheduled() == []


async def test_one_that_is_changed_is_told_of_at_its_new_times(bus: EventBus) -> None:
    store = NoiseStore(bus, Routing())
    made = silence()
    await store.put(made)
    longer = made.model_copy(update={"ends": made.ends + HOUR})
    await store.put(longer)
    assert await waiting(bus) == times(longer)


async def test_what_a_crash_left_unscheduled_is_made_up_for_by_the_next_worker(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def publish(*_: Any, **__: Any) -> None:
        raise Unavailable("the process is gone")

    made = silence()
    with monkeypatch.context() as patch:
        patch.setattr(bus, "publish", publish)
        with pytest.raises(Unavailable):
            await NoiseStore(bus, Routing()).put(made)
    assert await waiting(bus) == []
    registry = Registry(bus, Metrics(), serve=True)
    await registry.start()
    assert await waiting(bus) == times(made)
    await registry.stop()

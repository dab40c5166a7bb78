"""Silences and sources as all processes share them: seen within a second, last write wins, forgotten in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus import Attempt, EventBus, catalog
from registry.noise.mute import KEPT, Silence
from registry.noise.store import LOOK_SECONDS, NoiseStore
from registry.routes.model import Routing
from tests.registry.noise.conftest import new_address, routing

HOUR = timedelta(hours=1)
DOWN = {"topics": ["vm.*"], "resolves": "topic == 'vm.started'", "mutes": {"topics": ["task.failed"]}}


@pytest.fixture
async def bus() -> AsyncIterator[EventBus]:
    async with EventBus.open(new_address()) as opened:
        yield opened


def silence(name: str = "s1", *, ends: timedelta = HOUR, when: str = "true") -> Silence:
    now = datetime.now(UTC)
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

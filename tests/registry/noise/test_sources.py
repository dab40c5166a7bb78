"""The group of inhibitions is kept as long as a program needs it, and then retired, or said to be left over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
import structlog.testing

from eventbus import EventBus, Misconfigured, Unavailable
from registry.metrics import Metrics
from registry.noise.sources import INHIBITIONS, keep_tending
from registry.noise.store import SAID_FOR, NoiseStore
from registry.registry import Registry
from registry.routes.model import Routing
from tests.registry.noise.conftest import new_address, routing, until

DOWN = {"topics": ["vm.*"], "resolves": "topic == 'vm.started'", "mutes": {"topics": ["task.failed"]}}


@pytest.fixture
async def bus() -> AsyncIterator[EventBus]:
    async with EventBus.open(new_address()) as opened:
        yield opened


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether somebody had said that there are inhibitions, for each time that a worker looked; it does so often."""
    monkeypatch.setattr("registry.noise.sources.LOOK_SECONDS", 0.02)
    found: list[bool] = []
    said = NoiseStore.said_inhibitions

    async def counted(store: NoiseStore) -> bool:
        found.append(await said(store))
        return found[-1]

    monkeypatch.setattr(NoiseStore, "said_inhibitions", counted)
    return found


@asynccontextmanager
async def served(bus: EventBus, rules: Routing) -> AsyncIterator[None]:
    """A worker with these rules is there."""
    registry = Registry(bus, Metrics(), serve=True, routing=rules)
    await registry.start()
    try:
        yield
    finally:
        await registry.stop()


async def is_declared(bus: EventBus) -> bool:
    return INHIBITIONS in await bus.groups()


async def is_gone(bus: EventBus) -> bool:
    return not await is_declared(bus)


async def is_said(bus: EventBus) -> bool:
    return await bus.table("noise").get("inhibitions") is not None


async def test_a_worker_without_inhibitions_retires_the_group_when_no_other_has_any(
    bus: EventBus, looks: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.noise.sources.SAID_FOR", timedelta(seconds=0.05))
    without, with_some = routing({}), routing({}, {"down": DOWN})
    async with EventBus.open(bus.address) as other, served(other, with_some):
        await until(lambda: is_said(bus), "it says so")
    await bus.publish("vm.failed", {"vm_id": "web-1", "error": "gone"})
    async with served(bus, without):
        await until(lambda: len(looks) > 5, "it has looked")
        assert await is_declared(bus), "the other one may come back"
        await bus.table("noise").delete("inhibitions")  # an hour later
        await until(lambda: is_gone(bus), "it is retired, with what it has not read")
        await bus.declare(INHIBITIONS, ("vm.*",))
        await until(lambda: is_gone(bus), "and again, as whoever declared it is gone, too")
    async with served(bus, with_some):
        assert await is_declared(bus)


async def test_a_group_of_whom_nobody_has_spoken_is_left_to_those_who_may_serve_it(
    bus: EventBus, looks: list[bool]
) -> None:
    """Workers of a version that says nothing of its inhibitions serve it, while those of this one come."""
    await bus.declare(INHIBITIONS, ("vm.*",))
    async with served(bus, routing({})):
        await until(lambda: len(looks) > 3, "it has looked")
        assert looks == [False] * len(looks)
        assert await is_declared(bus)


async def test_the_hour_begins_again_when_somebody_spoke_or_redis_was_away(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour, now = SAID_FOR.total_seconds(), 0.0
    looks: asyncio.Queue[tuple[float, bool | Exception]] = asyncio.Queue()

    async def said(_: NoiseStore) -> bool:
        nonlocal now
        now, answer = await looks.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(NoiseStore, "said_inhibitions", said)
    await bus.declare(INHIBITIONS, ("vm.*",))
    looks.put_nowait((0, False))
    looks.put_nowait((hour - 1, True))
    looks.put_nowait((hour, False))
    looks.put_nowait((2 * hour - 1, Unavailable("Redis is away")))
    looks.put_nowait((2 * hour, False))
    looks.put_nowait((3 * hour - 1, False))
    looks.put_nowait((3 * hour - 1, False))  # when it is taken, the one before is done with
    tending = asyncio.create_task(
        keep_tending(bus, NoiseStore(bus, routing({})), are_here=False, clock=lambda: now), name="tending"
    )
    await until(looks.empty, "it has looked")
    assert await is_declared(bus)
    looks.put_nowait((3 * hour, False))
    await until(lambda: is_gone(bus), "it is retired")
    tending.cancel()
    with suppress(asyncio.CancelledError):
        await tending


async def test_a_worker_that_may_not_retire_the_group_says_who_may(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def retire(*_: Any) -> int:
        raise Misconfigured("this user may not run XGROUP DESTROY")

    monkeypatch.setattr("registry.noise.sources.SAID_FOR", timedelta())
    monkeypatch.setattr(bus, "retire", retire)
    await bus.declare(INHIBITIONS, ("vm.*",))
    with structlog.testing.capture_logs() as logs:
        async with served(bus, routing({})):
            await until(lambda: any("fix" in line for line in logs), "it says so")
    line = next(one for one in logs if "fix" in one)
    assert line["fix"] == "as a user who may: eventbus groups retire _inhibitions"

"""The group of inhibitions is kept as long as a program needs it, and then retired, or said to be left over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog.testing

from eventbus import EventBus, Misconfigured
from registry.metrics import Metrics
from registry.noise.sources import INHIBITIONS
from registry.noise.store import NoiseStore
from registry.registry import Registry
from registry.routes.model import Routing
from tests.registry.noise.conftest import new_address, routing, until

DOWN = {"topics": ["vm.*"], "resolves": "topic == 'vm.started'", "mutes": {"topics": ["task.failed"]}}


@pytest.fixture
async def bus() -> AsyncIterator[EventBus]:
    async with EventBus.open(new_address()) as opened:
        yield opened


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


async def test_a_worker_without_inhibitions_retires_the_group_when_no_other_has_any(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.noise.sources.LOOK_SECONDS", 0.02)
    looks: list[bool] = []
    said = NoiseStore.said_inhibitions

    async def counted(store: NoiseStore) -> bool:
        looks.append(await said(store))
        return looks[-1]

    monkeypatch.setattr(NoiseStore, "said_inhibitions", counted)
    without, with_some = routing({}), routing({}, {"down": DOWN})
    async with EventBus.open(bus.address) as other, served(other, with_some):
        await until(lambda: said(NoiseStore(bus, without)), "it says so")
    await bus.publish("vm.failed", {"vm_id": "web-1", "error": "gone"})
    async with served(bus, without):
        await until(lambda: len(looks) > 2, "it has looked")
        assert await is_declared(bus), "the other one may come back"
        await bus.table("noise").delete("inhibitions")  # an hour later
        await until(lambda: is_gone(bus), "it is retired, with what it has not read")
    async with served(bus, with_some):
        assert await is_declared(bus)


async def is_gone(bus: EventBus) -> bool:
    return not await is_declared(bus)


async def test_a_worker_that_may_not_retire_the_group_says_who_may(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def retire(*_: Any) -> int:
        raise Misconfigured("this user may not run XGROUP DESTROY")

    monkeypatch.setattr(bus, "retire", retire)
    await bus.declare(INHIBITIONS, ("vm.*",))
    with structlog.testing.capture_logs() as logs:
        async with served(bus, routing({})):
            await until(lambda: any("fix" in line for line in logs), "it says so")
    (line,) = [one for one in logs if "fix" in one]
    assert line["fix"] == "as a user who may: eventbus groups retire _inhibitions"

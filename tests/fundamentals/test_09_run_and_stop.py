"""Serving: `run` works until `stop`; what is not finished by then is handed back, and nothing is lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from eventbus import Event, EventBus
from eventbus.topics import VmCreated


async def test_run_serves_until_stop(bus: EventBus) -> None:
    seen: list[str] = []

    @bus.on("vm.created", group="builder")
    async def handle(event: Event[VmCreated]) -> None:
        seen.append(event.data.vm_id)
        bus.stop()

    await bus.publish(VmCreated(vm_id="vm-1"))
    async with asyncio.timeout(5):
        await bus.run()

    assert seen == ["vm-1"]


async def test_a_handler_may_finish_before_run_returns(bus: EventBus) -> None:
    finished: list[str] = []

    @bus.on("vm.created", group="builder")
    async def handle(event: Event[VmCreated]) -> None:
        bus.stop()
        await asyncio.sleep(0.05)
        finished.append(event.data.vm_id)

    await bus.publish(VmCreated(vm_id="vm-1"))
    async with asyncio.timeout(5):
        await bus.run()

    backlog = await bus.backlog("builder")
    assert finished == ["vm-1"]
    assert backlog is not None
    assert backlog.is_empty


async def test_a_handler_that_takes_too_long_is_cancelled_and_its_event_handed_back(bus: EventBus) -> None:
    @bus.on("vm.created", group="builder")
    async def handle(event: Event[VmCreated]) -> None:
        bus.stop()
        await asyncio.Event().wait()

    await bus.publish(VmCreated(vm_id="vm-1"))
    async with asyncio.timeout(5):
        await bus.run(grace=timedelta(milliseconds=50))

    backlog = await bus.backlog("builder")
    assert backlog is not None
    assert (backlog.running, backlog.ready) == (0, 1)

"""Live: without a group a subscription sees what is published from now on, in this process, and remembers nothing."""

from __future__ import annotations

import asyncio

from eventbus import Event, EventBus
from eventbus.topics import TaskCreated, VmCreated, VmStarted


async def test_listening_gives_an_iterator_of_events(bus: EventBus) -> None:
    async with bus.listen("vm.*") as events:
        await bus.publish_many([VmCreated(vm_id="vm-1"), TaskCreated(task_id="task-1"), VmStarted(vm_id="vm-1")])
        async with asyncio.timeout(5):
            topics = [(await anext(events)).topic for _ in range(2)]

    assert topics == ["vm.created", "vm.started"]


async def test_listening_without_a_pattern_gives_all(bus: EventBus) -> None:
    async with bus.listen() as events:
        await bus.publish(VmCreated(vm_id="vm-1"))
        await bus.publish("custom.greeting", {"text": "hello"})
        async with asyncio.timeout(5):
            topics = [(await anext(events)).topic for _ in range(2)]

    assert topics == ["vm.created", "custom.greeting"]


async def test_a_live_handler_is_called_without_running_the_bus(bus: EventBus) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def show(event: Event[VmCreated]) -> None:
        seen.put_nowait(event.data.vm_id)

    await bus.subscribe("vm.created", show)
    await bus.publish(VmCreated(vm_id="vm-1"))

    async with asyncio.timeout(5):
        assert await seen.get() == "vm-1"


async def test_what_was_published_before_is_not_shown(bus: EventBus) -> None:
    await bus.publish(VmCreated(vm_id="before"))
    async with bus.listen("vm.created") as events:
        await bus.publish(VmCreated(vm_id="after"))
        async with asyncio.timeout(5):
            event = await anext(events)

    assert event.data.vm_id == "after"


async def test_a_listener_hears_another_bus(bus: EventBus, url: str, namespace: str) -> None:
    async with EventBus.open(url, namespace=namespace) as another, bus.listen("vm.created") as events:
        await another.publish(VmCreated(vm_id="vm-1"))
        async with asyncio.timeout(5):
            assert (await anext(events)).data.vm_id == "vm-1"

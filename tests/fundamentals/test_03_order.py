"""Order: events with one ordering key are handled one after another; other events flow beside them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from eventbus import Event, EventBus, Options
from eventbus.topics import TaskCompleted, TaskCreated, TaskStarted, VmCreated


async def test_events_of_one_key_are_handled_in_the_order_of_publishing(bus: EventBus) -> None:
    seen: dict[str, list[str]] = defaultdict(list)

    @bus.on("task.*", group="tracker")
    async def handle(event: Event[TaskCreated | TaskStarted | TaskCompleted]) -> None:
        await asyncio.sleep(0)
        seen[event.data.task_id].append(event.topic)

    for task in ("task-1", "task-2"):
        await bus.publish_many([TaskCreated(task_id=task), TaskStarted(task_id=task), TaskCompleted(task_id=task)])
    await bus.run_until_idle()

    assert seen == {task: ["task.created", "task.started", "task.completed"] for task in ("task-1", "task-2")}


async def test_only_one_event_of_a_key_is_in_hand_at_a_time(bus: EventBus) -> None:
    running = most = 0

    @bus.on("vm.created", group="builder")
    async def handle(event: Event[VmCreated]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await bus.publish_many(VmCreated(vm_id="vm-1", vcpus=n) for n in range(1, 21))
    await bus.run_until_idle()

    assert most == 1


async def test_other_keys_do_not_wait(bus: EventBus) -> None:
    both = asyncio.Barrier(2)

    @bus.on("vm.created", group="builder")
    async def handle(event: Event[VmCreated]) -> None:
        async with asyncio.timeout(5):
            await both.wait()  # opens when both machines are in hand

    await bus.publish_many([VmCreated(vm_id="vm-1"), VmCreated(vm_id="vm-2")])
    await bus.run_until_idle()

    backlog = await bus.backlog("builder")
    assert backlog is not None
    assert backlog.is_empty


async def test_a_key_may_be_given_by_name(bus: EventBus) -> None:
    seen: list[int] = []

    @bus.on("custom.step", group="steps")
    async def handle(event: Event[Any]) -> None:
        await asyncio.sleep(0.01 / event.data["n"])  # later ones would overtake
        seen.append(event.data["n"])

    for n in (1, 2, 3):
        await bus.publish("custom.step", {"n": n}, key="machine-1")
    await bus.run_until_idle()

    assert seen == [1, 2, 3]


async def test_a_subscription_may_do_without_order(bus: EventBus) -> None:
    both = asyncio.Barrier(2)

    async def handle(event: Event) -> None:
        async with asyncio.timeout(5):
            await both.wait()

    await bus.subscribe("vm.created", handle, group="counter", options=Options(ordered=False))
    await bus.publish_many([VmCreated(vm_id="vm-1"), VmCreated(vm_id="vm-1", vcpus=2)])
    await bus.run_until_idle()

    backlog = await bus.backlog("counter")
    assert backlog is not None
    assert backlog.is_empty

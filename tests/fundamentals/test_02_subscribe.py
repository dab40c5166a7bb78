"""Subscribing: a durable subscription has a group name; Redis remembers what the group has handled."""

from __future__ import annotations

import pytest

from eventbus import Attempt, Event, EventBus, Misconfigured, Options
from eventbus.topics import VmCreated, VmStarted


async def test_a_handler_is_called_with_the_typed_event(bus: EventBus) -> None:
    seen: list[Event[VmCreated]] = []

    @bus.on("vm.created", group="billing")
    async def charge(event: Event[VmCreated]) -> None:
        seen.append(event)

    await bus.publish(VmCreated(vm_id="vm-1", vcpus=2), source="/cli")
    await bus.run_until_idle()

    (event,) = seen
    assert event.data == VmCreated(vm_id="vm-1", vcpus=2)
    assert event.source == "/cli"


async def test_every_group_gets_every_event(bus: EventBus) -> None:
    seen: list[tuple[str, str]] = []

    @bus.on("vm.*", group="billing")
    async def charge(event: Event) -> None:
        seen.append(("billing", event.topic))

    @bus.on("vm.*", group="audit")
    async def note(event: Event) -> None:
        seen.append(("audit", event.topic))

    await bus.publish(VmCreated(vm_id="vm-1"))
    await bus.run_until_idle()

    assert sorted(seen) == [("audit", "vm.created"), ("billing", "vm.created")]


async def test_a_star_stands_for_one_segment_and_a_last_arrow_for_the_rest(bus: EventBus) -> None:
    star: list[str] = []
    rest: list[str] = []

    @bus.on("custom.*", group="star")
    async def one(event: Event) -> None:
        star.append(event.topic)

    @bus.on("custom.>", group="rest")
    async def all_of_them(event: Event) -> None:
        rest.append(event.topic)

    for topic in ("custom.a", "custom.a.b", "other.a"):
        await bus.publish(topic)
    await bus.run_until_idle()

    assert star == ["custom.a"]
    assert rest == ["custom.a", "custom.a.b"]


async def test_one_subscription_may_have_several_patterns(bus: EventBus) -> None:
    seen: list[str] = []

    @bus.on("vm.created", "vm.started", group="dashboard")
    async def show(event: Event) -> None:
        seen.append(event.topic)

    await bus.publish_many([VmCreated(vm_id="vm-1"), VmStarted(vm_id="vm-1")])
    await bus.publish("vm.stopped", {"vm_id": "vm-1"})
    await bus.run_until_idle()

    assert seen == ["vm.created", "vm.started"]


async def test_a_new_group_starts_at_the_earliest_event(bus: EventBus) -> None:
    seen: list[str] = []
    await bus.publish(VmCreated(vm_id="before"))

    @bus.on("vm.created", group="late")
    async def handle(event: Event[VmCreated]) -> None:
        seen.append(event.data.vm_id)

    await bus.run_until_idle()

    assert seen == ["before"]


async def test_a_new_group_may_start_from_now(bus: EventBus) -> None:
    seen: list[str] = []
    await bus.publish(VmCreated(vm_id="before"))

    async def handle(event: Event[VmCreated]) -> None:
        seen.append(event.data.vm_id)

    await bus.subscribe("vm.created", handle, group="late", options=Options(start="now"))
    await bus.publish(VmCreated(vm_id="after"))
    await bus.run_until_idle()

    assert seen == ["after"]


async def test_a_group_goes_on_where_it_was(bus: EventBus, url: str, namespace: str) -> None:
    seen: list[str] = []

    async def handle(event: Event[VmCreated]) -> None:
        seen.append(event.data.vm_id)

    await bus.subscribe("vm.created", handle, group="billing")
    await bus.publish(VmCreated(vm_id="vm-1"))
    await bus.run_until_idle()

    async with EventBus.open(url, namespace=namespace) as another:  # such as after a restart
        await another.publish(VmCreated(vm_id="vm-2"))
        await another.subscribe("vm.created", handle, group="billing")
        await another.run_until_idle()

    assert seen == ["vm-1", "vm-2"]


async def test_a_declared_group_misses_nothing_before_its_worker_starts(bus: EventBus) -> None:
    await bus.publish(VmCreated(vm_id="before"))
    await bus.declare("billing", ("vm.*",), start="now")
    await bus.publish(VmCreated(vm_id="after"))

    backlog = await bus.backlog("billing")

    assert backlog is not None
    assert backlog.unread == 1
    assert await bus.groups() == {"billing": ["vm.*"]}


async def test_a_plain_function_is_a_handler_too_and_may_block(bus: EventBus) -> None:
    seen: list[str] = []

    @bus.on("vm.created", group="billing")
    def handle(event: Event[VmCreated]) -> None:  # runs in a thread
        seen.append(event.data.vm_id)

    await bus.publish(VmCreated(vm_id="vm-1"))
    await bus.run_until_idle()

    assert seen == ["vm-1"]


async def test_a_handler_with_two_parameters_is_told_about_the_attempt(bus: EventBus) -> None:
    seen: list[Attempt] = []

    @bus.on("vm.created", group="billing")
    async def handle(event: Event[VmCreated], attempt: Attempt) -> None:
        seen.append(attempt)

    await bus.publish(VmCreated(vm_id="vm-1"))
    await bus.run_until_idle()

    assert (seen[0].group, seen[0].number, seen[0].sequence) == ("billing", 1, 1)


async def test_a_group_has_one_handler(bus: EventBus) -> None:
    async def handle(event: Event) -> None: ...

    await bus.subscribe("vm.*", handle, group="billing")

    with pytest.raises(Misconfigured, match="group billing has a handler in this process already"):
        await bus.subscribe("task.*", handle, group="billing")


async def test_an_unsubscribed_group_keeps_its_place(bus: EventBus) -> None:
    seen: list[str] = []

    async def handle(event: Event[VmCreated]) -> None:
        seen.append(event.data.vm_id)

    subscription = await bus.subscribe("vm.created", handle, group="billing")
    await bus.unsubscribe(subscription)
    await bus.publish(VmCreated(vm_id="meanwhile"))
    await bus.run_until_idle()
    assert seen == []

    await bus.subscribe("vm.created", handle, group="billing")
    await bus.run_until_idle()
    assert seen == ["meanwhile"]

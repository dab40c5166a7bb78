"""Giving up: a delivery that can't be done goes to the dead letters of its group, and an event says so."""

from __future__ import annotations

from datetime import timedelta

from eventbus import Backoff, Event, EventBus, Options, Refused
from eventbus.topics import DeliveryDeadLettered, VmCreated

SOON = Backoff(base=timedelta(milliseconds=10))


async def test_a_refused_event_is_not_tried_again(bus: EventBus) -> None:
    calls = 0

    @bus.on("vm.created", group="builder")
    async def handle(event: Event) -> None:
        nonlocal calls
        calls += 1
        raise Refused("no such region")

    await bus.publish(VmCreated(vm_id="vm-1"))
    await bus.run_until_idle()

    backlog = await bus.backlog("builder")
    assert backlog is not None
    assert (calls, backlog.dead) == (1, 1)


async def test_so_is_one_whose_attempts_are_used_up(bus: EventBus) -> None:
    calls = 0

    @bus.on("vm.created", group="builder", options=Options(max_attempts=3, backoff=SOON))
    async def handle(event: Event) -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError("the host is away")

    await bus.publish(VmCreated(vm_id="vm-1"))
    await bus.run_until_idle()

    backlog = await bus.backlog("builder")
    assert backlog is not None
    assert (calls, backlog.dead) == (3, 1)


async def test_a_dead_letter_is_announced_as_an_event(bus: EventBus) -> None:
    heard: list[DeliveryDeadLettered] = []

    @bus.on("vm.created", group="builder")
    async def handle(event: Event) -> None:
        raise Refused("no such region")

    @bus.on("delivery.dead_lettered", group="pager")
    async def page(event: Event[DeliveryDeadLettered]) -> None:
        heard.append(event.data)

    receipt = await bus.publish(VmCreated(vm_id="vm-1"))
    await bus.run_until_idle()

    assert heard == [
        DeliveryDeadLettered(
            group="builder",
            event_id=receipt.event_id,
            event_topic="vm.created",
            reason="rejected",
            error="no such region",
            attempts=1,
        )
    ]


async def test_the_events_behind_a_dead_letter_go_on(bus: EventBus) -> None:
    done: list[int | None] = []

    @bus.on("vm.created", group="builder")
    async def handle(event: Event[VmCreated]) -> None:
        if event.data.vcpus == 1:
            raise Refused("too small")
        done.append(event.data.vcpus)

    await bus.publish_many(VmCreated(vm_id="vm-1", vcpus=n) for n in (1, 2))
    await bus.run_until_idle()

    assert done == [2]

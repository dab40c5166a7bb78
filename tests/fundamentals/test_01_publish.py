"""Publishing: an event goes in, a receipt comes back once Redis has it."""

from __future__ import annotations

from uuid import UUID

import pytest

from eventbus import Conflict, Event, EventBus, InvalidEvent
from eventbus.topics import TaskCompleted, VmCreated


async def test_a_receipt_means_that_redis_has_the_event(bus: EventBus) -> None:
    receipt = await bus.publish(VmCreated(vm_id="vm-1", vcpus=2))

    assert receipt.status == "stored"
    assert receipt.topic == "vm.created"
    assert UUID(receipt.event_id).version == 7


async def test_a_topic_and_its_data_do_as_well_as_a_payload(bus: EventBus) -> None:
    receipt = await bus.publish("vm.created", {"vm_id": "vm-1"})

    assert receipt.status == "stored"


async def test_the_envelope_is_given_by_name(bus: EventBus) -> None:
    async with bus.listen() as events:
        await bus.publish(VmCreated(vm_id="vm-1"), source="/cli", subject="vm-1", correlation_id="deploy-7")
        event = await anext(events)

    assert (event.source, event.subject, event.correlation_id) == ("/cli", "vm-1", "deploy-7")


async def test_events_are_numbered_without_gaps(bus: EventBus) -> None:
    receipts = [await bus.publish(VmCreated(vm_id=f"vm-{n}")) for n in range(3)]

    assert [receipt.sequence for receipt in receipts] == [1, 2, 3]


async def test_publishing_the_same_event_again_stores_it_once(bus: EventBus) -> None:
    event = Event(topic="custom.greeting", data={"text": "hello"})
    first = await bus.publish(event)
    again = await bus.publish(event)

    assert (first.status, again.status) == ("stored", "duplicate")
    assert again.entry_id == first.entry_id


async def test_an_idempotency_key_of_your_own_makes_two_events_one(bus: EventBus) -> None:
    first = await bus.publish(VmCreated(vm_id="vm-1"), idempotency_key="request-1")
    again = await bus.publish(VmCreated(vm_id="vm-1"), idempotency_key="request-1")

    assert again.status == "duplicate"
    assert again.event_id == first.event_id


async def test_an_idempotency_key_used_for_another_content_is_a_conflict(bus: EventBus) -> None:
    await bus.publish(VmCreated(vm_id="vm-1"), idempotency_key="request-1")

    with pytest.raises(Conflict, match=r"'request-1' was used for event .* which says something else"):
        await bus.publish(VmCreated(vm_id="vm-2"), idempotency_key="request-1")


async def test_many_are_published_in_order(bus: EventBus) -> None:
    receipts = await bus.publish_many(TaskCompleted(task_id=f"task-{n}") for n in range(500))

    assert [receipt.sequence for receipt in receipts] == list(range(1, 501))


async def test_data_that_does_not_fit_its_topic_is_refused_by_field(bus: EventBus) -> None:
    with pytest.raises(InvalidEvent, match=r"vm\.created: vm_id: field required"):
        await bus.publish("vm.created", {"vcpus": 2})

"""CloudEvents: an event travels to and from other systems in the CloudEvents 1.0 JSON format."""

from __future__ import annotations

from typing import Any

from eventbus import Event, EventBus
from eventbus.codec import from_cloudevent, to_cloudevent
from eventbus.topics import VmCreated


async def test_an_event_becomes_a_cloudevent_and_comes_back_whole(bus: EventBus) -> None:
    seen: list[Event[VmCreated]] = []

    @bus.on("vm.created", group="bridge")
    async def handle(event: Event[VmCreated]) -> None:
        seen.append(event)

    await bus.publish(VmCreated(vm_id="vm-1"), source="/cli", subject="vm-1")
    await bus.run_until_idle()
    cloud = to_cloudevent(seen[0])

    assert (cloud["specversion"], cloud["type"], cloud["source"]) == ("1.0", "vm.created", "/cli")
    assert from_cloudevent(cloud) == seen[0]


async def test_a_cloudevent_of_another_system_is_published_as_it_is(bus: EventBus) -> None:
    cloud: dict[str, Any] = {
        "specversion": "1.0",
        "id": "A234-1234-1234",
        "source": "https://shop.example/orders",
        "type": "custom.order_placed",
        "data": {"order": 7},
    }

    receipt = await bus.publish(from_cloudevent(cloud))

    assert (receipt.event_id, receipt.topic) == ("A234-1234-1234", "custom.order_placed")

"""Topics of your own: any JSON object under any topic, or a class of your own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from eventbus import Event, EventBus, InvalidEvent, Payload, catalog


class InvoicePaid(Payload, topic="invoice.paid", key="invoice"):
    """Version 1 of a payload of your own."""

    invoice: str
    cents: int


@pytest.fixture
def later_release() -> Iterator[type[Payload]]:
    """What the program's next release knows: the amount got a currency."""

    class InvoicePaidIn(Payload, topic="invoice.paid", key="invoice", version=2):
        invoice: str
        cents: int
        currency: str

        @classmethod
        def upcast(cls, data: dict[str, Any]) -> dict[str, Any]:
            return {**data, "currency": "EUR"}

    yield InvoicePaidIn
    catalog.remove(InvoicePaidIn)


async def test_a_topic_nobody_defined_carries_any_json_object(bus: EventBus) -> None:
    seen: list[Any] = []

    @bus.on("custom.greeting", group="greeter")
    async def handle(event: Event) -> None:
        seen.append(event.data)

    await bus.publish("custom.greeting", {"text": "hello", "to": ["ada", None]})
    await bus.run_until_idle()

    assert seen == [{"text": "hello", "to": ["ada", None]}]


async def test_a_class_of_your_own_is_a_topic_with_a_schema(bus: EventBus) -> None:
    seen: list[Event[InvoicePaid]] = []

    @bus.on("invoice.paid", group="books")
    async def handle(event: Event[InvoicePaid]) -> None:
        seen.append(event)

    await bus.publish(InvoicePaid(invoice="R-7", cents=900))
    await bus.run_until_idle()

    assert seen[0].data == InvoicePaid(invoice="R-7", cents=900)
    assert seen[0].key == "invoice:R-7"


async def test_a_known_topic_refuses_other_data(bus: EventBus) -> None:
    with pytest.raises(InvalidEvent, match=r"invoice\.paid: cents: field required"):
        await bus.publish("invoice.paid", {"invoice": "R-7"})


@pytest.mark.parametrize("topic", ["", "Vm.created", "vm..created", "vm.*", "vm created", ".vm"])
async def test_a_topic_is_dotted_lower_case_segments(bus: EventBus, topic: str) -> None:
    with pytest.raises(InvalidEvent, match="is not a topic: use dotted lower-case segments"):
        await bus.publish(topic, {})


async def test_a_new_version_reads_what_the_last_release_wrote(bus: EventBus, request: pytest.FixtureRequest) -> None:
    seen: list[Any] = []
    await bus.publish(InvoicePaid(invoice="R-7", cents=900))
    request.getfixturevalue("later_release")

    @bus.on("invoice.paid", group="books")
    async def handle(event: Event[Any]) -> None:
        seen.append(event.data.currency)

    await bus.run_until_idle()

    assert seen == ["EUR"]

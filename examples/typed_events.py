"""A payload of your own: checked, ordered by one of its fields, and readable after its fields have changed.

`OrderPaid` is version 2. Events that an older program wrote as version 1 pass its `upcast` before a handler sees them.
Events of one order are handled in publish order; different orders do not wait for each other.

Prints:
    refused: order.paid: cents: field required
    order 7: paid 12.50 EUR, then 3.00 CHF
    order 8: paid 40.00 EUR
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from pydantic import Field

from eventbus import Event, EventBus, InvalidEvent, Payload


class OrderPaidV1(Payload, topic="order.paid", key="order"):
    """An order was paid, as programs wrote it last year."""

    order: int
    euros: float


class OrderPaid(Payload, topic="order.paid", key="order", version=2):
    """An order was paid."""

    order: int = Field(description="Its number; payments of one order are handled in order")
    cents: int = Field(ge=0, description="How much, in hundredths of the currency")
    currency: str = Field(pattern="^[A-Z]{3}$", description="ISO 4217")

    @classmethod
    def upcast(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {"order": data["order"], "cents": round(data["euros"] * 100), "currency": "EUR"}


async def main() -> None:
    paid: dict[int, list[str]] = defaultdict(list)

    async with EventBus.open("memory://") as bus:

        @bus.on("order.paid", group="accounts")
        async def book(event: Event[OrderPaid]) -> None:
            data = event.data
            paid[data.order].append(f"{data.cents / 100:.2f} {data.currency}")

        try:
            await bus.publish("order.paid", {"order": 7, "currency": "EUR"})
        except InvalidEvent as error:
            print(f"refused: {error}")
        await bus.publish(OrderPaidV1(order=7, euros=12.5))
        await bus.publish(OrderPaid(order=8, cents=4000, currency="EUR"))
        await bus.publish(OrderPaid(order=7, cents=300, currency="CHF"))
        await bus.run_until_idle()

    for order, payments in sorted(paid.items()):
        print(f"order {order}: paid {', then '.join(payments)}")


asyncio.run(main())

"""An adapter that fetches what its service says: its connections are opened one after another, events are durable."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from eventbus import Backoff, Event, EventBus, catalog
from eventbus.topics import VmCreated
from integrations.base import Accept, Delivery, DeliveryResult, Health, InboundReply, Integration, Manifest
from integrations.errors import Unreachable
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry


class Nothing(BaseModel):
    """Nothing to set."""


class Radio(Integration[Nothing]):
    """Each connection says one thing, or fails; after the last it stays silent."""

    manifest = Manifest(name="radio", title="Radio", config=Nothing)
    listens = True

    def __init__(self, *said: str | Exception) -> None:
        self._said = list(said)
        self.connections = 0

    async def listen(self, accept: Accept) -> None:
        self.connections += 1
        said = self._said.pop(0) if self._said else None
        if said is None:
            await asyncio.Event().wait()
        if isinstance(said, Exception):
            raise said
        event = catalog.event(VmCreated(vm_id=str(said)), idempotency_key=f"radio:{said}")
        await accept(InboundReply(events=(event,)))

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        return DeliveryResult.skipped("it only listens")

    async def health(self) -> Health:
        return Health("healthy")


@pytest.mark.parametrize("fault", [Unreachable("no connection"), RuntimeError("a bug")])
async def test_it_is_listened_to_connection_after_connection(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.registry.RECONNECT", Backoff())
    heard: list[str] = []
    async with EventBus.open("memory://") as bus:
        radio = Radio("1", "1", fault, "2")
        registry = Registry(bus, Metrics(), serve=True)
        registry.register(Account("radio", radio, Nothing()))
        everything = asyncio.Event()

        async def handle(event: Event[VmCreated]) -> None:
            heard.append(event.data.vm_id)
            if event.data.vm_id == "2":
                everything.set()

        await bus.subscribe("vm.*", handle, group="g")
        await registry.start()
        running = asyncio.create_task(bus.run())
        async with asyncio.timeout(20):
            await everything.wait()
        await registry.stop()
        bus.stop()
        await running
    assert (heard, radio.connections) == (["1", "2"], 5)


async def test_who_does_not_serve_does_not_listen() -> None:
    async with EventBus.open("memory://") as bus:
        radio = Radio("1")
        registry = Registry(bus, Metrics(), serve=False)
        registry.register(Account("radio", radio, Nothing()))
        await registry.start()
        await asyncio.sleep(0)
        await registry.stop()
    assert radio.connections == 0

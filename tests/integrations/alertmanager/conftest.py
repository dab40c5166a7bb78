"""A running FakeAlertmanager, the adapter in front of it, and the dispatcher that remembers what fires."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from eventbus import EventBus
from eventbus.event import Event
from integrations.alertmanager import Alertmanager
from integrations.alertmanager.fake import FakeAlertmanager
from integrations.base import Delivery, DeliveryResult, Notification
from integrations.testing.context import make_context
from registry.act import Act
from registry.dispatch import Dispatcher
from registry.metrics import Metrics

Connect = Callable[..., Awaitable[Alertmanager]]
Bring = Callable[..., Awaitable[DeliveryResult]]


@pytest.fixture
async def fake() -> AsyncIterator[FakeAlertmanager]:
    async with FakeAlertmanager() as fake:
        yield fake


@pytest.fixture
async def connect(fake: FakeAlertmanager) -> AsyncIterator[Connect]:
    """Makes adapters in front of the fake, with settings changed, and closes them at the end."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> Alertmanager:
            settings = {name: value for name, value in (fake.settings() | changes).items() if value is not None}
            adapter, context = Alertmanager(), make_context(Alertmanager, settings)
            stack.push_async_callback(context.http.close)
            await adapter.initialize(context)
            return adapter

        yield make


@pytest.fixture
async def alertmanager(connect: Connect) -> Alertmanager:
    return await connect()


@pytest.fixture
async def bring() -> AsyncIterator[Bring]:
    """Brings an event or a notification through the dispatcher, in the thread of its ordering key."""
    async with EventBus.open("memory://") as bus:
        dispatcher = Dispatcher(bus, Metrics())

        async def once(
            adapter: Alertmanager, what: Event[Any] | Notification, *, key: str = "", thread: str | None = None
        ) -> DeliveryResult:
            if isinstance(what, Event):
                key, thread = key or f"alertmanager:default:{what.id}", what.key if thread is None else thread
            delivery = Delivery(key, thread=thread or "")
            return await dispatcher.once(Act("alertmanager", adapter, what, delivery, timedelta(seconds=20)))

        yield once

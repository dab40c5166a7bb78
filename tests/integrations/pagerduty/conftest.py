"""A running FakePagerDuty, the adapter in front of it, and the dispatcher that remembers what is open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from eventbus import EventBus
from eventbus.event import Event
from integrations.base import Delivery, DeliveryResult, Notification
from integrations.pagerduty import PagerDuty
from integrations.pagerduty.fake import FakePagerDuty
from integrations.testing.context import make_context
from registry.act import Act
from registry.dispatch import Dispatcher
from registry.metrics import Metrics

Connect = Callable[..., Awaitable[PagerDuty]]
Bring = Callable[..., Awaitable[DeliveryResult]]


@pytest.fixture
async def fake() -> AsyncIterator[FakePagerDuty]:
    async with FakePagerDuty() as fake:
        yield fake


@pytest.fixture
async def connect(fake: FakePagerDuty) -> AsyncIterator[Connect]:
    """Makes adapters in front of the fake, with settings changed, and closes them at the end."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> PagerDuty:
            settings = {name: value for name, value in (fake.settings() | changes).items() if value is not None}
            adapter, context = PagerDuty(), make_context(PagerDuty, settings)
            stack.push_async_callback(context.http.close)
            await adapter.initialize(context)
            return adapter

        yield make


@pytest.fixture
async def pagerduty(connect: Connect) -> PagerDuty:
    return await connect()


@pytest.fixture
async def bring() -> AsyncIterator[Bring]:
    """Brings an event or a notification through the dispatcher, in the thread of its ordering key."""
    async with EventBus.open("memory://") as bus:
        dispatcher = Dispatcher(bus, Metrics())

        async def once(
            adapter: PagerDuty, what: Event[Any] | Notification, *, key: str = "", thread: str | None = None
        ) -> DeliveryResult:
            if isinstance(what, Event):
                key, thread = key or f"pagerduty:default:{what.id}", what.key if thread is None else thread
            delivery = Delivery(key, thread=thread or "")
            return await dispatcher.once(Act("pagerduty", adapter, what, delivery, timedelta(seconds=20)))

        yield once

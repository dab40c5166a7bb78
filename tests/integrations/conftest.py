"""Adapters in front of their stand-ins, and the dispatcher that remembers what they have made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from eventbus import EventBus
from eventbus.event import Event
from integrations.base import Delivery, DeliveryResult, Integration, Notification
from integrations.testing.context import make_context
from integrations.testing.fake import FakeService
from registry.act import Act
from registry.dispatch import Dispatcher
from registry.metrics import Metrics

A = TypeVar("A", bound=Integration[Any])
Bring = Callable[..., Awaitable[DeliveryResult]]


@asynccontextmanager
async def connecting(adapter: type[A], fake: FakeService) -> AsyncIterator[Callable[..., Awaitable[A]]]:
    """Makes adapters in front of a stand-in, with settings changed, None taking one away; closes them at the end."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> A:
            settings = {name: value for name, value in (fake.settings() | changes).items() if value is not None}
            made, context = adapter(), make_context(adapter, settings)
            stack.push_async_callback(context.http.close)
            await made.initialize(context)
            return made

        yield make


@pytest.fixture
async def bring() -> AsyncIterator[Bring]:
    """Brings an event or a notification through the dispatcher, in the thread of its ordering key."""
    async with EventBus.open("memory://") as bus:
        dispatcher = Dispatcher(bus, Metrics())

        async def once(
            adapter: Integration[Any], what: Event[Any] | Notification, *, key: str = "", thread: str | None = None
        ) -> DeliveryResult:
            name = adapter.manifest.name
            if isinstance(what, Event):
                key, thread = key or f"{name}:default:{what.id}", what.key if thread is None else thread
            delivery = Delivery(key, thread=thread or "")
            return await dispatcher.once(Act(name, adapter, what, delivery, timedelta(seconds=20)))

        yield once

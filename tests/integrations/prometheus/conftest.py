"""The adapter alone, on a store in memory, and a stand-in that scrapes it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from eventbus.event import Event
from integrations.base import Delivery, DeliveryResult
from integrations.prometheus import Prometheus
from integrations.prometheus.fake import FakePrometheus
from integrations.testing.rig import connected


@pytest.fixture
async def fake() -> AsyncIterator[FakePrometheus]:
    async with FakePrometheus() as fake:
        yield fake


@pytest.fixture
async def connect(fake: FakePrometheus) -> AsyncIterator[Callable[..., Awaitable[Prometheus]]]:
    """An adapter with these settings."""
    async with AsyncExitStack() as stack:

        async def connect(**settings: Any) -> Prometheus:
            adapter = await stack.enter_async_context(connected(Prometheus, fake, settings))
            assert isinstance(adapter, Prometheus)
            return adapter

        yield connect


@pytest.fixture
async def prometheus(connect: Callable[..., Awaitable[Prometheus]]) -> Prometheus:
    """One that measures what is built in."""
    return await connect()


@pytest.fixture
def bring(fake: FakePrometheus) -> Callable[..., Awaitable[list[DeliveryResult]]]:
    """Bring events to an adapter, each under a key of its own, and scrape it."""
    keys = itertools.count()

    async def bring(adapter: Prometheus, *events: Event[Any]) -> list[DeliveryResult]:
        results = [await adapter.handle_event(event, Delivery(f"delivery-{next(keys)}")) for event in events]
        await fake.scrape(adapter)
        return results

    return bring

"""A running FakeAlertmanager, and the adapter in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from integrations.alertmanager import Alertmanager
from integrations.alertmanager.fake import FakeAlertmanager
from tests.integrations.conftest import connecting

Connect = Callable[..., Awaitable[Alertmanager]]


@pytest.fixture
async def fake() -> AsyncIterator[FakeAlertmanager]:
    async with FakeAlertmanager() as fake:
        yield fake


@pytest.fixture
async def connect(fake: FakeAlertmanager) -> AsyncIterator[Connect]:
    """Makes adapters, with settings changed."""
    async with connecting(Alertmanager, fake) as make:
        yield make


@pytest.fixture
async def alertmanager(connect: Connect) -> Alertmanager:
    return await connect()

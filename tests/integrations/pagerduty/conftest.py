"""A running FakePagerDuty, and the adapter in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from integrations.pagerduty import PagerDuty
from integrations.pagerduty.fake import FakePagerDuty
from tests.integrations.conftest import connecting

Connect = Callable[..., Awaitable[PagerDuty]]


@pytest.fixture
async def fake() -> AsyncIterator[FakePagerDuty]:
    async with FakePagerDuty() as fake:
        yield fake


@pytest.fixture
async def connect(fake: FakePagerDuty) -> AsyncIterator[Connect]:
    """Makes adapters, with settings changed."""
    async with connecting(PagerDuty, fake) as make:
        yield make


@pytest.fixture
async def pagerduty(connect: Connect) -> PagerDuty:
    return await connect()

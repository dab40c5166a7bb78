"""A running FakeGitHub and the adapter in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.testing.context import make_context

Connect = Callable[[dict[str, Any]], Awaitable[GitHub]]


@pytest.fixture
async def fake() -> AsyncIterator[FakeGitHub]:
    async with FakeGitHub() as fake:
        yield fake


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes adapters from settings and closes them at the end."""
    async with AsyncExitStack() as stack:

        async def make(settings: dict[str, Any]) -> GitHub:
            adapter, context = GitHub(), make_context(GitHub, settings)
            stack.push_async_callback(context.http.close)
            stack.push_async_callback(adapter.close)
            await adapter.initialize(context)
            return adapter

        yield make


@pytest.fixture
async def github(fake: FakeGitHub, connect: Connect) -> GitHub:
    return await connect(fake.settings())

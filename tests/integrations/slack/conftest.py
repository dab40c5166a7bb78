"""A running FakeSlack, and a Slack adapter that talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from integrations.http import Http
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack
from integrations.testing.context import make_context

MakeSlack = Callable[..., Awaitable[Slack]]


@pytest.fixture
async def fake() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as service:
        yield service


@pytest.fixture
async def make_slack(fake: FakeSlack) -> AsyncIterator[MakeSlack]:
    """Makes adapters: the fake's settings with changes, or other settings altogether."""
    async with AsyncExitStack() as stack:

        async def make(settings: dict[str, Any] | None = None, **context: Any) -> Slack:
            http = await stack.enter_async_context(Http(timeout=timedelta(seconds=5)))
            slack = Slack()
            base = fake.settings() if settings is None else settings
            await slack.initialize(make_context(Slack, base, http=http, **context))
            stack.push_async_callback(slack.close)
            return slack

        yield make


@pytest.fixture
async def slack(make_slack: MakeSlack) -> Slack:
    return await make_slack()

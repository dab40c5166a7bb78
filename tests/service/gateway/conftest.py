"""The gateway on a real port, with the adapters of Slack and GitHub in front of their stand-ins.

Whatever a test asks, the answer is held to the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from eventbus import Event, EventBus
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.log import Log
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from registry.settings import Gateway, Settings
from service.gateway.app import build_app
from service.http import serving
from service.wiring import Runtime
from tests.service.gateway.conformance import Conformance

Opened = tuple[Runtime, httpx.AsyncClient]


@pytest.fixture
def key() -> str:
    """An API key of the gateway."""
    return "a-key-for-tests-0001"


@pytest.fixture
def open_gateway(key: str) -> Callable[..., AbstractAsyncContextManager[Opened]]:
    """Serve these accounts; the client holds no key of its own, and checks every answer."""

    @asynccontextmanager
    async def open_gateway(*accounts: Account, url: str = "memory://", **gateway: Any) -> AsyncIterator[Opened]:
        settings = Settings(gateway=Gateway(**{"api_keys": (SecretStr(key),), **gateway}))
        metrics = Metrics()
        async with EventBus.open(url, publish_timeout=timedelta(seconds=0.5), observer=metrics) as bus:
            registry = Registry(bus, metrics, serve=False)
            for account in accounts:
                registry.register(account)
            await registry.start()
            runtime = Runtime(settings, bus, registry, metrics)
            async with (
                serving(build_app(runtime), "127.0.0.1", 0) as port,
                httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}",
                    trust_env=False,
                    event_hooks={"response": [Conformance(runtime)]},
                ) as http,
            ):
                yield runtime, http
            await registry.stop()

    return open_gateway


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with FakeSlack() as slack:
        yield slack


@pytest.fixture
async def github() -> AsyncIterator[FakeGitHub]:
    async with FakeGitHub() as github:
        yield github


@pytest.fixture
async def opened(
    open_gateway: Callable[..., AbstractAsyncContextManager[Opened]], slack: FakeSlack, github: FakeGitHub
) -> AsyncIterator[Opened]:
    accounts = [
        Account("slack", Slack(), Slack.manifest.config.model_validate(slack.settings())),
        Account("github", GitHub(), GitHub.manifest.config.model_validate(github.settings())),
        Account("log", Log(), Log.manifest.config()),
    ]
    async with open_gateway(*accounts) as opened:
        # Durable, from before the first request: whatever is published lands in it.
        await opened[0].bus.declare("witness", (">",))
        yield opened


@pytest.fixture
def runtime(opened: Opened) -> Runtime:
    return opened[0]


@pytest.fixture
def http(opened: Opened) -> httpx.AsyncClient:
    """A client without a key."""
    return opened[1]


@pytest.fixture
async def rest(http: httpx.AsyncClient, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key."""
    async with httpx.AsyncClient(
        base_url=http.base_url,
        headers={"Authorization": f"Bearer {key}"},
        trust_env=False,
        event_hooks=http.event_hooks,
    ) as rest:
        yield rest


@pytest.fixture
def published(runtime: Runtime) -> Callable[[], Awaitable[list[Event[Any]]]]:
    """Everything that was published since it was last asked, read from the log."""

    async def published() -> list[Event[Any]]:
        found: list[Event[Any]] = []
        subscription = await runtime.bus.subscribe(">", found.append, group="witness")
        await runtime.bus.run_until_idle()
        await runtime.bus.unsubscribe(subscription)
        return found

    return published

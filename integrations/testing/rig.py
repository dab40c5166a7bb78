"""An adapter set up in front of its fake, in two ways: alone (`Rig`), and at work behind a real dispatcher (`Worker`).

The worker is the real thing on a bus in memory: registry, gate, ledger, retries, dead letters, trail. It is what the
rules are tried with that no adapter can keep alone.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import JsonValue

from eventbus import Backoff, DeadLetter, Event, EventBus, Options
from eventbus.gate import Breaker
from integrations.base import Delivery, DeliveryResult, Integration, Subscribes
from integrations.errors import IntegrationError
from integrations.http import Http
from integrations.testing.context import make_context
from integrations.testing.fake import FakeService
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from registry.routes.model import Routing

SOON = Backoff(timedelta(milliseconds=10), timedelta(milliseconds=50))
"""Between attempts: a test has no time for the real one."""
PATIENCE_SECONDS = 10.0
BRIEFLY = Breaker(first=timedelta(milliseconds=100), longest=timedelta(milliseconds=100))
"""How long a service that fails is left alone."""


@dataclass(frozen=True, slots=True)
class Rig:
    """An initialised adapter in front of its running fake."""

    adapter: Integration[Any]
    service: FakeService

    @property
    def target(self) -> str:
        """The adapter's first target."""
        targets = self.adapter.targets() if isinstance(self.adapter, Subscribes) else ()
        return targets[0].name if targets else "default"

    def delivery(self, key: str, attempt: int = 1) -> Delivery:
        """One to the first target."""
        return Delivery(key, self.target, attempt)

    async def handle(self, event: Event[Any], key: str = "delivery-1", attempt: int = 1) -> DeliveryResult:
        """`handle_event` for the adapter's first target."""
        return await self.adapter.handle_event(event, self.delivery(key, attempt))

    async def outcome(self, event: Event[Any], key: str = "delivery-1") -> DeliveryResult | IntegrationError:
        """The result or the error of `handle`, whichever it is. Anything else is a fault of the adapter."""
        try:
            return await self.handle(event, key)
        except IntegrationError as error:
            return error


@dataclass(frozen=True, slots=True)
class Worker:
    """One account at work. `bring` events to it, then ask what became of them."""

    bus: EventBus
    account: Account
    service: FakeService
    metrics: Metrics
    registry: Registry

    @property
    def group(self) -> str:
        """The consumer group of the adapter's first target."""
        return self.account.targets(Routing())[0][0]

    async def bring(self, *events: Event[Any]) -> None:
        """Publish, and serve until nothing is left to do, retries included. TimeoutError after half a minute."""
        await self.bus.publish_many(events)
        await self.bus.run_until_idle(timeout=timedelta(seconds=30))

    async def trail(self, event: Event[Any]) -> list[dict[str, JsonValue]]:
        """What was done about an event, a line for each attempt."""
        return await self.bus.trail.read(event.id)

    async def outcomes(self, event: Event[Any]) -> list[JsonValue]:
        """How each attempt ended."""
        return [line["outcome"] for line in await self.trail(event)]

    async def dead(self) -> list[DeadLetter]:
        """The dead letters, oldest first."""
        return [letter async for letter in self.bus.dead.find()]


@asynccontextmanager
async def connected(
    adapter: type[Integration[Any]], service: FakeService, settings: Mapping[str, Any] | None = None
) -> AsyncIterator[Integration[Any]]:
    """The adapter, initialised from the fake's settings or from those given, and closed at the end."""
    http = Http(timeout=timedelta(seconds=5))
    context = make_context(adapter, service.settings() if settings is None else settings, http=http)
    one = adapter()
    try:
        await one.initialize(context)
        yield one
    finally:
        await one.close()
        await http.close()


@asynccontextmanager
async def at_work(
    adapter: type[Integration[Any]],
    service: FakeService,
    topic: str,
    *,
    settings: Mapping[str, Any] | None = None,
    timeout: timedelta = timedelta(seconds=5),
    dry_run: bool = False,
) -> AsyncIterator[Worker]:
    """The adapter as the only account of a worker that takes one topic.

    Its calls are not spaced by budgets: where a rule is about those, it asks the gate itself.
    """
    manifest = adapter.manifest
    account = Account(
        manifest.name,
        adapter(),
        manifest.config.model_validate(dict(service.settings() if settings is None else settings)),
        topics=(topic,),
        timeout=timeout,
        options=Options(concurrency=16, backoff=SOON, max_attempts=5),
        dry_run=dry_run,
        paced=False,
        breaker=BRIEFLY,
    )
    async with EventBus.open("memory://") as bus:
        metrics = Metrics()
        registry = Registry(bus, metrics, serve=True)
        registry.register(account)
        await registry.start()
        assert account.fault is None, f"the worker could not start the adapter: {account.fault}"
        try:
            yield Worker(bus, account, service, metrics, registry)
        finally:
            await registry.stop()


async def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Return when the condition, a function or a coroutine function, holds. `what` is what a failure says."""
    deadline = time.monotonic() + seconds
    while True:
        reached = condition()
        if inspect.isawaitable(reached):
            reached = await reached
        if reached:
            return
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.01)

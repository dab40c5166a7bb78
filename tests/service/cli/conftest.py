"""A real Redis that the commands find by EVENTBUS_URL, and the bus on it for what a test prepares and looks up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from eventbus import Event, EventBus, Refused
from eventbus.redis.embedded import EmbeddedRedis

T = TypeVar("T")


class Desk:
    """What a test does to the bus beside the commands, each thing in an event loop of its own, as a command has."""

    def __init__(self, url: str) -> None:
        self.url = url

    def do(self, work: Callable[[EventBus], Awaitable[T]]) -> T:
        """Something with the open bus."""

        async def opened() -> T:
            async with EventBus.open(self.url) as bus:
                return await work(bus)

        return asyncio.run(opened())

    def publish(self, topic: str, **data: Any) -> str:
        """One event; its id."""
        return self.do(lambda bus: bus.publish(topic, data)).event_id

    def declare(self, group: str, *patterns: str) -> None:
        """A group that nobody serves."""
        self.do(lambda bus: bus.declare(group, patterns))

    def serve(self, group: str, *patterns: str, refuse: str | None = None) -> list[Event[Any]]:
        """Handle all there is, or refuse it with these words; what was handled."""
        handled: list[Event[Any]] = []

        async def handle(event: Event[Any]) -> None:
            if refuse is not None:
                raise Refused(refuse)
            handled.append(event)

        async def work(bus: EventBus) -> None:
            await bus.subscribe(patterns, handle, group=group)
            await bus.run_until_idle()

        self.do(work)
        return handled

    def dead(self, *groups: str) -> list[str]:
        """The ids of the dead letters."""

        async def work(bus: EventBus) -> list[str]:
            return [letter.id async for letter in bus.dead.find(groups=groups)]

        return self.do(work)


@pytest.fixture
def desk(own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A Redis for this test alone."""
    url = f"embedded://{own_redis.home}"
    monkeypatch.setenv("EVENTBUS_URL", url)
    return Desk(url)

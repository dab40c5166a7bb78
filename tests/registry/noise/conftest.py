"""Workers of a Slack account whose routes group, and events to give them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from eventbus import Backoff, Event, EventBus, Options, Unavailable, catalog
from eventbus.redis.connection import Connection
from eventbus.redis.scripts import Arg
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from registry.routes.model import Inhibition, Route, Routing
from tests.conftest import wait_until

_names = itertools.count(1)
_routes = TypeAdapter(dict[str, Route])
_inhibitions = TypeAdapter(dict[str, Inhibition])

STEPS = {"intend", "conclude", "swap", "schedule", "unschedule"}
"""What changes a group, its ledger rows and its times; that Slack is called lies between two of them."""
SOON = {"wait": 0.2, "interval": 0.2, "repeat": 3600}
FAILURES = {
    "topics": ["migration.failed"],
    "to": "slack",
    "title": "{{ data.migration }}",
    "text": "{{ data.error }}",
    "severity": "error",
    "group": {"by": ["data.environment"], **SOON},
}
INCIDENTS = FAILURES | {
    "topics": ["migration.failed", "migration.completed"],
    "text": "{{ 'fixed' if topic == 'migration.completed' else data.error }}",
    "severity": "{{ 'info' if topic == 'migration.completed' else 'warning' }}",
    "resolves": "topic == 'migration.completed'",
}


def routing(routes: dict[str, Any], inhibitions: dict[str, Any] | None = None, **more: Any) -> Routing:
    """What a file would say."""
    found = _inhibitions.validate_python(inhibitions or {})
    return Routing(_routes.validate_python(routes), inhibitions=found, **more)


def failed(migration: str = "add_email", environment: str = "prod", **more: Any) -> Event[Any]:
    """A migration that failed."""
    data = {"migration": migration, "environment": environment, "error": "lock timeout", **more}
    return catalog.event("migration.failed", data)


def completed(migration: str = "add_email", environment: str = "prod") -> Event[Any]:
    """A migration that came to its end."""
    return catalog.event("migration.completed", {"migration": migration, "environment": environment})


def new_address() -> str:
    """A bus that no other test has."""
    return f"memory://noise-{next(_names)}"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[EventBus]:
    """The bus, served by nobody."""
    async with EventBus.open(url) as bus:
        yield bus


async def until(condition: Callable[[], object | Awaitable[object]], what: str) -> None:
    """Wait for it, on a machine that may be busy."""
    await wait_until(condition, what, 60)


class Mortal(Connection):
    """A connection whose process stops for ever at one of its steps: before the step or after it.

    deadly   which step of those that a group is made of; 0: none
    reached  it is there; `gone`: nobody waits for it any more
    """

    def live_until(self, deadly: int, *, after: bool) -> None:
        self.deadly, self.after, self.steps = deadly, after, 0
        self.reached, self.gone = asyncio.Event(), asyncio.Event()

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        if name not in STEPS:
            return await super().run(name, keys, args)
        self.steps += 1
        is_last = self.steps == self.deadly
        if not is_last or self.after:
            answer = await super().run(name, keys, args)
        if is_last:
            self.reached.set()
            await self.gone.wait()
            raise Unavailable("the process is gone")
        return answer


@asynccontextmanager
async def worker(
    url: str,
    slack: FakeSlack,
    rules: Routing,
    *,
    deadly: int = 0,
    after: bool = False,
    settings: dict[str, Any] | None = None,
) -> AsyncIterator[Mortal]:
    """A process that serves the account `slack` until the end of the block; then it is gone at once."""
    connection = await Mortal.open(url)
    assert isinstance(connection, Mortal)
    connection.live_until(deadly, after=after)
    bus = EventBus(connection, lease=timedelta(seconds=1), sweep_every=timedelta(seconds=0.1))
    registry = Registry(bus, Metrics(), serve=True, routing=rules)
    given = slack.settings() if settings is None else settings
    config = Slack.manifest.config.model_validate({**given, "default_channel": "general"})
    backoff = Backoff(timedelta(milliseconds=20), timedelta(milliseconds=20))
    options = Options(backoff=backoff, start="now")
    only_routes = ("nothing.by-itself",)
    registry.register(Account("slack", Slack(), config, topics=only_routes, paced=False, options=options))
    await registry.start()
    serving = asyncio.create_task(bus.run(grace=timedelta()))
    try:
        yield connection
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        connection.gone.set()
        await registry.stop()
        await bus.close()

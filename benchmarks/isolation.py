"""What two healthy integrations notice of two sick ones: p99 from publish to the effect at the service.

    python -m benchmarks.isolation

One worker with PagerDuty and a webhook, which serve, and with Slack and GitHub: in a `well` round these serve as well,
in a `sick` one Slack never answers and GitHub answers 429 with Retry-After, in an `alone` one they are not configured.
The rounds alternate, so that a machine whose speed drifts does all of them the same way; ratios are taken within three
that follow one another. The stand-ins run in the worker's process, so every figure holds their work too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import structlog
from rich.console import Console
from rich.table import Table

from eventbus import Event, EventBus, Options, catalog
from eventbus.redis.embedded import open_embedded
from eventbus.topics import TaskFailed
from integrations.base import Integration
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.pagerduty import PagerDuty
from integrations.pagerduty.fake import FakePagerDuty
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack
from integrations.testing.fake import FakeService
from integrations.webhook import Webhook
from integrations.webhook.fake import FakeReceiver
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry

State = Literal["alone", "well", "sick"]
STATES: tuple[State, ...] = get_args(State)
PER_SECOND = 10
"""Far below what one process with all four stand-ins in it can do: a queue of its own would hide the neighbours."""
PATIENCE_SECONDS = 120.0
WARM_UP = 20
"""Events before those that are measured: the first ones meet clients that connect and read certificates."""
NO_LIMIT = 1_000_000
PULLS = range(100, 200)
"""On one alone there would be thousands of comments, and a service that lists them: nothing that is measured here."""
GOAL = 1.1
"""The others' p99 with sick neighbours, against that with healthy ones."""


@dataclass
class Isolation:
    """p99 in milliseconds, of each round, by the state of the neighbours."""

    p50: dict[State, list[float]] = field(default_factory=lambda: {state: [] for state in STATES})
    p99: dict[State, list[float]] = field(default_factory=lambda: {state: [] for state in STATES})

    def ratio(self, state: State, to: State) -> float:
        """Of the p99 in one state to that in another: the median over the rounds."""
        return statistics.median(a / b for a, b in zip(self.p99[state], self.p99[to], strict=True))


class Neighbours:
    """Slack and GitHub, and how they are."""

    def __init__(self, state: State) -> None:
        self.slack, self.github = FakeSlack(), FakeGitHub()
        self.github.limit = NO_LIMIT
        for number in PULLS:
            self.github.open_pull("acme/api", f"feature/{number}", "main", number=number)
        self.accounts = [] if state == "alone" else [_account(Slack, self.slack), _account(GitHub, self.github)]
        self._held = [self.slack.hold() for _ in range(NO_LIMIT // 100)] if state == "sick" else []
        if state == "sick":
            self.github.fail(429, times=NO_LIMIT, headers={"Retry-After": "1"})

    def let_go(self) -> None:
        """Answer those who still wait."""
        for held in self._held:
            held.released.set()


async def isolation(url: str, *, rounds: int, events: int) -> Isolation:
    """Measure. Each round has a namespace of its own on the server at this address."""
    found = Isolation()
    for number in range(rounds):
        for state in STATES:
            gc.collect()
            values = sorted(await _round(url, f"isolation-{number}-{state}", state, events))
            found.p50[state].append(values[len(values) // 2])
            found.p99[state].append(values[len(values) * 99 // 100])
    return found


async def _round(url: str, namespace: str, state: State, count: int) -> list[float]:
    """Milliseconds from before publish until a healthy stand-in has answered; two for each event."""
    neighbours, pagerduty, receiver = Neighbours(state), FakePagerDuty(), FakeReceiver()
    pagerduty.limit = NO_LIMIT
    healthy = [_account(PagerDuty, pagerduty), _account(Webhook, receiver)]
    async with AsyncExitStack() as stack:
        for fake in (neighbours.slack, neighbours.github, pagerduty, receiver):
            await stack.enter_async_context(fake)
        async with _worker(url, namespace, [*healthy, *neighbours.accounts]) as bus:
            sent = await _publish(bus, WARM_UP + count)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while min(len(pagerduty.requests), len(receiver.requests)) < len(sent):  # noqa: ASYNC110  they are no events
                    await asyncio.sleep(0.01)
            neighbours.let_go()
        return [*_latencies(pagerduty, sent), *_latencies(receiver, sent)]


@asynccontextmanager
async def _worker(url: str, namespace: str, accounts: list[Account]) -> AsyncIterator[EventBus]:
    async with EventBus.open(url, namespace=namespace) as bus:
        registry = Registry(bus, Metrics(), serve=True)
        for account in accounts:
            registry.register(account)
        await registry.start()
        running = asyncio.create_task(bus.run())
        try:
            yield bus
        finally:
            bus.stop()
            await running
            await registry.stop()


def _account(adapter: type[Integration[Any]], fake: FakeService) -> Account:
    """As it is configured by default, but for the service's own limits: they would be what is measured."""
    config = adapter.manifest.config.model_validate(fake.settings())
    options = Options(concurrency=16, start="earliest")
    return Account(adapter.manifest.name, adapter(), config, topics=("task.failed",), options=options, paced=False)


async def _publish(bus: EventBus, count: int) -> dict[int, float]:
    """At a steady rate; when each was published, Unix seconds."""
    sent, began = {}, time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
        sent[number] = time.time()
        await bus.publish(_event(number))
    return sent


def _event(number: int) -> Event[TaskFailed]:
    pull = f"https://github.com/acme/api/pull/{PULLS[number % len(PULLS)]}"
    name = f"number-{number}-"
    return catalog.event(
        TaskFailed(task_id=f"task-{number}", name=name, environment="production", error="x", pull_request=pull)
    )


def _latencies(fake: FakeService, sent: dict[int, float]) -> list[float]:
    arrived: dict[int, float] = {}
    for request in fake.requests:
        found = re.search(rb"number-(\d+)-", request.body)
        if found is not None:
            arrived.setdefault(int(found[1]), request.at)
    return [(arrived[number] - at) * 1000 for number, at in sent.items() if number >= WARM_UP]


def show(found: Isolation) -> Table:
    """Medians over the rounds."""
    table = Table("neighbours", "p50", "p99", title=f"Publish to effect at {PER_SECOND}/s, two healthy integrations")
    for state in STATES:
        table.add_row(state, *(f"{statistics.median(one[state]):.1f} ms" for one in (found.p50, found.p99)))
    return table


def main() -> Isolation:
    """Measure, print, and return the figures."""
    parser = argparse.ArgumentParser(description="What healthy integrations notice of sick ones.")
    parser.add_argument("--events", type=int, default=300, help="events of a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each kind; the median is shown")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as folder, open_embedded(Path(folder)):
        found = asyncio.run(isolation(f"embedded://{folder}", rounds=given.rounds, events=given.events))
    ratio = found.ratio("sick", "well")
    mark = "met" if ratio <= GOAL else "missed"
    Console().print(show(found), f"p99 sick against well: {ratio:.2f}, at most {GOAL:g}: {mark}")
    return found


if __name__ == "__main__":
    main()

"""Webhooks that were lost arrive once each; and by the clock one worker of many asks for them, once a period."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus import Event, EventBus
from eventbus.gate import Breaker
from integrations.base import Delivery, DeliveryResult, Health, Integration, Recovered
from integrations.errors import Unreachable
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.log import Log
from integrations.log.config import LogConfig
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from registry.settings import Settings
from service.gateway.app import build_app
from service.http import serving
from service.recovery import is_our_turn, keep_recovering
from service.wiring import Runtime
from tests.conftest import wait_until

PERIOD = timedelta(hours=1)


class Forgetful(Integration[LogConfig]):
    """Has so many lost webhooks, of which it asks for one at a time; fails as often as it is told to."""

    manifest = Log.manifest

    def __init__(self, lost: int = 1, failures: int = 0) -> None:
        self.lost, self.failures, self.says_what_is_left = lost, failures, True
        self.asked: list[timedelta] = []
        self.recover_every: timedelta | None = PERIOD

    async def recover(self, since: datetime, *, patiently: bool = False) -> Recovered:
        assert patiently
        self.asked.append(datetime.now(UTC) - since)
        if len(self.asked) <= self.failures:
            raise Unreachable("away")
        self.lost -= 1
        return Recovered(1, self.lost if self.says_what_is_left else 0, "one")

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        return DeliveryResult.skipped("not for it")

    async def health(self) -> Health:
        return Health("healthy")


@asynccontextmanager
async def keeping(bus: EventBus, adapter: Forgetful) -> AsyncIterator[None]:
    """A worker that looks after lost webhooks of this integration."""
    registry = Registry(bus, Metrics(), serve=False)
    registry.register(Account("log", adapter, LogConfig()))
    await registry.start()
    task = asyncio.create_task(keep_recovering(bus, registry))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await registry.stop()


async def test_one_of_many_workers_has_its_turn_and_nobody_else_within_the_period(bus: EventBus) -> None:
    turns = await asyncio.gather(*(is_our_turn(bus, "github", PERIOD) for _ in range(20)))
    assert sorted(turns) == [False] * 19 + [True]
    assert await is_our_turn(bus, "other", PERIOD), "each integration has its own"


async def test_after_the_period_it_is_somebodys_turn_again(bus: EventBus) -> None:
    short = timedelta(milliseconds=50)
    assert await is_our_turn(bus, "github", short)
    await wait_until(lambda: is_our_turn(bus, "github", short), "the next turn")


async def test_who_has_no_period_has_no_turn(bus: EventBus) -> None:
    assert not await is_our_turn(bus, "github", None)


async def test_a_service_that_asked_us_to_wait_is_left_alone(bus: EventBus) -> None:
    turn = await bus.gate.enter("github", (), probe=PERIOD)
    await bus.gate.report("github", turn, "none", floor=PERIOD, breaker=Breaker())
    assert not await is_our_turn(bus, "github", PERIOD)


async def test_a_worker_asks_until_nothing_is_left_over(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.recovery.AGAIN", timedelta(milliseconds=1))
    adapter = Forgetful(lost=3)
    async with keeping(bus, adapter):
        await wait_until(lambda: adapter.lost == 0, "nothing is left over")
    assert len(adapter.asked) == 3


async def test_two_workers_ask_once(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.recovery.LOOK_SECONDS", 0.005)
    one, other = Forgetful(), Forgetful()
    async with keeping(bus, one), keeping(bus, other):
        await wait_until(lambda: one.asked or other.asked, "one of them asks")
        assert not await is_our_turn(bus, "log", PERIOD)
    assert len(one.asked + other.asked) == 1


async def test_the_first_look_of_a_process_goes_far_back_until_one_succeeds(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.recovery.LOOK_SECONDS", 0.005)
    adapter = Forgetful(lost=2, failures=1)
    adapter.recover_every = timedelta(milliseconds=20)
    adapter.says_what_is_left = False
    async with keeping(bus, adapter):
        await wait_until(lambda: len(adapter.asked) >= 3, "looks that fail and succeed")
    assert [round(back / timedelta(days=1)) for back in adapter.asked[:3]] == [30, 30, 1]


async def test_a_thousand_dropped_hooks_are_recovered_each_event_exactly_once() -> None:
    async with FakeGitHub() as github, EventBus.open("memory://") as bus:
        registry = Registry(bus, Metrics(), serve=False)
        config = GitHub.manifest.config.model_validate(github.app_settings())
        adapter = GitHub()
        registry.register(Account("github", adapter, config))
        await registry.start()
        await bus.declare("witness", ("github.>",))
        async with serving(build_app(Runtime(Settings(), bus, registry, Metrics())), "127.0.0.1", 0) as port:
            dropped = datetime.now(UTC) - timedelta(hours=1)
            for number in range(1000):
                github.record_delivery(f"guid-{number}", 502, at=dropped, payload=github.push())
            github.hook_url = f"http://127.0.0.1:{port}/api/v1/webhooks/github"
            left = 1000
            while left:
                left = (await adapter.recover(dropped - timedelta(minutes=1), patiently=True)).left
            # What is noted to have reached us is left alone; and what is asked for once more is a duplicate to the bus.
            await adapter.recover(dropped - timedelta(minutes=1))
        await registry.stop()
        seen: list[str] = []
        await bus.subscribe("github.>", lambda event: seen.append(event.data.delivery), group="witness")
        await bus.run_until_idle(timeout=timedelta(minutes=5))
    assert sorted(seen) == sorted(f"guid-{number}" for number in range(1000))


async def test_after_a_failure_it_looks_far_back_again(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it failed: credentials that expired over a long weekend lose nothing."""
    monkeypatch.setattr("service.recovery.LOOK_SECONDS", 0.005)
    adapter = Forgetful(lost=9)
    adapter.recover_every = timedelta(milliseconds=20)
    adapter.says_what_is_left = False
    async with keeping(bus, adapter):
        await wait_until(lambda: len(adapter.asked) >= 2, "looks that succeed")
        before = len(adapter.asked)
        adapter.failures = before + 1
        await wait_until(lambda: len(adapter.asked) >= before + 3, "one that fails, and the next")
    far = [round(back / timedelta(days=1)) for back in adapter.asked]
    assert far[before + 1] == 30 or far[before + 2] == 30

"""A worker with PagerDuty: the lanes of the bus put a failure and its success in order, whatever happens to one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from eventbus import EventBus
from eventbus.topics import MigrationCompleted, MigrationFailed
from integrations.pagerduty import PagerDuty
from integrations.pagerduty.config import PagerDutyConfig
from integrations.pagerduty.fake import FakePagerDuty
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry

FAILED = MigrationFailed(migration="add_email", environment="production", error="lock timeout")
COMPLETED = MigrationCompleted(migration="add_email", environment="production")
KEY = "migration-add_email-production"


@pytest.fixture
async def bus(fake: FakePagerDuty) -> AsyncIterator[EventBus]:
    async with EventBus.open("memory://") as bus:
        registry = Registry(bus, Metrics(), serve=True)
        config = PagerDutyConfig.model_validate(fake.settings())
        registry.register(Account("pagerduty", PagerDuty(), config, timeout=timedelta(seconds=5)))
        await registry.start()
        yield bus
        await registry.stop()


async def test_a_success_waits_for_the_failure_whose_outcome_is_unknown(fake: FakePagerDuty, bus: EventBus) -> None:
    """The trigger was carried out and its answer lost. Were the resolve sent before the repeat, the repeat would open
    a second incident that nothing resolves."""
    fake.swallow("after")
    await bus.publish(FAILED)
    await bus.publish(COMPLETED)
    await bus.run_until_idle()
    assert [entry["event_action"] for entry in fake.alerts[0].log] == ["trigger", "trigger", "resolve"]
    assert fake.effects() == [f"alert {KEY} opened", f"alert {KEY} resolved"]


async def test_a_replay_of_what_is_done_sends_nothing(fake: FakePagerDuty, bus: EventBus) -> None:
    await bus.publish(FAILED)
    await bus.publish(COMPLETED)
    await bus.run_until_idle()
    assert len(fake.requests) == 2
    replayed = await bus.replay("pagerduty", since=datetime.now(UTC) - timedelta(hours=1))
    await bus.run_until_idle()
    assert replayed.copied == 2
    assert (len(fake.requests), fake.open_alerts()) == (2, [])

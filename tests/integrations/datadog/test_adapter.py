"""Datadog in front of its stand-ins, on both ways: what exists there afterwards, and what an answer means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import MigrationCompleted, MigrationFailed
from integrations.base import Artifact, Delivery, Examined, Notification, Outcome
from integrations.datadog import Datadog
from integrations.datadog.fake import FakeDatadog
from integrations.datadog.fake_agent import FakeAgent
from integrations.errors import AuthFailed, NotReady, RateLimited, Rejected, ServiceFault
from integrations.testing.rig import connected

DELIVERY = Delivery("key-1", thread="migration:add_email")


@pytest.fixture
async def fake() -> AsyncIterator[FakeDatadog]:
    async with FakeDatadog() as fake:
        yield fake


@pytest.fixture
async def datadog(fake: FakeDatadog) -> AsyncIterator[Datadog]:
    async with connected(Datadog, fake) as adapter:
        assert isinstance(adapter, Datadog)
        yield adapter


def completed(**changes: Any) -> Event[Any]:
    return catalog.event(
        MigrationCompleted(migration="add_email", environment="production", duration_ms=2310), **changes
    )


def failed() -> Event[Any]:
    return catalog.event(MigrationFailed(migration="add_email", environment="production", error="lock timeout"))


# -- an Agent ----------------------------------------------------------------------------------------------------------


async def test_a_completed_migration_reaches_the_agent_in_one_datagram() -> None:
    async with FakeAgent() as agent, connected(Datadog, agent) as adapter:
        result = await adapter.handle_event(completed(), DELIVERY)
        assert agent.effects() == [
            "confiture.migrations.completed:1|c|#env:production,migration:add_email",
            "confiture.migrations.duration:2310|h|#env:production",
        ]
        assert len(agent.requests) == 1
    assert result.outcome is Outcome.DELIVERED
    assert result.detail.endswith("sent to the Agent, which answers nothing")


async def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    async with FakeAgent(path=tmp_path / "dsd.socket") as agent, connected(Datadog, agent) as adapter:
        await adapter.send_notification(Notification(message="x" * 6000), DELIVERY)
        (line,) = agent.effects()
    assert "x" * 3900 in line


async def test_a_migration_of_last_week_is_counted_by_the_agent_when_it_comes() -> None:
    async with FakeAgent() as agent, connected(Datadog, agent) as adapter:
        await adapter.handle_event(completed(time=datetime.now(UTC) - timedelta(days=7)), DELIVERY)
        assert len(agent.effects()) == 2


async def test_the_doctor_says_that_an_agent_answers_nothing_and_whether_it_is_there() -> None:
    async with FakeAgent() as agent, connected(Datadog, agent) as adapter:
        assert isinstance(adapter, Examined)
        assert [(one.about, one.level) for one in await adapter.examine()] == [("Agent", "warn")]
        agent.go_down()
        assert [(one.about, one.level) for one in await adapter.examine()] == [("Agent", "fail")]


# -- the API -----------------------------------------------------------------------------------------------------------


async def test_a_failed_migration_is_a_point_at_its_time(fake: FakeDatadog, datadog: Datadog) -> None:
    event = failed()
    await datadog.handle_event(event, DELIVERY)
    at = int(event.time.timestamp())
    assert fake.effects() == [f"confiture.migrations.failed{{env:production,migration:add_email}} 1 at {at}"]


async def test_metrics_that_are_sent_again_replace_themselves(fake: FakeDatadog, datadog: Datadog) -> None:
    event = completed()
    await datadog.handle_event(event, DELIVERY)
    once = fake.effects()
    await datadog.handle_event(event, DELIVERY)
    assert fake.effects() == once


async def test_a_notification_is_an_event_with_its_address(fake: FakeDatadog, datadog: Datadog) -> None:
    told = Notification(
        title="Migration failed",
        message="lock timeout",
        severity="error",
        fields={"Environment": "production"},
        url="https://ci.example.com/7",
    )
    result = await datadog.send_notification(told, DELIVERY)
    (event,) = fake.events
    assert (event["title"], event["alert_type"]) == ("Migration failed", "error")
    assert event["text"] == "lock timeout\nEnvironment: production\nhttps://ci.example.com/7"
    assert event["aggregation_key"] == "migration:add_email"
    assert event["tags"] == ["severity:error", "env:production"]
    assert result.url is not None
    assert result.url.startswith("https://app.datadoghq.com/event/event?id=")


async def test_what_is_counted_and_shown_is_two_requests_and_the_event_is_the_last(fake: FakeDatadog) -> None:
    settings = fake.settings() | {"events": ["migration.failed"]}
    async with connected(Datadog, fake, settings) as adapter:
        await adapter.handle_event(failed(), DELIVERY)
        assert [one.path for one in fake.requests] == ["/api/v2/series", "/api/v1/events"]
        shown = adapter.preview(failed(), DELIVERY)
        assert [one.request.rpartition("/")[2] for one in shown] == ["series", "events"]


async def test_an_event_that_failed_is_shown_once_and_its_metric_is_not_doubled(fake: FakeDatadog) -> None:
    settings, event = fake.settings() | {"events": ["migration.failed"]}, failed()
    async with connected(Datadog, fake, settings) as adapter:
        first = fake.hold()  # the metric waits for its answer; what fails next is the event
        working = asyncio.create_task(adapter.handle_event(event, DELIVERY))
        await first.committed.wait()
        fake.fail(500)
        first.released.set()
        with pytest.raises(ServiceFault):
            await working
        await adapter.handle_event(event, DELIVERY)
    assert len(fake.effects()) == 2


async def test_a_migration_of_yesterday_is_refused_and_not_lost_in_silence(fake: FakeDatadog, datadog: Datadog) -> None:
    with pytest.raises(Rejected, match="older than 1 hour"):
        await datadog.handle_event(completed(time=datetime.now(UTC) - timedelta(days=1)), DELIVERY)
    assert fake.requests == []


async def test_an_event_without_its_number_is_skipped_and_says_what_is_missing(datadog: Datadog) -> None:
    event = catalog.event("operation.ended", {"metrics": {"name": "parse", "duration": "long"}})
    result = await datadog.handle_event(event, DELIVERY)
    assert result.outcome is Outcome.SKIPPED
    assert "pg_migration.operation.duration: no number at data.metrics.duration" in result.detail


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (408, NotReady),
        (429, RateLimited),
        (500, ServiceFault),
        (400, Rejected),
        (413, Rejected),
        (403, AuthFailed),
    ],
)
async def test_an_answer_means_what_datadog_says(
    fake: FakeDatadog, datadog: Datadog, status: int, error: type[Exception]
) -> None:
    fake.fail(status)
    with pytest.raises(error):
        await datadog.handle_event(completed(), DELIVERY)


async def test_a_limit_names_its_end_in_a_header_of_its_own(fake: FakeDatadog, datadog: Datadog) -> None:
    fake.fail(429, headers={"X-RateLimit-Reset": "42"})
    with pytest.raises(RateLimited) as caught:
        await datadog.send_notification(Notification(message="m"), DELIVERY)
    assert caught.value.retry_after == timedelta(seconds=42)


async def test_a_key_of_another_site_is_named_as_the_likely_cause(fake: FakeDatadog, datadog: Datadog) -> None:
    fake.reject_credentials = True
    with pytest.raises(AuthFailed, match="an API key of this site"):
        await datadog.handle_event(completed(), DELIVERY)
    assert [(one.about, one.level) for one in await datadog.examine()] == [("API", "fail")]


async def test_the_doctor_looks_at_key_and_clock(datadog: Datadog) -> None:
    assert [(one.about, one.level) for one in await datadog.examine()] == [("API", "ok"), ("clock", "ok")]


async def test_it_makes_no_artifacts(datadog: Datadog) -> None:
    with pytest.raises(Rejected):
        await datadog.create_artifact(Artifact(type="ticket", content={}), DELIVERY)

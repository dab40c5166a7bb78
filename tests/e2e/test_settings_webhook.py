"""What a file of settings makes of events at receivers of webhooks: which, in which form, signed, tried how often."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_core import from_json

from eventbus import Event, catalog
from integrations.pagerduty.fake import FakePagerDuty
from integrations.slack.fake import FakeSlack
from integrations.webhook.fake import FakeReceiver
from tests.e2e.configured import configured, given_up, happen

SECRET = "any text that both sides know"

ENDPOINT = """
integrations:
  webhook:
    endpoints:
      - url: ${WEBHOOK_URL}
        events: [post_execute, on_error]
        secret: ${WEBHOOK_SECRET}
        timeout: 30
        retry:
          max_attempts: 3
          backoff: exponential
        format: plain
        allow_private: [127.0.0.1]
worker: {retry_base_seconds: 0.05, retry_max_seconds: 0.05}
"""


@pytest.fixture
async def receiver() -> AsyncIterator[FakeReceiver]:
    async with FakeReceiver("plain") as fake:
        fake.trusts = [SecretStr(SECRET)]
        yield fake


@pytest.fixture
def environ(receiver: FakeReceiver) -> dict[str, str]:
    return {"WEBHOOK_URL": f"{receiver.url}/hook", "WEBHOOK_SECRET": SECRET}


def completed(**more: Any) -> Event[Any]:
    data = {"migration": "add_user_email", "version": "005", "environment": "production", "duration_ms": 1834}
    return catalog.event("migration.completed", data | more, source="/confiture")


async def test_the_hook_phases_of_a_migration_are_posted_in_one_plain_form_under_one_plain_signature(
    receiver: FakeReceiver, environ: dict[str, str], tmp_path: Path
) -> None:
    event = completed()
    failed = catalog.event("migration.failed", {"migration": "add_user_email", "error": "lock timeout"})
    started = catalog.event("migration.started", {"migration": "add_user_email"})
    async with configured(tmp_path, ENDPOINT, **environ) as runtime:
        await happen(runtime, started, event, failed)
    first, second = receiver.requests
    assert from_json(first.body) == {
        "event": "migration.completed",
        "timestamp": event.time.isoformat().replace("+00:00", "Z"),
        "source": "/confiture",
        "data": {
            "migration": "add_user_email",
            "version": "005",
            "environment": "production",
            "pull_request": None,
            "duration_ms": 1834,
            "rows_affected": None,
            "pending": None,
        },
    }
    assert from_json(second.body)["event"] == "migration.failed"
    expected = hmac.new(SECRET.encode(), first.body, hashlib.sha256).hexdigest()
    assert first.headers["x-signature"] == f"sha256={expected}"
    assert first.headers["content-type"] == "application/json"


async def test_an_endpoint_is_tried_as_often_as_its_settings_say_and_the_event_is_kept(
    receiver: FakeReceiver, environ: dict[str, str], tmp_path: Path
) -> None:
    async with configured(tmp_path, ENDPOINT, **environ) as runtime:
        receiver.fail(500, times=2)
        await happen(runtime, completed())
        assert [request.status for request in receiver.requests] == [500, 500, 204]
        assert await given_up(runtime) == []
        receiver.requests.clear()
        receiver.fail(500, times=3)
        await happen(runtime, completed(migration="another"))
        assert [request.status for request in receiver.requests] == [500, 500, 500]
        assert len(await given_up(runtime)) == 1


async def test_a_dashboard_is_given_events_with_a_bearer_token(
    receiver: FakeReceiver, environ: dict[str, str], tmp_path: Path
) -> None:
    account = """
integrations:
  dashboard:
    adapter: webhook
    endpoints:
      - name: coordination
        url: ${DASHBOARD_URL}/hook
        topics: [coordination.status_exported]
        format: plain
        secret: ${WEBHOOK_SECRET}
        headers: {Authorization: "Bearer ${DASHBOARD_TOKEN}"}
        allow_private: [127.0.0.1]
"""
    environ |= {"DASHBOARD_URL": receiver.url, "DASHBOARD_TOKEN": "a-dashboard-token"}
    async with configured(tmp_path, account, **environ) as runtime:
        await happen(runtime, catalog.event("coordination.status_exported", {"active": 3, "conflicts": []}))
    (request,) = receiver.requests
    assert request.headers["authorization"] == "Bearer a-dashboard-token"
    assert from_json(request.body)["data"] == {"active": 3, "conflicts": []}


async def test_one_alert_reaches_slack_pagerduty_and_a_webhook_and_who_refuses_it_stops_no_other(
    receiver: FakeReceiver, environ: dict[str, str], tmp_path: Path
) -> None:
    settings = """
integrations:
  slack:
    bot_token: ${SLACK_BOT_TOKEN}
    base_url: ${SLACK_URL}/api
  pagerduty:
    routing_key: ${PAGERDUTY_ROUTING_KEY}
    base_url: ${PAGERDUTY_URL}
  webhook:
    endpoints:
      - name: monitoring
        url: ${WEBHOOK_URL}
        topics: [performance.threshold.exceeded]
        format: plain
        secret: ${WEBHOOK_SECRET}
        allow_private: [127.0.0.1]
routes:
  tell:
    topics: [performance.threshold.exceeded]
    to: slack
    severity: "{{ data.level }}"
    title: "Performance threshold exceeded: {{ data.metrics.name }}"
    text: "{{ data.type }} took {{ data.metrics.duration | duration }}"
  page:
    topics: [performance.threshold.exceeded]
    to: pagerduty
    severity: "{{ data.level }}"
    text: "Performance threshold exceeded: {{ data.metrics.name }}"
    dedup_key: "{{ data.type }}-{{ data.metrics.name }}"
"""
    data = {"type": "duration", "level": "error", "metrics": {"name": "parse", "duration": 9000}}
    event = catalog.event("performance.threshold.exceeded", data, source="/pg-migration")
    async with FakeSlack() as slack, FakePagerDuty() as pagerduty:
        environ |= {"SLACK_BOT_TOKEN": slack.token, "SLACK_URL": slack.url}
        environ |= {"PAGERDUTY_ROUTING_KEY": pagerduty.routing_key, "PAGERDUTY_URL": pagerduty.url}
        async with configured(tmp_path, settings, **environ) as runtime:
            slack.refuse("is_archived")
            await happen(runtime, event)
            assert await given_up(runtime) == ["slack"]
        # What Slack refused is told where people look.
        assert pagerduty.open_alerts() == ["duration-parse", "delivery-slack-production"]
    (received,) = receiver.received
    assert received.content == {
        "event": "performance.threshold.exceeded",
        "timestamp": event.time.isoformat().replace("+00:00", "Z"),
        "source": "/pg-migration",
        "data": data,
    }

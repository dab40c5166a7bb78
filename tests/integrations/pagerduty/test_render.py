"""The exact requests, and that every event fits what PagerDuty takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import MigrationCompleted, MigrationFailed
from integrations.base import Delivery, Earlier, Notification, Severity
from integrations.pagerduty.config import PagerDutyConfig, fingerprint
from integrations.pagerduty.fake import check_alert, check_change
from integrations.pagerduty.render import CHANGES, MAX_BODY_BYTES, Call, Skipped, call_for

KEY = "e93facc04764012d7bfb002500d5d1a6"
AT = datetime(2026, 1, 12, 10, 30, tzinfo=UTC)


def config(**changes: Any) -> PagerDutyConfig:
    return PagerDutyConfig.model_validate({"routing_key": KEY, "environments": ["*"]} | changes)


def call(what: Event[Any] | Notification, earlier: Earlier | None = None, **changes: Any) -> Call:
    thread = what.key or "" if isinstance(what, Event) else "thread"
    found = call_for(what, Delivery("k", thread=thread, earlier=earlier), config(**changes), "pagerduty")
    assert isinstance(found, Call), found
    return found


def failed(**more: Any) -> Event[Any]:
    data = {"migration": "005_pay", "version": "20260112_1030", "environment": "production", "error": "lock timeout"}
    return catalog.event(MigrationFailed.model_validate(data | more), id="e-1", time=AT, source="/confiture")


def test_the_alert_of_a_failed_migration() -> None:
    event = failed(error_type="TimeoutError", database_url="postgres://u:canary@db:5432/app", tables=["users"])
    found = call(
        event,
        client="Confiture",
        client_url="https://github.com/evoludigit/confiture",
        runbooks={"production": {"TimeoutError": "https://wiki.example.com/slow"}},
        links=[
            {"href": "https://dashboard.example.com", "text": "Dashboard", "environments": ["production"]},
            {"href": "https://staging.example.com", "environments": ["staging"]},
        ],
        images=[{"src": "https://dashboard.example.com/graph.png", "alt": "locks"}],
    )
    assert json.loads(found.content()) == {
        "routing_key": KEY,
        "event_action": "trigger",
        "dedup_key": "migration-005_pay-production",
        "payload": {
            "summary": "[PRODUCTION] Migration 005_pay failed: lock timeout",
            "source": "/confiture",
            "timestamp": "2026-01-12T10:30:00+00:00",
            "severity": "critical",
            "component": "005_pay",
            "group": "production",
            "class": "TimeoutError",
            "custom_details": {
                "migration": "005_pay",
                "version": "20260112_1030",
                "environment": "production",
                "error": "lock timeout",
                "error_type": "TimeoutError",
                "database_url": "db:5432",
                "tables": ["users"],
                "topic": "migration.failed",
                "event_id": "e-1",
            },
        },
        "client": "Confiture",
        "client_url": "https://github.com/evoludigit/confiture",
        "links": [
            {"href": "https://wiki.example.com/slow", "text": "Runbook"},
            {"href": "https://dashboard.example.com", "text": "Dashboard"},
        ],
        "images": [{"src": "https://dashboard.example.com/graph.png", "alt": "locks"}],
    }


def test_the_resolve_names_the_alert_and_says_what_happened() -> None:
    event = catalog.event(MigrationCompleted(migration="005_pay", environment="production"), id="e-2", time=AT)
    opened = Earlier(state={"migration-005_pay-production": fingerprint(config().routing_key)})
    found = call(event, opened)
    body = json.loads(found.content())
    assert (body["event_action"], body["dedup_key"]) == ("resolve", "migration-005_pay-production")
    assert body["payload"]["severity"] == "info"
    assert body["payload"]["summary"] == "[PRODUCTION] Migration 005_pay completed"
    assert (found.state, found.ends) == ({}, True)


def test_a_change_event_has_no_severity_and_no_dedup_key() -> None:
    event = catalog.event(MigrationCompleted(migration="005_pay", environment="production"), id="e-2", time=AT)
    found = call(event)
    body = json.loads(found.content())
    assert found.path == CHANGES
    assert set(body) == {"routing_key", "payload"}
    assert set(body["payload"]) == {"summary", "source", "timestamp", "custom_details"}


def test_a_change_leaves_the_alerts_of_its_thread_known() -> None:
    event = catalog.event("migration.rolled_back", {"migration": "005_pay"}, key="migration:005_pay")
    opened = Earlier(state={"migration-005_pay-production": "fp"})
    found = call(event, opened)
    assert (found.state, found.ends) == (opened.state, False)


@pytest.mark.parametrize(
    ("word", "severity"),
    [("critical", "critical"), ("HIGH", "error"), ("medium", "warning"), ("low", "info"), ("odd", "critical")],
)
def test_the_words_of_an_event_become_those_of_the_api(word: str, severity: str) -> None:
    assert json.loads(call(failed(severity=word)).content())["payload"]["severity"] == severity


def test_the_pull_request_is_linked_and_what_is_no_address_is_not() -> None:
    page = "https://github.com/acme/api/pull/7"
    assert call(failed(pull_request=page)).body["links"] == [{"href": page, "text": "Pull request"}]
    for odd in ("javascript:alert(1)", "https://a b", "https://user:pw@host/", "https://" + "x" * 3000):
        assert "links" not in call(failed(pull_request=odd)).body


def test_a_notification_finds_its_runbook_by_its_fields() -> None:
    note = Notification(
        message="down",
        severity=Severity.ERROR,
        url="https://example.com/status",
        fields={"Environment": "Production", "Error type": "TimeoutError"},
    )
    found = call(note, runbooks={"production": {"TimeoutError": "https://wiki.example.com/slow"}})
    assert found.body["links"] == [
        {"href": "https://wiki.example.com/slow", "text": "Runbook"},
        {"href": "https://example.com/status", "text": "Read more"},
    ]


def test_only_the_newest_alerts_of_a_thread_are_remembered() -> None:
    opened = Earlier(state={f"key-{number}": "fp" for number in range(50)})
    found = call(failed(), opened)
    assert len(found.state) == 20
    assert list(found.state)[-2:] == ["key-49", "migration-005_pay-production"]


def test_an_error_is_cut_at_a_thousand_characters() -> None:
    payload = json.loads(call(failed(error="e" * 5000)).content())["payload"]
    assert (len(payload["custom_details"]["error"]), len(payload["summary"])) == (1000, 1024)


def test_the_integration_key_is_in_no_repr() -> None:
    assert KEY not in repr(call(failed()))


texts = st.text(max_size=60) | st.sampled_from(["\x00", "\ud800", "é" * 3000, '"\\' * 3000, "\U0001f4a5" * 3000])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
topics = st.sampled_from(["deploy.failed", "x.degraded", "backup.failed", "x.rolled_back"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(topics, st.dictionaries(texts | st.sampled_from(["error", "environment", "url"]), json_values, max_size=8))
def test_every_event_fits_what_pagerduty_takes(topic: str, data: dict[str, Any]) -> None:
    event = catalog.event("x.example", {}).model_copy(update={"topic": topic, "data": data})
    found = call(event, actions={"*.rolled_back": "change"})
    content = found.content()
    check = check_change if found.path == CHANGES else check_alert
    assert check(json.loads(content)) == []
    assert len(content) <= MAX_BODY_BYTES


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=3000), st.text(max_size=3000), st.dictionaries(texts, texts, max_size=8))
def test_every_notification_fits_what_pagerduty_takes(message: str, title: str, fields: dict[str, str]) -> None:
    note = Notification.model_construct(
        type="trigger",
        target="",
        message=message,
        title=title,
        severity=Severity.ERROR,
        fields=fields,
        url=None,
        actions=(),
    )
    body = json.loads(call(note).content())
    assert check_alert(body) == []


def test_the_largest_event_is_under_512_kilobytes() -> None:
    data = {f"{number:03}" + "\U0001f4a5" * 200: "\U0001f4a5" * 5000 for number in range(200)}
    found = call(catalog.event("task.failed", {"task_id": "t", "error": "\U0001f4a5" * 90_000, **data}))
    assert 300_000 < len(found.content()) <= MAX_BODY_BYTES
    assert check_alert(json.loads(found.content())) == []


def test_an_event_that_asks_nothing_is_skipped_with_the_reason() -> None:
    found = call_for(catalog.event("task.created", {"task_id": "t"}), Delivery("k"), config(), "pagerduty")
    assert found == Skipped("task.created asks nothing of PagerDuty")

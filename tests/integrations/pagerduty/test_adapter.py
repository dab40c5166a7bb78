"""PagerDuty in front of its stand-in: what is opened, what is resolved, and what an answer means."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import structlog.testing

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import (
    DeliveryDeadLettered,
    IntegrationDegraded,
    IntegrationRecovered,
    MigrationCompleted,
    MigrationFailed,
    MigrationRolledBack,
    MigrationStarted,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
    VmFailed,
    VmStarted,
)
from integrations.base import Delivery, DeliveryResult, Earlier, Notification, Outcome, Severity
from integrations.errors import AuthFailed, IntegrationError, NotReady, OutcomeUnknown, RateLimited, Rejected
from integrations.pagerduty import PagerDuty
from integrations.pagerduty.config import fingerprint
from integrations.pagerduty.fake import FakePagerDuty

Connect = Callable[..., Awaitable[PagerDuty]]
Bring = Callable[..., Awaitable[DeliveryResult]]

KEY = "migration-add_email-production"


def failed(environment: str | None = "production", **more: Any) -> Event[Any]:
    data = {"migration": "add_email", "environment": environment, "error": "lock timeout"} | more
    return catalog.event(MigrationFailed.model_validate(data))


def completed(environment: str | None = "production") -> Event[Any]:
    return catalog.event(MigrationCompleted(migration="add_email", environment=environment))


# -- opening and resolving --------------------------------------------------------------------------------------------


async def test_a_failed_migration_opens_an_alert(fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring) -> None:
    result = await bring(pagerduty, failed())
    assert (result.outcome, result.reference) == (Outcome.DELIVERED, KEY)
    assert result.detail == f"PagerDuty accepted: trigger {KEY}"
    (alert,) = fake.alerts
    assert (alert.dedup_key, alert.status, alert.routing_key) == (KEY, "triggered", fake.routing_key)
    assert alert.log[0]["payload"]["summary"] == "[PRODUCTION] Migration add_email failed: lock timeout"
    assert alert.log[0]["payload"]["severity"] == "critical"


async def test_success_resolves_what_was_opened_and_only_once(
    fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring
) -> None:
    await bring(pagerduty, failed())
    result = await bring(pagerduty, completed())
    assert (result.reference, fake.alerts[0].status) == (KEY, "resolved")
    again = await bring(pagerduty, completed())
    assert again.detail.startswith("PagerDuty accepted: tell of a change"), "nothing is open any more"
    assert fake.dropped == []


async def test_success_with_nothing_open_pages_nobody(fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring) -> None:
    result = await bring(pagerduty, catalog.event(TaskCompleted(task_id="t-1")))
    assert (result.outcome, result.detail) == (Outcome.SKIPPED, "no alert task-t-1-production of ours is open")
    await bring(pagerduty, completed())
    assert (len(fake.requests), fake.alerts, len(fake.changes)) == (1, [], 1)


async def test_a_second_failure_adds_to_the_open_alert(fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring) -> None:
    for error in ("lock timeout", "disk full"):
        await bring(pagerduty, failed(error=error))
    assert [len(alert.log) for alert in fake.alerts] == [2]
    await bring(pagerduty, completed())
    assert fake.open_alerts() == []


async def test_a_failure_after_the_resolve_is_a_new_incident(
    fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring
) -> None:
    for event in (failed(), completed(), failed()):
        await bring(pagerduty, event)
    assert [alert.status for alert in fake.alerts] == ["resolved", "triggered"]


async def test_a_late_repeat_of_a_trigger_does_not_reopen_what_was_resolved(
    fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring
) -> None:
    """At PagerDuty the same key after a resolve opens a new incident. The thread has ended, so nothing there would
    stop it; the ledger does: the delivery's key is done."""
    event = failed()
    await bring(pagerduty, event)
    await bring(pagerduty, completed())
    result = await bring(pagerduty, event)
    assert result.outcome is Outcome.DUPLICATE
    assert (fake.open_alerts(), len(fake.requests)) == ([], 2)


async def test_a_trigger_whose_answer_was_lost_is_repeated_into_the_same_alert(
    fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring
) -> None:
    event = failed()
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await bring(pagerduty, event)
    await bring(pagerduty, event)
    await bring(pagerduty, completed())
    assert fake.effects() == [f"alert {KEY} opened", f"alert {KEY} resolved"]


async def test_a_resolve_whose_answer_was_lost_is_repeated_and_ends_the_thread(
    fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring
) -> None:
    event = completed()
    await bring(pagerduty, failed())
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await bring(pagerduty, event)
    result = await bring(pagerduty, event)
    assert (result.detail, len(fake.alerts)) == (f"PagerDuty accepted: resolve {KEY}", 1)
    assert len(fake.dropped) == 1, "the repeat found nothing open, which changes nothing"


async def test_success_in_staging_leaves_the_alert_of_production_open(
    fake: FakePagerDuty, connect: Connect, bring: Bring
) -> None:
    """Both have the ordering key `migration:add_email`, and so one thread."""
    pagerduty = await connect(environments=["production", "staging"])
    await bring(pagerduty, failed("production"))
    await bring(pagerduty, failed("staging"))
    await bring(pagerduty, completed("staging"))
    assert fake.open_alerts() == [KEY]
    await bring(pagerduty, completed("production"))
    assert fake.open_alerts() == []


async def test_without_the_environment_in_the_key_any_success_resolves(
    fake: FakePagerDuty, connect: Connect, bring: Bring
) -> None:
    pagerduty = await connect(environments=["*"], dedup_key="without_environment")
    await bring(pagerduty, failed("production"))
    await bring(pagerduty, failed("staging"))
    assert fake.open_alerts() == ["migration-add_email"]
    await bring(pagerduty, completed("staging"))
    assert fake.open_alerts() == []


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("confiture-{migration}-{environment}", "confiture-add_email-production"),
        ("confiture-{migration}", "confiture-add_email"),
    ],
)
async def test_the_keys_of_confiture_are_templates(
    fake: FakePagerDuty, connect: Connect, bring: Bring, template: str, key: str
) -> None:
    pagerduty = await connect(dedup_key=template)
    await bring(pagerduty, failed())
    assert fake.open_alerts() == [key]
    await bring(pagerduty, completed())
    assert fake.open_alerts() == []


async def test_resolving_always_asks_pagerduty_without_knowing_what_is_open(
    fake: FakePagerDuty, connect: Connect, bring: Bring
) -> None:
    pagerduty = await connect(auto_resolve="always")
    await bring(pagerduty, completed())
    assert [event["event_action"] for event in fake.dropped] == ["resolve"]
    assert fake.effects() == []


async def test_resolving_never_leaves_it_to_people(fake: FakePagerDuty, connect: Connect, bring: Bring) -> None:
    pagerduty = await connect(auto_resolve="never")
    await bring(pagerduty, failed())
    result = await bring(pagerduty, catalog.event(TaskCompleted(task_id="t-1")))
    assert "auto_resolve is never" in result.detail
    await bring(pagerduty, completed())
    assert fake.open_alerts() == [KEY]


async def test_what_merely_starts_resolves_nothing_unless_the_settings_say_so(
    fake: FakePagerDuty, connect: Connect, bring: Bring
) -> None:
    started = catalog.event(MigrationStarted(migration="add_email", environment="production"))
    pagerduty = await connect()
    await bring(pagerduty, failed())
    assert (await bring(pagerduty, started)).detail == "migration.started asks nothing of PagerDuty"
    acknowledging = await connect(actions={"*.started": "acknowledge"})
    await bring(acknowledging, catalog.event(MigrationStarted(migration="add_email", environment="production")))
    assert fake.alerts[0].status == "acknowledged"
    await bring(acknowledging, completed())
    assert fake.alerts[0].status == "resolved", "an acknowledged alert is still known to be open"


async def test_only_what_we_opened_is_acknowledged(fake: FakePagerDuty, connect: Connect, bring: Bring) -> None:
    pagerduty = await connect(actions={"task.started": "acknowledge"})
    result = await bring(pagerduty, catalog.event(TaskStarted(task_id="t-1")))
    assert (result.outcome, fake.requests) == (Outcome.SKIPPED, [])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (VmFailed(vm_id="vm-1", error="no host"), VmStarted(vm_id="vm-1")),
        (TaskFailed(task_id="t-1", error="e"), TaskCompleted(task_id="t-1")),
        (IntegrationDegraded(integration="slack", detail="503"), IntegrationRecovered(integration="slack")),
    ],
)
async def test_what_failed_and_is_well_again_is_opened_and_resolved(
    fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring, wrong: Any, right: Any
) -> None:
    await bring(pagerduty, catalog.event(wrong))
    assert len(fake.open_alerts()) == 1
    await bring(pagerduty, catalog.event(right))
    assert (len(fake.alerts), fake.open_alerts()) == (1, [])


async def test_dead_letters_of_one_group_are_one_alert(fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring) -> None:
    for number in range(3):
        dead = DeliveryDeadLettered.example().model_copy(update={"event_id": f"e-{number}"})
        await bring(pagerduty, catalog.event(dead))
    (alert,) = fake.alerts
    assert (alert.dedup_key, len(alert.log)) == ("delivery-slack-production", 3)
    assert alert.log[0]["payload"]["severity"] == "warning"


async def test_that_pagerduty_itself_is_degraded_is_not_told_through_pagerduty(
    fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring
) -> None:
    result = await bring(pagerduty, catalog.event(IntegrationDegraded(integration="pagerduty", detail="503")))
    assert (result.detail, fake.requests) == ("it is about this integration itself", [])


@pytest.mark.parametrize("environment", ["staging", "development", "PRODUCTION-EU"])
async def test_what_happens_outside_production_pages_nobody(
    fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring, environment: str
) -> None:
    result = await bring(pagerduty, failed(environment))
    assert result.detail == f"{environment.lower()} is none of the environments: production, prod"
    assert fake.requests == []


async def test_a_completed_or_undone_migration_is_told_as_a_change(
    fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring
) -> None:
    await bring(pagerduty, completed())
    undone = MigrationRolledBack(migration="add_email", environment="production", reason="p95 doubled")
    result = await bring(pagerduty, catalog.event(undone))
    assert [change["payload"]["summary"] for change in fake.changes] == [
        "[PRODUCTION] Migration add_email completed",
        "[PRODUCTION] Migration add_email rolled back",
    ]
    assert (result.reference, fake.alerts) == (None, [])


async def test_a_deploy_is_told_as_a_change_and_a_failed_one_pages(
    fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring
) -> None:
    await bring(pagerduty, catalog.event("deploy.completed", {"name": "api", "version": "1.4"}, key="deploy:api"))
    await bring(pagerduty, catalog.event("deploy.failed", {"name": "api", "error": "no quorum"}, key="deploy:api"))
    assert fake.effects() == ["change: [PRODUCTION] Deploy api completed", "alert deploy-api-production opened"]


async def test_the_key_of_a_ruleset_is_sent_no_change_event(
    fake: FakePagerDuty, connect: Connect, bring: Bring
) -> None:
    fake.routing_key = "R" + "0" * 31
    pagerduty = await connect()
    assert "take no change events" in (await bring(pagerduty, completed())).detail
    await bring(pagerduty, failed())
    assert fake.open_alerts() == [KEY]


async def test_an_alert_is_resolved_with_the_integration_key_that_opened_it(
    fake: FakePagerDuty, connect: Connect, bring: Bring
) -> None:
    before = await connect()
    await bring(before, failed())
    after = await connect(routing_key=fake.other_routing_key, previous_routing_keys=[fake.routing_key])
    await bring(after, failed(error="again"))
    assert len(fake.alerts) == 1, "while it is open it grows by the key that opened it"
    await bring(after, completed())
    assert (fake.open_alerts(), fake.dropped) == ([], [])


async def test_an_alert_of_a_key_that_is_gone_is_left_to_a_person(
    fake: FakePagerDuty, connect: Connect, bring: Bring
) -> None:
    await bring(await connect(), failed())
    after = await connect(routing_key=fake.other_routing_key)
    with pytest.raises(Rejected, match="resolve it by hand, or put the old key into previous_routing_keys"):
        await bring(after, completed())
    assert fake.dropped == [], "PagerDuty would have answered 202 and dropped it"


async def test_a_route_chooses_the_dedup_key(fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring) -> None:
    await bring(pagerduty, failed(), thread="schema-changes")
    assert fake.open_alerts() == ["schema-changes"]
    await bring(pagerduty, completed(), thread="schema-changes")
    assert fake.open_alerts() == []


async def test_a_route_whose_key_holds_the_time_is_warned_of(pagerduty: PagerDuty, bring: Bring) -> None:
    event = failed()
    with structlog.testing.capture_logs() as lines:
        result = await bring(pagerduty, event, thread=f"confiture-add_email-{int(event.time.timestamp())}")
    assert "no later event will resolve its incident" in result.detail
    assert [line["log_level"] for line in lines if line["event"] == "dedup key"] == ["warning"]


# -- notifications ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", [Severity.CRITICAL, Severity.ERROR, Severity.WARNING])
async def test_a_message_opens_an_alert_of_its_severity(
    fake: FakePagerDuty, pagerduty: PagerDuty, severity: Severity
) -> None:
    note = Notification(message="replica lags", title="Database", severity=severity)
    result = await pagerduty.send_notification(note, Delivery("key-1"))
    assert fake.alerts[0].log[0]["payload"]["summary"] == "Database: replica lags"
    assert fake.alerts[0].log[0]["payload"]["severity"] == severity.value
    again = await pagerduty.send_notification(note, Delivery("key-1", attempt=2))
    assert (again.reference, len(fake.alerts)) == (result.reference, 1)
    await pagerduty.send_notification(note, Delivery("key-2"))
    assert len(fake.alerts) == 2


async def test_mere_information_is_told_as_a_change(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    await pagerduty.send_notification(Notification(message="release 1.4 is out"), Delivery("key-1"))
    assert fake.effects() == ["change: release 1.4 is out"]


async def test_notifications_of_one_thread_open_and_resolve_one_alert(
    fake: FakePagerDuty, pagerduty: PagerDuty, bring: Bring
) -> None:
    for number, kind in enumerate(("trigger", "acknowledge", "resolve")):
        await bring(pagerduty, Notification(type=kind, message="m"), key=f"k-{number}", thread="replica-1")
    assert fake.effects() == [f"alert replica-1 {state}" for state in ("opened", "acknowledged", "resolved")]


async def test_a_caller_that_names_the_alert_is_not_asked_who_opened_it(fake: FakePagerDuty, connect: Connect) -> None:
    pagerduty = await connect(auto_resolve="never")
    for number, kind in enumerate(("trigger", "acknowledge", "resolve")):
        note = Notification(type=kind, message="m", fields={"dedup_key": "test"})
        await pagerduty.send_notification(note, Delivery(f"k-{number}"))
    assert fake.effects() == [f"alert test {state}" for state in ("opened", "acknowledged", "resolved")]
    assert "dedup_key" not in fake.alerts[0].log[0]["payload"]["custom_details"]


@pytest.mark.parametrize("kind", ["acknowledge", "resolve"])
async def test_a_notification_that_is_about_an_alert_has_to_name_it(pagerduty: PagerDuty, kind: str) -> None:
    with pytest.raises(Rejected, match="needs a field dedup_key"):
        await pagerduty.send_notification(Notification(type=kind, message="m"), Delivery("key-1"))


async def test_a_notification_of_an_unknown_kind_or_to_another_target_is_refused(pagerduty: PagerDuty) -> None:
    with pytest.raises(Rejected, match="it sends: message, trigger, acknowledge, resolve, change"):
        await pagerduty.send_notification(Notification(type="sms", message="m"), Delivery("key-1"))
    with pytest.raises(Rejected, match="leave target empty"):
        await pagerduty.send_notification(Notification(message="m", target="#ops"), Delivery("key-1"))


# -- what an answer means ---------------------------------------------------------------------------------------------


async def test_a_wrong_integration_key_is_our_credentials_and_is_never_shown(
    fake: FakePagerDuty, pagerduty: PagerDuty
) -> None:
    fake.fail(400, body=json.dumps({"status": "invalid event", "errors": [f"Invalid routing_key {fake.routing_key}"]}))
    with pytest.raises(AuthFailed) as caught:
        await pagerduty.handle_event(failed(), Delivery("key-1"))
    assert "copy the Integration Key" in caught.value.detail
    assert fake.routing_key not in caught.value.detail


async def test_any_other_400_is_refused_for_good_with_pagerdutys_words(
    fake: FakePagerDuty, pagerduty: PagerDuty
) -> None:
    fake.fail(
        400, body='{"status":"invalid event","message":"Event object is invalid","errors":["\'payload\' is blank"]}'
    )
    with pytest.raises(Rejected, match="'payload' is blank"):
        await pagerduty.handle_event(failed(), Delivery("key-1"))


async def test_a_throttled_event_waits_half_a_minute_where_pagerduty_names_no_time(
    fake: FakePagerDuty, pagerduty: PagerDuty
) -> None:
    fake.limit = 0
    with pytest.raises(RateLimited, match="arriving too quickly") as caught:
        await pagerduty.handle_event(failed(), Delivery("key-1"))
    assert caught.value.retry_after == timedelta(seconds=30)


async def test_a_wrong_key_of_the_right_form_is_accepted_and_health_does_not_vouch_for_it(
    fake: FakePagerDuty, connect: Connect
) -> None:
    pagerduty = await connect(routing_key="0" * 32)
    await pagerduty.handle_event(failed(), Delivery("key-1"))
    assert (len(fake.dropped), fake.alerts) == (1, [])
    health = await pagerduty.health()
    assert (health.state, "routing_key is not verified" in health.detail) == ("healthy", True)


# -- health -----------------------------------------------------------------------------------------------------------


async def test_health_without_a_token_says_what_it_does_not_know(fake: FakePagerDuty, connect: Connect) -> None:
    pagerduty = await connect(api_token=None, from_email=None, service=None)
    health = await pagerduty.health()
    assert (health.state, health.detail) == (
        "healthy",
        "the Events API answers; routing_key is not verified, there is no api_token",
    )
    assert [(one.method, one.path) for one in fake.requests] == [("HEAD", "/v2/enqueue")]


async def test_health_with_a_refused_token_is_unhealthy(fake: FakePagerDuty, connect: Connect) -> None:
    pagerduty = await connect(api_token="wrong")
    health = await pagerduty.health()
    assert (health.state, "answered 401" in health.detail) == ("unhealthy", True)
    assert fake.effects() == []


# -- preview and budgets ----------------------------------------------------------------------------------------------


async def test_a_preview_is_what_is_sent_without_the_integration_key(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    event, delivery = failed(), Delivery("key-1", thread="migration:add_email")
    (preview,) = pagerduty.preview(event, delivery)
    assert fake.requests == []
    await pagerduty.handle_event(event, delivery)
    assert (preview.doing, preview.request) == (f"trigger {KEY}", f"POST {fake.url}/v2/enqueue")
    assert json.loads(preview.body) == json.loads(fake.requests[0].body) | {"routing_key": "[hidden]"}


async def test_a_preview_of_a_resolve_knows_what_is_open(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    event = catalog.event(TaskCompleted(task_id="t-1"))
    assert pagerduty.preview(event, Delivery("k")) == ()
    state = {"task-t-1-production": fingerprint(pagerduty.config.routing_key)}
    (preview,) = pagerduty.preview(event, Delivery("k", earlier=Earlier(state=state)))
    assert preview.doing == "resolve task-t-1-production"


async def test_a_budget_counts_for_each_integration_key_and_not_for_what_is_skipped(
    fake: FakePagerDuty, connect: Connect
) -> None:
    one, same, other = await connect(), await connect(), await connect(routing_key=fake.other_routing_key)
    delivery = Delivery("k")
    assert one.places(failed(), delivery) == same.places(failed(), delivery) != other.places(failed(), delivery)
    assert one.places(failed("staging"), delivery) == ()
    assert fake.routing_key not in str(one.places(failed(), delivery))


def test_a_minute_of_the_budget_is_within_the_limit_of_the_stand_in(fake: FakePagerDuty) -> None:
    (budget,) = PagerDuty.manifest.budgets
    in_a_minute = budget.burst + timedelta(minutes=1) // budget.spacing
    assert 100 < in_a_minute < fake.limit


async def test_an_error_of_ours_is_told_before_anything_leaves(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    fake.go_down(408)
    with pytest.raises(NotReady):
        await pagerduty.handle_event(failed(), Delivery("key-1"))
    fake.come_back()
    with pytest.raises(IntegrationError):
        await pagerduty.send_notification(Notification(type="sms", message="m"), Delivery("key-1"))
    assert len(fake.requests) == 1

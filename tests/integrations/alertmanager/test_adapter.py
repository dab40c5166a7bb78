"""Alertmanager in front of its stand-in: what fires, what is resolved, and what an answer means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import IntegrationDegraded, MigrationCompleted, MigrationFailed, TaskCompleted
from integrations.alertmanager import Alertmanager
from integrations.alertmanager.fake import FakeAlertmanager
from integrations.alertmanager.render import fingerprint
from integrations.base import Artifact, Delivery, DeliveryResult, Notification, Outcome, Severity
from integrations.errors import AuthFailed, OutcomeUnknown, Rejected

Connect = Callable[..., Awaitable[Alertmanager]]
Bring = Callable[..., Awaitable[DeliveryResult]]

PRODUCTION = {
    "alertname": "MigrationFailed",
    "severity": "error",
    "environment": "production",
    "subject": "migration:add_email",
    "sent_by": "eventbus",
}


def failed(environment: str | None = "production", **more: Any) -> Event[Any]:
    data = {"migration": "add_email", "environment": environment, "error": "lock timeout"} | more
    return catalog.event(MigrationFailed.model_validate(data))


def completed(environment: str | None = "production") -> Event[Any]:
    return catalog.event(MigrationCompleted(migration="add_email", environment=environment))


# -- firing and resolving ----------------------------------------------------------------------------------------------


async def test_a_failed_migration_fires(fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring) -> None:
    event = failed(pull_request="https://github.com/acme/api/pull/7")
    result = await bring(alertmanager, event)
    (alert,) = fake.alerts.values()
    assert alert.labels == PRODUCTION
    assert alert.annotations == {"summary": "Migration add_email failed", "description": "lock timeout"}
    assert abs(alert.starts - event.time) < timedelta(milliseconds=1)
    assert alert.url == "https://github.com/acme/api/pull/7"
    assert (result.outcome, result.reference) == (Outcome.DELIVERED, fingerprint(PRODUCTION))
    assert result.detail == "fire MigrationFailed"


async def test_it_lasts_as_long_as_the_settings_say_and_not_five_minutes(
    fake: FakeAlertmanager, connect: Connect, bring: Bring
) -> None:
    await bring(await connect(lasts=7200), failed())
    (alert,) = fake.alerts.values()
    assert not alert.timeout
    assert timedelta(minutes=119) < alert.ends - datetime.now(UTC) <= timedelta(minutes=120)


async def test_an_event_that_comes_late_fires_all_the_same(
    fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring
) -> None:
    late = catalog.event(failed().data, time=datetime.now(UTC) - timedelta(days=1))
    await bring(alertmanager, late)
    assert [alert.is_firing() for alert in fake.alerts.values()] == [True]


async def test_an_event_of_a_clock_that_is_ahead_is_no_bad_request(
    fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring
) -> None:
    ahead = catalog.event(failed().data, time=datetime.now(UTC) + timedelta(days=1))
    await bring(alertmanager, ahead)
    await bring(alertmanager, completed())
    assert [alert.is_firing() for alert in fake.alerts.values()] == [False]


async def test_success_resolves_what_fires_and_only_once(
    fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring
) -> None:
    await bring(alertmanager, failed())
    result = await bring(alertmanager, completed())
    assert (result.detail, result.ends) == ("resolve MigrationFailed", True)
    assert [alert.is_firing() for alert in fake.alerts.values()] == [False]
    again = await bring(alertmanager, completed())
    assert (again.outcome, again.detail) == (Outcome.SKIPPED, "no alert of ours about it is firing")
    assert len(fake.requests) == 2


async def test_a_second_failure_is_the_same_alert_from_the_same_start(
    fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring
) -> None:
    await bring(alertmanager, failed())
    await bring(alertmanager, failed(error="disk full"))
    first, second = fake.posts
    assert (first["labels"], first["startsAt"]) == (second["labels"], second["startsAt"])
    assert [alert.annotations["description"] for alert in fake.alerts.values()] == ["disk full"]


async def test_when_its_labels_change_the_old_alert_is_resolved_with_the_same_request(
    fake: FakeAlertmanager, connect: Connect, bring: Bring
) -> None:
    alertmanager = await connect(labels={"error_type": "{error_type}"})
    await bring(alertmanager, failed(error_type="Timeout"))
    await bring(alertmanager, failed(error_type="DiskFull"))
    assert [(alert.labels["error_type"], alert.is_firing()) for alert in fake.alerts.values()] == [
        ("Timeout", False),
        ("DiskFull", True),
    ]
    assert len(fake.requests) == 2
    await bring(alertmanager, completed())
    assert not any(alert.is_firing() for alert in fake.alerts.values())


async def test_success_in_staging_leaves_the_alert_of_production_firing(
    fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring
) -> None:
    """Both have the ordering key `migration:add_email`, and so one thread."""
    await bring(alertmanager, failed("production"))
    await bring(alertmanager, failed("staging"))
    await bring(alertmanager, completed("staging"))
    assert [alert.labels["environment"] for alert in fake.alerts.values() if alert.is_firing()] == ["production"]
    await bring(alertmanager, completed("production"))
    assert not any(alert.is_firing() for alert in fake.alerts.values())


async def test_success_with_nothing_firing_asks_nothing(
    fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring
) -> None:
    result = await bring(alertmanager, catalog.event(TaskCompleted(task_id="t-1")))
    assert (result.outcome, fake.requests) == (Outcome.SKIPPED, [])
    assert alertmanager.preview(completed(), Delivery("k")) == ()


async def test_a_repeat_whose_answer_was_lost_is_the_same_alert(
    fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring
) -> None:
    event = failed()
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await bring(alertmanager, event)
    await bring(alertmanager, event)
    assert len(fake.alerts) == 1


async def test_which_topics_fire_and_resolve_is_a_setting(
    fake: FakeAlertmanager, connect: Connect, bring: Bring
) -> None:
    alertmanager = await connect(fires=["shop.closed"], resolves=["shop.opened"], severities={"shop.*": "warning"})
    assert (await bring(alertmanager, failed())).detail == "migration.failed asks nothing of Alertmanager"
    await bring(alertmanager, catalog.event("shop.closed", {"name": "north"}, key="shop:north"))
    assert [alert.labels["severity"] for alert in fake.alerts.values()] == ["warning"]
    await bring(alertmanager, catalog.event("shop.opened", {"name": "north"}, key="shop:north"))
    assert not any(alert.is_firing() for alert in fake.alerts.values())


async def test_an_event_may_say_how_severe_it_is(
    fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring
) -> None:
    await bring(alertmanager, catalog.event("deploy.failed", {"name": "api", "severity": "fatal"}, key="deploy:api"))
    assert [alert.labels["severity"] for alert in fake.alerts.values()] == ["critical"]


async def test_that_alertmanager_itself_is_degraded_is_not_told_through_it(
    fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring
) -> None:
    result = await bring(alertmanager, catalog.event(IntegrationDegraded(integration="alertmanager", detail="503")))
    assert (result.detail, fake.requests) == ("it is about this integration itself", [])


# -- notifications -----------------------------------------------------------------------------------------------------


async def test_a_notification_fires_and_a_resolve_of_its_thread_ends_it(
    fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring
) -> None:
    told = Notification(
        title="DiskFull",
        message="4 % are left",
        severity=Severity.CRITICAL,
        fields={"Environment": "Production"},
        url="https://wiki.example.com/disk",
    )
    await bring(alertmanager, told, key="a", thread="disk:db-1")
    (alert,) = fake.alerts.values()
    assert (alert.labels["alertname"], alert.labels["severity"]) == ("DiskFull", "critical")
    assert (alert.labels["environment"], alert.labels["subject"]) == ("production", "disk:db-1")
    assert (alert.annotations["description"], alert.url) == ("4 % are left", "https://wiki.example.com/disk")
    over = Notification(type="resolve", message="space again", fields={"environment": "production"})
    await bring(alertmanager, over, key="b", thread="disk:db-1")
    assert [alert.is_firing() for alert in fake.alerts.values()] == [False]
    assert fake.posts[0]["startsAt"] == fake.posts[1]["startsAt"]


async def test_notifications_that_stand_alone_do_not_overwrite_each_other(
    fake: FakeAlertmanager, alertmanager: Alertmanager, bring: Bring
) -> None:
    for number in range(2):
        await bring(alertmanager, Notification(message=f"m{number}"), key=f"key-{number}")
    assert [alert.annotations["summary"] for alert in fake.alerts.values()] == ["m0", "m1"]


@pytest.mark.parametrize("told", [Notification(type="page", message="m"), Notification(message="m", target="#ops")])
async def test_what_alertmanager_can_not_do_is_rejected(alertmanager: Alertmanager, told: Notification) -> None:
    with pytest.raises(Rejected):
        await alertmanager.send_notification(told, Delivery("k"))


# -- labels ------------------------------------------------------------------------------------------------------------


async def test_labels_and_annotations_are_templates(fake: FakeAlertmanager, connect: Connect, bring: Bring) -> None:
    alertmanager = await connect(
        labels={
            "team": "database",
            "version": "v{version}",
            "subject": "{migration}",
            "environment": "",
            "gone": "{x}",
        },
        annotations={"runbook_url": "https://wiki.example.com/{error_type}", "description": ""},
    )
    await bring(alertmanager, failed(version="3", error_type="Timeout"))
    (alert,) = fake.alerts.values()
    assert alert.labels == {
        "alertname": "MigrationFailed",
        "severity": "error",
        "subject": "add_email",
        "team": "database",
        "version": "v3",
        "sent_by": "eventbus",
    }
    assert alert.annotations == {
        "summary": "Migration add_email failed",
        "runbook_url": "https://wiki.example.com/Timeout",
    }


# -- answers and logins ------------------------------------------------------------------------------------------------


async def test_a_wrong_login_is_told_apart_and_never_shown(fake: FakeAlertmanager, connect: Connect) -> None:
    for login in ({"token": "wrong-canary-0123456789"}, {"token": None, "username": "u", "password": "canary"}):
        alertmanager = await connect(**login)
        with pytest.raises(AuthFailed) as caught:
            await alertmanager.handle_event(failed(), Delivery("k"))
        assert "canary" not in repr(caught.value)
        assert (await alertmanager.health()).state == "unhealthy"
    assert fake.requests[-1].headers["authorization"] == "Basic dTpjYW5hcnk="


async def test_what_alertmanager_finds_wrong_stands_in_the_error(
    fake: FakeAlertmanager, alertmanager: Alertmanager
) -> None:
    fake.fail(400, body='"start time must be before end time"')
    with pytest.raises(Rejected, match="start time must be before end time"):
        await alertmanager.handle_event(failed(), Delivery("k"))


async def test_health_says_version_and_cluster(fake: FakeAlertmanager, alertmanager: Alertmanager) -> None:
    assert (await alertmanager.health()).detail == "version 0.34.0, cluster ready"
    fake.fail(200, body="<html>")
    assert "check url" in (await alertmanager.health()).detail


async def test_there_is_no_artifact(alertmanager: Alertmanager) -> None:
    with pytest.raises(Rejected):
        alertmanager.preview(Artifact(type="alert", content={}), Delivery("k"))

"""Incidents through the REST API: look-ups, assignment, repeats, and what its answers mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from integrations.base import Artifact, Delivery, Earlier, Outcome
from integrations.errors import AuthFailed, Misconfigured, NotReady, OutcomeUnknown, RateLimited, Rejected, ServiceFault
from integrations.pagerduty import PagerDuty
from integrations.pagerduty.fake import FakePagerDuty

Connect = Callable[..., Awaitable[PagerDuty]]
DELIVERY = Delivery("key-1")


def incident(**content: Any) -> Artifact:
    return Artifact(type="incident", content={"title": "Replica lags"} | content)


async def test_an_incident_is_made_on_a_service_found_by_its_name(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    result = await pagerduty.create_artifact(incident(service="API", details="by 40 s"), DELIVERY)
    (made,) = fake.incidents
    assert (made.title, made.service_id, made.urgency, made.details) == ("Replica lags", "PIJ90N7", "high", "by 40 s")
    assert (made.made_by, made.assignees) == ("ada@example.com", ())
    assert (result.outcome, result.reference, result.url) == (
        Outcome.DELIVERED,
        made.id,
        f"https://acme.pagerduty.com/incidents/{made.id}",
    )
    assert result.detail == f"incident #{made.number} on API"


async def test_without_a_service_the_one_of_the_settings_is_taken(fake: FakePagerDuty, connect: Connect) -> None:
    await (await connect()).create_artifact(incident(), DELIVERY)
    await (await connect(service=None, service_id="PIJ90N7")).create_artifact(incident(), Delivery("key-2"))
    assert [one.service_id for one in fake.incidents] == ["PF9KMXH", "PIJ90N7"]
    with pytest.raises(Rejected, match="names no service"):
        await (await connect(service=None)).create_artifact(incident(), DELIVERY)


async def test_an_incident_by_service_id_needs_no_look_up(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    await pagerduty.create_artifact(incident(service_id="PIJ90N7"), DELIVERY)
    assert [(one.method, one.path) for one in fake.requests] == [("POST", "/incidents")]


@pytest.mark.parametrize("place", [{"service": "Database Migrations"}, {"service_id": "PF9KMXH"}])
async def test_who_is_on_call_at_the_lowest_level_is_assigned(
    fake: FakePagerDuty, pagerduty: PagerDuty, place: dict[str, str]
) -> None:
    result = await pagerduty.create_artifact(incident(assign_on_call=True, **place), DELIVERY)
    assert fake.incidents[0].assignees == ("PXPGF42",)
    assert result.detail.endswith(", assigned to Ada, who is on call")


async def test_where_nobody_is_on_call_the_escalation_policy_decides(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    fake.on_call.clear()
    result = await pagerduty.create_artifact(incident(assign_on_call=True), DELIVERY)
    assert fake.incidents[0].assignees == ()
    assert "nobody is on call" in result.detail


@pytest.mark.parametrize(
    ("content", "urgency"),
    [
        ({}, "high"),
        ({"environment": "Production"}, "high"),
        ({"environment": "staging"}, "low"),
        ({"severity": "error"}, "high"),
        ({"severity": "warning"}, "low"),
        ({"severity": "critical", "environment": "staging"}, "high"),
        ({"urgency": "low", "severity": "critical"}, "low"),
    ],
)
async def test_the_urgency_is_said_or_follows_from_severity_or_environment(
    fake: FakePagerDuty, pagerduty: PagerDuty, content: dict[str, str], urgency: str
) -> None:
    await pagerduty.create_artifact(incident(**content), DELIVERY)
    assert fake.incidents[0].urgency == urgency


async def test_an_incident_has_its_runbook_and_no_credentials(fake: FakePagerDuty, connect: Connect) -> None:
    pagerduty = await connect(runbooks={"production": {"TimeoutError": "https://wiki.example.com/slow"}})
    content = {"details": "postgres://u:canary@db/app", "environment": "production", "error_type": "TimeoutError"}
    await pagerduty.create_artifact(incident(**content), DELIVERY)
    assert fake.incidents[0].details == "postgres://db/app\n\nRunbook: https://wiki.example.com/slow"


async def test_look_ups_are_remembered(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    for number in range(3):
        await pagerduty.create_artifact(incident(assign_on_call=True), Delivery(f"key-{number}"))
    asked = [one.path.partition("?")[0] for one in fake.requests if one.method == "GET"]
    assert asked == ["/services", "/oncalls"]


async def test_a_repeat_finds_the_incident_that_was_made(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    fake.swallow("after", times=2)  # the look-up of the service, too, has no effect that could be lost
    with pytest.raises(OutcomeUnknown):
        await pagerduty.create_artifact(incident(), DELIVERY)
    with pytest.raises(OutcomeUnknown):
        await pagerduty.create_artifact(incident(service_id="PF9KMXH"), DELIVERY)
    result = await pagerduty.create_artifact(incident(), DELIVERY)
    assert (result.outcome, result.reference) == (Outcome.DUPLICATE, fake.incidents[0].id)
    assert len(fake.incidents) == 1
    await pagerduty.create_artifact(incident(), Delivery("key-2"))
    assert len(fake.incidents) == 2


async def test_one_thread_has_one_open_incident(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    opened = Earlier(state={"replica-1": "fp"})
    first = await pagerduty.create_artifact(incident(), Delivery("a", thread="replica-1", earlier=opened))
    second = await pagerduty.create_artifact(incident(), Delivery("b", thread="replica-1"))
    assert (second.outcome, second.reference) == (Outcome.DUPLICATE, first.reference)
    assert first.state == opened.state, "the alerts of the thread stay known"
    fake.incidents[0].status = "resolved"
    third = await pagerduty.create_artifact(incident(), Delivery("c", thread="replica-1"))
    assert third.outcome is Outcome.DELIVERED


async def test_an_incident_that_was_resolved_between_two_requests_is_tried_again(
    fake: FakePagerDuty, pagerduty: PagerDuty
) -> None:
    said = "Open incident with matching dedup key already exists on this service"
    fake.fail(400, body=f'{{"error":{{"message":"Arguments Caused Error","code":2002,"errors":["{said}"]}}}}')
    with pytest.raises(NotReady, match="not any more"):
        await pagerduty.create_artifact(incident(service_id="PF9KMXH"), DELIVERY)


async def test_an_unknown_service_is_named(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    with pytest.raises(Rejected, match="has no service 'Apis' that our token may see"):
        await pagerduty.create_artifact(incident(service="Apis"), DELIVERY)
    with pytest.raises(Rejected, match="Service not found"):
        await pagerduty.create_artifact(incident(service_id="PXXXXXX"), DELIVERY)


async def test_a_maker_that_pagerduty_does_not_know_is_refused_with_its_words(connect: Connect) -> None:
    pagerduty = await connect(from_email="nobody@example.com")
    with pytest.raises(Rejected, match="Requester User Not Found"):
        await pagerduty.create_artifact(incident(), DELIVERY)


async def test_without_a_token_nothing_is_asked(fake: FakePagerDuty, connect: Connect) -> None:
    pagerduty = await connect(api_token=None, from_email=None, service=None)
    with pytest.raises(Misconfigured, match="needs api_token and from_email"):
        await pagerduty.create_artifact(incident(service="API"), DELIVERY)
    assert fake.requests == []


async def test_a_refused_token_is_our_credentials(fake: FakePagerDuty, connect: Connect) -> None:
    pagerduty = await connect(api_token="y_canary_canary_canary")
    with pytest.raises(AuthFailed) as caught:
        await pagerduty.create_artifact(incident(), DELIVERY)
    assert "canary" not in str(caught.value)


async def test_a_rate_limit_is_waited_out_as_its_header_says(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    fake.rest_limit = 0
    with pytest.raises(RateLimited, match="Rate Limit Exceeded") as caught:
        await pagerduty.create_artifact(incident(), DELIVERY)
    assert caught.value.retry_after is not None
    assert timedelta(0) < caught.value.retry_after <= timedelta(seconds=61)


@pytest.mark.parametrize("body", ["", "<html>welcome</html>", "[]", '{"incident": 7}'])
async def test_a_success_that_is_not_pagerdutys_is_not_taken_for_one(
    fake: FakePagerDuty, pagerduty: PagerDuty, body: str
) -> None:
    fake.fail(201, body=body)
    with pytest.raises(ServiceFault, match="is base_url right"):
        await pagerduty.create_artifact(incident(service_id="PF9KMXH"), DELIVERY)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"title": ""}, "title"),
        ({"urgency": "medium"}, "urgency"),
        ({"severity": "high"}, "severity"),
        ({"service_id": "../users"}, "service_id"),
        ({"assign_on_call": True, "escalation_policy_id": "PT20YPA"}, "give one of"),
        ({"unknown": 1}, "unknown"),
    ],
)
async def test_content_that_does_not_fit_is_refused_by_field(
    fake: FakePagerDuty, pagerduty: PagerDuty, content: dict[str, Any], why: str
) -> None:
    with pytest.raises(Rejected, match=why):
        await pagerduty.create_artifact(incident(**content), DELIVERY)
    assert fake.requests == []


async def test_another_artifact_is_refused(pagerduty: PagerDuty) -> None:
    with pytest.raises(Rejected, match="makes no artifact 'page'; it makes: incident"):
        await pagerduty.create_artifact(Artifact(type="page", content={}), DELIVERY)
    with pytest.raises(Rejected, match="makes no artifact 'page'"):
        pagerduty.preview(Artifact(type="page", content={}), DELIVERY)


async def test_a_preview_of_an_incident_asks_nobody(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    (preview,) = pagerduty.preview(incident(service="API", assign_on_call=True), DELIVERY)
    assert (preview.doing, preview.request) == ("open an incident on API", f"POST {fake.url}/incidents")
    assert "<id of API>" in preview.body
    assert "<who is on call for API>" in preview.body
    assert fake.requests == []
    assert pagerduty.places(incident(), DELIVERY) == ("rest",)

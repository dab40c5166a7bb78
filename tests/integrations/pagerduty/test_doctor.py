"""What the doctor finds at PagerDuty, and what a drill leaves there: each check sees well and ill on the stand-in."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest

from integrations.base import Delivery, Examined, Finding, Notification, Severity
from integrations.pagerduty import PagerDuty
from integrations.pagerduty.fake import FakePagerDuty

Connect = Callable[..., Awaitable[PagerDuty]]
DRILL = Notification(message="[drill]", severity=Severity.WARNING)


async def found(adapter: PagerDuty) -> dict[str, Finding]:
    assert isinstance(adapter, Examined)
    return {one.about: one for one in await adapter.examine()}


async def test_all_is_well_and_nobody_is_paged(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    every = await found(pagerduty)
    assert {one.level for one in every.values()} == {"ok"}, every
    assert {"routing_key", "events API", "credentials", "clock", "from_email", "service", "on call"} <= every.keys()
    assert every["on call"].what == "Ada, for Database Migrations"
    assert (fake.effects(), fake.dropped) == ([], [])


async def test_a_service_by_its_id_is_looked_at_too(connect: Connect) -> None:
    assert (await found(await connect(service=None, service_id="PF9KMXH")))["service"].what == "Database Migrations"


async def test_a_refused_token_ends_it(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    fake.reject_credentials = True
    every = await found(pagerduty)
    assert every["credentials"].level == "fail"
    assert "on call" not in every
    assert fake.api_token not in repr(every)


async def test_without_a_token_it_says_what_can_not_be_looked_at(connect: Connect) -> None:
    every = await found(await connect(api_token=None, from_email=None, service=None))
    assert (every["events API"].level, every["credentials"].level) == ("ok", "warn")


async def test_an_events_api_that_is_down_is_found(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    fake.go_down()
    finding = (await found(pagerduty))["events API"]
    assert (finding.level, "503" in finding.what) == ("fail", True)


async def test_the_key_of_a_ruleset_takes_no_changes(connect: Connect) -> None:
    finding = (await found(await connect(routing_key="R" + "0" * 31)))["routing_key"]
    assert (finding.level, "change events" in finding.what) == ("warn", True)


@pytest.mark.parametrize(("seconds", "level"), [(30, "ok"), (90, "warn"), (400, "fail")])
async def test_a_clock_that_is_off_is_found(
    pagerduty: PagerDuty, monkeypatch: pytest.MonkeyPatch, seconds: float, level: str
) -> None:
    now = time.time
    monkeypatch.setattr("integrations.findings.time.time", lambda: now() + seconds)
    assert (await found(pagerduty))["clock"].level == level


async def test_an_address_that_no_user_has_makes_no_incidents(connect: Connect) -> None:
    assert (await found(await connect(from_email="eve@example.com")))["from_email"].level == "fail"


async def test_a_service_that_is_not_there_is_found(connect: Connect) -> None:
    assert (await found(await connect(service="Nowhere")))["incidents"].level == "fail"


async def test_nobody_on_call_is_found(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    fake.on_call.clear()
    finding = (await found(pagerduty))["on call"]
    assert (finding.level, "escalation policy" in finding.fix) == ("fail", True)


async def test_without_a_webhook_secret_nothing_can_come_in(connect: Connect) -> None:
    assert (await found(await connect(webhook_secret=None)))["webhooks"].level == "warn"


async def test_an_incident_is_seen_and_resolved(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    delivery = Delivery("drill")
    result = await pagerduty.send_notification(DRILL, delivery)
    assert await pagerduty.seen(DRILL, delivery, result) is True
    assert await pagerduty.take_back(DRILL, delivery, result) == "resolved"
    assert await pagerduty.seen(DRILL, delivery, result) is False
    assert fake.open_alerts() == []


async def test_an_incident_of_a_key_that_belongs_to_nobody_is_never_seen(connect: Connect) -> None:
    pagerduty, delivery = await connect(routing_key="f" * 32), Delivery("drill")
    result = await pagerduty.send_notification(DRILL, delivery)
    assert await pagerduty.seen(DRILL, delivery, result) is False


async def test_without_a_token_nobody_can_say_whether_it_is_there(connect: Connect) -> None:
    pagerduty, delivery = await connect(api_token=None, from_email=None, service=None), Delivery("drill")
    result = await pagerduty.send_notification(DRILL, delivery)
    assert await pagerduty.seen(DRILL, delivery, result) is None


async def test_a_change_has_nothing_to_resolve(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    told, delivery = Notification(message="[drill]"), Delivery("drill")
    result = await pagerduty.send_notification(told, delivery)
    assert await pagerduty.take_back(told, delivery, result) == ""

"""What the doctor finds at Slack, and what a drill leaves there: each check sees well and ill on the stand-in."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest

from integrations.base import Delivery, Examined, Finding, Notification
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack

MakeSlack = Callable[..., Awaitable[Slack]]


async def found(adapter: Slack) -> dict[str, Finding]:
    assert isinstance(adapter, Examined)
    return {one.about: one for one in await adapter.examine()}


async def test_all_is_well_and_nothing_is_posted(fake: FakeSlack, make_slack: MakeSlack) -> None:
    slack = await make_slack({**fake.settings(), "channels": {"vm.*": "C0VMS", "task.*": "U0ADA"}})
    every = await found(slack)
    assert {one.level for one in every.values()} == {"ok"}, every
    assert {"webhooks", "credentials", "rights", "clock", "channel #deployments", "channel C0VMS"} <= every.keys()
    assert every["credentials"].what == "signed in as eventbus in Fake Team"
    assert "commands (slash commands)" in every["rights"].what, "what is not granted and not needed is named"
    assert fake.effects() == []


async def test_a_refused_token_ends_it(fake: FakeSlack, slack: Slack) -> None:
    fake.reject_credentials = True
    every = await found(slack)
    assert [(one.about, one.level) for one in every.values()] == [("webhooks", "ok"), ("credentials", "fail")]
    assert "bot_token" in every["credentials"].fix


async def test_a_missing_scope_is_named_with_what_fails_without_it(fake: FakeSlack, slack: Slack) -> None:
    fake.scopes.discard("chat:write")
    rights = (await found(slack))["rights"]
    assert (rights.level, rights.what) == ("fail", "chat:write is missing: posts and changes messages")
    assert "chat:write" in rights.fix


@pytest.mark.parametrize(("seconds", "level"), [(30, "ok"), (-90, "warn"), (400, "fail")])
async def test_a_clock_that_is_off_is_found(
    slack: Slack, monkeypatch: pytest.MonkeyPatch, seconds: float, level: str
) -> None:
    now = time.time
    monkeypatch.setattr("integrations.findings.time.time", lambda: now() + seconds)
    assert (await found(slack))["clock"].level == level


async def test_a_channel_without_the_app_an_archived_one_and_one_that_is_none_are_found(
    fake: FakeSlack, make_slack: MakeSlack
) -> None:
    channels = {"vm.*": "#vms", "task.*": "general", "migration.*": "#nowhere"}
    slack = await make_slack({**fake.settings(), "channels": channels})
    fake.not_in.add(fake.channels["vms"])
    fake.archived.add(fake.channels["general"])
    every = await found(slack)
    assert every["channel #deployments"].level == "ok"
    assert (every["channel #vms"].level, every["channel #vms"].fix) == ("fail", "/invite the app in #vms")
    assert (every["channel general"].level, every["channel general"].what) == ("fail", "it is archived")
    assert every["channel #nowhere"].what == "#nowhere is not in the list of channels"


async def test_without_the_right_to_look_a_channel_is_not_called_bad(fake: FakeSlack, slack: Slack) -> None:
    fake.scopes.discard("channels:read")
    assert (await found(slack))["channel #deployments"].level == "warn"


async def test_without_a_signing_secret_nothing_can_come_in(fake: FakeSlack, make_slack: MakeSlack) -> None:
    slack = await make_slack({**fake.settings(), "signing_secret": None})
    assert (await found(slack))["webhooks"].level == "warn"


async def test_socket_mode_is_tried_with_its_own_token(fake: FakeSlack, make_slack: MakeSlack) -> None:
    slack = await make_slack(fake.socket_settings())
    assert (await found(slack))["socket mode"].level == "ok"
    fake.app_token = "xapp-another"
    finding = (await found(slack))["socket mode"]
    assert (finding.level, "connections:write" in finding.fix) == ("fail", True)


async def test_an_incoming_webhook_is_not_tried_by_posting(fake: FakeSlack, make_slack: MakeSlack) -> None:
    every = await found(await make_slack(fake.webhook_settings()))
    assert every["credentials"].what.startswith("an incoming webhook can't be asked")
    assert fake.requests == []


async def test_a_message_is_seen_and_taken_back(fake: FakeSlack, slack: Slack) -> None:
    drill, delivery = Notification(message="[drill]"), Delivery("drill")
    result = await slack.send_notification(drill, delivery)
    assert await slack.seen(drill, delivery, result) is True
    assert await slack.take_back(drill, delivery, result) == "deleted"
    assert await slack.seen(drill, delivery, result) is False
    assert fake.messages == []


async def test_what_an_incoming_webhook_posted_stays(fake: FakeSlack, make_slack: MakeSlack) -> None:
    slack = await make_slack(fake.webhook_settings())
    drill, delivery = Notification(message="[drill]"), Delivery("drill")
    result = await slack.send_notification(drill, delivery)
    assert await slack.seen(drill, delivery, result) is None
    assert await slack.take_back(drill, delivery, result) == ""
    assert len(fake.messages) == 1

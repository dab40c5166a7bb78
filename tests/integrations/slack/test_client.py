from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from integrations.base import Delivery, Notification
from integrations.errors import (
    AuthFailed,
    IntegrationError,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.slack import Slack, client, plan
from integrations.slack.blocks import Message
from integrations.slack.fake import FakeSlack

MakeSlack = Callable[..., Awaitable[Slack]]
HELLO = Notification(message="hello")


async def refused(slack: Slack, kind: type[IntegrationError], notification: Notification = HELLO) -> IntegrationError:
    with pytest.raises(IntegrationError) as caught:
        await slack.send_notification(notification, Delivery("k"))
    assert type(caught.value) is kind, caught.value
    return caught.value


@pytest.fixture
async def silence() -> AsyncIterator[str]:
    """A server that takes requests and never answers."""
    over = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    over.set()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *[
            (c, AuthFailed)
            for c in ("invalid_auth", "token_revoked", "account_inactive", "missing_scope", "not_authed")
        ],
        *[(c, Rejected) for c in ("channel_not_found", "not_in_channel", "is_archived", "msg_too_long")],
        *[(c, Rejected) for c in ("invalid_blocks", "restricted_action", "something_new")],
        *[(c, RateLimited) for c in ("ratelimited", "rate_limited", "message_limit_exceeded")],
        *[(c, ServiceFault) for c in ("internal_error", "fatal_error")],
        *[(c, NotReady) for c in ("service_unavailable", "team_added_to_org")],
    ],
)
async def test_what_slack_says_with_status_200_becomes_what_the_dispatcher_must_do(
    slack: Slack, fake: FakeSlack, code: str, kind: type[IntegrationError]
) -> None:
    fake.refuse(code)
    error = await refused(slack, kind)
    assert code in error.detail
    assert fake.effects() == []
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, ServiceFault),
        (502, ServiceFault),
        (503, ServiceFault),
        (400, Rejected),
        (403, AuthFailed),
        (302, Rejected),
    ],
)
async def test_a_status_becomes_what_the_dispatcher_must_do(
    slack: Slack, fake: FakeSlack, status: int, kind: type[IntegrationError]
) -> None:
    fake.fail(status)
    await refused(slack, kind)
    assert len(fake.requests) == 1, "nothing is retried and no redirect is followed"


@pytest.mark.parametrize("transport", ["token", "webhook"])
async def test_429_carries_how_long_to_wait(make_slack: MakeSlack, fake: FakeSlack, transport: str) -> None:
    slack = await make_slack(fake.settings() if transport == "token" else fake.webhook_settings())
    fake.fail(429, headers={"Retry-After": "30"})
    assert (await refused(slack, RateLimited)).retry_after == timedelta(seconds=30)
    assert len(fake.requests) == 1


async def test_an_error_says_what_to_do_next(slack: Slack, fake: FakeSlack) -> None:
    fake.refuse("not_in_channel")
    assert "/invite" in (await refused(slack, Rejected)).detail
    fake.refuse("missing_scope", needed="chat:write", provided="commands")
    assert "chat:write" in (await refused(slack, AuthFailed)).detail
    fake.refuse("invalid_blocks", response_metadata={"messages": ["[ERROR] too long [json-pointer:/blocks/0]"]})
    assert "/blocks/0" in (await refused(slack, Rejected)).detail


@pytest.mark.parametrize("body", ["<html>maintenance</html>", "[1]", '{"ok"', "", '"ok"', "null"])
@pytest.mark.parametrize("content_type", ["text/html", "text/plain", "application/json"])
async def test_a_200_that_is_no_answer_of_slacks_leaves_the_effect_open(
    slack: Slack, fake: FakeSlack, body: str, content_type: str
) -> None:
    fake.fail(200, body=body, headers={"content-type": content_type})
    await refused(slack, ServiceFault)


@pytest.mark.parametrize("transport", ["token", "webhook"])
async def test_an_answer_that_is_lost_leaves_the_outcome_unknown(
    make_slack: MakeSlack, fake: FakeSlack, transport: str
) -> None:
    slack = await make_slack(fake.settings() if transport == "token" else fake.webhook_settings())
    fake.swallow("after")
    await refused(slack, OutcomeUnknown)
    assert len(fake.effects()) == 1


async def test_a_slack_that_never_answers_leaves_the_outcome_unknown(
    make_slack: MakeSlack, silence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CALL_SECONDS", 0.2)
    slack = await make_slack({"bot_token": "xoxb-1", "base_url": silence})
    assert "did not answer" in (await refused(slack, OutcomeUnknown)).detail


@pytest.mark.parametrize("host", ["127.0.0.1:1", "slack.invalid"])
@pytest.mark.parametrize("transport", ["bot_token", "webhook_url"])
async def test_where_no_connection_was_made_surely_nothing_was_done(
    make_slack: MakeSlack, host: str, transport: str
) -> None:
    secret = "xoxb-canary" if transport == "bot_token" else f"http://{host}/services/canary"
    slack = await make_slack({transport: secret, "base_url": f"http://{host}/api"})
    assert "canary" not in (await refused(slack, Unreachable)).detail


async def test_a_person_is_reached_in_a_direct_message(slack: Slack, fake: FakeSlack) -> None:
    result = await slack.send_notification(Notification(target="U0ADA", message="hi"), Delivery("k"))
    assert [m.channel for m in fake.messages] == ["D0ADA"]
    assert result.reference == fake.messages[0].ts
    error = await refused(slack, Rejected, Notification(target="U0NOBODY", message="hi"))
    assert "user_not_found" in error.detail


async def test_trouble_while_opening_a_conversation_leaves_nothing_unknown(slack: Slack, fake: FakeSlack) -> None:
    fake.swallow("after")
    await refused(slack, NotReady, Notification(target="U0ADA", message="hi"))
    assert fake.effects() == []


@pytest.mark.parametrize("target", ["#general", "general", "C0GENERAL"])
async def test_a_channel_is_found_by_name_and_by_id(slack: Slack, fake: FakeSlack, target: str) -> None:
    await slack.send_notification(Notification(target=target, message="hi"), Delivery("k"))
    assert [m.channel for m in fake.messages] == ["C0GENERAL"]


async def test_a_message_asks_slack_to_make_no_links_and_carries_its_deliverys_mark(
    slack: Slack, fake: FakeSlack
) -> None:
    await slack.send_notification(HELLO, Delivery("group:event:target"))
    sent = json.loads(fake.requests[0].body)
    assert (sent["parse"], sent["link_names"], sent["unfurl_links"], sent["unfurl_media"]) == ("none",) + (False,) * 3
    mark = {"event_type": "eventbus_delivery", "event_payload": {"key": plan.key_mark("group:event:target")}}
    assert fake.messages[0].metadata == mark
    assert "group:event" not in json.dumps(sent)
    assert plan.key_mark("a") != plan.key_mark("b")


async def test_an_incoming_webhook_posts_to_its_one_channel(make_slack: MakeSlack, fake: FakeSlack) -> None:
    slack = await make_slack(fake.webhook_settings())
    result = await slack.send_notification(HELLO, Delivery("k"))
    assert [m.text for m in fake.messages] == ["hello"]
    assert result.reference is None
    for target in ("#general", "U0ADA"):
        error = await refused(slack, Rejected, Notification(target=target, message="hi"))
        assert "set bot_token" in error.detail
    assert len(fake.messages) == 1


async def test_a_token_is_preferred_to_a_webhook(make_slack: MakeSlack, fake: FakeSlack) -> None:
    slack = await make_slack(fake.webhook_settings() | fake.settings())
    await slack.send_notification(Notification(target="#general", message="hi"), Delivery("k"))
    assert [m.channel for m in fake.messages] == ["C0GENERAL"]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, "invalid_payload", Rejected),
        (400, "invalid_token", AuthFailed),
        (403, "action_prohibited", Rejected),
        (404, "no_service", AuthFailed),
        (404, "channel_not_found", Rejected),
        (410, "channel_is_archived", Rejected),
        (500, "rollup_error", ServiceFault),
    ],
)
async def test_what_an_incoming_webhook_says_becomes_what_the_dispatcher_must_do(
    make_slack: MakeSlack, fake: FakeSlack, status: int, body: str, kind: type[IntegrationError]
) -> None:
    slack = await make_slack(fake.webhook_settings())
    fake.fail(status, body=body)
    error = await refused(slack, kind)
    assert body in error.detail
    assert "fake-webhook-secret" not in error.detail


# -- response URLs -------------------------------------------------------------------------------------------------


def client_of(slack: Slack) -> client.Client:
    return slack._client


async def hook_of(fake: FakeSlack, slack: Slack) -> str:
    reply = await slack.receive(fake.slash_command("/eventbus-status").inbound())
    return str(reply.events[0].data.response_url)


async def test_an_answer_is_seen_by_its_asker_only(slack: Slack, fake: FakeSlack) -> None:
    await client_of(slack).answer(await hook_of(fake, slack), Message("fine"))
    assert [(r.text, r.response_type) for r in fake.responses] == [("fine", "ephemeral")]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/commands/1",
        "http://hooks.slack.com/commands/1",
        "https://hooks.slack.com.evil.example/x",
        "https://hooks.slack.com@evil.example/x",
        "https://evil.example\\@hooks.slack.com/x",
        "https://user@hooks.slack.com/x",
        "https://hooks.slack.com:8443/x",
        "http://127.0.0.1:1/commands/1",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "//hooks.slack.com/x",
        "not a url",
        "https://[",
        "",
    ],
)
async def test_an_answer_goes_nowhere_but_to_slack(slack: Slack, fake: FakeSlack, url: str) -> None:
    with pytest.raises(Rejected, match="not one of Slack's"):
        await client_of(slack).answer(url, Message("fine"))
    assert fake.requests == []


async def test_the_real_response_urls_of_slack_are_accepted(slack: Slack) -> None:
    assert client_of(slack)._is_hook("https://hooks.slack.com/commands/T1/2/abc")
    assert client_of(slack)._is_hook("https://hooks.slack.com:443/commands/T1/2/abc")


async def test_a_response_url_is_good_for_five_answers(slack: Slack, fake: FakeSlack) -> None:
    url = await hook_of(fake, slack)
    for _ in range(5):
        await client_of(slack).answer(url, Message("fine"))
    with pytest.raises(Rejected, match="5 answers"):
        await client_of(slack).answer(url, Message("fine"))


@pytest.mark.parametrize(
    ("status", "kind"), [(403, Rejected), (404, Rejected), (429, RateLimited), (500, ServiceFault), (503, ServiceFault)]
)
async def test_what_a_response_url_says_becomes_what_the_dispatcher_must_do(
    slack: Slack, fake: FakeSlack, status: int, kind: type[IntegrationError]
) -> None:
    url = await hook_of(fake, slack)
    fake.fail(status)
    with pytest.raises(IntegrationError) as caught:
        await client_of(slack).answer(url, Message("fine"))
    assert type(caught.value) is kind
    assert "fake-hook-secret" not in caught.value.detail


# -- secrets and the environment -----------------------------------------------------------------------------------


async def test_the_environment_changes_nothing(
    make_slack: MakeSlack, fake: FakeSlack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("BOT_TOKEN", "SIGNING_SECRET", "VERIFICATION_TOKEN", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.setenv(f"SLACK_{name}", "deprecated")
    slack = await make_slack()
    await slack.send_notification(HELLO, Delivery("k"))
    reply = await slack.receive(fake.slash_command("/eventbus-status").inbound())
    assert len(fake.messages) == len(reply.events) == 1
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_no_secret_reaches_a_log_an_error_or_a_representation(
    make_slack: MakeSlack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets: dict[str, Any] = {"token": "xoxb-canary-token", "signing_secret": "canary-signing"}
    async with FakeSlack(**secrets) as fake:
        slack = await make_slack(fake.settings())
        seen = [repr(slack.config), repr(slack.context)]
        for signed in (fake.slash_command("/eventbus-status"), fake.interaction({"type": "view_closed"})):
            await slack.receive(signed.inbound())
        faults: list[Callable[[], None]] = [
            lambda: fake.fail(500),
            lambda: fake.refuse("invalid_auth"),
            lambda: fake.swallow("after"),
        ]
        for break_it in faults:
            break_it()
            with pytest.raises(IntegrationError) as caught:
                await slack.send_notification(HELLO, Delivery("k"))
            seen.append(repr(caught.value))
        seen += [repr(await slack.send_notification(HELLO, Delivery("k"))), repr(await slack.health())]
    assert "canary" not in "".join(seen) + caplog.text

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventbus.topics import SlackAction, SlackAppMention, SlackChannelMessage, SlackCommand, TaskCreated
from integrations.base import InboundReply
from integrations.errors import Malformed, Unauthorized
from integrations.slack import Slack
from integrations.slack.fake import APP, BOT_USER, FORM, FakeSlack, Signed
from integrations.slack.inbound import slug

MakeSlack = Callable[..., Awaitable[Slack]]


async def receive(slack: Slack, signed: Signed) -> InboundReply:
    return await slack.receive(signed.inbound())


def every_kind(fake: FakeSlack) -> list[Signed]:
    return [
        fake.slash_command("/eventbus-status"),
        fake.slash_command("/eventbus-task", "create vm name=a"),
        fake.slash_command("/eventbus-nothing"),
        fake.button_click("approve", "task-1"),
        fake.interaction({"type": "view_submission", "view": {"type": "modal", "callback_id": "x"}}),
        fake.event_callback({"type": "app_mention", "text": "hi"}),
        fake.event_callback({"type": "message", "channel_type": "channel", "text": "hi"}),
        fake.event_callback({"type": "reaction_added"}),
        fake.url_verification(),
    ]


# -- commands ------------------------------------------------------------------------------------------------------


async def test_a_command_becomes_an_event_and_an_answer_for_its_asker(slack: Slack, fake: FakeSlack) -> None:
    signed = fake.slash_command("/eventbus-vm-list", "all", user="U0BOB", trigger_id="13345.7384.abc")
    reply = await receive(slack, signed)
    (event,) = reply.events
    assert event.topic == "slack.command.vm-list"
    assert isinstance(event.data, SlackCommand)
    assert (event.data.command, event.data.text, event.data.user_id) == ("/eventbus-vm-list", "all", "U0BOB")
    assert str(event.data.response_url).startswith(fake.url)
    assert event.idempotency_key == "slack:13345.7384.abc"
    assert event.source == "/slack/T0FAKE000"
    assert (reply.status, reply.replay_status) == (200, 409)
    assert reply.headers["content-type"].startswith("application/json")
    assert json.loads(reply.body)["response_type"] == "ephemeral"
    assert "token" not in event.data.model_dump()


async def test_a_task_command_publishes_the_task_and_shows_its_id(slack: Slack, fake: FakeSlack) -> None:
    signed = fake.slash_command("/eventbus-task", "create vm name=quick-test vcpus=2")
    reply, again = await receive(slack, signed), await receive(slack, signed)
    (event,) = reply.events
    assert isinstance(event.data, TaskCreated)
    assert (event.topic, event.key) == ("task.created", f"task_id:{event.data.task_id}")
    assert event.data.parameters == {"name": "quick-test", "vcpus": 2}
    assert event.data.task_id in json.loads(reply.body)["text"]
    assert again.events[0].data == event.data, "a repeat is the same event, not a conflict"


@pytest.mark.parametrize(("command", "text"), [("task", "make me a vm"), ("stats", ""), ("help", "")])
async def test_a_command_that_asks_for_nothing_publishes_nothing(
    slack: Slack, fake: FakeSlack, command: str, text: str
) -> None:
    reply = await receive(slack, fake.slash_command(f"/eventbus-{command}", text))
    assert reply.events == ()
    assert (reply.status, reply.replay_status) == (200, None)
    assert "/eventbus-" in json.loads(reply.body)["text"]


async def test_a_command_whose_text_has_the_word_payload_is_understood(slack: Slack, fake: FakeSlack) -> None:
    reply = await receive(slack, fake.slash_command("/eventbus-task", "create vm name=payload"))
    assert reply.events[0].data.name == "payload"


async def test_the_text_of_a_command_cannot_become_markup(slack: Slack, fake: FakeSlack) -> None:
    reply = await receive(slack, fake.slash_command("/eventbus-task", "create vm name=<!channel>&x"))
    assert "<" not in json.loads(reply.body)["text"]
    assert reply.events[0].data.name == "<!channel>&x"


async def test_the_prefix_of_the_commands_is_a_setting(make_slack: MakeSlack, fake: FakeSlack) -> None:
    slack = await make_slack(fake.settings() | {"command_prefix": "aetherium"})
    reply = await receive(slack, fake.slash_command("/aetherium-status"))
    assert [event.topic for event in reply.events] == ["slack.command.status"]


# -- buttons -------------------------------------------------------------------------------------------------------


async def test_a_pressed_button_becomes_an_event(slack: Slack, fake: FakeSlack) -> None:
    reply = await receive(slack, fake.button_click("approve", "task-1", trigger_id="t-9"))
    (event,) = reply.events
    assert event.topic == "slack.action.approve"
    assert isinstance(event.data, SlackAction)
    assert (event.data.action_id, event.data.value, event.data.user_id) == ("approve", "task-1", "U0ADA")
    assert event.data.channel_id == "C0GENERAL"
    assert event.data.message_ts
    assert event.idempotency_key == "slack:t-9"
    assert (reply.status, reply.body, reply.replay_status) == (200, b"", 409)


async def test_a_button_without_a_trigger_is_known_by_its_time(slack: Slack, fake: FakeSlack) -> None:
    actions = [{"action_id": "a", "action_ts": "1700000000.000100"}]
    reply = await receive(slack, fake.button_click("x", trigger_id=None, actions=actions))
    assert reply.events[0].idempotency_key == "slack:1700000000.000100"
    with pytest.raises(Malformed):
        await receive(slack, fake.button_click("x", trigger_id=None, actions=[{"action_id": "a"}]))


async def test_two_actions_of_one_request_are_two_events(slack: Slack, fake: FakeSlack) -> None:
    actions = [{"action_id": "a", "action_ts": "1"}, {"action_id": "b", "action_ts": "2"}]
    reply = await receive(slack, fake.button_click("x", trigger_id="t", actions=actions))
    assert [(e.topic, e.idempotency_key) for e in reply.events] == [
        ("slack.action.a", "slack:t"),
        ("slack.action.b", "slack:t:1"),
    ]


@pytest.mark.parametrize(
    ("block_id", "action_id", "topic", "value"),
    [
        ("unknown:hook.billing/17-0", "done", "slack.action.unknown", "hook.billing/17-0 event-1"),
        ("unknown:hook/17-0", "resend", "slack.action.unknown", "hook/17-0 event-1"),
        ("unknown:hook/17-0", "delete", "slack.action.delete", "event-1"),
        ("b1", "done", "slack.action.done", "event-1"),
    ],
)
async def test_only_the_buttons_of_a_call_in_doubt_decide_about_it(
    slack: Slack, fake: FakeSlack, block_id: str, action_id: str, topic: str, value: str
) -> None:
    action = {"type": "button", "action_id": action_id, "block_id": block_id, "value": "event-1", "action_ts": "1.2"}
    (event,) = (await receive(slack, fake.button_click(action_id, actions=[action]))).events
    assert isinstance(event.data, SlackAction)
    assert (event.topic, event.data.action_id, event.data.value) == (topic, action_id, value)


@pytest.mark.parametrize(
    ("action_id", "topic"),
    [
        ("approve", "approve"),
        ("Approve PR!", "approve-pr"),
        ("a.b/c", "a-b-c"),
        ("\u00e9\u00e9", "other"),
        ("_x-1_", "_x-1_"),
    ],
)
async def test_an_action_id_is_made_fit_for_a_topic(slack: Slack, fake: FakeSlack, action_id: str, topic: str) -> None:
    reply = await receive(slack, fake.button_click(action_id))
    assert reply.events[0].topic == f"slack.action.{topic}"
    assert reply.events[0].data.action_id == action_id
    assert len(slug("x" * 5000)) <= 100


# -- the Events API ------------------------------------------------------------------------------------------------


async def test_the_challenge_is_echoed(slack: Slack, fake: FakeSlack) -> None:
    reply = await receive(slack, fake.url_verification("abc123"))
    assert json.loads(reply.body) == {"challenge": "abc123"}
    assert reply.events == ()


async def test_a_mention_becomes_an_event(slack: Slack, fake: FakeSlack) -> None:
    told = {"type": "app_mention", "text": f"<@{BOT_USER}> status", "ts": "1.2", "thread_ts": "1.1"}
    reply = await receive(slack, fake.event_callback(told, event_id="Ev1", event_time=1700000000))
    (event,) = reply.events
    assert event.topic == "slack.app_mention"
    assert isinstance(event.data, SlackAppMention)
    assert (event.data.text, event.data.ts, event.data.thread_ts) == (f"<@{BOT_USER}> status", "1.2", "1.1")
    assert (event.idempotency_key, event.key) == ("slack:Ev1", "slack:C0GENERAL")
    assert event.time == datetime.fromtimestamp(1700000000, UTC)
    assert (reply.status, reply.body, reply.replay_status) == (200, b"", None)


async def test_a_channel_message_becomes_an_event(slack: Slack, fake: FakeSlack) -> None:
    told = {"type": "message", "channel_type": "channel", "text": "deploy is out", "subtype": "bot_message"}
    (event,) = (await receive(slack, fake.event_callback(told))).events
    assert event.topic == "slack.message.channels"
    assert isinstance(event.data, SlackChannelMessage)
    assert (event.data.text, event.data.subtype) == ("deploy is out", "bot_message")


@pytest.mark.parametrize(
    "told",
    [
        {"type": "message", "channel_type": "im"},
        {"type": "message", "channel_type": "group"},
        {"type": "message", "channel_type": "channel", "subtype": "message_changed", "message": {}, "ts": None},
        {"type": "message", "channel_type": "channel", "subtype": "channel_join"},
        {"type": "message", "channel_type": "channel", "user": BOT_USER},
        {"type": "message", "channel_type": "channel", "user": None, "app_id": APP, "subtype": "bot_message"},
        {"type": "message", "channel_type": "channel", "user": None, "bot_profile": {"app_id": APP}},
        {"type": "app_mention", "user": BOT_USER},
        {"type": "reaction_added"},
        {"type": "something_new"},
    ],
)
async def test_what_is_not_a_new_message_of_somebody_else_publishes_nothing(
    slack: Slack, fake: FakeSlack, told: dict[str, Any]
) -> None:
    reply = await receive(slack, fake.event_callback({"text": "x"} | told))
    assert (reply.status, reply.events) == (200, ())


async def test_a_retry_gives_the_same_event_and_the_same_answer(slack: Slack, fake: FakeSlack) -> None:
    told = {"type": "app_mention", "text": "hi", "ts": "1.2"}
    first = await receive(slack, fake.event_callback(told, event_id="Ev1", event_time=1700000000))
    again = await receive(slack, fake.event_callback(told, retry=1, event_id="Ev1", event_time=1700000000))
    assert first.events[0].idempotency_key == again.events[0].idempotency_key
    assert first.events[0].data == again.events[0].data
    assert dataclasses.replace(first, events=()) == dataclasses.replace(again, events=())


@pytest.mark.parametrize(
    "payload", [{"type": "view_closed"}, {"type": "shortcut", "callback_id": "x"}, {"type": "never_heard_of"}, {}]
)
async def test_an_unknown_kind_of_request_is_acknowledged_and_publishes_nothing(
    slack: Slack, fake: FakeSlack, payload: dict[str, Any]
) -> None:
    for signed in (fake.interaction(payload), fake.sign(json.dumps(payload).encode(), "application/json")):
        reply = await receive(slack, signed)
        assert (reply.status, reply.events) == (200, ())


# -- what is turned away -------------------------------------------------------------------------------------------


async def test_a_forged_signature_publishes_nothing(slack: Slack, fake: FakeSlack) -> None:
    for signed in every_kind(fake):
        for headers in (
            signed.headers | {"X-Slack-Signature": "v0=" + "0" * 64},
            signed.headers | {"X-Slack-Signature": "\u00e9"},
            {k: v for k, v in signed.headers.items() if k != "X-Slack-Signature"},
        ):
            with pytest.raises(Unauthorized, match="signature mismatch"):
                await receive(slack, Signed(headers, signed.body))
        with pytest.raises(Unauthorized):
            await receive(slack, Signed(signed.headers, signed.body + b" "))


async def test_another_apps_secret_does_not_open(slack: Slack, fake: FakeSlack) -> None:
    fake.signing_secret = "another"
    with pytest.raises(Unauthorized):
        await receive(slack, fake.slash_command("/eventbus-status"))


@pytest.mark.parametrize("age", [301, -301, 86_400])
async def test_a_stale_or_future_time_stamp_publishes_nothing(slack: Slack, fake: FakeSlack, age: int) -> None:
    signed = fake.sign(b"command=%2Feventbus-status&trigger_id=1", FORM, at=int(time.time()) - age)
    with pytest.raises(Unauthorized):
        await slack.receive(dataclasses.replace(signed.inbound(), received_at=time.time()))


async def test_a_missing_time_stamp_publishes_nothing(slack: Slack, fake: FakeSlack) -> None:
    request = fake.slash_command("/eventbus-status").inbound()
    headers = {k: v for k, v in request.headers.items() if k != "x-slack-request-timestamp"}
    with pytest.raises(Unauthorized):
        await slack.receive(dataclasses.replace(request, headers=headers))


async def test_without_a_signing_secret_everything_is_refused_and_our_log_says_why(
    make_slack: MakeSlack, fake: FakeSlack
) -> None:
    slack = await make_slack({"bot_token": fake.token})
    for signed in every_kind(fake):
        with pytest.raises(Unauthorized) as caught:
            await receive(slack, signed)
        assert "signing_secret is not set" in caught.value.reason
        assert "signing_secret" not in caught.value.detail


GARBAGE: list[tuple[bytes, str]] = [
    (b"\xff\xfe", FORM),
    (b"command=%FF%FE&trigger_id=1", FORM),
    (b"payload=%7Bnot+json", FORM),
    (b"payload=", FORM),
    (b"payload=%5B1%5D", FORM),
    (b"&".join(b"a%d=1" % n for n in range(5000)), FORM),
    (b"command=%2Feventbus-status", FORM),
    (urlencode({"command": "/x", "trigger_id": "t" * 5000}).encode(), FORM),
    (b"\xff", "application/json"),
    (b"", "application/json"),
    (b"null", "application/json"),
    (b"[]", "application/json"),
    (b"{", "application/json"),
    (b'{"type": NaN}', "application/json"),
    (b'{"type": "event_callback", "event": {"type": "app_mention", "text": "\\ud800"}}', "application/json"),
    (b"[" * 100_000, "application/json"),
    (b'{"type": "event_callback", "event": {"type": "app_mention"}}', "application/json"),
    (b'{"type": "event_callback", "event_id": "e", "event": {"type": "app_mention"}}', "application/json"),
    (b'{"type": "event_callback", "event_id": 7, "event": {"type": "app_mention", "ts": "1"}}', "application/json"),
    (b'{"type": "event_callback", "event": 7}', "application/json"),
    (b'{"type": "block_actions", "actions": []}', "application/json"),
    (b'{"type": "block_actions", "actions": [{"action_id": "a"}, {}]}', "application/json"),
    (b'{"type": "block_actions", "actions": 7}', "application/json"),
    (b'{"command": 7}', "application/json"),
    (b'{"team": 7}', "application/json"),
    (b'{"authorizations": [7]}', "application/json"),
    (b"{}", "text/plain"),
    (b"{}", ""),
]


@pytest.mark.parametrize(("body", "content_type"), GARBAGE, ids=range(len(GARBAGE)))
async def test_signed_garbage_is_malformed_and_publishes_nothing(
    slack: Slack, fake: FakeSlack, body: bytes, content_type: str
) -> None:
    with pytest.raises(Malformed) as caught:
        await receive(slack, fake.sign(body, content_type))
    assert caught.value.detail == "not a request of Slack's"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("type", "event", "actions", "command", "team", "user", "channel", "authorizations", "trigger_id", "event_id")


@given(
    st.dictionaries(st.sampled_from(NAMES), JSON),
    st.sampled_from(["event_callback", "block_actions", "view_submission", "url_verification", None]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_signed_either_is_answered_or_is_refused(
    slack: Slack, fake: FakeSlack, body: dict[str, Any], kind: str | None
) -> None:
    given_body = body if kind is None else body | {"type": kind}
    try:
        status = (await receive(slack, fake.sign(json.dumps(given_body).encode(), "application/json"))).status
    except Malformed as refusal:
        status = refusal.status
    assert status in (200, 400)


# -- three seconds -------------------------------------------------------------------------------------------------


async def test_an_answer_waits_for_no_service(
    make_slack: MakeSlack, fake: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    slack = await make_slack(fake.settings() | {"base_url": "http://127.0.0.1:1/api"})

    async def nobody(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the inbound side reached out")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "create_connection", nobody)
    monkeypatch.setattr(loop, "getaddrinfo", nobody)
    monkeypatch.setattr(loop, "sock_connect", nobody)
    async with asyncio.timeout(3):
        for signed in every_kind(fake):
            assert (await receive(slack, signed)).status == 200
    assert fake.requests == []

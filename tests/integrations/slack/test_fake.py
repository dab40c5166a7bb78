from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from integrations.slack.fake import FakeSlack, refusal


async def call(fake: FakeSlack, method: str, body: Mapping[str, Any], token: str | None = None) -> dict[str, Any]:
    given = fake.token if token is None else token
    headers = {"Authorization": f"Bearer {given}"} if given else {}
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{fake.url}/api/{method}", json=dict(body), headers=headers)
    return {"status": answer.status_code, "retry-after": answer.headers.get("retry-after")} | dict(answer.json())


async def test_an_error_comes_with_status_200(fake: FakeSlack) -> None:
    answer = await call(fake, "chat.postMessage", {"channel": "#nowhere", "text": "x"})
    assert (answer["status"], answer["ok"], answer["error"]) == (200, False, "channel_not_found")


async def test_a_token_is_asked_for_and_checked(fake: FakeSlack) -> None:
    assert (await call(fake, "auth.test", {}))["ok"] is True
    assert (await call(fake, "auth.test", {}, token="xoxb-other"))["error"] == "invalid_auth"
    assert (await call(fake, "auth.test", {}, token=""))["error"] == "not_authed"
    fake.reject_credentials = True
    assert (await call(fake, "auth.test", {}))["error"] == "token_revoked"


async def test_more_than_a_message_a_second_and_channel_is_refused_when_asked_for() -> None:
    async with FakeSlack(rate_limit=True) as fake:
        first, second = [await call(fake, "chat.postMessage", {"channel": "general", "text": "x"}) for _ in "12"]
        other = await call(fake, "chat.postMessage", {"channel": "vms", "text": "x"})
    assert (first["ok"], other["ok"]) == (True, True)
    assert (second["status"], second["error"], second["retry-after"]) == (429, "ratelimited", "1")
    assert len(fake.messages) == 2


async def test_an_archived_channel_takes_nothing(fake: FakeSlack) -> None:
    fake.archived.add("C0GENERAL")
    assert (await call(fake, "chat.postMessage", {"channel": "general", "text": "x"}))["error"] == "is_archived"


async def test_a_message_can_be_changed(fake: FakeSlack) -> None:
    posted = await call(fake, "chat.postMessage", {"channel": "general", "text": "before"})
    at = {"channel": posted["channel"], "ts": posted["ts"]}
    assert (await call(fake, "chat.update", at | {"text": "after"}))["ok"] is True
    assert [m.text for m in fake.messages] == ["after"]
    assert (await call(fake, "chat.update", at | {"ts": "1.1", "text": "x"}))["error"] == "message_not_found"
    assert fake.effects() == ["C0GENERAL: before", "C0GENERAL: changed to after"]


def plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}


def button(**more: Any) -> dict[str, Any]:
    return {"type": "button", "text": plain("x"), "action_id": "a"} | more


def actions(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "actions", "elements": list(elements)}


@pytest.mark.parametrize(
    "block",
    [
        {"type": "header", "text": plain("x" * 151)},
        {"type": "header", "text": plain("")},
        {"type": "header", "text": {"type": "mrkdwn", "text": "x"}},
        {"type": "section"},
        {"type": "section", "text": plain("x" * 3001)},
        {"type": "section", "fields": [plain("x")] * 11},
        {"type": "section", "fields": [plain("x" * 2001)]},
        {"type": "section", "text": {"type": "mrkdwn", "text": "x", "emoji": True}},
        {"type": "context", "elements": [plain("x")] * 11},
        {"type": "context", "elements": []},
        actions(),
        actions(*[button(action_id=f"a{n}") for n in range(26)]),
        actions(button(), button()),
        actions(button(text=plain("x" * 76))),
        actions(button(value="x" * 2001)),
        actions(button(action_id="x" * 256)),
        actions(button(style="green")),
        {"type": "poem"},
    ],
)
def test_a_block_that_breaks_a_limit_of_block_kit_is_refused(block: dict[str, Any]) -> None:
    code, faults = refusal({"text": "x", "blocks": [block]}) or ("", [])
    assert code == "invalid_blocks"
    assert "/blocks/0" in faults[0]


def test_blocks_at_their_limits_are_taken() -> None:
    full = [
        {"type": "header", "text": plain("x" * 150)},
        {"type": "section", "text": plain("x" * 3000)},
        {"type": "section", "fields": [plain("x" * 600)] * 10},
        actions(*[button(action_id=f"a{n}", value="x" * 2000) for n in range(25)]),
    ]
    assert refusal({"text": "x", "blocks": full}) is None


def test_a_message_that_is_too_large_or_empty_is_refused() -> None:
    section = {"type": "section", "text": plain("x" * 3000)}
    assert refusal({"text": "x" * 40_001}) == ("msg_too_long", [])
    assert refusal({"blocks": [section] * 5}) == ("msg_blocks_too_long", [])
    assert refusal({}) == ("no_text", [])
    assert (refusal({"blocks": [{"type": "divider"}] * 51}) or ("",))[0] == "invalid_blocks"


async def test_what_slack_sends_can_be_posted_over_http_as_it_is(fake: FakeSlack) -> None:
    headers, body = fake.slash_command("/eventbus-status")
    assert headers["X-Slack-Signature"].startswith("v0=")
    assert b"command=%2Feventbus-status" in body
    headers, body = fake.event_callback({"type": "app_mention"}, retry=2)
    assert headers["X-Slack-Retry-Num"] == "2"
    assert json.loads(body)["event"]["type"] == "app_mention"


async def ask(fake: FakeSlack, method: str, *, token: str | None = None, **arguments: Any) -> dict[str, Any]:
    return await call(fake, method, arguments, token)


async def test_history_has_ids_only_and_metadata_only_when_asked(fake: FakeSlack) -> None:
    metadata = {"event_type": "t", "event_payload": {"key": "k"}}
    posted = await ask(fake, "chat.postMessage", channel="#general", text="a", metadata=metadata)
    assert (await ask(fake, "conversations.history", channel="#general"))["error"] == "channel_not_found"
    plain = await ask(fake, "conversations.history", channel=posted["channel"])
    assert "metadata" not in plain["messages"][0]
    full = await ask(fake, "conversations.history", channel=posted["channel"], include_all_metadata=True)
    assert full["messages"][0]["metadata"] == metadata
    late = await ask(fake, "conversations.history", channel=posted["channel"], oldest=str(float(posted["ts"]) + 1))
    assert late["messages"] == []


async def test_replies_stand_in_their_thread_and_in_history_only_when_sent_to_the_channel(fake: FakeSlack) -> None:
    root = await ask(fake, "chat.postMessage", channel="C0GENERAL", text="root")
    for broadcast in (False, True):
        body = {"text": f"reply {broadcast}", "thread_ts": root["ts"], "reply_broadcast": broadcast}
        await ask(fake, "chat.postMessage", channel="C0GENERAL", **body)
    thread = await ask(fake, "conversations.replies", channel="C0GENERAL", ts=root["ts"])
    assert [m["text"] for m in thread["messages"]] == ["root", "reply False", "reply True"]
    history = await ask(fake, "conversations.history", channel="C0GENERAL")
    assert [m["text"] for m in history["messages"]] == ["reply True", "root"]
    assert (await ask(fake, "conversations.replies", channel="C0GENERAL", ts="1.1"))["error"] == "thread_not_found"


async def test_pages_end_with_an_empty_cursor(fake: FakeSlack) -> None:
    first = await ask(fake, "conversations.list", limit=2)
    second = await ask(fake, "conversations.list", limit=2, cursor=first["response_metadata"]["next_cursor"])
    names = [one["name"] for page in (first, second) for one in page["channels"]]
    assert (names, second["response_metadata"]["next_cursor"]) == (list(fake.channels), "")


async def test_a_right_that_was_not_given_is_missed_by_name(fake: FakeSlack) -> None:
    fake.scopes.clear()
    said = await ask(fake, "conversations.history", channel="C0GENERAL")
    assert (said["error"], said["needed"]) == ("missing_scope", "channels:history")


async def test_a_socket_is_opened_with_an_app_level_token_only(fake: FakeSlack) -> None:
    assert (await ask(fake, "apps.connections.open"))["error"] == "invalid_auth"
    assert (await ask(fake, "apps.connections.open", token=fake.app_token))["url"].startswith("ws://")

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.codec import decode, encode
from eventbus.pattern import check_topic
from eventbus.topics import GitHubWebhook
from integrations.base import InboundReply, InboundRequest
from integrations.errors import Malformed, Refusal, TooLarge, Unauthorized
from integrations.github.config import GitHubConfig
from integrations.github.fake import FakeGitHub
from integrations.github.inbound import MAX_BYTES, MAX_INLINE_BYTES, REMEMBER, Inbox, digest, parse, topic_of
from integrations.testing.context import MemoryStore

DELIVERY = "72d3162e-cc78-11e3-81ab-4c9367dc0958"


@pytest.fixture(scope="module")
def sender() -> Iterator[FakeGitHub]:
    """Only its webhooks are used here, so it is never started."""
    fake = FakeGitHub()
    yield fake
    fake._socket.close()


def inbox(sender: FakeGitHub, store: MemoryStore | None = None, **settings: Any) -> Inbox:
    config = {"token": "t", "webhook_secret": sender.webhook_secret, **settings}
    return Inbox(GitHubConfig.model_validate(config), store or MemoryStore())


async def receive(sender: FakeGitHub, event: str, payload: Any, **how: Any) -> InboundReply:
    return await inbox(sender).receive(sender.webhook(event, payload, **how))


def signed(sender: FakeGitHub, body: bytes, **headers: str) -> InboundRequest:
    request = sender.webhook("push", body)
    return replace(request, headers={**request.headers, **headers})


# -- what becomes of a webhook ----------------------------------------------------------------------------------------


async def test_an_opened_pull_request_becomes_an_event(sender: FakeGitHub) -> None:
    request = sender.webhook("pull_request", sender.pull_request_opened(), delivery=DELIVERY)
    reply = await inbox(sender).receive(request)
    (event,) = reply.events
    assert event.topic == "github.pull_request.opened"
    assert event.source == "https://github.com/acme/api"
    assert event.subject == "acme/api#7"
    assert event.key == "github:acme/api#7"
    assert event.idempotency_key == f"github:{DELIVERY}:github.pull_request.opened"
    assert event.time == datetime.fromtimestamp(request.received_at, UTC)
    assert event.data.model_dump(exclude={"body"}) == {
        "delivery": DELIVERY,
        "event": "pull_request",
        "action": "opened",
        "repository": "acme/api",
        "sender": "ada",
        "number": 7,
        "url": "https://github.com/acme/api/pull/7",
        "title": "Add e-mail to users",
        "ref": None,
        "ours": False,
        "body_key": None,
    }
    assert event.data.body == sender.pull_request_opened()
    assert reply.status == 202
    assert json.loads(reply.body) == {"ok": True, "topic": "github.pull_request.opened"}
    assert reply.remember == REMEMBER
    assert reply.replay_status is None


async def test_a_push_has_no_action_and_is_ordered_by_its_repository(sender: FakeGitHub) -> None:
    payload = sender.push(branch="release/1")
    (event,) = (await receive(sender, "push", payload)).events
    assert (event.topic, event.key, event.subject) == ("github.push", "github:acme/api", "acme/api")
    assert (event.data.ref, event.data.url) == ("refs/heads/release/1", payload["compare"])


async def test_a_comment_is_ordered_with_its_pull_request(sender: FakeGitHub) -> None:
    payload = sender.issue_comment_created(sender.remark("acme/api#7", "Nice"))
    (event,) = (await receive(sender, "issue_comment", payload)).events
    assert (event.topic, event.key) == ("github.issue_comment.created", "github:acme/api#7")


async def test_a_ping_is_answered_and_publishes_nothing(sender: FakeGitHub) -> None:
    reply = await receive(sender, "ping", sender.ping())
    assert (reply.events, reply.status) == ((), 200)
    assert json.loads(reply.body)["ok"] is True


async def test_a_form_says_the_same_as_json(sender: FakeGitHub) -> None:
    payload = {**sender.push(), "note": "a&b=ü +%"}
    (as_json,) = (await receive(sender, "push", payload, delivery=DELIVERY)).events
    (as_form,) = (await receive(sender, "push", payload, delivery=DELIVERY, form=True)).events
    assert as_form.data == as_json.data
    assert as_form.idempotency_key == as_json.idempotency_key


async def test_a_redelivery_has_the_same_idempotency_key(sender: FakeGitHub) -> None:
    replies = [await receive(sender, "push", sender.push(), delivery=DELIVERY) for _ in range(2)]
    assert len({reply.events[0].idempotency_key for reply in replies}) == 1


@pytest.mark.parametrize(
    "payload", [{}, {"action": 7}, {"action": None}, {"pull_request": [], "number": True}, {"repository": "x"}]
)
async def test_a_payload_that_lacks_everything_is_still_an_event(sender: FakeGitHub, payload: dict[str, Any]) -> None:
    (event,) = (await receive(sender, "something_new", payload)).events
    assert event.topic == "github.something_new"
    assert (event.key, event.subject, event.source) == (None, None, "https://github.com")
    assert event.data.body == payload


@pytest.mark.parametrize(
    ("action", "topic"),
    [
        ("opened", "github.repository_dispatch.opened"),
        ("Deploy.Prod v2!", "github.repository_dispatch.deploy_prod_v2"),
        ("..", "github.repository_dispatch"),
        ("übung", "github.repository_dispatch.bung"),
        ("x" * 500, "github.repository_dispatch." + "x" * 80),
        ("", "github.repository_dispatch"),
    ],
)
async def test_any_action_makes_a_sound_topic(sender: FakeGitHub, action: str, topic: str) -> None:
    (event,) = (await receive(sender, "repository_dispatch", {"action": action})).events
    assert event.topic == topic


@given(st.text(max_size=300), st.from_regex(r"[a-z0-9_]{1,100}", fullmatch=True))
def test_every_topic_fits_the_grammar(action: str, name: str) -> None:
    check_topic(topic_of(digest(name, "d", {"action": action})))


async def test_a_webhook_of_100_kb_travels_with_its_event(sender: FakeGitHub) -> None:
    payload = {"text": ""}
    payload["text"] = "\u00fc" * ((MAX_INLINE_BYTES - len(json.dumps(payload))) // 2)
    (event,) = (await receive(sender, "push", payload)).events
    assert event.data.body == payload
    assert decode(event.topic, encode(event)) == event


async def test_a_larger_webhook_is_kept_in_the_store(sender: FakeGitHub) -> None:
    store = MemoryStore()
    payload = {**sender.pull_request_opened(), "text": "\u00fc" * MAX_INLINE_BYTES}
    request = sender.webhook("pull_request", payload, delivery=DELIVERY)
    (event,) = (await inbox(sender, store).receive(request)).events
    assert event.data.body is None
    assert event.data.number == 7
    assert await store.get(event.data.body_key) == request.body.decode()
    assert len(encode(event)) < 2000


async def test_a_webhook_of_25_mb_is_taken_and_a_larger_one_refused(sender: FakeGitHub) -> None:
    body = b'{"text":"' + b"x" * (MAX_BYTES - 11) + b'"}'
    reply = await inbox(sender).receive(sender.webhook("push", body))
    assert reply.status == 202
    with pytest.raises(TooLarge):
        await inbox(sender).receive(sender.webhook("push", body + b" "))


# -- who may send one -------------------------------------------------------------------------------------------------


async def test_the_documented_example_verifies() -> None:
    # docs.github.com/webhooks, "Validating webhook deliveries", "Testing the webhook payload validation"
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {
        "x-hub-signature-256": signature,
        "x-github-event": "push",
        "x-github-delivery": DELIVERY,
        "content-type": "application/json",
    }
    config = GitHubConfig.model_validate({"token": "t", "webhook_secret": "It's a Secret to Everybody"})
    with pytest.raises(Malformed):  # verified, and only then found to be no JSON
        await Inbox(config, MemoryStore()).receive(InboundRequest(headers, b"Hello, World!", 0.0))


@pytest.mark.parametrize("secret", ["wrong", "It's a Secret to Everybody "])
async def test_a_forged_signature_publishes_nothing(sender: FakeGitHub, secret: str) -> None:
    with pytest.raises(Unauthorized):
        await receive(sender, "push", sender.push(), secret=secret)


async def test_a_changed_body_publishes_nothing(sender: FakeGitHub) -> None:
    request = sender.webhook("push", sender.push())
    for body in (request.body + b" ", request.body.replace(b"main", b"prod"), b""):
        with pytest.raises(Unauthorized):
            await inbox(sender).receive(replace(request, body=body))


@pytest.mark.parametrize("signature", ["", "sha256=", "sha256=\u00e9", "sha1=abc", "x" * 10_000])
async def test_a_missing_or_odd_signature_is_refused_like_a_wrong_one(sender: FakeGitHub, signature: str) -> None:
    request = signed(sender, b"{}", **{"x-hub-signature-256": signature})
    with pytest.raises(Unauthorized, match=r"^signature mismatch$"):
        await inbox(sender).receive(request)


async def test_the_old_sha1_signature_is_not_enough(sender: FakeGitHub) -> None:
    request = sender.webhook("push", sender.push())
    headers = {name: value for name, value in request.headers.items() if name != "x-hub-signature-256"}
    with pytest.raises(Unauthorized):
        await inbox(sender).receive(replace(request, headers={**headers, "x-hub-signature": "sha1=00"}))


async def test_while_a_secret_is_replaced_both_are_good(sender: FakeGitHub) -> None:
    rotating = inbox(sender, webhook_secret="new", previous_webhook_secrets=["old", "older"])
    for secret in ("new", "old", "older"):
        assert (await rotating.receive(sender.webhook("push", sender.push(), secret=secret))).status == 202
    with pytest.raises(Unauthorized):
        await rotating.receive(sender.webhook("push", sender.push(), secret="oldest"))


async def test_without_a_webhook_secret_everything_is_refused_and_the_log_says_why(sender: FakeGitHub) -> None:
    with pytest.raises(Refusal) as caught:
        await inbox(sender, webhook_secret=None).receive(sender.webhook("push", sender.push()))
    assert "webhook_secret is not set" in caught.value.reason
    assert "webhook_secret" not in caught.value.detail


async def test_previous_secrets_alone_open_nothing(sender: FakeGitHub) -> None:
    closed = inbox(sender, webhook_secret="", previous_webhook_secrets=["old"])
    with pytest.raises(Unauthorized):
        await closed.receive(sender.webhook("push", sender.push(), secret="old"))


async def test_the_signature_is_checked_before_anything_is_read(sender: FakeGitHub) -> None:
    request = sender.webhook("push", b"not json", secret="wrong")
    with pytest.raises(Unauthorized):
        await inbox(sender).receive(replace(request, headers={**request.headers, "x-github-event": ""}))


# -- what is not a webhook --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-github-event", ""),
        ("x-github-event", "Push.*"),
        ("x-github-event", "a" * 101),
        ("x-github-delivery", ""),
        ("x-github-delivery", "a b"),
        ("x-github-delivery", "x" * 101),
        ("content-type", ""),
        ("content-type", "text/plain"),
    ],
)
async def test_a_header_that_is_missing_or_odd_is_named(sender: FakeGitHub, name: str, value: str) -> None:
    with pytest.raises(Malformed) as caught:
        await inbox(sender).receive(signed(sender, b"{}", **{name: value}))
    assert name in caught.value.detail.lower().replace(" ", "-")


BOMBS = [
    b"",
    b"[]",
    b"null",
    b'"text"',
    b"{",
    b"{} {}",
    b"\xff\xfe{}",
    b'{"a": "\xff"}',
    b'\xef\xbb\xbf{"a": 1}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"a":' + b"[" * 65 + b"]" * 65 + b"}",
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": -Infinity}',
    b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": 9223372036854775808}',
    b'{"a": -9223372036854775809}',
    b'{"a": "\\ud800"}',
    b'{"\\udfff": 1}',
    b'{"a": 1, "a": 2}',
    b'{"a": {"b": 1, "b": 2}}',
]


@pytest.mark.parametrize("body", BOMBS)
async def test_a_body_that_not_every_reader_takes_is_malformed(sender: FakeGitHub, body: bytes) -> None:
    with pytest.raises(Malformed):
        await inbox(sender).receive(signed(sender, body))


@pytest.mark.parametrize(
    "body", [b'{"a": 9223372036854775807}', b'{"a":' + b"[" * 60 + b"]" * 60 + b"}", b'{"a": "\\ud83d\\ude00"}']
)
async def test_a_body_at_the_limits_is_taken(sender: FakeGitHub, body: bytes) -> None:
    (event,) = (await inbox(sender).receive(signed(sender, body))).events
    assert decode(event.topic, encode(event)).data.body == json.loads(body)


@pytest.mark.parametrize(
    "body", [b"", b"payload", b"payload=%7B%7D&payload=%7B%7D", b"other=1", b"payload=%ff", b"\xff=1", b"a=1&" * 50]
)
async def test_an_odd_form_is_malformed(sender: FakeGitHub, body: bytes) -> None:
    with pytest.raises(Malformed):
        await inbox(sender).receive(signed(sender, body, **{"content-type": "application/x-www-form-urlencoded"}))


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\u0d89aeNI 1.-', max_size=80).map(str.encode))
def test_no_body_is_a_crash(body: bytes) -> None:
    try:
        found = parse(body)
    except Malformed:
        return
    encode_safe = GitHubWebhook(delivery="d", event="e", body=found).model_dump_json()
    assert json.loads(encode_safe)["body"] == found


def test_a_refusal_never_repeats_the_body() -> None:
    with pytest.raises(Malformed) as caught:
        parse(b'{"token": "canary", ')
    assert "canary" not in f"{caught.value.detail} {caught.value.reason}"

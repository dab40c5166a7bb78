"""Webhooks: who may send one, what becomes of it, and what can't be played again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.catalog import catalog
from eventbus.codec import decode, encode
from eventbus.topics import TaskFailed
from eventbus.topics.pagerduty import PagerDutyWebhook
from integrations.base import Artifact, Delivery, InboundRequest
from integrations.errors import Malformed, TooLarge, Unauthorized
from integrations.pagerduty import PagerDuty
from integrations.pagerduty.config import PagerDutyConfig
from integrations.pagerduty.fake import FakePagerDuty
from integrations.pagerduty.inbound import MAX_BYTES, REMEMBER, Inbox, parse, verify
from integrations.testing.context import MemoryStore


@pytest.fixture(scope="module")
def sender() -> Iterator[FakePagerDuty]:
    """Only its webhooks are used here, so it is never started."""
    fake = FakePagerDuty()
    yield fake
    fake._socket.close()


def inbox(sender: FakePagerDuty, store: MemoryStore | None = None, **settings: Any) -> Inbox:
    config = {"routing_key": sender.routing_key, "webhook_secret": sender.webhook_secret, **settings}
    return Inbox(PagerDutyConfig.model_validate(config), store or MemoryStore())


async def test_a_triggered_incident_becomes_an_event(sender: FakePagerDuty) -> None:
    said = sender.incident_event(agent=sender.person())
    reply = await inbox(sender).receive(sender.webhook(said))
    (event,) = reply.events
    assert (event.topic, event.key, event.subject) == ("pagerduty.incident.triggered", "pagerduty:PGR0VU2", "PGR0VU2")
    assert (event.source, event.idempotency_key) == ("https://acme.pagerduty.com", f"pagerduty:{said['id']}")
    assert event.time == datetime.fromisoformat(said["occurred_at"])
    assert event.data.model_dump(include={"number", "title", "status", "urgency", "priority", "service"}) == {
        "number": 2,
        "title": "A little bump in the road",
        "status": "triggered",
        "urgency": "high",
        "priority": "P1",
        "service": "Database Migrations",
    }
    assert (event.data.assignees, event.data.person, event.data.ours) == (("Ada",), "Ada", False)
    assert event.data.body == said["data"]
    assert (reply.status, reply.remember, reply.replay_status) == (202, REMEMBER, None)
    assert decode(event.topic, encode(event)) == event


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        ("incident.annotated", {"type": "incident_note", "content": "looking into it", "id": "P2LA89X"}),
        ("incident.responder.added", {"type": "incident_responder", "state": "pending"}),
        ("incident.status_update_published", {"type": "incident_status_update", "message": "m"}),
        ("incident.workflow.completed", {"type": "incident_workflow_instance"}),
        ("incident.something_new", {"type": "unheard_of"}),
    ],
)
async def test_what_belongs_to_an_incident_is_ordered_with_it(
    sender: FakePagerDuty, event_type: str, data: dict[str, Any]
) -> None:
    reference = {"id": "PGR0VU2", "type": "incident_reference", "summary": "A little bump", "html_url": "https://x.y/1"}
    said = sender.incident_event(event_type) | {"data": data | {"incident": reference}}
    (event,) = (await inbox(sender).receive(sender.webhook(said))).events
    assert (event.topic, event.key) == (f"pagerduty.{event_type}", "pagerduty:PGR0VU2")
    assert (event.data.title, event.data.status) == ("A little bump", None)


async def test_a_changed_service_becomes_an_event(sender: FakePagerDuty) -> None:
    data = {"type": "service", "id": "PF9KMXH", "summary": "API", "html_url": "https://acme.pagerduty.com/services/P"}
    said = sender.incident_event("service.updated") | {"data": data}
    (event,) = (await inbox(sender).receive(sender.webhook(said))).events
    assert (event.topic, event.key, event.data.service) == ("pagerduty.service.updated", "pagerduty:PF9KMXH", "API")


async def test_a_ping_is_answered_and_publishes_nothing(sender: FakePagerDuty) -> None:
    said = sender.incident_event("pagey.ping") | {"data": {"message": "Hello from your friend Pagey!", "type": "ping"}}
    reply = await inbox(sender).receive(sender.webhook(said))
    assert (reply.status, reply.events) == (202, ())


# -- who may send one -------------------------------------------------------------------------------------------------


def test_the_published_way_to_sign_verifies() -> None:
    # "Verifying Signatures": HMAC-SHA256 of the body, in hexadecimal. Wikipedia's well-known vector for it.
    body, digest = (
        b"The quick brown fox jumps over the lazy dog",
        "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8",
    )
    config = PagerDutyConfig.model_validate({"routing_key": "0" * 32, "webhook_secret": "key"})
    verify(body, f"v1={digest}", config.webhook_secrets)
    verify(body, f"v1={'0' * 64},v1={digest}", config.webhook_secrets)
    verify(body, f"v2=abc, v1={digest}", config.webhook_secrets)
    for wrong in (digest, f"v2={digest}", f"v1={digest.upper()}", f"v1={digest}0", f"v1={digest};v1={digest}"):
        with pytest.raises(Unauthorized):
            verify(body, wrong, config.webhook_secrets)


@pytest.mark.parametrize("signature", [None, "", "v1=", "v1=\u00e9", ",", "x" * 10_000, "v1=0," * 1000])
async def test_a_missing_or_odd_signature_publishes_nothing(sender: FakePagerDuty, signature: str | None) -> None:
    request = sender.webhook(sender.incident_event())
    headers = {name: value for name, value in request.headers.items() if name != "x-pagerduty-signature"}
    if signature is not None:
        headers["x-pagerduty-signature"] = signature
    with pytest.raises(Unauthorized, match=r"^signature mismatch$"):
        await inbox(sender).receive(replace(request, headers=headers))


async def test_a_forged_or_changed_webhook_publishes_nothing(sender: FakePagerDuty) -> None:
    with pytest.raises(Unauthorized):
        await inbox(sender).receive(sender.webhook(sender.incident_event(), signing=["wrong"]))
    request = sender.webhook(sender.incident_event())
    with pytest.raises(Unauthorized):
        await inbox(sender).receive(replace(request, body=request.body + b" "))


async def test_while_the_secret_is_replaced_either_side_may_be_first(sender: FakePagerDuty) -> None:
    ours_first = inbox(sender, webhook_secret="new", previous_webhook_secrets=["old"])
    for signing in (["old"], ["new"], ["newest", "old"]):
        assert (await ours_first.receive(sender.webhook(sender.incident_event(), signing=signing))).status == 202
    with pytest.raises(Unauthorized):
        await ours_first.receive(sender.webhook(sender.incident_event(), signing=["newest", "oldest"]))


async def test_without_a_webhook_secret_everything_is_refused_and_the_log_says_why(sender: FakePagerDuty) -> None:
    closed = inbox(sender, webhook_secret="", previous_webhook_secrets=["old"])
    with pytest.raises(Unauthorized) as caught:
        await closed.receive(sender.webhook(sender.incident_event(), signing=["old"]))
    assert "webhook_secret is not set" in caught.value.reason
    assert caught.value.detail == "signature mismatch"


# -- once -------------------------------------------------------------------------------------------------------------


async def test_another_attempt_and_another_subscription_name_the_same_event(sender: FakePagerDuty) -> None:
    said = sender.incident_event()
    keys = {
        (await inbox(sender).receive(sender.webhook(said, webhook_id=header))).events[0].idempotency_key
        for header in ("1", "2")
    }
    assert len(keys) == 1, "X-Webhook-Id is not signed: whoever holds a webhook could give it another"


async def test_what_is_older_than_we_remember_is_not_published_again(sender: FakePagerDuty) -> None:
    now = datetime.now(UTC)
    just = sender.incident_event(occurred_at=(now - REMEMBER + timedelta(minutes=1)).isoformat())
    old = sender.incident_event(occurred_at=(now - REMEMBER - timedelta(minutes=1)).isoformat())
    assert len((await inbox(sender).receive(sender.webhook(just))).events) == 1
    reply = await inbox(sender).receive(sender.webhook(old))
    assert (reply.status, reply.events) == (202, ()), "a 4xx would disable the subscription"


# -- whose doing ------------------------------------------------------------------------------------------------------


async def test_an_incident_that_we_opened_is_known_for_ours(fake: FakePagerDuty, pagerduty: PagerDuty) -> None:
    result = await pagerduty.handle_event(catalog.event(TaskFailed(task_id="t-1", error="e")), Delivery("k"))

    async def told(event_type: str, **said: Any) -> PagerDutyWebhook:
        request = fake.webhook(fake.incident_event(event_type, **said))
        payload = (await pagerduty.receive(request)).events[0].data
        assert isinstance(payload, PagerDutyWebhook)
        return payload

    opened = await told("incident.triggered", incident_key=result.reference)
    assert (opened.ours, opened.person) == (True, None)
    by_hand = await told("incident.resolved", incident_key=result.reference, agent=fake.person())
    assert (by_hand.ours, by_hand.person) == (True, "Ada")
    await pagerduty.create_artifact(
        Artifact(type="incident", content={"title": "t", "incident_key": "i-1"}), Delivery("a")
    )
    assert (await told("incident.acknowledged", incident_key="i-1")).ours
    assert not (await told("incident.triggered", incident_key="somebody-elses")).ours
    assert not (await told("incident.triggered", incident_key=None)).ours


# -- what is not a webhook --------------------------------------------------------------------------------------------


def signed_body(
    event_id: str = "1", event_type: str = "incident.x", at: str = "2026-01-01T00:00:00Z", a: str = "1"
) -> bytes:
    said = f'"id": "{event_id}", "event_type": "{event_type}", "occurred_at": "{at}", "data": {{"a": {a}}}'
    return f'{{"event": {{{said}}}}}'.encode()


BODIES = [
    b"",
    b"[]",
    b"null",
    b"{",
    b"\xff",
    b"{}",
    b'{"event": []}',
    b'{"a":' * 10_000,
    signed_body(event_id=""),
    signed_body(event_type="Incident.*"),
    signed_body(event_type="incident..x"),
    signed_body(at="2026-01-01T00:00:00"),
    signed_body(at="soon"),
    signed_body(a="NaN"),
    signed_body(a="1e999"),
    signed_body(a="9" * 30),
    signed_body(a='"\\ud800"'),
]


def test_the_bodies_below_are_refused_for_what_is_odd_in_them() -> None:
    assert parse(signed_body()).data == {"a": 1}


@pytest.mark.parametrize("body", BODIES)
async def test_a_signed_body_that_is_no_webhook_is_malformed(sender: FakePagerDuty, body: bytes) -> None:
    with pytest.raises(Malformed):
        await inbox(sender).receive(sender.webhook(body))


def test_a_refusal_never_repeats_the_body() -> None:
    with pytest.raises(Malformed) as caught:
        parse(b'{"event": {"id": "1", "event_type": "canary!", "data": "canary"}}')
    assert "canary" not in f"{caught.value.detail} {caught.value.reason}"


async def test_a_body_larger_than_pagerduty_sends_is_refused_unread(sender: FakePagerDuty) -> None:
    with pytest.raises(TooLarge):
        await inbox(sender).receive(InboundRequest({}, b"x" * (MAX_BYTES + 1), 0.0))


async def test_of_a_very_large_webhook_the_digest_is_kept(sender: FakePagerDuty) -> None:
    said = sender.incident_event(title="t" * 1000, body="\u00fc" * 60_000)
    (event,) = (await inbox(sender).receive(sender.webhook(said))).events
    assert (event.data.body, len(event.data.title), event.data.number) == (None, 500, 2)


@given(
    st.dictionaries(
        st.sampled_from(["id", "type", "incident", "service", "assignees", "number"]),
        st.none()
        | st.integers(-9, 9)
        | st.text()
        | st.lists(st.text() | st.none())
        | st.dictionaries(st.text(), st.text()),
    )
)
async def test_no_resource_of_another_shape_is_a_crash(sender: FakePagerDuty, data: dict[str, Any]) -> None:
    said = sender.incident_event() | {"data": data}
    try:
        (event,) = (await inbox(sender).receive(sender.webhook(said))).events
    except (Malformed, UnicodeEncodeError):  # the sender can't encode a lone surrogate either
        return
    assert event.topic == "pagerduty.incident.triggered"

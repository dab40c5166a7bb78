"""What is sent, byte for byte, and that others can read and verify it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook as Reference

from eventbus.catalog import catalog
from eventbus.codec import decode, encode, from_cloudevent
from eventbus.topics import VmCreated
from integrations.base import Notification, Severity
from integrations.signing import public_key, verify_plain, verify_standard
from integrations.webhook.config import Endpoint
from integrations.webhook.render import message_id, render_event, render_notification

NOW = 1_700_000_000.9
KEY = "webhook/billing/0199b3f0"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_" + "A" * 32
FORMATS = ["standard", "cloudevents", "plain"]

EVENT = catalog.event(
    VmCreated(vm_id="vm-1", vm_name="my-vm", vcpus=2, memory_mb=2048),
    id="0199b3f0-0000-7000-8000-000000000000",
    source="/cli",
    time=datetime(2026, 1, 12, 10, 30, tzinfo=UTC),
)


def endpoint(**changes: Any) -> Endpoint:
    return Endpoint.model_validate({"name": "billing", "url": "https://example.com/hook"} | changes)


def test_the_standard_body_is_type_timestamp_and_data() -> None:
    request = render_event(EVENT, endpoint(), KEY, NOW)
    assert (request.method, request.url) == ("POST", "https://example.com/hook")
    assert request.body == (
        b'{"type":"vm.created","timestamp":"2026-01-12T10:30:00Z",'
        b'"data":{"vm_id":"vm-1","vm_name":"my-vm","vcpus":2,"memory_mb":2048}}'
    )
    assert request.headers == {
        "content-type": "application/json",
        "webhook-id": message_id(KEY),
        "webhook-timestamp": "1700000000",
    }


def test_the_plain_body_is_event_timestamp_source_and_data() -> None:
    body = json.loads(render_event(EVENT, endpoint(format="plain"), KEY, NOW).body)
    assert body == {
        "event": "vm.created",
        "timestamp": "2026-01-12T10:30:00Z",
        "source": "/cli",
        "data": {"vm_id": "vm-1", "vm_name": "my-vm", "vcpus": 2, "memory_mb": 2048},
    }


def test_the_cloudevents_body_is_the_whole_event() -> None:
    request = render_event(EVENT, endpoint(format="cloudevents"), KEY, NOW)
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert from_cloudevent(json.loads(request.body)) == EVENT


def test_the_reference_reader_takes_our_cloudevents() -> None:
    for request in (
        render_event(EVENT, endpoint(format="cloudevents"), KEY, NOW),
        render_notification(Notification(message="hello"), endpoint(format="cloudevents"), KEY, NOW),
    ):
        read = JSONFormat().read(None, request.body)
        assert read.get_type() in ("vm.created", "notification")
        assert read.get_data() == json.loads(request.body)["data"]


@pytest.mark.parametrize("form", ["standard", "cloudevents"])
def test_the_reference_verifier_accepts_every_secret_of_a_rotation(form: str) -> None:
    now = datetime.now(UTC).timestamp()
    one = endpoint(format=form, secret=SECRET, previous_secrets=[OLD_SECRET])
    request = render_event(EVENT, one, KEY, now)
    for secret in (SECRET, OLD_SECRET):
        assert Reference(secret).verify(request.body, dict(request.headers)) == json.loads(request.body)


def test_once_the_overlap_is_over_only_the_new_secret_signs() -> None:
    old = {"secret": OLD_SECRET, "replaced": datetime.fromtimestamp(NOW, UTC)}
    one = endpoint(secret=SECRET, previous_secrets=[old], overlap_hours=1)
    during, after = (render_event(EVENT, one, KEY, NOW + later) for later in (3599, 3600))
    assert len(during.headers["webhook-signature"].split(" ")) == 2
    assert len(after.headers["webhook-signature"].split(" ")) == 1
    assert during.body == after.body


def test_an_ed25519_key_signs_beside_the_shared_secret_it_replaces() -> None:
    key = SecretStr("whsk_" + base64.b64encode(bytes(32)).decode())
    public = public_key(key)
    assert public is not None
    one = endpoint(secret=key.get_secret_value(), previous_secrets=[SECRET])
    sent = render_event(EVENT, one, KEY, NOW)
    for trusted in (public, SECRET):
        facts = sent.headers["webhook-id"], sent.headers["webhook-timestamp"], sent.body
        verify_standard(*facts, sent.headers["webhook-signature"], [SecretStr(trusted)], now=NOW)


def test_a_plain_request_is_signed_over_its_body() -> None:
    request = render_event(EVENT, endpoint(format="plain", secret="any text"), KEY, NOW)
    verify_plain(request.body, request.headers["x-signature"], [SecretStr("any text")])
    assert "webhook-signature" not in request.headers


@pytest.mark.parametrize("form", FORMATS)
def test_without_a_secret_nothing_is_signed(form: str) -> None:
    request = render_event(EVENT, endpoint(format=form), KEY, NOW)
    assert not {"webhook-signature", "x-signature"} & set(request.headers)


@pytest.mark.parametrize("form", FORMATS)
def test_a_later_attempt_differs_in_its_time_and_signature_only(form: str) -> None:
    one = endpoint(format=form, secret=SECRET)
    again = decode(EVENT.topic, encode(EVENT))  # as the next worker gets it
    first, second = render_event(EVENT, one, KEY, NOW), render_event(again, one, KEY, NOW + 3600)
    assert first.body == second.body
    differing = {name for name in first.headers if first.headers[name] != second.headers[name]}
    assert differing == {"webhook-timestamp"} | ({"webhook-signature"} if form != "plain" else set())


@pytest.mark.parametrize("form", FORMATS)
def test_a_notification_is_the_same_on_every_attempt_too(form: str) -> None:
    told = Notification(message="lock timeout", target="billing", severity=Severity.ERROR, fields={"a": "b"})
    one = endpoint(format=form, secret=SECRET)
    first, second = render_notification(told, one, KEY, NOW), render_notification(told, one, KEY, NOW + 3600)
    content = json.loads(first.body)
    assert first.body == second.body
    assert content["event" if form == "plain" else "type"] == "notification"
    assert content["data"]["message"] == "lock timeout"
    assert content["data"]["severity"] == "error"
    assert "target" not in content["data"]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_carries_the_id_that_a_receiver_knows_a_repeat_by(form: str) -> None:
    assert render_event(EVENT, endpoint(format=form), KEY, NOW).headers["webhook-id"] == message_id(KEY)


@given(key=st.text(min_size=1), other=st.text(min_size=1))
def test_an_id_is_stable_holds_no_dot_and_differs_between_keys(key: str, other: str) -> None:
    assert message_id(key) == message_id(key)
    assert message_id(key).removeprefix("msg_").isalnum()
    assert (message_id(key) == message_id(other)) is (key == other)


def test_the_headers_of_the_settings_are_sent() -> None:
    one = endpoint(headers={"Authorization": "Bearer canary"})
    request = render_event(EVENT, one, KEY, NOW)
    assert request.headers["Authorization"] == "Bearer canary"
    assert "canary" not in repr(request)
    assert "/hook" not in repr(request)


def test_data_keeps_what_a_newer_program_added_and_the_nulls_in_it() -> None:
    event = catalog.event("custom.thing", {"known": None, "text": "\u20ac \u2028", "deep": {"list": [1, 2.5, True]}})
    for form in FORMATS:
        body = json.loads(render_event(event, endpoint(format=form), KEY, NOW).body)
        assert body["data"] == {"known": None, "text": "\u20ac \u2028", "deep": {"list": [1, 2.5, True]}}


def test_a_number_that_json_has_not_is_null() -> None:
    event = catalog.event("custom.thing", {"load": float("nan")})
    assert b'"load":null' in render_event(event, endpoint(), KEY, NOW).body


def test_the_time_is_the_events_and_in_utc() -> None:
    there = EVENT.time.astimezone(timezone(timedelta(hours=2))) + timedelta(microseconds=5)
    event = catalog.event(VmCreated(vm_id="vm-1"), time=there)
    assert json.loads(render_event(event, endpoint(), KEY, NOW).body)["timestamp"] == "2026-01-12T10:30:00.000005Z"

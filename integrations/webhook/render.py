"""Event in, HTTP request out. Pure: no clock, no I/O; this is also the preview.

The body is the same on every attempt, byte for byte. The `webhook-id` is too: receivers know a repeat by it. Only the
time stamp of the attempt changes, and the signatures with it: one for each secret that is valid at that time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr
from pydantic_core import to_json

from eventbus.codec import to_cloudevent
from eventbus.event import Event
from integrations.base import Notification
from integrations.signing import sign_plain, sign_standard
from integrations.webhook.config import Endpoint

NOTIFICATION = "notification"
"""The `type` (in `plain`: `event`) of a notification's body. No topic looks like it: topics of ours have a dot."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it will leave. Address and headers are secrets: the repr omits them."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes


def message_id(key: str) -> str:
    """The `webhook-id` of an idempotency key.

    Standard Webhooks, "Signature scheme": the id must not hold a `.`, or a sender's user could shift the borders of
    what is signed. A digest also keeps what keys are made of to ourselves.
    """
    return "msg_" + hashlib.sha256(key.encode()).hexdigest()[:32]


def render_event(event: Event[Any], endpoint: Endpoint, key: str, now: float) -> Request:
    """The request for an event; `now` is the attempt's time, in Unix seconds."""
    if endpoint.format == "cloudevents":
        content: dict[str, Any] = to_cloudevent(event)
    else:
        dumped = event.model_dump(mode="json", include={"time", "data"})
        content = _envelope(endpoint, event.topic) | {"timestamp": dumped["time"]}
        if endpoint.format == "plain":
            content["source"] = event.source
        content["data"] = dumped["data"]
    return _request(content, endpoint, key, now)


def render_notification(notification: Notification, endpoint: Endpoint, key: str, now: float) -> Request:
    """The request for a notification. It has no time of its own, so its body has none."""
    content: dict[str, Any] = _envelope(endpoint, NOTIFICATION)
    if endpoint.format == "cloudevents":
        content |= {
            "specversion": "1.0",
            "id": message_id(key),
            "source": "/notifications",
            "datacontenttype": "application/json",
        }
    content["data"] = notification.model_dump(mode="json", exclude={"target"})
    return _request(content, endpoint, key, now)


def _envelope(endpoint: Endpoint, kind: str) -> dict[str, Any]:
    """What kind of message it is: `type` in Standard Webhooks and CloudEvents, `event` in plain webhooks."""
    return {"event" if endpoint.format == "plain" else "type": kind}


def _request(content: dict[str, Any], endpoint: Endpoint, key: str, now: float) -> Request:
    webhook_id, timestamp = message_id(key), int(now)
    body = to_json(content, inf_nan_mode="null")  # JSON has no NaN (RFC 8259, section 6)
    headers = {name: value.get_secret_value() for name, value in endpoint.headers.items()}
    headers |= {
        "content-type": "application/cloudevents+json" if endpoint.format == "cloudevents" else "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
    }
    headers |= _signature(webhook_id, timestamp, body, endpoint, endpoint.secrets(now))
    return Request("POST", endpoint.url.get_secret_value(), headers, body)


def _signature(
    webhook_id: str, timestamp: int, body: bytes, endpoint: Endpoint, secrets: Sequence[SecretStr]
) -> dict[str, str]:
    if not secrets:
        return {}
    if endpoint.format == "plain":
        return {"x-signature": sign_plain(body, secrets[0])}
    return {"webhook-signature": sign_standard(webhook_id, timestamp, body, secrets)}

"""PagerDuty's v3 webhooks, to events: verify the raw bytes, parse strictly, take the digest.

PagerDuty signs the body and nothing else, without a time stamp, and repeats a webhook for up to 48 hours (Webhooks,
"Behavior"). So events are named by the id inside the signed body, not by the header X-Webhook-Id; they are remembered
for a week, and what happened longer ago is not taken: a recorded webhook can't be played again, ever.

Refusing costs more here than elsewhere: three webhooks in a row that get a 4xx disable the subscription for a day. Only
what is unsigned or unreadable is refused; event types that we do not know become events too.
"""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BaseModel, Field, JsonValue, SecretStr, ValidationError
from pydantic_core import from_json

from eventbus.catalog import catalog
from eventbus.errors import InvalidEvent
from eventbus.topics.pagerduty import PagerDutyWebhook
from integrations.base import InboundReply, InboundRequest, Store
from integrations.errors import Malformed, TooLarge, Unauthorized
from integrations.pagerduty.config import PagerDutyConfig
from integrations.pagerduty.dedup import digest
from integrations.signing import sign_plain

MAX_BYTES = 256 * 1024
"""Webhooks, "Behavior", "Size Limit": those larger than 256 KB are always dropped."""
MAX_INLINE_BYTES = 100 * 1024
MAX_SIGNATURES = 20
MAX_INTEGER = 2**63
REMEMBER = timedelta(days=7)
OPENED_FOR = timedelta(days=30)
"""How long a dedup key is known for one of ours after its last trigger."""
PING = "pagey.ping"
"""Sent by "Send Test Event" of a webhook's page; nothing has happened."""

_JSON = {"Content-Type": "application/json"}


class _Event(BaseModel):
    """The envelope (Webhooks, "Overview", "Webhook Payload")."""

    id: str = Field(min_length=1, max_length=200)
    event_type: str = Field(pattern=r"^[a-z0-9_]{1,60}(\.[a-z0-9_]{1,60}){0,4}$")
    occurred_at: AwareDatetime
    agent: dict[str, JsonValue] | None = None
    data: dict[str, JsonValue]


class _Webhook(BaseModel):
    event: _Event


class Inbox:
    """The inbound side of one account."""

    def __init__(self, config: PagerDutyConfig, store: Store) -> None:
        self._secrets = config.webhook_secrets
        self._store = store

    async def opened(self, dedup_key: str) -> None:
        """Remember that the alert or incident of this key is ours."""
        await self._store.put(_row(dedup_key), 1, lifetime=OPENED_FOR)

    async def receive(self, request: InboundRequest) -> InboundReply:
        """Turn a webhook into its event. Raises a Refusal."""
        if len(request.body) > MAX_BYTES:
            raise TooLarge("the body is larger than PagerDuty sends", reason=f"{len(request.body):,} bytes")
        verify(request.body, request.headers.get("x-pagerduty-signature"), self._secrets)
        event = parse(request.body)
        if event.event_type == PING:
            return _reply({"ok": True, "event": PING})
        if event.occurred_at < datetime.fromtimestamp(request.received_at, UTC) - REMEMBER:
            return _reply({"ok": True, "skipped": f"it happened more than {REMEMBER.days} days ago"})
        payload = read(event, inline=len(request.body) <= MAX_INLINE_BYTES)
        return self._publish(payload.model_copy(update={"ours": await self._is_ours(payload.incident_key)}))

    async def _is_ours(self, incident_key: str | None) -> bool:
        return incident_key is not None and await self._store.get(_row(incident_key)) is not None

    def _publish(self, payload: PagerDutyWebhook) -> InboundReply:
        topic = f"pagerduty.{payload.event_type}"
        try:
            event = catalog.event(
                topic,
                payload,
                source=_origin(payload.url),
                subject=payload.incident_id or payload.service_id,
                time=payload.occurred_at,
                idempotency_key=f"pagerduty:{payload.event_id}",
            )
        except InvalidEvent as error:
            raise Malformed("not a webhook of PagerDuty's", reason=str(error)) from None
        reply = _reply({"ok": True, "topic": topic})
        return InboundReply((event,), reply.status, reply.headers, reply.body, remember=REMEMBER)


def verify(body: bytes, signatures: str | None, secrets: Iterable[SecretStr]) -> None:
    """Check `X-PagerDuty-Signature: v1=<hex>,v1=<hex>`: any of them may match any secret of ours, compared in constant
    time (Webhooks, "Verifying Signatures"). Raises Unauthorized with one text for every reason."""
    expected = [b"v1=" + sign_plain(body, secret).removeprefix("sha256=").encode() for secret in secrets]
    given = [one.strip().encode("utf-8", "replace") for one in (signatures or "").split(",", MAX_SIGNATURES)]
    # All are compared: no early exit to time.
    if not any([hmac.compare_digest(one, ours) for one in given[:MAX_SIGNATURES] for ours in expected]):  # noqa: C419
        why = "no signature matches" if expected else "webhook_secret is not set, so nothing can be verified: set it"
        raise Unauthorized("signature mismatch", reason=why)


def parse(body: bytes) -> _Event:
    """The event inside a webhook. Raises Malformed without repeating anything of it."""
    try:
        value = from_json(body, allow_inf_nan=False)
        _inspect(value)
        return _Webhook.model_validate(value).event
    except ValidationError as error:
        places = sorted({".".join(map(str, fault["loc"]))[:100] for fault in error.errors(include_input=False)})
        raise Malformed(
            "not a v3 webhook of PagerDuty's", reason=f"wrong or missing: {', '.join(places[:5])}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise Malformed("not a JSON object", reason=f"{type(error).__name__} in the body") from None


def read(event: _Event, *, inline: bool) -> PagerDutyWebhook:
    """The digest. What the resource lacks, or has in another shape, stays empty: types are added over time."""
    data = event.data
    incident: Mapping[str, Any] = data if data.get("type") == "incident" else _reference(data, "incident")
    service: Mapping[str, Any] = data if data.get("type") == "service" else _reference(data, "service")
    number = data.get("number")
    people = data.get("assignees")
    return PagerDutyWebhook(
        event_id=event.id,
        event_type=event.event_type,
        occurred_at=event.occurred_at,
        incident_id=_text(incident, "id"),
        number=number if isinstance(number, int) and not isinstance(number, bool) else None,
        title=_text(data, "title") or _text(incident, "summary"),
        status=_text(incident, "status"),
        urgency=_text(data, "urgency"),
        priority=_text(_reference(data, "priority"), "summary"),
        url=_text(incident, "html_url") or _text(service, "html_url"),
        incident_key=_text(data, "incident_key"),
        service=_text(service, "summary"),
        service_id=_text(service, "id"),
        assignees=tuple(
            name for one in (people if isinstance(people, list) else []) if (name := _text(one, "summary")) is not None
        ),
        person=_person(event.agent),
        body=data if inline else None,
    )


def _person(agent: Mapping[str, JsonValue] | None) -> str | None:
    if agent is None or agent.get("type") not in ("user_reference", "user"):
        return None
    return _text(agent, "summary") or _text(agent, "id")


def _reference(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _text(data: Any, name: str) -> str | None:
    value = data.get(name) if isinstance(data, Mapping) else None
    return value[:500] if isinstance(value, str) and value else None


def _origin(url: str | None) -> str:
    """Scheme and host of the account's pages, which name the account."""
    parts = urlsplit(url or "")
    return f"https://{parts.netloc}" if parts.scheme == "https" and parts.netloc else "https://www.pagerduty.com"


def _inspect(value: Any) -> None:
    """Raise ValueError for numbers that not every reader of the bus has: integers over 64 bits, 1e999."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, int) and not -MAX_INTEGER <= item < MAX_INTEGER:
            raise ValueError("an integer needs more than 64 bits")
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("a number is too large")


def _row(dedup_key: str) -> str:
    return f"opened:{digest(dedup_key)}"


def _reply(said: dict[str, Any]) -> InboundReply:
    return InboundReply(status=202, headers=_JSON, body=json.dumps(said).encode())

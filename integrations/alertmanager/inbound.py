"""Alertmanager's webhooks (version 4), to events: check who it is, parse strictly, one event for each alert.

Alertmanager signs nothing: it brings a token or a password, and whoever learns that may send anything. A message is
about a group of alerts and is sent again while they fire and whenever one of them changes. So events are named by what
happened, the alert's fingerprint with its start and end, and are remembered for thirty days. Annotations may say
something else each time (a value that rises), and so may two Alertmanagers of a cluster; then it stays what was said
first, since a repeat is no news.
"""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError
from structlog.typing import FilteringBoundLogger

from eventbus.catalog import catalog
from eventbus.codec import encode
from eventbus.errors import InvalidEvent
from eventbus.event import Event
from eventbus.topics.alertmanager import AlertFiring, AlertResolved
from integrations.alertmanager.config import MARK, AlertmanagerConfig, is_web_address
from integrations.base import InboundReply, InboundRequest
from integrations.errors import Malformed, TooLarge, Unauthorized

MAX_BYTES = 4 * 1024 * 1024
"""Our own: Alertmanager has no limit but `max_alerts` of its webhook_config."""
MAX_ALERTS = 1000
MAX_ANNOTATION = 10_000
REMEMBER = timedelta(days=30)

FIRING, RESOLVED = "firing", "resolved"

_JSON = {"Content-Type": "application/json"}


def _utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


Moment = Annotated[AwareDatetime, AfterValidator(_utc)]


class _Alert(BaseModel):
    """Alert of template/template.go. `endsAt` of one that fires is 0001-01-01: nobody knows yet."""

    status: str
    labels: dict[str, str] = Field(min_length=1)
    annotations: dict[str, str] = Field(default_factory=dict)
    starts_at: Moment = Field(alias="startsAt")
    ends_at: Moment = Field(alias="endsAt")
    url: str = Field(default="", alias="generatorURL")
    fingerprint: str = Field(pattern=r"^[0-9a-f]{1,64}$")

    @property
    def name(self) -> str:
        """What names this happening, however often it is told."""
        parts = [self.fingerprint, self.starts_at.isoformat(), self.status]
        return ":".join([*parts, self.ends_at.isoformat()] if self.status == RESOLVED else parts)


class _Message(BaseModel):
    """Message of notify/webhook/webhook.go, as far as we read it."""

    version: Literal["4"]
    truncated: int = Field(default=0, ge=0, alias="truncatedAlerts")
    external_url: str = Field(default="", alias="externalURL")
    alerts: list[_Alert]


class Inbox:
    """The inbound side of one account."""

    def __init__(self, config: AlertmanagerConfig, log: FilteringBoundLogger) -> None:
        self._accepted = _accepted(config)
        self._sent_by = config.sent_by
        self._log = log

    async def receive(self, request: InboundRequest) -> InboundReply:
        """Turn a message into its events. Raises a Refusal."""
        verify(request.headers.get("authorization"), self._accepted)
        if len(request.body) > MAX_BYTES:
            raise TooLarge("the message is too large: set max_alerts", reason=f"{len(request.body):,} bytes")
        message = parse(request.body)
        if len(message.alerts) > MAX_ALERTS:
            raise TooLarge(f"more than {MAX_ALERTS:,} alerts: set max_alerts", reason=f"{len(message.alerts):,} alerts")
        if message.truncated:
            self._log.warning("alerts left out by Alertmanager: raise max_alerts", count=message.truncated)
        source = message.external_url if is_web_address(message.external_url) else "/alertmanager"
        # By name: what occurs twice in a message is one event. What has another status is none.
        alerts = {alert.name: alert for alert in message.alerts if alert.status in (FIRING, RESOLVED)}
        events = [event for alert in alerts.values() if self._fits(event := self._event(alert, source[:200]))]
        said = json.dumps({"ok": True, "events": len(events)}).encode()
        return InboundReply(tuple(events), headers=_JSON, body=said, remember=REMEMBER, first_wins=True)

    def _event(self, alert: _Alert, source: str) -> Event[Any]:
        fields: dict[str, Any] = {
            "fingerprint": alert.fingerprint,
            "name": alert.labels.get("alertname"),
            "severity": alert.labels.get("severity"),
            "starts_at": alert.starts_at,
            "labels": alert.labels,
            "annotations": {name: text[:MAX_ANNOTATION] for name, text in alert.annotations.items()},
            "url": alert.url if is_web_address(alert.url) else None,
            "ours": alert.labels.get(MARK) == self._sent_by,
        }
        is_over = alert.status == RESOLVED
        payload = AlertResolved(**fields, ends_at=alert.ends_at) if is_over else AlertFiring(**fields)
        try:
            return catalog.event(
                payload,
                source=source,
                subject=alert.fingerprint,
                time=alert.ends_at if is_over else alert.starts_at,
                idempotency_key=f"alertmanager:{alert.name}",
            )
        except InvalidEvent as error:
            raise Malformed("not a message of Alertmanager's", reason=str(error)) from None

    def _fits(self, event: Event[Any]) -> bool:
        """Whether the bus takes it: one that is too large must not take those beside it along."""
        try:
            encode(event)
        except InvalidEvent as error:
            self._log.warning("an alert is left out", fingerprint=event.subject, fault=str(error))
            return False
        return True


def verify(authorization: str | None, accepted: tuple[bytes, ...]) -> None:
    """Check the header Authorization, every accepted value in constant time. Raises Unauthorized, one text for all."""
    if not accepted:
        raise Unauthorized("not authorized", reason="neither webhook_token nor webhook_username is set: set one")
    scheme, _, proof = (authorization or "").partition(" ")
    given = f"{scheme.lower()} {proof.strip()}".encode("utf-8", "replace")  # RFC 9110, section 11.1: any case
    # All are compared: no early exit to time.
    if not any([hmac.compare_digest(given, one) for one in accepted]):  # noqa: C419
        raise Unauthorized("not authorized", reason="the token or password is missing or wrong")


def parse(body: bytes) -> _Message:
    """The message. Raises Malformed without repeating anything of it."""
    try:
        return _Message.model_validate_json(body)
    except ValidationError as error:
        places = sorted({".".join(map(str, fault["loc"]))[:100] for fault in error.errors(include_input=False)})
        raise Malformed(
            "not a message of Alertmanager's, version 4", reason=f"wrong or missing: {', '.join(places[:5])}"
        ) from None


def _accepted(config: AlertmanagerConfig) -> tuple[bytes, ...]:
    """Every value of Authorization that proves who calls."""
    tokens = () if config.webhook_token is None else (config.webhook_token, *config.previous_webhook_tokens)
    found = [f"bearer {token.get_secret_value()}" for token in tokens]
    if config.webhook_username is not None and config.webhook_password is not None:
        login = f"{config.webhook_username}:{config.webhook_password.get_secret_value()}".encode()
        found.append(f"basic {base64.b64encode(login).decode()}")
    return tuple(one.encode() for one in found)

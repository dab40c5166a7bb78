"""What is sent to the Events API: an event or a notification as one request, or the reason why there is none. Pure.

The one place that decides: the sending, the preview and the budgets all ask `call_for`. Which alerts of a thread are
open comes with the delivery (`Earlier.state`: dedup key to the name of the integration key it was opened with), and
what is open afterwards goes back with the result. PagerDuty drops an acknowledge or resolve that comes by another
integration key than the trigger, though it answers 202 (Events API v2, "Alert De-Duplication").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import JsonValue, SecretStr
from pydantic_core import to_json

from eventbus.event import Event
from integrations.base import Delivery, Notification, Severity
from integrations.errors import Rejected
from integrations.pagerduty import dedup
from integrations.pagerduty.config import PagerDutyConfig, fingerprint, is_web_address
from integrations.pagerduty.redact import cleaned, cut, details, redacted

MAX_BODY_BYTES = 512_000
"""Events API v2 Overview, "Size Limits": 512 KB. Kept by construction: MAX_FIELDS values of MAX_VALUE characters, each
at most four bytes, and what stands beside them."""
MAX_SUMMARY = 1024
"""Events API v2, "Send an Alert Event": the maximum permitted length of payload.summary."""
MAX_ERROR = 1000
"""Of an error text: the first thousand characters say what happened."""
MAX_VALUE = 2000
MAX_FIELDS = 50
MAX_OPEN = 20
"""Alerts of one thread that are remembered as open: one for each environment."""

ALERTS = "/v2/enqueue"
CHANGES = "/v2/change/enqueue"

WORDS = {
    "critical": Severity.CRITICAL,
    "fatal": Severity.CRITICAL,
    "high": Severity.ERROR,
    "error": Severity.ERROR,
    "medium": Severity.WARNING,
    "warning": Severity.WARNING,
    "warn": Severity.WARNING,
    "low": Severity.INFO,
    "info": Severity.INFO,
}
"""What an event's own field `severity` may say, and PagerDuty's word for it."""

KINDS = ("message", "trigger", "acknowledge", "resolve", "change")
"""Of a notification. A `message` triggers, or where it is mere information tells of a change, which pages nobody."""

NAMED = "dedup_key"
"""A field of a notification: the alert it is about, for callers that know it. What they ask is sent unquestioned."""

_NAMES = ("name", "vm_name", "migration", "task_id", "vm_id", "integration", "group")
_TITLES = {"vm": "VM"}
_LINK_FIELDS = {"pull_request": "Pull request", "url": "Details", "html_url": "Details"}

AlertAction = Literal["trigger", "acknowledge", "resolve"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing is sent, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the Events API, and what is known when it was accepted.

    body       without the integration key, which is a secret
    reference  the dedup key; None for a change event, which has none
    state      the thread's alerts that are open then
    ends       none is open then
    warning    what people should know about the dedup key
    """

    doing: str
    path: str
    body: Mapping[str, JsonValue]
    key: SecretStr = field(repr=False)
    reference: str | None = None
    state: Mapping[str, str] = field(default_factory=dict)
    ends: bool = False
    warning: str = ""

    def content(self) -> bytes:
        """The body as it leaves."""
        return to_json({"routing_key": self.key.get_secret_value(), **self.body})


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is said, whatever it is said of. `where` and `error_type` choose runbook and links."""

    summary: str
    severity: Severity
    source: str
    where: str
    error_type: str
    details: Mapping[str, JsonValue]
    links: tuple[tuple[str, str], ...] = ()
    time: str = ""
    component: str = ""


def call_for(
    what: Event[Any] | Notification, delivery: Delivery, config: PagerDutyConfig, account: str
) -> Call | Skipped:
    """The request for an event or a notification. Raises Rejected for what can never be sent.

    account  our name in the settings: that we ourselves are degraded can't be told through us
    """
    if isinstance(what, Notification):
        return _for_notification(what, delivery, config)
    return _for_event(what, delivery, config, account)


def _for_event(event: Event[Any], delivery: Delivery, config: PagerDutyConfig, account: str) -> Call | Skipped:
    action = config.action_for(event.topic)
    fields = event.data if isinstance(event.data, dict) else event.data.model_dump(mode="json")
    environment = _environment(fields) or config.default_environment
    if action == "none":
        return Skipped(f"{event.topic} asks nothing of PagerDuty")
    if event.topic.startswith("integration.") and fields.get("integration") == account:
        return Skipped("it is about this integration itself")
    if not config.brings(environment):
        return Skipped(f"{environment} is none of the environments: {', '.join(config.environments)}")
    key = dedup.dedup_key(event, delivery.thread, config.dedup_key, environment)
    facts = _event_facts(event, fields, environment, config)
    if action == "resolve_or_change":
        resolved = _alert("resolve", key, facts, delivery, config)
        return _change(facts, delivery, config) if isinstance(resolved, Skipped) else resolved
    if action == "change":
        return _change(facts, delivery, config)
    doubt = dedup.warning(key, event) if action == "trigger" else ""
    return _alert(action, key, facts, delivery, config, warning=doubt)


def _for_notification(notification: Notification, delivery: Delivery, config: PagerDutyConfig) -> Call | Skipped:
    kind = notification.type
    if kind not in KINDS:
        raise Rejected(f"pagerduty sends no notification {kind!r}; it sends: {', '.join(KINDS)}")
    if notification.target not in ("", "default"):
        raise Rejected(
            "pagerduty has one target, the service of its routing_key: leave target empty, "
            "or configure another integration with adapter: pagerduty for another service"
        )
    facts = _notification_facts(notification, config)
    if kind == "change" or (kind == "message" and notification.severity is Severity.INFO):
        return _change(facts, delivery, config)
    action: AlertAction = "acknowledge" if kind == "acknowledge" else "resolve" if kind == "resolve" else "trigger"
    named = notification.fields.get(NAMED, "")
    if action != "trigger" and not (named or delivery.thread):
        raise Rejected(f"a notification {kind!r} needs a field {NAMED}: the key of the alert that it is about")
    key = dedup.fitted(named or delivery.thread) or f"notification-{dedup.digest(delivery.key)}"
    return _alert(action, key, facts, delivery, config, asked=bool(named))


def _alert(
    action: AlertAction,
    key: str,
    facts: _Facts,
    delivery: Delivery,
    config: PagerDutyConfig,
    *,
    asked: bool = False,
    warning: str = "",
) -> Call | Skipped:
    opened = _open(delivery)
    if action == "trigger":
        # While an alert is open it grows only by the key that opened it; another would page a second time.
        secret = config.key_known_as(opened.pop(key, "")) or config.routing_key
        opened = dict(list(opened.items())[1 - MAX_OPEN :]) | {key: fingerprint(secret)}
        return Call(f"trigger {key}", ALERTS, _trigger(key, facts, config), secret, key, opened, warning=warning)
    if action == "resolve" and config.auto_resolve == "never" and not asked:
        return Skipped("auto_resolve is never: people resolve incidents themselves")
    if key not in opened and config.auto_resolve != "always" and not asked:
        return Skipped(f"no alert {key} of ours is open")
    known = config.key_known_as(opened.get(key, fingerprint(config.routing_key)))
    if known is None:
        raise Rejected(
            f"alert {key} was opened with an integration key that is no longer configured, and PagerDuty takes a "
            f"{action} by no other: {action} it by hand, or put the old key into previous_routing_keys"
        )
    body: dict[str, JsonValue] = {
        "event_action": action,
        "dedup_key": key,
        "payload": _payload(facts, Severity.INFO),
    }
    if action == "acknowledge":
        return Call(f"acknowledge {key}", ALERTS, body, known, key, opened)
    left = {name: by for name, by in opened.items() if name != key}
    return Call(f"resolve {key}", ALERTS, body, known, key, left, ends=not left)


def _change(facts: _Facts, delivery: Delivery, config: PagerDutyConfig) -> Call | Skipped:
    if config.routing_key.get_secret_value().startswith("R"):
        # Events API v2 Overview: "change events cannot be sent to ruleset integration keys (... begin with R)".
        return Skipped("routing_key is a ruleset's, and those take no change events")
    payload = _payload(facts, None)
    body: dict[str, JsonValue] = {"payload": payload}
    if links := _links(facts, config, runbook=False):
        body["links"] = links
    opened = _open(delivery)
    return Call(f"tell of a change: {facts.summary}", CHANGES, body, config.routing_key, None, opened, ends=not opened)


def _trigger(key: str, facts: _Facts, config: PagerDutyConfig) -> dict[str, JsonValue]:
    body: dict[str, JsonValue] = {
        "event_action": "trigger",
        "dedup_key": key,
        "payload": _payload(facts, facts.severity),
        "client": config.client,
    }
    if config.client_url:
        body["client_url"] = config.client_url
    if links := _links(facts, config, runbook=True):
        body["links"] = links
    if config.images:
        body["images"] = [image.model_dump(exclude_defaults=True) for image in config.images]
    return body


def _payload(facts: _Facts, severity: Severity | None) -> dict[str, JsonValue]:
    """PD-CEF (Events API v2 Overview). `severity` None: a change event, which has fewer fields."""
    payload: dict[str, JsonValue] = {"summary": facts.summary, "source": facts.source}
    if facts.time:
        payload["timestamp"] = facts.time
    if severity is not None:
        named = {"component": facts.component, "group": facts.where, "class": facts.error_type}
        payload |= {"severity": severity.value, **{name: cut(text, 255) for name, text in named.items() if text}}
    return payload | {"custom_details": dict(facts.details)}


def _links(facts: _Facts, config: PagerDutyConfig, *, runbook: bool) -> list[JsonValue]:
    found = config.runbook(facts.where, facts.error_type) if runbook else None
    links = [(found, "Runbook")] if found else []
    links += [
        (link.href, link.text) for link in config.links if not link.environments or facts.where in link.environments
    ]
    links += facts.links
    return [{"href": href, "text": text} if text else {"href": href} for href, text in dict(links).items()]


def _event_facts(
    event: Event[Any], fields: Mapping[str, JsonValue], environment: str, config: PagerDutyConfig
) -> _Facts:
    domain, _, what = event.topic.partition(".")
    name = next((str(fields[field]) for field in _NAMES if fields.get(field)), event.subject or "")
    error = str(fields.get("error") or (fields.get("detail") if what == "degraded" else "") or "")
    title = " ".join(filter(None, [_TITLES.get(domain, domain.capitalize()), name, what.replace("_", " ")]))
    said = WORDS.get(str(fields.get("severity", "")).lower())
    shown = dict(fields) | {"environment": environment, "topic": event.topic, "event_id": event.id}
    source = config.source or (event.source if event.source != "/" else config.client)
    return _Facts(
        summary=_summary(environment, title, error),
        severity=said or config.severity_for(event.topic, environment),
        source=cut(cleaned(redacted(source)), 255) or config.client,
        where=environment,
        error_type=cleaned(str(fields.get("error_type") or "")),
        details=_details(shown),
        links=_event_links(fields),
        time=event.time.isoformat(),
        component=cleaned(name),
    )


def _notification_facts(notification: Notification, config: PagerDutyConfig) -> _Facts:
    labels = {label.lower().replace(" ", "_"): text for label, text in notification.fields.items()}
    environment = _environment(labels)
    title = notification.title or ""
    return _Facts(
        summary=_summary("", title, notification.message),
        severity=notification.severity,
        source=config.source or config.client,
        where=environment,
        error_type=cleaned(labels.get("error_type", "")),
        details=_details({"message": notification.message, **_without(notification.fields, NAMED)}),
        links=((notification.url, "Read more"),) if notification.url and is_web_address(notification.url) else (),
    )


def _summary(environment: str, title: str, text: str) -> str:
    where = f"[{environment.upper()}] " if environment else ""
    said = ": ".join(filter(None, [cleaned(redacted(title)), cleaned(redacted(text))]))
    return cut(where + (said or "no text"), MAX_SUMMARY)


def _details(fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return details(fields, most=MAX_FIELDS, room=MAX_VALUE, rooms={"error": MAX_ERROR})


def _without(fields: Mapping[str, str], name: str) -> dict[str, str]:
    return {label: text for label, text in fields.items() if label != name}


def _event_links(fields: Mapping[str, JsonValue]) -> tuple[tuple[str, str], ...]:
    found = ((fields.get(name), text) for name, text in _LINK_FIELDS.items())
    return tuple((href, text) for href, text in found if isinstance(href, str) and is_web_address(href))


def _environment(fields: Mapping[str, JsonValue]) -> str:
    environment = fields.get("environment")
    return cut(cleaned(environment), 100).lower() if isinstance(environment, str) else ""


def _open(delivery: Delivery) -> dict[str, str]:
    return dict(delivery.earlier.state) if delivery.earlier else {}

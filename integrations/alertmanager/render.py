"""What is posted to Alertmanager: an event or a notification as alerts, or the reason why there are none. Pure.

An alert is its labels: the same labels are the same alert, and other labels are another one (Alerts API, "Labels are
used to deduplicate identical instances of the same alert"). So a resolve sends the labels that fired, which come with
the delivery (`Earlier.state`: environment to labels and start), and while an alert fires its successor keeps them,
unless they changed: then the old one is resolved in the same request.

Alertmanager takes an alert for resolved once `endsAt` has passed, five minutes after the last message where nobody
gives one. An event is told once, so `endsAt` is given, as far away as `lasts` says.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_json

from eventbus.event import Event
from eventbus.payload import Payload
from integrations.alertmanager.config import ANNOTATIONS, FIELD, LABELS, MARK, AlertmanagerConfig, is_web_address
from integrations.base import Delivery, Notification, Severity
from integrations.errors import Rejected

MAX_LABEL = 200
MAX_ANNOTATION = 2000
"""Our own: Alertmanager has no limit, those who are told have."""
MAX_OPEN = 20
"""Alerts of one thread that are remembered as firing: one for each environment."""

KINDS = ("message", "resolve")
"""Of a notification. A `message` fires, a `resolve` resolves what the thread has firing."""

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
"""What an event's own field `severity` may say, and our word for it."""

WHEN_SENT = "<when it is sent>"
_NAMES = ("name", "vm_name", "migration", "task_id", "vm_id", "integration", "group")
_LINKS = ("pull_request", "url", "html_url")
_TITLES = {"vm": "VM"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
_PING = re.compile(r"@(?=\w)|<(?=[!@#/a-zA-Z])")
"""What chat services that Alertmanager tells would take for a mention, a link or markup: `@everyone`, `<!channel>`,
`<https://...|here>`. Its Slack and Discord receivers pass text on as it is."""
_ZWSP = "\u200b"


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing is sent, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as it is posted. `starts` None: when it is sent; `is_over`: it ends when it is sent."""

    labels: Mapping[str, str]
    starts: datetime | None
    annotations: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    is_over: bool = False

    def post(self, now: datetime | None, config: AlertmanagerConfig) -> dict[str, JsonValue]:
        """A postableAlert (api/v2/openapi.yaml). `now` None: words in place of times, for a preview."""
        if now is None:
            starts = _stamp(self.starts) if self.starts else WHEN_SENT
            ends = WHEN_SENT if self.is_over else f"{WHEN_SENT} + {config.lasts}"
        else:
            # alert.Validate: "start time must be before end time"; the event's clock may be ahead of ours.
            begin = min(self.starts or now, now)
            starts, ends = _stamp(begin), _stamp(now if self.is_over else now + config.lasts)
        posted: dict[str, JsonValue] = {
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "startsAt": starts,
            "endsAt": ends,
        }
        return posted | ({"generatorURL": self.url} if self.url else {})


@dataclass(frozen=True, slots=True)
class Call:
    """One request, and what is firing once it was accepted.

    reference  the alert's fingerprint, by which Alertmanager names it too
    state      environment to labels and start of what fires then
    """

    doing: str
    alerts: tuple[Alert, ...]
    reference: str
    state: Mapping[str, str] = field(default_factory=dict)

    def content(self, now: datetime | None, config: AlertmanagerConfig, *, indent: int | None = None) -> bytes:
        """The body as it leaves."""
        return to_json([alert.post(now, config) for alert in self.alerts], indent=indent)

    def keep(self, now: datetime) -> dict[str, str]:
        """What to remember, with the moment of sending for what had no start of its own."""
        return {where: text.replace(WHEN_SENT, _stamp(now)) for where, text in self.state.items()}


@dataclass(frozen=True, slots=True)
class _Said:
    """What is said, whatever it is said of. `fields` are what templates may name."""

    action: str
    where: str
    fields: Mapping[str, str]
    time: datetime | None
    url: str = ""


def call_for(
    what: Event[Any] | Notification, delivery: Delivery, config: AlertmanagerConfig, account: str
) -> Call | Skipped:
    """The request for an event or a notification. Raises Rejected for what can never be sent.

    account  our name in the settings: that we ourselves are degraded can't be told through us
    """
    if isinstance(what, Notification):
        said = _notification_said(what, delivery)
    else:
        fields = what.data.model_dump(mode="json") if isinstance(what.data, Payload) else dict(what.data)
        if what.topic.startswith("integration.") and fields.get("integration") == account:
            return Skipped("it is about this integration itself")
        if not config.action_for(what.topic):
            return Skipped(f"{what.topic} asks nothing of Alertmanager")
        said = _event_said(what, fields, delivery, config)
    firing = dict(delivery.earlier.state) if delivery.earlier else {}
    known = _read(firing.pop(said.where, ""))
    return _resolve(known, firing, said) if said.action == "resolve" else _fire(known, firing, said, config)


def fingerprint(labels: Mapping[str, str]) -> str:
    """The name that Alertmanager gives these labels (prometheus/common, model/fnv.go and signature.go): FNV-1a of 64
    bits over name, 0xff, value, 0xff, by name."""
    value = 14695981039346656037
    for name in sorted(labels, key=str.encode):
        for byte in name.encode() + b"\xff" + labels[name].encode() + b"\xff":
            value = (value ^ byte) * 1099511628211 % 2**64
    return f"{value:016x}"


def _fire(known: Alert | None, firing: dict[str, str], said: _Said, config: AlertmanagerConfig) -> Call:
    labels = _filled(LABELS | config.labels, said.fields, MAX_LABEL, _label) | {MARK: config.sent_by}
    annotations = _filled(ANNOTATIONS | config.annotations, said.fields, MAX_ANNOTATION, _annotation)
    alert = Alert(labels, known.starts if known and known.labels == labels else said.time, annotations, said.url)
    replaced = (Alert(known.labels, known.starts, is_over=True),) if known and known.labels != labels else ()
    kept = dict(list(firing.items())[1 - MAX_OPEN :]) | {said.where: _written(alert)}
    name = labels.get("alertname", "an alert")
    return Call(f"fire {name}", (*replaced, alert), fingerprint(labels), kept)


def _resolve(known: Alert | None, firing: dict[str, str], said: _Said) -> Call | Skipped:
    if known is None:
        return Skipped("no alert of ours about it is firing")
    annotations = {"summary": _annotation(said.fields["summary"])}
    alert = Alert(known.labels, known.starts, annotations, said.url, is_over=True)
    return Call(f"resolve {known.labels.get('alertname', 'an alert')}", (alert,), fingerprint(known.labels), firing)


def _event_said(event: Event[Any], fields: Mapping[str, Any], delivery: Delivery, config: AlertmanagerConfig) -> _Said:
    domain, _, what = event.topic.partition(".")
    where = fields.get("environment")
    where = where.lower() if isinstance(where, str) else ""
    name = next((str(fields[one]) for one in _NAMES if fields.get(one)), event.subject or "")
    title = " ".join(filter(None, [_TITLES.get(domain, domain.capitalize()), name, what.replace("_", " ")]))
    severity = WORDS.get(str(fields.get("severity", "")).lower()) or config.severity_for(event.topic)
    plain = {name: str(value) for name, value in fields.items() if isinstance(value, str | int | float)}
    told = {
        "topic": event.topic,
        "alertname": "".join(word.capitalize() for word in re.split(r"[._]", event.topic)),
        "severity": severity.value,
        "environment": where,
        "subject": delivery.thread or event.key or name or event.id,
        "summary": title,
        "description": str(fields.get("error") or fields.get("detail") or fields.get("reason") or ""),
    }
    url = next((str(fields[one]) for one in _LINKS if is_web_address(str(fields.get(one, "")))), "")
    return _Said(config.action_for(event.topic), where, plain | told, event.time, url)


def _notification_said(notification: Notification, delivery: Delivery) -> _Said:
    if notification.type not in KINDS:
        raise Rejected(f"alertmanager sends no notification {notification.type!r}; it sends: {', '.join(KINDS)}")
    if notification.target not in ("", "default"):
        raise Rejected("alertmanager has no targets, its routes decide by labels: leave target empty and set labels")
    plain = {label.lower().replace(" ", "_"): value for label, value in notification.fields.items()}
    where = plain.get("environment", "").lower()
    told = {
        "alertname": notification.title or "Notification",
        "severity": notification.severity.value,
        "environment": where,
        # What stands alone is an alert of its own: with equal labels it would overwrite another.
        "subject": delivery.thread or hashlib.sha256(delivery.key.encode()).hexdigest()[:16],
        "summary": notification.title or notification.message,
        "description": notification.message if notification.title else "",
    }
    url = notification.url if notification.url and is_web_address(notification.url) else ""
    return _Said("resolve" if notification.type == "resolve" else "fire", where, plain | told, None, url)


def _filled(templates: Mapping[str, str], fields: Mapping[str, str], most: int, clean: Any) -> dict[str, str]:
    """The templates with their fields. One with a field that is missing or empty is left out: a label with a hole in it
    would put together what does not belong together. Alertmanager drops empty labels as well (removeEmptyLabels)."""
    found = {
        name: cut(clean(FIELD.sub(lambda one: fields[one[1]], template)), most)
        for name, template in templates.items()
        if all(fields.get(one) for one in FIELD.findall(template))
    }
    return {name: value for name, value in found.items() if value}


def _label(text: str) -> str:
    """On one line, and no markup for those who are told."""
    return re.sub(r"<(?=[!@#/a-zA-Z])", f"<{_ZWSP}", " ".join(_CONTROL.sub(" ", text).split()))


def _annotation(text: str) -> str:
    """Several lines may stay several lines."""
    return _PING.sub(lambda found: found[0] + _ZWSP, _CONTROL.sub(" ", text.replace("\r", "\n"))).strip()


def cut(text: str, room: int) -> str:
    """At most `room` characters. A note says how many are missing, and a digest keeps what is cut apart."""
    if len(text) <= room:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    note = f" ... {len(text) - room + 50:,} more ({digest})"
    return text[: room - 50] + note


def _written(alert: Alert) -> str:
    starts = _stamp(alert.starts) if alert.starts else WHEN_SENT
    return json.dumps({"labels": dict(alert.labels), "startsAt": starts}, sort_keys=True)


def _read(text: str) -> Alert | None:
    """What `_written` made."""
    if not text:
        return None
    row = json.loads(text)
    return Alert(row["labels"], datetime.fromisoformat(row["startsAt"]))


def _stamp(time: datetime) -> str:
    """RFC 3339, as the API wants it."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")

"""Alertmanager on a real port: what its API v2 takes, how it merges alerts, and the webhooks it would send.

The rules are those of its source (0.34.0): api/v2/api.go, alert/alert.go, template/template.go. It keeps no routes and
notifies nobody; `webhook` makes a message as its webhook receiver does.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from integrations.alertmanager.render import fingerprint
from integrations.base import InboundRequest
from integrations.testing.fake import FakeService

RESOLVE_TIMEOUT = timedelta(minutes=5)
"""docs/configuration.md, `global.resolve_timeout`: "ResolveTimeout is the default value used by alertmanager if the
alert does not include EndsAt", 5m by default."""

CONFIG = """\
global:
  resolve_timeout: 5m
route:
  receiver: team
receivers:
- name: team
  slack_configs:
  - channel: "#alerts"
    api_url: <secret>
"""
"""What it shows of its config: with <secret> in place of secrets (config.go, Secret.MarshalYAML)."""

Labels = Mapping[str, str]


@dataclass(slots=True)
class Alert:
    """An alert as it is kept. `timeout`: nobody gave its end."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts: datetime
    ends: datetime
    url: str
    timeout: bool = False

    def is_firing(self) -> bool:
        """Alert.Resolved: whether EndsAt is not after now."""
        return self.ends > _now()


class FakeAlertmanager(FakeService):
    """`alerts` is what it knows, by fingerprint; `posts` every alert it took."""

    token = "canary-alertmanager-token"  # noqa: S105  # it guards nothing
    webhook_token = "canary-webhook-token"  # noqa: S105

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.alerts: dict[str, Alert] = {}
        self.posts: list[dict[str, Any]] = []
        self.version, self.cluster, self.config = "0.34.0", "ready", CONFIG

    def routes(self) -> Sequence[BaseRoute]:
        """The parts of the API that we use."""
        return [
            Route("/api/v2/alerts", self._show, methods=["GET"]),
            Route("/api/v2/alerts", self._take, methods=["POST"]),
            Route("/api/v2/status", self._status, methods=["GET"]),
        ]

    def settings(self) -> dict[str, Any]:
        """One that points here, and takes its webhooks."""
        return {"url": self.url, "token": self.token, "webhook_token": self.webhook_token}

    def effects(self) -> list[str]:
        """Each alert with what became of it."""
        return [
            f"{_shown(alert.labels)} {'firing' if alert.is_firing() else 'resolved'}" for alert in self.alerts.values()
        ]

    # -- the API ---------------------------------------------------------------------------------------------------

    async def _status(self, request: Request) -> Response:
        if not self._knows(request):
            return PlainTextResponse("Unauthorized", 401)
        cluster = {"status": self.cluster, "peers": []}
        answer = {"versionInfo": {"version": self.version}, "cluster": cluster, "config": {"original": self.config}}
        return JSONResponse(answer, headers={"Date": formatdate(time.time(), usegmt=True)})

    async def _show(self, request: Request) -> Response:
        """getAlertsHandler: what fires and matches every filter. Here a filter is name="value"."""
        if not self._knows(request):
            return PlainTextResponse("Unauthorized", 401)
        wanted = [_matcher(one) for one in request.query_params.getlist("filter")]
        if None in wanted:
            return JSONResponse("bad matcher format", 400)
        shown = [
            {"fingerprint": name, "labels": alert.labels, "status": {"state": "active"}}
            for name, alert in self.alerts.items()
            if alert.is_firing() and all(one and alert.labels.get(one[0]) == one[1] for one in wanted)
        ]
        return JSONResponse(shown)

    async def _take(self, request: Request) -> Response:
        if not self._knows(request):
            return PlainTextResponse("Unauthorized", 401)
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"code": 415, "message": "unsupported media type"}, 415)
        try:
            posted = json.loads(await request.body())
        except ValueError as error:
            return JSONResponse({"code": 400, "message": f"parsing alerts body failed: {error}"}, 400)
        if not isinstance(posted, list):
            return JSONResponse({"code": 400, "message": "alerts in body must be an array"}, 400)
        # "Make a best effort to insert all alerts that are valid."
        faults = [fault for one in posted if (fault := self._insert(one))]
        return JSONResponse("\n".join(faults), 400) if faults else Response(status_code=200)

    def _knows(self, request: Request) -> bool:
        """As a proxy in front of it asks for; Alertmanager itself asks for basic auth only (https/#http-traffic)."""
        return not self.reject_credentials and request.headers.get("authorization") == f"Bearer {self.token}"

    def _insert(self, posted: Any) -> str:
        """Keep one alert. Returns what is wrong with it; empty when nothing is."""
        if not isinstance(posted, dict):
            return "an alert must be an object"
        try:
            alert = _read(posted)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return f"invalid alert: {error}"
        if fault := check(alert):
            return fault
        name = fingerprint(alert.labels)
        self.alerts[name] = merged(self.alerts[name], alert) if name in self.alerts else alert
        self.posts.append(posted)
        return ""

    # -- its webhooks ----------------------------------------------------------------------------------------------

    def alert(self, status: str = "firing", *, labels: Labels | None = None, **changes: Any) -> dict[str, Any]:
        """One alert of a message (template.Alert), of an example that began at half past ten."""
        labels = labels or {"alertname": "DiskAlmostFull", "severity": "critical", "instance": "db-1:9100"}
        ends = "2026-01-12T10:42:00.5Z" if status == "resolved" else "0001-01-01T00:00:00Z"
        return {
            "status": status,
            "labels": dict(labels),
            "annotations": {"summary": "4 % are left on /var of db-1"},
            "startsAt": "2026-01-12T10:30:00.123456789Z",
            "endsAt": ends,
            "generatorURL": "https://prometheus.example.com/graph?g0.expr=disk_free",
            "fingerprint": fingerprint(labels),
        } | changes

    def message(self, *alerts: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """A message of webhook.go about these alerts."""
        firing = any(alert.get("status") == "firing" for alert in alerts)
        return {
            "receiver": "eventbus",
            "status": "firing" if firing else "resolved",
            "alerts": list(alerts),
            "notification_reason": "first",
            "groupLabels": {"alertname": "DiskAlmostFull"},
            "commonLabels": {"alertname": "DiskAlmostFull"},
            "commonAnnotations": {},
            "routeLabels": {},
            "externalURL": "https://alertmanager.example.com",
            "version": "4",
            "groupKey": '{}:{alertname="DiskAlmostFull"}',
            "truncatedAlerts": 0,
        } | changes

    def webhook(self, body: dict[str, Any] | bytes, *, authorization: str | None = None) -> InboundRequest:
        """A message on its way to us. docs/configuration.md, `http_config`: `authorization` is a bearer token."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", "user-agent": "Alertmanager/0.34.0"}
        return InboundRequest(
            headers | {"authorization": authorization or f"Bearer {self.webhook_token}"}, content, time.time()
        )


def check(alert: Alert) -> str:
    """Alert.Validate and validateLs, with label names in the form that every version takes."""
    if alert.ends < alert.starts:
        return "start time must be before end time"
    if not alert.labels:
        return "at least one label pair required"
    for kind, pairs in (("label set", alert.labels), ("annotations", alert.annotations)):
        for name in pairs:
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
                return f'invalid {kind}: invalid name "{name}"'
    return ""


def merged(old: Alert, new: Alert) -> Alert:
    """Alert.Merge: the newer says what is said, the earliest start holds, and so does the latest end that was given."""
    starts, ends = min(old.starts, new.starts), new.ends
    if new.is_firing():
        if old.ends > new.ends and not old.timeout:
            ends = old.ends
    elif not old.is_firing() and old.ends > new.ends:
        ends = old.ends
    return Alert(new.labels, new.annotations, starts, ends, new.url, new.timeout)


def _read(posted: Mapping[str, Any]) -> Alert:
    """postAlertsHandler: what is filled in where the sender leaves it out."""
    starts, ends, now = _time(posted.get("startsAt")), _time(posted.get("endsAt")), _now()
    # "Ensure StartsAt is set": it becomes EndsAt where only that is given.
    return Alert(
        {name: value for name, value in _pairs(posted["labels"]).items() if value},  # removeEmptyLabels
        _pairs(posted.get("annotations") or {}),
        starts or ends or now,
        ends or now + RESOLVE_TIMEOUT,
        str(posted.get("generatorURL") or ""),
        timeout=ends is None,
    )


def _pairs(given: Mapping[str, Any]) -> dict[str, str]:
    """openapi.yaml, labelSet: an object of strings."""
    if not all(isinstance(value, str) for value in given.values()):
        raise TypeError("labels and annotations must be strings")
    return dict(given)


def _time(text: str | None) -> datetime | None:
    """RFC 3339; a date without a zone is none."""
    if text is None:
        return None
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return found


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def _matcher(text: str) -> tuple[str, str] | None:
    """pkg/labels/parse.go: a backslash in a quoted value stands before a quote, a backslash or an n, as in JSON."""
    found = re.fullmatch(r'([a-zA-Z_][a-zA-Z0-9_]*)=("(?:[^"\\]|\\["\\n])*")', text)
    return None if found is None else (found[1], json.loads(found[2], strict=False))


def _shown(labels: Labels) -> str:
    rest = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()) if name != "alertname")
    return f"{labels.get('alertname', '')}{{{rest}}}"

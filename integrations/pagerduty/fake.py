"""PagerDuty on a real port, as far as we use it: the Events API v2, the REST API and its webhooks, with their rules.

Each rule stands beside the page it is from. "Events" is developer.pagerduty.com, Events API v2 ("Overview", "Send an
Alert Event", "Send a Change Event", "Rate Limits"); "OpenAPI" the published description of the same
(PagerDuty/api-schema, reference/events-v2); "REST" the description of the REST API and the pages about it; "Webhooks"
the pages about v3 webhooks. One account: two services, two users, one of them on call.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from integrations.base import InboundRequest
from integrations.signing import sign_plain
from integrations.testing.fake import FakeService

MAX_BODY = 512_000
MAX_SUMMARY = 1024
MAX_DEDUP_KEY = 255
WINDOW_SECONDS = 60.0
WEB = "https://acme.pagerduty.com"

Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Alert:
    """An alert of one integration key. `log` holds every event that was applied to it."""

    routing_key: str
    dedup_key: str
    status: str
    log: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class MadeIncident:
    """An incident that was made through the REST API."""

    id: str
    number: int
    title: str
    service_id: str
    urgency: str
    incident_key: str
    details: str
    assignees: tuple[str, ...]
    made_by: str
    status: str = "triggered"


class _Refused(Exception):
    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(body))
        self.response = JSONResponse(dict(body), status)


class FakePagerDuty(FakeService):
    """Knows `routing_key` of service "Database Migrations", and a second service, "API"."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.routing_key = secrets.token_hex(16)
        self.other_routing_key = secrets.token_hex(16)
        self.api_token = "y_" + secrets.token_hex(9)
        self.webhook_secret = secrets.token_hex(32)
        self.limit = 120
        """Events, "Rate Limits": "approximately 120 calls/minute per integration key"."""
        self.rest_limit = 960
        self.services = {"PF9KMXH": "Database Migrations", "PIJ90N7": "API"}
        self.policies = {"PF9KMXH": "PT20YPA", "PIJ90N7": "PT20YPB"}
        self.users = {"PXPGF42": "ada@example.com", "PLH1HKV": "grace@example.com"}
        self.on_call: list[tuple[str, int, str]] = [("PT20YPA", 2, "PLH1HKV"), ("PT20YPA", 1, "PXPGF42")]
        """Escalation policy, level and user."""
        self.alerts: list[Alert] = []
        self.changes: list[dict[str, Any]] = []
        self.incidents: list[MadeIncident] = []
        self.dropped: list[dict[str, Any]] = []
        """What was answered with 202 and then dropped, as PagerDuty does without telling."""
        self._made: list[str] = []
        self._events: dict[str, deque[float]] = {}
        self._asked: deque[float] = deque()

    # -- what tests and demos do here ------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Both APIs, and webhooks."""
        return {
            "routing_key": self.routing_key,
            "api_token": self.api_token,
            "from_email": "ada@example.com",
            "service": "Database Migrations",
            "webhook_secret": self.webhook_secret,
            "base_url": self.url,
        }

    def effects(self) -> list[str]:
        """Alerts as they opened, were acknowledged and were resolved, changes told, incidents made."""
        return list(self._made)

    def open_alerts(self) -> list[str]:
        """The dedup keys of alerts that are not resolved."""
        return [alert.dedup_key for alert in self.alerts if alert.status != "resolved"]

    def resolve(self, dedup_key: str) -> None:
        """Somebody resolves it on the web."""
        for alert in self.alerts:
            if alert.dedup_key == dedup_key:
                alert.status = "resolved"

    def webhook(self, event: Mapping[str, Any] | bytes, **how: Any) -> InboundRequest:
        """A webhook as our gateway hands it on. `how` as for `raw_webhook`."""
        headers, body = self.raw_webhook(event, **how)
        return InboundRequest({name.lower(): value for name, value in headers.items()}, body, time.time())

    def raw_webhook(
        self, event: Mapping[str, Any] | bytes, *, signing: Sequence[str] | None = None, webhook_id: str | None = None
    ) -> tuple[dict[str, str], bytes]:
        """Headers and body (Webhooks, "Verifying Signatures": one `v1=` and hex for each secret, joined by commas;
        "Behavior": X-Webhook-Id is the same on every attempt)."""
        body = event if isinstance(event, bytes) else json.dumps({"event": event}, ensure_ascii=False).encode()
        keys = [self.webhook_secret] if signing is None else signing
        signatures = ["v1=" + sign_plain(body, SecretStr(key)).removeprefix("sha256=") for key in keys]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "PagerDuty-Webhook/V3.0",
            "X-PagerDuty-Signature": ",".join(signatures),
            "X-Webhook-Id": webhook_id or str(uuid.uuid4()),
            "X-Webhook-Subscription": "PPBCHUX",
        }
        return headers, body

    def incident_event(self, event_type: str = "incident.triggered", **changes: Any) -> dict[str, Any]:
        """The `event` of a webhook about an incident (Webhooks, "Overview", "Webhook Payload"). `changes` go into its
        data; `agent` and `occurred_at` into the envelope."""
        envelope: dict[str, Any] = {
            name: changes.pop(name) for name in ("id", "agent", "occurred_at") if name in changes
        }
        data = {
            "id": "PGR0VU2",
            "type": "incident",
            "self": "https://api.pagerduty.com/incidents/PGR0VU2",
            "html_url": f"{WEB}/incidents/PGR0VU2",
            "number": 2,
            "status": "triggered",
            "incident_key": "d3640fbd41094207a1c11e58e46b1662",
            "created_at": "2020-04-09T15:16:27Z",
            "title": "A little bump in the road",
            "service": {"id": "PF9KMXH", "summary": "Database Migrations", "type": "service_reference"},
            "assignees": [{"id": "PXPGF42", "summary": "Ada", "type": "user_reference"}],
            "escalation_policy": {"id": "PT20YPA", "summary": "Default", "type": "escalation_policy_reference"},
            "teams": [],
            "priority": {"id": "PSO75BM", "summary": "P1", "type": "priority_reference"},
            "urgency": "high",
            "resolve_reason": None,
        }
        return {
            "id": uuid.uuid4().hex.upper()[:26],
            "event_type": event_type,
            "resource_type": event_type.partition(".")[0],
            "occurred_at": datetime.now(UTC).isoformat(),
            "agent": None,
            "client": None,
            "data": data | changes,
            **envelope,
        }

    def person(self, user_id: str = "PXPGF42", name: str = "Ada") -> dict[str, str]:
        """The agent of what a person does."""
        return {"id": user_id, "summary": name, "type": "user_reference", "html_url": f"{WEB}/users/{user_id}"}

    # -- Events API ------------------------------------------------------------------------------------------------

    def routes(self) -> Sequence[BaseRoute]:
        """Both APIs; PagerDuty has them on two hosts."""
        return [
            Route("/v2/enqueue", self._events_route(self._enqueue, check_alert), methods=["POST"]),
            Route("/v2/change/enqueue", self._events_route(self._enqueue_change, check_change), methods=["POST"]),
            Route("/abilities", self._rest_route(self._list_abilities)),
            Route("/services", self._rest_route(self._list_services)),
            Route("/services/{id}", self._rest_route(self._get_service)),
            Route("/oncalls", self._rest_route(self._list_on_calls)),
            Route("/users", self._rest_route(self._list_users)),
            Route("/incidents", self._rest_route(self._list_incidents), methods=["GET"]),
            Route("/incidents", self._rest_route(self._create_incident), methods=["POST"]),
        ]

    def _events_route(
        self, handle: Callable[[dict[str, Any]], Response], check: Callable[[Mapping[str, Any]], list[str]]
    ) -> Handler:
        async def answer(request: Request) -> Response:
            body = await request.body()
            if len(body) > MAX_BODY:
                # Events, "Overview", "Size Limits": 512 KB. The page names no status; 413 is what HTTP has for it.
                return _refuse("invalid event", "Event object is invalid", ["Request entity too large"], 413)
            try:
                event = json.loads(body)
            except ValueError:
                event = None
            if not isinstance(event, dict):
                # OpenAPI, components.responses.Error, its example.
                return _refuse("Unrecognized object", "Event object format is unrecognized", ["JSON parse error"])
            if self.reject_credentials:
                return _refuse("invalid event", "Event object is invalid", ["Invalid routing key"])
            if faults := check(event):
                return _refuse("invalid event", "Event object is invalid", faults)
            if self._is_throttled(event["routing_key"]):
                return _refuse(
                    "throttle exceeded",
                    "Requests for this service are arriving too quickly.  Please retry later.",
                    ["Enhance Your Calm."],
                    429,
                )
            return handle(event)

        return answer

    def _is_throttled(self, routing_key: str) -> bool:
        # Events, "Rate Limits": calculated over a 60 second window looking back from the current time; an event that
        # is refused is not ingested.
        calls, now = self._events.setdefault(routing_key, deque()), time.monotonic()
        while calls and calls[0] <= now - WINDOW_SECONDS:
            calls.popleft()
        if len(calls) >= self.limit:
            return True
        calls.append(now)
        return False

    def _enqueue(self, event: dict[str, Any]) -> Response:
        # Events, "Alert De-Duplication": a key that is omitted is generated and returned.
        key = event.get("dedup_key") or uuid.uuid4().hex
        self._apply(event, key)
        return JSONResponse({"status": "success", "message": "Event processed", "dedup_key": key}, 202)

    def _apply(self, event: dict[str, Any], key: str) -> None:
        if event["routing_key"] not in (self.routing_key, self.other_routing_key):
            # The API is asynchronous: a key of the right form that belongs to nobody is accepted all the same.
            self.dropped.append(event)
            return
        # "Submitting subsequent events with the same dedup_key will result in those events being applied to an open
        # alert", "only ... if the events are sent via the same routing_key as the original trigger event".
        same = (a for a in self.alerts if (a.routing_key, a.dedup_key) == (event["routing_key"], key))
        alert = next((one for one in same if one.status != "resolved"), None)
        if alert is None and event["event_action"] != "trigger":
            # "Acknowledge or resolve events without a currently open alert will not create a new one."
            self.dropped.append(event)
            return
        if alert is None:
            # "Once the alert is resolved, any further events with the same dedup_key will create a new alert".
            alert = Alert(event["routing_key"], key, "triggered")
            self.alerts.append(alert)
            self._made.append(f"alert {key} opened")
        alert.log.append(event)
        status = {"acknowledge": "acknowledged", "resolve": "resolved"}.get(event["event_action"])
        if status is not None and alert.status != status:
            alert.status = status
            self._made.append(f"alert {key} {status}")

    def _enqueue_change(self, event: dict[str, Any]) -> Response:
        if event["routing_key"] not in (self.routing_key, self.other_routing_key):
            self.dropped.append(event)
        else:
            self.changes.append(event)
            self._made.append(f"change: {event['payload']['summary']}")
        return JSONResponse({"status": "success", "message": "Change event processed"}, 202)

    # -- REST API --------------------------------------------------------------------------------------------------

    def _rest_route(self, handle: Callable[[Request, Any], Response]) -> Handler:
        async def answer(request: Request) -> Response:
            try:
                self._sign_in(request)
                self._spend()
                body = json.loads(await request.body()) if request.method == "POST" else None
                response = handle(request, body)
            except ValueError:
                response = JSONResponse({"error": {"message": "Invalid JSON", "code": 2001}}, 400)
            except _Refused as refused:
                response = refused.response
            response.headers.update(self._rate_headers())
            return response

        return answer

    def _sign_in(self, request: Request) -> None:
        # REST, "Authentication": `Authorization: Token token=...`, "this format must be followed precisely or you will
        # receive a 401"; OpenAPI: Accept "is used as a versioning header".
        given = request.headers.get("authorization", "")
        if self.reject_credentials or given != f"Token token={self.api_token}":
            raise _Refused(401, {"error": {"message": "Unauthorized", "code": 2006}})
        if request.headers.get("accept") != "application/vnd.pagerduty+json;version=2":
            raise _Refused(400, {"error": {"message": "Unsupported API version", "code": 2001}})

    def _spend(self) -> None:
        # REST, "Rate Limits": 960 requests a minute; 429 with this body.
        now = time.monotonic()
        while self._asked and self._asked[0] <= now - WINDOW_SECONDS:
            self._asked.popleft()
        if len(self._asked) >= self.rest_limit:
            raise _Refused(429, {"error": {"message": "Rate Limit Exceeded", "code": 2020}})
        self._asked.append(now)

    def _rate_headers(self) -> dict[str, str]:
        # REST, "Rate Limits", "Rate limit headers": reset is the number of seconds until the limit is reset.
        oldest = self._asked[0] if self._asked else time.monotonic()
        return {
            "ratelimit-limit": str(self.rest_limit),
            "ratelimit-remaining": str(max(self.rest_limit - len(self._asked), 0)),
            "ratelimit-reset": str(max(int(oldest + WINDOW_SECONDS - time.monotonic()) + 1, 1)),
        }

    def _list_abilities(self, request: Request, body: Any) -> Response:
        return JSONResponse({"abilities": ["teams", "read_only_users", "service_support_hours", "urgencies"]})

    def _list_services(self, request: Request, body: Any) -> Response:
        # OpenAPI, parameter `name`: "showing only services with the specified name".
        wanted = request.query_params.get("name")
        found = [self._show_service(one) for one, name in self.services.items() if wanted in (None, name)]
        return JSONResponse({"services": found, "limit": 100, "offset": 0, "more": False, "total": None})

    def _get_service(self, request: Request, body: Any) -> Response:
        if request.path_params["id"] not in self.services:
            raise _Refused(404, {"error": {"message": "Not Found", "code": 2100}})
        return JSONResponse({"service": self._show_service(request.path_params["id"])})

    def _list_on_calls(self, request: Request, body: Any) -> Response:
        # OpenAPI, parameter `escalation_policy_ids[]`: "only on-calls for the specified escalation policy IDs".
        wanted = request.query_params.getlist("escalation_policy_ids[]")
        found = [
            {
                "user": {"id": user, "type": "user_reference", "summary": self.users[user].partition("@")[0].title()},
                "escalation_policy": {"id": policy, "type": "escalation_policy_reference"},
                "escalation_level": level,
                "start": None,
                "end": None,
            }
            for policy, level, user in self.on_call
            if not wanted or policy in wanted
        ]
        return JSONResponse({"oncalls": found, "limit": 100, "offset": 0, "more": False, "total": None})

    def _list_users(self, request: Request, body: Any) -> Response:
        # OpenAPI, GET /users, parameter `query`: filters the result; the vendor's own clients find users by e-mail so.
        wanted = request.query_params.get("query", "")
        found = [{"id": one, "type": "user", "email": email} for one, email in self.users.items() if wanted in email]
        return JSONResponse({"users": found, "limit": 100, "offset": 0, "more": False, "total": None})

    def _list_incidents(self, request: Request, body: Any) -> Response:
        query = request.query_params
        found = [
            self._show_incident(one)
            for one in (*self.incidents, *self._of_alerts())
            if query.get("incident_key") in (None, one.incident_key)
            and one.status in (query.getlist("statuses[]") or ["triggered", "acknowledged", "resolved"])
            and one.service_id in (query.getlist("service_ids[]") or self.services)
        ]
        return JSONResponse({"incidents": found, "limit": 100, "offset": 0, "more": False, "total": None})

    def _of_alerts(self) -> list[MadeIncident]:
        # OpenAPI, GET /incidents, `incident_key`: "querying by incident key will return incidents whose alerts have
        # alert_key matching the given incident key". With one alert each, an incident stands as its alert does.
        services = dict(zip((self.routing_key, self.other_routing_key), self.services, strict=True))
        return [
            MadeIncident(
                id=f"PALERT{number:X}",
                number=number,
                title=alert.log[0]["payload"]["summary"],
                service_id=services[alert.routing_key],
                urgency="high",
                incident_key=alert.dedup_key,
                details="",
                assignees=(),
                made_by="",
                status=alert.status,
            )
            for number, alert in enumerate(self.alerts, start=1)
        ]

    def _create_incident(self, request: Request, body: Any) -> Response:
        made_by = request.headers.get("from", "")
        if made_by not in self.users.values():
            # REST, "Incident Creation API": From is the e-mail of a valid user of the account.
            raise _Refused(400, _arguments("Requester User Not Found"))
        incident = self._checked_incident(body)
        key = incident.get("incident_key") or uuid.uuid4().hex
        service_id = incident["service"]["id"]
        if any((i.incident_key, i.service_id) == (key, service_id) and i.status != "resolved" for i in self.incidents):
            # "If an incident exists on the provided service with the same incident key, a subsequent Incident Create
            # request will be denied with a 400 Bad Request."
            raise _Refused(400, _arguments("Open incident with matching dedup key already exists on this service"))
        made = MadeIncident(
            id=f"PT4KHL{len(self.incidents):X}",
            number=1234 + len(self.incidents),
            title=incident["title"],
            service_id=service_id,
            urgency=incident.get("urgency", "high"),
            incident_key=key,
            details=incident.get("body", {}).get("details", ""),
            assignees=tuple(one["assignee"]["id"] for one in incident.get("assignments", ())),
            made_by=made_by,
        )
        self.incidents.append(made)
        self._made.append(f"incident {made.number} on {self.services[service_id]}: {made.title}")
        return JSONResponse({"incident": self._show_incident(made)}, 201)

    def _checked_incident(self, body: Any) -> dict[str, Any]:
        # OpenAPI, POST /incidents: type, title and service are required; enumerations as given there.
        incident = body.get("incident") if isinstance(body, dict) else None
        if not isinstance(incident, dict):
            raise _Refused(400, _arguments("Incident is required"))
        faults = []
        if incident.get("type") != "incident":
            faults.append("Type must be incident")
        if not isinstance(incident.get("title"), str) or not incident["title"]:
            faults.append("Title cannot be empty")
        service = incident.get("service")
        if not isinstance(service, dict) or service.get("id") not in self.services:
            faults.append("Service not found")
        elif service.get("type") != "service_reference":
            faults.append("Service must be a service_reference")
        if incident.get("urgency", "high") not in ("high", "low"):
            faults.append("Urgency must be high or low")
        text = incident.get("body")
        if text is not None and (text.get("type") != "incident_body" or not isinstance(text.get("details"), str)):
            faults.append("Body must be an incident_body with string details")
        faults += self._assignment_faults(incident)
        if faults:
            raise _Refused(400, _arguments(*faults))
        return incident

    def _assignment_faults(self, incident: Mapping[str, Any]) -> list[str]:
        # "Cannot be provided if escalation_policy is already specified. Only one assignee is supported at this time."
        assignments = incident.get("assignments", [])
        if assignments and "escalation_policy" in incident:
            return ["Assignments cannot be given with an escalation policy"]
        if len(assignments) > 1:
            return ["Only one assignee is supported"]
        return ["User not found" for one in assignments if one["assignee"]["id"] not in self.users]

    def _show_service(self, service_id: str) -> dict[str, Any]:
        policy = {"id": self.policies[service_id], "type": "escalation_policy_reference"}
        name = self.services[service_id]
        return {"id": service_id, "type": "service", "name": name, "summary": name, "escalation_policy": policy}

    def _show_incident(self, incident: MadeIncident) -> dict[str, Any]:
        return {
            "id": incident.id,
            "type": "incident",
            "title": incident.title,
            "summary": f"[#{incident.number}] {incident.title}",
            "html_url": f"{WEB}/incidents/{incident.id}",
            "incident_number": incident.number,
            "status": incident.status,
            "incident_key": incident.incident_key,
            "urgency": incident.urgency,
            "service": {"id": incident.service_id, "type": "service_reference"},
        }


def check_alert(event: Mapping[str, Any]) -> list[str]:
    """What is wrong with an alert event (OpenAPI, POST /enqueue); empty when nothing is.

    The wording follows PagerDuty's own for the integration key; the pages give no other.
    """
    faults = _check_key(event)
    action = event.get("event_action")
    if action not in ("trigger", "acknowledge", "resolve"):
        faults.append("'event_action' is invalid (must be one of: 'trigger', 'acknowledge' or 'resolve')")
    key = event.get("dedup_key")
    if key is None and action != "trigger":
        # "Required unless the `event_type` is `trigger`."
        faults.append("'dedup_key' is missing or blank")
    faults += _check_text(event, "dedup_key", most=MAX_DEDUP_KEY) + _check_text(event, "client")
    faults += _check_url(event, "client_url")
    payload = event.get("payload")
    if "payload" not in event and action != "trigger":
        # "Send an Alert Event", the examples of acknowledge and resolve have none.
        return faults + _check_context(event)
    if not isinstance(payload, dict):
        return [*faults, "'payload' is missing or blank", *_check_context(event)]
    faults += _check_payload(payload, required=("summary", "severity", "source"))
    faults += [fault for name in ("component", "group", "class") for fault in _check_text(payload, name)]
    if payload.get("severity") not in ("critical", "warning", "error", "info"):
        faults.append("'payload.severity' is invalid (must be one of: 'critical', 'warning', 'error' or 'info')")
    return faults + _check_context(event)


def check_change(event: Mapping[str, Any]) -> list[str]:
    """What is wrong with a change event (OpenAPI, POST /change/enqueue); empty when nothing is."""
    faults = _check_key(event)
    if str(event.get("routing_key", "")).startswith("R"):
        # Events, "Overview": "change events cannot be sent to ruleset integration keys (these ... begin with R)".
        faults.append("Invalid routing key: change events are not supported by rulesets")
    payload = event.get("payload")
    if not isinstance(payload, dict):
        return [*faults, "'payload' is missing or blank"]
    return faults + _check_payload(payload, required=("summary",)) + _check_context(event)


def _check_key(event: Mapping[str, Any]) -> list[str]:
    key = event.get("routing_key")
    if not isinstance(key, str) or not key:
        return ["'routing_key' is missing or blank"]
    return [] if len(key) == 32 else ["Length of 'routing_key' is incorrect (should be 32 characters)"]


def _check_payload(payload: Mapping[str, Any], required: tuple[str, ...]) -> list[str]:
    faults = [f"'payload.{name}' is missing or blank" for name in required if not payload.get(name)]
    # "The maximum permitted length of this property is 1024 characters."
    faults += _check_text(payload, "summary", most=MAX_SUMMARY) + _check_text(payload, "source")
    if "custom_details" in payload and not isinstance(payload["custom_details"], dict):
        faults.append("'payload.custom_details' is not an object")
    if "timestamp" in payload:
        try:
            datetime.fromisoformat(payload["timestamp"])
        except (TypeError, ValueError):
            faults.append("'payload.timestamp' is not a date-time")
    return faults


def _check_context(event: Mapping[str, Any]) -> list[str]:
    faults = []
    for name, needed in (("links", "href"), ("images", "src")):
        items = event.get(name, [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            faults.append(f"'{name}' is not an array of objects")
            continue
        for item in items:
            faults += [f"'{name}.{needed}' is missing or blank"] if not item.get(needed) else []
            faults += _check_url(item, "href") + _check_url(item, "src")
            faults += _check_text(item, "text") + _check_text(item, "alt")
            if name == "images" and not str(item.get("src", "")).startswith("https://"):
                # OpenAPI, Images: "This image must be served via HTTPS."
                faults.append("'images.src' must be served via HTTPS")
    return faults


def _check_text(where: Mapping[str, Any], name: str, *, most: int | None = None) -> list[str]:
    if name not in where:
        return []
    if not isinstance(where[name], str):
        return [f"'{name}' is not a string"]
    too_long = most is not None and len(where[name]) > most
    return [f"Length of '{name}' is incorrect (should be at most {most} characters)"] if too_long else []


def _check_url(where: Mapping[str, Any], name: str) -> list[str]:
    if name not in where:
        return []
    text = where[name]
    if not isinstance(text, str) or " " in text or not urlsplit(text).netloc:
        return [f"'{name}' is not a URL"]
    return []


def _refuse(status: str, message: str, errors: list[str], code: int = 400) -> Response:
    """OpenAPI, components.responses.Error."""
    return JSONResponse({"status": status, "message": message, "errors": errors}, code)


def _arguments(*errors: str) -> dict[str, Any]:
    """REST, OpenAPI, "Generic error response from the PagerDuty API"."""
    return {"error": {"message": "Arguments Caused Error", "code": 2002, "errors": list(errors)}}

"""Everything that can be asked of the gateway over HTTP, each thing declared once. Data only.

`app` makes its routes of this table and asks for a key where `access` says so; `openapi` makes the document, and
`service.generate` the tables of docs/http.md. A new one is declared here, put into OPERATIONS, and given its handler in
`app.build_app`; a route that is not declared is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel

from integrations.base import Notification
from service.gateway.answers import Done, HealthReport, Index, IntegrationFacts, Integrations, LogLines, Ready
from service.gateway.api import BATCH_TYPE, MAX_BATCH
from service.gateway.forms import CLOUD_TYPE, EXAMPLES, part
from service.journal import ROUTE as LOGS
from service.log_lines import Query

JSON = "application/json"
TEXT = "text/plain"

Access = Literal["everybody", "details", "machine", "key", "signature"]
ACCESS: Mapping[Access, str] = {
    "everybody": "everybody",
    "details": "everybody; details: holders of a key",
    "machine": "this machine, not through a proxy; holders of a key",
    "key": "holders of a key",
    "signature": "who signs with the account's secret",
}
"""Who may call. A key is looked for before anything else of the request is."""

PROBLEMS: Mapping[int, str] = {
    400: "not strict JSON, a wrong `Idempotency-Key`, a Host outside `gateway.allowed_hosts`",
    401: "no key, a wrong key, a signature that does not fit or is too old",
    403: "no key is configured, or the topic is reserved",
    404: "nothing of this name is here, or it can't do this",
    405: "not with this method; `Allow` has those that are",
    408: "the body did not come within 15 s",
    409: "the key stands for another event, the webhook was accepted before, or the same action is under way",
    413: "the body is too large",
    415: "the body is compressed",
    422: "a field does not fit, the service refused, or the action's key stands for other content",
    429: "the service asked us to slow down",
    500: "the integration's settings can't work, or a fault of ours",
    502: "the service failed, refused our credentials or can't be reached",
    503: "Redis does not answer or is full and there is no spool; the integration is not ready or over its budget",
    504: "no answer from the service: it may have been done",
}
"""Refusals, each a problem document."""

REMEDIES: Mapping[int, str] = {
    400: "correct it",
    401: "one text for all, so nothing is learnt",
    408: "send it again",
    409: "with `Retry-After`: wait so many seconds, then repeat",
    415: "send it without Content-Encoding",
    422: "correct it",
    429: "wait `Retry-After` seconds",
    500: "the detail or the gateway's log says what is wrong",
    502: "repeat with the same key",
    503: "wait `Retry-After` seconds, then repeat",
    504: "the detail says what a repeat would do",
}

Shape = type[BaseModel] | Mapping[str, Any]
"""What a body looks like: a model, or a JSON schema that names parts of the document."""


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent, by media type; of each, examples by name."""

    shapes: Mapping[str, Shape]
    examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered when nothing is wrong."""

    about: str
    shape: Shape
    media: str = JSON
    example: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One thing that can be asked.

    id        its operationId; generated clients name it so
    names     which integrations the path may name: all, those that send notifications, are called, or are scraped
    artifact  integration and type of the artifact that it makes; the manifests have its body
    body      None where nothing is sent
    answers   by status, `2XX` for any of these
    problems  statuses of refusals beside 400, which everything may get for its Host
    acts      stands under an Idempotency-Key, the caller's or a new one, that the answer names
    """

    id: str
    method: Literal["GET", "POST"]
    path: str
    about: str
    answers: Mapping[str, Answer]
    access: Access = "key"
    names: Literal["all", "notifies", "hears", "exposes"] | None = None
    artifact: tuple[str, str] | None = None
    body: Body | None = None
    problems: tuple[int, ...] = ()
    more: str = ""
    acts: bool = False


_OF_KEYS = (401, 403)
_OF_BODIES = (408, 413, 415)
_OF_EVENTS = (*_OF_KEYS, *_OF_BODIES, 409, 422, 503)
_OF_ACTIONS = (*_OF_KEYS, 404, *_OF_BODIES, 409, 422, 429, 500, 502, 503, 504)

_DONE = {"outcome": "delivered", "reference": "1795246628.000003", "url": None, "detail": "posted to #deployments"}
_PULL = "https://github.com/acme/api/pull/8"
_MADE = {"outcome": "delivered", "reference": "8", "url": _PULL, "detail": "open a pull request in acme/api"}
_MADE_BEFORE = Answer("It was made before, under the same key", Done, example=_MADE | {"outcome": "duplicate"})
_STORED = {
    "id": "01a1fd09-9f23-7e3a-a0f7-dd6649577f4e",
    "topic": "vm.created",
    "status": "stored",
    "sequence": 41,
}
_MESSAGE = {"message": "Deploy 118 is done", "target": "#deployments", "severity": "info"}

INDEX = Operation("index", "GET", "/", "What is here", {"200": Answer("What is here", Index)}, access="everybody")
LIVEZ = Operation(
    "livez",
    "GET",
    "/livez",
    "The event loop turns",
    {"200": Answer("It does", {"const": "ok\n"}, TEXT)},
    access="everybody",
)
READYZ = Operation(
    "readyz",
    "GET",
    "/readyz",
    "Whether what is accepted now can be made durable",
    {"200": Answer("Redis answers, or there is a spool", Ready), "503": Answer("It can't be", Ready)},
    access="details",
)
METRICS = Operation(
    "metrics",
    "GET",
    "/metrics",
    "Prometheus text",
    {"200": Answer("The text format 0.0.4", {"type": "string"}, TEXT)},
    access="machine",
    problems=_OF_KEYS,
)
MEASURED = Operation(
    "measured",
    "GET",
    "/metrics/{integration}",
    "What an integration has counted, as Prometheus text",
    {"200": Answer("The text format 0.0.4, the same from every process", {"type": "string"}, TEXT)},
    access="machine",
    names="exposes",
    problems=(*_OF_KEYS, 404, 503),
)
HEALTH = Operation(
    "health",
    "GET",
    "/api/v1/health",
    "How each component is",
    {"200": Answer("The bus works", HealthReport), "503": Answer("The bus is unhealthy", HealthReport)},
    access="details",
)
OPENAPI = Operation(
    "openapi",
    "GET",
    "/api/v1/openapi.json",
    "This document, for the integrations that are configured here",
    {"200": Answer("OpenAPI 3.1", {"type": "object"})},
    problems=_OF_KEYS,
)
INTEGRATIONS = Operation(
    "list_integrations",
    "GET",
    "/api/v1/integrations",
    "Every configured integration: what it takes and makes, its limits",
    {"200": Answer("Those of the settings, in the order of their names", Integrations)},
    problems=_OF_KEYS,
    more="How they are is told by `health`.",
)
INTEGRATION = Operation(
    "get_integration",
    "GET",
    "/api/v1/integrations/{name}",
    "One of them",
    {"200": Answer("What its adapter says of itself", IntegrationFacts)},
    names="all",
    problems=(*_OF_KEYS, 404),
)
WEBHOOK = Operation(
    "receive_webhook",
    "POST",
    "/api/v1/webhooks/{integration}",
    "A service calls us",
    {"2XX": Answer("What the service wants to hear, once the events are durable", {}, "*/*")},
    access="signature",
    names="hears",
    body=Body({"*/*": {}}),
    problems=(401, 404, *_OF_BODIES, 409, 503),
    more="The raw bytes are verified as the service signs them; each adapter's README says how.",
)
PUBLISH = Operation(
    "publish_event",
    "POST",
    "/api/v1/events",
    f"Publish one event, a CloudEvent, or a batch of {MAX_BATCH} at most",
    {
        "202": Answer(
            "Redis has it, or the spool; of a batch, one answer for each event in its order",
            {"anyOf": [part("Stored"), part("StoredBatch")]},
            example=_STORED,
        )
    },
    body=Body(
        {
            JSON: {"anyOf": [part("Event"), part("CloudEvent"), part("Batch")]},
            CLOUD_TYPE: part("CloudEvent"),
            BATCH_TYPE: part("Batch"),
        },
        EXAMPLES,
    ),
    problems=_OF_EVENTS,
    acts=True,
    more="All of a batch is checked before the first is stored; it takes no Idempotency-Key, the id of each event is "
    "one. The same key with the same content within 24 hours is stored once.",
)
NOTIFY = Operation(
    "send_notification",
    "POST",
    "/api/v1/integrations/{name}/notifications",
    "Tell people, now and not through the bus",
    {"200": Answer("It was sent, or had been under the same key", Done, example=_DONE)},
    names="notifies",
    body=Body({JSON: Notification}, {JSON: {"deploy": _MESSAGE}}),
    problems=_OF_ACTIONS,
    acts=True,
)
CREATE = Operation(
    "create_{name}_{type}",
    "POST",
    "/api/v1/integrations/{name}/artifacts/{type}",
    "Make `{type}` at `{name}`, now",
    {"201": Answer("It was made", Done, example=_MADE), "200": _MADE_BEFORE},
    artifact=("{name}", "{type}"),
    problems=_OF_ACTIONS,
    acts=True,
)
PULL_REQUEST = replace(
    CREATE,
    id="create_pull_request",
    path="/api/v1/integrations/github/pr",
    about="Short for `.../github/artifacts/pull_request`",
    artifact=("github", "pull_request"),
)
QUERY_LOGS = Operation(
    "query_logs",
    "POST",
    LOGS,
    "The newest log lines of all programs",
    {"200": Answer("Lines that fit, the newest first", LogLines)},
    body=Body({JSON: Query}, {JSON: {"errors": {"component": "github", "level": "error", "limit": 20}}}),
    problems=(*_OF_KEYS, 404, *_OF_BODIES, 422, 503),
    more="404 where the settings keep none: `log.keep` is 0",
)
OPERATIONS = (
    INDEX,
    LIVEZ,
    READYZ,
    METRICS,
    MEASURED,
    HEALTH,
    OPENAPI,
    INTEGRATIONS,
    INTEGRATION,
    WEBHOOK,
    PUBLISH,
    NOTIFY,
    CREATE,
    PULL_REQUEST,
    QUERY_LOGS,
)

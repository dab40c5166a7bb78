"""REST for holders of an API key: publish events, send notifications, create artifacts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from eventbus import Event, Receipt, catalog
from eventbus.codec import from_cloudevent
from eventbus.event import new_id
from eventbus.pattern import matches_any
from integrations.base import Artifact, DeliveryResult, Notification, Outcome
from service.gateway.auth import require_key
from service.gateway.body import read_json
from service.gateway.problems import Problem, invalid
from service.wiring import Runtime

MAX_BATCH = 500
RESERVED = ("github.>", "slack.>", "delivery.>", "integration.>")
"""Topics that only a verified webhook or the bus itself may publish: a key must not be able to forge them."""

_KEY = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}")
_ENVELOPE = (
    "id",
    "source",
    "time",
    "subject",
    "key",
    "idempotency_key",
    "correlation_id",
    "causation_id",
    "traceparent",
)


class Api:
    """The routes under /api/v1 that need a key."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def publish(self, request: Request) -> Response:
        """`POST /api/v1/events`: one event, a CloudEvent, or a batch of CloudEvents. 202 when Redis has them."""
        body = await self._body(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/cloudevents-batch+json" or isinstance(body, list):
            receipts = await self._runtime.bus.publish_many(_batch(body))
            return JSONResponse([_shown(receipt) for receipt in receipts], 202)
        event = _event(body, _idempotency_key(request))
        receipt = await self._runtime.bus.publish(event)
        return JSONResponse(_shown(receipt), 202)

    async def notify(self, request: Request) -> Response:
        """`POST /api/v1/integrations/{name}/notifications`."""
        notification = _validated(Notification, await self._body(request))
        name, key = request.path_params["name"], _idempotency_key(request) or new_id()
        result = await self._runtime.registry.send_notification(name, notification, key)
        return _result(result, key, made=200)

    async def create(self, request: Request) -> Response:
        """`POST /api/v1/integrations/{name}/artifacts/{type}`; `.../github/pr` is its short form."""
        name = request.path_params.get("name", "github")
        kind = request.path_params.get("type", "pull_request")
        content = await self._body(request)
        models = self._runtime.registry.get(name).adapter.manifest.artifacts
        if kind not in models:
            raise Problem(404, f"{name} makes no artifact {kind!r}; it makes: {', '.join(models) or 'none'}")
        checked = _validated(models[kind], content)
        artifact = Artifact(type=kind, content=checked.model_dump(mode="json", exclude_unset=True))
        key = _idempotency_key(request) or new_id()
        result = await self._runtime.registry.create_artifact(name, artifact, key)
        return _result(result, key, made=201)

    async def _body(self, request: Request) -> Any:
        gateway = self._runtime.settings.gateway
        require_key(request, gateway.api_keys)
        return await read_json(request, gateway.max_body_bytes)


def _event(body: Any, idempotency_key: str | None) -> Event[Any]:
    if not isinstance(body, dict):
        raise Problem(400, "an event is a JSON object")
    if "specversion" in body:
        extra = {} if idempotency_key is None else {"idempotencykey": idempotency_key}
        event = from_cloudevent({**body, **extra})
    else:
        event = _plain(body, idempotency_key)
    if matches_any(RESERVED, event.topic):
        raise Problem(403, f"{event.topic} is published by verified webhooks or the bus itself, not over REST")
    return event


def _plain(body: Mapping[str, Any], idempotency_key: str | None) -> Event[Any]:
    known = {"topic", "type", "data", *_ENVELOPE}
    unknown = sorted(set(body) - known)
    if unknown:
        raise Problem(422, f"unknown fields: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    topic, data = body.get("topic", body.get("type")), body.get("data", {})
    if not isinstance(topic, str) or not isinstance(data, dict):
        raise Problem(422, "an event needs a `topic`, a string, and may have `data`, an object")
    envelope = {name: body[name] for name in _ENVELOPE if body.get(name) is not None}
    if idempotency_key is not None:
        envelope["idempotency_key"] = idempotency_key
    envelope.setdefault("source", "/api")
    return catalog.event(topic, data, **envelope)


def _batch(body: Any) -> list[Event[Any]]:
    """All are checked before the first is sent."""
    if not isinstance(body, list) or not 1 <= len(body) <= MAX_BATCH:
        raise Problem(422, f"a batch is a list of 1 to {MAX_BATCH} CloudEvents")
    return [_event(one, None) for one in body]


def _idempotency_key(request: Request) -> str | None:
    """The header of draft-ietf-httpapi-idempotency-key-header: a string, with or without its quotes."""
    given = request.headers.get("idempotency-key")
    if given is None:
        return None
    key = given[1:-1] if len(given) > 2 and given[0] == given[-1] == '"' else given
    if not _KEY.fullmatch(key):
        raise Problem(400, "Idempotency-Key: 1 to 255 visible ASCII characters")
    return key


def _validated(model: type[BaseModel], body: Any) -> Any:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise invalid(error) from None


def _shown(receipt: Receipt) -> dict[str, Any]:
    return {
        "id": receipt.event_id,
        "topic": receipt.topic,
        "status": receipt.status,
        "sequence": receipt.sequence,
    }


def _result(result: DeliveryResult, key: str, *, made: int) -> Response:
    headers = {"Idempotency-Key": key}
    repeated = result.outcome is Outcome.DUPLICATE
    if repeated:
        headers["Idempotent-Replayed"] = "true"
    body = {
        "outcome": result.outcome.value,
        "reference": result.reference,
        "url": result.url,
        "detail": result.detail,
    }
    return JSONResponse(body, 200 if repeated else made, headers)

"""REST for holders of an API key: publish events, send notifications, create artifacts.

Every request stands under an idempotency key, the caller's or a fresh one. It is in every answer, refusals too, so that
whatever became of a request, repeating it under its key can be told from asking anew.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from eventbus import Conflict, Event, InvalidEvent, Receipt, catalog
from eventbus.codec import from_cloudevent
from eventbus.event import new_id
from eventbus.pattern import matches_any
from integrations.base import Artifact, DeliveryResult, Notification, Outcome
from integrations.errors import OutcomeUnknown
from registry.account import Account
from registry.judgement import describe
from service.gateway.answers import Done, Stored
from service.gateway.body import read_json
from service.gateway.problems import Problem, invalid, problem_of
from service.wiring import Runtime

MAX_BATCH = 500
RESERVED = (
    *("github.>", "slack.>", "pagerduty.>", "alertmanager.>", "approval.>"),
    *("notification.>", "delivery.>", "integration.>", "silence.>"),
)
"""Topics that only a verified webhook or the bus itself may publish: a key must not be able to forge them. What else
the integrations of the settings publish of what their services say is reserved, too."""
OPEN = ("task.>", "vm.>", "migration.>")
"""Topics that anybody's program publishes; an integration may do so as well."""

BATCH_TYPE = "application/cloudevents-batch+json"
"""CloudEvents, JSON event format 1.0.2, section 4."""

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
ENVELOPE = (
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
_KNOWN = ("type", "topic", "data", "at", *ENVELOPE)

_MAY_BE_DOUBLED = "Look before you repeat it: even under the same Idempotency-Key it may be done twice"
_DONE_ONCE = "Repeat it under the same Idempotency-Key: it takes effect once"


class Api:
    """What holders of a key ask for; `app` has looked at the key before."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def _reserved(self) -> list[str]:
        """A family is reserved by its first word: a bridge that may publish anything takes nothing away from others."""
        said = [pattern for account in self._runtime.registry for pattern in account.adapter.manifest.emits]
        return [*RESERVED, *(one for one in said if not one.startswith((">", "*")))]

    async def publish(self, request: Request) -> Response:
        """`POST /api/v1/events`: one event, a CloudEvent, or a batch of CloudEvents. 202 when Redis has them."""
        key, body = _idempotency_key(request), await self._json(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == BATCH_TYPE or isinstance(body, list):
            return await self._publish_batch(body, key)
        at = _due(body)
        event = _event(body, key, self._reserved)
        _name(request, event.idempotency_key)
        return JSONResponse(_shown(await self._runtime.bus.publish(event, at=at)), 202)

    async def notify(self, request: Request) -> Response:
        """`POST /api/v1/integrations/{name}/notifications`."""
        account = self._account(request)
        key = _name(request, _idempotency_key(request) or new_id())
        notification = _validated(Notification, await self._json(request))
        sending = self._runtime.registry.send_notification(account.name, notification, key)
        return _result(await _outcome(account, sending), made=200)

    async def create(self, request: Request) -> Response:
        """`POST /api/v1/integrations/{name}/artifacts/{type}`; `.../github/pr` is its short form."""
        account = self._account(request)
        kind, models = request.path_params.get("type", "pull_request"), account.adapter.manifest.artifacts
        if kind not in models:
            raise Problem(404, f"{account.name} makes no artifact {kind!r}; it makes: {', '.join(models) or 'none'}")
        key = _name(request, _idempotency_key(request) or new_id())
        content = _validated(models[kind], await self._json(request)).model_dump(mode="json", exclude_unset=True)
        making = self._runtime.registry.create_artifact(account.name, Artifact(type=kind, content=content), key)
        return _result(await _outcome(account, making), made=201)

    async def _publish_batch(self, body: Any, key: str | None) -> Response:
        """All are checked before the first is sent."""
        if key is not None:
            raise Problem(400, "a batch takes no Idempotency-Key: each of its events is stored once by its own id")
        if not isinstance(body, list) or len(body) > MAX_BATCH:
            raise Problem(422, f"a batch is a list of {MAX_BATCH} CloudEvents at most")
        reserved = self._reserved
        events = [_numbered(number, one, reserved) for number, one in enumerate(body)]
        try:
            receipts = await self._runtime.bus.publish_many(events)
        except Conflict as error:
            raise Problem(409, f"{error}. The other events of the batch are stored") from None
        return JSONResponse([_shown(receipt) for receipt in receipts], 202)

    def _account(self, request: Request) -> Account:
        """Whom the path names."""
        return self._runtime.registry.get(request.path_params.get("name", "github"))

    async def _json(self, request: Request) -> Any:
        return await read_json(request, self._runtime.settings.gateway.max_body_bytes)


# -- events ----------------------------------------------------------------------------------------------------------


def _numbered(number: int, body: Any, reserved: Sequence[str]) -> Event[Any]:
    """An event of a batch; what is wrong with it says which one it is."""
    try:
        return _event(body, None, reserved)
    except (Problem, InvalidEvent) as error:
        found = problem_of(error)
        errors = [{**fault, "field": f"{number}.{fault['field']}"} for fault in found.errors]
        raise Problem(found.status, f"event {number} of the batch: {found.detail}", errors=errors) from None


def _event(body: Any, idempotency_key: str | None, reserved: Sequence[str]) -> Event[Any]:
    if not isinstance(body, dict):
        raise Problem(422, "an event is a JSON object")
    event = _cloud(body, idempotency_key) if "specversion" in body else _plain(body, idempotency_key)
    if matches_any(reserved, event.topic) and not matches_any(OPEN, event.topic):
        raise Problem(403, f"{event.topic} is published by verified webhooks or the bus itself, not over REST")
    known = catalog.find(event.topic)
    if known is not None and event.version != known.__payload_version__:
        # The data was checked as today's version; under another number no consumer could read it.
        raise _wrong("dataversion", f"{event.topic} is taken in version {known.__payload_version__}")
    return event


def _due(body: Any) -> datetime | None:
    """Takes `at` out of an event of our own form: when it shall be published, not when it happened (that is `time`)."""
    text = body.pop("at", None) if isinstance(body, dict) and "specversion" not in body else None
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        at = None
    if at is None or at.tzinfo is None:
        raise _wrong("at", "is a time with its zone, such as 2026-01-12T09:00:00Z")
    return at


def _cloud(body: Mapping[str, Any], idempotency_key: str | None) -> Event[Any]:
    return from_cloudevent(body if idempotency_key is None else {**body, "idempotencykey": idempotency_key})


def _plain(body: Mapping[str, Any], idempotency_key: str | None) -> Event[Any]:
    for name in body:
        if name not in _KNOWN:
            raise _wrong(name[:80], f"no such field; known: {', '.join(_KNOWN)}")
    if "type" in body and "topic" in body:
        raise _wrong("topic", "type and topic are the same thing: give one of them")
    topic, data = body.get("topic", body.get("type")), body.get("data", {})
    if not isinstance(topic, str):
        raise _wrong("topic", "is needed, a string")
    if not isinstance(data, dict):
        raise _wrong("data", "is an object")
    envelope = {name: body[name] for name in ENVELOPE if body.get(name) is not None}
    if idempotency_key is not None:
        envelope["idempotency_key"] = idempotency_key
    envelope.setdefault("source", "/api")
    return catalog.event(topic, data, **envelope)


def _wrong(field: str, detail: str) -> Problem:
    return Problem(422, f"{field}: {detail}", errors=[{"field": field, "detail": detail}])


def _shown(receipt: Receipt) -> dict[str, Any]:
    stored = Stored(id=receipt.event_id, topic=receipt.topic, status=receipt.status, sequence=receipt.sequence)
    return stored.model_dump()


# -- idempotency keys ------------------------------------------------------------------------------------------------


def _idempotency_key(request: Request) -> str | None:
    """The header of draft-ietf-httpapi-idempotency-key-header: a string, with or without its quotes."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    key = given[0][1:-1] if len(given[0]) > 2 and given[0][0] == given[0][-1] == '"' else given[0]
    if len(given) > 1 or not _KEY.fullmatch(key):
        raise Problem(400, "Idempotency-Key: one header of 1 to 255 printable ASCII characters")
    return key


def _name(request: Request, key: str) -> str:
    """The answer, whichever it will be, names this key."""
    if _KEY.fullmatch(key):
        request.state.idempotency_key = key
    return key


# -- notifications and artifacts -------------------------------------------------------------------------------------


def _validated(model: type[BaseModel], body: Any) -> Any:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise invalid(error) from None


async def _outcome(account: Account, asked: Awaitable[DeliveryResult]) -> DeliveryResult:
    """What came of it. Where nobody knows, the problem says what a repeat would do: the manifest's `effects`."""
    try:
        return await asked
    except (OutcomeUnknown, TimeoutError) as error:
        advice = _MAY_BE_DOUBLED if account.adapter.manifest.effects == "at_least_once" else _DONE_ONCE
        raise Problem(504, f"{describe(error)}; it may have been done. {advice}") from error


def _result(result: DeliveryResult, *, made: int) -> Response:
    is_repeated = result.outcome is Outcome.DUPLICATE
    done = Done(outcome=result.outcome, reference=result.reference, url=result.url, detail=result.detail)
    headers = {"Idempotent-Replayed": "true"} if is_repeated else None
    return JSONResponse(done.model_dump(mode="json"), 200 if is_repeated else made, headers)

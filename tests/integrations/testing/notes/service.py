"""An honest adapter and its fake, both as small as the contract allows: what the mutants are made of."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import TaskFailed
from integrations.base import (
    Artifact,
    Budget,
    Delivery,
    DeliveryResult,
    Health,
    InboundReply,
    InboundRequest,
    Integration,
    Manifest,
    Notification,
    Outcome,
    Preview,
    What,
)
from integrations.errors import Malformed
from integrations.http import Answer, check
from integrations.signing import TOLERANCE_SECONDS, sign_slack, verify_slack
from integrations.testing.contract import AdapterContract, Webhooks
from integrations.testing.fake import FakeService

TOKEN = "token-of-the-notes-0123456789"
SECRET = "webhook-secret-of-the-notes-0123456789"
A_MINUTE = 60
MOST_CHARACTERS = 1000


class NotesConfig(BaseModel):
    """One account."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str = Field(description="Where it is")
    token: SecretStr = Field(description="Signs in")
    webhook_secret: SecretStr | None = Field(default=None, description="Signs what comes in")


class Notes(Integration[NotesConfig]):
    """A note for each failed task."""

    manifest = Manifest(
        name="notes",
        title="Notes",
        config=NotesConfig,
        handles=("task.failed", "task.completed"),
        notifications=("message",),
        emits=("notes.read",),
        effects="keyed",
        budgets=(Budget("notes", 110, timedelta(minutes=1), burst=20),),
    )

    patience: timedelta | None = None

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        if not isinstance(event.data, TaskFailed):
            return DeliveryResult.skipped("only failures are noted")
        return await self.bring(event, delivery)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        return await self.bring(notification, delivery)

    async def bring(self, what: What, delivery: Delivery) -> DeliveryResult:
        answer = await self.send(self.render(what), delivery)
        return DeliveryResult.delivered(json.loads(answer.body)["id"])

    def render(self, what: What) -> bytes:
        assert not isinstance(what, Artifact)
        text = what.message if isinstance(what, Notification) else f"{what.data.task_id} failed: {what.data.error}"
        return json.dumps({"text": self.fit(text)}).encode()

    def fit(self, text: str) -> str:
        return text[:MOST_CHARACTERS]

    async def send(self, body: bytes, delivery: Delivery) -> Answer:
        return check(await self.request("POST", "/notes", delivery.key, body), "Notes")

    async def request(self, method: str, path: str, key: str = "", body: bytes | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {self.config.token.get_secret_value()}", "Idempotency-Key": key}
        url = self.config.url + path
        return await self.context.http.request(method, url, headers=headers, content=body, timeout=self.patience)

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        return (Preview("leave a note", f"POST {self.config.url}/notes", self.render(what).decode()),)

    async def find(self, what: What, delivery: Delivery) -> DeliveryResult | None:
        answer = check(await self.request("GET", f"/notes/{_digest(delivery.key)}"), "Notes")
        found = json.loads(answer.body)["id"]
        return DeliveryResult(Outcome.DUPLICATE, found) if found else None

    async def receive(self, request: InboundRequest) -> InboundReply:
        assert self.config.webhook_secret is not None
        stamp, signature = request.headers.get("x-time"), request.headers.get("x-signature")
        verify_slack(request.body, stamp, signature, [self.config.webhook_secret], now=request.received_at)
        return self.understand(request.body)

    def understand(self, body: bytes) -> InboundReply:
        try:
            said = _Said.model_validate_json(body)
        except ValidationError:
            raise Malformed("not a webhook of Notes") from None
        if said.kind != "read":
            return InboundReply()
        return InboundReply((catalog.event("notes.read", {"id": said.id}, idempotency_key=f"notes:{said.id}"),))

    async def health(self) -> Health:
        return await Health.of(self._ask(), "Notes")

    async def _ask(self) -> str:
        return check(await self.request("GET", "/me"), "Notes").text


class SearchableNotes(Notes):
    """The same, at a service that drops no repeat."""

    manifest = Manifest(name="notes", title="Notes", config=NotesConfig, handles=("task.failed",), effects="searchable")


class _Said(BaseModel):
    id: str
    kind: str


class FakeNotes(FakeService):
    """Knows a note by its key; takes at most so many in any minute."""

    drops_repeats = True
    most = 120

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[str, str]] = []
        self._times: deque[float] = deque()

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/notes", self._note, methods=["POST"]),
            Route("/notes/{digest}", self._find),
            Route("/me", self._me),
        ]

    def settings(self) -> dict[str, Any]:
        return {"url": self.url, "token": TOKEN, "webhook_secret": SECRET}

    def effects(self) -> list[str]:
        return [f"{number}: {text}" for number, (_, text) in enumerate(self.notes)]

    def webhook(self, body: bytes) -> InboundRequest:
        now = time.time()
        signature = sign_slack(int(now), body, SecretStr(SECRET))
        return InboundRequest({"x-time": str(int(now)), "x-signature": signature}, body, now)

    def _refusal(self, request: Request) -> Response | None:
        if self.reject_credentials or request.headers.get("authorization") != f"Bearer {TOKEN}":
            return PlainTextResponse("who are you?", 401)
        return None

    async def _note(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        now = time.monotonic()
        while self._times and self._times[0] <= now - A_MINUTE:
            self._times.popleft()
        if len(self._times) >= self.most:
            return PlainTextResponse("slow down", 429, headers={"Retry-After": "60"})
        self._times.append(now)
        digest, text = _digest(request.headers["idempotency-key"]), (await request.json())["text"]
        if len(text) > MOST_CHARACTERS:
            return PlainTextResponse(f"a note has {MOST_CHARACTERS} characters at most", 400)
        if not (self.drops_repeats and digest in dict(self.notes)):
            self.notes.append((digest, text))
        return JSONResponse({"id": digest}, 201)

    async def _find(self, request: Request) -> Response:
        known = request.path_params["digest"] in dict(self.notes)
        return JSONResponse({"id": request.path_params["digest"] if known else ""})

    async def _me(self, request: Request) -> Response:
        return self._refusal(request) or PlainTextResponse("me")


class ForgetfulNotes(FakeNotes):
    """Makes a note for each request, whatever its key."""

    drops_repeats = False


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()


class Readings(Webhooks):
    """Somebody read a note."""

    proof = "x-signature"
    stale = timedelta(seconds=TOLERANCE_SECONDS)

    def genuine(self, service: FakeNotes, number: int) -> InboundRequest:
        return service.webhook(json.dumps({"id": str(number), "kind": "read"}).encode())

    def of_unknown_kind(self, service: FakeNotes) -> InboundRequest:
        return service.webhook(b'{"id": "1", "kind": "something new"}')

    def proven(self, service: FakeNotes, body: bytes) -> InboundRequest:
        return service.webhook(body)


class NotesContract(AdapterContract):
    """What each mutant is held to. `breaks`: the rule that has to catch it."""

    breaks: int
    adapter = Notes
    fake = FakeNotes
    event = catalog.event(TaskFailed(task_id="task-42", error="2 of 310 tests failed"))
    inbound = Readings()

"""Acme Tickets itself on a real port, as honest as its documentation: for the contract suite and for trying out.

The service is invented. Its rules for idempotency keys are those of a real draft, quoted where they are kept:
draft-ietf-httpapi-idempotency-key-header-07, "The Idempotency-Key HTTP Header Field".
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from integrations.base import InboundRequest
from integrations.signing import sign_plain
from integrations.testing.fake import FakeService
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

TOKEN = "acme-token-of-the-stand-in"
WEBHOOK_SECRET = SecretStr("acme-webhook-secret-of-the-stand-in")
CALLS_A_MINUTE = 100
MOST = {"title": 200, "text": 10_000}
"""Characters."""


class FakeTickets(FakeService):
    """`tickets` and `comments` are what exists; a ticket T-1 always does."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.tickets: dict[str, dict[str, Any]] = {"T-1": {"title": "the first", "text": "", "priority": "low"}}
        self.comments: list[tuple[str, str]] = []
        self._effects: list[str] = []
        self._seen: dict[str, tuple[bytes, dict[str, str]]] = {}
        self._calls: deque[float] = deque()

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/api/tickets", self._open_ticket, methods=["POST"]),
            Route("/api/tickets/{ticket}/comments", self._comment, methods=["POST"]),
            Route("/api/me", self._me),
        ]

    def settings(self) -> dict[str, Any]:
        return {
            "base_url": self.url,
            "token": TOKEN,
            "queue": "operations",
            "webhook_secret": WEBHOOK_SECRET.get_secret_value(),
        }

    def effects(self) -> list[str]:
        return list(self._effects)

    def webhook(self, action: str, ticket: str, *, id: str = "wh-1") -> InboundRequest:
        """A signed webhook as the service sends it."""
        body = json.dumps({"id": id, "action": action, "ticket": ticket, "by": "ada"}).encode()
        return InboundRequest({"x-signature": sign_plain(body, WEBHOOK_SECRET)}, body, received_at=0)

    async def _open_ticket(self, request: Request) -> Response:
        content = await request.json()

        async def make() -> dict[str, str]:
            number = f"T-{len(self.tickets) + 1}"
            self.tickets[number] = content
            self._effects.append(f"ticket {number}: {self.tickets[number]['title']}")
            return {"id": number, "url": f"{self.url}/tickets/{number}"}

        return _too_long(content) or await self._once(request, make)

    async def _comment(self, request: Request) -> Response:
        ticket = request.path_params["ticket"]
        if ticket not in self.tickets:
            return JSONResponse({"error": "no such ticket"}, 404)
        content = await request.json()

        async def make() -> dict[str, str]:
            text = content["text"]
            self.comments.append((ticket, text))
            self._effects.append(f"comment on {ticket}: {text}")
            return {"id": f"C-{len(self.comments)}", "url": f"{self.url}/tickets/{ticket}#{len(self.comments)}"}

        return _too_long(content) or await self._once(request, make)

    async def _me(self, request: Request) -> Response:
        return PlainTextResponse("bot@acme") if self._is_allowed(request) else _refused()

    def _is_allowed(self, request: Request) -> bool:
        return not self.reject_credentials and request.headers.get("authorization") == f"Bearer {TOKEN}"

    def _is_too_fast(self) -> bool:
        """Acme Tickets API, "Limits": 100 requests in any minute."""
        now = time.monotonic()
        while self._calls and self._calls[0] <= now - 60:
            self._calls.popleft()
        if len(self._calls) >= CALLS_A_MINUTE:
            return True
        self._calls.append(now)
        return False

    async def _once(self, request: Request, make: Any) -> Response:
        if not self._is_allowed(request):
            return _refused()
        if self._is_too_fast():
            # RFC 6585, section 4: 429 "MAY include a Retry-After header indicating how long to wait".
            return JSONResponse({"error": "too many requests"}, 429, headers={"Retry-After": "60"})
        key, body = request.headers.get("idempotency-key"), await request.body()
        if key is None:
            # "Error Scenarios": "If the Idempotency-Key request header is missing [...] SHOULD reply with an HTTP 400".
            return JSONResponse({"error": "Idempotency-Key is missing"}, 400)
        if key not in self._seen:
            self._seen[key] = (body, await make())
        first, answer = self._seen[key]
        if first != body:
            # "If there is an attempt to reuse an idempotency key with a different request payload, [...] HTTP 422".
            return JSONResponse({"error": "Idempotency-Key is already used"}, 422)
        # "Idempotency Enforcement Scenarios": a retry gets "the result of the previously completed operation".
        return JSONResponse(answer, 201)


def _too_long(content: dict[str, Any]) -> Response | None:
    """Acme Tickets API, "Limits": 200 characters a title, 10,000 a text."""
    long = [name for name, most in MOST.items() if len(content.get(name, "")) > most]
    return JSONResponse({"error": f"{', '.join(long)} too long"}, 422) if long else None


def _refused() -> Response:
    return JSONResponse({"error": "token is not valid"}, 401)

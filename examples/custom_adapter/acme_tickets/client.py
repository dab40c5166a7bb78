"""Acme Tickets' API: one request per call. What an answer means is decided here; nothing is tried again here.

Not `base_url` nor the token appears in an error: `integrations.http` sees to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from acme_tickets.config import TicketsConfig
from acme_tickets.render import Request
from integrations.errors import OutcomeUnknown
from integrations.http import Answer, Http, check

SERVICE = "Acme Tickets"
HEALTH_TIMEOUT = timedelta(seconds=4)


class Made(BaseModel):
    """What the service says about a thing it made."""

    id: str
    url: str


@dataclass(frozen=True, slots=True)
class Client:
    """The two requests that this adapter makes."""

    http: Http
    config: TicketsConfig

    async def make(self, request: Request, key: str) -> Made:
        """Make a ticket or a comment. The service drops a repeat by its Idempotency-Key."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        answer = await self._send("POST", request.path, headers, to_json(request.body))
        try:
            return Made.model_validate_json(answer.body)
        except ValidationError:
            raise OutcomeUnknown(f"{SERVICE} answered {answer.status} without an id") from None

    async def whoami(self) -> str:
        """The name of the account that the token belongs to."""
        answer = await self._send("GET", "/api/me", {}, None, HEALTH_TIMEOUT)
        return answer.text.strip()

    async def _send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None, timeout: timedelta | None = None
    ) -> Answer:
        login: dict[str, Any] = {"Authorization": f"Bearer {self.config.token.get_secret_value()}"}
        answer = await self.http.request(
            method, self.config.base_url + path, headers=headers | login, content=body, timeout=timeout
        )
        return check(answer, SERVICE)

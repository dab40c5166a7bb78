"""The API of Acme Tickets: one request per call. What an answer means is decided here; nothing is tried again here.

Neither `base_url` nor the token appears in an error: `integrations.http` sees to that.
"""

from __future__ import annotations

from dataclasses import dataclass

from integrations.errors import OutcomeUnknown
from integrations.http import Answer, Http, check
from pydantic import BaseModel, ValidationError

from acme_tickets.config import TicketsConfig
from acme_tickets.render import Request

SERVICE = "Acme Tickets"


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
        answer = await self._send("POST", request.path, headers, request.body)
        try:
            return Made.model_validate_json(answer.body)
        except ValidationError:
            raise OutcomeUnknown(f"{SERVICE} answered {answer.status} without an id") from None

    async def whoami(self) -> str:
        """The name of the account that the token belongs to."""
        answer = await self._send("GET", "/api/me", {}, None)
        return answer.text.strip()

    async def _send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
        login = {"Authorization": f"Bearer {self.config.token.get_secret_value()}"}
        url = self.config.base_url + path
        return check(await self.http.request(method, url, headers=headers | login, content=body), SERVICE)

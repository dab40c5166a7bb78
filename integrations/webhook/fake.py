"""A receiver of webhooks on a real port. It believes nothing that is not signed, and knows a repeat by its id.

Its rules are those that Standard Webhooks (standardwebhooks.com, "Verifying webhooks" and "Server responses") asks of
every receiver; in `plain` mode, those of a receiver that checks `X-Signature` only.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from integrations.errors import Unauthorized
from integrations.signing import verify_plain, verify_standard
from integrations.testing.fake import FakeService
from integrations.webhook.config import Format


@dataclass(frozen=True, slots=True)
class Received:
    """A webhook that was verified: its id and its content."""

    webhook_id: str
    content: dict[str, Any]


class FakeReceiver(FakeService):
    """`received` is every webhook that was accepted; an effect is one that was not known before."""

    def __init__(self, form: Format = "standard", *, port: int = 0) -> None:
        super().__init__(port=port)
        self.form = form
        self.secret = SecretStr("whsec_" + base64.b64encode(os.urandom(32)).decode())
        self.received: list[Received] = []

    def routes(self) -> Sequence[BaseRoute]:
        """One address. Any method but POST gets 405 (RFC 9110, section 15.5.6)."""
        return [Route("/hook", self._accept, methods=["POST"])]

    def settings(self) -> dict[str, Any]:
        """One endpoint, which points here."""
        endpoint = {"name": "receiver", "url": f"{self.url}/hook", "format": self.form}
        return {"endpoints": [endpoint | {"secret": self.secret.get_secret_value()}]}

    def effects(self) -> list[str]:
        """Id and kind of every webhook, repeats left out."""
        return list({one.webhook_id: f"{one.webhook_id} {_kind(one.content)}" for one in self.received}.values())

    @property
    def repeats(self) -> int:
        """How many of `received` were known already."""
        return len(self.received) - len(self.effects())

    async def _accept(self, request: Request) -> Response:
        body = await request.body()
        try:
            self._verify(request, body)
        except Unauthorized:
            # "Verifying webhooks": a request with a bad signature or an old time stamp is not to be processed.
            return PlainTextResponse("signature mismatch", 401)
        try:
            content = from_json(body)
        except ValueError:
            return PlainTextResponse("not JSON", 400)
        # "the id is the same when a webhook is re-sent": answered as the first time, counted once.
        self.received.append(Received(request.headers["webhook-id"], content))
        return Response(status_code=204)

    def _verify(self, request: Request, body: bytes) -> None:
        sent = request.headers
        if self.reject_credentials:
            raise Unauthorized("signature mismatch", reason="the secret was replaced")
        if "webhook-id" not in sent:
            raise Unauthorized("signature mismatch", reason="webhook-id is missing")
        if self.form == "plain":
            verify_plain(body, sent.get("x-signature"), [self.secret])
        else:
            stamp, signature = sent.get("webhook-timestamp"), sent.get("webhook-signature")
            # "Verifying webhooks": the time stamp must be within a tolerance; the libraries' is five minutes.
            verify_standard(sent["webhook-id"], stamp, body, signature, [self.secret], now=time.time())


def _kind(content: dict[str, Any]) -> str:
    return str(content.get("type") or content.get("event"))

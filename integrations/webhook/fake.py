"""A receiver of webhooks on a real port. It believes nothing that is not signed, and knows a repeat by its id.

Its rules are those that Standard Webhooks (spec 1.0.0, "Verifying signatures" and "Delivery success and failure") has
for every receiver; in `plain` mode, those of a receiver that checks `X-Signature` only. It can also want no more
webhooks, and answer at a length or a pace that no sender should bear.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import SecretStr
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

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
    """`received` is every webhook that was accepted; an effect is one that was not known before.

    trusts  what it verifies with; a `whpk_` key as well. It changes over by replacing them
    gone    it answers 410: "it's no longer interested in receiving webhooks from this source"
    wish    `disable` or `abort-message`, sent with every answer as `webhook-delivery` (Svix docs)
    talk    how it answers once it has accepted: without an end that anybody waits for, or `slow`ly
    """

    gone = False
    wish = ""
    talk: Literal["", "endless", "slow"] = ""

    def __init__(self, form: Format = "standard", *, port: int = 0) -> None:
        super().__init__(port=port)
        self.form = form
        self.secret = SecretStr("whsec_" + base64.b64encode(os.urandom(32)).decode())
        self.trusts: list[SecretStr] = [self.secret]
        self.received: list[Received] = []

    def routes(self) -> Sequence[BaseRoute]:
        """One address. Any method but POST gets 405 (RFC 9110, section 15.5.6)."""
        return [Route("/hook", self._accept, methods=["POST"])]

    def settings(self) -> dict[str, Any]:
        """One endpoint, which points here: at an address that is not public."""
        endpoint = {"name": "receiver", "url": f"{self.url}/hook", "format": self.form, "allow_private": ["127.0.0.1"]}
        return {"endpoints": [endpoint | {"secret": self.secret.get_secret_value()}]}

    def effects(self) -> list[str]:
        """Id and kind of every webhook, repeats left out."""
        return list({one.webhook_id: f"{one.webhook_id} {_kind(one.content)}" for one in self.received}.values())

    @property
    def repeats(self) -> int:
        """How many of `received` were known already."""
        return len(self.received) - len(self.effects())

    async def _accept(self, request: Request) -> Response:
        response = self._answer(request, await request.body())
        if self.wish:
            response.headers["webhook-delivery"] = self.wish
        return response

    def _answer(self, request: Request, body: bytes) -> Response:
        if self.gone:
            return PlainTextResponse("no longer interested", 410)
        try:
            self._verify(request, body)
        except Unauthorized:
            # Spec, "Signature scheme": "the consumer still requires a valid signature".
            return PlainTextResponse("signature mismatch", 401)
        try:
            content = from_json(body)
        except ValueError:
            return PlainTextResponse("not JSON", 400)
        # "Use the `webhook-id` header as an idempotency key": a repeat is answered as the first time, counted once.
        self.received.append(Received(request.headers["webhook-id"], content))
        return _Talking(self.talk) if self.talk else Response(status_code=204)

    def _verify(self, request: Request, body: bytes) -> None:
        sent = request.headers
        if self.reject_credentials:
            raise Unauthorized("signature mismatch", reason="the secret was replaced")
        if "webhook-id" not in sent:
            raise Unauthorized("signature mismatch", reason="webhook-id is missing")
        if self.form == "plain":
            verify_plain(body, sent.get("x-signature"), self.trusts)
        else:
            stamp, signature = sent.get("webhook-timestamp"), sent.get("webhook-signature")
            # "a timestamp that is within some allowable tolerance": five minutes in the reference libraries.
            verify_standard(sent["webhook-id"], stamp, body, signature, self.trusts, now=time.time())


class _Talking(Response):
    """An answer in chunks: a gigabyte, or a byte now and then for a minute."""

    def __init__(self, talk: Literal["endless", "slow"]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._piece = b"x" * (65_536 if talk == "endless" else 1)
        self._pieces = 1 << 14 if talk == "endless" else 600
        self._pause = 0.0 if talk == "endless" else 0.1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for _ in range(self._pieces):
            await send({"type": "http.response.body", "body": self._piece, "more_body": True})
            await asyncio.sleep(self._pause)
        await send({"type": "http.response.body"})


def _kind(content: dict[str, Any]) -> str:
    return str(content.get("type") or content.get("event"))

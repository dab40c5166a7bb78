"""Acme Tickets' webhooks, to events: verify the raw bytes first, then parse.

Importing this module puts `ticket.closed` into the catalogue, so that publishers and handlers get it typed.
"""

from __future__ import annotations

from eventbus.catalog import catalog
from eventbus.payload import Payload
from integrations.base import InboundReply, InboundRequest
from integrations.errors import Malformed, Unauthorized
from integrations.signing import verify_plain
from pydantic import BaseModel, Field, SecretStr, ValidationError


class TicketClosed(Payload, topic="ticket.closed", key="ticket"):
    """A ticket was closed."""

    ticket: str = Field(description="Its number, such as T-7; its events are handled in order")
    closed_by: str | None = Field(default=None, description="Who closed it")

    @classmethod
    def example(cls) -> TicketClosed:
        return cls(ticket="T-7", closed_by="ada")


class _Webhook(BaseModel):
    """What the service sends (Acme Tickets API, "Webhooks"): `id` is the same when it is sent again."""

    id: str = Field(min_length=1, max_length=100)
    action: str
    ticket: str
    by: str | None = None


def receive(request: InboundRequest, secret: SecretStr | None) -> InboundReply:
    """One webhook. Raises a Refusal; a kind of webhook that we do not know is answered and forgotten."""
    if secret is None:
        raise Unauthorized("signature mismatch", reason="webhook_secret is not set, so nothing can be verified: set it")
    verify_plain(request.body, request.headers.get("x-signature"), [secret])
    try:
        said = _Webhook.model_validate_json(request.body)
    except ValidationError:
        raise Malformed("the body is not a webhook of Acme Tickets") from None
    if said.action != "closed":
        return InboundReply()
    payload = TicketClosed(ticket=said.ticket, closed_by=said.by)
    event = catalog.event(payload, source="/acme_tickets", idempotency_key=f"acme_tickets:{said.id}")
    return InboundReply(events=(event,))

"""The adapter: which call makes which request. What is sent stands in `render`, how it is sent in `client`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from eventbus.event import Event
from integrations.base import (
    Artifact,
    Budget,
    Context,
    Delivery,
    DeliveryResult,
    Health,
    InboundReply,
    InboundRequest,
    Integration,
    Manifest,
    Notification,
    Preview,
    Scope,
    What,
)

from acme_tickets import inbound, render
from acme_tickets.client import Client
from acme_tickets.config import TicketsConfig


class AcmeTickets(Integration[TicketsConfig]):
    """One account at Acme Tickets."""

    manifest = Manifest(
        name="acme_tickets",
        title="Acme Tickets",
        config=TicketsConfig,
        handles=("task.failed",),
        emits=("ticket.closed",),
        notifications=("message",),
        artifacts={"ticket": render.Ticket},
        effects="keyed",
        limits="100 requests a minute; 200 characters a title, 10,000 a text",
        budgets=(Budget("requests", 95, timedelta(minutes=1), burst=10),),  # below 100: calls bunch up on their way
        scopes=(Scope("tickets:write", "opens tickets and comments on them"),),
    )

    async def initialize(self, context: Context[TicketsConfig]) -> None:
        await super().initialize(context)
        self._client = Client(context.http, context.config)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Open a ticket for a failed task."""
        return await self._bring(event, delivery)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Comment on the ticket that the target names."""
        return await self._bring(notification, delivery)

    async def create_artifact(self, artifact: Artifact, delivery: Delivery) -> DeliveryResult:
        """Open a ticket."""
        return await self._bring(artifact, delivery)

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        """The one request, as it would leave."""
        request = render.request(what, self.config)
        if request is None:
            return ()
        return (Preview(request.doing, f"POST {self.config.base_url}{request.path}", request.body.decode()),)

    async def receive(self, request: InboundRequest) -> InboundReply:
        """A webhook of theirs: a closed ticket becomes `ticket.closed`."""
        return inbound.receive(request, self.config.webhook_secret)

    async def health(self) -> Health:
        """Ask who we are."""
        return await Health.of(self._who(), "the ticket system")

    async def _bring(self, what: What, delivery: Delivery) -> DeliveryResult:
        request = render.request(what, self.config)
        if request is None:
            return DeliveryResult.skipped("it asks nothing of the ticket system")
        made = await self._client.make(request, delivery.key)
        return DeliveryResult.delivered(made.id, url=made.url)

    async def _who(self) -> str:
        return f"signed in as {await self._client.whoami()}"

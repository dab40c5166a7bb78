"""The adapter: which call makes which request. What is sent stands in `render`, how it is sent in `client`."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from acme_tickets import inbound, render
from acme_tickets.client import Client, Made
from acme_tickets.config import TicketsConfig
from eventbus.catalog import explain
from eventbus.event import Event
from eventbus.topics import TaskFailed
from integrations.base import (
    Artifact,
    Context,
    Delivery,
    DeliveryResult,
    Health,
    InboundReply,
    InboundRequest,
    Integration,
    Manifest,
    Notification,
)
from integrations.errors import Rejected


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
        limits="100 requests a minute; 200 characters a title",
    )

    async def initialize(self, context: Context[TicketsConfig]) -> None:
        await super().initialize(context)
        self._client = Client(context.http, context.config)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Open a ticket for a failed task."""
        if not isinstance(event.data, TaskFailed):
            return DeliveryResult.skipped(f"no ticket is opened for {event.topic}")
        return _delivered(await self._client.make(render.failed_task(event, self.config), delivery.key))

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Comment on the ticket that the target names."""
        return _delivered(await self._client.make(render.comment(notification), delivery.key))

    async def create_artifact(self, artifact: Artifact, delivery: Delivery) -> DeliveryResult:
        """Open a ticket."""
        if artifact.type != "ticket":
            return await super().create_artifact(artifact, delivery)
        try:
            content = render.Ticket.model_validate(artifact.content)
        except ValidationError as error:
            raise Rejected(f"ticket: {explain(error)}") from None
        return _delivered(await self._client.make(render.ticket(content, self.config.queue), delivery.key))

    async def receive(self, request: InboundRequest) -> InboundReply:
        """A webhook of theirs: a closed ticket becomes `ticket.closed`."""
        return inbound.receive(request, self.config.webhook_secret)

    async def health(self) -> Health:
        """Ask who we are."""
        return await Health.of(self._who(), "the ticket system")

    async def _who(self) -> str:
        return f"signed in as {await self._client.whoami()}"


def _delivered(made: Made) -> DeliveryResult:
    return DeliveryResult.delivered(made.id, url=made.url)

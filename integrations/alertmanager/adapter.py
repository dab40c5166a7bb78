"""Alertmanager as an integration: what it takes, what it makes, how it is. The parts stand in the files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from eventbus.event import Event
from integrations.alertmanager import doctor
from integrations.alertmanager.client import ALERTS, Client
from integrations.alertmanager.config import AlertmanagerConfig
from integrations.alertmanager.inbound import MAX_BYTES, Inbox
from integrations.alertmanager.render import KINDS, Skipped, call_for
from integrations.base import (
    Artifact,
    Context,
    Delivery,
    DeliveryResult,
    Earlier,
    Finding,
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


class Alertmanager(Integration[AlertmanagerConfig]):
    """One Alertmanager.

    `keyed`: an alert is known by its labels, so sending it again changes nothing but how long it lasts.
    """

    max_body_bytes = MAX_BYTES
    """What the gateway may read of a webhook."""

    manifest = Manifest(
        name="alertmanager",
        title="Alertmanager",
        config=AlertmanagerConfig,
        handles=(
            "task.*",
            "migration.*",
            "vm.*",
            "deploy.*",
            "integration.degraded",
            "integration.recovered",
            "delivery.dead_lettered",
            "delivery.gap_found",
        ),
        emits=("alertmanager.alert.firing", "alertmanager.alert.resolved"),
        notifications=KINDS,
        effects="keyed",
        tier="complete",
        limits="None of its own; --alerts.per-alertname-limit where its operator set one",
    )

    async def initialize(self, context: Context[AlertmanagerConfig]) -> None:
        await super().initialize(context)
        self._client = Client(context.config, context.http)
        self._inbox = Inbox(context.config, context.log)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Fire the alert of an event's thread and environment, or resolve it, as the settings say."""
        return await self._send(event, delivery)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Fire an alert with the notification's severity; a `resolve` ends that of the thread."""
        return await self._send(notification, delivery)

    async def receive(self, request: InboundRequest) -> InboundReply:
        """A webhook of version 4."""
        return await self._inbox.receive(request)

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        """The request, with words in place of the times that are known when it is sent."""
        if isinstance(what, Artifact):
            return super().preview(what, delivery)
        call = call_for(what, delivery, self.config, self.context.name)
        if isinstance(call, Skipped):
            return ()
        body = call.content(None, self.config, indent=2).decode()
        return (Preview(call.doing, f"POST {self.config.url}{ALERTS}", body),)

    async def health(self) -> Health:
        """Whether it answers, and takes our login."""
        return await Health.of(self._client.status(), "Alertmanager")

    async def examine(self) -> Sequence[Finding]:
        """Whether it answers, its version, cluster and config, the clock, and what comes in."""
        return await doctor.examine(self._client, self.config)

    async def seen(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> bool | None:
        """Whether the alert is firing."""
        result = self._sent(notification, delivery, result)
        return None if result.reference is None else await self._client.is_firing(result.reference)

    async def take_back(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> str:
        """Resolve the alert."""
        result = self._sent(notification, delivery, result)
        if not result.state:
            return ""
        ending = notification.model_copy(update={"type": "resolve"})
        earlier = Earlier(result.reference, result.url, result.state)
        await self.send_notification(ending, replace(delivery, key=f"{delivery.key}:end", earlier=earlier))
        return "resolved"

    def _sent(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> DeliveryResult:
        """What was sent, also where the answer was lost: an alert is known by its labels, whenever it began."""
        if result.outcome is not Outcome.UNKNOWN:
            return result
        call = call_for(notification, delivery, self.config, self.context.name)
        if isinstance(call, Skipped):
            return result
        return replace(result, reference=call.reference, state=call.keep(datetime.now(UTC)))

    async def _send(self, what: Event[Any] | Notification, delivery: Delivery) -> DeliveryResult:
        call = call_for(what, delivery, self.config, self.context.name)
        if isinstance(call, Skipped):
            return DeliveryResult.skipped(call.why)
        now = datetime.now(UTC)
        await self._client.post(call.content(now, self.config))
        state = call.keep(now)
        return DeliveryResult.delivered(call.reference, detail=call.doing, state=state, ends=not state)

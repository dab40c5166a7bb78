"""Slack as an integration: what it takes, what it says, how it is. The parts stand in the files beside this one."""

from __future__ import annotations

from typing import Any

from eventbus.event import Event
from integrations.base import (
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
from integrations.slack import render, vms
from integrations.slack.blocks import Message
from integrations.slack.client import Client
from integrations.slack.config import SlackConfig
from integrations.slack.inbound import Inbox


class Slack(Integration[SlackConfig]):
    """One Slack app in one workspace, or one incoming webhook."""

    manifest = Manifest(
        name="slack",
        title="Slack",
        config=SlackConfig,
        handles=(
            "task.completed",
            "task.failed",
            "vm.*",
            "migration.*",
            "integration.degraded",
            "integration.recovered",
            "delivery.dead_lettered",
            "slack.command.*",
        ),
        emits=(
            "slack.command.*",
            "slack.action.*",
            "slack.app_mention",
            "slack.message.channels",
            "task.created",
        ),
        notifications=("message",),
        effects="at_least_once",
        limits="about 1 message a second and channel, and a limit for the workspace; 5 answers to a command in 30 min",
    )

    async def initialize(self, context: Context[SlackConfig]) -> None:
        await super().initialize(context)
        self._client = Client(context.config, context.http)
        self._inbox = Inbox(context.config.signing_secret, context.config.command_prefix)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Answer a slash command, or post one message about the event. A `vm.*` event is remembered first."""
        if event.topic.startswith("slack.command."):
            return await self._answer(event)
        if event.topic.startswith("vm."):
            await vms.remember(self.context.store, event)
        message = render.event_message(event)
        if message is None:
            return DeliveryResult.skipped(f"Slack is not told of {event.topic}")
        return await self._post(self.config.channel_for(event.topic), message, delivery.key)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Tell a channel (#name, name or id) or a person (id); its actions become buttons."""
        if notification.type not in self.manifest.notifications:
            known = ", ".join(self.manifest.notifications)
            raise Rejected(f"slack sends no notification {notification.type!r}; it sends: {known}")
        channel = notification.target or self.config.default_channel
        return await self._post(channel, render.notification_message(notification), delivery.key)

    async def receive(self, request: InboundRequest) -> InboundReply:
        """A slash command, a pressed button or an event of the Events API."""
        return await self._inbox.receive(request)

    async def health(self) -> Health:
        """Ask auth.test. An incoming webhook can't be asked without posting, so it counts as healthy, and says so."""
        if self.config.bot_token is None:
            return Health("healthy", "not verified: an incoming webhook can only be tried by posting a message")
        return await Health.of(self._client.identity(), "auth.test")

    async def _post(self, channel: str, message: Message, key: str) -> DeliveryResult:
        reference = await self._client.post(channel, message, key)
        return DeliveryResult.delivered(reference, detail=f"posted to {channel}")

    async def _answer(self, event: Event[Any]) -> DeliveryResult:
        name, url = event.topic.rpartition(".")[2], getattr(event.data, "response_url", None)
        if name == "status":
            message = render.status_message(await self.context.components())
        elif name == "vm-list":
            message = render.vm_list_message(await vms.known(self.context.store))
        else:
            return DeliveryResult.skipped(f"{name} is no command that is answered here")
        if not url:
            return DeliveryResult.skipped("the command came without a response URL")
        await self._client.answer(url, message)
        return DeliveryResult.delivered(detail=f"answered {name}")

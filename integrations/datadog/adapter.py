"""Datadog as an integration: what it takes, which way it goes, how it is. The parts stand in the files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from eventbus.event import Event
from integrations import findings
from integrations.base import (
    WHOLE,
    Artifact,
    Context,
    Delivery,
    DeliveryResult,
    Finding,
    Health,
    Integration,
    Manifest,
    Notification,
    Preview,
    Target,
    What,
)
from integrations.datadog.agent import Agent
from integrations.datadog.client import Client
from integrations.datadog.config import DatadogConfig
from integrations.datadog.render import KINDS, Plan, plan_for
from integrations.errors import IntegrationError
from integrations.measure import topics_of


class Datadog(Integration[DatadogConfig]):
    """One account, reached by an Agent or by the API.

    `at_least_once`: an Agent adds up whatever arrives and acknowledges nothing, and an event that is posted twice is
    there twice.
    """

    manifest = Manifest(
        name="datadog",
        title="Datadog",
        config=DatadogConfig,
        handles=("migration.*", "operation.ended", "performance.threshold.exceeded"),
        notifications=KINDS,
        effects="at_least_once",
        limits="Metrics are not limited; 250,000 events a minute; points up to 1 hour old, events up to 18 hours",
        tier="complete",
    )

    async def initialize(self, context: Context[DatadogConfig]) -> None:
        await super().initialize(context)
        is_api = context.config.transport == "api"
        self._way: Agent | Client = Client(context.config, context.http) if is_api else Agent(context.config.agent)

    def targets(self) -> Sequence[Target]:
        """One, for the topics that something is measured of, and those that are shown as events."""
        return (Target(WHOLE, (*topics_of(self.config.active), *self.config.events)),)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Count and measure it, and where the settings say so show it as an event."""
        return await self._send(event, delivery)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Show it as an event, grouped with those of its thread."""
        return await self._send(notification, delivery)

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        """The requests, or the datagrams as text."""
        if isinstance(what, Artifact):
            return super().preview(what, delivery)
        now = datetime.now(UTC)
        plan = plan_for(what, delivery, self.config, now)
        if plan is None:
            return ()
        if self.config.transport == "api":
            made = plan.requests(self.config, now)
            return [Preview(one.doing, f"POST {self.config.url}{one.path}", one.content.decode()) for one in made]
        sent = plan.datagrams(self.config)
        return [Preview(plan.doing, f"DogStatsD {self.config.agent}", one.decode()) for one in sent]

    async def health(self) -> Health:
        """Whether the API takes our key; of an Agent, whether anything speaks against it."""
        way = self._way
        return await (
            Health.of(_key_is_good(way), "Datadog") if isinstance(way, Client) else Health.of(way.probe(), "Agent")
        )

    async def examine(self) -> Sequence[Finding]:
        """The way there, the key, the clock; and what a person should know of an Agent that answers nothing."""
        way = self._way
        if isinstance(way, Agent):
            return await _examine_agent(way)
        try:
            answer = await way.validate()
        except IntegrationError as error:
            return [findings.failed("API", error, "check site, and make an API key under Organization Settings")]
        return [Finding("API", "ok", f"{self.config.url} takes the key"), findings.clock(answer.headers, "Datadog")]

    async def _send(self, what: Event[Any] | Notification, delivery: Delivery) -> DeliveryResult:
        now = datetime.now(UTC)
        plan = plan_for(what, delivery, self.config, now)
        if plan is None:
            return DeliveryResult.skipped("nothing of it is measured, and `events` does not name it")
        if not plan.readings and plan.message is None:
            return DeliveryResult.skipped("; ".join(plan.missing))
        if isinstance(self._way, Agent):
            await self._way.send(plan.datagrams(self.config))
            return _delivered(plan, "sent to the Agent, which answers nothing")
        said: dict[str, Any] = {}
        for request in plan.requests(self.config, now):
            event = (await self._way.post(request)).get("event")
            said = event if isinstance(event, dict) else said
        return _delivered(plan, "accepted", said)


def _delivered(plan: Plan, how: str, said: dict[str, Any] | None = None) -> DeliveryResult:
    """`ends`: nothing of the thread stays open. What an event's answer says of it: API v1, EventCreateResponse."""
    said = said or {}
    reference, url = said.get("id_str") or said.get("id"), said.get("url")
    return DeliveryResult.delivered(
        str(reference) if reference else None,
        url=url if isinstance(url, str) and url.startswith("https://") else None,
        detail="; ".join([f"{plan.doing}: {how}", *plan.missing]),
        ends=True,
    )


async def _key_is_good(client: Client) -> str:
    await client.validate()
    return "the API key is good"


async def _examine_agent(agent: Agent) -> list[Finding]:
    try:
        said = await agent.probe()
    except IntegrationError as error:
        return [findings.failed("Agent", error, "start the Agent, or correct `agent`")]
    fix = "look at `agent status` under DogStatsD, or at the metric itself after a drill"
    return [Finding("Agent", "warn" if "answers nothing" in said else "ok", said, fix if "answers" in said else "")]

"""PagerDuty as an integration: what it takes, what it makes, how it is. The parts stand in the files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from eventbus.catalog import explain
from eventbus.event import Event
from integrations.base import (
    Artifact,
    Budget,
    Context,
    Delivery,
    DeliveryResult,
    Finding,
    Health,
    InboundReply,
    InboundRequest,
    Integration,
    Manifest,
    Notification,
    Outcome,
    Preview,
    Scope,
    What,
)
from integrations.errors import Misconfigured, Rejected
from integrations.http import HIDDEN
from integrations.pagerduty import doctor
from integrations.pagerduty.client import Client, Service
from integrations.pagerduty.config import PagerDutyConfig, fingerprint
from integrations.pagerduty.inbound import MAX_BYTES, Inbox
from integrations.pagerduty.incident import Incident, incident_body, incident_key
from integrations.pagerduty.render import ALERTS, KINDS, NAMED, Call, Skipped, call_for

REST = "rest"


class PagerDuty(Integration[PagerDutyConfig]):
    """One service of PagerDuty.

    `keyed`: an alert is known by its dedup key and an incident by its incident key, so sending again adds nothing while
    it is open. A change event has no key: after a lost answer it may be listed twice, and pages nobody.
    """

    max_body_bytes = MAX_BYTES
    """What the gateway may read of a webhook."""

    manifest = Manifest(
        name="pagerduty",
        title="PagerDuty",
        config=PagerDutyConfig,
        handles=(
            "task.*",
            "migration.*",
            "vm.*",
            "deploy.*",
            "deployment.*",
            "integration.degraded",
            "integration.recovered",
            "delivery.dead_lettered",
            "delivery.gap_found",
        ),
        emits=("pagerduty.>",),
        notifications=KINDS,
        artifacts={"incident": Incident},
        effects="keyed",
        tier="complete",
        limits="About 120 events a minute and integration key; 960 REST requests a minute; 512 KB an event",
        # Events API Rate Limits: "approximately 120 calls/minute per integration key", over a sliding minute. Ten
        # under it, for calls that arrive closer together than they left. An incident takes four REST requests at
        # most, which stays under the 960 a minute of that API.
        budgets=(Budget("calls", 110, timedelta(minutes=1), burst=20, each="place"),),
        scopes=(
            Scope("incidents.write", "create_artifact(incident) makes incidents", needed=False),
            Scope("services.read", "finds the service of an incident by its name", needed=False),
            Scope("oncalls.read", "finds who is on call for an incident", needed=False),
            Scope("abilities.read", "health checks the token", needed=False),
        ),
    )

    async def initialize(self, context: Context[PagerDutyConfig]) -> None:
        await super().initialize(context)
        self._client = Client(context.config, context.http)
        self._inbox = Inbox(context.config, context.store)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Open, acknowledge or resolve the alert of an event's thread, or tell of a change, as the settings say."""
        return await self._send(event, delivery)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Open, acknowledge or resolve the alert of the thread; information is told as a change and pages nobody."""
        return await self._send(notification, delivery)

    async def create_artifact(self, artifact: Artifact, delivery: Delivery) -> DeliveryResult:
        """Make an incident through the REST API, or find the open one that has its key already."""
        if artifact.type not in self.manifest.artifacts:
            return await super().create_artifact(artifact, delivery)
        content = self._content(artifact)
        service, assignee, note = await self._look_up(content)
        key = incident_key(content, delivery)
        await self._inbox.opened(key)
        opened = await self._client.create_incident(incident_body(content, self.config, key, service.id, assignee))
        detail = f"incident #{opened.number} on {service.name}{note}" + (", open already" if opened.repeated else "")
        outcome = Outcome.DUPLICATE if opened.repeated else Outcome.DELIVERED
        # The alerts of the thread that are open stay known.
        state = dict(delivery.earlier.state) if delivery.earlier else {}
        return DeliveryResult(outcome, opened.id, opened.url, detail, state=state)

    async def receive(self, request: InboundRequest) -> InboundReply:
        """A v3 webhook."""
        return await self._inbox.receive(request)

    def places(self, what: What, delivery: Delivery) -> tuple[str, ...]:
        """The integration key by its fingerprint, or the REST API; nowhere for what is skipped."""
        if isinstance(what, Artifact):
            return (REST,)
        call = call_for(what, delivery, self.config, self.context.name)
        return () if isinstance(call, Skipped) else (fingerprint(call.key),)

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        """The request without the integration key; an incident's with words in place of what would be looked up."""
        if isinstance(what, Artifact):
            return (self._incident_preview(what, delivery),)
        call = call_for(what, delivery, self.config, self.context.name)
        if isinstance(call, Skipped):
            return ()
        body = {"routing_key": HIDDEN, **call.body}
        return (Preview(call.doing, f"POST {self.config.events_url}{call.path}", to_json(body, indent=2).decode()),)

    async def health(self) -> Health:
        """Whether the Events API answers at all, and whether the REST API takes our token.

        The Events API has no health endpoint, so nothing but an event verifies the integration key.
        """
        return await Health.of(self._how(), "PagerDuty")

    async def _how(self) -> str:
        await self._client.reach()
        if self.config.api_token is None:
            return "the Events API answers; routing_key is not verified, there is no api_token"
        count = await self._client.abilities()
        return f"the Events API answers, the token is good for {count} abilities; routing_key is not verified"

    async def examine(self) -> Sequence[Finding]:
        """Both APIs, the keys, who incidents are from and for, the clock, and what comes in."""
        return await doctor.examine(self._client, self.config)

    async def seen(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> bool | None:
        """Whether its incident is open. Only the REST API can tell."""
        key = self._key_of(notification, delivery, result)
        return None if self.config.api_token is None or key is None else await self._client.is_open(key)

    async def take_back(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> str:
        """Resolve its alert; a change event stays."""
        key = self._key_of(notification, delivery, result)
        if key is None:
            return ""
        ending = notification.model_copy(update={"type": "resolve", "fields": {NAMED: key}})
        await self.send_notification(ending, replace(delivery, key=f"{delivery.key}:end"))
        return "resolved"

    def _key_of(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> str | None:
        """The key that it was sent under, also where the answer was lost."""
        if result.outcome is not Outcome.UNKNOWN:
            return result.reference
        call = call_for(notification, delivery, self.config, self.context.name)
        return None if isinstance(call, Skipped) else call.reference

    async def _send(self, what: Event[Any] | Notification, delivery: Delivery) -> DeliveryResult:
        call = call_for(what, delivery, self.config, self.context.name)
        if isinstance(call, Skipped):
            return DeliveryResult.skipped(call.why)
        if call.warning:
            self.context.log.warning("dedup key", key=call.reference, warning=call.warning)
        if call.path == ALERTS and call.reference and call.body["event_action"] == "trigger":
            # Before it is sent: PagerDuty's webhook about it may come before its answer.
            await self._inbox.opened(call.reference)
        await self._client.send(call)
        detail = "; ".join(filter(None, [_said(call), call.warning]))
        return DeliveryResult.delivered(call.reference, detail=detail, state=call.state, ends=call.ends)

    async def _look_up(self, content: Incident) -> tuple[Service, str | None, str]:
        """The service, who is assigned, and a note about it for people."""
        service = await self._service(content)
        if not content.assign_on_call:
            return service, content.assignee_id, f", assigned to {content.assignee_id}" if content.assignee_id else ""
        user = await self._client.on_call(service.escalation_policy_id)
        if user is None:
            return service, None, ", nobody is on call: left to its escalation policy"
        return service, user.id, f", assigned to {user.name}, who is on call"

    async def _service(self, content: Incident) -> Service:
        name, service_id = self._place(content)
        if service_id is None:
            return await self._client.find_service(name)
        if content.assign_on_call:
            return await self._client.get_service(service_id)
        return Service(service_id, service_id, "")

    def _place(self, content: Incident) -> tuple[str, str | None]:
        """Name and id of the service: the content's, else the settings'. One of them is filled."""
        if content.service_id or content.service:
            return content.service or "", content.service_id
        if self.config.service_id or self.config.service:
            return self.config.service or "", self.config.service_id
        raise Rejected("incident: names no service: give service or service_id, or set one in the settings")

    def _content(self, artifact: Artifact) -> Incident:
        if self.config.api_token is None or self.config.from_email is None:
            raise Misconfigured("an incident needs api_token and from_email: set them for this integration")
        try:
            return Incident.model_validate(artifact.content)
        except ValidationError as error:
            raise Rejected(f"incident: {explain(error)}") from None

    def _incident_preview(self, artifact: Artifact, delivery: Delivery) -> Preview:
        if artifact.type not in self.manifest.artifacts:
            raise Rejected(f"pagerduty makes no artifact {artifact.type!r}; it makes: incident")
        content = self._content(artifact)
        name, service_id = self._place(content)
        assignee = f"<who is on call for {name or service_id}>" if content.assign_on_call else content.assignee_id
        key = incident_key(content, delivery)
        body = incident_body(content, self.config, key, service_id or f"<id of {name}>", assignee)
        request = f"POST {self.config.api_url}/incidents"
        return Preview(f"open an incident on {name or service_id}", request, to_json(body, indent=2).decode())


def _said(call: Call) -> str:
    return f"PagerDuty accepted: {call.doing}"[:300]

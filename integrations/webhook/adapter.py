"""Sends events to endpoints as webhooks: one POST for each event and endpoint.

What is sent stands in `render`, the sending in `client`. Here is what follows from how it ended: an endpoint that wants
no more webhooks, or has failed for days, is switched off, and its events wait until a person switches it on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from eventbus.errors import EventBusError
from eventbus.event import Event
from integrations.base import (
    Artifact,
    Budget,
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
from integrations.errors import (
    Disabled,
    IntegrationError,
    Misconfigured,
    NotReady,
    OutcomeUnknown,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.webhook import doctor
from integrations.webhook.book import Book, Tried
from integrations.webhook.client import Client, Sent
from integrations.webhook.config import Endpoint, WebhookConfig
from integrations.webhook.render import NOTIFICATION, Request, message_id, render_event, render_notification
from integrations.webhook.standing import Off, Standing

LOOK_AGAIN = timedelta(minutes=1)
"""At most so long after it was switched on again an endpoint's events flow."""


class Webhook(Integration[WebhookConfig]):
    """The endpoints of one config. Receivers drop repeats by `webhook-id`; so an unknown outcome is sent again."""

    manifest = Manifest(
        name="webhook",
        title="Signed webhooks",
        config=WebhookConfig,
        handles=(">",),
        notifications=("message",),
        effects="repeatable",
        tier="complete",
        limits="The receiver's own: `max_per_minute` is kept to, 429 and Retry-After are obeyed.",
    )
    _client: Client | None = None

    async def initialize(self, context: Context[WebhookConfig]) -> None:
        """Make the client and open the book."""
        await super().initialize(context)
        await self.close()
        self._client, self._book = Client(context.http, self.config.endpoints), Book(context.store)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    def targets(self) -> Sequence[Target]:
        """One for each endpoint."""
        return [Target(endpoint.name, endpoint.topics) for endpoint in self.config.endpoints]

    def places(self, what: What, delivery: Delivery) -> tuple[str, ...]:
        """The endpoint."""
        return () if isinstance(what, Artifact) else (self._endpoint(what, delivery).name,)

    def budgets(self, what: What, delivery: Delivery) -> tuple[Budget, ...]:
        """What the endpoint takes, where its settings say so."""
        most = None if isinstance(what, Artifact) else self._endpoint(what, delivery).max_per_minute
        if most is None:
            return ()
        return (Budget("requests", most, timedelta(minutes=1), burst=max(1, most // 10), each="place"),)

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        """The request, without its path and its headers: they may be secrets, and the signature depends on the time."""
        if isinstance(what, Artifact):
            return super().preview(what, delivery)
        endpoint = self._endpoint(what, delivery)
        if isinstance(what, Event) and not endpoint.takes(what.topic):
            return ()
        request = _render(what, endpoint, delivery, now=0)
        return (Preview(f"webhook to {endpoint.name}", f"{request.method} {endpoint.host}", request.body.decode()),)

    # -- delivering ------------------------------------------------------------------------------------------------

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Post the event to the endpoint that `delivery.target` names."""
        if not self._endpoint(event, delivery).takes(event.topic):
            return DeliveryResult.skipped(
                f"{event.topic} is sent only where a pattern of the endpoint's topics names it"
            )
        return await self._deliver(event, delivery)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Post a notification to the endpoint that `notification.target` names, or to the only one."""
        return await self._deliver(notification, delivery)

    def _endpoint(self, what: Event[Any] | Notification, delivery: Delivery) -> Endpoint:
        """Where it goes. Raises Misconfigured where no endpoint has the name."""
        return self.config.endpoint(delivery.target if isinstance(what, Event) else what.target)

    async def _deliver(self, what: Event[Any] | Notification, delivery: Delivery) -> DeliveryResult:
        """One attempt, and what follows from it."""
        assert self._client is not None, "initialize comes first"
        endpoint = self._endpoint(what, delivery)
        standing = await self._book.standing(endpoint.name)
        if standing.off is not None:
            raise _held(endpoint, standing.off)
        sent = await self._client.post(_render(what, endpoint, delivery, time.time()), endpoint)
        off = await self._reckon(endpoint, sent, standing)
        error = sent.error and (_held(endpoint, off) if off is not None else _given_up(sent.error, endpoint, delivery))
        with self._unless_redis_is_away():
            await self._book.note(endpoint.name, _tried(what, delivery, sent, error))
        if error is not None:
            raise error
        return DeliveryResult.delivered(message_id(delivery.key), detail=f"{endpoint.host} answered {sent.status}")

    async def _reckon(self, endpoint: Endpoint, sent: Sent, standing: Standing) -> Off | None:
        """Keep the clock of failures; switch the endpoint off when it wants that or the days are full."""
        off = Off(sent.at, sent.wish) if sent.wish else None
        with self._unless_redis_is_away():
            if sent.error is None and standing.failing is not None:
                await self._book.succeeded(endpoint.name)
            if sent.error is not None and not isinstance(sent.error, Misconfigured):
                failing = await self._book.failed(endpoint.name, sent.at)
                why = failing.too_long(endpoint.disable_after_days)
                off = Off(sent.at, why) if off is None and why else off
        return None if off is None else await self._switch_off(endpoint, off)

    async def _switch_off(self, endpoint: Endpoint, off: Off) -> Off:
        """What holds from now on. If it can't be written down, the next attempt will meet the same."""
        self.context.log.warning("endpoint switched off; its events wait", endpoint=endpoint.name, why=off.why)
        try:
            return await self._book.switch_off(endpoint.name, off)
        except EventBusError as error:
            self.context.log.warning("not written down", error=str(error))
            return off

    @contextmanager
    def _unless_redis_is_away(self) -> Iterator[None]:
        """An attempt that was made never fails because nobody could write it down."""
        try:
            yield
        except EventBusError as error:
            self.context.log.warning("not written down", error=str(error))

    # -- health ----------------------------------------------------------------------------------------------------

    async def health(self) -> Health:
        """Whether each endpoint can be reached and is on. Nothing is delivered."""
        started = time.perf_counter()
        faults = await asyncio.gather(*(self._fault(endpoint) for endpoint in self.config.endpoints))
        down = [fault for fault in faults if fault]
        latency = (time.perf_counter() - started) * 1000
        if not down:
            return Health("healthy", latency_ms=latency)
        return Health("unhealthy" if len(down) == len(faults) else "degraded", "; ".join(down), latency)

    async def examine(self) -> Sequence[Finding]:
        """Each endpoint: whether it is on, the way there, the clock, what signs."""
        assert self._client is not None, "initialize comes first"
        found = await asyncio.gather(*(doctor.examine(one, self._client, self._book) for one in self.config.endpoints))
        return [finding for of_one in found for finding in of_one]

    async def _fault(self, endpoint: Endpoint) -> str:
        """What keeps events from the endpoint; empty when nothing does."""
        assert self._client is not None, "initialize comes first"
        standing = Standing()
        with self._unless_redis_is_away():
            standing = await self._book.standing(endpoint.name)
        if standing.off is not None:
            return _held(endpoint, standing.off).detail
        fault = await self._client.reach(endpoint)
        return f"{endpoint.name}: {fault}" if fault else ""


def _render(what: Event[Any] | Notification, endpoint: Endpoint, delivery: Delivery, now: float) -> Request:
    if isinstance(what, Event):
        return render_event(what, endpoint, delivery.key, now)
    return render_notification(what, endpoint, delivery.key, now)


def _held(endpoint: Endpoint, off: Off) -> Disabled:
    since = datetime.fromtimestamp(off.since, UTC).isoformat(" ", "minutes")
    return Disabled(
        f"{endpoint.name} is switched off since {since}: {off.why}; once that is mended: "
        f"eventbus webhooks enable {endpoint.name}",
        since=off.since,
        retry_after=LOOK_AGAIN,
    )


def _given_up(error: IntegrationError, endpoint: Endpoint, delivery: Delivery) -> IntegrationError:
    """The error, or Rejected where the endpoint's settings allow no further attempt."""
    again = isinstance(error, NotReady | ServiceFault | Unreachable | OutcomeUnknown)
    if not again or endpoint.retries is None or delivery.attempt <= endpoint.retries:
        return error
    return Rejected(f"{error.detail}; given up after attempt {delivery.attempt}, as the endpoint's `retries` has it")


def _tried(what: Event[Any] | Notification, delivery: Delivery, sent: Sent, error: IntegrationError | None) -> Tried:
    topic, event_id = (what.topic, what.id) if isinstance(what, Event) else (NOTIFICATION, "")
    wait = error.retry_after if error is not None and not isinstance(error, Disabled) else None
    return Tried(
        at=sent.at,
        topic=topic,
        event_id=event_id,
        webhook_id=message_id(delivery.key),
        number=delivery.attempt,
        outcome=_outcome(error),
        status=sent.status,
        ms=sent.ms,
        said=sent.said,
        not_before=None if wait is None else sent.at + wait.total_seconds(),
    )


def _outcome(error: IntegrationError | None) -> str:
    if error is None:
        return "delivered"
    if isinstance(error, Disabled):
        return "held"
    return "rejected" if isinstance(error, Rejected | Misconfigured) else "retry"

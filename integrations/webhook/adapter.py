"""Sends events to endpoints as webhooks: one POST for each event and endpoint.

What is sent stands in `render`; here is the sending and what an answer means. Never follows a redirect: the signature
and the headers are for the configured receiver only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from eventbus.event import Event
from integrations.base import Delivery, DeliveryResult, Health, Integration, Manifest, Notification, Target
from integrations.errors import IntegrationError, Rejected
from integrations.http import Answer, check
from integrations.webhook.config import Endpoint, WebhookConfig
from integrations.webhook.render import Request, message_id, render_event, render_notification

HEALTH_TIMEOUT = timedelta(seconds=4)
GATEWAY_ERRORS = (502, 503, 504)
"""RFC 9110, section 15.6: a proxy answered, or the server itself says that it serves nobody now."""


class Webhook(Integration[WebhookConfig]):
    """The endpoints of one config. Receivers drop repeats by `webhook-id`; so an unknown outcome is sent again."""

    manifest = Manifest(
        name="webhook",
        title="Signed webhooks",
        config=WebhookConfig,
        handles=(">",),
        notifications=("message",),
        effects="repeatable",
        limits="The receiver's own: 429 and Retry-After are obeyed.",
    )

    def targets(self) -> Sequence[Target]:
        """One for each endpoint."""
        return [Target(endpoint.name, endpoint.topics) for endpoint in self.config.endpoints]

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Post the event to the endpoint that `delivery.target` names."""
        endpoint = self.config.endpoint(delivery.target)
        if not endpoint.takes(event.topic):
            return DeliveryResult.skipped(
                f"{event.topic} is sent only where a pattern of the endpoint's topics names it"
            )
        return await self._post(render_event(event, endpoint, delivery.key, time.time()), endpoint, delivery.key)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Post a notification to the endpoint that `notification.target` names, or to the only one."""
        endpoint = self.config.endpoint(notification.target)
        request = render_notification(notification, endpoint, delivery.key, time.time())
        return await self._post(request, endpoint, delivery.key)

    async def health(self) -> Health:
        """Ask every endpoint for its headers only. Any answer but a gateway's error means that it can be reached."""
        started = time.perf_counter()
        faults = await asyncio.gather(*(self._fault(endpoint) for endpoint in self.config.endpoints))
        down = [fault for fault in faults if fault]
        latency = (time.perf_counter() - started) * 1000
        if not down:
            return Health("healthy", latency_ms=latency)
        return Health("unhealthy" if len(down) == len(faults) else "degraded", "; ".join(down), latency)

    async def _fault(self, endpoint: Endpoint) -> str:
        """What keeps the endpoint from being reached; empty when nothing does."""
        try:
            answer = await self.context.http.request("HEAD", endpoint.url.get_secret_value(), timeout=HEALTH_TIMEOUT)
        except IntegrationError as error:
            return f"{endpoint.name}: {error.detail}"
        return f"{endpoint.name}: {endpoint.host} answered {answer.status}" if answer.status in GATEWAY_ERRORS else ""

    async def _post(self, request: Request, endpoint: Endpoint, key: str) -> DeliveryResult:
        answer = await self.context.http.request(
            request.method,
            request.url,
            headers=request.headers,
            content=request.body,
            timeout=timedelta(seconds=endpoint.timeout),
        )
        _judge(answer, endpoint)
        return DeliveryResult.delivered(message_id(key), detail=f"{endpoint.host} answered {answer.status}")


def _judge(answer: Answer, endpoint: Endpoint) -> None:
    """Raise what an answer other than 2xx means (Standard Webhooks, "Server responses")."""
    if 300 <= answer.status < 400:
        raise Rejected(
            f"{endpoint.host} answered {answer.status}: redirects are not followed; "
            f"give endpoint {endpoint.name} its final address"
        )
    if answer.status == 410:
        raise Rejected(
            f"{endpoint.host} answered 410: the receiver asks to be disabled; remove endpoint {endpoint.name}"
        )
    check(answer, endpoint.host)

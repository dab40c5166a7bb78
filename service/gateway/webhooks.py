"""`POST /api/v1/webhooks/{integration}`: a service calls us.

The adapter verifies the raw bytes and says what they mean; here they become events. A 2xx is given only when Redis has
confirmed them: GitHub never repeats by itself, and what it was told is accepted must be.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog
from starlette.requests import Request
from starlette.responses import Response

from eventbus import Event, EventBusError, Receipt, catalog
from eventbus.topics import WebhookReceived
from integrations.base import Inbound, InboundReply, InboundRequest
from integrations.errors import Malformed
from registry.registry import UnknownIntegration
from service.gateway.body import read
from service.gateway.problems import Problem
from service.wiring import Runtime

_log = structlog.get_logger("service.gateway")

SIGNED = ("x-hub-signature-256", "x-slack-signature", "x-slack-request-timestamp", "webhook-signature", "x-signature")


class Webhooks:
    """The inbound side of every integration that has one."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def receive(self, request: Request) -> Response:
        """One webhook."""
        name = request.path_params["integration"]
        adapter = self._inbound(name)
        limit = getattr(adapter, "max_body_bytes", self._runtime.settings.gateway.max_body_bytes)
        _refuse_doubled_headers(request)
        body = await read(request, limit)
        inbound = InboundRequest(dict(request.headers), body, time.time())
        reply = await adapter.receive(inbound)
        if reply.events:
            receipts = await self._publish(name, reply, len(body))
            if reply.replay_status is not None and all(one.status == "duplicate" for one in receipts):
                raise Problem(reply.replay_status, "this request was accepted before")
        return Response(reply.body, reply.status, dict(reply.headers))

    def _inbound(self, name: str) -> Inbound:
        try:
            account = self._runtime.registry.get(name)
        except UnknownIntegration:
            raise Problem(404, "no webhooks are received here") from None
        if not isinstance(account.adapter, Inbound):
            raise Problem(404, "no webhooks are received here")
        if account.fault is not None:
            _log.error("webhook refused: the integration is not ready", integration=name, fault=account.fault)
            raise Problem(503, f"{name} is not ready", headers={"Retry-After": "30"})
        return account.adapter

    async def _publish(self, name: str, reply: InboundReply, size: int) -> Sequence[Receipt]:
        """The reply's events, and one that says that a webhook came; the receipts are those of the former."""
        try:
            receipts = await self._runtime.bus.publish_many(
                [*reply.events, _received(name, reply.events, size)], remember=reply.remember
            )
        except EventBusError as error:
            ids = [event.idempotency_key for event in reply.events]
            _log.error("webhook not accepted", integration=name, events=ids, error=str(error))
            raise
        _log.info(
            "webhook",
            integration=name,
            events=[{"topic": one.topic, "id": one.event_id, "status": one.status} for one in receipts[:-1]],
        )
        return receipts[:-1]


def _received(name: str, events: Sequence[Event], size: int) -> Event:
    notice = WebhookReceived(integration=name, topics=tuple(event.topic for event in events), size=size)
    first = events[0]
    return catalog.event(
        notice,
        source=f"/gateway/{name}",
        idempotency_key=f"received:{first.idempotency_key}"[:500],
        causation_id=first.id,
    )


def _refuse_doubled_headers(request: Request) -> None:
    """Two signatures, of which the verifier sees one: a request nobody sends by accident."""
    for name in SIGNED:
        if len(request.headers.getlist(name)) > 1:
            raise Malformed("a signature header occurs twice")

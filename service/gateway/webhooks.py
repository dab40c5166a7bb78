"""`POST /api/v1/webhooks/{integration}`: a service calls us.

The adapter verifies the raw bytes and says what they mean; here they become events. A 2xx is given only when Redis has
confirmed them, or the spool: GitHub never repeats by itself, and what it was told is accepted must be. A request that
becomes no event, such as a ping, publishes nothing at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from eventbus import Conflict, Event, EventBusError, Receipt, catalog
from eventbus.topics import WebhookReceived
from integrations.base import Inbound, InboundReply, InboundRequest
from integrations.errors import IntegrationError, Refusal, Unauthorized
from registry.account import Account
from registry.act import contained
from registry.judgement import describe
from registry.registry import UnknownIntegration
from service.gateway.body import read
from service.gateway.problems import Problem, problem_of
from service.gateway.refusals import Refusals
from service.wiring import Runtime

PUBLISH_SECONDS = 2.5
"""Slack waits 3 seconds (docs.slack.dev, Slash commands; Events API), GitHub 10 (docs.github.com/webhooks, "Best
practices"); the bus itself tries for longer. What is stored after all is a duplicate when it is sent again."""
NOT_READY_SECONDS = 30
DELIVERY_HEADERS = ("x-github-delivery", "webhook-id", "x-slack-retry-num")
"""What senders name a delivery by: logged when it is lost, so that somebody can ask for it again."""
NAMES, NAME_CHARACTERS = 40, 60
"""So much of the names of a refused request's headers is logged: it is a stranger's text."""

_log = structlog.get_logger("service.gateway")


class Webhooks:
    """The inbound side of every integration that has one."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._refusals = Refusals()

    async def receive(self, request: Request) -> Response:
        """One webhook. Raises what `problems` knows."""
        account, adapter = self._inbound(request.path_params["integration"])
        limit = getattr(adapter, "max_body_bytes", self._runtime.settings.gateway.max_body_bytes)
        body = await read(request, limit)
        told = _log.bind(integration=account.name, body_bytes=len(body))
        try:
            inbound = InboundRequest(_combined(request.headers), body, time.time())
            async with asyncio.timeout(account.timeout.total_seconds()):
                reply = await contained(adapter.receive(inbound), account.redact)
            async with asyncio.timeout(PUBLISH_SECONDS):
                receipts = await self._publish(account.name, reply, len(body)) if reply.events else []
        except Refusal as error:
            if self._refusals.is_told(account.name):
                present = [name[:NAME_CHARACTERS] for name in sorted(set(request.headers.keys()))[:NAMES]]
                told.warning("webhook refused", status=error.status, reason=error.reason, headers=present)
            raise
        except (EventBusError, IntegrationError, TimeoutError) as error:
            ids = {name: request.headers[name] for name in DELIVERY_HEADERS if name in request.headers}
            told.error("webhook not accepted", delivery=ids, error=describe(error))
            raise _problem(error) from error
        if receipts:
            told.info("webhook", events=[{"topic": r.topic, "id": r.event_id, "status": r.status} for r in receipts])
        if receipts and reply.replay_status is not None and all(one.status == "duplicate" for one in receipts):
            raise Problem(reply.replay_status, "this request was accepted before")
        return Response(reply.body, reply.status, dict(reply.headers))

    def _inbound(self, name: str) -> tuple[Account, Inbound]:
        """Who receives it. Raises Problem 404, the same for a name that nobody has and one that receives nothing."""
        try:
            account = self._runtime.registry.get(name)
        except UnknownIntegration:
            raise Problem(404, "no webhooks are received here") from None
        if not isinstance(account.adapter, Inbound):
            raise Problem(404, "no webhooks are received here")
        if account.fault is not None:
            if self._refusals.is_told(name):
                _log.error("webhook not accepted: the integration is not ready", integration=name, fault=account.fault)
            raise Problem(503, "not ready", headers={"Retry-After": str(NOT_READY_SECONDS)})
        return account, account.adapter

    async def _publish(self, name: str, reply: InboundReply, size: int) -> Sequence[Receipt]:
        """The reply's events and one that says that a webhook came, together; the receipts are those of the former.
        However far an earlier attempt came, what it left out is stored."""
        bus, notice, keep = self._runtime.bus, _received(name, reply.events, size), reply.remember
        try:
            return (await bus.publish_many([*reply.events, notice], remember=keep, first_wins=reply.first_wins))[:-1]
        except Conflict:
            # The same events in other bytes differ in the notice only, and that is no conflict: the events alone tell.
            return await bus.publish_many(reply.events, remember=keep)


def _received(name: str, events: Sequence[Event[Any]], size: int) -> Event[Any]:
    keys = "\0".join(event.idempotency_key for event in events)
    return catalog.event(
        WebhookReceived(integration=name, topics=tuple(event.topic for event in events), size=size),
        source="/gateway",
        idempotency_key="received:" + hashlib.blake2b(keys.encode(), digest_size=16).hexdigest(),
        causation_id=events[0].id,
    )


def _combined(headers: Headers) -> Mapping[str, str]:
    """One value a name: repeated fields are joined, as RFC 9110, section 5.3, has it.

    Raises Unauthorized for two signatures, of which a verifier would see one: nobody sends that by accident.
    """
    found: dict[str, str] = {}
    for name, value in headers.items():
        if name in found and "signature" in name:
            raise Unauthorized("signature mismatch", reason=f"the header {name} occurs twice")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _problem(error: Exception) -> Problem:
    """Of an adapter's or its service's trouble a sender is told nothing but to come again."""
    if isinstance(error, EventBusError):
        return problem_of(error)
    return Problem(503, "not accepted", headers={"Retry-After": str(NOT_READY_SECONDS)})

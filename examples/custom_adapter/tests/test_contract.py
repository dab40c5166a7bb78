"""`acme_tickets` keeps the contract of every adapter, and what is its own besides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from integrations.base import Artifact, Delivery, Notification, Outcome
from integrations.errors import Malformed, Rejected, Unauthorized
from integrations.testing.context import make_context

from acme_tickets import AcmeTickets
from acme_tickets.contract import EVENT, TestAcmeTickets
from acme_tickets.fake import FakeTickets
from acme_tickets.inbound import TicketClosed

__all__ = ["TestAcmeTickets"]

Connect = Callable[..., Awaitable[AcmeTickets]]


@pytest.fixture
async def service() -> AsyncIterator[FakeTickets]:
    async with FakeTickets() as service:
        yield service


@pytest.fixture
async def connect(service: FakeTickets) -> AsyncIterator[Connect]:
    """Makes adapters in front of the stand-in, with settings changed, and lets go of their connections at the end."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> AcmeTickets:
            adapter, context = AcmeTickets(), make_context(AcmeTickets, service.settings() | changes)
            stack.push_async_callback(context.http.close)
            await adapter.initialize(context)
            return adapter

        yield make


@pytest.fixture
async def adapter(connect: Connect) -> AcmeTickets:
    return await connect()


async def test_a_failed_task_becomes_a_ticket(adapter: AcmeTickets, service: FakeTickets) -> None:
    result = await adapter.handle_event(EVENT, Delivery("key-1"))
    assert (result.reference, result.url) == ("T-2", f"{service.url}/tickets/T-2")
    assert service.tickets["T-2"] == {
        "queue": "operations",
        "title": "load test failed",
        "text": "p99 is 2.1 s\nTask: task-42\nEnvironment: staging",
        "priority": "normal",
    }


async def test_a_notification_becomes_a_comment_on_its_ticket(adapter: AcmeTickets, service: FakeTickets) -> None:
    result = await adapter.send_notification(Notification(target="T-1", message="Looking into it."), Delivery("key-1"))
    assert result.outcome is Outcome.DELIVERED
    assert service.comments == [("T-1", "Looking into it.")]


@pytest.mark.parametrize("target", ["", "#ops", "T-1/../T-2"])
async def test_a_notification_without_a_ticket_is_refused_before_it_leaves(
    adapter: AcmeTickets, service: FakeTickets, target: str
) -> None:
    with pytest.raises(Rejected, match="such as T-7"):
        await adapter.send_notification(Notification(target=target, message="Hello."), Delivery("key-1"))
    assert service.requests == []


async def test_an_artifact_becomes_a_ticket_once_per_key(adapter: AcmeTickets, service: FakeTickets) -> None:
    artifact = Artifact(type="ticket", content={"title": "Renew the certificate", "priority": "urgent"})
    results = [await adapter.create_artifact(artifact, Delivery(key)) for key in ("key-1", "key-1", "key-2")]
    assert [result.reference for result in results] == ["T-2", "T-2", "T-3"]


async def test_a_wrong_artifact_is_refused_naming_the_field(adapter: AcmeTickets) -> None:
    with pytest.raises(Rejected, match="title: field required"):
        await adapter.create_artifact(Artifact(type="ticket", content={"text": "no title"}), Delivery("key-1"))
    with pytest.raises(Rejected, match="makes no artifact 'invoice'; it makes: ticket"):
        await adapter.create_artifact(Artifact(type="invoice", content={}), Delivery("key-1"))


async def test_a_signed_webhook_becomes_an_event_with_the_same_key_when_it_comes_again(
    adapter: AcmeTickets, service: FakeTickets
) -> None:
    replies = [await adapter.receive(service.webhook("closed", "T-1")) for _ in range(2)]
    first, second = (reply.events[0] for reply in replies)
    assert first.data == TicketClosed(ticket="T-1", closed_by="ada")
    assert first.key == "ticket:T-1"
    assert first.idempotency_key == second.idempotency_key
    assert (await adapter.receive(service.webhook("renamed", "T-1"))).events == ()


async def test_a_webhook_that_is_forged_or_not_theirs_publishes_nothing(
    adapter: AcmeTickets, service: FakeTickets
) -> None:
    signed = service.webhook("closed", "T-1")
    for forged in (replace(signed, body=signed.body + b" "), replace(signed, headers={})):
        with pytest.raises(Unauthorized):
            await adapter.receive(forged)
    with pytest.raises(Malformed):
        await adapter.receive(service.webhook("closed", "T-1", id=""))

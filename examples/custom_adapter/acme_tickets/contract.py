"""`acme_tickets` keeps the contract of every adapter: `pytest --integration acme_tickets` runs this."""

from __future__ import annotations

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.base import InboundRequest, Notification
from integrations.signing import sign_plain
from integrations.testing.contract import AdapterContract, Webhooks

from acme_tickets.adapter import AcmeTickets
from acme_tickets.fake import WEBHOOK_SECRET, FakeTickets

EVENT = catalog.event(TaskFailed(task_id="task-42", name="load test", error="p99 is 2.1 s", environment="staging"))


class TicketWebhooks(Webhooks):
    """Signed over the body; without a time, so an old one is known by its id."""

    proof = "x-signature"

    def genuine(self, service: FakeTickets, number: int) -> InboundRequest:
        return service.webhook("closed", "T-1", id=f"wh-{number}")

    def of_unknown_kind(self, service: FakeTickets) -> InboundRequest:
        return service.webhook("something_new", "T-1")

    def proven(self, service: FakeTickets, body: bytes) -> InboundRequest:
        return InboundRequest({"x-signature": sign_plain(body, WEBHOOK_SECRET)}, body, received_at=0)


class TestAcmeTickets(AdapterContract):
    adapter = AcmeTickets
    fake = FakeTickets
    event = EVENT
    notification = Notification(target="T-1", message="Looking into it.")
    inbound = TicketWebhooks()

"""PagerDuty keeps the contract of every adapter: `pytest --integration pagerduty` runs this."""

from __future__ import annotations

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.base import InboundRequest
from integrations.pagerduty.adapter import PagerDuty
from integrations.pagerduty.fake import FakePagerDuty
from integrations.pagerduty.inbound import REMEMBER
from integrations.testing.contract import AdapterContract, Webhooks


class V3Webhooks(Webhooks):
    """PagerDuty signs no time; that of what happened stands in the body."""

    proof = "x-pagerduty-signature"
    stale = REMEMBER

    def genuine(self, service: FakePagerDuty, number: int) -> InboundRequest:
        return service.webhook(service.incident_event(id=f"EVENT{number}"))

    def of_unknown_kind(self, service: FakePagerDuty) -> InboundRequest:
        return service.webhook(service.incident_event("incident.something_new"))

    def proven(self, service: FakePagerDuty, body: bytes) -> InboundRequest:
        return service.webhook(body)


class TestPagerDuty(AdapterContract):
    """One service, with webhooks and the REST API."""

    adapter = PagerDuty
    fake = FakePagerDuty
    event = catalog.event(TaskFailed(task_id="task-42", error="2 of 310 tests failed"))
    inbound = V3Webhooks()

"""Slack keeps the contract of every adapter: `pytest --integration slack` runs this."""

from __future__ import annotations

from datetime import timedelta

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.base import InboundRequest
from integrations.signing import TOLERANCE_SECONDS
from integrations.slack.adapter import Slack
from integrations.slack.fake import FakeSlack
from integrations.testing.contract import AdapterContract, Webhooks
from integrations.testing.fake import FakeService


class Interactions(Webhooks):
    """Pressed buttons; the other kinds come the same way."""

    proof = "x-slack-signature"
    stale = timedelta(seconds=TOLERANCE_SECONDS)

    def genuine(self, service: FakeSlack, number: int) -> InboundRequest:
        return service.button_click("approve", "task-42", trigger_id=f"trigger-{number}").inbound()

    def of_unknown_kind(self, service: FakeSlack) -> InboundRequest:
        return service.event_callback({"type": "something_new"}).inbound()

    def proven(self, service: FakeSlack, body: bytes) -> InboundRequest:
        return service.sign(body, "application/json").inbound()


class TestSlack(AdapterContract):
    """An app with its bot token."""

    adapter = Slack
    fake = FakeSlack
    event = catalog.event(TaskFailed(task_id="task-42", error="2 of 310 tests failed", error_type="TestFailure"))
    inbound = Interactions()

    def keep_limits(self, service: FakeService) -> None:
        assert isinstance(service, FakeSlack)
        service.rate_limit = True

"""The webhook adapter keeps the contract of every adapter: `pytest --integration webhook` runs this."""

from __future__ import annotations

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.testing.contract import AdapterContract
from integrations.webhook.adapter import Webhook
from integrations.webhook.fake import FakeReceiver

EVENT = catalog.event(TaskFailed(task_id="task-42", error="2 of 310 tests failed"))


class TestWebhook(AdapterContract):
    """Standard Webhooks."""

    adapter = Webhook
    fake = FakeReceiver
    event = EVENT


class PlainReceiver(FakeReceiver):
    """One that knows `X-Signature` only."""

    def __init__(self) -> None:
        super().__init__("plain")


class TestPlainWebhook(AdapterContract):
    """The older form."""

    adapter = Webhook
    fake = PlainReceiver
    event = EVENT

"""Alertmanager keeps the contract of every adapter: `pytest --integration alertmanager` runs this."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.alertmanager.adapter import Alertmanager
from integrations.alertmanager.fake import FakeAlertmanager
from integrations.alertmanager.render import WHEN_SENT
from integrations.base import InboundRequest
from integrations.testing.contract import AdapterContract, Rig, Webhooks


class Messages(Webhooks):
    """Version 4. Alertmanager signs nothing: a password in a header is the proof."""

    proof = "authorization"
    signed = False

    def genuine(self, service: FakeAlertmanager, number: int) -> InboundRequest:
        alert = service.alert(labels={"alertname": "DiskAlmostFull", "instance": f"db-{number}"})
        return service.webhook(service.message(alert))

    def of_unknown_kind(self, service: FakeAlertmanager) -> InboundRequest:
        return service.webhook(service.message(service.alert("acknowledged")))

    def proven(self, service: FakeAlertmanager, body: bytes) -> InboundRequest:
        return service.webhook(body)


class TestAlertmanager(AdapterContract):
    """One Alertmanager, both ways."""

    adapter = Alertmanager
    fake = FakeAlertmanager
    event = catalog.event(TaskFailed(task_id="task-42", error="2 of 310 tests failed"))
    inbound = Messages()

    async def test_what_is_sent_is_what_the_preview_showed(self, rig: Rig) -> None:
        """Until when an alert lasts is counted from its sending; a preview has words there."""
        (preview,) = rig.adapter.preview(self.event, rig.delivery("delivery-1"))
        before = datetime.now(UTC)
        await rig.handle(self.event)
        (request,) = rig.service.requests
        assert preview.request == f"{request.method} {rig.service.url}{request.path}"
        shown, sent = json.loads(preview.body)[0], json.loads(request.body)[0]
        assert shown.pop("endsAt") == f"{WHEN_SENT} + 4:00:00"
        lasts = datetime.fromisoformat(sent.pop("endsAt")) - before
        assert timedelta(hours=3, minutes=59) < lasts < timedelta(hours=4, minutes=1)
        assert shown == sent

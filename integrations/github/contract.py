"""GitHub keeps the contract of every adapter: `pytest --integration github` runs this."""

from __future__ import annotations

from typing import Any

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.base import InboundRequest, Notification
from integrations.github.adapter import GitHub
from integrations.github.fake import FakeGitHub
from integrations.testing.contract import AdapterContract, Webhooks
from integrations.testing.fake import FakeService


class Deliveries(Webhooks):
    """GitHub gives no time with its webhooks; an old one is known by its id."""

    proof = "x-hub-signature-256"

    def genuine(self, service: FakeGitHub, number: int) -> InboundRequest:
        return service.webhook("pull_request", service.pull_request_opened(), delivery=f"delivery-{number}")

    def of_unknown_kind(self, service: FakeGitHub) -> InboundRequest:
        return service.webhook("something_new", {"action": "begun"})

    def proven(self, service: FakeGitHub, body: bytes) -> InboundRequest:
        return service.webhook("push", body)


class TestGitHub(AdapterContract):
    """Signed in with a token."""

    adapter = GitHub
    fake = FakeGitHub
    event = catalog.event(
        TaskFailed(task_id="task-42", pull_request="https://github.com/acme/api/pull/7", error="2 of 310 tests failed")
    )
    notification = Notification(target="acme/api#7", message="The tests of this branch hang.")
    inbound = Deliveries()

    def keep_limits(self, service: FakeService) -> None:
        """Those that the adapter's budgets name: docs.github.com/rest, "Rate limits"."""
        assert isinstance(service, FakeGitHub)
        service.secondary_limit, service.hourly_limit = 80, 500


class ForApps(FakeGitHub):
    """With the settings of a GitHub App."""

    def settings(self) -> dict[str, Any]:
        return self.app_settings()


class TestGitHubAsApp(TestGitHub):
    """Signed in as a GitHub App."""

    fake = ForApps

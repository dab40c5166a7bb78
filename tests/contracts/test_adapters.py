"""Every adapter of ours keeps the contract that third-party adapters are held to.

One class for each way an adapter can be set up to reach its service.
"""

from __future__ import annotations

from typing import Any

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack
from integrations.testing.contract import AdapterContract
from integrations.webhook import Webhook
from integrations.webhook.fake import FakeReceiver

EVENT = catalog.event(
    TaskFailed(
        task_id="task-42",
        pull_request="https://github.com/acme/api/pull/7",
        error="2 of 310 tests failed",
        error_type="TestFailure",
    )
)


class TestWebhook(AdapterContract):
    adapter = Webhook
    fake = FakeReceiver
    event = EVENT


class PlainReceiver(FakeReceiver):
    def __init__(self) -> None:
        super().__init__("plain")


class TestPlainWebhook(AdapterContract):
    adapter = Webhook
    fake = PlainReceiver
    event = EVENT


class TestSlack(AdapterContract):
    adapter = Slack
    fake = FakeSlack
    event = EVENT


class TestGitHub(AdapterContract):
    adapter = GitHub
    fake = FakeGitHub
    event = EVENT


class GitHubForApps(FakeGitHub):
    def settings(self) -> dict[str, Any]:
        return self.app_settings()


class TestGitHubAsApp(AdapterContract):
    adapter = GitHub
    fake = GitHubForApps
    event = EVENT

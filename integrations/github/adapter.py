"""GitHub as an integration: what it takes, what it makes, how it is. The parts stand in the files beside this one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from eventbus.catalog import explain
from eventbus.event import Event
from integrations.base import (
    Artifact,
    Context,
    Delivery,
    DeliveryResult,
    Health,
    InboundReply,
    InboundRequest,
    Integration,
    Manifest,
    Notification,
    Outcome,
    What,
)
from integrations.errors import Rejected
from integrations.github import render
from integrations.github.artifacts import Comment, Issue, PullRequest
from integrations.github.client import Client, Made
from integrations.github.config import GitHubConfig
from integrations.github.inbound import MAX_BYTES, Inbox
from integrations.github.marker import Marker
from integrations.github.place import Place, parse_pull_request, parse_target

LOOK_BACK = timedelta(days=1)
"""How long before an event's time its comment is looked for: the publisher's clock and GitHub's may differ."""

ARTIFACTS: dict[str, type[PullRequest | Issue | Comment]] = {
    "pull_request": PullRequest,
    "issue": Issue,
    "comment": Comment,
}


class GitHub(Integration[GitHubConfig]):
    """One account of GitHub or GitHub Enterprise."""

    max_body_bytes = MAX_BYTES
    """What the gateway may read of a webhook."""

    manifest = Manifest(
        name="github",
        title="GitHub",
        config=GitHubConfig,
        handles=(
            "task.completed",
            "task.failed",
            "migration.completed",
            "migration.failed",
            "migration.rolled_back",
        ),
        emits=("github.>",),
        notifications=("message", "pr_comment", "issue_comment"),
        artifacts=ARTIFACTS,
        effects="searchable",
        limits="5,000 requests an hour; 80 texts made a minute and 500 an hour; 65,536 characters a text",
    )

    _client: Client | None = None

    async def initialize(self, context: Context[GitHubConfig]) -> None:
        await super().initialize(context)
        # In a thread: the private key of a GitHub App may come from a file.
        self._client = await asyncio.to_thread(Client, context.config)
        self._marker = Marker(context.config)
        self._inbox = Inbox(context.config, context.store)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Comment on the pull request that the event names, if it names one."""
        body = render.event_comment(event, self._marker.sign(delivery.key))
        if body is None:
            return DeliveryResult.skipped(f"GitHub is not told of {event.topic}")
        place = self._pull_request(event)
        if place is None:
            return DeliveryResult.skipped("the event names no pull_request")
        return _delivered(await self._api.create_comment(place, body), f"commented on {place}")

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Comment on the issue or pull request that the target names, as owner/repo#123."""
        place = self._target(notification)
        body = render.notification_comment(notification, self._marker.sign(delivery.key))
        return _delivered(await self._api.create_comment(place, body), f"commented on {place}")

    async def create_artifact(self, artifact: Artifact, delivery: Delivery) -> DeliveryResult:
        """Open a pull request or an issue, or write a comment."""
        content = self._content(artifact)
        if content is None:
            return await super().create_artifact(artifact, delivery)
        body = render.artifact_body(content.body, self._marker.sign(delivery.key))
        match content:
            case PullRequest():
                made = await self._api.create_pull_request(content, body)
            case Issue():
                made = await self._api.create_issue(content, body)
            case Comment():
                made = await self._api.create_comment(content.place, body)
        return _delivered(made, f"{artifact.type} made in {content.repository}")

    async def find(self, what: What, delivery: Delivery) -> DeliveryResult | None:
        """What an earlier attempt with this key made: written by our own account, with the marker of the key in it."""
        found = await self._find(what, self._marker.accepted(delivery.key))
        if found is None:
            return None
        return DeliveryResult(Outcome.DUPLICATE, found.reference, found.url, "found by its marker")

    async def receive(self, request: InboundRequest) -> InboundReply:
        """A webhook."""
        return await self._inbox.receive(request)

    async def health(self) -> Health:
        """Ask `GET /user`, or as a GitHub App `GET /app`. A used-up rate limit is degraded, anything else unhealthy."""
        return await Health.of(self._who(), "GitHub")

    async def _who(self) -> str:
        account = await self._api.account()
        left = f", {account.remaining:,} of {account.limit:,} requests left" if account.limit >= 0 else ""
        return f"signed in as {account.login}{left}"

    async def close(self) -> None:
        """Wait for calls under way, at most their timeout."""
        if self._client is not None:
            await self._client.close()

    @property
    def _api(self) -> Client:
        assert self._client is not None, "initialize comes first"
        return self._client

    async def _find(self, what: What, markers: tuple[str, ...]) -> Made | None:
        if isinstance(what, Event):
            place = self._pull_request(what)
            return None if place is None else await self._api.find_comment(place, markers, what.time - LOOK_BACK)
        if isinstance(what, Notification):
            return await self._api.find_comment(self._target(what), markers, None)
        match self._content(what):
            case PullRequest() as content:
                return await self._api.find_pull_request(content, markers)
            case Issue() as content:
                return await self._api.find_issue(content, markers)
            case Comment() as content:
                return await self._api.find_comment(content.place, markers, None)
            case None:
                return None

    def _pull_request(self, event: Event[Any]) -> Place | None:
        url = getattr(event.data, "pull_request", None)
        return parse_pull_request(url, self.config.web) if url else None

    def _target(self, notification: Notification) -> Place:
        if notification.type not in self.manifest.notifications:
            known = ", ".join(self.manifest.notifications)
            raise Rejected(f"github sends no notification {notification.type!r}; it sends: {known}")
        return parse_target(notification.target)

    def _content(self, artifact: Artifact) -> PullRequest | Issue | Comment | None:
        model = ARTIFACTS.get(artifact.type)
        try:
            return None if model is None else model.model_validate(artifact.content)
        except ValidationError as error:
            raise Rejected(f"{artifact.type}: {explain(error)}") from None


def _delivered(made: Made, detail: str) -> DeliveryResult:
    return DeliveryResult.delivered(made.reference, url=made.url, detail=detail)

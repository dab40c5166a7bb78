"""GitHub as an integration: what it takes, what it makes, how it is. The parts stand in the files beside this one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from eventbus.catalog import explain
from eventbus.event import Event
from eventbus.topics import (
    MigrationCompleted,
    MigrationFailed,
    MigrationRolledBack,
    TaskCompleted,
    TaskFailed,
)
from integrations.base import (
    Artifact,
    Budget,
    Context,
    Delivery,
    DeliveryResult,
    Finding,
    Health,
    InboundReply,
    InboundRequest,
    Integration,
    Manifest,
    Notification,
    Outcome,
    Preview,
    Recovered,
    Scope,
    What,
)
from integrations.errors import Rejected
from integrations.github import doctor, redelivery, render, writes
from integrations.github.artifacts import (
    ARTIFACTS,
    CheckRun,
    Comment,
    CommitStatus,
    Content,
    Issue,
    PullRequest,
    ReviewRequest,
)
from integrations.github.client import Client, Gone, Made
from integrations.github.config import GitHubConfig
from integrations.github.inbound import MAX_BYTES, Inbox
from integrations.github.marker import Marker, hidden
from integrations.github.place import Place, parse_pull_request, parse_target
from integrations.github.redelivery import Redelivered, Roll
from integrations.github.writes import Write

LOOK_BACK = timedelta(days=1)
"""How long before an event's time its comment is looked for: the publisher's clock and GitHub's may differ."""
THREAD_LOOK_BACK = timedelta(days=7)
"""The same for the comment of an earlier event of its thread, when nothing is known of one."""
MAX_REMEMBERED = 20
"""How many things of one thread are remembered: those made or changed last."""

TEXTS = (
    Budget("texts/minute", 78, timedelta(minutes=1), burst=20),
    Budget("texts/hour", 495, timedelta(hours=1), burst=150),
)
"""docs.github.com/rest, "Rate limits", "About secondary rate limits", checked 2026-11-21: 80 and 500. A little less,
since what counts is when GitHub gets them."""
CALLS = Budget("calls/hour", 1_600, timedelta(hours=1), burst=200)
"""A third of the 5,000 requests an hour of the same page: one thing takes up to three, with looking for a comment."""

ENDINGS = (TaskCompleted, TaskFailed, MigrationCompleted, MigrationFailed, MigrationRolledBack)


class GitHub(Integration[GitHubConfig]):
    """One account of GitHub or GitHub Enterprise."""

    max_body_bytes = MAX_BYTES
    """What the gateway may read of a webhook."""

    manifest = Manifest(
        name="github",
        title="GitHub",
        config=GitHubConfig,
        handles=(
            "task.started",
            "task.completed",
            "task.failed",
            "migration.started",
            "migration.completed",
            "migration.failed",
            "migration.rolled_back",
        ),
        emits=("github.>",),
        notifications=("message", "pr_comment", "issue_comment"),
        artifacts=ARTIFACTS,
        effects="searchable",
        tier="complete",
        limits="5,000 requests an hour; 80 texts made a minute and 500 an hour; 65,536 characters a text",
        budgets=(*TEXTS, CALLS),
        scopes=(
            Scope("pull_requests:write", "comments on pull requests, opens them, asks for reviews"),
            Scope("issues:write", "comments on issues and opens them"),
            Scope("contents:read", "opens pull requests from branches of private repositories", needed=False),
            Scope("statuses:write", "create_artifact(commit_status)", needed=False),
            Scope("checks:write", "create_artifact(check_run); a GitHub App only", needed=False),
            Scope("repository_hooks:write", "asks for lost webhooks of `hooks` again", needed=False),
        ),
    )

    _client: Client | None = None

    async def initialize(self, context: Context[GitHubConfig]) -> None:
        await super().initialize(context)
        # In a thread: the private key of a GitHub App may come from a file.
        self._client = await asyncio.to_thread(Client, context.config)
        self._marker = Marker(context.config)
        self._inbox = Inbox(context.config, context.store)
        self._login = ""

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Comment on the pull request that the event names, if it names one; change the comment of its thread."""
        if render.event_comment(event, "") is None:
            return DeliveryResult.skipped(f"GitHub is not told of {event.topic}")
        if self._pull_request(event) is None:
            return DeliveryResult.skipped("the event names no pull_request")
        return await self._bring_out(event, delivery)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Comment on the issue or pull request that the target names, as owner/repo#123."""
        return await self._bring_out(notification, delivery)

    async def create_artifact(self, artifact: Artifact, delivery: Delivery) -> DeliveryResult:
        """Make what the manifest lists. A comment or check run of the same thread is changed instead."""
        return await self._bring_out(artifact, delivery)

    def budgets(self, what: What, delivery: Delivery) -> tuple[Budget, ...]:
        """Those of the manifest; not everything is a text."""
        is_text = not isinstance(what, Artifact) or what.type in ("comment", "issue", "pull_request")
        return self.manifest.budgets if is_text else (CALLS,)

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        """The one request that makes it, or changes what the thread is known to have."""
        write = self._write(what, delivery)
        if write is None:
            return ()
        known = self._known(write, delivery)
        write = write if known is None else write.change(known)
        body = json.dumps(write.body, indent=2, ensure_ascii=False)
        return (Preview(write.doing, f"{write.method} {self.config.base_url}{write.path}", body),)

    async def find(self, what: What, delivery: Delivery) -> DeliveryResult | None:
        """What an earlier attempt with this key made or changed: our own account wrote it, with the key's marker."""
        write = self._write(what, delivery)
        if write is None:
            return None
        found = await self._find(what, delivery)
        return None if found is None else self._result(write, found, delivery, Outcome.DUPLICATE, "found by its marker")

    async def receive(self, request: InboundRequest) -> InboundReply:
        """A webhook."""
        return await self._inbox.receive(request)

    @property
    def recover_every(self) -> timedelta | None:
        """As the settings say."""
        return self.config.look_every

    async def recover(self, since: datetime, *, patiently: bool = False) -> Recovered:
        """Ask GitHub again for the webhooks that never reached us, of the App and of each of `hooks`.

        At most three days back and a hundred for each hook in one go. Raises IntegrationError when GitHub's record
        can't be read or it refuses, Rejected when there is no hook to ask about.
        """
        return redelivery.sum_up((await self.redeliver(since, patiently=patiently)).values())

    async def redeliver(self, since: datetime, *, patiently: bool = False) -> dict[str, Redelivered]:
        """The same, told for each hook by its path."""
        hooks = self._hooks()
        if not hooks:
            raise Rejected("no webhook to ask GitHub about: set `hooks`, or sign in as a GitHub App")
        roll = Roll(self.context.store)
        return {hook: await redelivery.redeliver(self._api, hook, roll, since, patiently=patiently) for hook in hooks}

    def _hooks(self) -> list[str]:
        own = [redelivery.APP_HOOK] if self.config.app_id is not None else []
        return own + [redelivery.hook_path(hook) for hook in self.config.hooks]

    async def examine(self) -> Sequence[Finding]:
        """Credentials, rights, the limit, the clock, what is visible, and how each webhook is set up and went."""
        return await doctor.examine(self._api, self.config, self.manifest.scopes, self._hooks())

    async def seen(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> bool | None:
        """Whether the comment is there."""
        return await self.find(notification, delivery) is not None

    async def take_back(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> str:
        """Delete the comment."""
        place = self._target(notification)
        await self._api.delete(f"/repos/{place.repository}/issues/comments/{result.reference}")
        return "deleted"

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

    # -- what leaves -------------------------------------------------------------------------------------------------

    async def _bring_out(self, what: What, delivery: Delivery) -> DeliveryResult:
        write = self._write(what, delivery)
        assert write is not None, "the caller has skipped what is not for GitHub"
        known = self._known(write, delivery) or await self._left_behind(what, write, delivery)
        detail = write.doing
        if known is None:
            made = await self._api.send(write)
        else:
            try:
                made, detail = await self._api.send(write.change(known)), f"changed: {detail}"
            except Gone:  # somebody deleted it
                made = await self._api.send(write)
        if made.login not in ("", self._login):
            # Tells our own doings from others' when they come back as webhooks.
            await self.context.store.put("login", made.login)
            self._login = made.login
        return self._result(write, made, delivery, Outcome.DELIVERED, detail)

    def _result(self, write: Write, made: Made, delivery: Delivery, outcome: Outcome, detail: str) -> DeliveryResult:
        state = dict(delivery.earlier.state) if delivery.earlier else {}
        if write.slot:
            state.pop(self._slot(write), None)
            state[self._slot(write)] = made.reference
        state = dict(list(state.items())[-MAX_REMEMBERED:])
        return DeliveryResult(outcome, made.reference, made.url or write.page or None, detail, state=state)

    def _slot(self, write: Write) -> str:
        """Under which name a thread remembers it: only whom it was made as can change it."""
        return f"{write.slot} by {self.config.app_id or 'token'}"

    def _known(self, write: Write, delivery: Delivery) -> str | None:
        if not write.slot or delivery.earlier is None:
            return None
        return delivery.earlier.state.get(self._slot(write))

    async def _left_behind(self, what: What, write: Write, delivery: Delivery) -> str | None:
        """The comment of this thread that nobody remembers, as after a crash between making it and noting it.

        Looked for where one is to be expected: at the end of what may have begun here, and from the second attempt on.
        """
        ends = isinstance(what, Event) and isinstance(what.data, ENDINGS)
        place = self._place(what)
        if place is None or not delivery.thread or not (ends or delivery.attempt > 1):
            return None
        since = what.time - THREAD_LOOK_BACK if isinstance(what, Event) else None
        found = await self._find_comment(place, since, lambda text: self._marker.is_of_thread(text, delivery.thread))
        return None if found is None else found.reference

    def _write(self, what: What, delivery: Delivery) -> Write | None:
        """The request that makes it; None for an event that is not for GitHub. Pure. Raises Rejected."""
        cause = what.id if isinstance(what, Event) else ""
        marker = self._marker.sign(delivery.key, delivery.thread, cause)
        if isinstance(what, Artifact):
            return self._artifact(self._content(what), marker)
        if isinstance(what, Notification):
            return writes.comment(self._target(what), render.notification_comment(what, hidden(marker)))
        text = render.event_comment(what, hidden(marker))
        place = None if text is None else self._pull_request(what)
        return None if text is None or place is None else writes.comment(place, text)

    def _artifact(self, content: Content, marker: str) -> Write:
        trusted = self.config.allow_mentions
        match content:
            case PullRequest() | Issue():
                title = render.title(content.title, trusted=trusted)
                body = render.artifact_body(content.body, hidden(marker), trusted=trusted)
                if isinstance(content, Issue):
                    return writes.issue(content, title, body)
                return writes.pull_request(content, title, body)
            case Comment():
                return writes.comment(
                    content.place, render.artifact_body(content.body, hidden(marker), trusted=trusted)
                )
            case ReviewRequest():
                return writes.review_request(content)
            case CommitStatus():
                return writes.commit_status(content, render.status_line(content.description or ""), self.config.web)
            case CheckRun():
                if self.config.app_id is None:
                    raise Rejected("check_run: GitHub lets only a GitHub App make one; this account has a token")
                title = render.title(content.title or content.name, trusted=trusted)
                summary = render.markdown(content.summary or content.name, render.MAX_SUMMARY, trusted=trusted)
                return writes.check_run(content, title, summary, marker)

    # -- looking it up -----------------------------------------------------------------------------------------------

    async def _find(self, what: What, delivery: Delivery) -> Made | None:
        def ours(text: str) -> bool:
            return self._marker.is_of_delivery(text, delivery.key)

        place = self._place(what)
        if place is not None:
            return await self._find_comment(place, what.time - LOOK_BACK if isinstance(what, Event) else None, ours)
        content = self._content(what) if isinstance(what, Artifact) else None
        match content:
            case PullRequest():
                query = {"state": "all", "head": content.qualified_head, "base": content.base}
                return await self._api.find(f"/repos/{content.repository}/pulls", query, _bearing(ours))
            case Issue():
                return await self._api.find_issue(content.repository, _bearing(ours))
            case ReviewRequest():
                return await self._find_review_request(content)
            case CommitStatus():
                return await self._find_status(content)
            case CheckRun():
                return await self._find_check(content, ours)
        return None

    async def _find_comment(self, place: Place, since: datetime | None, is_it: Callable[[str], bool]) -> Made | None:
        """A comment of ours, among those written or changed since then."""
        query = {} if since is None else {"since": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        return await self._api.find(f"/repos/{place.repository}/issues/{place.number}/comments", query, _bearing(is_it))

    async def _find_review_request(self, content: ReviewRequest) -> Made | None:
        """Found when each of them is asked, or has reviewed since: then GitHub takes the name off the list."""
        path = f"/repos/{content.repository}/pulls/{content.number}"
        asked = await self._api.asked(f"{path}/requested_reviewers")
        people = {one["login"].lower() for one in asked["users"]}
        teams = {one["slug"].lower() for one in asked["teams"]}
        if not {team.lower() for team in content.team_reviewers} <= teams:
            return None
        wanted = {login.lower() for login in content.reviewers}
        if not wanted <= people:
            reviews = await self._api.every(f"{path}/reviews")
            people |= {str((one.get("user") or {}).get("login")).lower() for one in reviews}
        page = f"{self.config.web}/{content.repository}/pull/{content.number}"
        return Made(str(content.number), page) if wanted <= people else None

    async def _find_status(self, content: CommitStatus) -> Made | None:
        """Found when we said the same before: a newer word of somebody else's is not said over."""
        wanted = (content.state, content.context, render.status_line(content.description or ""), content.target_url)

        def same(row: dict[str, Any]) -> bool:
            target = row.get("target_url") or None
            return (row["state"], row["context"], row.get("description") or "", target) == wanted

        return await self._api.find(f"/repos/{content.repository}/commits/{content.sha}/statuses", {}, same)

    async def _find_check(self, content: CheckRun, is_it: Callable[[str], bool]) -> Made | None:
        path = f"/repos/{content.repository}/commits/{content.head_sha}/check-runs"
        query = {"check_name": content.name, "filter": "all", "app_id": self.config.app_id or ""}
        for run in await self._api.every(path, query, within="check_runs"):
            if is_it(run.get("external_id") or ""):
                return Made(str(run["id"]), run["html_url"])
        return None

    # -- what is asked for -------------------------------------------------------------------------------------------

    def _place(self, what: What) -> Place | None:
        """The issue or pull request that it is a comment on."""
        if isinstance(what, Event):
            return self._pull_request(what)
        if isinstance(what, Notification):
            return self._target(what)
        content = self._content(what)
        return content.place if isinstance(content, Comment) else None

    def _pull_request(self, event: Event[Any]) -> Place | None:
        url = getattr(event.data, "pull_request", None)
        return parse_pull_request(url, self.config.web) if url else None

    def _target(self, notification: Notification) -> Place:
        if notification.type not in self.manifest.notifications:
            known = ", ".join(self.manifest.notifications)
            raise Rejected(f"github sends no notification {notification.type!r}; it sends: {known}")
        return parse_target(notification.target)

    def _content(self, artifact: Artifact) -> Content:
        model = ARTIFACTS.get(artifact.type)
        if model is None:
            known = ", ".join(ARTIFACTS)
            raise Rejected(f"github makes no artifact {artifact.type!r}; it makes: {known}")
        try:
            return model.model_validate(artifact.content)
        except ValidationError as error:
            raise Rejected(f"{artifact.type}: {explain(error)}") from None


def _bearing(is_it: Callable[[str], bool]) -> Callable[[dict[str, Any]], bool]:
    """Whether a thing's body is the one."""
    return lambda thing: is_it(thing.get("body") or "")

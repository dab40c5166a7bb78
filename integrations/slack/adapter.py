"""Slack as an integration: what it takes, what it says, how it is. The parts stand in the files beside this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import JsonValue, ValidationError
from pydantic_core import to_json

from eventbus.catalog import explain
from eventbus.event import Event
from eventbus.topics import SlackAction
from eventbus.topics.approval import ApprovalDue, ApprovalExpired, ApprovalGranted, ApprovalRejected
from integrations.base import (
    Accept,
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
    Scope,
    What,
)
from integrations.errors import Misconfigured, NotReady, OutcomeUnknown, Rejected
from integrations.http import HIDDEN
from integrations.slack import blocks, doctor, render, vms
from integrations.slack.app_manifest import manifest_for
from integrations.slack.approvals import Approval, Approvals, Asked, Standing, due_event, ended_event, standing
from integrations.slack.blocks import Message
from integrations.slack.client import Client, hook_body
from integrations.slack.commands import NOT_YOURS
from integrations.slack.config import SlackConfig
from integrations.slack.doubts import decision
from integrations.slack.inbound import Inbox
from integrations.slack.plan import Plan, Shown, key_mark, place, plan, state_after
from integrations.slack.socket import serve

LOOK_BACK = timedelta(days=1)
"""How long before an event's time its message is looked for: the publisher's clock and Slack's may differ."""

KEPT = timedelta(days=30)
"""How far back it is looked for what has no time: as long as the ledger keeps an outcome (`Ledger.keep`)."""

ENDS: dict[str, Standing] = {"granted": "granted", "rejected": "rejected", "expired": "expired"}

Follow = tuple[Event[Any], datetime | None]
"""An event to publish after a delivery, and when; None: at once."""

NOT_SEARCHABLE = "an incoming webhook can't be asked what it posted"


class Slack(Integration[SlackConfig]):
    """One Slack app in one workspace, or one incoming webhook.

    With a bot token `searchable`: each message carries the mark of its delivery's key. An incoming webhook can't be
    asked, so such an account is `at_least_once`. The answer to a command is for its asker's eyes only and is given
    again rather than looked for.
    """

    manifest = Manifest(
        name="slack",
        title="Slack",
        config=SlackConfig,
        handles=(
            "task.started",
            "task.completed",
            "task.failed",
            "vm.*",
            "migration.*",
            "integration.degraded",
            "integration.recovered",
            "delivery.dead_lettered",
            "slack.command.*",
            "slack.action.approval",
            "slack.action.unknown",
            "approval.*",
        ),
        emits=(
            "approval.*",
            "slack.command.*",
            "slack.action.*",
            "slack.app_mention",
            "slack.message.channels",
            "task.created",
        ),
        notifications=("message",),
        artifacts={"approval": Approval},
        effects="searchable",
        tier="complete",
        limits="about 1 message a second and channel, and a limit for the workspace; 5 answers to a command in 30 min",
        # docs.slack.dev, Rate limits: chat.postMessage "generally allows posting one message per second per channel";
        # of bursts, "there is no guarantee that messages will be stored or displayed". Changes of messages are Tier 3,
        # 50 a minute. One pace for both, a fifth slower than the former, for calls that arrive closer than they left.
        budgets=(Budget("messages", 50, timedelta(minutes=1), each="place"),),
        scopes=(
            Scope("chat:write", "posts and changes messages"),
            Scope("channels:history", "finds out whether a message was posted when an answer was lost"),
            Scope("channels:read", "the same, for channels that are named and not given by id"),
            Scope("groups:history", "the same in private channels", needed=False),
            Scope("groups:read", "the same, for private channels that are named", needed=False),
            Scope("im:write", "messages to a person", needed=False),
            Scope("im:history", "finds out whether a message to a person was posted", needed=False),
            Scope("commands", "slash commands", needed=False),
            Scope("app_mentions:read", "slack.app_mention", needed=False),
        ),
    )

    async def initialize(self, context: Context[SlackConfig]) -> None:
        await super().initialize(context)
        self._client = Client(context.config, context.http)
        self._approvals = Approvals(context.store)
        config = context.config
        self._inbox = Inbox(config.signing_secret, config.command_prefix, self._approvals, config.operators)
        if context.config.bot_token is None:
            # Past mypy, which knows the manifest as the class's: what holds of an account may depend on its settings.
            vars(self)["manifest"] = replace(self.manifest, effects="at_least_once")

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Answer a slash command, or tell of the event. A `vm.*` event is remembered first."""
        if event.topic.startswith("slack.command."):
            return await self._answer(event)
        if event.topic == "slack.action.approval":
            return await self._explain(event)
        if event.topic == "slack.action.unknown":
            return await self._resolve(event)
        if event.topic.startswith("approval."):
            return await self._show(event)
        if event.topic.startswith("vm."):
            await vms.remember(self.context.store, event)
        return await self._bring(plan(event, delivery, self.config), delivery)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Tell a channel (#name, name or id) or a person (id); its actions become buttons."""
        return await self._bring(self._plan(notification, delivery), delivery)

    async def create_artifact(self, artifact: Artifact, delivery: Delivery) -> DeliveryResult:
        """Ask for an approval. It is remembered before it is posted: a click can't come too early."""
        made = self._plan(artifact, delivery)
        assert not isinstance(made, str)
        asked = await self._approvals.ask(made.mark, _approval(artifact))
        shown = await self._client.bring(replace(made, message=render.approval_message(asked, [], "open")))
        return await self._posted(asked, shown, delivery, Outcome.DELIVERED)

    async def follow(self, what: What, delivery: Delivery, result: DeliveryResult) -> Sequence[Follow]:
        """Events to publish once `what` was delivered, at once or at a time: when an approval is due, and its expiry.

        The same events on every attempt, with keys of their own: publishing them again adds nothing.
        """
        if isinstance(what, Artifact):
            asked = await self._approvals.get(key_mark(delivery.key))
            return () if asked is None else ((due_event(asked), asked.expires_at),)
        if not isinstance(what, Event) or what.topic != "approval.due" or result.outcome is Outcome.SKIPPED:
            return ()
        asked = await self._approvals.get(what.data.approval_id)
        return () if asked is None else ((ended_event(asked, await self._approvals.votes(asked.id), "expired"), None),)

    async def find(self, what: What, delivery: Delivery) -> DeliveryResult | None:
        """The message that an earlier attempt posted or changed, known by its metadata."""
        if self.config.bot_token is None:
            raise OutcomeUnknown(NOT_SEARCHABLE)
        made = self._plan(what, delivery)
        if isinstance(made, str):
            return None
        if isinstance(what, Artifact):
            return await self._find_approval(made, delivery)
        since = what.time - LOOK_BACK if isinstance(what, Event) else datetime.now(UTC) - KEPT
        shown = made.root if made.done else await self._client.find(made, since)
        if shown is None:
            return None
        return await self._result(Outcome.DUPLICATE, made, delivery, shown, "found by its metadata")

    def places(self, what: What, delivery: Delivery) -> tuple[str, ...]:
        """The channel, or the person; nowhere for the answer to a command, which has a limit of its own."""
        if isinstance(what, Event):
            has_place = not what.topic.startswith(("slack.", "approval."))
            return (place(self.config.channel_for(what.topic)),) if has_place else ()
        target = what.target if isinstance(what, Notification) else str(what.content.get("channel") or "")
        return (place(target or self.config.default_channel),)

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        """The calls of the Web API, or of the incoming webhook without its address."""
        made = self._plan(what, delivery)
        if isinstance(made, str) or made.done:
            return ()
        if self.config.bot_token is None:
            body = hook_body(made.message)
            return (_preview(f"post to {made.channel}", f"POST {HIDDEN} (webhook_url)", body),)
        api, root, shown = f"POST {self.config.base_url}", made.root, []
        if root and made.changes:
            shown.append(_preview(f"change the message in {made.channel}", f"{api}/chat.update", made.change(root)))
        if root is None or made.replies:
            doing = f"reply in {made.channel}" if root else f"post to {made.channel}"
            shown.append(_preview(doing, f"{api}/chat.postMessage", made.post(root)))
        return shown

    async def receive(self, request: InboundRequest) -> InboundReply:
        """A slash command, a pressed button or an event of the Events API."""
        return await self._inbox.receive(request)

    @property
    def listens(self) -> bool:
        """Whether Socket Mode is set up."""
        return self.config.app_token is not None

    async def listen(self, accept: Accept) -> None:
        """Socket Mode: serve one connection, the same way as `receive`. Returns when Slack ends it: call it again.

        Raises an IntegrationError when there is no connection; Misconfigured without app_token.
        """
        if self.config.app_token is None:
            raise Misconfigured("Socket Mode needs app_token")
        await serve(await self._client.socket_address(), self._inbox, accept, self.context.log)

    def app_manifest(self, settings: SlackConfig, url: str, name: str) -> Mapping[str, JsonValue]:
        """The Slack app that these settings need."""
        return manifest_for(settings, self.manifest.scopes, url, name=name)

    async def health(self) -> Health:
        """Ask auth.test. An incoming webhook can't be asked without posting, so it counts as healthy, and says so."""
        if self.config.bot_token is None:
            return Health("healthy", "not verified: an incoming webhook can only be tried by posting a message")
        found = await Health.of(self._client.identity(), "auth.test")
        lacking = self._client.lacks(self.manifest.scopes)
        if found.state != "healthy" or not lacking:
            return found
        fix = "add under OAuth & Permissions, and install the app again"
        return replace(found, state="degraded", detail=f"{found.detail}; the token lacks {', '.join(lacking)}: {fix}")

    async def examine(self) -> Sequence[Finding]:
        """Token, scopes, the clock, each channel, and what comes in."""
        return await doctor.examine(self._client, self.config, self.manifest.scopes)

    async def seen(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> bool | None:
        """Whether the message is there."""
        return None if self.config.bot_token is None else await self.find(notification, delivery) is not None

    async def take_back(self, notification: Notification, delivery: Delivery, result: DeliveryResult) -> str:
        """Delete the message."""
        if self.config.bot_token is None:
            return ""  # an incoming webhook can only post
        made = self._plan(notification, delivery)
        shown = None if isinstance(made, str) else Shown.unpack(result.state.get(place(made.channel)))
        if shown is None:
            return ""
        await self._client.remove(shown)
        return "deleted"

    def _plan(self, what: What, delivery: Delivery) -> Plan | str:
        if isinstance(what, Artifact):
            return self._plan_approval(what, delivery)
        if isinstance(what, Notification) and what.type not in self.manifest.notifications:
            known = ", ".join(self.manifest.notifications)
            raise Rejected(f"slack sends no notification {what.type!r}; it sends: {known}")
        if isinstance(what, Event) and what.topic.startswith(("slack.", "approval.")):
            return f"{what.topic} is answered, or changes a message, and both can be done again"
        return plan(what, delivery, self.config)

    async def _bring(self, made: Plan | str, delivery: Delivery) -> DeliveryResult:
        if isinstance(made, str):
            return DeliveryResult.skipped(made)
        if made.done and made.root:
            return await self._result(Outcome.DUPLICATE, made, delivery, made.root, "an earlier attempt did it")
        shown = await self._client.bring(made)
        if shown is None:
            return DeliveryResult.delivered(detail=f"posted to {made.channel}")
        changed = made.root is not None and shown.ts == made.root.ts
        detail = f"{'changed' if made.changes else 'replied to'} the message" if changed else "posted"
        return await self._result(Outcome.DELIVERED, made, delivery, shown, f"{detail} in {made.channel}")

    def _plan_approval(self, artifact: Artifact, delivery: Delivery) -> Plan:
        if artifact.type not in self.manifest.artifacts:
            raise Rejected(f"slack makes no artifact {artifact.type!r}; it makes: {', '.join(self.manifest.artifacts)}")
        config = self.config
        if config.bot_token is None or (config.signing_secret is None and config.app_token is None):
            raise Misconfigured("an approval needs bot_token, and signing_secret or app_token to hear its buttons")
        what, mark = _approval(artifact), key_mark(delivery.key)
        asked = Asked(id=mark, what=what, expires_at=datetime.now(UTC) + what.expires_in)
        return Plan(what.channel or config.default_channel, render.approval_message(asked, [], "open"), mark)

    async def _find_approval(self, made: Plan, delivery: Delivery) -> DeliveryResult | None:
        asked = await self._approvals.get(made.mark)
        if asked is None:
            return None  # it is remembered before it is posted
        shown = await self._client.find(made, asked.expires_at - asked.what.expires_in - LOOK_BACK)
        return None if shown is None else await self._posted(asked, shown, delivery, Outcome.DUPLICATE)

    async def _posted(self, asked: Asked, shown: Shown | None, delivery: Delivery, outcome: Outcome) -> DeliveryResult:
        assert shown is not None, "an approval is posted with a token"
        await self._approvals.posted(asked, shown.channel, shown.ts)
        # The messages of the thread stay known; an approval is none that the thread's next event may change.
        state = dict(delivery.earlier.state) if delivery.earlier else {}
        url, detail = await self._client.link(shown), f"asked, until {asked.expires_at:%F %T} UTC"
        return DeliveryResult(outcome, shown.ts, url, detail, state=state)

    async def _result(
        self, outcome: Outcome, made: Plan, delivery: Delivery, shown: Shown, detail: str
    ) -> DeliveryResult:
        url = await self._client.link(shown)
        return DeliveryResult(outcome, shown.ts, url, detail, state=state_after(made, delivery, shown))

    async def _show(self, event: Event[Any]) -> DeliveryResult:
        """Bring the message of an approval up to date; what ended it is noted first."""
        asked = await self._approvals.get(getattr(event.data, "approval_id", ""))
        if asked is None:
            return DeliveryResult.skipped("this account did not ask for this approval")
        votes, word = await self._approvals.votes(asked.id), event.topic.rpartition(".")[2]
        stands = standing(asked, votes, event.time)
        if isinstance(event.data, ApprovalDue):
            done = stands in ("granted", "rejected") or bool(asked.ended)
            return DeliveryResult.skipped(f"{stands} already") if done else DeliveryResult.delivered(detail="it is due")
        if isinstance(event.data, ApprovalGranted | ApprovalRejected | ApprovalExpired):
            stands, votes = ENDS[word], list(event.data.votes)
            asked = asked.model_copy(update={"ended": stands})
            await self._approvals.keep(asked)
        elif stands != "open":
            return DeliveryResult.skipped(f"{stands} already")
        posted = await self._approvals.place(asked.id)
        if posted is None:
            raise NotReady("the message that asked for it is not noted yet")
        changed = await self._client.change(posted.channel, posted.ts, render.approval_message(asked, votes, stands))
        return DeliveryResult.delivered(posted.ts, detail=stands if changed else f"{stands}; its message is gone")

    async def _explain(self, event: Event[Any]) -> DeliveryResult:
        """Tell somebody why a click on an approval did not count."""
        pressed = event.data
        if not isinstance(pressed, SlackAction) or not pressed.response_url or not pressed.value:
            return DeliveryResult.skipped("the click came without a response URL")
        asked, votes = await self._approvals.get(pressed.value), await self._approvals.votes(pressed.value)
        message = render.no_vote_message(asked, votes, pressed.user_id or "", event.time)
        await self._client.answer(pressed.response_url, message)
        return DeliveryResult.delivered(detail=message.text)

    async def _resolve(self, event: Event[Any]) -> DeliveryResult:
        """Let somebody say what became of a call in doubt; the list they pressed in shows who did."""
        pressed, doubts = event.data, self.context.doubts
        made = decision(pressed) if isinstance(pressed, SlackAction) else None
        if made is None or doubts is None or not pressed.response_url:
            return DeliveryResult.skipped("the click does not say what of, by whom, or where to answer")
        if made.by not in self.config.operators:
            await self._client.answer(pressed.response_url, Message(NOT_YOURS, (blocks.text(NOT_YOURS),)))
            return DeliveryResult.delivered(detail=NOT_YOURS)
        said = await doubts.resolve(made.doubt_id, made.event_id, made.how, made.by)
        message = render.doubts_message(*await doubts.newest(render.MOST_DOUBTS), made.group, said)
        await self._client.answer(pressed.response_url, message, replaces=True)
        return DeliveryResult.delivered(detail=f"{made.doubt_id} is {said.how}" if said else "nothing was in doubt")

    async def _answer(self, event: Event[Any]) -> DeliveryResult:
        name, url = event.topic.rpartition(".")[2], getattr(event.data, "response_url", None)
        if name == "status":
            message = render.status_message(await self.context.components())
        elif name == "vm-list":
            message = render.vm_list_message(await vms.known(self.context.store))
        elif name == "unknown" and self.context.doubts is not None:
            message = render.doubts_message(*await self.context.doubts.newest(render.MOST_DOUBTS))
        else:
            return DeliveryResult.skipped(f"{name} is no command that is answered here")
        if not url:
            return DeliveryResult.skipped("the command came without a response URL")
        await self._client.answer(url, message)
        return DeliveryResult.delivered(detail=f"answered {name}")


def _approval(artifact: Artifact) -> Approval:
    try:
        return Approval.model_validate(artifact.content)
    except ValidationError as error:
        raise Rejected(f"approval: {explain(error)}") from None


def _preview(doing: str, request: str, body: dict[str, Any]) -> Preview:
    return Preview(doing, request, to_json(body, indent=2).decode())

"""What Slack sends us, to events: verify the raw bytes, parse strictly, let slack-bolt dispatch, answer at once.

One address takes slash commands, buttons and the Events API. Nothing here calls anybody, and only a vote reads and
writes the store, so the 3 seconds that Slack waits (docs.slack.dev, Slash commands; Events API) are not spent.
Publishing is the gateway's business, and so is the memory of what was published before: every event has an idempotency
key that Slack's repeats share.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_core import from_json
from slack_bolt.async_app import AsyncApp, AsyncBoltRequest
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.context.ack.async_ack import AsyncAck
from slack_bolt.error import BoltUnhandledRequestError
from slack_bolt.response import BoltResponse
from slack_sdk.web.async_client import AsyncWebClient

from eventbus.catalog import catalog, explain
from eventbus.errors import InvalidEvent
from eventbus.event import Event
from eventbus.topics import SlackAction, SlackAppMention, SlackChannelMessage, SlackCommand
from integrations.base import InboundReply, InboundRequest
from integrations.errors import Malformed, Refusal, Unauthorized
from integrations.signing import verify_slack
from integrations.slack import commands
from integrations.slack.approvals import APPROVAL_BLOCK, KEPT, Approvals, Decision
from integrations.slack.client import quiet
from integrations.slack.doubts import is_decision, value_of

REPLAYED = 409
NEW_MESSAGES = (None, "bot_message", "file_share", "me_message", "thread_broadcast")
"""Subtypes of a message that somebody wrote; the others tell of edits, joins and topics (message event reference)."""

_WRONG_SHAPE = (AttributeError, IndexError, InvalidEvent, KeyError, TypeError, ValueError)

Id = Annotated[str, Field(min_length=1, max_length=200)]


class _Command(BaseModel):
    """docs.slack.dev, Slash commands, "Preparing your app to receive commands"."""

    command: Id
    text: str = ""
    trigger_id: Id
    team_id: str | None = None
    channel_id: str | None = None
    user_id: str | None = None
    response_url: str | None = None


class _Named(BaseModel):
    id: str | None = None


class _Pressed(BaseModel):
    action_id: Id
    block_id: str | None = None
    action_ts: str | None = None
    value: str | None = None


class _Container(BaseModel):
    message_ts: str | None = None


class _Actions(BaseModel):
    """docs.slack.dev, block_actions payload."""

    trigger_id: Id | None = None
    response_url: str | None = None
    team: _Named | None = None
    channel: _Named | None = None
    user: _Named | None = None
    container: _Container | None = None
    actions: Annotated[list[_Pressed], Field(min_length=1, max_length=25)]


class _BotProfile(BaseModel):
    app_id: str | None = None


class _Message(BaseModel):
    channel: str | None = None
    channel_type: str | None = None
    user: str | None = None
    text: str | None = None
    ts: str | None = None
    thread_ts: str | None = None
    subtype: str | None = None
    app_id: str | None = None
    bot_profile: _BotProfile | None = None


class _Authorization(BaseModel):
    user_id: str | None = None
    is_bot: bool | None = None


class _Callback(BaseModel):
    """docs.slack.dev, Events API, "Callback field overview"."""

    event_id: Id
    event_time: Annotated[int, Field(ge=0, le=1 << 33)] | None = None
    team_id: str | None = None
    api_app_id: str | None = None
    authorizations: list[_Authorization] | None = None
    event: _Message

    def is_ours(self) -> bool:
        """True when our own app wrote the message: it must not set itself going."""
        app = self.event.app_id or (self.event.bot_profile.app_id if self.event.bot_profile else None)
        us = [a.user_id for a in self.authorizations or [] if a.is_bot and a.user_id]
        return (app is not None and app == self.api_app_id) or self.event.user in us


@dataclass(slots=True)
class _Visit:
    """One request on its way through bolt, and what its listener makes of it."""

    at: float
    events: list[Event[Any]] = field(default_factory=list)
    replay_status: int | None = None
    remember: timedelta = timedelta(days=1)
    failure: Exception | None = None


class Inbox:
    """The inbound side of one account."""

    def __init__(
        self, signing_secret: SecretStr | None, prefix: str, approvals: Approvals, operators: Collection[str] = ()
    ) -> None:
        self._secret = signing_secret
        self._prefix = prefix
        self._operators = operators
        self._approvals = approvals
        self._app = _bolt(self)

    async def receive(self, request: InboundRequest) -> InboundReply:
        """Verify, parse and dispatch. Raises a Refusal."""
        if self._secret is None:
            raise Unauthorized("signature mismatch", reason="signing_secret is not set, so nothing can be verified")
        stamp, signature = (request.headers.get(f"x-slack-{name}") for name in ("request-timestamp", "signature"))
        verify_slack(request.body, stamp, signature, [self._secret], now=request.received_at)
        try:
            body = parse(request.headers.get("content-type", ""), request.body)
        except _WRONG_SHAPE as error:
            raise Malformed("not a request of Slack's", reason=f"{type(error).__name__}: {error}") from None
        return await self.understand(body, request.received_at)

    async def understand(self, body: dict[str, Any], at: float) -> InboundReply:
        """What a request means that surely is Slack's, and came at this Unix second. Raises Malformed."""
        visit = _Visit(at)
        try:
            # Bolt gets the parsed body: its own parser takes a command that has the word "payload" for an empty one.
            bolt_request = AsyncBoltRequest(body=body, mode="socket_mode", context={"visit": visit})
            response = await self._app.async_dispatch(bolt_request)
            if visit.failure is not None:
                raise visit.failure
        except Refusal:
            raise
        except ValidationError as error:
            raise Malformed("not a request of Slack's", reason=explain(error)) from None
        except _WRONG_SHAPE as error:
            raise Malformed("not a request of Slack's", reason=f"{type(error).__name__}: {error}") from None
        return InboundReply(
            events=tuple(visit.events),
            status=response.status,
            headers=response.first_headers(),
            body=response.body.encode(),
            remember=visit.remember,
            replay_status=visit.replay_status,
        )

    async def on_command(self, visit: _Visit, body: dict[str, Any], ack: AsyncAck) -> None:
        """A slash command: answered to its asker, and published when it asks for something."""
        call = _Command.model_validate(body)
        known = SlackCommand.model_validate(call.model_dump(exclude={"trigger_id"}))
        reply = commands.answer(self._prefix, known, call.trigger_id, self._operators)
        if reply.payload is not None:
            self._publish(visit, reply.topic, reply.payload, call.trigger_id, call.team_id)
            visit.replay_status = REPLAYED
        await ack({"response_type": "ephemeral", "text": reply.text})

    async def on_action(self, visit: _Visit, body: dict[str, Any], ack: AsyncAck) -> None:
        """A pressed button. The event's topic ends with its action id, made fit for a topic."""
        pressed = _Actions.model_validate(body)
        team = pressed.team.id if pressed.team else None
        for number, action in enumerate(pressed.actions):
            key = pressed.trigger_id or action.action_ts
            if not key:
                raise Malformed("not a request of Slack's", reason="an action has neither trigger_id nor action_ts")
            payload = SlackAction(
                team_id=team,
                channel_id=pressed.channel.id if pressed.channel else None,
                user_id=pressed.user.id if pressed.user else None,
                action_id=action.action_id,
                value=_value(action),
                message_ts=pressed.container.message_ts if pressed.container else None,
                response_url=pressed.response_url,
            )
            if await self._is_vote(visit, action, payload):
                continue
            self._publish(visit, _topic(action), payload, f"{key}:{number}" if number else key, team)
        visit.replay_status = REPLAYED
        await ack()

    async def _is_vote(self, visit: _Visit, action: _Pressed, pressed: SlackAction) -> bool:
        """Take a click on the buttons of an approval; False where it does not count, or is another button."""
        if not _is_approval(action) or not pressed.value or not pressed.user_id:
            return False
        decision: Decision = "approve" if action.action_id == "approve" else "reject"
        at = datetime.fromtimestamp(visit.at, UTC)
        events, counted = await self._approvals.press(pressed.value, pressed.user_id, decision, at)
        visit.events += events
        visit.remember = KEPT
        return counted

    async def on_mention(self, visit: _Visit, body: dict[str, Any], ack: AsyncAck) -> None:
        """Somebody named the app."""
        called = _Callback.model_validate(body)
        if not called.is_ours():
            fields = {"text": called.event.text or "", "ts": called.event.ts, "thread_ts": called.event.thread_ts}
            self._publish_callback(visit, called, SlackAppMention.model_validate(fields | _where(called)))
        await ack()

    async def on_message(self, visit: _Visit, body: dict[str, Any], ack: AsyncAck) -> None:
        """A message; only those in public channels, newly written and not by us, are told."""
        called = _Callback.model_validate(body)
        event = called.event
        if event.channel_type == "channel" and event.subtype in NEW_MESSAGES and not called.is_ours():
            fields = {"text": event.text or "", "ts": event.ts, "thread_ts": event.thread_ts, "subtype": event.subtype}
            self._publish_callback(visit, called, SlackChannelMessage.model_validate(fields | _where(called)))
        await ack()

    def _publish_callback(
        self, visit: _Visit, called: _Callback, payload: SlackAppMention | SlackChannelMessage
    ) -> None:
        # The same event_id on every retry (docs.slack.dev, Events API, "Retries").
        visit.at = called.event_time or visit.at
        self._publish(visit, type(payload).__topic__, payload, called.event_id, called.team_id)

    def _publish(self, visit: _Visit, topic: str, payload: Any, key: str, team: str | None) -> None:
        visit.events.append(
            catalog.event(
                topic,
                payload,
                source=f"/slack/{team or '-'}",
                time=datetime.fromtimestamp(visit.at, UTC),
                idempotency_key=f"slack:{key}",
            )
        )


def parse(content_type: str, body: bytes) -> dict[str, Any]:
    """The body as an object: JSON, a form, or the JSON in a form's field `payload`. Raises ValueError or TypeError."""
    kind = content_type.partition(";")[0].strip().lower()
    text = body.decode()
    if kind == "application/x-www-form-urlencoded":
        form = dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100))
        if "payload" not in form:
            return form
        text = form["payload"]
    elif kind != "application/json":
        raise ValueError(f"content type {kind[:80]!r} is none that Slack sends")
    found = from_json(text, allow_inf_nan=False)
    if not isinstance(found, dict):
        raise TypeError("the JSON is not an object")
    return found


def slug(action_id: str) -> str:
    """An action id as the last segment of a topic: `Approve PR!` becomes `approve-pr`."""
    return re.sub(r"[^a-z0-9_-]+", "-", action_id.lower())[:100].strip("-") or "other"


def _is_approval(action: _Pressed) -> bool:
    return (action.block_id or "").startswith(APPROVAL_BLOCK) and action.action_id in ("approve", "reject")


def _topic(action: _Pressed) -> str:
    """Of a button that an approval or a call in doubt has: named by that, whatever the button is called."""
    if _is_approval(action):
        return "slack.action.approval"
    return "slack.action.unknown" if _is_decision(action) else f"slack.action.{slug(action.action_id)}"


def _value(action: _Pressed) -> str | None:
    """What it is about: the approval, the call in doubt, or what the button holds."""
    if _is_approval(action):
        return (action.block_id or "").removeprefix(APPROVAL_BLOCK)
    return value_of(action.block_id or "", action.value or "") if _is_decision(action) else action.value


def _is_decision(action: _Pressed) -> bool:
    return is_decision(action.block_id or "", action.action_id)


def _where(called: _Callback) -> dict[str, str | None]:
    return {"team_id": called.team_id, "channel_id": called.event.channel, "user_id": called.event.user}


def _bolt(inbox: Inbox) -> AsyncApp:
    """A bolt app that only dispatches.

    Its own verification is off because ours ran on the raw bytes; its ignoring of our own messages because it calls
    auth.test first; and its ssl_check because it reads an environment variable.
    """
    app = AsyncApp(
        name="eventbus",
        logger=quiet,
        signing_secret="",
        client=AsyncWebClient(logger=quiet, retry_handlers=[]),
        authorize=_authorize,
        process_before_response=True,
        raise_error_for_unhandled_request=True,
        request_verification_enabled=False,
        ignoring_self_events_enabled=False,
        ssl_check_enabled=False,
        attaching_function_token_enabled=False,
        attaching_conversation_kwargs_enabled=False,
    )
    app.error(_keep)
    app.command(re.compile(""))(inbox.on_command)
    app.action({"type": "block_actions", "action_id": re.compile("")})(inbox.on_action)
    app.event("app_mention")(inbox.on_mention)
    app.event("message")(inbox.on_message)
    return app


async def _authorize(enterprise_id: str | None, team_id: str | None) -> AuthorizeResult:
    return AuthorizeResult(enterprise_id=enterprise_id, team_id=team_id)


async def _keep(error: Exception, visit: _Visit) -> BoltResponse:
    """Hand a listener's failure back to `receive`. What no listener wants is acknowledged: Slack may send new kinds."""
    if not isinstance(error, BoltUnhandledRequestError):
        visit.failure = error
    return BoltResponse(status=200)

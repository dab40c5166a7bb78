"""Slack itself, on a port of this machine: the methods we call, response URLs, one incoming webhook.

It keeps Slack's rules (quoted from docs.slack.dev beside each) and signs what it sends us, so that a demo or a test
can post slash commands, button clicks and events to a real gateway.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from aiohttp import web
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from integrations.base import InboundRequest
from integrations.signing import sign_slack
from integrations.testing.fake import FakeService, Fault

TEAM, APP, BOT_USER = "T0FAKE000", "A0FAKE000", "U0FAKEBOT"
FORM = "application/x-www-form-urlencoded"
MAX_TOTAL = 13_200


@dataclass(slots=True)
class Posted:
    """A message that exists here. A direct message has the conversation's id (D...) as its channel."""

    channel: str
    text: str
    blocks: list[dict[str, Any]]
    metadata: dict[str, Any]
    ts: str
    thread_ts: str = ""
    broadcast: bool = False


@dataclass(slots=True)
class Answered:
    """What was posted to a response URL. `replaces`: in place of the message that was clicked in."""

    url: str
    text: str
    blocks: list[dict[str, Any]]
    response_type: str
    replaces: bool = False


@dataclass(slots=True)
class _Hook:
    made: float = field(default_factory=time.time)
    used: int = 0


class Signed(NamedTuple):
    """A request of Slack's, ready to be posted: `httpx.post(url, headers=..., content=...)`."""

    headers: dict[str, str]
    body: bytes

    def inbound(self) -> InboundRequest:
        """The same request as an adapter's `receive` takes it, arriving at the time it was signed."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        return InboundRequest(headers, self.body, float(headers["x-slack-request-timestamp"]))


class Socket:
    """The other end of Socket Mode (docs.slack.dev, Using Socket Mode), on a port of its own.

    acknowledged  every acknowledgement, in order
    """

    def __init__(self, fake: FakeSlack) -> None:
        self._fake = fake
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._tickets: set[str] = set()
        self._links: list[web.WebSocketResponse] = []
        self._numbers = itertools.count(1)
        self.acknowledged: list[dict[str, Any]] = []
        self.connected = asyncio.Event()

    async def open(self) -> str:
        """A URL "that can only be used once"."""
        if self._runner is None:
            app = web.Application()
            app.router.add_get("/link/{ticket}", self._link)
            self._runner = web.AppRunner(app, access_log=None)
            await self._runner.setup()
            site = web.TCPSite(self._runner, "127.0.0.1", 0)
            await site.start()
            self._port = self._runner.addresses[0][1]
        ticket = f"fake-ticket-secret-{next(self._numbers)}"
        self._tickets.add(ticket)
        return f"ws://127.0.0.1:{self._port}/link/{ticket}"

    async def send(self, signed: Signed, *, again: str = "") -> str:
        """What would have been posted to our address, as an envelope; its id. `again`: the id of one to repeat."""
        payload = _payload(signed)
        kind = {"block_actions": "interactive", "event_callback": "events_api"}
        id_ = again or f"envelope-{next(self._numbers)}"
        envelope = {"envelope_id": id_, "type": kind.get(payload.get("type", ""), "slash_commands")}
        answers = envelope["type"] == "slash_commands"
        await self._links[-1].send_json(envelope | {"payload": payload, "accepts_response_payload": answers})
        return id_

    async def say(self, text: str) -> None:
        """Any text to the newest connection."""
        await self._links[-1].send_str(text)

    async def disconnect(self) -> None:
        """ "Your app may receive a disconnect message ... reason: refresh_requested"."""
        await self.say(json.dumps({"type": "disconnect", "reason": "refresh_requested"}))

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _link(self, request: web.Request) -> web.StreamResponse:
        ticket = request.match_info["ticket"]
        if ticket not in self._tickets:
            raise web.HTTPForbidden
        self._tickets.discard(ticket)
        link = web.WebSocketResponse()
        await link.prepare(request)
        self._links.append(link)
        await link.send_json({"type": "hello", "num_connections": 1, "connection_info": {"app_id": APP}})
        self.connected.set()
        async for message in link:
            self.acknowledged.append(json.loads(message.data))
        return link


def _payload(signed: Signed) -> dict[str, Any]:
    if signed.headers["Content-Type"] != FORM:
        return dict(json.loads(signed.body))
    form = dict(parse_qsl(signed.body.decode(), keep_blank_values=True))
    return dict(json.loads(form["payload"])) if "payload" in form else dict(form)


class FakeSlack(FakeService):
    """A workspace with a few channels and people.

    channels     name to id
    people       ids that a direct message can be opened with
    scopes       what the token may do; take one away, and the methods that need it answer missing_scope
    not_in       ids of channels that the app was not invited to
    frozen       messages (ts) that the workspace's settings no longer let anybody edit
    page         the most messages that one answer of conversations.history holds
    rate_limit   True: one message a second and channel, 429 beyond it
    messages     every message, in order; `responses`: every answer to a command, in order
    """

    def __init__(
        self,
        *,
        port: int = 0,
        channels: Mapping[str, str] | None = None,
        people: Sequence[str] = ("U0ADA", "U0BOB"),
        rate_limit: bool = False,
        token: str = "xoxb-fake-token",  # noqa: S107  # a stand-in's secrets guard nothing
        signing_secret: str = "fake-signing-secret",  # noqa: S107
    ) -> None:
        super().__init__(port=port)
        self.channels = dict(channels or {"general": "C0GENERAL", "deployments": "C0DEPLOYS", "vms": "C0VMS"})
        self.archived: set[str] = set()
        self.not_in: set[str] = set()
        self.scopes = {"chat:write", "im:write", "channels:read", "groups:read"}
        self.scopes |= {"channels:history", "groups:history", "im:history"}
        self.frozen: set[str] = set()
        self.page = 100
        self.people = set(people)
        self.rate_limit = rate_limit
        self.token = token
        self.signing_secret = signing_secret
        self.app_token = "xapp-fake-token"  # noqa: S105
        self.socket = Socket(self)
        self.messages: list[Posted] = []
        self.responses: list[Answered] = []
        self._log: list[str] = []
        self._hooks: dict[str, _Hook] = {}
        self._last: dict[str, float] = {}
        self._numbers = itertools.count(1)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.socket.close()
        await super().__aexit__(kind, error, trace)

    # -- what the tests and the demo ask ---------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """The smallest config that points here."""
        return {"bot_token": self.token, "signing_secret": self.signing_secret, "base_url": f"{self.url}/api"}

    def webhook_settings(self) -> dict[str, Any]:
        """The smallest config of the other transport."""
        return {"webhook_url": self.webhook_url, "base_url": f"{self.url}/api"}

    def socket_settings(self) -> dict[str, Any]:
        """The smallest config of Socket Mode."""
        return {"bot_token": self.token, "app_token": self.app_token, "base_url": f"{self.url}/api"}

    @property
    def webhook_url(self) -> str:
        """The incoming webhook of #deployments."""
        return f"{self.url}/services/{TEAM}/B0FAKE000/fake-webhook-secret"

    def effects(self) -> list[str]:
        """Every message and every answer to a command, in order."""
        return list(self._log)

    def refuse(self, error: str, **more: Any) -> None:
        """Answer the next call with this error, as Slack does: HTTP 200 and ok:false."""
        body = json.dumps({"ok": False, "error": error, **more})
        self._faults.append(Fault(status=200, body=body, headers={"content-type": "application/json"}))

    def pass_on(self, requests: int) -> None:
        """Serve the next so many requests well, before a fault that is planned after this."""
        self._faults.extend([Fault()] * requests)

    # -- what Slack sends to us ------------------------------------------------------------------------------------

    def slash_command(
        self, command: str, text: str = "", *, user: str = "U0ADA", channel: str = "general", **fields: str
    ) -> Signed:
        """Somebody types a command. Fields: docs.slack.dev, Slash commands."""
        form = {
            "token": "deprecated",
            "team_id": TEAM,
            "team_domain": "fake",
            "channel_id": self.channels[channel],
            "channel_name": channel,
            "user_id": user,
            "user_name": user.lower(),
            "command": command,
            "text": text,
            "api_app_id": APP,
            "is_enterprise_install": "false",
            "response_url": self._new_hook(),
            "trigger_id": self._new_trigger(),
        }
        return self.sign(urlencode(form | fields).encode(), FORM)

    def button_click(
        self, action_id: str, value: str = "", *, user: str = "U0ADA", channel: str = "general", **fields: Any
    ) -> Signed:
        """Somebody presses a button. Fields: docs.slack.dev, block_actions payload."""
        action = {"type": "button", "block_id": "b1", "action_id": action_id, "value": value}
        payload = {
            "type": "block_actions",
            "team": {"id": TEAM, "domain": "fake"},
            "user": {"id": user, "username": user.lower(), "team_id": TEAM},
            "api_app_id": APP,
            "container": {"type": "message", "message_ts": self._new_ts(), "channel_id": self.channels[channel]},
            "channel": {"id": self.channels[channel], "name": channel},
            "trigger_id": self._new_trigger(),
            "response_url": self._new_hook(),
            "actions": [action | {"action_ts": self._new_ts()}],
        }
        return self.interaction(payload | fields)

    def press(self, message: Posted, action_id: str, *, user: str = "U0ADA") -> Signed:
        """Somebody presses this button of a message. Raises ValueError when the message has none such."""
        for block in message.blocks:
            for button in block.get("elements", []):
                if button.get("action_id") == action_id:
                    pressed = {k: button[k] for k in ("type", "action_id", "value") if k in button}
                    pressed |= {"block_id": block.get("block_id", "b1"), "action_ts": self._new_ts()}
                    container = {"type": "message", "message_ts": message.ts, "channel_id": message.channel}
                    return self.button_click(action_id, user=user, actions=[pressed], container=container)
        raise ValueError(f"the message has no button {action_id}")

    def interaction(self, payload: Mapping[str, Any]) -> Signed:
        """Any interactive payload: JSON in the form field `payload`."""
        return self.sign(urlencode({"payload": json.dumps(payload)}).encode(), FORM)

    def event_callback(self, event: Mapping[str, Any], *, retry: int = 0, **fields: Any) -> Signed:
        """An event of the Events API, such as {"type": "app_mention", "text": "..."}.

        A repeat keeps the event_id and has `X-Slack-Retry-Num` (docs.slack.dev, Events API, "Retries"): give both.
        """
        number = next(self._numbers)
        inner = {"channel": self.channels["general"], "user": "U0ADA", "ts": self._new_ts()} | dict(event)
        body = {
            "token": "deprecated",
            "type": "event_callback",
            "team_id": TEAM,
            "api_app_id": APP,
            "event_id": f"Ev{number:09d}",
            "event_time": int(time.time()),
            "authorizations": [{"team_id": TEAM, "user_id": BOT_USER, "is_bot": True}],
            "event": inner,
        }
        headers = {"X-Slack-Retry-Num": str(retry), "X-Slack-Retry-Reason": "http_timeout"} if retry else {}
        return self.sign(json.dumps(body | fields).encode(), "application/json", headers=headers)

    def url_verification(self, challenge: str = "3eZbrw1aB10KPUOpIQz1") -> Signed:
        """What Slack sends when the address is entered for event subscriptions."""
        body = {"token": "deprecated", "challenge": challenge, "type": "url_verification"}
        return self.sign(json.dumps(body).encode(), "application/json")

    def sign(
        self, body: bytes, content_type: str, *, at: int | None = None, headers: Mapping[str, str] | None = None
    ) -> Signed:
        """Any bytes, signed now or at the given Unix second (docs.slack.dev, Verifying requests from Slack)."""
        stamp = int(time.time()) if at is None else at
        signature = sign_slack(stamp, body, SecretStr(self.signing_secret))
        own = {"X-Slack-Request-Timestamp": str(stamp), "X-Slack-Signature": signature, "Content-Type": content_type}
        return Signed(own | dict(headers or {}), body)

    # -- what Slack answers ----------------------------------------------------------------------------------------

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/api/apps.connections.open", self._open_socket, methods=["POST"]),
            Route("/api/auth.test", self._auth_test, methods=["GET", "POST"]),
            Route("/api/chat.postMessage", self._post_message, methods=["POST"]),
            Route("/api/chat.update", self._update, methods=["POST"]),
            Route("/api/chat.delete", self._delete, methods=["POST"]),
            Route("/api/conversations.info", self._info, methods=["POST"]),
            Route("/api/conversations.open", self._open, methods=["POST"]),
            Route("/api/conversations.list", self._list, methods=["POST"]),
            Route("/api/conversations.history", self._history, methods=["POST"]),
            Route("/api/conversations.replies", self._replies, methods=["POST"]),
            Route("/commands/{path:path}", self._respond, methods=["POST"]),
            Route("/services/{path:path}", self._incoming_webhook, methods=["POST"]),
        ]

    async def _auth_test(self, request: Request) -> Response:
        error = self._unauthorized(request)
        answer = _ok(url=f"{self.url}/", team="Fake Team", user="eventbus", team_id=TEAM, user_id=BOT_USER)
        # Web API, "Authentication", OAuth scopes: X-OAuth-Scopes of each answer lists what the token was granted.
        answer.headers["X-OAuth-Scopes"] = ",".join(sorted(self.scopes))
        return error or answer

    async def _open_socket(self, request: Request) -> Response:
        """apps.connections.open: "Generate a temporary Socket Mode WebSocket URL"; an app-level token, no other."""
        if self.reject_credentials or request.headers.get("authorization") != f"Bearer {self.app_token}":
            return _error("invalid_auth")
        return _ok(url=await self.socket.open())

    async def _post_message(self, request: Request) -> Response:
        if error := self._unauthorized(request, "chat:write"):
            return error
        body = await _arguments(request)
        channel = self._channel(str(body.get("channel", "")))
        # chat.postMessage, errors: "channel_not_found: Value passed for `channel` was invalid."
        if channel is None:
            return _error("channel_not_found")
        # "is_archived: Channel has been archived."
        if channel in self.archived:
            return _error("is_archived")
        # "not_in_channel: Cannot post user messages to a channel they are not in."
        if channel in self.not_in:
            return _error("not_in_channel")
        if refused := _check(body):
            return refused
        # "cannot_reply_to_message: This message type cannot have thread replies."
        thread = str(body.get("thread_ts", ""))
        if thread and not any(m.ts == thread and m.channel == channel for m in self.messages):
            return _error("cannot_reply_to_message")
        # Rate limits: "chat.postMessage generally allows posting one message per second per channel";
        # "HTTP 429 Too Many Requests" with a Retry-After header in seconds.
        if self.rate_limit and time.monotonic() - self._last.get(channel, 0.0) < 1:
            return JSONResponse({"ok": False, "error": "ratelimited"}, 429, headers={"Retry-After": "1"})
        self._last[channel] = time.monotonic()
        posted = self._add(channel, body)
        return _ok(channel=channel, ts=posted.ts, message={"text": posted.text, "ts": posted.ts, "user": BOT_USER})

    async def _update(self, request: Request) -> Response:
        if error := self._unauthorized(request, "chat:write"):
            return error
        body = await _arguments(request)
        # Arguments: "Channel containing the message to be updated. For direct messages, ensure that this value is a DM
        # ID (starts with D)"; a name is not taken.
        if not self._is_id(str(body.get("channel", ""))):
            return _error("channel_not_found")
        found = [m for m in self.messages if m.ts == body.get("ts") and m.channel == body.get("channel")]
        # chat.update, errors: "message_not_found: No message exists with the requested timestamp."
        if not found:
            return _error("message_not_found")
        # "edit_window_closed: The message cannot be edited due to the team message edit settings"
        if found[0].ts in self.frozen:
            return _error("edit_window_closed")
        if refused := _check(body):
            return refused
        found[0].text, found[0].blocks = str(body.get("text", "")), list(body.get("blocks", []))
        found[0].metadata = body.get("metadata", found[0].metadata)
        self._log.append(f"{found[0].channel}: changed to {found[0].text}")
        return _ok(channel=found[0].channel, ts=found[0].ts, text=found[0].text)

    async def _delete(self, request: Request) -> Response:
        """chat.delete: "When used with a bot token, may delete only messages posted by that bot"; scope chat:write."""
        if error := self._unauthorized(request, "chat:write"):
            return error
        body = await _arguments(request)
        found = [m for m in self.messages if m.ts == body.get("ts") and m.channel == body.get("channel")]
        if not found:
            return _error("message_not_found")  # "No message exists with the requested timestamp."
        self.messages.remove(found[0])
        self._log.append(f"{found[0].channel}: deleted {found[0].text}")
        return _ok(channel=found[0].channel, ts=found[0].ts)

    async def _info(self, request: Request) -> Response:
        """conversations.info: "Retrieve information about a conversation"; `is_member` is about the calling app."""
        if error := self._unauthorized(request, "channels:read"):
            return error
        wanted = str((await _arguments(request)).get("channel", ""))
        for name, id_ in self.channels.items():
            if id_ == wanted:
                is_member = id_ not in self.not_in
                channel = {"id": id_, "name": name, "is_archived": id_ in self.archived, "is_member": is_member}
                return _ok(channel=channel)
        return _error("channel_not_found")

    async def _open(self, request: Request) -> Response:
        """conversations.open: "Opens or resumes a direct message or multi-person direct message"."""
        if error := self._unauthorized(request):
            return error
        user = str((await _arguments(request)).get("users", ""))
        if user not in self.people:
            return _error("user_not_found")
        return _ok(channel={"id": f"D{user[1:]}"})

    async def _list(self, request: Request) -> Response:
        """conversations.list: "Lists all channels in a Slack team", page by page."""
        if error := self._unauthorized(request, "channels:read"):
            return error
        named = [{"id": id_, "name": name} for name, id_ in self.channels.items()]
        return self._paged("channels", named, await _arguments(request))

    async def _history(self, request: Request) -> Response:
        """conversations.history: "Fetches a conversation's history of messages and events", the newest first.

        Replies are not part of it, unless they were also sent to the channel.
        """
        body = await _arguments(request)
        channel = str(body.get("channel", ""))
        if error := self._unauthorized(request, "im:history" if channel.startswith("D") else "channels:history"):
            return error
        if not self._is_id(channel):
            return _error("channel_not_found")  # `channel`: "Conversation ID to fetch history for"
        oldest = float(body.get("oldest", 0))  # "Only messages after this Unix timestamp will be included in results"
        own = [m for m in self.messages if m.channel == channel and (not m.thread_ts or m.broadcast)]
        shown = [_told(m, body) for m in reversed(own) if float(m.ts) > oldest]
        return self._paged("messages", shown, body)

    async def _replies(self, request: Request) -> Response:
        """conversations.replies: "Retrieve a thread of messages posted to a conversation", its first message first."""
        if error := self._unauthorized(request, "channels:history"):
            return error
        body = await _arguments(request)
        thread = [m for m in self.messages if m.channel == body.get("channel") and body["ts"] in (m.ts, m.thread_ts)]
        # "thread_not_found: Value for ts was missing or invalid."
        return self._paged("messages", [_told(m, body) for m in thread], body) if thread else _error("thread_not_found")

    def _paged(self, name: str, items: Sequence[Mapping[str, Any]], body: Mapping[str, Any]) -> Response:
        """Pagination: "limit ... The API may return fewer than the specified limit"; "an empty, null, or non-existent
        next_cursor in the response indicates no further results"."""
        start = int(str(body.get("cursor") or "c0")[1:])
        end = start + min(self.page, int(body.get("limit", 100)))
        cursor = f"c{end}" if end < len(items) else ""
        return _ok(**{name: items[start:end]}, response_metadata={"next_cursor": cursor})

    async def _respond(self, request: Request) -> Response:
        """docs.slack.dev, Handling user interaction: a response URL is good for "5 times within 30 minutes"."""
        hook = self._hooks.get(request.url.path)
        if hook is None or time.time() - hook.made > 30 * 60:
            return JSONResponse({"ok": False, "error": "expired_url"}, 404)
        if hook.used >= 5:
            return JSONResponse({"ok": False, "error": "used_url"}, 404)
        body = json.loads(await request.body())
        if refused := refusal(body):
            return JSONResponse({"ok": False, "error": refused[0]}, 400)
        hook.used += 1
        url = f"{self.url}{request.url.path}"
        # Modifying messages, of a response_url: "It can also be used to update the original interactive message,
        # regardless of whether it was an ephemeral message or not", with replace_original.
        kind, replaces = body.get("response_type", "ephemeral"), bool(body.get("replace_original"))
        answered = Answered(url, body.get("text", ""), body.get("blocks", []), kind, replaces)
        self.responses.append(answered)
        self._log.append(f"answer: {answered.text}")
        return PlainTextResponse("ok")

    async def _incoming_webhook(self, request: Request) -> Response:
        """docs.slack.dev, Sending messages using incoming webhooks, "Handling errors": the error is plain text."""
        # "no_service: ... the webhook is either disabled, removed, or invalid"
        if self.reject_credentials or request.url.path != self.webhook_url.removeprefix(self.url):
            return PlainTextResponse("no_service", 404)
        try:
            body = json.loads(await request.body())
        except ValueError:
            return PlainTextResponse("invalid_payload", 400)
        channel = self.channels["deployments"]
        if channel in self.archived:
            return PlainTextResponse("channel_is_archived", 410)
        if refused := refusal(body):
            return PlainTextResponse(refused[0], 400)
        self._add(channel, body)
        return PlainTextResponse("ok")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _unauthorized(self, request: Request, scope: str = "") -> Response | None:
        # Web API, "Authentication": the token as a bearer token in the Authorization header.
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if self.reject_credentials:
            return _error("token_revoked")
        if scheme != "Bearer" or not token:
            return _error("not_authed")  # "No authentication token provided."
        if token != self.token:
            return _error("invalid_auth")  # "Some aspect of authentication cannot be validated."
        # "missing_scope: The token used is not granted the specific scope permissions required."
        if scope and scope not in self.scopes:
            body = {"ok": False, "error": "missing_scope", "needed": scope, "provided": ",".join(sorted(self.scopes))}
            return JSONResponse(body)
        return None

    def _is_id(self, given: str) -> bool:
        return given in self.channels.values() or (given.startswith("D") and f"U{given[1:]}" in self.people)

    def _channel(self, given: str) -> str | None:
        """A channel's id, from its id, its name or #name; an open direct message's as it is."""
        if self._is_id(given):
            return given
        return self.channels.get(given.removeprefix("#"))

    def _add(self, channel: str, body: Mapping[str, Any]) -> Posted:
        text, blocks, metadata = body.get("text", ""), body.get("blocks", []), body.get("metadata", {})
        thread, broadcast = str(body.get("thread_ts", "")), bool(body.get("reply_broadcast"))
        posted = Posted(channel, text, blocks, metadata, self._new_ts(), thread, broadcast)
        self.messages.append(posted)
        self._log.append(f"{channel}: {posted.text}")
        return posted

    def _new_ts(self) -> str:
        return f"{int(time.time())}.{next(self._numbers):06d}"

    def _new_trigger(self) -> str:
        return f"{next(self._numbers)}.738474920.8088930838d88f008e0"

    def _new_hook(self) -> str:
        path = f"/commands/{TEAM}/{next(self._numbers)}/fake-hook-secret"
        self._hooks[path] = _Hook()
        return f"{self.url}{path}"


def _ok(**fields: Any) -> Response:
    # Web API, "Evaluating responses": "a top-level boolean property ok, indicating success or failure".
    return JSONResponse({"ok": True, **fields})


def _error(code: str, messages: Sequence[str] = ()) -> Response:
    # ... and "for failure results, the error property will contain a short machine-readable error code", HTTP 200.
    body: dict[str, Any] = {"ok": False, "error": code}
    return JSONResponse(body | ({"response_metadata": {"messages": list(messages)}} if messages else {}))


def _told(message: Posted, body: Mapping[str, Any]) -> dict[str, Any]:
    """A message as history shows it; metadata only with include_all_metadata."""
    told = {"type": "message", "user": BOT_USER, "ts": message.ts, "text": message.text}
    return told | ({"metadata": message.metadata} if body.get("include_all_metadata") else {})


def _check(body: Mapping[str, Any]) -> Response | None:
    refused = refusal(body)
    return _error(*refused) if refused else None


async def _arguments(request: Request) -> dict[str, Any]:
    """Arguments come as a query, a form or JSON (Web API, "Post bodies")."""
    raw = await request.body()
    if request.headers.get("content-type", "").startswith("application/json"):
        return dict(json.loads(raw or b"{}"))
    return dict(request.query_params) | dict(parse_qsl(raw.decode()))


def refusal(body: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """The error that Slack gives a message, and which block breaks which rule."""
    text, blocks = body.get("text", ""), body.get("blocks", [])
    if not text and not blocks:
        return "no_text", []  # chat.postMessage, errors: "No message text provided"
    if len(text) > 40_000:
        return "msg_too_long", []  # chat.postMessage: 40,000 characters are the most that a text may have
    faults = _faults_of(blocks)
    if faults:
        return "invalid_blocks", [f"[ERROR] {fault}" for fault in faults]
    if sum(map(len, _texts(blocks))) > MAX_TOTAL:
        return "msg_blocks_too_long", []  # undocumented; measured in slackapi/bolt-js issue 2509
    return None


def _faults_of(blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Block Kit reference: what each kind of block allows."""
    faults = ["no more than 50 items allowed [json-pointer:/blocks]"] if len(blocks) > 50 else []
    for number, block in enumerate(blocks):
        at = f"[json-pointer:/blocks/{number}]"
        match block.get("type"):
            case "header":  # "Maximum length for the text in this field is 150 characters", plain_text only
                faults += _text_faults(block.get("text"), 150, at, kinds=("plain_text",))
            case "section":
                faults += _section_faults(block, at)
            case "context":  # "Maximum number of items is 10"
                elements = block.get("elements", [])
                faults += [] if 1 <= len(elements) <= 10 else [f"1 to 10 elements {at}"]
                faults += [fault for element in elements for fault in _text_faults(element, 3000, at)]
            case "actions":
                faults += _actions_faults(block, at)
            case "divider":
                pass
            case unknown:
                faults.append(f"unsupported type: {unknown} {at}")
    return faults


def _section_faults(block: Mapping[str, Any], at: str) -> list[str]:
    """Text of 1 to 3000 characters, or "maximum number of items is 10 ... in each item is 2000 characters"."""
    faults = [] if "text" not in block else _text_faults(block["text"], 3000, at)
    if "fields" in block:
        faults += [] if 1 <= len(block["fields"]) <= 10 else [f"1 to 10 fields {at}"]
        faults += [fault for item in block["fields"] for fault in _text_faults(item, 2000, at)]
    return faults if "text" in block or "fields" in block else [*faults, f"text or fields is required {at}"]


def _actions_faults(block: Mapping[str, Any], at: str) -> list[str]:
    """ "There is a maximum of 25 elements in each action block"; a button's text 75, value 2000, action_id 255."""
    elements = block.get("elements", [])
    faults = [] if 1 <= len(elements) <= 25 else [f"1 to 25 elements {at}"]
    ids = [element.get("action_id") for element in elements]
    faults += [] if len(set(ids)) == len(ids) else [f"action_id is given twice {at}"]
    for button in elements:
        faults += _text_faults(button.get("text"), 75, at, kinds=("plain_text",))
        faults += [] if len(button.get("value", "")) <= 2000 else [f"value must be less than 2001 characters {at}"]
        faults += [] if 1 <= len(button.get("action_id") or "") <= 255 else [f"action_id has 1 to 255 characters {at}"]
        faults += [] if button.get("style") in (None, "primary", "danger") else [f"style is primary or danger {at}"]
    return faults


def _text_faults(value: Any, limit: int, at: str, *, kinds: Sequence[str] = ("plain_text", "mrkdwn")) -> list[str]:
    if not isinstance(value, dict) or value.get("type") not in kinds:
        return [f"must provide a text object of type {' or '.join(kinds)} {at}"]
    # Text object reference: "The minimum length is 1"; `verbatim` and `emoji` each belong to one type.
    if not 1 <= len(value.get("text", "")) <= limit:
        return [f"must have 1 to {limit} characters {at}"]
    alien = "emoji" if value["type"] == "mrkdwn" else "verbatim"
    return [f"{alien} does not belong to {value['type']} {at}"] if alien in value else []


def _texts(value: Any) -> list[str]:
    """Every text in the blocks, however deep."""
    if isinstance(value, dict):
        own = [value["text"]] if isinstance(value.get("text"), str) else []
        return own + [text for inner in value.values() for text in _texts(inner)]
    return [text for inner in value for text in _texts(inner)] if isinstance(value, list) else []

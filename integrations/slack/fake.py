"""Slack itself, on a port of this machine: the four methods we call, response URLs, one incoming webhook.

It keeps Slack's rules (quoted from docs.slack.dev beside each) and signs what it sends us, so that a demo or a test
can post slash commands, button clicks and events to a real gateway.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

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


@dataclass(slots=True)
class Answered:
    """What was posted to a command's response URL."""

    url: str
    text: str
    blocks: list[dict[str, Any]]
    response_type: str


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


class FakeSlack(FakeService):
    """A workspace with a few channels and people.

    channels     name to id
    people       ids that a direct message can be opened with
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
        self.people = set(people)
        self.rate_limit = rate_limit
        self.token = token
        self.signing_secret = signing_secret
        self.messages: list[Posted] = []
        self.responses: list[Answered] = []
        self._log: list[str] = []
        self._hooks: dict[str, _Hook] = {}
        self._last: dict[str, float] = {}
        self._numbers = itertools.count(1)

    # -- what the tests and the demo ask ---------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """The smallest config that points here."""
        return {"bot_token": self.token, "signing_secret": self.signing_secret, "base_url": f"{self.url}/api"}

    def webhook_settings(self) -> dict[str, Any]:
        """The smallest config of the other transport."""
        return {"webhook_url": self.webhook_url, "base_url": f"{self.url}/api"}

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
            Route("/api/auth.test", self._auth_test, methods=["POST"]),
            Route("/api/chat.postMessage", self._post_message, methods=["POST"]),
            Route("/api/chat.update", self._update, methods=["POST"]),
            Route("/api/conversations.open", self._open, methods=["POST"]),
            Route("/commands/{path:path}", self._respond, methods=["POST"]),
            Route("/services/{path:path}", self._incoming_webhook, methods=["POST"]),
        ]

    async def _auth_test(self, request: Request) -> Response:
        error = self._unauthorized(request)
        return error or _ok(url=f"{self.url}/", team="Fake Team", user="eventbus", team_id=TEAM, user_id=BOT_USER)

    async def _post_message(self, request: Request) -> Response:
        if error := self._unauthorized(request):
            return error
        body = await _arguments(request)
        channel = self._channel(str(body.get("channel", "")))
        # chat.postMessage, errors: "channel_not_found: Value passed for `channel` was invalid."
        if channel is None:
            return _error("channel_not_found")
        # "is_archived: Channel has been archived."
        if channel in self.archived:
            return _error("is_archived")
        if refused := _check(body):
            return refused
        # Rate limits: "chat.postMessage generally allows posting one message per second per channel";
        # "HTTP 429 Too Many Requests" with a Retry-After header in seconds.
        if self.rate_limit and time.monotonic() - self._last.get(channel, 0.0) < 1:
            return JSONResponse({"ok": False, "error": "ratelimited"}, 429, headers={"Retry-After": "1"})
        self._last[channel] = time.monotonic()
        posted = self._add(channel, body)
        return _ok(channel=channel, ts=posted.ts, message={"text": posted.text, "ts": posted.ts, "user": BOT_USER})

    async def _update(self, request: Request) -> Response:
        if error := self._unauthorized(request):
            return error
        body = await _arguments(request)
        found = [m for m in self.messages if m.ts == body.get("ts") and m.channel == body.get("channel")]
        # chat.update, errors: "message_not_found: No message exists with the requested timestamp."
        if not found:
            return _error("message_not_found")
        if refused := _check(body):
            return refused
        found[0].text, found[0].blocks = str(body.get("text", "")), list(body.get("blocks", []))
        self._log.append(f"{found[0].channel}: changed to {found[0].text}")
        return _ok(channel=found[0].channel, ts=found[0].ts, text=found[0].text)

    async def _open(self, request: Request) -> Response:
        """conversations.open: "Opens or resumes a direct message or multi-person direct message"."""
        if error := self._unauthorized(request):
            return error
        user = str((await _arguments(request)).get("users", ""))
        if user not in self.people:
            return _error("user_not_found")
        return _ok(channel={"id": f"D{user[1:]}"})

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
        answered = Answered(url, body.get("text", ""), body.get("blocks", []), body.get("response_type", "ephemeral"))
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

    def _unauthorized(self, request: Request) -> Response | None:
        # Web API, "Authentication": the token as a bearer token in the Authorization header.
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if self.reject_credentials:
            return _error("token_revoked")
        if scheme != "Bearer" or not token:
            return _error("not_authed")  # "No authentication token provided."
        if token != self.token:
            return _error("invalid_auth")  # "Some aspect of authentication cannot be validated."
        return None

    def _channel(self, given: str) -> str | None:
        """A channel's id, from its id, its name or #name; an open direct message's as it is."""
        if given in self.channels.values() or (given.startswith("D") and f"U{given[1:]}" in self.people):
            return given
        return self.channels.get(given.removeprefix("#"))

    def _add(self, channel: str, body: Mapping[str, Any]) -> Posted:
        text, blocks, metadata = body.get("text", ""), body.get("blocks", []), body.get("metadata", {})
        posted = Posted(channel, text, blocks, metadata, self._new_ts())
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

"""Slack's API, typed: carry out a plan, look for what an earlier attempt left, answer a command, ask who we are.

Two transports: the Web API through slack_sdk with every retry of its own off, and an incoming webhook through `Http`.
Whatever goes wrong comes out as one of `integrations.errors`; no text holds a token or an address's path.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import aiohttp
import httpx
from pydantic import SecretStr
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from integrations.base import Scope
from integrations.errors import (
    AuthFailed,
    IntegrationError,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.exchange import record
from integrations.http import Answer, Http, check
from integrations.slack.blocks import Message
from integrations.slack.config import SlackConfig
from integrations.slack.plan import EVENT_TYPE, Plan, Shown, permalink

CALL_SECONDS = 15
LINK_SECONDS = 2
HOOK_HOSTS = ("hooks.slack.com", "hooks.slack-gov.com")
PAGE, MOST_PAGES = 200, 50
"""Of a look-up: Slack advises "no more than 200 results at a time" (docs.slack.dev, Pagination), and 50 such pages are
a minute's worth of its Tier 3. What lies beyond is not known to be absent."""

_USER_ID = re.compile(r"[UW][A-Z0-9]+")
"""Ids of people begin with U or W and are upper case; a channel's name never is (conversations.create: lower case)."""

_ID = re.compile(r"[CDG][A-Z0-9]+")
"""Of a channel, a direct message, a group."""

_CODE = re.compile(r"[a-z][a-z0-9_]{0,99}")
"""Web API, "Evaluating responses": "a short machine-readable error code"."""

GONE = frozenset({"cant_update_message", "edit_window_closed", "message_not_found"})
GONE_ROOTS = frozenset({"cannot_reply_to_message", "message_not_found", "thread_not_found"})
"""An earlier message that can't be changed (chat.update, errors) or replied to (chat.postMessage, errors): a new one
takes its place."""

_AUTH = frozenset(
    {
        "access_denied",
        "accesslimited",
        "account_inactive",
        "ekm_access_denied",
        "invalid_auth",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "org_login_required",
        "team_access_not_granted",
        "token_expired",
        "token_revoked",
        "two_factor_setup_required",
    }
)
_RATE = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})
_FAULT = frozenset({"internal_error", "fatal_error"})
"""Documented alike: "It's possible some aspect of the operation succeeded before the error was raised"."""
_LATER = frozenset({"service_unavailable", "request_timeout", "team_added_to_org", "external_channel_migrating"})

_REMEDY = {
    "channel_not_found": "check the name; if the channel is private, /invite the app there",
    "not_in_channel": "/invite the app to the channel",
    "is_archived": "unarchive the channel or choose another one",
    "restricted_action": "a workspace setting keeps the app from posting there",
    "msg_too_long": "shorten the message",
    "invalid_blocks": "the message breaks a limit of Block Kit",
    "user_not_found": "check the person's id (Profile > Copy member ID)",
    "cannot_dm_bot": "choose a person, not an app",
    "missing_scope": "add the scope under OAuth & Permissions and install the app again",
    "not_authed": "set bot_token",
    "invalid_auth": "check bot_token",
    "token_revoked": "install the app again and set the new bot_token",
    "account_inactive": "install the app again and set the new bot_token",
    "no_service": "make a new incoming webhook and set webhook_url",
    "channel_is_archived": "unarchive the channel, or make an incoming webhook for another one",
    "used_url": "Slack takes 5 answers to a command",
    "expired_url": "Slack takes answers to a command for 30 minutes",
}

_HOOK_AUTH = frozenset({"no_service", "no_service_id", "no_team", "team_disabled", "invalid_token", "no_active_hooks"})

# slack_sdk logs whole requests at DEBUG, and at WARNING that it ignores an environment variable that we ignore too.
quiet = logging.getLogger("integrations.slack.sdk")
quiet.setLevel(logging.ERROR)


class Client:
    """One Slack account."""

    def __init__(self, config: SlackConfig, http: Http) -> None:
        self._config = config
        self._http = http
        self._web = _web(config.bot_token, config.base_url)
        self._app = _web(config.app_token, config.base_url)
        self._ids: dict[str, str] = {}
        self._workspace: str | None = None
        self._granted: str | None = None

    async def bring(self, plan: Plan) -> Shown | None:
        """Carry a plan out; the thread's first message, None for an incoming webhook.

        A message that is changed and replied to is changed first: that can be repeated, and the reply can be found.
        """
        if self._config.bot_token is None:
            await self._post_to_webhook(plan.channel, plan.message)
            return None
        root = plan.root
        try:
            if root and plan.changes:
                await self._call("chat.update", plan.change(root), f"changing a message in {plan.channel}")
            if root and not plan.replies:
                return plan.shown(root.channel, root.ts)
            posted = await self._post(plan, root)
        except _Gone:
            root, posted = None, await self._post(plan, None)
        return plan.shown(root.channel, root.ts) if root else posted

    async def _post(self, plan: Plan, root: Shown | None) -> Shown:
        arguments = plan.post(root)
        if _USER_ID.fullmatch(arguments["channel"]):
            arguments["channel"] = await self._open(arguments["channel"])
        said = await self._call("chat.postMessage", arguments, f"posting to {plan.channel}")
        shown = plan.shown(str(said.get("channel") or arguments["channel"]), str(said["ts"]))
        self._ids[plan.channel] = shown.channel
        return shown

    async def change(self, channel: str, ts: str, message: Message) -> bool:
        """Show something else in a message of ours, by the ids of both; False when it can't be changed any more."""
        arguments = {"channel": channel, "ts": ts, "text": message.text, "blocks": list(message.blocks)}
        try:
            await self._call("chat.update", arguments | {"parse": "none", "link_names": False}, "changing a message")
        except _Gone:
            return False
        return True

    # -- what an earlier attempt left --------------------------------------------------------------------------------

    async def find(self, plan: Plan, since: datetime) -> Shown | None:
        """The thread's first message when the plan was carried out; None when it surely was not.

        Raises OutcomeUnknown where that can't be known: a right is missing, or there are too many messages.
        """
        try:
            if plan.root and await self._is_under(plan, plan.root):
                return plan.shown(plan.root.channel, plan.root.ts)
            channel = plan.root.channel if plan.root else await self._id_of(plan.channel)
            history = {"channel": channel, "oldest": f"{since.timestamp():.6f}"}
            async for message in self._pages("conversations.history", history, "messages"):
                if _mark_of(message) == plan.mark and not (plan.root and message.get("ts") == plan.root.ts):
                    return plan.shown(channel, str(message["ts"]))
        except (AuthFailed, Rejected) as error:
            raise OutcomeUnknown(f"can't look for an earlier message: {error.detail}") from None
        return None

    async def _is_under(self, plan: Plan, root: Shown) -> bool:
        """Whether the thread of `root` has the plan's mark: in a reply where it replies, else in the message itself."""
        try:
            thread = {"channel": root.channel, "ts": root.ts}
            async for message in self._pages("conversations.replies", thread, "messages"):
                if _mark_of(message) == plan.mark and (message.get("ts") != root.ts or not plan.replies):
                    return True
        except _Gone:
            pass
        return False

    async def _id_of(self, channel: str) -> str:
        """The id of a channel: history is asked for by id only (conversations.history, `channel`)."""
        if _USER_ID.fullmatch(channel):
            return await self._open(channel)
        if _ID.fullmatch(channel):
            return channel
        if channel not in self._ids:
            kinds = {"types": "public_channel,private_channel", "exclude_archived": True}
            async for found in self._pages("conversations.list", kinds, "channels"):
                if found.get("name") == channel.removeprefix("#"):
                    self._ids[channel] = str(found["id"])
                    break
            else:
                raise OutcomeUnknown(f"can't look for an earlier message: {channel} is not in the list of channels")
        return self._ids[channel]

    async def _pages(self, method: str, arguments: dict[str, Any], items: str) -> AsyncIterator[dict[str, Any]]:
        """Every item, page by page (docs.slack.dev, Pagination). Raises OutcomeUnknown after MOST_PAGES."""
        cursor = ""
        for _ in range(MOST_PAGES):
            page = arguments | {"limit": PAGE, "include_all_metadata": True} | ({"cursor": cursor} if cursor else {})
            said = await self._call(method, page, f"looking for an earlier message ({method})")
            for item in said.get(items) or []:
                yield item
            cursor = str((said.get("response_metadata") or {}).get("next_cursor") or "")
            if not cursor:
                return
        raise OutcomeUnknown(f"can't look for an earlier message: {method} has more than {PAGE * MOST_PAGES} {items}")

    async def socket_address(self) -> str:
        """Where to open the next socket; good for one connection, soon, and as secret as a token."""
        said = await self._call("apps.connections.open", {}, "asking for a socket")
        return str(said["url"])

    # -- commands, health --------------------------------------------------------------------------------------------

    async def answer(self, response_url: str, message: Message, *, replaces: bool = False) -> None:
        """Answer a command or a click, for its sender's eyes only; or change the answer that was clicked in.

        Rejected when the address is not one of Slack's.
        """
        if not self._is_hook(response_url):
            raise Rejected("the response URL is not one of Slack's: nothing was sent there")
        body = {"response_type": "ephemeral", "replace_original": replaces} | hook_body(message)
        answer = await self._send(response_url, body)
        if 400 <= answer.status < 500 and answer.status not in (408, 425, 429):
            said = _error_of(answer)
            raise Rejected(f"Slack refused the answer to a command with {answer.status} {said}{_remedy(said)}")
        check(answer, "Slack")

    async def identity(self) -> str:
        """Who we are."""
        return (await self.told())[1]

    # -- looking closely, and taking back ----------------------------------------------------------------------------

    async def told(self) -> tuple[dict[str, str], str]:
        """The headers of auth.test's answer, in lower case, and who we are: `app in team`."""
        found = await self._call("auth.test", {}, "auth.test", verb="GET")
        headers = {name.lower(): value for name, value in found.headers.items()}
        self._workspace, self._granted = str(found.get("url") or ""), headers.get("x-oauth-scopes")
        return headers, f"{found.get('user')} in {found.get('team')}"

    def lacks(self, scopes: Sequence[Scope]) -> list[str]:
        """Those that are needed and were not granted, as far as auth.test told (X-OAuth-Scopes of its answer)."""
        if self._granted is None:
            return []
        granted = {name.strip() for name in self._granted.split(",")}
        return [scope.name for scope in scopes if scope.needed and scope.name not in granted]

    async def link(self, shown: Shown) -> str | None:
        """The address of a message. Its workspace is asked for once; a message without a link is as good."""
        if self._workspace is None:
            self._workspace = ""
            with contextlib.suppress(IntegrationError, TimeoutError):
                async with asyncio.timeout(LINK_SECONDS):
                    await self.told()
        return permalink(self._workspace, shown.channel, shown.ts)

    async def channel(self, channel: str) -> dict[str, Any] | None:
        """What Slack tells of a channel, by name or id; None for a person, who is always there."""
        if _USER_ID.fullmatch(channel):
            return None
        arguments = {"channel": await self._id_of(channel)}
        found: dict[str, Any] = (await self._call("conversations.info", arguments, f"asking about {channel}"))[
            "channel"
        ]
        return found

    async def remove(self, shown: Shown) -> None:
        """Delete a message of ours (chat.delete). Raises Rejected where the workspace's settings forbid it."""
        await self._call("chat.delete", {"channel": shown.channel, "ts": shown.ts}, "deleting a message")

    async def _open(self, user: str) -> str:
        doing = f"opening a conversation with {user}"
        try:
            return str((await self._call("conversations.open", {"users": user}, doing))["channel"]["id"])
        except (OutcomeUnknown, ServiceFault) as error:
            # Opening twice finds the same conversation (conversations.open: "opens or resumes"): no message exists yet.
            raise NotReady(error.detail, retry_after=error.retry_after) from None

    async def _post_to_webhook(self, channel: str, message: Message) -> None:
        assert self._config.webhook_url is not None
        if channel.lstrip("#") != self._config.default_channel.lstrip("#"):
            raise Rejected(
                f"can't post to {channel}: an incoming webhook posts to the one channel it was made for; "
                "set bot_token to reach others"
            )
        answer = await self._send(self._config.webhook_url.get_secret_value(), hook_body(message))
        said = _error_of(answer)
        detail = f"Slack's incoming webhook answered {answer.status} {said}{_remedy(said)}"
        if said in _HOOK_AUTH:
            raise AuthFailed(detail)
        if answer.status in (400, 403, 404, 410):
            raise Rejected(detail)
        check(answer, "Slack's incoming webhook")

    async def _send(self, url: str, body: dict[str, Any]) -> Answer:
        return await self._http.request(
            "POST",
            url,
            headers={"Content-Type": "application/json; charset=utf-8"},
            content=json.dumps(body).encode(),
            timeout=timedelta(seconds=CALL_SECONDS),
        )

    async def _call(
        self, method: str, arguments: dict[str, Any], doing: str, *, verb: Literal["GET", "POST"] = "POST"
    ) -> AsyncSlackResponse:
        """Call a method of the Web API; every failure leaves as one of our errors.

        What only asks may be a GET (Web API: "Arguments can be passed as GET or POST params, or a mix").
        """
        began, said = time.perf_counter(), "ok"
        try:
            return await self._ask(verb, method, arguments, doing)
        except IntegrationError as error:
            said = error.detail
            raise
        finally:
            record(f"{verb} {self._config.base_url}/{method}", said, (time.perf_counter() - began) * 1000)

    async def _ask(self, verb: str, method: str, arguments: dict[str, Any], doing: str) -> AsyncSlackResponse:
        try:
            web = self._app if method.startswith("apps.") else self._web
            given: dict[str, Any] = {"params": arguments} if verb == "GET" else {"json": arguments}
            return await web.api_call(method, http_verb=verb, **given)
        except SlackApiError as error:
            raise _refused(method, error.response, doing) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(f"{doing}: no connection to {self._host} ({type(error).__name__})") from None
        except TimeoutError:
            raise OutcomeUnknown(f"{doing}: {self._host} did not answer within {CALL_SECONDS} s") from None
        except aiohttp.ClientError as error:
            raise OutcomeUnknown(f"{doing}: {self._host} broke the connection ({type(error).__name__})") from None
        except (AttributeError, ValueError):  # slack_sdk trips over a 200 whose body is no JSON object
            raise ServiceFault(f"{doing}: {self._host} answered something that is not JSON") from None

    def _is_hook(self, url: str) -> bool:
        try:
            given, base = httpx.URL(url), httpx.URL(self._config.base_url)
        except httpx.InvalidURL:
            return False
        if given.userinfo:
            return False
        if given.scheme == "https" and given.host in HOOK_HOSTS and given.port is None:
            return True
        return (given.scheme, given.host, given.port) == (base.scheme, base.host, base.port)

    @property
    def _host(self) -> str:
        return httpx.URL(self._config.base_url).host


class _Straight(AsyncWebClient):
    """The SDK would follow a redirect, with what we say, to wherever an answer points."""

    async def _request(self, *, http_verb: str, api_url: str, req_args: dict[str, Any]) -> dict[str, Any]:
        straight = {**req_args, "allow_redirects": False}
        return await super()._request(http_verb=http_verb, api_url=api_url, req_args=straight)


def _web(token: SecretStr | None, base_url: str) -> AsyncWebClient:
    said = None if token is None else token.get_secret_value()
    web = _Straight(token=said, base_url=base_url, timeout=CALL_SECONDS, retry_handlers=[], logger=quiet)
    web.proxy = None  # else the SDK takes one from the environment, which only the settings may read
    return web


class _Gone(Rejected):
    """The earlier message can't be changed or replied to any more."""


def _mark_of(message: dict[str, Any]) -> str | None:
    metadata = message.get("metadata") or {}
    return (metadata.get("event_payload") or {}).get("key") if metadata.get("event_type") == EVENT_TYPE else None


def hook_body(message: Message) -> dict[str, Any]:
    return {
        "text": message.text,
        "blocks": list(message.blocks),
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _refused(method: str, response: Any, doing: str) -> IntegrationError:
    """What Slack said, as our error: `response` is the SDK's, or aiohttp's where the body could not be parsed."""
    status = response.status_code if isinstance(response, AsyncSlackResponse) else response.status
    data = response.data if isinstance(response, AsyncSlackResponse) else None
    data = data if isinstance(data, dict) else {}
    said = str(data.get("error", ""))
    code = said if _CODE.fullmatch(said) else ""  # anything else is not Slack's, and may repeat what it was sent
    answer = Answer(status, response.headers, code.encode())
    detail = f"{doing}: Slack said {code or status}{_details(data)}{_remedy(code)}"
    wait = answer.retry_after()
    if status == 429 or code in _RATE:
        return RateLimited(detail, retry_after=wait)
    if code in _AUTH:
        return AuthFailed(detail)
    if code in (GONE if method == "chat.update" else GONE_ROOTS):
        return _Gone(detail)
    if code in _FAULT:
        return ServiceFault(detail, retry_after=wait)
    if code in _LATER:
        return NotReady(detail, retry_after=wait)
    try:
        check(answer, f"{doing}: Slack")
    except IntegrationError as error:
        return error
    return Rejected(detail) if code else ServiceFault(f"{doing}: Slack answered {status} without ok or error")


def _details(data: dict[str, Any]) -> str:
    """The scope that is missing, or which block breaks which rule (response_metadata.messages)."""
    if isinstance(data.get("needed"), str):
        return f" (needed: {data['needed'][:100]})"
    metadata = data.get("response_metadata")
    messages = metadata.get("messages") if isinstance(metadata, dict) else None
    return f" ({'; '.join(map(str, messages))[:300]})" if isinstance(messages, list) and messages else ""


def _remedy(code: str) -> str:
    return f": {_REMEDY[code]}" if code in _REMEDY else ""


def _error_of(answer: Answer) -> str:
    """The error of a hook: plain text, or JSON with `error`."""
    try:
        return str(json.loads(answer.body)["error"])[:100]
    except (ValueError, TypeError, KeyError, RecursionError):
        return answer.excerpt()[:100]

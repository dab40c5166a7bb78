"""Slack's API, typed: post a message, answer a command, ask who we are. Knows nothing of events.

Two transports: the Web API through slack_sdk with every retry of its own off, and an incoming webhook through `Http`.
Whatever goes wrong comes out as one of `integrations.errors`; no text holds a token or an address's path.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import aiohttp
import httpx
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

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
from integrations.http import Answer, Http, check
from integrations.slack.blocks import Message
from integrations.slack.config import SlackConfig

CALL_SECONDS = 15
HOOK_HOSTS = ("hooks.slack.com", "hooks.slack-gov.com")
EVENT_TYPE = "eventbus_delivery"
"""The kind of message metadata (docs.slack.dev, Message metadata) under which a message carries its delivery's key."""

_USER_ID = re.compile(r"[UW][A-Z0-9]+")
"""Ids of people begin with U or W and are upper case; a channel's name never is (conversations.create: lower case)."""

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
        token = config.bot_token
        self._web = AsyncWebClient(
            token=token.get_secret_value() if token else None,
            base_url=config.base_url,
            timeout=CALL_SECONDS,
            retry_handlers=[],
            logger=quiet,
        )
        self._web.proxy = None  # else the SDK takes one from the environment, which only the settings may read

    async def post(self, channel: str, message: Message, key: str) -> str | None:
        """Post to a channel (#name, name or id) or a person (U...). Returns the message's ts, None for a webhook."""
        if self._config.bot_token is None:
            await self._post_to_webhook(channel, message)
            return None
        if _USER_ID.fullmatch(channel):
            channel = await self._open(channel)
        call = self._web.chat_postMessage(
            channel=channel,
            text=message.text,
            blocks=list(message.blocks),
            metadata={"event_type": EVENT_TYPE, "event_payload": {"key": key_mark(key)}},
            parse="none",
            link_names=False,
            unfurl_links=False,
            unfurl_media=False,
        )
        return str((await self._call(call, f"posting to {channel}"))["ts"])

    async def answer(self, response_url: str, message: Message) -> None:
        """Answer a command, for its asker's eyes only. Rejected when the address is not one of Slack's."""
        if not self._is_hook(response_url):
            raise Rejected("the response URL is not one of Slack's: nothing was sent there")
        body = {"response_type": "ephemeral", "replace_original": False} | _body(message)
        answer = await self._send(response_url, body)
        if 400 <= answer.status < 500 and answer.status not in (408, 425, 429):
            said = _error_of(answer)
            raise Rejected(f"Slack refused the answer to a command with {answer.status} {said}{_remedy(said)}")
        check(answer, "Slack")

    async def identity(self) -> str:
        """Who we are: `app@team`, from auth.test."""
        found = await self._call(self._web.auth_test(), "auth.test")
        return f"{found.get('user')} in {found.get('team')}"

    async def _open(self, user: str) -> str:
        call = self._web.conversations_open(users=user)
        try:
            return str((await self._call(call, f"opening a conversation with {user}"))["channel"]["id"])
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
        answer = await self._send(self._config.webhook_url.get_secret_value(), _body(message))
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

    async def _call(self, call: Awaitable[AsyncSlackResponse], doing: str) -> AsyncSlackResponse:
        """Await a Web API call; every failure leaves as one of our errors."""
        try:
            return await call
        except SlackApiError as error:
            raise _refused(error.response, doing) from None
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


def key_mark(key: str) -> str:
    """What a message's metadata says of a delivery's key. Anybody in the workspace can read it, so it is a hash."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def _body(message: Message) -> dict[str, Any]:
    return {
        "text": message.text,
        "blocks": list(message.blocks),
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _refused(response: Any, doing: str) -> IntegrationError:
    """What Slack said, as our error: `response` is the SDK's, or aiohttp's where the body could not be parsed."""
    status = response.status_code if isinstance(response, AsyncSlackResponse) else response.status
    data = response.data if isinstance(response, AsyncSlackResponse) else None
    data = data if isinstance(data, dict) else {}
    answer = Answer(status, response.headers, str(data.get("error", "")).encode())
    code = answer.excerpt()
    detail = f"{doing}: Slack said {code or status}{_details(data)}{_remedy(code)}"
    wait = answer.retry_after()
    if status == 429 or code in _RATE:
        return RateLimited(detail, retry_after=wait)
    if code in _AUTH:
        return AuthFailed(detail)
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

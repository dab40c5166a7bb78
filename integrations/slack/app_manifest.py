"""The manifest of the Slack app, made of the command table and the adapter's scopes: paste it at api.slack.com/apps.

Pure. Limits (docs.slack.dev, App manifest reference): a name of 35 characters, 50 commands, each 32 characters long
with its slash, which `command_prefix` leaves room for.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from integrations.base import Scope
from integrations.slack.commands import ARGUMENTS, PURPOSE
from integrations.slack.config import SlackConfig

BOT_EVENTS = ("app_mention", "message.channels")
MAX_NAME = 35


def manifest_for(
    config: SlackConfig, scopes: Sequence[Scope], url: str = "", *, name: str = "eventbus"
) -> dict[str, JsonValue]:
    """The app that these settings need. `url`: of the webhook, which Slack does not call in Socket Mode.

    Raises ValueError for a name that Slack refuses, and where neither `url` nor `app_token` is given.
    """
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"name: 1 to {MAX_NAME} characters, not {len(name)}")
    socket = config.app_token is not None
    if not socket and not url.startswith("https://"):
        raise ValueError("url: Slack calls https:// addresses only; or set app_token for Socket Mode")
    called: dict[str, JsonValue] = {} if socket else {"request_url": url}
    return {
        "_metadata": {"major_version": 1},
        "display_information": {"name": name},
        "features": {
            "bot_user": {"display_name": name, "always_online": True},
            "slash_commands": [_command(config.command_prefix, word, "" if socket else url) for word in ARGUMENTS],
        },
        "oauth_config": {"scopes": {"bot": [scope.name for scope in scopes]}},
        "settings": {
            "event_subscriptions": {**called, "bot_events": list(BOT_EVENTS)},
            "interactivity": {"is_enabled": True, **called},
            "org_deploy_enabled": False,
            "socket_mode_enabled": socket,
            "token_rotation_enabled": False,
        },
    }


def _command(prefix: str, word: str, url: str) -> JsonValue:
    made: dict[str, JsonValue] = {"command": f"/{prefix}-{word}", "description": PURPOSE[word], "should_escape": False}
    hint: dict[str, JsonValue] = {"usage_hint": ARGUMENTS[word]} if ARGUMENTS[word] else {}
    return made | hint | ({"url": url} if url else {})

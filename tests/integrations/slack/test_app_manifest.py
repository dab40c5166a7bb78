from __future__ import annotations

import re
from typing import Any, cast

import pytest

from integrations.slack import Slack, SlackConfig
from integrations.slack.app_manifest import manifest_for
from integrations.slack.commands import ARGUMENTS

URL = "https://bus.example/api/v1/webhooks/slack"
SCOPES = Slack.manifest.scopes


def made(url: str = URL, name: str = "eventbus", **settings: Any) -> dict[str, Any]:
    config = SlackConfig.model_validate({"bot_token": "xoxb-canary"} | settings)
    return cast("dict[str, Any]", manifest_for(config, SCOPES, url, name=name))


def addresses(value: Any) -> list[str]:
    return re.findall(r"'(?:request_)?url': '([^']*)'", repr(value))


def test_the_manifest_has_every_command_of_the_table_under_the_prefix_of_the_settings() -> None:
    commands = made(command_prefix="aetherium")["features"]["slash_commands"]
    assert [one["command"] for one in commands] == [f"/aetherium-{name}" for name in ARGUMENTS]
    assert all(one["description"] and one["url"] == URL for one in commands)
    task = next(one for one in commands if one["command"] == "/aetherium-task")
    assert task["usage_hint"] == "create vm name=quick-test vcpus=2"


def test_every_command_fits_under_the_longest_prefix_that_the_settings_take() -> None:
    commands = made(command_prefix="x" * 20)["features"]["slash_commands"]
    assert len(commands) <= 50
    assert max(len(one["command"]) for one in commands) <= 32


def test_commands_buttons_and_events_go_to_one_address() -> None:
    assert addresses(made()) == [URL] * (len(ARGUMENTS) + 2)


def test_in_socket_mode_slack_calls_no_address() -> None:
    manifest = made(url="", app_token="xapp-canary")
    assert manifest["settings"]["socket_mode_enabled"]
    assert addresses(manifest) == []
    assert not made()["settings"]["socket_mode_enabled"]


def test_the_scopes_are_those_that_the_adapter_says_it_needs() -> None:
    scopes = made()["oauth_config"]["scopes"]["bot"]
    assert scopes == [scope.name for scope in SCOPES]
    assert set(scopes) >= {"commands", "chat:write", "channels:history", "app_mentions:read"}


def test_no_secret_stands_in_the_manifest() -> None:
    assert "canary" not in repr(made(app_token="xapp-canary", signing_secret="canary"))


@pytest.mark.parametrize(
    ("url", "name"), [("", "eventbus"), ("http://bus.example", "eventbus"), (URL, "x" * 36), (URL, "")]
)
def test_what_slack_would_refuse_is_refused(url: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"^(url|name):"):
        made(url, name)

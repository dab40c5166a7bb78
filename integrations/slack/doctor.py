"""Whether Slack can work with these settings: what `eventbus integrations doctor` looks at. Posts nothing."""

from __future__ import annotations

from collections.abc import Sequence

from integrations import findings
from integrations.base import Finding, Scope
from integrations.errors import AuthFailed, IntegrationError, OutcomeUnknown
from integrations.slack.client import Client
from integrations.slack.config import SlackConfig

SCOPE_FIX = (
    "add {} under OAuth & Permissions (eventbus integrations app-manifest has them all), and install the app again"
)
SETTINGS = "api.slack.com/apps > the app > Basic Information"


async def examine(client: Client, config: SlackConfig, scopes: Sequence[Scope]) -> list[Finding]:
    """All findings. When the token is refused, nothing else is asked."""
    found = [await _inbound(client, config)]
    if config.bot_token is None:
        what = "an incoming webhook can't be asked; it posts to the one channel it was made for"
        return [*found, Finding("credentials", "ok", what)]
    try:
        headers, identity = await client.told()
    except IntegrationError as error:
        fix = "copy the Bot User OAuth Token (xoxb-...) from OAuth & Permissions into bot_token"
        return [*found, findings.failed("credentials", error, fix)]
    found.append(Finding("credentials", "ok", f"signed in as {identity}"))
    # Web API, "Authentication": X-OAuth-Scopes lists the scopes that the token was granted.
    granted = {scope.strip() for scope in headers.get("x-oauth-scopes", "").split(",")}
    found += findings.rights(scopes, granted.__contains__, SCOPE_FIX)
    found.append(findings.clock(headers, "Slack"))
    for channel in dict.fromkeys([config.default_channel, *config.channels.values()]):
        found.append(await _channel(client, channel))
    return found


async def _inbound(client: Client, config: SlackConfig) -> Finding:
    """Commands, buttons and events come over Socket Mode, or are signed."""
    if config.app_token is None:
        return findings.webhook_secret(config.signing_secret, "signing_secret", f"{SETTINGS} > Signing Secret")
    try:
        await client.socket_address()  # a ticket that is not used ends by itself (apps.connections.open)
    except IntegrationError as error:
        fix = f"make an app-level token with connections:write at {SETTINGS}, for app_token, and enable Socket Mode"
        return findings.failed("socket mode", error, fix)
    return Finding("socket mode", "ok", "app_token is good for a connection")


async def _channel(client: Client, channel: str) -> Finding:
    """Whether messages can go there: it exists, is not archived, and the app was invited."""
    about, invite = f"channel {channel}", f"/invite the app in {channel}"
    try:
        shown = await client.channel(channel)
    except OutcomeUnknown as error:
        where = "correct the name; if the channel is private, /invite the app there"
        return Finding(about, "fail", error.detail.removeprefix("can't look for an earlier message: "), where)
    except AuthFailed as error:
        return Finding(about, "warn", f"not known: {error.detail}", "grant channels:read to have it checked")
    except IntegrationError as error:
        return findings.failed(about, error, invite)
    if shown is None:
        return Finding(about, "ok", "a person")
    if shown.get("is_archived"):
        return Finding(about, "fail", "it is archived", "unarchive it, or choose another one")
    if not shown.get("is_member"):
        return Finding(about, "fail", "the app is no member of it", invite)
    return Finding(about, "ok", "the app is a member")

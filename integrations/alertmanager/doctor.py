"""Whether Alertmanager can work with these settings: what `eventbus integrations doctor` looks at. Posts no alert."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import SecretStr

from integrations import findings
from integrations.alertmanager.client import NOT_ITS_WAY, Client
from integrations.alertmanager.config import AlertmanagerConfig
from integrations.base import Finding
from integrations.errors import IntegrationError

OLDEST = (0, 16)
"""Alertmanager's CHANGELOG, 0.16.0: the first with API v2."""
RESOLVE_TIMEOUT = "5m"
"""docs/configuration.md, `global.resolve_timeout`: its default."""


async def examine(client: Client, config: AlertmanagerConfig) -> list[Finding]:
    """All findings. When it does not answer, nothing else is asked."""
    found = [_inbound(config)]
    try:
        headers, said = await client.told()
    except IntegrationError as error:
        fix = "correct token, or username and password: they are asked for by Alertmanager or by the proxy before it"
        return [*found, findings.failed("way", error, fix)]
    if not isinstance(said.get("versionInfo"), dict) or not isinstance(said.get("cluster"), dict):
        fix = "correct url: it ends before /api/v2, with the path prefix if there is one"
        return [*found, Finding("way", "fail", NOT_ITS_WAY, fix)]
    found.append(Finding("way", "ok", f"{config.url} answers"))
    found += [_version(str(said["versionInfo"].get("version", ""))), _cluster(said["cluster"])]
    return [*found, *_config(said, config), findings.clock(headers, "Alertmanager")]


def _version(version: str) -> Finding:
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        return Finding("version", "warn", f"{version[:50]!r} is none that we know", "look at its page /#/status")
    if (major, minor) < OLDEST:
        return Finding("version", "fail", f"{version[:50]} has no API v2", "install a newer one")
    return Finding("version", "ok", version[:50])


def _cluster(cluster: Mapping[str, Any]) -> Finding:
    """openapi.yaml, clusterStatus: ready, settling, or disabled where there is no cluster."""
    status = str(cluster.get("status", "unknown"))[:50]
    peers = len(cluster.get("peers") or ())
    if status == "disabled":
        return Finding("cluster", "ok", "it stands alone")
    if status == "ready":
        return Finding("cluster", "ok", f"ready, {peers} peer{'' if peers == 1 else 's'}")
    return Finding("cluster", "warn", f"{status}: it may tell of alerts twice until it is ready", "ask again later")


def _config(said: Mapping[str, Any], config: AlertmanagerConfig) -> Iterator[Finding]:
    """What its own config does with our alerts. It shows that config without the secrets."""
    parsed = _parsed(said)
    if parsed is None:
        yield Finding("config", "warn", "its config can't be read", "look at its page /#/status")
        return
    timeout = _part(parsed, "global").get("resolve_timeout", RESOLVE_TIMEOUT)
    lasts = f"{config.lasts.total_seconds():,.0f} s"
    yield Finding("config", "ok", f"resolve_timeout is {timeout}; an alert of ours says itself when it ends: {lasts}")
    default = _part(parsed, "route").get("receiver")
    if kinds := _tells(parsed.get("receivers"), default):
        yield Finding("receiver", "ok", f"what no other route takes goes to {default}: {', '.join(kinds)}")
    else:
        fix = "give it one of the *_configs, or route our alerts elsewhere by their label sent_by"
        yield Finding("receiver", "warn", f"what no other route takes goes to {default}, which tells nobody", fix)


def _parsed(said: Mapping[str, Any]) -> dict[str, Any] | None:
    """`config.original` of its status, which is YAML."""
    try:
        parsed = yaml.safe_load(said["config"]["original"])
    except (KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _tells(receivers: Any, name: Any) -> list[str]:
    """How the receiver of that name tells people: slack, webhook."""
    known = [one for one in receivers if isinstance(one, dict)] if isinstance(receivers, list) else []
    named = next((one for one in known if one.get("name") == name), {})
    return [
        str(kind).removesuffix("_configs") for kind, those in named.items() if str(kind).endswith("_configs") and those
    ]


def _part(parsed: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = parsed.get(name)
    return found if isinstance(found, dict) else {}


def _inbound(config: AlertmanagerConfig) -> Finding:
    """Webhooks bring a bearer token, or a user and a password."""
    where = "http_config of the webhook_configs in Alertmanager's own config"
    secret: SecretStr | None = config.webhook_token or config.webhook_password
    setting = "webhook_token" if config.webhook_password is None else "webhook_password"
    return findings.webhook_secret(secret, setting, where)

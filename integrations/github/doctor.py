"""Whether GitHub can work with these settings: what `eventbus integrations doctor` looks at. Changes nothing.

A token is asked about itself by `GET /user`, an App by its installation. What GitHub does not tell, the rights of a
fine-grained token, is said to be unknown; `eventbus integrations drill` shows it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations import findings
from integrations.base import Finding, Scope
from integrations.errors import IntegrationError
from integrations.github.client import Client
from integrations.github.config import GitHubConfig
from integrations.github.redelivery import APP_HOOK

CLASSIC: dict[str, frozenset[str]] = {
    "pull_requests:write": frozenset({"repo", "public_repo"}),
    "issues:write": frozenset({"repo", "public_repo"}),
    "contents:read": frozenset({"repo", "public_repo"}),
    "statuses:write": frozenset({"repo", "public_repo", "repo:status"}),
    "repository_hooks:write": frozenset({"repo", "admin:repo_hook", "write:repo_hook"}),
}
"""Which scope of a classic token grants which right (docs.github.com/apps/oauth-apps, "Scopes for OAuth apps")."""
EXPIRES_SOON = timedelta(days=14)
RENEW = "make a new one at Settings > Developer settings, and set `token`"
HOOKS = "the webhook's page at GitHub"


async def examine(client: Client, config: GitHubConfig, scopes: Sequence[Scope], hooks: Sequence[str]) -> list[Finding]:
    """All findings. When the credentials are refused, nothing else is asked."""
    found = [findings.webhook_secret(config.webhook_secret, "webhook_secret", HOOKS)]
    try:
        found += await (_token(client, scopes) if config.app_id is None else _app(client, config, scopes))
    except IntegrationError as error:
        fix = (
            RENEW
            if config.app_id is None
            else "compare app_id, installation_id and the private key with the App's page"
        )
        return [*found, findings.failed("credentials", error, fix)]
    for hook in hooks:
        found += await _hook(client, hook)
    return found


async def _token(client: Client, scopes: Sequence[Scope]) -> list[Finding]:
    headers, user = await client.told("/user")
    _, visible = await client.told("/user/repos?per_page=1")
    return [
        _expiry(headers) or Finding("credentials", "ok", f"signed in as {user.get('login')}"),
        *_classic(headers, scopes),
        *_numbers(headers),
        _visible(len(visible)),
    ]


async def _app(client: Client, config: GitHubConfig, scopes: Sequence[Scope]) -> list[Finding]:
    _, installed = await client.told(f"/app/installations/{config.installation_id}")
    name = f"{installed.get('app_slug')}[bot]"
    if installed.get("suspended_at"):
        fix = "let an owner of the account unsuspend it under Settings > GitHub Apps"
        return [Finding("credentials", "fail", f"the installation of {name} is suspended", fix)]
    granted = installed.get("permissions") or {}
    fix = "grant {} on the App's page under Permissions, and let an owner of the account accept it"
    headers, listed = await client.told("/installation/repositories?per_page=1")
    return [
        Finding("credentials", "ok", f"signed in as {name}"),
        *findings.rights(scopes, lambda right: _grants(granted, right), fix),
        *_numbers(headers),
        _visible(int(listed.get("total_count", 0))),
    ]


def _expiry(headers: Mapping[str, str]) -> Finding | None:
    """`github-authentication-token-expiration` (GitHub changelog, 2021-07-26): `2026-01-12 09:00:00 UTC`."""
    text = headers.get("github-authentication-token-expiration", "").removesuffix(" UTC")
    try:
        ends = datetime.fromisoformat(text)
    except ValueError:
        return None
    ends = ends.replace(tzinfo=ends.tzinfo or UTC)
    if ends - datetime.now(UTC) > EXPIRES_SOON:
        return None
    return Finding("credentials", "warn", f"the token ends on {ends:%Y-%m-%d}", RENEW)


def _classic(headers: Mapping[str, str], scopes: Sequence[Scope]) -> list[Finding]:
    """`X-OAuth-Scopes` lists the scopes of a classic token ("Scopes for OAuth apps"); others have no such header."""
    if "x-oauth-scopes" not in headers:
        what = "unknown: GitHub does not tell what a fine-grained token may do; a drill shows it"
        return [Finding("rights", "ok", what)]
    held = {scope.strip() for scope in headers["x-oauth-scopes"].split(",")}
    fix = "give the token the scope `repo`, which grants {}"
    return findings.rights(scopes, lambda right: bool(CLASSIC.get(right, frozenset()) & held), fix)


def _grants(granted: Mapping[str, str], right: str) -> bool:
    """Whether `{"issues": "write"}` grants `issues:read`: write includes read, and admin write."""
    name, _, level = right.partition(":")
    levels = ("read", "write", "admin")
    held = granted.get(name, "")
    return held in levels and levels.index(held) >= levels.index(level)


def _numbers(headers: Mapping[str, str]) -> list[Finding]:
    """The rate limit (docs.github.com/rest, "Checking the status of your rate limit") and the clock."""
    remaining, most = headers.get("x-ratelimit-remaining", ""), headers.get("x-ratelimit-limit", "")
    told = remaining.isdigit() and most.isdigit()
    shown = [findings.limit(int(remaining), int(most), "this hour")] if told else []
    return [*shown, findings.clock(headers, "GitHub")]


def _visible(count: int) -> Finding:
    if count:
        return Finding("repositories", "ok", "there are some that these credentials may see")
    fix = "give the token, or the App's installation, access to the repositories it is for"
    return Finding("repositories", "fail", "these credentials may see none", fix)


async def _hook(client: Client, hook: str) -> list[Finding]:
    """How a webhook is set up at GitHub, and what became of the newest ones."""
    about = f"hook {hook}"
    try:
        _, shown = await client.told(f"{hook}/config" if hook == APP_HOOK else hook)
        _, sent = await client.told(f"{hook}/deliveries?per_page=20")
    except IntegrationError as error:
        fix = "correct `hooks`, or grant repository_hooks:write (for an organisation's organization_hooks:write)"
        return [findings.failed(about, error, fix)]
    faults = [*_set_up(about, shown, shown if hook == APP_HOOK else shown.get("config") or {}), *_went(about, sent)]
    return faults or [Finding(about, "ok", "active, signed, and the newest webhooks arrived")]


def _set_up(about: str, shown: Mapping[str, Any], config: Mapping[str, Any]) -> list[Finding]:
    """docs.github.com/rest/repos/webhooks: `active`; `config.secret` is masked where there is one."""
    faults = []
    if not shown.get("active", True):
        faults.append(Finding(about, "fail", "it is not active: nothing is sent", f"tick Active on {HOOKS}"))
    if not config.get("secret"):
        fix = f"set the same text as Secret on {HOOKS} and as webhook_secret"
        faults.append(Finding(about, "fail", "it has no secret, so every webhook is refused here", fix))
    if str(config.get("insecure_ssl", "0")) == "1":
        fix = f"enable SSL verification on {HOOKS}"
        faults.append(Finding(about, "warn", "GitHub does not check our certificate", fix))
    return faults


def _went(about: str, sent: Collection[Mapping[str, Any]]) -> list[Finding]:
    """The newest deliveries. Our gateway answers 401 to a signature that is not right."""
    failed = [one for one in sent if not 200 <= int(one["status_code"]) < 300]
    if not failed:
        return []
    newest = next(iter(sent))
    if int(newest["status_code"]) == 401:
        fix = f"the secrets differ: set the same text as Secret on {HOOKS} and as webhook_secret"
        return [Finding(about, "fail", "the newest webhook was refused for its signature", fix)]
    last = failed[0]["status_code"]
    what = f"{len(failed)} of the newest {len(sent)} did not arrive, the last of them with status {last}"
    return [Finding(about, "warn", what, "once the cause is mended: eventbus integrations recover NAME --since 24h")]

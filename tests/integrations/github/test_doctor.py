"""What the doctor finds at GitHub: each check sees well and ill on the stand-in."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.base import Examined, Finding
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub, Hook

Connect = Callable[[dict[str, Any]], Awaitable[GitHub]]
HOOK = "/repos/acme/api/hooks/292430182"


async def found(adapter: GitHub) -> dict[str, Finding]:
    assert isinstance(adapter, Examined)
    return {one.about: one for one in await adapter.examine()}


def levels(findings: dict[str, Finding]) -> dict[str, str]:
    return {about: one.level for about, one in findings.items()}


async def test_with_a_token_all_is_well(fake: FakeGitHub, connect: Connect) -> None:
    github = await connect({**fake.settings(), "hooks": ["acme/api/292430182"]})
    every = await found(github)
    assert set(levels(every).values()) == {"ok"}, every
    assert every.keys() == {"webhooks", "credentials", "rights", "limit", "clock", "repositories", f"hook {HOOK}"}
    assert every["credentials"].what == "signed in as acme-bot"
    assert fake.effects() == []


async def test_as_an_app_all_is_well(fake: FakeGitHub, connect: Connect) -> None:
    every = await found(await connect(fake.app_settings()))
    assert set(levels(every).values()) == {"ok"}, every
    assert every["credentials"].what == "signed in as acme-deployer[bot]"
    assert "hook /app/hook" in every


async def test_refused_credentials_end_it(fake: FakeGitHub, github: GitHub) -> None:
    fake.reject_credentials = True
    every = await found(github)
    assert levels(every) == {"webhooks": "ok", "credentials": "fail"}
    assert "set `token`" in every["credentials"].fix
    assert fake.token not in repr(every)


async def test_a_github_that_can_not_be_reached_is_no_matter_of_credentials(fake: FakeGitHub, connect: Connect) -> None:
    github = await connect({**fake.settings(), "base_url": "http://127.0.0.1:1"})
    finding = (await found(github))["credentials"]
    assert (finding.level, "check the address" in finding.fix) == ("fail", True)


async def test_a_suspended_installation_is_found(fake: FakeGitHub, connect: Connect) -> None:
    fake.suspended = True
    every = await found(await connect(fake.app_settings()))
    assert every["credentials"].level == "fail"
    assert "suspended" in every["credentials"].what


async def test_a_token_that_ends_soon_is_a_warning(fake: FakeGitHub, github: GitHub) -> None:
    fake.token_ends = datetime.now(UTC) + timedelta(days=60)
    assert (await found(github))["credentials"].level == "ok"
    fake.token_ends = datetime.now(UTC) + timedelta(days=3)
    assert (await found(github))["credentials"].level == "warn"


async def test_a_classic_token_without_the_scope_lacks_each_right(fake: FakeGitHub, github: GitHub) -> None:
    fake.classic_scopes = "read:user, repo:status"
    rights = [one for one in await github.examine() if one.about == "rights"]
    assert [(one.level, one.what.split()[0]) for one in rights] == [
        ("fail", "pull_requests:write"),
        ("fail", "issues:write"),
    ]


async def test_what_a_fine_grained_token_may_do_is_said_to_be_unknown(fake: FakeGitHub, github: GitHub) -> None:
    fake.classic_scopes = None
    assert (await found(github))["rights"].what.startswith("unknown")


@pytest.mark.parametrize("granted", ["read", None])
async def test_an_app_that_was_not_granted_a_right_is_told_which(
    fake: FakeGitHub, connect: Connect, granted: str | None
) -> None:
    fake.permissions = {"pull_requests": "admin"} | ({} if granted is None else {"issues": granted})
    rights = (await found(await connect(fake.app_settings())))["rights"]
    assert rights.level == "fail"
    assert rights.what.startswith("issues:write is missing")


@pytest.mark.parametrize(("used", "level"), [(100, "ok"), (4_700, "warn")])
async def test_what_is_left_of_the_hour_is_told(fake: FakeGitHub, github: GitHub, used: int, level: str) -> None:
    fake.used = used
    assert (await found(github))["limit"].level == level


async def test_a_used_up_hour_says_nothing_of_the_credentials(fake: FakeGitHub, github: GitHub) -> None:
    fake.used = fake.limit
    finding = (await found(github))["credentials"]
    assert (finding.level, finding.fix) == ("warn", "ask again later")


@pytest.mark.parametrize(("seconds", "level"), [(0, "ok"), (90, "warn"), (-90, "warn"), (400, "fail")])
async def test_a_clock_that_is_off_is_found(
    github: GitHub, monkeypatch: pytest.MonkeyPatch, seconds: float, level: str
) -> None:
    now = time.time
    monkeypatch.setattr("integrations.findings.time.time", lambda: now() + seconds)
    every = await github.examine()
    assert [one.level for one in every if one.about == "clock"] == [level]


@pytest.mark.parametrize("app", [False, True])
async def test_credentials_that_see_no_repository_are_of_no_use(fake: FakeGitHub, connect: Connect, app: bool) -> None:
    fake.repositories = set()
    every = await found(await connect(fake.app_settings() if app else fake.settings()))
    assert every["repositories"].level == "fail"


@pytest.mark.parametrize(("secret", "level"), [(None, "warn"), ("short", "warn"), ("f" * 16, "ok")])
async def test_a_webhook_secret_is_there_and_can_not_be_guessed(
    fake: FakeGitHub, connect: Connect, secret: str | None, level: str
) -> None:
    every = await found(await connect({**fake.settings(), "webhook_secret": secret}))
    assert every["webhooks"].level == level


@pytest.mark.parametrize(
    ("hook", "level"),
    [(Hook(active=False), "fail"), (Hook(has_secret=False), "fail"), (Hook(insecure_ssl=True), "warn")],
)
async def test_a_hook_that_is_set_up_wrongly_is_found(
    fake: FakeGitHub, connect: Connect, hook: Hook, level: str
) -> None:
    fake.hooks[HOOK] = hook
    every = await found(await connect({**fake.settings(), "hooks": ["acme/api/292430182"]}))
    assert every[f"hook {HOOK}"].level == level


async def test_a_hook_that_does_not_exist_is_found(fake: FakeGitHub, connect: Connect) -> None:
    every = await found(await connect({**fake.settings(), "hooks": ["acme/api/9"]}))
    assert every["hook /repos/acme/api/hooks/9"].level == "fail"


async def test_webhooks_that_did_not_arrive_and_a_wrong_secret_are_found(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    fake.record_delivery("a", 502, at=datetime.now(UTC) - timedelta(hours=1))
    fake.record_delivery("b", 202)
    finding = (await found(app))["hook /app/hook"]
    assert (finding.level, finding.what) == (
        "warn",
        "1 of the newest 2 did not arrive, the last of them with status 502",
    )
    fake.record_delivery("c", 401, at=datetime.now(UTC))
    finding = (await found(app))["hook /app/hook"]
    assert (finding.level, "secrets differ" in finding.fix) == ("fail", True)

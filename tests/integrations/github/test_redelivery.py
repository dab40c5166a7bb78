"""Webhooks that never reached us are asked for again: each once, none twice, none that did reach us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.base import Recovers
from integrations.errors import NotReady, Rejected, ServiceFault, Unauthorized
from integrations.exchange import listening
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.github.redelivery import MOST, PATIENCE, Tried, hook_path, missed

Connect = Callable[[dict[str, Any]], Awaitable[GitHub]]
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOOK = "/app/hook"


def tried(guid: str, status: int, minutes: float = 30, number: int = 1) -> Tried:
    return Tried(number, guid, NOW - timedelta(minutes=minutes), status, "push")


async def never(one: Tried) -> bool:
    return False


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


# -- the decision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 301, 400, 401, 404, 500, 502, 504])
async def test_what_was_not_taken_is_missed(status: int) -> None:
    (lost,) = await missed([tried("a", status)], never, NOW)
    assert lost.newest.guid == "a"


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_what_was_taken_is_not(status: int) -> None:
    assert await missed([tried("a", status)], never, NOW) == []


@pytest.mark.parametrize("order", [1, -1])
async def test_what_was_taken_at_a_later_attempt_is_not_missed(order: int) -> None:
    attempts = [tried("a", 502, 30), tried("a", 202, 20), tried("a", 500, 10)][::order]
    assert await missed(attempts, never, NOW) == []


async def test_the_newest_attempt_is_the_one_to_repeat_and_the_oldest_webhook_comes_first() -> None:
    attempts = [tried("b", 502, 10, 3), tried("a", 502, 20, 2), tried("a", 502, 30, 1)]
    lost = await missed(attempts, never, NOW)
    assert [(one.newest.guid, one.newest.id, one.attempts) for one in lost] == [("a", 2, 2), ("b", 3, 1)]


async def test_what_was_tried_a_moment_ago_is_left_alone() -> None:
    assert await missed([tried("a", 502, 30), tried("a", 502, 1)], never, NOW) == []


async def test_what_somebody_else_took_is_missed() -> None:
    async def unknown(one: Tried) -> bool:
        return one.guid == "a"

    lost = await missed([tried("a", 200), tried("b", 200)], unknown, NOW)
    assert [one.newest.guid for one in lost] == ["a"]


@pytest.mark.parametrize(
    ("hook", "path"), [("acme/api/12", "/repos/acme/api/hooks/12"), ("acme/12", "/orgs/acme/hooks/12")]
)
def test_a_hook_of_the_settings_is_a_path(hook: str, path: str) -> None:
    assert hook_path(hook) == path


# -- at GitHub --------------------------------------------------------------------------------------------------------


async def test_lost_webhooks_of_an_app_are_asked_for_once_each(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    for number in range(150):
        fake.record_delivery(f"ok-{number}", 202)
    fake.record_delivery("lost-1", 502)
    fake.record_delivery("lost-2", 0, at=days_ago(2))
    fake.record_delivery("lost-2", 504, at=days_ago(1))
    report = (await app.redeliver(days_ago(3)))[HOOK]
    assert fake.redelivered == ["lost-2", "lost-1"]
    assert (report.seen, report.asked, report.left, report.given_up) == (152, ("lost-2", "lost-1"), (), ())


async def test_only_what_is_younger_than_asked_for_is_looked_at(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    for number in range(250):
        fake.record_delivery(f"old-{number}", 502, at=days_ago(1.5))
    fake.record_delivery("new", 502)
    report = (await app.redeliver(days_ago(1)))[HOOK]
    assert (report.seen, fake.redelivered) == (1, ["new"])
    assert len([one for one in fake.requests if one.method == "GET"]) == 1


async def test_the_hooks_of_repositories_and_organisations_are_looked_after(fake: FakeGitHub, connect: Connect) -> None:
    github = await connect({**fake.settings(), "hooks": ["acme/api/292430182", "acme/12"]})
    fake.record_delivery("a", 500, hook="/repos/acme/api/hooks/292430182")
    fake.record_delivery("b", 500, hook="/orgs/acme/hooks/12")
    fake.record_delivery("c", 500, hook="/app/hook")
    reports = await github.redeliver(days_ago(3))
    assert {hook: report.asked for hook, report in reports.items()} == {
        "/repos/acme/api/hooks/292430182": ("a",),
        "/orgs/acme/hooks/12": ("b",),
    }


async def test_an_account_without_hooks_says_what_to_set(github: GitHub) -> None:
    with pytest.raises(Rejected, match="set `hooks`"):
        await github.redeliver(days_ago(3))


async def test_what_reached_us_is_not_asked_for_and_what_a_proxy_took_is(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    fake.record_delivery("before-we-looked", 200, at=days_ago(1))
    for guid in ("first", "second"):
        await app.receive(fake.webhook("push", fake.push(), delivery=guid))
    later = datetime.now(UTC) + timedelta(seconds=5)
    for guid in ("first", "second", "proxy"):
        fake.record_delivery(guid, 200, at=later - timedelta(seconds=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("integrations.github.redelivery.SETTLE", timedelta(seconds=-60))
        await app.redeliver(days_ago(3))
    assert fake.redelivered == ["proxy"]


async def test_a_webhook_that_was_turned_away_is_not_taken_for_received(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    with pytest.raises(Unauthorized):
        await app.receive(fake.webhook("push", fake.push(), delivery="forged", secret="wrong"))
    assert await app.context.store.items("seen:") == {}


async def test_by_the_clock_what_failed_is_left_alone_for_longer_each_time(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    for times, patience in enumerate(PATIENCE, start=1):
        for guid, newest in (("due", patience + timedelta(minutes=1)), ("early", patience - timedelta(minutes=1))):
            for number in range(times):
                at = datetime.now(UTC) - newest - timedelta(hours=number)
                fake.record_delivery(f"{guid}-{times}", 502, at=at)
    report = (await app.redeliver(days_ago(3), patiently=True))[HOOK]
    assert set(report.asked) == {f"due-{times}" for times in range(1, 6)}
    assert set(report.waiting) == {f"early-{times}" for times in range(2, 6)}, "the first is within SETTLE"
    report = (await app.redeliver(days_ago(3)))[HOOK]
    assert set(report.waiting) == set(), "a person's wish is not put off"
    assert {f"early-{times}" for times in range(2, 6)} <= set(report.asked)


async def test_what_fails_again_and_again_is_given_up_by_the_clock_and_asked_for_by_people(
    fake: FakeGitHub, connect: Connect
) -> None:
    app = await connect(fake.app_settings())
    for hour in range(len(PATIENCE) + 1):
        fake.record_delivery("bad", 400, at=days_ago(hour / 24 + 1))
    report = (await app.redeliver(days_ago(3), patiently=True))[HOOK]
    assert (report.asked, report.given_up, fake.redelivered) == ((), ("bad",), [])
    assert (await app.redeliver(days_ago(3)))[HOOK].asked == ("bad",)


async def test_what_became_of_it_is_one_sentence(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    fake.record_delivery("ok", 202)
    for number in range(MOST + 7):
        fake.record_delivery(f"g-{number}", 503)
    done = await app.recover(days_ago(3))
    assert (done.asked, done.left) == (MOST, 7)
    assert done.said == "108 webhooks on record, 100 asked for again, 7 left for the next look"


async def test_a_refusal_is_an_error_that_says_what_was_asked_for(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    fake.record_delivery("a", 503, at=days_ago(1))
    fake.record_delivery("b", 503)
    fake.redelivery_limit = 1
    with pytest.raises(NotReady, match=r"1 asked for again, 1 left for the next look; broken off: .*403"):
        await app.recover(days_ago(3))


@pytest.mark.parametrize(
    ("settings", "minutes"),
    [
        ({}, None),
        ({"hooks": ["acme/api/292430182"]}, 15),
        ({"hooks": ["acme/api/292430182"], "webhook_secret": None}, None),
        ({"hooks": ["acme/api/292430182"], "recover_every": 0}, None),
        ({"recover_every": 3600}, 60),
    ],
)
async def test_it_is_done_by_the_clock_where_webhooks_are_set_up(
    fake: FakeGitHub, connect: Connect, settings: dict[str, Any], minutes: int | None
) -> None:
    github = await connect(fake.settings() | settings)
    assert isinstance(github, Recovers)
    assert github.recover_every == (None if minutes is None else timedelta(minutes=minutes))


async def test_so_many_are_asked_for_and_the_rest_is_left_for_the_next_time(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    for number in range(MOST + 7):
        fake.record_delivery(f"g-{number}", 503)
    report = (await app.redeliver(days_ago(3)))[HOOK]
    assert (len(report.asked), len(report.left)) == (MOST, 7)


async def test_a_record_that_can_not_be_read_is_no_empty_one(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    for number in range(150):
        fake.record_delivery(f"g-{number}", 503)
    fake.broken_page = 2
    with pytest.raises(ServiceFault):
        await app.redeliver(days_ago(3))
    assert fake.redelivered == []


async def test_a_refusal_ends_it_and_says_what_is_left(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    fake.record_delivery("a", 503, at=days_ago(1))
    fake.record_delivery("b", 503)
    fake.redelivery_limit = 1
    report = (await app.redeliver(days_ago(3)))[HOOK]
    assert (report.asked, report.left) == (("a",), ("b",))
    assert "403" in report.error


async def test_asking_is_told_to_who_listens_without_the_webhooks_text(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    lost = fake.record_delivery("a", 503)
    with listening() as heard:
        await app.redeliver(days_ago(3))
    assert [one.request.removeprefix(fake.url) for one in heard] == [
        f"GET {fake.url}/app/hook/deliveries",
        f"POST {fake.url}/app/hook/deliveries/{lost.id}/attempts",
    ]

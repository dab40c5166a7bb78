"""Webhooks that never reached us are asked for again: each once, none twice, none that did reach us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integrations.errors import Rejected, ServiceFault, Unauthorized
from integrations.exchange import listening
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.github.redelivery import MAX_ATTEMPTS, MOST, Tried, hook_path, missed

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


async def test_a_thousand_lost_webhooks_arrive_once_each(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    names = [f"guid-{number}" for number in range(1000)]
    for name in names:
        fake.record_delivery(name, 503, at=days_ago(0.5))
    events: list[str | None] = []
    for _ in range(1000 // MOST + 1):
        await app.redeliver(days_ago(3))
        for guid in fake.redelivered[len(events) :]:
            reply = await app.receive(fake.webhook("push", fake.push(), delivery=guid))
            events.append(reply.events[0].idempotency_key)
            fake.record_delivery(guid, reply.status)
    assert len(fake.redelivered) == 1000
    assert set(events) == {f"github:{name}:github.push" for name in names}


async def test_what_fails_again_and_again_is_given_up(fake: FakeGitHub, connect: Connect) -> None:
    app = await connect(fake.app_settings())
    for hour in range(MAX_ATTEMPTS):
        fake.record_delivery("bad", 400, at=days_ago(hour / 24 + 0.1))
    report = (await app.redeliver(days_ago(3)))[HOOK]
    assert (report.asked, report.given_up, fake.redelivered) == ((), ("bad",), [])


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
